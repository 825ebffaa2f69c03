//! The two calls of IAM that this backend makes: an inline policy of a role is read, and put.
//! <https://docs.aws.amazon.com/IAM/latest/APIReference/API_PutRolePolicy.html>
//!
//! By hand, since the SDK's crate for IAM has some 170 operations and takes as long to build as the rest of this
//! backend. The signature is the SDK's, and so are the errors, so that a refusal is read like any other.

use std::error::Error;
use std::sync::Arc;
use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sdk_sts::error::{ErrorMetadata, ProvideErrorMetadata, SdkError};
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use aws_smithy_runtime_api::client::identity::Identity;
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use aws_smithy_xml::decode::{Document, try_data};
use bursar_core::Clock;
use percent_encoding::percent_decode_str;

use crate::http::Http;
use crate::session::Session;

/// IAM of the account that the broker works in.
#[derive(Debug)]
pub(crate) struct Iam {
    pub(crate) place: Place,
    pub(crate) http: Http,
    pub(crate) session: Arc<Session>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// Where IAM is, which has one address and one region for all of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Without a `/` at its end.
    endpoint: String,
    region: String,
}

/// An inline policy of a role.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PolicyName<'a> {
    pub(crate) role: &'a str,
    pub(crate) policy: &'a str,
}

impl Place {
    /// For the partition that `region` is of, at `endpoint` where one is given; none where neither says it.
    pub(crate) fn of(region: &str, endpoint: Option<&str>) -> Option<Self> {
        let known = PARTITIONS.iter().find(|(start, ..)| region.starts_with(start));
        let known = match known {
            Some((_, _, "")) => None,
            other => other,
        };
        let endpoint = endpoint.or(known.map(|(.., endpoint)| *endpoint))?;
        let region = known.map_or(region, |(_, region, _)| region);
        Some(Self { endpoint: endpoint.trim_end_matches('/').to_owned(), region: region.to_owned() })
    }
}

impl Iam {
    /// The document of a policy.
    pub(crate) async fn role_policy(&self, name: PolicyName<'_>) -> Result<String, SdkError<Refused>> {
        let answer = self.call("GetRolePolicy", name, &[]).await?;
        let document = answer.body().bytes().and_then(|body| element(body, "PolicyDocument"));
        // As in an address: RFC 3986.
        let document = document
            .and_then(|document| Some(percent_decode_str(&document).decode_utf8().ok()?.into_owned()));
        document.ok_or_else(|| SdkError::response_error("no policy in it", answer))
    }

    /// Puts a policy in the place of the one of that name, or adds it.
    pub(crate) async fn put_role_policy(
        &self,
        name: PolicyName<'_>,
        document: &str,
    ) -> Result<(), SdkError<Refused>> {
        self.call("PutRolePolicy", name, &[("PolicyDocument", document)]).await.map(drop)
    }

    async fn call(
        &self,
        action: &str,
        name: PolicyName<'_>,
        more: &[(&str, &str)],
    ) -> Result<HttpResponse, SdkError<Refused>> {
        let login = self.session.login().await;
        let login = login.map_err(|error| SdkError::dispatch_failure(ConnectorError::user(error.into())))?;
        let all = [("Action", action), ("Version", "2010-05-08"), ("RoleName", name.role)];
        let all = [&all[..], &[("PolicyName", name.policy)], more].concat();
        let pairs: Vec<_> = all.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        let body = SdkBody::from(bursar_backend_http::form(&pairs));
        let request = self.signed(body, login.credential.clone()).map_err(SdkError::construction_failure)?;
        let answer = self.http.send(request).await.map_err(SdkError::dispatch_failure)?;
        match answer.status().is_success() {
            true => Ok(answer),
            false => Err(SdkError::service_error(Refused::read(&answer), answer)),
        }
    }

    fn signed(&self, body: SdkBody, credentials: Credentials) -> Result<HttpRequest, Unsigned> {
        let identity = Identity::from(credentials);
        let params = SigningParams::builder()
            .identity(&identity)
            .region(&self.place.region)
            .name("iam")
            .time(SystemTime::try_from(self.clock.now())?)
            .settings(SigningSettings::default())
            .build()?;
        let uri = format!("{}/", self.place.endpoint);
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let signable = SignableBody::Bytes(body.bytes().unwrap_or_default());
        let signable = SignableRequest::new("POST", uri.as_str(), headers.into_iter(), signable)?;
        let (signature, _) = sign(signable, &params.into())?.into_parts();
        let mut request = HttpRequest::new(body);
        request.set_method("POST")?;
        request.set_uri(uri)?;
        for (name, value) in headers.into_iter().chain(signature.headers()) {
            request.headers_mut().try_insert(name.to_owned(), value.to_owned())?;
        }
        Ok(request)
    }
}

/// What IAM refused, by its code alone.
#[derive(Debug, thiserror::Error)]
#[error("IAM refused it")]
pub(crate) struct Refused(ErrorMetadata);

impl Refused {
    fn read(answer: &HttpResponse) -> Self {
        let mut meta = ErrorMetadata::builder();
        if let Some(code) = answer.body().bytes().and_then(|body| element(body, "Code")) {
            meta = meta.code(code);
        }
        Self(meta.build())
    }
}

impl ProvideErrorMetadata for Refused {
    fn meta(&self) -> &ErrorMetadata {
        &self.0
    }
}

/// The text of the first element of that name, wherever it is.
fn element(body: &[u8], name: &str) -> Option<String> {
    let mut document = Document::try_from(body).ok()?;
    while let Some(start) = document.next_start_element() {
        if start.local() == name {
            return Some(try_data(&mut document.scoped_to(start)).ok()?.into_owned());
        }
    }
    None
}

/// A request that cannot be made.
type Unsigned = Box<dyn Error + Send + Sync>;

/// What regions of a partition begin with, the region in which its IAM takes signatures, and where that is: the first
/// that fits. Of those without an address the configuration has to say it.
/// <https://docs.aws.amazon.com/general/latest/gr/iam-service.html>
const PARTITIONS: &[(&str, &str, &str)] = &[
    ("cn-", "cn-north-1", "https://iam.cn-north-1.amazonaws.com.cn"),
    ("us-gov-", "us-gov-west-1", "https://iam.us-gov.amazonaws.com"),
    ("us-iso", "", ""),
    ("eu-iso", "", ""),
    ("eusc-", "", ""),
    ("", "us-east-1", "https://iam.amazonaws.com"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn place(region: &str, endpoint: Option<&str>) -> Option<(String, String)> {
        Place::of(region, endpoint).map(|place| (place.endpoint, place.region))
    }

    #[test]
    fn each_partition_has_its_own_iam() {
        let table = [
            ("eu-central-1", "https://iam.amazonaws.com", "us-east-1"),
            ("us-east-2", "https://iam.amazonaws.com", "us-east-1"),
            ("cn-northwest-1", "https://iam.cn-north-1.amazonaws.com.cn", "cn-north-1"),
            ("us-gov-east-1", "https://iam.us-gov.amazonaws.com", "us-gov-west-1"),
        ];
        for (region, endpoint, signed) in table {
            assert_eq!(place(region, None), Some((endpoint.to_owned(), signed.to_owned())), "{region}");
        }
    }

    #[test]
    fn an_endpoint_that_is_configured_counts_and_is_needed_where_none_is_known() {
        let own = || "https://iam.example".to_owned();
        let given = Some("https://iam.example/");
        assert_eq!(place("eu-central-1", given), Some((own(), "us-east-1".to_owned())));
        assert_eq!(place("us-iso-east-1", given), Some((own(), "us-iso-east-1".to_owned())));
        assert_eq!(place("us-iso-east-1", None), None);
        assert_eq!(place("eusc-de-east-1", None), None);
    }

    #[test]
    fn an_element_is_found_and_its_text_unescaped() {
        let text = |xml: &str| element(xml.as_bytes(), "Code");
        assert_eq!(text("<E><Error><Type>S</Type><Code>a&amp;b</Code></Error></E>").as_deref(), Some("a&b"));
        assert_eq!(text("<Code/>").as_deref(), Some(""));
        for none in ["", "<html>", "{}", "<E><Code><x/></Code></E>", "<E>Code</E>", "\u{0}"] {
            assert_eq!(text(none), None, "`{none}`");
        }
        assert_eq!(element(b"<Code>\xff</Code>", "Code"), None);
    }
}
