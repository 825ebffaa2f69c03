//! What comes next: a pure function of what is kept, what the API server trusts, and what time it is there.
//!
//! No replica ever serves what the API server does not trust yet, and none is cut off that still serves what was before:
//! an authority is trusted for [`OVERLAP`] before it signs, and as long after it signed last.

use std::time::Duration;

use jiff::Timestamp;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::kept::Kept;
use super::made::{AUTHORITY, Life, Pair};
use crate::config::SelfMade;

/// What is to be kept, and what was done to get there, where it is not what is kept already. `trusted` is what is in the
/// configuration now.
///
/// # Errors
/// rcgen's, when the system gives no randomness.
pub(super) fn next(
    kept: Option<Kept>,
    trusted: &str,
    now: Timestamp,
    settings: &SelfMade,
) -> Result<(Kept, Option<&'static str>), rcgen::Error> {
    let names = names(settings);
    let lives = |kept: &Kept| Some((kept.authority.life()?, kept.server.life()?));
    let usable = kept.and_then(|kept| lives(&kept).map(|lives| (kept, lives)));
    let usable = usable.filter(|(_, (authority, _))| now < authority.ends);
    let Some((mut kept, (authority, server))) = usable else {
        // Replicas may still serve what was signed by whoever is trusted now.
        let authority = Pair::authority(now, settings.ca_life)?;
        let server = authority.sign(&names, now, settings.life)?;
        let before = ours(trusted, now);
        return Ok((Kept { authority, next: None, before, server }, Some("authority")));
    };
    if kept.before.is_some() && server.is_older_than(OVERLAP, now) {
        kept.before = None;
        return Ok((kept, Some("forgotten")));
    }
    if server.is_due(now) {
        kept.server = kept.authority.sign(&names, now, settings.life)?;
        return Ok((kept, Some("issued")));
    }
    match kept.next.take() {
        Some(next) => {
            let is_known = trusted.contains(next.certificate.trim());
            let life = next.life().filter(|life| is_known && life.is_older_than(OVERLAP, now));
            if life.is_some() {
                let server = next.sign(&names, now, settings.life)?;
                let before = Some(kept.authority.certificate);
                return Ok((Kept { authority: next, next: None, before, server }, Some("issued")));
            }
            kept.next = Some(next);
        }
        None if authority.is_due(now) => {
            kept.next = Some(Pair::authority(now, settings.ca_life)?);
            return Ok((kept, Some("authority")));
        }
        None => {}
    }
    Ok((kept, None))
}

/// Whom the API server asks for.
fn names(settings: &SelfMade) -> Vec<String> {
    vec![format!("{}.{}.svc", settings.service, settings.namespace)]
}

/// Of what is trusted, the authorities of ours that have not ended.
fn ours(trusted: &str, now: Timestamp) -> Option<String> {
    let is_ours = |pem: &Pem| {
        let Ok((_, read)) = X509Certificate::from_der(&pem.contents) else { return false };
        if pem.label != "CERTIFICATE" {
            return false;
        }
        let mut names = read.subject().iter_common_name().filter_map(|name| name.as_str().ok());
        names.any(|name| name.starts_with(AUTHORITY))
    };
    let mut kept = String::new();
    for block in trusted.split_inclusive("-----END CERTIFICATE-----") {
        let block = block.trim_start();
        let pem = Pem::iter_from_buffer(block.as_bytes()).next().and_then(Result::ok);
        if pem.as_ref().is_some_and(is_ours) && Life::of(block).is_some_and(|life| now < life.ends) {
            kept.push_str(block);
            kept.push('\n');
        }
    }
    (!kept.is_empty()).then_some(kept)
}

/// Longer than all replicas and all API servers need to hear of a change.
pub(super) const OVERLAP: Duration = Duration::from_secs(600);
