//! An AdmissionReview in, an AdmissionReview out (`admission.k8s.io/v1`).
//!
//! The request is kube's. The answer is written here: kube writes a patch as a list of numbers, four times as long as the
//! base64 of the API's own description.

#[cfg(test)]
mod tests;

use data_encoding::BASE64;
use http::StatusCode;
use json_patch::Patch;
use k8s_openapi::api::core::v1::Pod;
use kube_core::DynamicObject;
use kube_core::admission::{AdmissionRequest, AdmissionReview, META_API_VERSION_V1, META_KIND, Operation};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Settings;
use super::mutate::{Outcome, Refusal, mutate};
use super::text::excerpt;

/// What is answered, and what it was.
#[derive(Debug)]
pub struct Answer {
    /// JSON.
    pub body: Vec<u8>,
    /// As metrics name it: `injected`, `unchanged`, `untouched`, `refused`, `dry_run`.
    pub outcome: &'static str,
    /// The shape, or `none`.
    pub shape: &'static str,
}

/// Why there is no answer: it was no review that could be answered under its own id.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadReview {
    #[error("the body is no JSON: line {line}, column {column}")]
    NoJson { line: usize, column: usize },
    #[error(
        "the body is a `{kind}` of `{version}`; only `AdmissionReview` of `admission.k8s.io/v1` is answered"
    )]
    OtherKind { kind: String, version: String },
    #[error(
        "the review has no request, or one with members missing or of the wrong form: line {line}, column {column}"
    )]
    Malformed { line: usize, column: usize },
}

impl BadReview {
    /// Of the HTTP answer.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::OtherKind { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::NoJson { .. } | Self::Malformed { .. } => StatusCode::BAD_REQUEST,
        }
    }
}

/// Answers the review that `body` is.
///
/// # Errors
/// [`BadReview`].
pub fn answer(body: &[u8], settings: &Settings) -> Result<Answer, BadReview> {
    // The words of the parser may quote what the pod has in its variables.
    let head: Head = serde_json::from_slice(body)
        .map_err(|error| BadReview::NoJson { line: error.line(), column: error.column() })?;
    if head.kind != META_KIND || head.api_version != META_API_VERSION_V1 {
        return Err(BadReview::OtherKind { kind: excerpt(&head.kind), version: excerpt(&head.api_version) });
    }
    let review: AdmissionReview<DynamicObject> = serde_json::from_slice(body)
        .map_err(|error| BadReview::Malformed { line: error.line(), column: error.column() })?;
    let request = review.request.ok_or(BadReview::Malformed { line: 0, column: 0 })?;
    let (uid, dry_run) = (request.uid.clone(), request.dry_run);
    let decided = decide(request, settings);
    let (outcome, shape, response) = match decided {
        Ok(Outcome::Untouched { warnings }) => ("untouched", "none", allowed(&uid, None, &warnings)),
        Ok(Outcome::Injected { shape, patch, warnings }) => {
            let outcome = if patch.0.is_empty() { "unchanged" } else { "injected" };
            (outcome, shape.as_str(), allowed(&uid, Some(&patch), &warnings))
        }
        Err(refusal) => ("refused", "none", refused(&uid, &refusal)),
    };
    let answer = json!({ "apiVersion": META_API_VERSION_V1, "kind": META_KIND, "response": response });
    let outcome = if dry_run { "dry_run" } else { outcome };
    Ok(Answer { body: answer.to_string().into_bytes(), outcome, shape })
}

/// What every document of Kubernetes begins with.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    api_version: String,
}

fn decide(request: AdmissionRequest<DynamicObject>, settings: &Settings) -> Result<Outcome, Refusal> {
    let refuse = |what: String| Err(Refusal(vec![what]));
    let resource = &request.resource;
    let is_pod = (resource.group.as_str(), resource.version.as_str(), resource.resource.as_str())
        == ("", "v1", "pods");
    if !is_pod
        || request.sub_resource.as_ref().is_some_and(|sub| !sub.is_empty())
        || request.operation != Operation::Create
    {
        return refuse("the webhook is asked about something else than the creation of a pod; correct the `rules` of its \
                       MutatingWebhookConfiguration"
            .to_owned());
    }
    let Some(object) = request.object else { return refuse("the review has no `object`".to_owned()) };
    let Ok(pod) = object.try_parse::<Pod>() else {
        return refuse("the review's `object` cannot be read as a pod".to_owned());
    };
    let namespace = request.namespace.or_else(|| pod.metadata.namespace.clone()).unwrap_or_default();
    mutate(&pod, &namespace, settings)
}

fn allowed(uid: &str, patch: Option<&Patch>, warnings: &[String]) -> Value {
    let mut response = json!({ "uid": uid, "allowed": true });
    let Some(members) = response.as_object_mut() else { return response };
    if let Some(patch) = patch.filter(|patch| !patch.0.is_empty()) {
        members.insert("patchType".to_owned(), json!("JSONPatch"));
        members
            .insert("patch".to_owned(), json!(BASE64.encode(&serde_json::to_vec(patch).unwrap_or_default())));
    }
    if !warnings.is_empty() {
        members.insert("warnings".to_owned(), json!(warnings));
    }
    response
}

fn refused(uid: &str, Refusal(faults): &Refusal) -> Value {
    let message = format!("bursar: {}", faults.join("; "));
    let status = json!({ "status": "Failure", "message": message, "reason": "Invalid", "code": 422 });
    json!({ "uid": uid, "allowed": false, "status": status })
}
