//! A whole agent beside a fake broker.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bursar_core::SystemClock;
use bursar_core::settings::SecretSource;
use bursar_core::tasks::{Stop, Tasks};
use bursar_proto::v1::SecretsReadRequest;
use bursar_sdk::Address;
use tokio::task::JoinHandle;
use tonic::transport::Channel;

use super::FakeBroker;
use crate::agent::{self, StartError};
use crate::config::{Config, Join};

/// An agent that runs.
pub(crate) struct Harness {
    pub(crate) broker: FakeBroker,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) tasks: Tasks,
    agent: Option<JoinHandle<Result<Stop, StartError>>>,
}

impl Harness {
    /// Starts an agent with what `more` adds to its configuration.
    pub(crate) async fn start(more: &str) -> Self {
        let mut harness = Self::prepare().await;
        harness.run(more);
        harness
    }

    /// A broker, and all that an agent needs, without an agent.
    pub(crate) async fn prepare() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let broker = FakeBroker::start().await;
        std::fs::write(folder.path().join("ca.pem"), &broker.authority.root_pem).expect("written");
        let harness = Self { broker, folder, tasks: Tasks::new(), agent: None };
        harness.put_token("join-token");
        harness
    }

    pub(crate) fn put_token(&self, token: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.folder.path().join("token");
        std::fs::write(&path, token).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("mode");
    }

    pub(crate) fn config(&self, more: &str) -> Config {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let text = format!(
            "broker = '{}'\nca_file = '{}'\nnode = 'web-1'\ndata_dir = '{}'\nsocket = '{}'\n{more}",
            self.broker.url(),
            path("ca.pem"),
            path("data"),
            path("run/agent.sock"),
        );
        let mut config = Config::parse(&text).expect("configuration");
        config.join = Some(Join::Token(SecretSource::File(PathBuf::from(path("token")))));
        config
    }

    /// Starts the agent.
    pub(crate) fn run(&mut self, more: &str) {
        let (config, tasks) = (self.config(more), self.tasks.clone());
        let agent = async move { agent::run(config, Arc::new(SystemClock), &tasks).await };
        self.agent = Some(Tasks::new().finish(agent));
    }

    /// Stops the agent and waits for its end.
    pub(crate) async fn stop(&mut self) -> Result<Stop, StartError> {
        self.tasks.stop();
        let agent = self.agent.take().expect("running");
        let ended =
            tokio::time::timeout(LIMIT, agent).await.expect("the agent ends in time").expect("joined");
        self.tasks = Tasks::new();
        ended
    }

    /// A channel to the socket, once it is there.
    pub(crate) async fn channel(&self) -> Channel {
        let socket = Address::unix(self.folder.path().join("run/agent.sock"));
        let begun = tokio::time::Instant::now();
        loop {
            match bursar_sdk::channel(&socket, None).await {
                Ok(channel) => return channel,
                Err(error) => assert!(begun.elapsed() < LIMIT, "no socket: {error}"),
            }
            tokio::task::yield_now().await;
        }
    }

    pub(crate) fn read(reference: &str) -> SecretsReadRequest {
        SecretsReadRequest { reference: reference.to_owned(), ..SecretsReadRequest::default() }
    }
}

/// Waits for a condition, at most for [`LIMIT`].
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    eventually_said(what, async || holds()).await;
}

/// The same for a condition that somebody has to be asked about.
pub(crate) async fn eventually_said(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let held = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(LIMIT, held).await.is_ok(), "waited in vain: {what}");
}

pub(crate) const LIMIT: Duration = Duration::from_secs(20);
