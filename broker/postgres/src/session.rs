//! One session with the server.
//!
//! Its connection is driven by whoever uses it and by nobody else: there is no task for it, and one whose user went
//! away is closed with it. While it lies idle nobody reads from it, so it is looked at before it is used again.

use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bursar_core::Secret;
use bursar_core::backend::ErrorKind;
use futures_util::FutureExt;
use tokio::net::TcpStream;
use tokio_postgres::config::{ChannelBinding, SslMode};
use tokio_postgres::{Client, Config, NoTls};

use crate::refusal::Refusal;
use crate::trust::Trust;

/// An open session.
pub struct Session {
    client: Client,
    /// Gone when it has ended.
    connection: Option<Connection>,
}

type Connection = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where sessions are opened.
#[derive(Debug)]
pub struct Server {
    /// A name or address.
    pub host: String,
    pub port: u16,
    pub database: String,
    pub user: String,
    /// None for sessions in the clear.
    pub trust: Option<Arc<Trust>>,
    /// Settings of the session, as `-c NAME=VALUE`. Among them belongs a `statement_timeout`, so that a statement that
    /// nobody waits for any more does not come into effect much later.
    pub options: String,
}

impl Server {
    /// Opens a session. Without a password the client's certificate has to do.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn log_in(&self, password: Option<&Secret>) -> Result<Session, Refusal> {
        let mut config = Config::new();
        config
            .user(&self.user)
            .dbname(&self.database)
            .application_name("bursar")
            .options(&self.options)
            .channel_binding(ChannelBinding::Prefer);
        if let Some(password) = password {
            config.password(password.expose());
        }
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
    pub fn is_open(&mut self) -> bool {
        !ends(&mut self.connection, &mut Context::from_waker(Waker::noop()))
    }

    /// Does `work` with the session's client, and lets the connection do its part meanwhile.
    pub async fn drive<T>(&mut self, work: impl AsyncFnOnce(&Client) -> T) -> T {
        let Self { client, connection } = self;
        let mut work = pin!(work(client));
        poll_fn(|cx| match work.as_mut().poll(cx) {
            // An answer that came wakes whoever waits for it; the end of the connection is an answer to all.
            Poll::Pending if ends(connection, cx) => work.as_mut().poll(cx),
            polled => polled,
        })
        .await
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("open", &self.connection.is_some()).finish_non_exhaustive()
    }
}

/// Lets the connection do its work; answers whether it has ended.
fn ends(connection: &mut Option<Connection>, cx: &mut Context<'_>) -> bool {
    if connection.as_mut().is_some_and(|connection| connection.as_mut().poll(cx).is_ready()) {
        *connection = None;
    }
    connection.is_none()
}
