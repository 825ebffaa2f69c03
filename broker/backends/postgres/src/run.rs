//! Batches in one session, sent all at once.

use std::pin::pin;

use bursar_postgres::{Refusal, Session};
use futures_util::TryStreamExt;
use tokio_postgres::{SimpleQueryMessage, SimpleQueryStream};

use crate::batch::Batch;

/// The first column of the rows that a batch answered.
pub(crate) type Column = Vec<Option<String>>;

/// What a batch met, and after how many statements.
pub(crate) struct Stopped {
    pub(crate) refusal: Refusal,
    pub(crate) done: usize,
}

/// Sends batches, all of them at once, and collects their answers. Each is a transaction of its own: one that fails
/// keeps none of the others from running.
pub(crate) async fn run(session: &mut Session, batches: &[Batch]) -> Vec<Result<Column, Stopped>> {
    session
        .drive(async |client| {
            let mut answers = Vec::with_capacity(batches.len());
            for batch in batches {
                // Sends, and does not wait.
                answers.push(client.simple_query_raw(batch.sql()).await);
            }
            let mut collected = Vec::with_capacity(batches.len());
            for answer in answers {
                collected.push(collect(answer).await);
            }
            collected
        })
        .await
}

async fn collect(answer: Result<SimpleQueryStream, tokio_postgres::Error>) -> Result<Column, Stopped> {
    let mut done = 0;
    let stopped = |error, done| Stopped { refusal: Refusal::of(&error), done };
    let mut answer = pin!(answer.map_err(|error| stopped(error, done))?);
    let mut column = Vec::new();
    while let Some(message) = answer.try_next().await.map_err(|error| stopped(error, done))? {
        match message {
            SimpleQueryMessage::Row(row) => column.push(row.try_get(0).ok().flatten().map(str::to_owned)),
            SimpleQueryMessage::CommandComplete(_) => done += 1,
            // What columns there are, and kinds of messages to come.
            _ => {}
        }
    }
    Ok(column)
}
