//! OTLP logs over gRPC: one log record for each audit record, confirmed by the collector.

pub(super) mod message;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bursar_core::audit::AuditRecord;
use http::uri::PathAndQuery;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use super::{Line, Sink, SinkError, SinkFault};
use crate::config::OtlpSink;
use message::{ExportLogsServiceRequest, ExportLogsServiceResponse};

pub(super) struct Otlp {
    settings: OtlpSink,
    origin: String,
    channel: Option<Channel>,
}

impl Otlp {
    pub(super) fn new(settings: OtlpSink, origin: String) -> Self {
        Self { settings, origin, channel: None }
    }

    /// The channel, which connects by itself when it is used and again when it broke.
    fn channel(&mut self) -> Result<Channel, SinkError> {
        if let Some(channel) = &self.channel {
            return Ok(channel.clone());
        }
        let misconfigured = |message: String| SinkError::new(SinkFault::Misconfigured, message);
        let endpoint = Endpoint::from_shared(self.settings.endpoint.clone());
        let mut endpoint =
            endpoint.map_err(|error| misconfigured(error.to_string()))?.connect_timeout(CONNECT);
        if let Some(path) = &self.settings.ca_file {
            let pem = std::fs::read(path)
                .map_err(|error| SinkError::of_io(&format!("`{}`", path.display()), &error))?;
            let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem));
            endpoint = endpoint.tls_config(tls).map_err(|error| misconfigured(error.to_string()))?;
        }
        Ok(self.channel.insert(endpoint.connect_lazy()).clone())
    }

    fn request(&self, lines: &[Line]) -> ExportLogsServiceRequest {
        let records = lines.iter().map(|line| {
            let record = AuditRecord::from_line(&line.bytes).ok();
            message::log_record(line, record.as_ref())
        });
        ExportLogsServiceRequest::of(&self.origin, records.collect())
    }
}

#[async_trait]
impl Sink for Otlp {
    async fn deliver(&mut self, lines: &Arc<[Line]>) -> Result<(), SinkError> {
        let message = self.request(lines);
        let mut client = tonic::client::Grpc::new(self.channel()?);
        let refused = |status: Status| fault(&self.settings.endpoint, &status);
        client.ready().await.map_err(|error| refused(Status::unavailable(error.to_string())))?;
        let codec = ProstCodec::<ExportLogsServiceRequest, ExportLogsServiceResponse>::default();
        let answer = client.unary(Request::new(message), PathAndQuery::from_static(EXPORT), codec).await;
        let answer = answer.map_err(refused)?.into_inner();
        // The protocol forbids to send again what a collector rejects; it has seen them, so they count as there.
        if let Some(rejected) = answer.partial_success.filter(|partial| partial.rejected_log_records > 0) {
            tracing::error!(
                endpoint = self.settings.endpoint,
                rejected = rejected.rejected_log_records,
                "a collector rejected audit records"
            );
        }
        Ok(())
    }
}

fn fault(endpoint: &str, status: &Status) -> SinkError {
    let kind = match status.code() {
        Code::Unavailable | Code::Aborted | Code::Cancelled => SinkFault::Unreachable,
        Code::DeadlineExceeded => SinkFault::Timeout,
        Code::ResourceExhausted => SinkFault::Full,
        _ => SinkFault::Refused,
    };
    SinkError::new(kind, format!("the collector at `{endpoint}`: {:?}: {}", status.code(), status.message()))
}

const EXPORT: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
const CONNECT: Duration = Duration::from_secs(5);
