//! What an issuer says to whoever asks for a device's code, and then for a token (RFC 8628).

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

/// One answer.
#[derive(Debug, Clone)]
pub enum DeviceAnswer {
    /// A status and an object.
    Json(u16, Value),
    /// A page, with status 200.
    Page(&'static str),
    /// The way to somewhere else.
    Redirect(String),
    /// So many bytes.
    Huge(usize),
    /// Nothing, until the asker hangs up.
    Silence,
}

/// The answers of both endpoints, and what was asked.
#[derive(Default)]
pub(super) struct Device {
    offer: Mutex<Option<DeviceAnswer>>,
    /// The last is given again and again.
    tokens: Mutex<VecDeque<DeviceAnswer>>,
    asked: Mutex<Vec<(String, String)>>,
}

impl DeviceAnswer {
    /// A code that stands for `life` seconds and may be asked about each second.
    pub fn offer(url: &str, device_code: &str, life: u64) -> Self {
        Self::Json(
            200,
            json!({
                "device_code": device_code, "user_code": "WDJB-MJHT", "verification_uri": format!("{url}/enter"),
                "verification_uri_complete": format!("{url}/enter?code=WDJB-MJHT"), "expires_in": life,
                "interval": 1,
            }),
        )
    }

    /// An error by its code, with words that are nobody's business.
    pub fn error(code: &str) -> Self {
        Self::Json(400, json!({ "error": code, "error_description": "words of the issuer" }))
    }
}

impl Device {
    pub(super) fn say(&self, offer: DeviceAnswer, tokens: Vec<DeviceAnswer>) {
        *self.offer.lock().unwrap_or_else(PoisonError::into_inner) = Some(offer);
        *self.tokens.lock().unwrap_or_else(PoisonError::into_inner) = tokens.into();
    }

    pub(super) fn asked(&self, path: &str) -> Vec<String> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.iter().filter(|(at, _)| at == path).map(|(_, form)| form.clone()).collect()
    }

    /// The answer at `path` to `form`; none where there is no such endpoint.
    pub(super) fn answer(&self, path: &str, form: &[u8]) -> Option<DeviceAnswer> {
        let answer = match path {
            OFFERS => self.offer.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            TOKENS => {
                let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
                if tokens.len() > 1 { tokens.pop_front() } else { tokens.front().cloned() }
            }
            _ => None,
        };
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.push((path.to_owned(), String::from_utf8_lossy(form).into_owned()));
        answer
    }
}

/// The paths of the two endpoints.
pub(super) const OFFERS: &str = "/device";
pub(super) const TOKENS: &str = "/token";
