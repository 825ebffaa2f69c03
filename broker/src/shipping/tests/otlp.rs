use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use tokio_stream::wrappers::TcpListenerStream;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::transport::Server;
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use tower::Service;

use super::super::otlp::message::{
    ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse, Value,
};
use super::{ORIGIN, Site, eventually, sink};
use crate::config::{OtlpSink, SinkKind};

/// A collector that keeps what it is sent, and refuses as often as it is told to.
#[derive(Debug, Clone, Default)]
struct Collector {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    requests: Vec<ExportLogsServiceRequest>,
    refuse: u32,
    reject: i64,
}

impl Collector {
    async fn start(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listener");
        let address = listener.local_addr().expect("address");
        let serve =
            Server::builder().add_service(self.clone()).serve_with_incoming(TcpListenerStream::new(listener));
        drop(bursar_core::tasks::Tasks::new().finish(serve));
        format!("http://{address}")
    }

    fn records(&self) -> Vec<super::super::otlp::message::LogRecord> {
        let state = self.state.lock().expect("state");
        let resources = state.requests.iter().flat_map(|request| &request.resource_logs);
        resources.flat_map(|logs| &logs.scope_logs).flat_map(|logs| logs.log_records.clone()).collect()
    }
}

impl NamedService for Collector {
    const NAME: &'static str = "opentelemetry.proto.collector.logs.v1.LogsService";
}

impl UnaryService<ExportLogsServiceRequest> for Collector {
    type Response = ExportLogsServiceResponse;
    type Future = std::future::Ready<Result<Response<Self::Response>, Status>>;

    fn call(&mut self, request: Request<ExportLogsServiceRequest>) -> Self::Future {
        let mut state = self.state.lock().expect("state");
        if state.refuse > 0 {
            state.refuse -= 1;
            return std::future::ready(Err(Status::unavailable("busy")));
        }
        state.requests.push(request.into_inner());
        let partial = ExportLogsPartialSuccess {
            rejected_log_records: state.reject,
            error_message: "too old".to_owned(),
        };
        let answer = ExportLogsServiceResponse { partial_success: Some(partial) };
        std::future::ready(Ok(Response::new(answer)))
    }
}

impl Service<http::Request<Body>> for Collector {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let collector = self.clone();
        Box::pin(async move { Ok(Grpc::new(ProstCodec::default()).unary(collector, request).await) })
    }
}

#[tokio::test]
async fn a_collector_gets_each_record_with_its_line_and_what_people_filter_by() {
    let (site, collector) = (Site::new(), Collector::default());
    let endpoint = collector.start().await;
    site.start(vec![otlp(endpoint)]);
    let mut traced = site.denied("vault/a");
    traced.trace_id = Some("0af7651916cd43dd8448eb211c80319c".to_owned());
    site.records(vec![traced]).await;
    eventually("the position", || async { (site.position("otlp").await == 1).then_some(()) }).await;

    let record = collector.records().swap_remove(0);
    let line = site.ground.ledger.audit_lines(0, 1).await.expect("lines").swap_remove(0);
    let body = record.body.and_then(|body| body.value);
    assert_eq!(body, Some(Value::Text(String::from_utf8(line).expect("text"))));
    assert_eq!((record.severity_number, record.severity_text.as_str()), (13, "WARN"));
    assert_eq!(record.trace_id.len(), 16);
    let attribute = |key: &str| {
        let found = record.attributes.iter().find(|attribute| attribute.key == key);
        found.and_then(|attribute| attribute.value.clone()?.value)
    };
    assert_eq!(attribute("bursar.seq"), Some(Value::Number(0)));
    assert_eq!(attribute("bursar.outcome"), Some(Value::Text("denied".to_owned())));
    let state = collector.state.lock().expect("state");
    let resource = state.requests[0].resource_logs[0].resource.clone().expect("resource");
    assert!(
        resource.attributes.iter().any(|attribute| attribute.value.clone().and_then(|value| value.value)
            == Some(Value::Text(ORIGIN.to_owned())))
    );
}

#[tokio::test]
async fn a_collector_that_refuses_gets_the_records_again() {
    let (site, collector) = (Site::new(), Collector::default());
    collector.state.lock().expect("state").refuse = 2;
    let endpoint = collector.start().await;
    site.start(vec![otlp(endpoint)]);
    site.record(0..3).await;
    eventually("the position", || async { (site.position("otlp").await == 3).then_some(()) }).await;
    assert_eq!(collector.records().len(), 3);
}

#[tokio::test]
async fn what_a_collector_rejects_is_not_sent_again() {
    let (site, collector) = (Site::new(), Collector::default());
    collector.state.lock().expect("state").reject = 1;
    let endpoint = collector.start().await;
    site.start(vec![otlp(endpoint)]);
    site.record(0..1).await;
    eventually("the position", || async { (site.position("otlp").await == 1).then_some(()) }).await;
    assert_eq!(collector.records().len(), 1);
}

#[tokio::test]
async fn a_collector_that_is_not_there_is_named() {
    let site = Site::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("listener").local_addr().expect("address");
    let shipping = site.start(vec![otlp(format!("http://{free}"))]);
    site.record(0..1).await;
    let fault = eventually("the fault", || async { shipping.findings().swap_remove(0).1 }).await;
    assert!(fault.contains(&free.to_string()), "{fault}");
}

fn otlp(endpoint: String) -> crate::config::SinkConfig {
    sink("otlp", SinkKind::Otlp(OtlpSink { endpoint, ca_file: None }))
}
