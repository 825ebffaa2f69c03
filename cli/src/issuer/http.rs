//! Calls to an issuer: TLS alone, no redirects, no proxy, bounded in time and size, and wiped.

use std::error::Error as StdError;
use std::path::Path;
use std::time::Duration;

use bursar_core::backend::causes;
use bursar_core::secret::Gathered;
use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use reqwest::{Certificate, Client, RequestBuilder, Url, redirect};

use super::error::IssuerError;

pub(super) struct Http(Client);

impl Http {
    /// Trusts the authorities in `ca`, or the system's.
    pub(super) fn new(ca: Option<&Path>) -> Result<Self, IssuerError> {
        let client = Client::builder()
            .tls_backend_rustls()
            .https_only(true)
            // One that is followed takes the code elsewhere.
            .redirect(redirect::Policy::none())
            .no_proxy()
            .retry(reqwest::retry::never())
            .referer(false)
            .user_agent("bursar")
            .connect_timeout(CONNECT_LIMIT)
            .timeout(LIMIT);
        let client = match ca {
            Some(path) => client.tls_certs_only(authorities(path)?),
            None => client,
        };
        client.build().map(Self).map_err(|error| IssuerError::Setup { cause: last_cause(&error) })
    }

    /// Fetches a document.
    pub(super) async fn get(&self, url: Url) -> Result<(u16, Gathered), IssuerError> {
        exchange(self.0.get(url)).await
    }

    /// Sends a form.
    pub(super) async fn post(&self, url: Url, form: Bytes) -> Result<(u16, Gathered), IssuerError> {
        exchange(self.0.post(url).header(CONTENT_TYPE, FORM).body(form)).await
    }
}

fn authorities(path: &Path) -> Result<Vec<Certificate>, IssuerError> {
    let unreadable = |source| IssuerError::Authority { path: path.to_owned(), source };
    let pem = std::fs::read(path).map_err(unreadable)?;
    match Certificate::from_pem_bundle(&pem) {
        Ok(authorities) if !authorities.is_empty() => Ok(authorities),
        _ => Err(IssuerError::NoCertificate { path: path.to_owned() }),
    }
}

async fn exchange(call: RequestBuilder) -> Result<(u16, Gathered), IssuerError> {
    let mut answer = call.header(ACCEPT, JSON).send().await.map_err(not_reached)?;
    let mut body = Gathered::up_to(LONGEST);
    while let Some(piece) = answer.chunk().await.map_err(not_reached)? {
        if !body.push(&piece) {
            return Err(IssuerError::TooLong { limit: LONGEST });
        }
    }
    Ok((answer.status().as_u16(), body))
}

fn not_reached(error: reqwest::Error) -> IssuerError {
    let refused = causes(&error)
        .any(|cause| matches!(cause.downcast_ref(), Some(rustls::Error::InvalidCertificate(_))));
    match () {
        () if error.is_timeout() => IssuerError::Late,
        () if refused => IssuerError::Certificate { cause: last_cause(&error) },
        () => IssuerError::NotReached { cause: last_cause(&error) },
    }
}

/// It speaks of sockets and certificates.
fn last_cause(error: &(dyn StdError + 'static)) -> String {
    causes(error).last().map_or_else(|| error.to_string(), ToString::to_string)
}

const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
const LIMIT: Duration = Duration::from_secs(10);
/// Discovery documents are the longest, with a few tens of KiB.
const LONGEST: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_server_that_hangs_is_given_up() {
        drop(rustls::crypto::ring::default_provider().install_default());
        // The system takes the connection, and nobody ever reads it.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("https://{}", listener.local_addr().expect("an address"));
        let hung = Http::new(None).expect("a client").get(Url::parse(&url).expect("a URL")).await;
        assert!(matches!(hung, Err(IssuerError::Late)));
    }

    #[test]
    fn an_authority_has_to_be_one() {
        let missing = Http::new(Some(Path::new("/nowhere/ca.pem")));
        assert!(matches!(missing, Err(IssuerError::Authority { .. })));
        let file = tempfile::NamedTempFile::new().expect("file");
        std::fs::write(file.path(), "no certificate").expect("written");
        assert!(matches!(Http::new(Some(file.path())), Err(IssuerError::NoCertificate { .. })));
    }
}
