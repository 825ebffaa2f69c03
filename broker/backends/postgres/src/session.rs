//! One session with the server.
//!
//! Its connection is driven by whoever uses it and by nobody else: there is no task for it, and one whose user went
//! away is closed with it. While it lies idle nobody reads from it, so it is looked at before it is used again.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bursar_core::Secret;
use bursar_core::backend::ErrorKind;
use futures_util::{FutureExt, TryStreamExt};
use tokio::net::TcpStream;
use tokio_postgres::config::{ChannelBinding, SslMode};
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage, SimpleQueryStream};

use crate::batch::Batch;
use crate::refusal::Refusal;
use crate::trust::Trust;

pub(crate) struct Session {
    client: Client,
    /// Gone when it has ended.
    connection: Option<Connection>,
}

type Connection = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where sessions are opened.
pub(crate) struct Server {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) database: String,
    pub(crate) user: String,
    /// None for sessions in the clear.
    pub(crate) trust: Option<Arc<Trust>>,
    /// After this the server gives a statement up, so that one nobody waits for any more does not come into effect much
    /// later.
    pub(crate) statement_timeout: Duration,
}

/// The first column of the rows that a batch answered.
pub(crate) type Column = Vec<Option<String>>;

/// What a batch met, and after how many statements.
pub(crate) struct Stopped {
    pub(crate) refusal: Refusal,
    pub(crate) done: usize,
}

impl Server {
    /// Opens a session.
    pub(crate) async fn log_in(&self, password: &Secret) -> Result<Session, Refusal> {
        let mut config = Config::new();
        config
            .user(&self.user)
            .dbname(&self.database)
            .password(password.expose())
            .application_name("bursar")
            .options(format!("-c statement_timeout={}", self.statement_timeout.as_millis()))
            .channel_binding(ChannelBinding::Prefer);
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await;
        let stream = stream.and_then(|stream| stream.set_nodelay(true).map(|()| stream));
        let stream = stream.map_err(|error| Refusal::before(ErrorKind::Unavailable, &error))?;
        let Some(trust) = &self.trust else {
            config.ssl_mode(SslMode::Disable);
            let opened = config.connect_raw(stream, NoTls).await;
            let (client, connection) = opened.map_err(|error| Refusal::of(&error))?;
            return Ok(Session::new(client, connection));
        };
        config.ssl_mode(SslMode::Require);
        let trust = Arc::clone(trust);
        let tls = tokio::task::spawn_blocking(move || trust.connector()).await;
        let tls = tls.map_err(|_| Refusal::before(ErrorKind::Unavailable, &"the broker is stopping"))?;
        let tls = tls.map_err(|error| Refusal::before(ErrorKind::Misconfigured, &error))?;
        let opened = config.connect_raw(stream, tls).await;
        let (client, connection) = opened.map_err(|error| Refusal::of(&error))?;
        Ok(Session::new(client, connection))
    }
}

impl Session {
    fn new<E: 'static>(
        client: Client,
        connection: impl Future<Output = Result<(), E>> + Send + 'static,
    ) -> Self {
        // How it ended is told to whoever waits for an answer.
        Self { client, connection: Some(Box::pin(connection.map(drop))) }
    }

    /// Whether the server has not ended it while it lay idle.
    pub(crate) fn is_open(&mut self) -> bool {
        !ends(&mut self.connection, &mut Context::from_waker(Waker::noop()))
    }

    /// Sends batches, all of them at once, and collects their answers. Each is a transaction of its own: one that fails
    /// keeps none of the others from running.
    pub(crate) async fn run(&mut self, batches: &[Batch]) -> Vec<Result<Column, Stopped>> {
        let Self { client, connection } = self;
        let mut work = pin!(async {
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
        });
        poll_fn(|cx| match work.as_mut().poll(cx) {
            // An answer that came wakes whoever waits for it; the end of the connection is an answer to all.
            Poll::Pending if ends(connection, cx) => work.as_mut().poll(cx),
            polled => polled,
        })
        .await
    }
}

/// Lets the connection do its work; answers whether it has ended.
fn ends(connection: &mut Option<Connection>, cx: &mut Context<'_>) -> bool {
    if connection.as_mut().is_some_and(|connection| connection.as_mut().poll(cx).is_ready()) {
        *connection = None;
    }
    connection.is_none()
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
