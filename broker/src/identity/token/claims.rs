//! What every token has to say, whoever issued it: for whom it is, and when it counts.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::refused::Refused;

/// The issuer that a token names.
pub(super) fn issuer(claims: &Map<String, Value>) -> Result<&str, Refused> {
    claims.get("iss").and_then(Value::as_str).ok_or(Refused::Claim("iss"))
}

/// Checks `aud`, `exp`, `nbf` and `iat` (RFC 7519, section 4.1); answers when the token ends here, with the skew that
/// clocks are allowed.
pub(super) fn check(
    claims: &Map<String, Value>,
    audiences: &[String],
    skew: Duration,
    now: Timestamp,
) -> Result<Timestamp, Refused> {
    let aud = claims.get("aud").ok_or(Refused::Claim("aud"))?;
    let named: Option<Vec<&str>> = match aud {
        Value::String(one) => Some(vec![one]),
        Value::Array(several) => several.iter().map(Value::as_str).collect(),
        _ => None,
    };
    let named = named.ok_or(Refused::Claim("aud"))?;
    if !named.iter().any(|named| audiences.iter().any(|audience| audience == named)) {
        return Err(Refused::Audience);
    }
    let ends = time(claims, "exp")?.ok_or(Refused::Claim("exp"))?;
    let ends = ends.saturating_add(skew).map_err(|_| Refused::Claim("exp"))?;
    if now >= ends {
        return Err(Refused::Expired);
    }
    let latest = now.saturating_add(skew).map_err(|_| Refused::Claim("iat"))?;
    let issued = time(claims, "iat")?.ok_or(Refused::Claim("iat"))?;
    let begins = time(claims, "nbf")?;
    if issued > latest || begins.is_some_and(|begins| begins > latest) {
        return Err(Refused::NotYet);
    }
    Ok(ends)
}

/// A time, if given: whole seconds. Fractions are allowed by the standard and written by nobody.
fn time(claims: &Map<String, Value>, name: &'static str) -> Result<Option<Timestamp>, Refused> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let seconds = value.as_i64().filter(|seconds| *seconds >= 0).ok_or(Refused::Claim(name))?;
    Timestamp::from_second(seconds).map(Some).map_err(|_| Refused::Claim(name))
}
