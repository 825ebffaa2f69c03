//! The messages of OTLP logs (opentelemetry-proto 1.x) as far as they are sent and read here. Numbers and types of the
//! fields are the protocol's; fields that are left out keep their defaults.

use bursar_core::audit::{AuditRecord, Outcome};
use data_encoding::HEXLOWER_PERMISSIVE;
use prost::{Message, Oneof};

use super::Line;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ExportLogsServiceRequest {
    #[prost(message, repeated, tag = "1")]
    pub(crate) resource_logs: Vec<ResourceLogs>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ExportLogsServiceResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) partial_success: Option<ExportLogsPartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ExportLogsPartialSuccess {
    #[prost(int64, tag = "1")]
    pub(crate) rejected_log_records: i64,
    #[prost(string, tag = "2")]
    pub(crate) error_message: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ResourceLogs {
    #[prost(message, optional, tag = "1")]
    pub(crate) resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) scope_logs: Vec<ScopeLogs>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Resource {
    #[prost(message, repeated, tag = "1")]
    pub(crate) attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ScopeLogs {
    #[prost(message, optional, tag = "1")]
    pub(crate) scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) log_records: Vec<LogRecord>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Scope {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) version: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct LogRecord {
    #[prost(fixed64, tag = "1")]
    pub(crate) time_unix_nano: u64,
    #[prost(int32, tag = "2")]
    pub(crate) severity_number: i32,
    #[prost(string, tag = "3")]
    pub(crate) severity_text: String,
    #[prost(message, optional, tag = "5")]
    pub(crate) body: Option<AnyValue>,
    #[prost(message, repeated, tag = "6")]
    pub(crate) attributes: Vec<KeyValue>,
    #[prost(bytes = "vec", tag = "9")]
    pub(crate) trace_id: Vec<u8>,
    #[prost(fixed64, tag = "11")]
    pub(crate) observed_time_unix_nano: u64,
    #[prost(string, tag = "12")]
    pub(crate) event_name: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct KeyValue {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AnyValue {
    #[prost(oneof = "Value", tags = "1, 3")]
    pub(crate) value: Option<Value>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Value {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(int64, tag = "3")]
    Number(i64),
}

impl ExportLogsServiceRequest {
    /// Records of the log of this name.
    pub(super) fn of(origin: &str, log_records: Vec<LogRecord>) -> Self {
        let attributes = vec![
            text("service.name", "bursar-broker"),
            text("service.version", VERSION),
            text("bursar.log", origin),
        ];
        let scope = Scope { name: "bursar.audit".to_owned(), version: VERSION.to_owned() };
        let scope_logs = vec![ScopeLogs { scope: Some(scope), log_records }];
        Self { resource_logs: vec![ResourceLogs { resource: Some(Resource { attributes }), scope_logs }] }
    }
}

/// The record as a collector gets it: the stored line as the body, and beside it what people filter by.
pub(super) fn log_record(line: &Line, record: Option<&AuditRecord>) -> LogRecord {
    let body = AnyValue::of(String::from_utf8_lossy(&line.bytes).into_owned());
    let number = AnyValue { value: Some(Value::Number(i64::try_from(line.seq).unwrap_or(i64::MAX))) };
    let seq = KeyValue { key: "bursar.seq".to_owned(), value: Some(number) };
    let plain = LogRecord {
        body: Some(body),
        attributes: vec![seq],
        event_name: "bursar.audit".to_owned(),
        ..LogRecord::default()
    };
    let Some(record) = record else { return plain };
    let (severity_number, severity_text) = match record.outcome {
        Outcome::Ok | Outcome::Asked => (INFO, "INFO"),
        Outcome::Denied | Outcome::Failed => (WARN, "WARN"),
    };
    let time = u64::try_from(record.time.as_nanosecond()).unwrap_or_default();
    let trace_id = record.trace_id.as_ref().and_then(|id| HEXLOWER_PERMISSIVE.decode(id.as_bytes()).ok());
    let mut attributes = plain.attributes.clone();
    attributes.extend([
        text("bursar.action", record.action.as_str()),
        text("bursar.outcome", record.outcome.as_str()),
        text("bursar.principal", &record.actor.principal),
        text("bursar.resource", &record.resource),
    ]);
    LogRecord {
        time_unix_nano: time,
        observed_time_unix_nano: time,
        severity_number,
        severity_text: severity_text.to_owned(),
        attributes,
        trace_id: trace_id.unwrap_or_default(),
        ..plain
    }
}

impl AnyValue {
    fn of(text: String) -> Self {
        Self { value: Some(Value::Text(text)) }
    }
}

fn text(key: &str, value: &str) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue::of(value.to_owned())) }
}

const VERSION: &str = env!("CARGO_PKG_VERSION");
const INFO: i32 = 9;
const WARN: i32 = 13;
