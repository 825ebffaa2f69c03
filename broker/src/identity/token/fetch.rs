//! Where the keys of an issuer come from: its discovery document (OpenID Connect Discovery 1.0, section 4) or a file.

use std::path::PathBuf;
use std::time::Duration;

use bursar_backend_http::{Bearer, NotReached, Plaintext, SetupError, address, whole};
use bursar_core::secret::Gathered;
use bursar_core::settings::SecretSource;
use http::HeaderValue;
use http::header::{ACCEPT, AUTHORIZATION};
use reqwest::Url;
use serde_json::Value;

use super::json;
use super::keys::KeySet;
use super::servers::Servers;
use crate::config::{IssuerSettings, KeysPlace};
use crate::source;

/// The way to the keys of one issuer.
#[derive(Debug)]
pub(super) enum Source {
    File(PathBuf),
    Discovery { servers: Box<Servers>, issuer: String, base: Url, token: Option<SecretSource> },
}

impl Source {
    /// As the configuration says.
    ///
    /// # Errors
    /// [`SetupError`].
    pub(super) fn new(settings: &IssuerSettings) -> Result<Self, SetupError> {
        let (base, token) = match &settings.keys {
            KeysPlace::File(path) => return Ok(Self::File(path.clone())),
            KeysPlace::Discovery { base, token } => (base, token.clone()),
        };
        let servers = Box::new(Servers::new(&settings.name, settings.ca_file.as_deref(), TIMEOUT)?);
        Ok(Self::Discovery { servers, issuer: settings.issuer.clone(), base: base.clone(), token })
    }

    /// Fetches the set.
    ///
    /// # Errors
    /// [`Unfetched`].
    pub(super) async fn keys(&self) -> Result<KeySet, Unfetched> {
        let set = match self {
            Self::File(path) => {
                let set = tokio::fs::read(path).await.map_err(|_| Unfetched::File)?;
                return KeySet::parse(&set).ok_or(Unfetched::Set);
            }
            Self::Discovery { servers, issuer, base, token } => {
                let bearer = match token {
                    Some(token) => Some(own_token(token).await.map_err(Unfetched::OwnToken)?),
                    None => None,
                };
                let http = servers.client().await;
                let document = read(&http, below(base, DISCOVERY), bearer.as_ref()).await?;
                let document = json::object(document.bytes()).ok_or(Unfetched::Document)?;
                let text = |name: &str| document.get(name).and_then(Value::as_str);
                // Else whoever serves the document could speak for another issuer.
                if text("issuer") != Some(issuer) {
                    return Err(Unfetched::OtherIssuer);
                }
                let keys = text("jwks_uri").and_then(|uri| address(uri, Plaintext::Refused).ok());
                let keys = keys.ok_or(Unfetched::Document)?;
                // The broker's own token is for this server alone.
                let bearer = bearer.filter(|_| keys.origin() == base.origin());
                read(&http, keys, bearer.as_ref()).await?
            }
        };
        KeySet::parse(set.bytes()).ok_or(Unfetched::Set)
    }
}

/// `base` with a path below it.
pub(super) fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
    url
}

/// The broker's own token, as a header; it is read anew, since something else replaces it in time.
///
/// # Errors
/// Why there is none.
pub(super) async fn own_token(source: &SecretSource) -> Result<HeaderValue, String> {
    let source = source.clone();
    let token = tokio::task::spawn_blocking(move || source::fetch_token(&source)).await;
    let token = token.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    let bearer = Bearer::new(&token).ok_or("the broker's own token is empty, or no token")?;
    Ok(bearer.header())
}

async fn read(http: &reqwest::Client, url: Url, bearer: Option<&HeaderValue>) -> Result<Gathered, Unfetched> {
    let mut call = http.get(url).header(ACCEPT, HeaderValue::from_static("application/json"));
    if let Some(bearer) = bearer {
        call = call.header(AUTHORIZATION, bearer.clone());
    }
    let mut answer = call.send().await.map_err(|error| Unfetched::from(NotReached::from(error)))?;
    if answer.status() != http::StatusCode::OK {
        return Err(Unfetched::Status(answer.status().as_u16()));
    }
    whole(&mut answer, LONGEST_BODY).await.map_err(|unread| Unfetched::from(NotReached::from(unread)))
}

/// Why there are no new keys.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unfetched {
    #[error("it is not reached: {0}")]
    NotReached(String),
    #[error("it takes too long")]
    Late,
    #[error("it answers with status {0}")]
    Status(u16),
    #[error("its discovery document is none, or has no `jwks_uri` that begins with `https://`")]
    Document,
    #[error(
        "its discovery document is that of another issuer: its `issuer` is not the configured one to the letter"
    )]
    OtherIssuer,
    #[error("its key set is none, or has no key that signatures are accepted by")]
    Set,
    #[error("the file of the key set cannot be read")]
    File,
    #[error("`discovery_token` is not there: {0}")]
    OwnToken(String),
}

impl From<NotReached> for Unfetched {
    fn from(failure: NotReached) -> Self {
        Self::NotReached(failure.cause)
    }
}

impl Unfetched {
    /// The name in metrics.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::NotReached(_) => "unreachable",
            Self::Late => "timeout",
            Self::Status(_) => "refused",
            Self::Document | Self::Set => "malformed",
            Self::OtherIssuer => "other_issuer",
            Self::File | Self::OwnToken(_) => "unreadable",
        }
    }
}

const DISCOVERY: &str = "/.well-known/openid-configuration";
const TIMEOUT: Duration = Duration::from_secs(3);
const LONGEST_BODY: usize = 512 * 1024;
