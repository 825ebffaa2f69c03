//! The whole agent: what is started, in which order, and how it goes down.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bursar_core::tasks::{Stop, Tasks};
use bursar_core::{Clock, Explained};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Notify, watch};

use crate::admission::Admission;
use crate::answer::Answers;
use crate::attest::{AttestError, Attestor};
use crate::aws::{self, Port, PortError};
use crate::cache::Cache;
use crate::config::{Config, Csi, Limits, Sds};
use crate::csi::{self, Provider};
use crate::files::{Deliveries, FilesError, Surroundings};
use crate::health::{Findings, Health};
use crate::http::{self, Shown};
use crate::journal::Journal;
use crate::listen::Listener;
use crate::node::{CertifyError, Keeper};
use crate::run::{Runs, RunsError};
use crate::sds::{self, Discovery};
use crate::socket::{self, Front, Served, SocketError};
use crate::state::{self, State, StateError};
use crate::systemd::{self, Credentials};
use crate::telemetry::Metrics;
use crate::tend::Tender;
use crate::upstream::Upstream;
use crate::witness::{Witness, WitnessError};

/// Starts everything, runs until `tasks` stop, and goes down in order. Answers why it stopped.
///
/// # Errors
/// [`StartError`]: what is wrong here and now, such as a socket in use. A broker that is away is no such thing.
pub async fn run(config: Config, clock: Arc<dyn Clock>, tasks: &Tasks) -> Result<Stop, StartError> {
    prepare_data_dir(&config)?;
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let attestor = Arc::new(Attestor::new()?);
    let upstream = Arc::new(Upstream::new(config.limits.deadline, metrics.clone()));
    let cache = Arc::new(Cache::new(config.cache, Arc::clone(&clock)));
    let journal = Arc::new(Journal::new(Arc::clone(&clock)));
    let witness = Arc::new(Witness::resume(&config.data_dir, Arc::clone(&upstream), metrics.clone())?);
    let keeper = keeper(&config, &clock, &upstream, &metrics)?;
    let kept = config.state.map(|settings| {
        let around = state::Surroundings {
            cache: Arc::clone(&cache),
            journal: Arc::clone(&journal),
            attestor: Arc::clone(&attestor),
            credential: keeper.current.subscribe(),
            clock: Arc::clone(&clock),
            metrics: metrics.clone(),
        };
        State::open(settings, around).map(Arc::new)
    });
    let kept = kept.transpose()?;
    if let Some(state) = &kept {
        state.resume();
    }
    let answers = Arc::new(Answers::new(
        Arc::clone(&cache),
        Arc::clone(&journal),
        Arc::clone(&upstream),
        metrics.clone(),
        tasks.clone(),
    ));
    let around = Surroundings {
        attestor: Arc::clone(&attestor),
        answers: Arc::clone(&answers),
        cache: Arc::clone(&cache),
        upstream: Arc::clone(&upstream),
        clock: Arc::clone(&clock),
        metrics: metrics.clone(),
    };
    let deliveries = Deliveries::prepare(&config.files, &config.data_dir, &around)?;
    let cli = config.cli.as_deref();
    let runs = Runs::prepare(&config.runs, cli, &config.socket, &attestor, &metrics)?;
    let health = Health {
        credential: keeper.current.subscribe(),
        upstream: Arc::clone(&upstream),
        cache: Arc::clone(&cache),
        witness: Arc::clone(&witness),
        files: Arc::clone(&deliveries.board),
        runs: Arc::clone(&runs.board),
        clock: Arc::clone(&clock),
        metrics: metrics.clone(),
        findings: watch::Sender::new(Findings::default()),
    };
    let (listener, bound) = socket::bind(&config.socket, config.socket_mode).await?;
    let admission = Admission::new(config.limits.connections, config.limits.connections_per_user);
    if let Some(aws) = &config.aws {
        let port = Port::bind(aws.listen).await?;
        let (answers, attestor) = (Arc::clone(&answers), Arc::clone(&attestor));
        let front = aws::Front::new(aws, answers, attestor, metrics.clone());
        tasks.run("aws", port.serve(front, Arc::clone(&admission), tasks.clone()));
    }
    if let Some(csi) = &config.csi {
        let provider = Provider::new(csi, Arc::clone(&answers), Arc::clone(&attestor), metrics.clone());
        serve_csi(csi, provider, config.limits, tasks).await?;
    }
    if let Some(sds) = &config.sds {
        let discovery = Discovery {
            answers: Arc::clone(&answers),
            cache: Arc::clone(&cache),
            upstream: Arc::clone(&upstream),
            metrics: metrics.clone(),
            tasks: tasks.clone(),
        };
        serve_sds(sds, discovery, Arc::clone(&attestor), Arc::clone(&admission), config.limits).await?;
    }
    if let Some(systemd) = config.systemd {
        let (answers, attestor) = (Arc::clone(&answers), Arc::clone(&attestor));
        let credentials = Credentials { config: systemd, answers, attestor, metrics: metrics.clone() };
        serve_systemd(credentials, config.limits, tasks).await?;
    }
    if let Some(address) = config.http {
        let shown = Shown { registry, findings: health.findings.subscribe() };
        serve_http(address, shown, tasks).await?;
    }

    let (reporter, health_service) = tonic_health::server::health_reporter();
    reporter.set_service_status("", tonic_health::ServingStatus::NotServing).await;
    let front = Front {
        answers,
        upstream: Arc::clone(&upstream),
        health: socket::health_routes(health_service),
        deadline: config.limits.deadline,
        metrics: metrics.clone(),
    };
    let signed = Arc::new(Notify::new());
    let listening = Listener {
        cache: Arc::clone(&cache),
        upstream: Arc::clone(&upstream),
        clock,
        metrics: metrics.clone(),
        signed: Arc::clone(&signed),
    };
    let tender =
        Tender::new(Arc::clone(&cache), Arc::clone(&upstream), Arc::clone(&attestor), metrics.clone());

    until_stopping(tasks, "certificate", async move { keeper.keep().await });
    until_stopping(tasks, "events", async move { listening.listen().await });
    until_stopping(tasks, "files", deliveries.run());
    until_stopping(tasks, "witness", async move { witness.watch(&signed).await });
    if let Some(state) = kept.clone() {
        until_stopping(tasks, "state", async move { state.keep().await });
    }
    let stop = tasks.clone();
    tasks.run("leases", async move { tender.tend(&stop).await });
    let (stop, shipped) = (tasks.clone(), metrics.clone());
    tasks.run("journal", async move { journal.ship(&upstream, &shipped, &stop).await });
    let (stop, findings, grace) =
        (tasks.clone(), health.findings.subscribe(), GRACE.max(runs.longest_stop()));
    tasks.run("runs", async move { runs.keep(findings, &stop).await });
    let stop = tasks.clone();
    tasks.run("health", async move { health.watch(reporter, &stop).await });
    let (stop, limits) = (tasks.clone(), config.limits);
    tasks.run("socket", async move {
        if let Err(error) =
            socket::serve(listener, attestor, Served(Arc::new(front)), admission, limits, metrics, stop).await
        {
            tracing::error!(error = %Explained(&error), "the socket is no longer served");
        }
        drop(bound);
    });
    tracing::info!(socket = %config.socket.display(), node = config.node, "the agent runs");

    let stop = tasks.stopping().await;
    tracing::info!(?stop, "the agent goes down");
    if !tasks.drain(grace).await {
        tracing::warn!("some work did not end in time and is left behind");
    }
    // After the last read and the last attempt at shipping the journal.
    if let Some(state) = kept {
        state.write();
    }
    cache.clear();
    Ok(stop)
}

/// Spawns a task that would never end by itself.
fn until_stopping(tasks: &Tasks, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
    let stop = tasks.clone();
    tasks.run(name, async move {
        stop.until_stopping(work).await;
    });
}

fn prepare_data_dir(config: &Config) -> Result<(), StartError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&config.data_dir);
    made.map_err(|source| StartError::DataDir { path: config.data_dir.clone(), source })
}

fn keeper(
    config: &Config,
    clock: &Arc<dyn Clock>,
    upstream: &Arc<Upstream>,
    metrics: &Metrics,
) -> Result<Keeper, StartError> {
    let ca = std::fs::read(&config.ca_file);
    let keeper = Keeper {
        broker: config.broker.clone(),
        ca: ca.map_err(|source| StartError::CaFile { path: config.ca_file.clone(), source })?,
        server_name: config.server_name.clone(),
        node: config.node.clone(),
        data_dir: config.data_dir.clone(),
        join: config.join.clone(),
        clock: Arc::clone(clock),
        upstream: Arc::clone(upstream),
        metrics: metrics.clone(),
        current: watch::Sender::new(None),
        spent: Mutex::new(None),
    };
    if !keeper.resume()? && config.join.is_none() {
        return Err(StartError::NeverJoined { node: config.node.clone().unwrap_or_default() });
    }
    Ok(keeper)
}

pub(crate) async fn serve_http(
    address: std::net::SocketAddr,
    shown: Shown,
    tasks: &Tasks,
) -> Result<(), StartError> {
    let listener = TcpListener::bind(address).await.map_err(|source| StartError::Http { address, source })?;
    let (router, stop) = (http::router(Arc::new(shown)), tasks.clone());
    tasks.run("http", async move {
        let stopping = async move {
            stop.stopping().await;
        };
        if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stopping).await {
            tracing::error!(%error, "the HTTP port is no longer served");
        }
    });
    Ok(())
}

/// For root and the agent's own user: nobody else can open the socket either.
async fn serve_csi(csi: &Csi, provider: Provider, limits: Limits, tasks: &Tasks) -> Result<(), StartError> {
    let (listener, bound) = socket::bind(&csi.socket, 0o600).await?;
    let stop = tasks.clone();
    tasks.run("csi", async move {
        if let Err(error) = csi::serve(listener, provider, limits, stop).await {
            tracing::error!(
                error = %Explained(&error),
                "the driver's socket is no longer served"
            );
        }
        drop(bound);
    });
    Ok(())
}

async fn serve_sds(
    sds: &Sds,
    discovery: Discovery,
    attestor: Arc<Attestor>,
    admission: Arc<Admission>,
    limits: Limits,
) -> Result<(), StartError> {
    let (listener, bound) = socket::bind(&sds.socket, sds.socket_mode).await?;
    discovery.tasks.clone().run("sds", async move {
        if let Err(error) = sds::serve(listener, attestor, discovery, admission, limits).await {
            let error = Explained(&error);
            tracing::error!(%error, "the socket for Envoy is no longer served");
        }
        drop(bound);
    });
    Ok(())
}

async fn serve_systemd(credentials: Credentials, limits: Limits, tasks: &Tasks) -> Result<(), StartError> {
    let (listener, bound) = socket::bind(&credentials.config.socket, 0o600).await?;
    let stop = tasks.clone();
    tasks.run("systemd", async move {
        systemd::serve(listener, credentials, limits, stop).await;
        drop(bound);
    });
    Ok(())
}

/// Why the agent did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot make the data directory `{}`", path.display())]
    DataDir {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot read `ca_file` `{}`; copy the broker's root certificate there", path.display())]
    CaFile {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(
        "node `{node}` has not joined yet and nothing is configured that lets it in; make a token by `bursar node token` \
         and name its place by `join_token`"
    )]
    NeverJoined { node: String },
    #[error("the node's certificate cannot be taken up")]
    Certificate(#[from] CertifyError),
    #[error("processes cannot be attested on this machine")]
    Attest(#[from] AttestError),
    #[error("what the node has seen of the audit log cannot be taken up")]
    Witness(#[from] WitnessError),
    #[error("what is to be kept through a restart cannot be")]
    State(#[from] StateError),
    #[error("files cannot be delivered as they are configured")]
    Files(#[from] FilesError),
    #[error("the port for programs made for AWS cannot be served")]
    Aws(#[from] PortError),
    #[error("programs cannot be kept running as they are configured")]
    Runs(#[from] RunsError),
    #[error("a socket cannot be served")]
    Socket(#[from] SocketError),
    #[error("cannot listen on `{address}` for HTTP; another process may")]
    Http {
        address: std::net::SocketAddr,
        #[source]
        source: std::io::Error,
    },
}

/// For calls under way and the last batch of the journal.
const GRACE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
