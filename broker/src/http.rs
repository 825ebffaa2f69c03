//! The HTTP port: liveness, readiness and metrics, for orchestrators and Prometheus. No secrets, no identity.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::approvals::Approvals;
use crate::disk::Disk;
use crate::health::Health;
use crate::ledger::Ledger;
use crate::shipping::Shipping;
use crate::telemetry::{
    APPROVALS, DISK_BYTES, LEASES, LEDGER, SINK_LAG_RECORDS, SINK_LAG_SECONDS, SinkLabels,
};

/// What the port shows.
#[derive(Debug)]
pub struct Shown {
    pub registry: Registry,
    pub health: Arc<Health>,
    pub gauges: Gauges,
    pub ledger: Ledger,
    pub shipping: Arc<Shipping>,
    pub disk: Arc<Disk>,
    pub approvals: Arc<Approvals>,
}

/// Figures that are read from the ledger when somebody asks.
#[derive(Debug, Default)]
pub struct Gauges {
    leases: Family<StateLabel, Gauge>,
    ledger: Family<FigureLabel, Gauge>,
    disk: Family<FigureLabel, Gauge>,
    approvals: Gauge,
    lag_records: Family<SinkLabels, Gauge>,
    lag_seconds: Family<SinkLabels, Gauge>,
}

impl Gauges {
    /// New gauges, known to `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let gauges = Self::default();
        registry.register(LEASES, "Leases by state", gauges.leases.clone());
        registry.register(LEDGER, "Figures of the ledger", gauges.ledger.clone());
        registry.register(APPROVALS, "Approvals in force", gauges.approvals.clone());
        registry.register(DISK_BYTES, "The disk that the data directory is on", gauges.disk.clone());
        let (records, seconds) = (gauges.lag_records.clone(), gauges.lag_seconds.clone());
        registry.register(SINK_LAG_RECORDS, "Audit records that a sink has not confirmed", records);
        registry.register(SINK_LAG_SECONDS, "The age of the oldest of them", seconds);
        gauges
    }

    async fn refresh(&self, shown: &Shown) {
        let Shown { ledger, shipping, disk, approvals, .. } = shown;
        self.approvals.set(i64::try_from(approvals.count()).unwrap_or(i64::MAX));
        if let (Some(space), Some((warn, refuse))) = (disk.space(), disk.limits()) {
            let figures = [("free", space.free), ("total", space.total), ("warn", warn), ("refuse", refuse)];
            for (figure, value) in figures {
                let gauge = self.disk.get_or_create(&FigureLabel { figure });
                gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
            }
        }
        for lag in shipping.lags() {
            let label = SinkLabels { sink: lag.sink };
            let gauge = |family: &Family<_, Gauge>, value: u64| {
                family.get_or_create(&label).set(i64::try_from(value).unwrap_or(i64::MAX));
            };
            gauge(&self.lag_records, lag.records);
            gauge(&self.lag_seconds, lag.seconds);
        }
        if let Ok(counts) = ledger.lease_counts().await {
            for (state, count) in counts {
                let gauge = self.leases.get_or_create(&StateLabel { state: state.as_str() });
                gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
            }
        }
        let stats = ledger.stats();
        let figures = [
            ("batches", stats.batches),
            ("entries", stats.entries),
            ("last_batch", stats.last_batch),
            ("last_sync_micros", stats.last_sync_micros),
            ("queued", stats.queued),
            ("wal_bytes", stats.wal_bytes),
            ("db_bytes", stats.db_bytes),
            ("rated", stats.rated),
            ("records", *ledger.appended().borrow()),
        ];
        for (figure, value) in figures {
            let gauge = self.ledger.get_or_create(&FigureLabel { figure });
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
    }
}

/// The port's routes.
pub fn router(shown: Arc<Shown>) -> Router {
    Router::new()
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(shown)
}

async fn ready(State(shown): State<Arc<Shown>>) -> Response {
    if let Some(why) = shown.health.why_not() {
        return (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")).into_response();
    }
    let degraded: String =
        shown.health.degraded().iter().map(|(what, why)| format!("degraded: {what}: {why}\n")).collect();
    (StatusCode::OK, format!("ready\n{degraded}")).into_response()
}

async fn metrics(State(shown): State<Arc<Shown>>) -> Response {
    shown.gauges.refresh(&shown).await;
    let mut text = String::new();
    match encode(&mut text, &shown.registry) {
        Ok(()) => ([(header::CONTENT_TYPE, METRICS_TYPE)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FigureLabel {
    figure: &'static str,
}

const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
