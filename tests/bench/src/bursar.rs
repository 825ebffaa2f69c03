//! The broker under load: as a user would have it, with its defaults, its ledger on disk and synced.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bursar_core::Secret;
use bursar_proto::v1::local_store_put_request::Data;
use bursar_proto::v1::policies_apply_response::Result as Applied;
use bursar_proto::v1::secrets_client::SecretsClient;
use bursar_proto::v1::{
    EnvironmentsApplyRequest, LocalStorePutRequest, PoliciesApplyRequest, PolicyFile, SecretFields,
    SecretsReadRequest,
};
use bursar_sdk::{Address, Client, Identity, Tls};
use bursar_tests::{Process, free_port, http};
use clap::Args;
use tempfile::TempDir;
use tonic::transport::Channel;

use crate::load::Caller;

/// Where the programs are that are measured.
#[derive(Args)]
pub(crate) struct Programs {
    /// `bursar-broker`
    #[arg(long, env = "BURSAR_BENCH_BROKER", value_name = "FILE")]
    broker: PathBuf,
    /// `bursar`
    #[arg(long, env = "BURSAR_BENCH_CLI", value_name = "FILE")]
    pub(crate) cli: PathBuf,
}

/// A running broker. Stopped, and its data removed, on drop.
pub(crate) struct Bursar {
    // Dropped first, so that the broker ends before its directory goes.
    process: Process,
    directory: TempDir,
    grpc: SocketAddr,
}

impl Bursar {
    /// Initialises a data directory and starts a broker on it.
    ///
    /// # Errors
    /// It refuses, or does not get ready; with what it said.
    pub(crate) fn start(programs: &Programs) -> Result<Self> {
        Self::launch(Command::new(&programs.broker), programs)
    }

    /// The same, run by a program that counts or observes.
    ///
    /// # Errors
    /// As [`Bursar::start`].
    pub(crate) fn start_under(observer: &[&str], programs: &Programs) -> Result<Self> {
        let (program, arguments) = observer.split_first().context("no program to observe with")?;
        let mut serve = Command::new(program);
        serve.args(arguments).arg(&programs.broker);
        Self::launch(serve, programs)
    }

    fn launch(mut serve: Command, programs: &Programs) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("bursar-").tempdir()?;
        let (grpc, http) = (free_port()?, free_port()?);
        let config = format!(
            "trust_domain = 'bench.test'\ndata_dir = 'data'\n[listen]\ngrpc = '{grpc}'\nhttp = '{http}'\n\
             [seal]\nkey = {{ file = 'seal.key' }}\n[backends.local]\nkind = 'local'\n"
        );
        fs::write(directory.path().join(CONFIG), config)?;
        let complete = |command: &mut Command, verb: &str| {
            command
                .env_clear()
                .env("PATH", PATH)
                .current_dir(directory.path())
                .args(["--config", CONFIG, verb]);
        };
        let mut init = Command::new(&programs.broker);
        complete(&mut init, "init");
        let made = init.output().context("`bursar-broker init` cannot be run")?;
        let said = String::from_utf8_lossy(&made.stderr);
        ensure!(made.status.success(), "`bursar-broker init` failed: {said}");
        complete(&mut serve, "serve");
        let mut process = Process::start("broker", serve, directory.path())?;
        process.wait_for(READY, "the broker to be ready", |_| {
            // Before it listens there is no answer at all.
            let answer = http::request(http, "GET", "/readyz", &[], &[]).ok();
            Ok(answer.filter(|answer| answer.status == 200).map(drop))
        })?;
        Ok(Self { process, directory, grpc })
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// `https://127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> String {
        format!("https://{}", self.grpc)
    }

    /// A file that `init` left: `ca.pem`, `admin.crt`, `admin.key`.
    pub(crate) fn bootstrap(&self, name: &str) -> PathBuf {
        self.directory.path().join("data/bootstrap").join(name)
    }

    /// Applies policy and environment, and stores `secrets` secrets of two fields.
    ///
    /// # Errors
    /// The broker refuses.
    pub(crate) async fn fill(&self, secrets: usize) -> Result<()> {
        let client = self.connect().await?;
        let files = vec![PolicyFile { name: "bench.cedar".to_owned(), text: POLICIES.to_owned() }];
        let request = PoliciesApplyRequest { files, expected_revision: None, dry_run: false };
        let answer = client.policies().apply(request).await?.into_inner().result;
        ensure!(matches!(answer, Some(Applied::Accepted(_))), "the policies were refused: {answer:?}");
        for number in 0..secrets {
            let fields = FIELDS.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()));
            let fields = SecretFields { fields: BTreeMap::from(fields) };
            let request = LocalStorePutRequest {
                reference: reference(number),
                data: Some(Data::Fields(fields)),
                expected_version: None,
            };
            client.local_store().put(request).await?;
        }
        let request = EnvironmentsApplyRequest {
            document: ENVIRONMENT.to_owned(),
            ..EnvironmentsApplyRequest::default()
        };
        client.environments().apply(request).await?;
        Ok(())
    }

    /// A connection of its own, as the administrator.
    ///
    /// # Errors
    /// The broker cannot be reached.
    pub(crate) async fn connect(&self) -> Result<Client> {
        let read = |name| fs::read(self.bootstrap(name));
        let identity = Identity { cert_pem: read("admin.crt")?, key_pem: Secret::new(read("admin.key")?) };
        let tls = Tls { ca_pem: read("ca.pem")?, identity: Some(identity), server_name: None };
        let address: Address = self.address().parse()?;
        Ok(Client::connect(&address, Some(&tls)).await?)
    }
}

/// Reads one secret after the other by `Secrets.Read`, as one instance among several of its workload: so each has
/// leases of its own, which are granted the first time round and extended after that.
pub(crate) struct Reader {
    client: SecretsClient<Channel>,
    instance: String,
    next: usize,
    secrets: usize,
}

impl Reader {
    /// Begins at a place of its own among `secrets` secrets, so that not all readers ask for the same one.
    pub(crate) fn new(client: &Client, instance: usize, secrets: usize) -> Self {
        let next = instance * STRIDE % secrets;
        Self { client: client.secrets(), instance: format!("bench-{instance}"), next, secrets }
    }
}

impl Caller for Reader {
    async fn call(&mut self) -> Result<()> {
        let request = SecretsReadRequest {
            reference: reference(self.next),
            instance: self.instance.clone(),
            ..SecretsReadRequest::default()
        };
        self.next = (self.next + 1) % self.secrets;
        let answer = self.client.read(request).await.context("`Secrets.Read` failed")?.into_inner();
        ensure!(
            !answer.value.is_empty() && answer.lease.is_some(),
            "`Secrets.Read` answered no leased value"
        );
        Ok(())
    }
}

fn reference(number: usize) -> String {
    format!("local/bench/{number:04}")
}

/// What each secret holds, here and in OpenBao.
pub(crate) const FIELDS: [(&str, &str); 2] =
    [("username", "benchmark-user"), ("password", "not-a-secret-but-as-long-as-one")];

/// The name of the environment that [`Bursar::fill`] applies, of two secrets.
pub(crate) const ENVIRONMENT_NAME: &str = "bench";

const POLICIES: &str = r#"permit (
  principal == Bursar::Principal::"spiffe://bench.test/user/admin",
  action in Bursar::Action::"administer",
  resource
);
permit (
  principal == Bursar::Principal::"spiffe://bench.test/user/admin",
  action in Bursar::Action::"use",
  resource in Bursar::Backend::"local"
);
permit (
  principal == Bursar::Principal::"spiffe://bench.test/user/admin",
  action == Bursar::Action::"resolve",
  resource == Bursar::Environment::"bench"
);
"#;

const ENVIRONMENT: &str = r#"[environment."bench".vars]
FIRST = { from = "local/bench/0000#password" }
SECOND = { from = "local/bench/0001#password" }
"#;

const CONFIG: &str = "broker.toml";
/// For observers to be found by.
pub(crate) const PATH: &str = "/usr/bin:/bin";
/// An observed broker is fifty times slower.
const READY: Duration = Duration::from_secs(120);
/// Without a common divisor with any usual number of secrets.
const STRIDE: usize = 37;
