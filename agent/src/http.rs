//! The HTTP port: liveness, readiness and metrics, for orchestrators and Prometheus. No secrets, no identity.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::health::Findings;

/// What the port shows.
#[derive(Debug)]
pub struct Shown {
    pub registry: Registry,
    pub findings: watch::Receiver<Findings>,
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
    let Findings { not_ready, fault } = shown.findings.borrow().clone();
    let (status, text) = match (not_ready, fault) {
        (Some(why), _) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
        (None, Some(fault)) => (StatusCode::OK, format!("ready, but degraded: {fault}\n")),
        (None, None) => (StatusCode::OK, "ready\n".to_owned()),
    };
    (status, text).into_response()
}

async fn metrics(State(shown): State<Arc<Shown>>) -> Response {
    let mut text = String::new();
    match encode(&mut text, &shown.registry) {
        Ok(()) => ([(header::CONTENT_TYPE, METRICS_TYPE)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
