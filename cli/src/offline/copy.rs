//! What a copy is of, and what is in it.

use std::path::Path;
use std::time::Duration;

use bursar_proto::convert::{duration_to_wire, wire_bytes};
use bursar_proto::v1;
use bursar_sdk::{Contract, KeptEnvironment, ResolvedEnvironment};
use jiff::Timestamp;
use prost::Message;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::error::OfflineError;

/// What a copy is bound to. It stands before what is encrypted, readable by whoever has the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Head {
    pub(crate) environment: String,
    /// Of the environment.
    pub(crate) revision: u64,
    /// Its address, as it is configured.
    pub(crate) broker: String,
    /// To whom it was given: a SPIFFE ID, which has the broker's trust domain in it.
    pub(crate) principal: String,
    /// By the broker's clock.
    pub(crate) given_at: Timestamp,
    pub(crate) usable_until: Timestamp,
}

impl Head {
    pub(crate) fn of(environment: &str, broker: String, kept: &KeptEnvironment) -> Self {
        Self {
            environment: environment.to_owned(),
            revision: kept.environment.revision,
            broker,
            principal: kept.principal.to_string(),
            given_at: kept.given_at,
            usable_until: kept.usable_until,
        }
    }

    /// The beginning of a file: two lines.
    pub(super) fn written(&self) -> Result<Vec<u8>, OfflineError> {
        let mut head = format!("{FORM}\n").into_bytes();
        serde_json::to_writer(&mut head, self).map_err(|_| OfflineError::Unsealable)?;
        head.push(b'\n');
        Ok(head)
    }

    /// What `file` says of itself, and how long that is, in bytes. Nothing, when it is no copy.
    pub(crate) fn read(file: &[u8]) -> Option<(Self, usize)> {
        let rest = file.strip_prefix(FORM.as_bytes())?.strip_prefix(b"\n")?;
        let line = rest.get(..rest.len().min(LONGEST))?;
        let line = line.get(..line.iter().position(|byte| *byte == b'\n')?)?;
        let head = serde_json::from_slice(line).ok()?;
        Some((head, FORM.len() + 1 + line.len() + 1))
    }

    /// Whether it may be used at `now`.
    ///
    /// # Errors
    /// [`OfflineError::Over`], [`OfflineError::ClockBack`].
    pub(crate) fn usable(&self, now: Timestamp) -> Result<(), OfflineError> {
        let Self { environment, given_at, usable_until, .. } = self;
        let (environment, given_at, usable_until) = (environment.clone(), *given_at, *usable_until);
        if now >= usable_until {
            return Err(OfflineError::Over { environment, usable_until });
        }
        if is_before(now, given_at) {
            return Err(OfflineError::ClockBack { environment, given_at, now });
        }
        Ok(())
    }

    /// Whether this machine's clock and the broker's are so close that the copy ends when it should.
    ///
    /// # Errors
    /// [`OfflineError::ClockOff`].
    pub(crate) fn is_timely(&self, now: Timestamp) -> Result<(), OfflineError> {
        let broker = self.given_at;
        match is_before(now, broker) || is_before(broker, now) {
            true => Err(OfflineError::ClockOff { now, broker }),
            false => Ok(()),
        }
    }

    /// Whether it is the one that was asked for: a file can be renamed.
    ///
    /// # Errors
    /// [`OfflineError::OfSomethingElse`].
    pub(crate) fn is_of(&self, environment: &str, broker: &str, path: &Path) -> Result<(), OfflineError> {
        if self.environment == environment && self.broker == broker {
            return Ok(());
        }
        let (environment, broker) = (self.environment.clone(), self.broker.clone());
        Err(OfflineError::OfSomethingElse { path: path.to_owned(), environment, broker })
    }
}

fn is_before(time: Timestamp, other: Timestamp) -> bool {
    Duration::try_from(other.duration_since(time)).is_ok_and(|distance| distance > SKEW)
}

/// The values, as a broker sends them, with room for `more` bytes behind them. Without leases: nobody can do anything with
/// those where no broker is.
pub(super) fn encoded(
    environment: &ResolvedEnvironment,
    more: usize,
) -> Result<Zeroizing<Vec<u8>>, OfflineError> {
    let variables = environment.variables.iter().map(|variable| v1::ResolvedVariable {
        name: variable.name.clone(),
        value: wire_bytes(&variable.value),
        secret: variable.secret,
        lease_ids: Vec::new(),
        on_change: variable.contract.on_change.into(),
        max_stale: max_stale(&variable.contract),
        age: None,
    });
    let files = environment.files.iter().map(|file| v1::ResolvedFile {
        path: file.path.clone(),
        mode: file.mode,
        contents: wire_bytes(&file.contents),
        secret: file.secret,
        lease_ids: Vec::new(),
        on_change: file.contract.on_change.into(),
        max_stale: max_stale(&file.contract),
        age: None,
    });
    let message = v1::EnvironmentsResolveResponse {
        revision: environment.revision,
        variables: variables.collect(),
        files: files.collect(),
        leases: Vec::new(),
        offline: None,
    };
    // Of its final size: one that grows leaves copies behind.
    let mut encoded = Zeroizing::new(Vec::with_capacity(message.encoded_len() + more));
    message.encode(&mut *encoded).map_err(|_| OfflineError::Unsealable)?;
    Ok(encoded)
}

/// The way back from [`encoded`]. Nothing, when it is none.
pub(super) fn decoded(encoded: &[u8]) -> Option<ResolvedEnvironment> {
    let message = v1::EnvironmentsResolveResponse::decode(encoded).ok()?;
    message.try_into().ok()
}

fn max_stale(contract: &Contract) -> Option<prost_types::Duration> {
    contract.max_stale.map(duration_to_wire)
}

const FORM: &str = "bursar offline copy 1";
/// A SPIFFE ID has at most 2,048 bytes, the name of an environment and of a host 255 each, and JSON makes at most six of
/// one.
const LONGEST: usize = 16 * 1024;
/// How far apart clocks are without that anything is wrong.
const SKEW: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
