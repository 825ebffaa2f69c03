//! Group `webhook`: reviews over TLS at the pace of a large cluster, and what the webhook holds in memory meanwhile.
//!
//! An open loop: reviews are due at fixed moments, whatever became of the one before, and a latency counts from the moment
//! at which its review was due. So one that is late makes those behind it late, as it would the API server's.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bursar_tests::{ServedFiles, Webhook};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::bursar::Programs;
use crate::histogram::Histogram;
use crate::load::Plan;
use crate::memory::resident;
use crate::report::Figure;

#[expect(clippy::print_stderr, reason = "whoever waits is told what for")]
pub(crate) fn measure(runtime: &Runtime, programs: &Programs, plan: &Plan) -> Result<Vec<Figure>> {
    eprintln!("bench: {GROUP}: {RATE} reviews a second");
    let files = ServedFiles::make()?;
    let broker = "https://broker.bursar.svc:8443";
    let webhook = Webhook::launch_from(&programs.agent, broker, &files.authority_file(), &files.table());
    let mut webhook = webhook?;
    webhook.wait_ready()?;
    let (p99, memory) = runtime.block_on(async {
        let latencies = load(&webhook, &files.authority()?, plan.paced()).await?;
        anyhow::Ok((latencies.percentile(99), resident(webhook.process().pid())?))
    })?;
    let note =
        format!("{RATE} reviews a second over {CONNECTIONS} connections, counted from when each was due");
    Ok(vec![
        Figure::new(GROUP, format!("{GROUP}.admit_p99.ms"), "ms", p99.as_secs_f64() * 1000.0).noted(&note),
        Figure::new(GROUP, format!("{GROUP}.rss.mib"), "MiB", memory).noted("after that load"),
    ])
}

async fn load(webhook: &Webhook, authority: &str, time: Duration) -> Result<Histogram> {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(connect(webhook, authority).await?);
    }
    let review: Arc<[u8]> = request().into();
    let begun = Instant::now();
    let mut callers = JoinSet::new();
    for (place, mut stream) in connections.into_iter().enumerate() {
        let review = Arc::clone(&review);
        callers.spawn(async move {
            let mut latencies = Histogram::new();
            let gap = Duration::from_secs(1) * CONNECTIONS / RATE;
            let mut due = begun + gap * u32::try_from(place)? / CONNECTIONS;
            while due < begun + time {
                sleep_until(due).await;
                ask(&mut stream, &review).await?;
                latencies.record(due.elapsed());
                due += gap;
            }
            anyhow::Ok(latencies)
        });
    }
    let mut all = Histogram::new();
    while let Some(done) = callers.join_next().await {
        all.add(&done??);
    }
    Ok(all)
}

async fn connect(webhook: &Webhook, authority: &str) -> Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(authority.as_bytes()) {
        roots.add(root?)?;
    }
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect(webhook.address()).await?;
    stream.set_nodelay(true)?;
    Ok(TlsConnector::from(Arc::new(config)).connect("localhost".try_into()?, stream).await?)
}

/// Sends a review and reads the whole of its answer, which has to let the pod in with a patch.
async fn ask(stream: &mut TlsStream<TcpStream>, review: &[u8]) -> Result<()> {
    stream.write_all(review).await?;
    stream.flush().await?;
    let mut answer = Vec::with_capacity(16 * 1024);
    loop {
        ensure!(stream.read_buf(&mut answer).await? > 0, "the connection ended");
        let Some(end) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(answer.get(..end).unwrap_or_default()).to_ascii_lowercase();
        let length =
            head.split("content-length:").nth(1).and_then(|rest| rest.lines().next()).context("no length")?;
        let whole = end + 4 + length.trim().parse::<usize>()?;
        if answer.len() >= whole {
            let is_patched = answer.windows(11).any(|bytes| bytes == b"\"JSONPatch\"");
            ensure!(head.starts_with("http/1.1 200") && is_patched, "a pod was not let in");
            return Ok(());
        }
    }
}

/// A pod as clusters have them: several containers, volumes, probes and what managed it before.
fn request() -> Vec<u8> {
    let container = |name: &str| {
        json!({
            "name": name, "image": format!("registry.example.org/{name}:1.4.2"), "command": ["/usr/bin/app"],
            "args": ["--port", "8080"], "ports": [{ "containerPort": 8080, "protocol": "TCP" }],
            "env": (0..20).map(|n| json!({ "name": format!("SETTING_{n}"), "value": "x".repeat(32) })).collect::<Vec<_>>(),
            "livenessProbe": { "httpGet": { "path": "/live", "port": 8080 }, "periodSeconds": 10 },
            "resources": { "requests": { "cpu": "100m", "memory": "128Mi" }, "limits": { "memory": "256Mi" } },
            "volumeMounts": [{ "name": "kube-api-access", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true }],
        })
    };
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "generateName": "web-6d4b75cb6d-", "namespace": "shop",
            "labels": { "app": "web", "pod-template-hash": "6d4b75cb6d", "bursar.io/inject": "true" },
            "annotations": { "bursar.io/environment": "shop/prod" },
            "managedFields": [{ "manager": "kube-controller-manager", "operation": "Update", "fieldsV1": { "f:spec": { "f:containers": {} } } }],
        },
        "spec": {
            "serviceAccountName": "web",
            "containers": [container("web"), container("worker"), container("metrics")],
            "volumes": [{ "name": "kube-api-access", "projected": { "sources": [{ "serviceAccountToken": { "path": "token" } }] } }],
        },
    });
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "7f1c7e1a-0000-4000-8000-000000000001", "kind": { "group": "", "version": "v1", "kind": "Pod" },
            "resource": { "group": "", "version": "v1", "resource": "pods" }, "namespace": "shop", "operation": "CREATE",
            "userInfo": { "username": "system:serviceaccount:kube-system:replicaset-controller" }, "object": pod,
        },
    });
    let body = review.to_string();
    let head = format!("POST /mutate HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.into_bytes(), body.into_bytes()].concat()
}

pub(crate) const GROUP: &str = "webhook";
/// Reviews a second.
const RATE: u32 = 500;
const CONNECTIONS: u32 = 8;
