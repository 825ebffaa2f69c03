//! The webhook's metrics. It is a program of its own, though in the agent's file: none of the agent's figures would be true
//! of it.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::OutcomeLabel;

/// Counters and gauges. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    reviews: Family<ReviewLabels, Counter>,
    seconds: Histogram,
    connections: Family<OutcomeLabel, Counter>,
    certificate: Family<OutcomeLabel, Counter>,
    calls: Family<OutcomeLabel, Counter>,
    /// When the served certificate ends, in seconds since 1970.
    pub certificate_end: Gauge,
    /// Whether this replica leads: 1 or 0.
    pub leads: Gauge,
    /// Pods that opted in and were not injected, as the leader counted last.
    pub missed_pods: Gauge,
    /// Whether reviews are answered: 1 or 0.
    pub ready: Gauge,
}

impl Metrics {
    /// New ones, known to `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            reviews: Family::default(),
            seconds: Histogram::new(exponential_buckets(0.000_125, 2.0, 16)),
            connections: Family::default(),
            certificate: Family::default(),
            calls: Family::default(),
            certificate_end: Gauge::default(),
            leads: Gauge::default(),
            missed_pods: Gauge::default(),
            ready: Gauge::default(),
        };
        let all = metrics.clone();
        registry.register(REVIEWS, "Reviews by outcome and shape", all.reviews);
        registry.register(SECONDS, "Time that reviews took", all.seconds);
        registry.register(CONNECTIONS, "Connections by outcome", all.connections);
        registry.register(CERTIFICATE, "What was done about the certificate", all.certificate);
        registry.register(CALLS, "Calls to the API server by outcome", all.calls);
        registry.register(CERTIFICATE_END, "When the certificate ends, in Unix seconds", all.certificate_end);
        registry.register(LEADS, "Whether this replica leads", all.leads);
        registry.register(MISSED_PODS, "Pods that opted in and were not injected", all.missed_pods);
        registry.register(READY, "Whether reviews are answered", all.ready);
        metrics
    }

    /// A review: what [`Answer`](crate::webhook::review::Answer) says of it, or `bad`, `too_long`, `busy`, `late` with `none`.
    pub fn review(&self, outcome: &'static str, shape: &'static str, took: Duration) {
        self.reviews.get_or_create(&ReviewLabels { outcome, shape }).inc();
        self.seconds.observe(took.as_secs_f64());
    }

    /// A connection: `served`, `full`, `no_certificate`, `handshake`.
    pub fn connection(&self, outcome: &'static str) {
        self.connections.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// The certificate: `loaded`, `unusable`, `issued`, `authority`, `failed`.
    pub fn certificate(&self, outcome: &'static str) {
        self.certificate.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// A call to the API server: `ok`, `conflict`, `refused`, `unreachable`.
    pub fn call(&self, outcome: &'static str) {
        self.calls.get_or_create(&OutcomeLabel { outcome }).inc();
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReviewLabels {
    outcome: &'static str,
    shape: &'static str,
}

const REVIEWS: &str = "bursar_webhook_reviews";
const SECONDS: &str = "bursar_webhook_review_seconds";
const CONNECTIONS: &str = "bursar_webhook_connections";
const CERTIFICATE: &str = "bursar_webhook_certificate";
const CALLS: &str = "bursar_webhook_api_calls";
const CERTIFICATE_END: &str = "bursar_webhook_certificate_end_seconds";
const LEADS: &str = "bursar_webhook_leads";
const MISSED_PODS: &str = "bursar_webhook_missed_pods";
const READY: &str = "bursar_webhook_ready";
