//! The ceiling: `Secrets.Read` answered by a constant, on the same tonic and rustls as the broker, or over the same kind
//! of socket as the agent, in a process of its own. What the broker costs beyond this is its own work: identity, policy, lease, ledger.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use bursar_proto::v1::secrets_server::{Secrets, SecretsServer};
use bursar_proto::v1::{
    Lease, LeaseState, SecretsBatchReadRequest, SecretsBatchReadResponse, SecretsReadRequest,
    SecretsReadResponse, SecretsWatchRequest, SecretsWatchResponse, TtlBound,
};
use bursar_sdk::{Address, Client, Tls};
use bursar_tests::Process;
use prost_types::{Duration as WireDuration, Timestamp};
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

/// A running echo. Stopped on drop.
pub(crate) struct Echo {
    // Dropped first, so that the server ends before its directory goes.
    process: Process,
    _directory: TempDir,
    address: Address,
    /// Over TCP.
    tls: Option<Tls>,
}

impl Echo {
    /// Starts this program once more, as the server, over TCP and TLS.
    ///
    /// # Errors
    /// It does not come up; with what it said.
    pub(crate) fn start() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("echo-").tempdir()?;
        let authority = directory.path().join("ca.pem");
        let (process, place) = launch("echo", &authority, directory.path())?;
        let tls = Tls { ca_pem: fs::read(&authority)?, identity: None, server_name: None };
        let address = format!("https://{place}").parse()?;
        Ok(Self { process, _directory: directory, address, tls: Some(tls) })
    }

    /// The same, at a Unix socket, as agents are.
    ///
    /// # Errors
    /// As [`Echo::start`].
    pub(crate) fn start_local() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("echo-").tempdir()?;
        let (process, place) = launch("local-echo", &directory.path().join("s"), directory.path())?;
        Ok(Self { process, _directory: directory, address: Address::unix(place), tls: None })
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// A connection of its own.
    ///
    /// # Errors
    /// The echo cannot be reached.
    pub(crate) async fn connect(&self) -> Result<Client> {
        Ok(Client::connect(&self.address, self.tls.as_ref()).await?)
    }
}

/// Starts this program once more. Answers where it listens.
fn launch(verb: &str, file: &Path, directory: &Path) -> Result<(Process, String)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.env_clear().arg(verb).arg(file);
    let mut process = Process::start("echo", command, directory)?;
    let line = process.wait_for_line(READY, LISTENING)?;
    let (_, place) = line.rsplit_once(' ').context("the echo does not say where it listens")?;
    Ok((process, place.to_owned()))
}

/// Serves until the process is ended. The certificate for clients to trust is at `authority` before the address is said.
///
/// # Errors
/// It cannot listen.
#[expect(clippy::print_stdout, reason = "the address is the one thing that whoever started this has to know")]
pub(crate) async fn serve(authority: &Path) -> Result<()> {
    let own = rcgen::generate_simple_self_signed([Ipv4Addr::LOCALHOST.to_string()])?;
    fs::write(authority, own.cert.pem())
        .with_context(|| format!("`{}` cannot be written", authority.display()))?;
    let identity = Identity::from_pem(own.cert.pem(), own.signing_key.serialize_pem());
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let incoming = TcpIncoming::bind(any_port)?.with_nodelay(Some(true));
    println!("{LISTENING} {}", incoming.local_addr()?);
    let mut server = Server::builder().tls_config(ServerTlsConfig::new().identity(identity))?;
    Ok(server.add_service(SecretsServer::new(Constant)).serve_with_incoming(incoming).await?)
}

/// The same at a Unix socket, in the clear.
///
/// # Errors
/// It cannot listen.
#[expect(
    clippy::print_stdout,
    reason = "that it listens is the one thing that whoever started this has to know"
)]
pub(crate) async fn serve_local(socket: &Path) -> Result<()> {
    let incoming = UnixListenerStream::new(UnixListener::bind(socket)?);
    println!("{LISTENING} {}", socket.display());
    let mut server = Server::builder();
    Ok(server.add_service(SecretsServer::new(Constant)).serve_with_incoming(incoming).await?)
}

struct Constant;

#[tonic::async_trait]
impl Secrets for Constant {
    type WatchStream = tonic::codegen::BoxStream<SecretsWatchResponse>;

    async fn read(&self, _: Request<SecretsReadRequest>) -> Result<Response<SecretsReadResponse>, Status> {
        Ok(Response::new(answer()))
    }

    async fn batch_read(
        &self,
        _: Request<SecretsBatchReadRequest>,
    ) -> Result<Response<SecretsBatchReadResponse>, Status> {
        Err(Status::unimplemented(READ_ONLY))
    }

    async fn watch(&self, _: Request<SecretsWatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented(READ_ONLY))
    }
}

/// Of the same fields and lengths as the broker's, and put together for each call as there.
fn answer() -> SecretsReadResponse {
    let at = |seconds| Some(Timestamp { seconds, nanos: 123_456_789 });
    let lease = Lease {
        id: "01JD0000000000000000000000".to_owned(),
        reference: "local/bench/0000@1".to_owned(),
        version: "1".to_owned(),
        principal: "spiffe://bench.test/user/admin".to_owned(),
        instance: "bench-100".to_owned(),
        state: LeaseState::Active.into(),
        issued_at: at(1_800_000_000),
        renewed_at: at(1_800_000_060),
        expires_at: at(1_800_003_660),
        max_expires_at: at(1_802_592_000),
        renewable: true,
        ttl: Some(WireDuration { seconds: 3600, nanos: 0 }),
        ttl_bound: TtlBound::Policy.into(),
        ..Lease::default()
    };
    SecretsReadResponse {
        value: VALUE.as_bytes().to_vec(),
        version: "1".to_owned(),
        lease: Some(lease),
        age: Some(WireDuration { seconds: 1, nanos: 123_456_789 }),
    }
}

/// [`FIELDS`](crate::bursar::FIELDS) as the broker answers them.
const VALUE: &str = r#"{"password":"not-a-secret-but-as-long-as-one","username":"benchmark-user"}"#;
const LISTENING: &str = "listening on";
const READ_ONLY: &str = "the echo answers `Secrets.Read` only";
const READY: Duration = Duration::from_secs(30);
