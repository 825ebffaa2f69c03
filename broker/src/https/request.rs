//! What a request asks for.
//!
//! There is one thing here, so everything else is a fault of the request (400) and never "not found": to the operator, 404
//! means that a secret was deleted, and it may delete what it made of it.

use axum::body::Body;
use bursar_core::reference::{FieldName, Reference, Version};
use bursar_proto::Reason;
use bursar_proto::v1::SecretsReadRequest;
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, Method, Response, StatusCode};
use percent_encoding::percent_decode_str;
use tonic::metadata::MetadataMap;

use super::reply;

/// How a value travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// As it is, which has to be UTF-8.
    Text,
    /// In Base64, whatever it is.
    Base64,
}

/// What is wrong with a request, before anybody is asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    status: StatusCode,
    message: String,
}

impl Fault {
    fn of(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, message: message.into() }
    }

    pub(super) fn into_response(self) -> Response<Body> {
        reply::error(self.status, Reason::RequestInvalid, &self.message, "")
    }
}

/// Reads `GET /v1/secret?path=BACKEND/PATH[&property=FIELD][&version=…][&reason=…][&encoding=base64]`. Templates leave
/// parameters empty that have no value, so an empty one is none.
pub(super) fn read(parts: &Parts) -> Result<(SecretsReadRequest, Encoding), Fault> {
    if parts.uri.path() != PATH {
        return Err(Fault::of(format!("there is nothing but `{PATH}` here")));
    }
    if parts.method != Method::GET {
        let message = "secrets are only read here, by `GET`".to_owned();
        return Err(Fault { status: StatusCode::METHOD_NOT_ALLOWED, message });
    }
    let (mut path, mut property, mut version, mut reason, mut encoding) = Default::default();
    for pair in parts.uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match decoded(name)?.as_str() {
            "path" => once(&mut path, "path", value)?,
            "property" => once(&mut property, "property", value)?,
            "version" => once(&mut version, "version", value)?,
            "reason" => once(&mut reason, "reason", value)?,
            "encoding" => once(&mut encoding, "encoding", value)?,
            other => {
                return Err(Fault::of(format!(
                    "`{}` is no parameter; they are `path`, `property`, `version`, `reason` and `encoding`",
                    other.escape_default()
                )));
            }
        }
    }
    let encoding = match encoding.as_deref() {
        None => Encoding::Text,
        Some("base64") => Encoding::Base64,
        Some(_) => return Err(Fault::of("`encoding` is `base64`, or is left out")),
    };
    let path =
        path.ok_or_else(|| Fault::of("`path` is missing: BACKEND/PATH, such as `vault/payments/db`"))?;
    let reference = reference(&path, property.as_deref(), version.as_deref())?;
    let wanted = SecretsReadRequest {
        reference: reference.to_string(),
        reason: reason.unwrap_or_default(),
        ..SecretsReadRequest::default()
    };
    Ok((wanted, encoding))
}

/// Moves what the call needs of the request's headers: the token, which is then nowhere else, and the trace.
pub(super) fn pass_on(headers: &mut HeaderMap, metadata: &mut MetadataMap) {
    let mut passed = HeaderMap::new();
    // Two of them are refused where tokens are taken, so both are shown there.
    for token in headers.get_all(AUTHORIZATION) {
        passed.append(AUTHORIZATION, token.clone());
    }
    headers.remove(AUTHORIZATION);
    if let Some(trace) = headers.remove(TRACE_PARENT) {
        passed.insert(TRACE_PARENT, trace);
    }
    *metadata = MetadataMap::from_headers(passed);
}

/// `path` is a reference; `property` and `version` add what it does not say itself.
fn reference(path: &str, property: Option<&str>, version: Option<&str>) -> Result<Reference, Fault> {
    let fault = |error: &dyn std::fmt::Display| Fault::of(error.to_string());
    let mut reference = Reference::parse(path).map_err(|error| fault(&error))?;
    if let Some(property) = property {
        let field = FieldName::parse(property).map_err(|error| fault(&error))?;
        if reference.field.replace(field).is_some() {
            return Err(Fault::of("`path` names a field, and `property` another"));
        }
    }
    if let Some(version) = version {
        let version = Version::from_store(version).map_err(|error| fault(&error))?;
        if reference.version.replace(version).is_some() {
            return Err(Fault::of("`path` names a version, and `version` another"));
        }
    }
    Ok(reference)
}

fn once(parameter: &mut Option<String>, name: &str, value: &str) -> Result<(), Fault> {
    let value = decoded(value)?;
    match parameter {
        Some(_) => Err(Fault::of(format!("`{name}` is given once"))),
        None if value.is_empty() => Ok(()),
        None => {
            *parameter = Some(value);
            Ok(())
        }
    }
}

/// As templates escape a query: a blank is `+`.
fn decoded(text: &str) -> Result<String, Fault> {
    let text = text.replace('+', " ");
    let decoded = percent_decode_str(&text).decode_utf8();
    decoded.map(std::borrow::Cow::into_owned).map_err(|_| Fault::of("the URL is not UTF-8 once decoded"))
}

const PATH: &str = "/v1/secret";
const TRACE_PARENT: &str = "traceparent";

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Request};
    use proptest::prelude::*;
    use tonic::metadata::MetadataValue;

    use super::*;

    fn parts(method: &str, uri: &str) -> Parts {
        Request::builder().method(method).uri(uri).body(()).expect("a request").into_parts().0
    }

    fn asked(query: &str) -> Result<(String, String, Encoding), Fault> {
        let read = read(&parts("GET", &format!("/v1/secret?{query}")));
        read.map(|(wanted, encoding)| (wanted.reference, wanted.reason, encoding))
    }

    fn reference_of(query: &str) -> String {
        asked(query).expect("good").0
    }

    #[test]
    fn what_a_template_leaves_empty_is_not_asked_for() {
        assert_eq!(reference_of("path=vault%2Fpayments%2Fdb&property=&version="), "vault/payments/db");
        assert_eq!(reference_of("path=vault/a&property=pass+word%23&version=3"), "vault/a#pass word%23@3");
        assert_eq!(reference_of("path=vault%2Fteam+a%2F%2540&property=p"), "vault/team a/%40#p");
        assert_eq!(reference_of("path=local/a%23b%407"), "local/a#b@7");
        let all = asked("path=local/a&reason=a+test&encoding=base64").expect("good");
        assert_eq!(all, ("local/a".to_owned(), "a test".to_owned(), Encoding::Base64));
    }

    #[test]
    fn what_is_wrong_is_never_told_as_not_found() {
        for bad in [
            "",
            "path=",
            "path=local",
            "path=local/a&path=local/b",
            "path=local/a&env=x",
            "path=local/a%23b&property=c",
            "path=local/a%401&version=2",
            "path=local/a&version=1/2",
            "path=local/a&property=%00",
            "path=local/%ff",
            "path=local/a&encoding=hex",
        ] {
            assert_eq!(asked(bad).expect_err("refused").status, StatusCode::BAD_REQUEST, "{bad}");
        }
        for (method, uri, status) in [
            ("GET", "/", 400),
            ("GET", "/v1/secrets?path=local/a", 400),
            ("GET", "/metrics", 400),
            ("POST", "/v1/secret?path=local/a", 405),
            ("HEAD", "/v1/secret?path=local/a", 405),
        ] {
            assert_eq!(read(&parts(method, uri)).expect_err("refused").status.as_u16(), status, "{uri}");
        }
    }

    #[test]
    fn a_token_is_moved_and_nothing_else_goes_along() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("authorization", "Bearer a"), ("bursar-workload-bin", "x"), ("x-other", "y")] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let mut metadata = MetadataMap::new();
        pass_on(&mut headers, &mut metadata);
        assert!(!headers.contains_key(AUTHORIZATION) && metadata.len() == 1);
        assert_eq!(metadata.get("authorization").map(MetadataValue::as_bytes), Some(&b"Bearer a"[..]));
    }

    proptest! {
        #[test]
        fn no_query_breaks_it_and_what_is_asked_is_a_reference(
            query in "(path=|local/|&|[!-~]|%[0-9a-f]{2}){0,40}",
        ) {
            let Ok(uri) = format!("/v1/secret?{query}").parse::<http::Uri>() else { return Ok(()) };
            let request = Request::builder().uri(uri).body(()).expect("a request");
            if let Ok((wanted, _)) = read(&request.into_parts().0) {
                prop_assert!(Reference::parse(&wanted.reference).is_ok());
            }
        }
    }
}
