//! Asks a cluster whether a token still counts: `TokenReview` of `authentication.k8s.io/v1`. A signature holds until the
//! token ends; the cluster knows that the pod is gone.

use std::time::Duration;

use bursar_backend_http::{SetupError, body, whole};
use bursar_core::Secret;
use bursar_core::settings::SecretSource;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use reqwest::Url;
use serde_json::{Map, Value, json};

use super::fetch::{below, own_token};
use super::json;
use super::kubernetes::Account;
use super::refused::Refused;
use super::servers::Servers;
use crate::config::{OnOutage, ReviewSettings};

/// The way to one cluster.
#[derive(Debug)]
pub(super) struct Review {
    servers: Servers,
    url: Url,
    token: SecretSource,
    on_outage: OnOutage,
    issuer: String,
    audiences: Vec<String>,
}

impl Review {
    /// As the configuration says.
    ///
    /// # Errors
    /// [`SetupError`].
    pub(super) fn new(
        settings: &ReviewSettings,
        issuer: &str,
        audiences: &[String],
    ) -> Result<Self, SetupError> {
        Ok(Self {
            servers: Servers::new(issuer, settings.ca_file.as_deref(), TIMEOUT)?,
            url: below(&settings.server, PATH),
            token: settings.token.clone(),
            on_outage: settings.on_outage,
            issuer: issuer.to_owned(),
            audiences: audiences.to_vec(),
        })
    }

    /// Whether the cluster knows `token`, and by the same name.
    ///
    /// # Errors
    /// [`Refused::Review`], and [`Refused::ReviewUnavailable`] when an outage is to count as a no.
    pub(super) async fn confirm(&self, token: &str, account: &Account) -> Result<(), Refused> {
        match self.ask(token).await {
            Ok(status) => match self.agrees(&status, account) {
                true => Ok(()),
                false => Err(Refused::Review),
            },
            Err(Unasked { outage, cause }) => {
                tracing::warn!(issuer = self.issuer, cause, "the cluster could not be asked about a token");
                match (outage, self.on_outage) {
                    (true, OnOutage::Serve) => Ok(()),
                    _ => Err(Refused::ReviewUnavailable),
                }
            }
        }
    }

    /// A server that knows no audiences leaves them out of its answer: it has not looked whether the token is for us.
    fn agrees(&self, status: &Map<String, Value>, account: &Account) -> bool {
        let text = |at: &str| status.get("user").and_then(|user| user.get(at)).and_then(Value::as_str);
        let audiences = status.get("audiences").and_then(Value::as_array);
        let ours = audiences.is_some_and(|audiences| {
            audiences.iter().filter_map(Value::as_str).any(|one| self.audiences.iter().any(|our| our == one))
        });
        status.get("authenticated") == Some(&Value::Bool(true))
            && text("username") == Some(&account.user)
            && text("uid").is_none_or(|uid| uid == account.uid)
            && ours
    }

    async fn ask(&self, token: &str) -> Result<Map<String, Value>, Unasked> {
        let own = own_token(&self.token).await.map_err(Unasked::ours)?;
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": { "token": token, "audiences": self.audiences },
        });
        let review = serde_json::to_vec(&review).map(Secret::new).map_err(|_| Unasked::odd())?;
        let call = self.servers.client().await.post(self.url.clone()).body(body(review));
        let call = call.header(AUTHORIZATION, own);
        let call = call.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let mut answer = call.send().await.map_err(|error| Unasked::away(error.into()))?;
        match answer.status() {
            status if status.is_success() => {}
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                return Err(Unasked { outage: true, cause: format!("it answers with status {status}") });
            }
            status => {
                let cause = format!("it answers with status {status}; may the broker create `tokenreviews`?");
                return Err(Unasked::ours(cause));
            }
        }
        let answer = whole(&mut answer, LONGEST_BODY).await.map_err(|unread| Unasked::away(unread.into()))?;
        let mut review = json::object(answer.bytes()).ok_or_else(Unasked::odd)?;
        match review.remove("status") {
            Some(Value::Object(status)) => Ok(status),
            _ => Err(Unasked::odd()),
        }
    }
}

/// Why a cluster did not say.
struct Unasked {
    /// Whether it will pass by itself: what is wrong with the configuration is no outage.
    outage: bool,
    cause: String,
}

impl Unasked {
    fn away(failure: bursar_backend_http::NotReached) -> Self {
        Self { outage: true, cause: failure.cause }
    }

    fn ours(cause: String) -> Self {
        Self { outage: false, cause }
    }

    fn odd() -> Self {
        Self::ours("its answer is no TokenReview".to_owned())
    }
}

const PATH: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
const TIMEOUT: Duration = Duration::from_secs(3);
const LONGEST_BODY: usize = 128 * 1024;
