//! The broker under load: as a user would have it, with its defaults, its ledger on disk and synced.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bursar_core::Secret;
use bursar_proto::v1::local_store_put_request::Data;
use bursar_proto::v1::policies_apply_response::Result as Applied;
use bursar_proto::v1::secrets_client::SecretsClient;
use bursar_proto::v1::{
    EnvironmentsApplyRequest, LocalStorePutRequest, NodesCreateJoinTokenRequest, PoliciesApplyRequest,
    PolicyFile, SecretFields, SecretsReadRequest,
};
use bursar_sdk::{Address, Client, Identity, Tls};
use bursar_tests::{ClientAuthority, Process, Signal, free_port, http};
use clap::Args;
use tempfile::TempDir;
use tokio::time::Instant;
use tonic::transport::Channel;

use crate::load::Caller;

pub(crate) use leases::{Grants, Issuer, Renewer, revoke};

mod leases;

/// Where the programs are that are measured.
#[derive(Args)]
pub(crate) struct Programs {
    /// `bursar-broker`
    #[arg(long, env = "BURSAR_BENCH_BROKER", value_name = "FILE")]
    broker: PathBuf,
    /// The `bursar-broker` whose instructions are counted, where that is another
    #[arg(long, env = "BURSAR_BENCH_COUNTED", value_name = "FILE")]
    counted: Option<PathBuf>,
    /// `bursar-agent`
    #[arg(long, env = "BURSAR_BENCH_AGENT", value_name = "FILE")]
    pub(crate) agent: PathBuf,
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
    http: SocketAddr,
    broker: PathBuf,
    /// Vouches for workloads.
    authority: ClientAuthority,
}

impl Bursar {
    /// Initialises a data directory and starts a broker on it.
    ///
    /// # Errors
    /// It refuses, or does not get ready; with what it said.
    pub(crate) fn start(programs: &Programs) -> Result<Self> {
        Self::start_with(programs, "")
    }

    /// The same, with more in its configuration.
    ///
    /// # Errors
    /// As [`Bursar::start`].
    pub(crate) fn start_with(programs: &Programs, sections: &str) -> Result<Self> {
        Self::launch(Command::new(&programs.broker), programs, sections)
    }

    /// The broker whose instructions are counted, run by a program that does so.
    ///
    /// # Errors
    /// As [`Bursar::start`].
    pub(crate) fn start_under(observer: &[&str], programs: &Programs) -> Result<Self> {
        let (program, arguments) = observer.split_first().context("no program to observe with")?;
        let mut serve = Command::new(program);
        serve.args(arguments).arg(programs.counted.as_ref().unwrap_or(&programs.broker));
        Self::launch(serve, programs, "")
    }

    fn launch(mut serve: Command, programs: &Programs, sections: &str) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("bursar-").tempdir()?;
        let (grpc, http) = (free_port()?, free_port()?);
        let config = format!(
            "trust_domain = 'bench.test'\ndata_dir = 'data'\n[listen]\ngrpc = '{grpc}'\nhttp = '{http}'\n\
             [identity.trust.workloads]\ntrust_domain = 'bench.test'\nbundle = '{WORKLOADS_CA}'\n\
             [leases.quota]\nlive = 0\n[limits.rate]\nper_address = 0\n[seal]\nkey = {{ file = 'seal.key' }}\n\
             [backends.local]\nkind = 'local'\n{sections}"
        );
        fs::write(directory.path().join(CONFIG), config)?;
        let authority = ClientAuthority::new()?;
        fs::write(directory.path().join(WORKLOADS_CA), authority.pem())?;
        let mut init = Command::new(&programs.broker);
        complete(&mut init, directory.path(), "init");
        let made = init.output().context("`bursar-broker init` cannot be run")?;
        let said = String::from_utf8_lossy(&made.stderr);
        ensure!(made.status.success(), "`bursar-broker init` failed: {said}");
        complete(&mut serve, directory.path(), "serve");
        let process = serve_until_ready(serve, directory.path(), http)?;
        let broker = programs.broker.clone();
        Ok(Self { process, directory, grpc, http, broker, authority })
    }

    /// Ends it by `signal` and starts it again on its data. Answers how long the start took, until it was ready.
    ///
    /// # Errors
    /// It does not end, or does not get ready; with what it said.
    pub(crate) fn restart(&mut self, signal: Signal) -> Result<Duration> {
        self.process.signal(signal)?;
        self.process.wait(ENDED)?;
        let mut serve = Command::new(&self.broker);
        complete(&mut serve, self.directory.path(), "serve");
        let start = Instant::now();
        self.process = serve_until_ready(serve, self.directory.path(), self.http)?;
        Ok(start.elapsed())
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
        apply(&client, &[("bench.cedar", POLICIES)]).await?;
        for number in 0..secrets {
            let fields = FIELDS.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()));
            client.local_store().put(put(reference(number), BTreeMap::from(fields))).await?;
        }
        let request = EnvironmentsApplyRequest {
            document: ENVIRONMENT.to_owned(),
            ..EnvironmentsApplyRequest::default()
        };
        client.environments().apply(request).await?;
        Ok(())
    }

    /// Lets every workload read the secrets too.
    ///
    /// # Errors
    /// The broker refuses.
    pub(crate) async fn admit_workloads(&self) -> Result<()> {
        apply(&self.connect().await?, &[("bench.cedar", POLICIES), ("workloads.cedar", WORKLOADS)]).await
    }

    /// Lets the node of this name in, and lets it speak for the workload of this name where `registrations` (TOML)
    /// say so. Answers the token by which it joins.
    ///
    /// # Errors
    /// The broker refuses.
    pub(crate) async fn admit_node(&self, node: &str, registrations: &str) -> Result<Secret> {
        let client = self.connect().await?;
        let files = [
            ("bench.cedar", POLICIES),
            ("workloads.cedar", WORKLOADS),
            ("resolve.cedar", RESOLVE),
            ("watch.cedar", WATCH),
            ("registrations.toml", registrations),
        ];
        apply(&client, &files).await?;
        let request = NodesCreateJoinTokenRequest { node: node.to_owned(), ..Default::default() };
        let mut answer = client.nodes().create_join_token(request).await?.into_inner();
        Ok(Secret::new(std::mem::take(&mut answer.token)))
    }

    /// Puts another value into the secrets that the environment names.
    ///
    /// # Errors
    /// The broker refuses.
    pub(crate) async fn rewrite(&self, client: &Client, value: &str) -> Result<()> {
        let fields = BTreeMap::from([("password".to_owned(), value.as_bytes().to_vec())]);
        client.local_store().put(put(reference(0), fields)).await?;
        Ok(())
    }

    /// Lets the administrator read what the backend of this name makes.
    ///
    /// # Errors
    /// The broker refuses.
    pub(crate) async fn admit_to(&self, backend: &str) -> Result<()> {
        let more = POLICIES.replace("Backend::\"local\"", &format!("Backend::\"{backend}\""));
        apply(&self.connect().await?, &[("bench.cedar", &more)]).await
    }

    /// Lets everybody read what is in the backend of this name, and listen.
    ///
    /// # Errors
    /// The broker refuses.
    pub(crate) async fn admit_everybody_to(&self, backend: &str) -> Result<()> {
        let more = WORKLOADS.replace("Backend::\"local\"", &format!("Backend::\"{backend}\""));
        let files = [("bench.cedar", POLICIES), ("workloads.cedar", &more), ("watch.cedar", WATCH)];
        apply(&self.connect().await?, &files).await
    }

    /// How often the broker has read from a store since it started.
    ///
    /// # Errors
    /// It does not say.
    pub(crate) fn reads_of(&self, backend: &str) -> Result<f64> {
        let metrics = http::request(self.http, "GET", "/metrics", &[], &[])?;
        let text = String::from_utf8(metrics.body)?;
        let labels = [format!("backend=\"{backend}\""), "operation=\"read\"".to_owned()];
        let reads = text.lines().filter(|line| line.starts_with("bursar_backend_calls_total{"));
        let reads = reads.filter(|line| labels.iter().all(|label| line.contains(label.as_str())));
        let counts = reads.map(|line| line.rsplit(' ').next().unwrap_or_default().parse::<f64>());
        Ok(counts.sum::<Result<f64, _>>()?)
    }

    /// A connection of its own, as the workload of this name.
    ///
    /// # Errors
    /// The broker cannot be reached.
    pub(crate) async fn connect_as(&self, workload: &str) -> Result<Client> {
        let certificate = self.authority.issue(&principal(workload))?;
        let key_pem = Secret::new(certificate.key.into_bytes());
        self.connect_with(Some(Identity { cert_pem: certificate.certificate.into_bytes(), key_pem })).await
    }

    /// A connection of its own, as the administrator.
    ///
    /// # Errors
    /// The broker cannot be reached.
    pub(crate) async fn connect(&self) -> Result<Client> {
        let read = |name| fs::read(self.bootstrap(name));
        let key_pem = Secret::new(read("admin.key")?);
        self.connect_with(Some(Identity { cert_pem: read("admin.crt")?, key_pem })).await
    }

    /// A connection of its own that presents nothing.
    ///
    /// # Errors
    /// The broker cannot be reached.
    pub(crate) async fn connect_unknown(&self) -> Result<Client> {
        self.connect_with(None).await
    }

    async fn connect_with(&self, identity: Option<Identity>) -> Result<Client> {
        let ca_pem = fs::read(self.bootstrap("ca.pem"))?;
        let tls = Tls { ca_pem, identity, server_name: None };
        let address: Address = self.address().parse()?;
        Ok(Client::connect(&address, Some(&tls)).await?)
    }
}

/// The SPIFFE ID of a workload.
pub(crate) fn principal(workload: &str) -> String {
    format!("spiffe://bench.test/workload/{workload}")
}

fn complete(command: &mut Command, directory: &Path, verb: &str) {
    command.env_clear().env("PATH", PATH).current_dir(directory).args(["--config", CONFIG, verb]);
}

fn serve_until_ready(serve: Command, directory: &Path, http: SocketAddr) -> Result<Process> {
    let mut process = Process::start("broker", serve, directory)?;
    process.wait_for(READY, "the broker to be ready", |_| {
        // Before it listens there is no answer at all.
        let answer = http::request(http, "GET", "/readyz", &[], &[]).ok();
        Ok(answer.filter(|answer| answer.status == 200).map(drop))
    })?;
    Ok(process)
}

fn put(reference: String, fields: BTreeMap<String, Vec<u8>>) -> LocalStorePutRequest {
    let data = Some(Data::Fields(SecretFields { fields }));
    LocalStorePutRequest { reference, data, expected_version: None, expires_at: None }
}

async fn apply(client: &Client, files: &[(&str, &str)]) -> Result<()> {
    let file =
        |(name, text): &(&str, &str)| PolicyFile { name: (*name).to_owned(), text: (*text).to_owned() };
    let files = files.iter().map(file).collect();
    let request = PoliciesApplyRequest { files, expected_revision: None, dry_run: false };
    let answer = client.policies().apply(request).await?.into_inner().result;
    ensure!(matches!(answer, Some(Applied::Accepted(_))), "the policies were refused: {answer:?}");
    Ok(())
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
        Self { instance: format!("bench-{instance}"), ..Self::sharing(client, instance, secrets) }
    }

    /// As one of several that share their leases.
    pub(crate) fn sharing(client: &Client, number: usize, secrets: usize) -> Self {
        let next = number * STRIDE % secrets;
        Self { client: client.secrets(), instance: String::new(), next, secrets }
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

pub(crate) fn reference(number: usize) -> String {
    format!("{FOLDER}/{number:04}")
}

/// Where the secrets are.
pub(crate) const FOLDER: &str = "local/bench";

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

const WORKLOADS: &str = r#"permit (
  principal,
  action in Bursar::Action::"use",
  resource in Bursar::Backend::"local"
);
"#;

const RESOLVE: &str = r#"permit (
  principal == Bursar::Principal::"spiffe://bench.test/workload/bench",
  action == Bursar::Action::"resolve",
  resource == Bursar::Environment::"bench"
);
"#;

const WATCH: &str = r#"permit (principal, action == Bursar::Action::"watch", resource == Bursar::System::"broker");
"#;

const ENVIRONMENT: &str = r#"[environment."bench".vars]
FIRST = { from = "local/bench/0000#password" }
SECOND = { from = "local/bench/0001#password" }
"#;

const CONFIG: &str = "broker.toml";
const WORKLOADS_CA: &str = "workloads.pem";
/// For observers to be found by.
pub(crate) const PATH: &str = "/usr/bin:/bin";
/// An observed broker is fifty times slower.
const READY: Duration = Duration::from_secs(120);
/// A broker that is asked to end lets its calls finish first.
const ENDED: Duration = Duration::from_secs(30);
/// Without a common divisor with any usual number of secrets.
const STRIDE: usize = 37;
