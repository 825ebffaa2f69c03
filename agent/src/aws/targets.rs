//! The operations of Secrets Manager that are answered: those that read, and of them those that need no list of what there
//! is. Requests and answers are JSON, named by the header `X-Amz-Target`.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use futures_util::future::join_all;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::json;
use tonic::codegen::Bytes;

use super::ask::Ask;
use super::body;
use super::fault::Fault;
use super::front::Front;
use crate::answer::Call;

/// An operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    GetSecretValue,
    BatchGetSecretValue,
    DescribeSecret,
}

impl Target {
    /// The one that a request names.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Fault> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let unknown =
            |message: &str| Fault::new(StatusCode::BAD_REQUEST, "UnknownOperationException", message);
        if !text(CONTENT_TYPE.as_str()).starts_with("application/x-amz-json-1.") {
            return Err(unknown("a request to `/` has the content type `application/x-amz-json-1.1`"));
        }
        match text("x-amz-target") {
            "secretsmanager.GetSecretValue" => Ok(Self::GetSecretValue),
            "secretsmanager.BatchGetSecretValue" => Ok(Self::BatchGetSecretValue),
            "secretsmanager.DescribeSecret" => Ok(Self::DescribeSecret),
            _ => Err(unknown(
                "the agent answers `GetSecretValue`, `BatchGetSecretValue` and `DescribeSecret`; for what changes secrets use \
                 `bursar`",
            )),
        }
    }

    /// As metrics name it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::GetSecretValue => "GetSecretValue",
            Self::BatchGetSecretValue => "BatchGetSecretValue",
            Self::DescribeSecret => "DescribeSecret",
        }
    }
}

/// What is asked of an operation.
pub(super) enum Asked {
    Value(Ask),
    Values(Vec<Ask>),
    Description(Ask),
}

impl Asked {
    /// Reads what was sent with a request for `target`.
    pub(super) fn read(target: Target, request: &Bytes) -> Result<Self, Fault> {
        let named = |secret_id| Ask { secret_id, ..Ask::default() };
        match target {
            Target::GetSecretValue => Ok(Self::Value(read::<GetSecretValue>(request)?.into())),
            Target::BatchGetSecretValue => {
                let BatchGetSecretValue { secret_id_list, filters } = read(request)?;
                if filters.is_some() {
                    return Err(Fault::parameter(
                        "`Filters` is not taken; name the secrets in `SecretIdList`",
                    ));
                }
                if secret_id_list.is_empty() || secret_id_list.len() > BATCH {
                    return Err(Fault::parameter(format!("`SecretIdList` has 1 to {BATCH} names")));
                }
                Ok(Self::Values(secret_id_list.into_iter().map(named).collect()))
            }
            Target::DescribeSecret => {
                Ok(Self::Description(named(read::<DescribeSecret>(request)?.secret_id)))
            }
        }
    }
}

/// The whole of what was sent with a request. It is read before anything is answered: a client that is still sending when
/// the connection ends may not look at the answer.
pub(super) async fn gather(request: Body) -> Result<Bytes, Fault> {
    let bytes = tokio::time::timeout(LIMIT, to_bytes(request, LARGEST)).await;
    bytes.ok().and_then(Result::ok).ok_or_else(|| {
        let message = format!("the request is larger than {} KiB, or did not arrive in time", LARGEST / 1024);
        Fault::new(StatusCode::BAD_REQUEST, "SerializationException", message)
    })
}

/// Answers what is asked of `target`.
pub(super) async fn answer(
    front: &Front,
    call: &Call,
    target: Target,
    request: &Bytes,
) -> Result<Body, Fault> {
    match Asked::read(target, request)? {
        Asked::Value(ask) => Ok(body::body(front.read(call, &ask).await?.write())),
        Asked::Values(asks) => batch(front, call, asks).await,
        Asked::Description(ask) => Ok(Body::from(front.read(call, &ask).await?.describe().to_string())),
    }
}

/// Each secret by itself, as AWS has it: one that fails is named beside the others.
async fn batch(front: &Front, call: &Call, asks: Vec<Ask>) -> Result<Body, Fault> {
    // Side by side, so that a store that is slow is waited for once.
    let reads = asks.into_iter().map(async |ask| {
        let read = front.read(call, &ask).await.map(|given| given.write());
        read.map_err(
            |fault| json!({ "SecretId": ask.secret_id, "ErrorCode": fault.kind, "Message": fault.message }),
        )
    });
    let (mut given, mut errors) = (Vec::new(), Vec::new());
    for read in join_all(reads).await {
        match read {
            Ok(one) => given.push(one),
            Err(error) => errors.push(error),
        }
    }
    Ok(body::body(body::batch(&given, &errors)))
}

/// Members that are not known are passed over, as AWS does: SDKs grow.
fn read<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, Fault> {
    serde_json::from_slice(bytes).map_err(|_| {
        let message = "the request is not the JSON object that the operation takes";
        Fault::new(StatusCode::BAD_REQUEST, "SerializationException", message)
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetSecretValue {
    secret_id: String,
    version_id: Option<String>,
    version_stage: Option<String>,
}

impl From<GetSecretValue> for Ask {
    fn from(GetSecretValue { secret_id, version_id, version_stage }: GetSecretValue) -> Self {
        Self { secret_id, version_id, version_stage, refresh: false }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct BatchGetSecretValue {
    #[serde(default)]
    secret_id_list: Vec<String>,
    filters: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DescribeSecret {
    secret_id: String,
}

/// As AWS has it.
const BATCH: usize = 20;
/// A batch of the longest ARNs fits.
const LARGEST: usize = 64 * 1024;
/// For a request to arrive.
const LIMIT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn target(content_type: &'static str, target: &'static str) -> Result<Target, &'static str> {
        let headers = HeaderMap::from_iter([
            (CONTENT_TYPE, HeaderValue::from_static(content_type)),
            (http::HeaderName::from_static("x-amz-target"), HeaderValue::from_static(target)),
        ]);
        Target::of(&headers).map_err(|fault| fault.kind)
    }

    #[test]
    fn what_is_not_answered_is_an_unknown_operation() {
        let json = "application/x-amz-json-1.1";
        assert_eq!(target(json, "secretsmanager.GetSecretValue"), Ok(Target::GetSecretValue));
        let unknown = Err("UnknownOperationException");
        assert_eq!(target(json, "secretsmanager.PutSecretValue"), unknown);
        assert_eq!(target(json, "GetSecretValue"), unknown);
        assert_eq!(target("text/plain", "secretsmanager.GetSecretValue"), unknown);
        assert_eq!(Target::of(&HeaderMap::new()).map_err(|fault| fault.kind), unknown);
    }

    #[test]
    fn what_is_no_request_is_told_without_its_words() {
        for bad in ["", "{}", "[]", r#"{"SecretId":7}"#, r#"{"SecretId":"canary""#] {
            let read = read::<GetSecretValue>(&Bytes::from_static(bad.as_bytes()));
            let fault = read.err().expect("refused");
            assert!(fault.kind == "SerializationException" && !fault.message.contains("canary"), "{bad}");
        }
    }
}
