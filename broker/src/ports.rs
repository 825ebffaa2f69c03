//! What is served on each port, until the broker stops.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bursar_core::tasks::Tasks;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::transport::Server;
use tower::Layer;

use crate::api::{Api, Identify, Services};
use crate::health::{Findings, Health};
use crate::http::{self, Shown};
use crate::https;
use crate::server::Connection;

/// Serves calls: by gRPC and, where there is a port for that, by HTTPS. Both go through the same layer to the same
/// services.
pub async fn serve_calls(
    api: Api,
    identify: Identify,
    streams: u32,
    grpc: mpsc::Receiver<io::Result<Connection>>,
    https: Option<mpsc::Receiver<io::Result<Connection>>>,
    tasks: Tasks,
) {
    let (reporter, health) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(bursar_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1();
    let reflection = match reflection {
        Ok(reflection) => reflection,
        Err(error) => {
            tracing::error!(%error, "the descriptors of the interface cannot be served");
            return;
        }
    };
    let rounds = api.health.rounds();
    let truth = Arc::clone(&api.health);
    drop(tasks.finish(report_health(reporter, truth, rounds, tasks.clone())));
    let services = Services::new(&api, Routes::new(health).add_service(reflection));
    let identified = identify.layer();
    if let Some(connections) = https {
        let calls = identified.layer(services.clone());
        tasks.run("https", https::serve(connections, calls, tasks.clone()));
    }
    let served = Server::builder()
        .layer(identified)
        .max_concurrent_streams(streams)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .http2_max_header_list_size(HEADER_BYTES)
        .serve_with_incoming_shutdown(services, ReceiverStream::new(grpc), async move {
            tasks.stopping().await;
        })
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the gRPC server failed");
    }
}

/// Serves health and metrics.
pub async fn serve_http(listener: TcpListener, shown: Arc<Shown>, tasks: Tasks) {
    let stop = async move {
        tasks.stopping().await;
    };
    if let Err(error) = axum::serve(listener, http::router(shown)).with_graceful_shutdown(stop).await {
        tracing::error!(%error, "the HTTP server failed");
    }
}

/// Passes readiness on to those who ask by the gRPC health protocol.
async fn report_health(
    reporter: tonic_health::server::HealthReporter,
    health: Arc<Health>,
    mut rounds: tokio::sync::watch::Receiver<Findings>,
    tasks: Tasks,
) {
    loop {
        let status = match health.ready() {
            true => tonic_health::ServingStatus::Serving,
            false => tonic_health::ServingStatus::NotServing,
        };
        reporter.set_service_status("", status).await;
        tokio::select! {
            changed = rounds.changed() => if changed.is_err() { return },
            _ = tasks.stopping() => break,
        }
    }
    reporter.set_service_status("", tonic_health::ServingStatus::NotServing).await;
}

const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
const HEADER_BYTES: u32 = 32 * 1024;
