//! A token for a person, by the device grant (RFC 8628): this program shows an address and a code, the person signs in
//! there with whatever browser is at hand and says yes, and this program, which asks every few seconds, is given the
//! token. No password passes here, nothing has to listen here, and it works over SSH.
//!
//! Nothing but the token that was asked for is kept of what the issuer gives. A refresh token above all is dropped with
//! the answer it came in: it would be a session, which somebody could take away and use for weeks.
//!
//! What an issuer writes is a stranger's text. Of its errors only codes that the standards name are shown, never its own
//! descriptions; the address and the code, which a person has to see, are checked and short.

mod device;
mod error;
mod http;
mod kept;

use bursar_core::Secret;
use bursar_core::secret::json;
use reqwest::Url;
use serde::Deserialize;
use serde_json::value::RawValue;

pub(crate) use self::error::IssuerError;
use self::error::{DISCOVERY, OFFER, TOKEN};
use self::http::Http;
pub(crate) use self::kept::Kept;
use crate::disclose;
use crate::settings::{IssuerSettings, Use, address};

/// An issuer whose endpoints are known.
pub(crate) struct Issuer<'settings> {
    settings: &'settings IssuerSettings,
    http: Http,
    offers: Url,
    tokens: Url,
}

/// What a person is asked to approve, and how long it stands.
pub(crate) struct Offer {
    device_code: Secret,
    pub(crate) user_code: String,
    pub(crate) address: Url,
    /// The same with the code in it.
    pub(crate) address_with_code: Option<Url>,
    pub(crate) life: std::time::Duration,
    interval: std::time::Duration,
}

/// What an issuer says while a person has not decided.
enum Answer {
    Token(Secret),
    Pending,
    SlowDown,
}

impl<'settings> Issuer<'settings> {
    /// Asks the issuer where its endpoints are (OpenID Connect Discovery 1.0, section 4; RFC 8414).
    ///
    /// # Errors
    /// [`IssuerError`].
    pub(crate) async fn discover(settings: &'settings IssuerSettings) -> Result<Self, IssuerError> {
        let http = Http::new(settings.ca.as_deref())?;
        let mut url = settings.url.clone();
        url.set_path(&format!("{}{WELL_KNOWN}", settings.url.path().trim_end_matches('/')));
        let (status, body) = http.get(url).await?;
        if status != 200 {
            return Err(IssuerError::Status { place: DISCOVERY, status });
        }
        let document: Document = read(body.bytes(), DISCOVERY)?;
        // Else whoever serves the document could speak for another issuer.
        if document.issuer != settings.issuer {
            return Err(IssuerError::OtherIssuer);
        }
        let malformed = IssuerError::Malformed { place: DISCOVERY };
        let offers = document.device_authorization_endpoint.ok_or(IssuerError::NoDeviceGrant)?;
        let tokens = document.token_endpoint.as_deref().and_then(address);
        match (address(&offers), tokens) {
            (Some(offers), Some(tokens)) => Ok(Self { settings, http, offers, tokens }),
            _ => Err(malformed),
        }
    }

    /// Begins: what the person has to approve.
    ///
    /// # Errors
    /// [`IssuerError`].
    pub(crate) async fn offer(&self) -> Result<Offer, IssuerError> {
        let mut whose =
            vec![("client_id", self.settings.client_id.as_str()), ("scope", &self.settings.scope)];
        whose.extend(self.settings.audience.as_deref().map(|audience| ("audience", audience)));
        let (status, body) = self.http.post(self.offers.clone(), disclose::to_issuer(&whose, None)).await?;
        if status != 200 {
            return Err(IssuerError::of(OFFER, status, body.bytes()));
        }
        let written: WrittenOffer<'_> = read(body.bytes(), OFFER)?;
        written.check().ok_or(IssuerError::Malformed { place: OFFER })
    }

    /// Waits until the person has decided.
    ///
    /// # Errors
    /// [`IssuerError`].
    pub(crate) async fn token(&self, offer: &Offer) -> Result<Secret, IssuerError> {
        device::decided(offer.life, offer.interval, || self.ask(offer)).await
    }

    async fn ask(&self, offer: &Offer) -> Result<Answer, IssuerError> {
        let whose = [("grant_type", GRANT), ("client_id", self.settings.client_id.as_str())];
        let form = disclose::to_issuer(&whose, Some(("device_code", &offer.device_code)));
        let (status, body) = self.http.post(self.tokens.clone(), form).await?;
        if status != 200 {
            return match IssuerError::of(TOKEN, status, body.bytes()) {
                IssuerError::Refused { code: "authorization_pending" } => Ok(Answer::Pending),
                IssuerError::Refused { code: "slow_down" } => Ok(Answer::SlowDown),
                other => Err(other),
            };
        }
        let given: Given<'_> = read(body.bytes(), TOKEN)?;
        let (token, missing) = match self.settings.which {
            Use::IdToken => (given.id_token, IssuerError::NoIdToken),
            Use::AccessToken => (given.access_token, IssuerError::Malformed { place: TOKEN }),
        };
        let token = token.ok_or(missing)?;
        let token = text(token).filter(|token| token.len() <= LONGEST_TOKEN);
        token.map(Answer::Token).ok_or(IssuerError::Malformed { place: TOKEN })
    }
}

#[derive(Deserialize)]
struct Document {
    issuer: String,
    token_endpoint: Option<String>,
    device_authorization_endpoint: Option<String>,
}

/// RFC 8628, section 3.2.
#[derive(Deserialize)]
struct WrittenOffer<'body> {
    #[serde(borrow)]
    device_code: &'body RawValue,
    user_code: String,
    verification_uri: String,
    verification_uri_complete: Option<String>,
    expires_in: u64,
    interval: Option<u64>,
}

impl WrittenOffer<'_> {
    fn check(self) -> Option<Offer> {
        let shown = |url: &Url| url.as_str().len() <= LONGEST_SHOWN;
        let address = self.verification_uri.as_str();
        let address = self::address(address).filter(shown)?;
        // A person who is shown one address must not be sent to another.
        let same = |url: &Url| url.origin() == address.origin();
        let complete = self.verification_uri_complete.as_deref().and_then(self::address);
        let code = Some(self.user_code).filter(|code| {
            (1..=LONGEST_CODE).contains(&code.len())
                && code.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
        })?;
        Some(Offer {
            device_code: text(self.device_code)?,
            user_code: code,
            address_with_code: complete.filter(shown).filter(same),
            address,
            life: device::life(self.expires_in),
            interval: device::interval(self.interval),
        })
    }
}

/// RFC 6749, section 5.1, and OpenID Connect Core 1.0, section 3.1.3.3. What else there is, a refresh token for one, is
/// not taken out of the answer.
#[derive(Deserialize)]
struct Given<'body> {
    #[serde(borrow)]
    id_token: Option<&'body RawValue>,
    #[serde(borrow)]
    access_token: Option<&'body RawValue>,
}

fn read<'body, T: Deserialize<'body>>(body: &'body [u8], place: &'static str) -> Result<T, IssuerError> {
    // The cause is dropped: it may quote the answer.
    serde_json::from_slice(body).map_err(|_| IssuerError::Malformed { place })
}

/// A member that is a text, as a secret.
fn text(value: &RawValue) -> Option<Secret> {
    value.get().starts_with('"').then(|| json::secret(value))?.filter(|text| !text.is_empty())
}

const WELL_KNOWN: &str = "/.well-known/openid-configuration";
const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
const LONGEST_SHOWN: usize = 512;
const LONGEST_CODE: usize = 64;
/// What a broker takes.
const LONGEST_TOKEN: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(uri: &str, complete: &str, code: &str) -> Option<Offer> {
        let json = serde_json::json!({
            "device_code": "d", "user_code": code, "verification_uri": uri, "expires_in": 60,
            "verification_uri_complete": complete,
        });
        let json = json.to_string();
        serde_json::from_str::<WrittenOffer<'_>>(&json).expect("an offer").check()
    }

    #[test]
    fn a_person_is_shown_one_place_and_a_code_that_cannot_deceive() {
        let fair =
            offer("https://login/device", "https://login/device?code=AB-CD", "AB-CD").expect("an offer");
        assert_eq!(
            fair.address_with_code.map(String::from).as_deref(),
            Some("https://login/device?code=AB-CD")
        );
        let elsewhere = offer("https://login/device", "https://evil/device", "AB-CD").expect("an offer");
        assert_eq!(elsewhere.address_with_code, None);
        for uri in ["http://login/device", "javascript:alert(1)", "login/device", "https://u:p@login"] {
            assert!(offer(uri, "", "AB-CD").is_none(), "{uri}");
        }
        for code in ["", "\u{1b}[2J", "AB\nCD", "\u{202e}DC-BA", &"A".repeat(65)] {
            assert!(offer("https://login/device", "", code).is_none(), "{code:?}");
        }
    }
}
