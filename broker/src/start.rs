//! From a configuration to a broker that serves, and back down again.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bursar_backend_http::SetupError;
use bursar_core::audit::Action;
use bursar_core::backend::BackendError;
use bursar_core::clock::SteadyClock;
use bursar_core::tasks::{Stop, Tasks};
use bursar_core::{BackendName, Clock, Explained, SpiffeId};
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::api::{Api, Identify};
use crate::approvals::Approvals;
use crate::backends;
use crate::broker::Broker;
use crate::call::{own_actor, own_record};
use crate::catalog::Catalog;
use crate::config::{Config, KeyPlace, LedgerSettings};
use crate::disk::Disk;
use crate::failure::Failure;
use crate::health::Health;
use crate::http::{Gauges, Shown};
use crate::identity::admission::NodeRules;
use crate::identity::tls::{ServerCertificate, TlsError, https_config, server_config};
use crate::identity::token::Tokens;
use crate::identity::trust::TrustError;
use crate::identity::{Authority, Trust};
use crate::ids::Ids;
use crate::keys::{Keys, KeysError};
use crate::kill::{self, Point};
use crate::lease::Leases;
use crate::ledger::{Change, Entry, Ledger, LedgerConfig, LedgerError, LedgerPlace, OpenError, Quotas};
#[cfg(feature = "postgres")]
use crate::ledger::{PostgresAccess, UrlFault};
use crate::membership::Membership;
use crate::mounts::{Mount, Mounts};
use crate::pace::Pace;
use crate::ports;
use crate::rulebook::Rulebook;
use crate::seal::SealError;
use crate::sealing::{self, Sealing};
use crate::server::{HTTP2, Listener};
use crate::shipping::{self, Ground};
use crate::source::SourceError;
use crate::telemetry::{Metrics, SinkMetrics};

/// Serves until `tasks` stop; answers why they did.
///
/// # Errors
/// [`StartError`] when serving could not begin.
pub async fn serve(config: Config, clock: Arc<dyn Clock>, tasks: Tasks) -> Result<Stop, StartError> {
    let steady = Arc::new(SteadyClock::new(clock, since_boot));
    let clock = Arc::clone(&steady) as Arc<dyn Clock>;
    let Sealing { seal, stores: mut early } = sealing::open(&config, &clock).await?;
    let seal = Arc::new(seal);
    let ledger_config = LedgerConfig {
        place: ledger_place(&config)?,
        origin: origin(&config),
        queue: LEDGER_QUEUE,
        quotas: quotas(&config),
    };
    if !ledger_config.place.is_there()? {
        return Err(StartError::NotInitialised);
    }
    let ledger = Ledger::open(ledger_config, Arc::clone(&clock))?;
    let keys = Keys::open(&ledger, &seal, &config.trust_domain, &origin(&config), &config.identity(), &clock)
        .await?;
    let (Keys { authority, signer }, rewrapped) = keys.ok_or(StartError::NotInitialised)?;
    let verifier_key = signer.verifier().to_string();
    ledger.start_signing(signer)?;
    keep_rewrapped(&ledger, &config.identity(), rewrapped, clock.now()).await?;
    kill::at(Point::Opened);

    let mut registry = prometheus_client::registry::Registry::default();
    let metrics = Metrics::register(&mut registry);
    let gauges = Gauges::register(&mut registry);

    let (mut stores, mut upkeep) = (BTreeMap::new(), Vec::new());
    for backend in backends::in_order(&config.backends) {
        let ground = backends::Ground {
            data_dir: &config.data_dir,
            seal: &seal,
            clock: &clock,
            origin: &origin(&config),
            opened: &stores,
        };
        let opened = match early.remove(&backend.name) {
            Some(opened) => opened,
            None => backends::open(backend, &ground)?,
        };
        let (name, cache, revocation) = (backend.name.clone(), backend.cache.clone(), backend.revocation);
        let mount = Mount::new(name.clone(), opened.backend, cache, revocation, metrics.clone());
        stores.insert(name, Arc::new(mount.at_most(backend.calls_per_second)));
        upkeep.extend(opened.upkeep);
    }
    let mounts = Arc::new(Mounts::new(stores.into_values(), CACHE_BYTES, metrics.clone()));
    let leases = Arc::new(Leases::new(
        ledger.clone(),
        Arc::clone(&mounts),
        Arc::clone(&seal),
        config.leases,
        Arc::clone(&clock),
        tasks.clone(),
        metrics.clone(),
    ));
    let approvals = Approvals::load(ledger.clone(), Arc::clone(&clock), tasks.clone()).await?;
    let (domain, administrator) = (config.trust_domain.clone(), config.administrator());
    let rulebook = Rulebook::load(ledger.clone(), domain, administrator, approvals).await?;
    let ground = Ground {
        ledger: ledger.clone(),
        clock: Arc::clone(&clock),
        metrics: SinkMetrics::register(&mut registry),
        origin: origin(&config),
        broker: config.identity(),
        tasks: tasks.clone(),
    };
    let shipping = Arc::new(shipping::start(&config.audit, &ground));
    let disk = Arc::new(Disk::new(&config.data_dir, config.disk));
    let trust = Trust::open(
        config.trust_domain.clone(),
        authority.root().clone(),
        config.identity.trust.clone(),
        config.break_glass(),
        Arc::clone(&clock),
        metrics.clone(),
    )?;
    let trust = Arc::new(trust);
    let health = Arc::new(Health::new(
        ledger.clone(),
        Arc::clone(&mounts),
        Arc::clone(&shipping),
        Arc::clone(&disk),
        Arc::clone(&trust),
    ));
    let broker = Arc::new(Broker {
        ledger: ledger.clone(),
        mounts,
        leases: Arc::clone(&leases),
        rulebook,
        catalog: Catalog::new(ledger.clone()),
        clock: Arc::clone(&clock),
    });

    let authority = Arc::new(authority);
    let certificate = Arc::new(server_certificate(&config, &authority)?);
    let tls = Arc::new(server_config(Arc::clone(&certificate), Arc::clone(&trust) as _)?);
    let https_tls = Arc::new(https_config(Arc::clone(&certificate))?);
    let (ours, time) = (Arc::clone(&authority), Arc::clone(&clock));
    let rules = NodeRules::new(config.identity.nodes.clone());
    let membership = Membership::load(ours, rules, Arc::clone(&trust), ledger.clone(), time).await?;
    let membership = Arc::new(membership);

    let tokens = Tokens::new(&config.issuers, config.trust_domain.clone(), metrics.clone());
    let tokens = Arc::new(tokens.map_err(|(name, source)| StartError::Issuer { name, source })?);

    let grpc = bind(config.listen.grpc).await?;
    let http = bind(config.listen.http).await?;
    let https = match config.listen.https {
        Some(address) => Some(bind(address).await?),
        None => None,
    };
    tracing::info!(
        grpc = %grpc.local_addr().map_err(StartError::Listener)?,
        http = %http.local_addr().map_err(StartError::Listener)?,
        trust_domain = %config.trust_domain,
        "serving"
    );

    let around = backends::Surroundings {
        mounts: Arc::clone(&broker.mounts),
        ledger: ledger.clone(),
        clock: Arc::clone(&clock),
        broker: config.identity(),
    };
    upkeep.into_iter().for_each(|upkeep| keep_up(upkeep, around.clone(), &tasks));
    tokens.keep_keys(&clock, &tasks);
    tasks.run("clock", watch_clock(steady, metrics.clone(), tasks.clone()));
    tasks.run("reaper", Arc::clone(&leases).reap());
    tasks.run("forgetting", Arc::clone(&leases).forget());
    tasks.run("approvals", Arc::clone(&broker.rulebook.approvals).forget());
    tasks.run("foresight", Arc::clone(&leases).foresee());
    tasks.run("revoker", Arc::clone(&leases).revoke_due());
    tasks.run("changes", Arc::clone(&leases).look_for_changes());
    tasks.run("bulk revocation", Arc::clone(&leases).mark_ordered());
    tasks.run("health", Arc::clone(&health).watch(tasks.clone()));
    tasks.run("trust", Arc::clone(&trust).watch(tasks.clone()));
    tasks.run("disk", Arc::clone(&disk).watch(tasks.clone()));
    tasks.run("ledger", watch_ledger(ledger.clone(), tasks.clone()));
    tasks.run("checkpoints", sign_regularly(ledger.clone(), tasks.clone()));
    tasks.run(
        "certificate",
        renew_certificate(config_names(&config), authority, Arc::clone(&certificate), tasks.clone()),
    );
    let shown = Shown {
        registry,
        health: Arc::clone(&health),
        gauges,
        ledger: ledger.clone(),
        shipping,
        disk: Arc::clone(&disk),
        approvals: Arc::clone(&broker.rulebook.approvals),
    };
    tasks.run("http", ports::serve_http(http, Arc::new(shown), tasks.clone()));

    let pace = Arc::new(Pace::new(config.limits.rates, metrics.clone()));
    let api = Api {
        tokens: Arc::clone(&tokens),
        pace: Arc::clone(&pace),
        metrics: metrics.clone(),
        broker: Arc::clone(&broker),
        membership: Arc::clone(&membership),
        health: Arc::clone(&health),
        tasks: tasks.clone(),
        certificate,
        verifier_key,
        message_bytes: config.limits.message_bytes,
        started: Instant::now(),
    };
    let identify = Identify {
        broker,
        membership,
        tokens,
        metrics,
        disk,
        pace: Arc::clone(&pace),
        ids: Ids::default(),
        deadline: config.limits.deadline,
        message_bytes: config.limits.message_bytes,
    };
    let connections = config.limits.connections;
    let listener = |tcp, tls, preface| {
        let (trust, pace) = (Arc::clone(&trust), Arc::clone(&pace));
        Listener { tcp, tls, trust, pace, connections, preface }
    };
    let grpc = listener(grpc, tls, HTTP2).accept(&tasks);
    let https = https.map(|tcp| listener(tcp, https_tls, 0).accept(&tasks));
    tasks.run("grpc", ports::serve_calls(api, identify, config.limits.streams, grpc, https, tasks.clone()));

    let stop = tasks.stopping().await;
    // Not ready first, so that whoever sends traffic here sends it elsewhere; then what is under way is let finish.
    health.stop();
    tracing::info!(cause = ?stop, "stopping");
    if !tasks.drain(GRACE).await {
        tracing::warn!("some calls did not end within the grace and are cut off");
    }
    ledger.close().await;
    Ok(stop)
}

/// Keys of the ledger that were wrapped by the seal key before are there by the new one, and it is on record.
async fn keep_rewrapped(
    ledger: &Ledger,
    broker: &SpiffeId,
    changes: Vec<Change>,
    at: Timestamp,
) -> Result<(), LedgerError> {
    if changes.is_empty() {
        return Ok(());
    }
    let record = own_record(own_actor(broker), at, "start".to_owned(), Action::Rewrap, "seal".to_owned());
    ledger.commit(Entry { changes, records: vec![record] }).await?;
    tracing::info!("the ledger's keys are wrapped by the new seal key");
    Ok(())
}

fn quotas(config: &Config) -> Quotas {
    let backends = config.backends.iter().map(|backend| (backend.name.to_string(), backend.quota));
    Quotas { principal: config.leases.quota, backends: backends.collect() }
}

/// The name under which a broker signs its log.
pub fn origin(config: &Config) -> String {
    config.origin()
}

/// Where the ledger of `config` is.
///
/// # Errors
/// [`StartError::LedgerUrl`], before anything is asked.
pub fn ledger_place(config: &Config) -> Result<LedgerPlace, StartError> {
    Ok(match &config.ledger {
        LedgerSettings::Sqlite => LedgerPlace::sqlite(config.ledger_path()),
        #[cfg(feature = "postgres")]
        LedgerSettings::Postgres(access) => LedgerPlace::postgres(
            PostgresAccess::clone(access),
            config.origin(),
            config.trust_domain.to_string(),
            config.data_dir.clone(),
        )?,
    })
}

/// Work that stores need, until the broker stops.
fn keep_up(upkeep: backends::Upkeep, around: backends::Surroundings, tasks: &Tasks) {
    let stop = tasks.clone();
    tasks.run("store upkeep", async move {
        stop.until_stopping(upkeep(around)).await;
    });
}

fn server_certificate(config: &Config, authority: &Authority) -> Result<ServerCertificate, StartError> {
    let (id, names) = config_names(config);
    let identity = authority.server(&id, &names).map_err(KeysError::from)?;
    Ok(ServerCertificate::new(&identity, authority.root())?)
}

fn config_names(config: &Config) -> (SpiffeId, Vec<String>) {
    (config.identity(), config.tls.names.clone())
}

async fn bind(address: std::net::SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Bind { address, source })
}

/// Time since the machine started, its sleep included, which nobody can set.
fn since_boot() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::try_from(time).unwrap_or_default()
}

/// Shows how far the machine's clock has jumped from the broker's time.
async fn watch_clock(clock: Arc<SteadyClock>, metrics: Metrics, tasks: Tasks) {
    let mut ticks = tasks.ticks(CLOCK_TICK);
    let mut jumped = false;
    while ticks.next().await {
        let ahead = clock.ahead();
        metrics.clock_ahead(ahead.as_secs());
        let now = ahead.unsigned_abs() >= CLOCK_JUMP;
        match (jumped, now) {
            (false, true) => tracing::warn!(
                seconds = ahead.as_secs(),
                "the machine's clock jumped; the broker's time follows it slowly"
            ),
            (true, false) => tracing::info!("the broker's time is that of the machine's clock again"),
            _ => {}
        }
        jumped = now;
    }
}

/// Ends, and with it the process, when the ledger takes nothing more.
async fn watch_ledger(ledger: Ledger, tasks: Tasks) {
    tasks.until_stopping(ledger.closed()).await;
}

/// What was recorded in a second is signed together. A ledger that takes nothing says so itself.
async fn sign_regularly(ledger: Ledger, tasks: Tasks) {
    let mut ticks = tasks.ticks(SIGNING);
    while ticks.next().await {
        if let Err(error) = ledger.sign().await {
            tracing::debug!(error = %Explained(&error), "the log was not signed");
        }
    }
}

/// The server certificate is renewed long before its end; nobody notices.
async fn renew_certificate(
    (id, names): (SpiffeId, Vec<String>),
    authority: Arc<Authority>,
    certificate: Arc<ServerCertificate>,
    tasks: Tasks,
) {
    let mut ticks = tasks.ticks(CERTIFICATE_RENEWAL);
    // The first is at once, and the certificate is new.
    ticks.next().await;
    while ticks.next().await {
        let renewed = authority.server(&id, &names).map_err(StartError::from);
        let served = renewed.and_then(|identity| Ok(certificate.replace(&identity, authority.root())?));
        match served {
            Ok(()) => tracing::info!("the server certificate was renewed"),
            Err(error) => {
                tracing::error!(error = %Explained(&error), "the server certificate was not renewed; it is tried again");
            }
        }
    }
}

/// Why the broker does not serve.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(
        "the data directory was not initialised; run `bursar-broker init` with the same configuration first"
    )]
    NotInitialised,
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[cfg(feature = "postgres")]
    #[error(transparent)]
    LedgerUrl(#[from] UrlFault),
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Policies(#[from] Failure),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("the key `{place}` does not give the seal key")]
    SealStore {
        place: KeyPlace,
        #[source]
        source: BackendError,
    },
    #[error("backend `{name}` cannot be opened: {message}")]
    Backend { name: BackendName, message: String },
    #[error(transparent)]
    Trust(#[from] TrustError),
    #[error("the servers of issuer `{name}` cannot be called")]
    Issuer {
        name: String,
        #[source]
        source: SetupError,
    },
    #[error("cannot listen on {address}; is another process there?")]
    Bind {
        address: std::net::SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("cannot listen")]
    Listener(#[source] io::Error),
    #[error("cannot write `{}`", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl From<crate::identity::authority::AuthorityError> for StartError {
    fn from(error: crate::identity::authority::AuthorityError) -> Self {
        Self::Keys(error.into())
    }
}

const CLOCK_TICK: Duration = Duration::from_secs(5);
/// Time servers correct less than this without a jump.
const CLOCK_JUMP: Duration = Duration::from_secs(2);
const LEDGER_QUEUE: usize = 4096;
const CACHE_BYTES: u64 = 64 * 1024 * 1024;
const GRACE: Duration = Duration::from_secs(20);
/// What is newer than the last checkpoint is sealed, so it costs nobody's trust to wait.
const SIGNING: Duration = Duration::from_secs(1);
const CERTIFICATE_RENEWAL: Duration = Duration::from_secs(20 * 24 * 3600);
