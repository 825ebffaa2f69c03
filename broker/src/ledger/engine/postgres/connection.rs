//! A session that blocks: its own small runtime drives it while somebody waits for an answer, and nobody does otherwise.
//!
//! What is sent together costs one round trip. Statements are prepared once a session.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bursar_postgres::Session;
use futures_util::FutureExt;
use futures_util::future::{LocalBoxFuture, join_all};
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

use super::access::Access;
pub(super) use super::failure::Fault;

/// One statement with its values.
pub(super) struct Call<'a> {
    sql: &'a str,
    values: Vec<&'a (dyn ToSql + Sync)>,
    counted: bool,
}

/// What came of it.
pub(super) enum Answer {
    Rows(Vec<Row>),
    Count(u64),
}

impl<'a> Call<'a> {
    /// One that answers rows.
    pub(super) fn rows(sql: &'a str, values: impl IntoIterator<Item = &'a (dyn ToSql + Sync)>) -> Self {
        Self { sql, values: values.into_iter().collect(), counted: false }
    }

    /// One that answers how many rows it changed.
    pub(super) fn count(sql: &'a str, values: impl IntoIterator<Item = &'a (dyn ToSql + Sync)>) -> Self {
        Self { counted: true, ..Self::rows(sql, values) }
    }
}

impl Answer {
    pub(super) fn rows(self) -> Vec<Row> {
        match self {
            Self::Rows(rows) => rows,
            Self::Count(_) => Vec::new(),
        }
    }

    pub(super) fn count(&self) -> u64 {
        match self {
            Self::Rows(rows) => rows.len() as u64,
            Self::Count(count) => *count,
        }
    }
}

/// A session, opened when it is needed and again when it was lost.
pub(super) struct Connection {
    access: Arc<Access>,
    open: Option<Open>,
    /// Gone only while it is dropped.
    runtime: Option<Runtime>,
    timeout: Duration,
}

struct Open {
    session: Session,
    statements: HashMap<String, Statement>,
}

impl Connection {
    /// Not connected yet.
    pub(super) fn new(access: Arc<Access>) -> std::io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let timeout = access.timeout;
        Ok(Self { access, open: None, runtime: Some(runtime), timeout })
    }

    /// Opens a session where there is none, or none any more; answers whether it is a new one.
    pub(super) fn connect(&mut self) -> Result<bool, Fault> {
        let (runtime, open) = (self.runtime.as_ref().ok_or_else(Fault::lost)?, self.open.as_mut());
        if let Some(open) = open {
            // A turn of the runtime, which may find that the server has ended it.
            let look = async {
                tokio::task::yield_now().await;
                open.session.is_open()
            };
            if runtime.block_on(look) {
                return Ok(false);
            }
        }
        self.open = None;
        let access = Arc::clone(&self.access);
        let session = self.wait(access.log_in())?;
        self.open = Some(Open { session, statements: HashMap::new() });
        Ok(true)
    }

    /// Closes the session: whatever it had begun is undone by the server.
    pub(super) fn disconnect(&mut self) {
        self.open = None;
    }

    /// The rows of one statement.
    pub(super) fn one(&mut self, call: Call<'_>) -> Result<Vec<Row>, Fault> {
        let answers = self.all(None, vec![call], None)?;
        Ok(answers.into_iter().flat_map(Answer::rows).collect())
    }

    /// Statements without values, one after the other.
    pub(super) fn script(&mut self, sql: &str) -> Result<(), Fault> {
        self.all(Some(sql), Vec::new(), None).map(drop)
    }

    /// Sends `calls` together, after the words `before` and with the words `after` behind them, and waits for all answers.
    /// A session whose answer did not come is closed.
    ///
    /// # Errors
    /// The first failure.
    pub(super) fn all(
        &mut self,
        before: Option<&str>,
        calls: Vec<Call<'_>>,
        after: Option<&str>,
    ) -> Result<Vec<Answer>, Fault> {
        let mut open = self.open.take().ok_or_else(Fault::lost)?;
        let answered = self.wait(async {
            let answered = open.all(before, calls, after).await;
            Ok((open, answered))
        });
        let (open, answered) = answered?;
        if answered.as_ref().err().is_none_or(Fault::leaves_session) {
            self.open = Some(open);
        }
        answered
    }

    /// Waits for the end of another's lease, or of a pause between two attempts.
    pub(super) fn pause(&mut self, time: Duration) {
        if let Some(runtime) = &self.runtime {
            runtime.block_on(async { tokio::time::sleep(time).await });
        }
    }

    fn wait<T>(&mut self, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        let runtime = self.runtime.as_ref().ok_or_else(Fault::lost)?;
        let limited = async { tokio::time::timeout(self.timeout, work).await };
        runtime.block_on(limited).unwrap_or_else(|_| Err(Fault::late()))
    }
}

impl Open {
    async fn all(
        &mut self,
        before: Option<&str>,
        calls: Vec<Call<'_>>,
        after: Option<&str>,
    ) -> Result<Vec<Answer>, Fault> {
        let Self { session, statements } = self;
        session
            .drive(async |client| -> Result<Vec<Answer>, Fault> {
                for call in &calls {
                    if !statements.contains_key(call.sql) {
                        statements.insert(call.sql.to_owned(), client.prepare(call.sql).await?);
                    }
                }
                let mut sent: Vec<LocalBoxFuture<'_, Result<Option<Answer>, tokio_postgres::Error>>> =
                    Vec::new();
                sent.extend(before.map(|words| words_only(client, words)));
                for call in &calls {
                    let Some(statement) = statements.get(call.sql) else { continue };
                    sent.push(run(client, statement, call).boxed_local());
                }
                sent.extend(after.map(|words| words_only(client, words)));
                // Each is sent when it is first polled, in their order.
                let answers = join_all(sent).await.into_iter().collect::<Result<Vec<_>, _>>()?;
                Ok(answers.into_iter().flatten().collect())
            })
            .await
    }
}

fn words_only<'a>(
    client: &'a Client,
    words: &'a str,
) -> LocalBoxFuture<'a, Result<Option<Answer>, tokio_postgres::Error>> {
    async move { client.batch_execute(words).await.map(|()| None) }.boxed_local()
}

async fn run(
    client: &Client,
    statement: &Statement,
    call: &Call<'_>,
) -> Result<Option<Answer>, tokio_postgres::Error> {
    Ok(Some(match call.counted {
        true => Answer::Count(client.execute(statement, &call.values).await?),
        false => Answer::Rows(client.query(statement, &call.values).await?),
    }))
}

impl Drop for Connection {
    /// A runtime must not wait for its threads where whoever drops it may not block.
    fn drop(&mut self) {
        self.open = None;
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
