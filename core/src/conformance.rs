//! What every backend has to do, whatever store is behind it: one suite, run against the real thing.
//!
//! A backend's own tests know its protocol; this knows only the contract of [`backend`](crate::backend). A case fails
//! with a sentence that says what the store did instead. Whoever writes a backend makes a [`Site`] for it and goes
//! through the list until nothing is left.

use std::fmt::Display;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::backend::{Backend, BackendError, ErrorKind, Fetched, Issued, Leasing, Operation};
use crate::secret::SecretData;
use crate::{Clock, FieldName, Secret, SecretPath, SystemClock, Version};

mod leasing;
mod reading;
mod trouble;
mod writing;

/// A store, real and running, as the suite needs it.
#[async_trait]
pub trait Site: Send + Sync {
    /// The backend, connected to it.
    fn backend(&self) -> &dyn Backend;

    /// Where secrets of the suite lie: `name` below a mount, or just `name`.
    fn path(&self, name: &str) -> String;

    /// Whether secrets can be kept in it. A store that does not only creates credentials.
    fn keeps_secrets(&self) -> bool {
        true
    }

    /// Writes a secret past the broker, as those do whom the store belongs to.
    async fn write(&self, path: &SecretPath, data: &SecretData) -> Result<(), Fault>;

    /// Whether the store has such names for secrets. Those that it has not are not found, without harm.
    fn takes_name(&self, _name: &str) -> bool {
        true
    }

    /// Whether a value may be other than UTF-8.
    fn takes_bytes(&self) -> bool;

    /// The longest value in bytes that the store is sure to take.
    fn longest(&self) -> usize;

    /// A length in bytes that it is sure to refuse.
    fn beyond(&self) -> usize;

    /// A path whose reading creates a credential, of a store that does.
    fn leased(&self) -> Option<String> {
        None
    }

    /// Whether a credential opens what it was made for.
    async fn opens(&self, _credential: &SecretData) -> Result<bool, Fault> {
        Err("this store creates no credentials".into())
    }

    /// Whether it tells which credentials it has made. One where nobody receives a credential whose answer is lost, and
    /// which ends it by itself, need not.
    fn tells_credentials(&self) -> bool {
        true
    }

    /// What can befall it.
    fn troubles(&self) -> &[Trouble];

    /// Brings `trouble` upon it.
    async fn befall(&self, trouble: Trouble) -> Result<(), Fault>;

    /// Ends `trouble`, and returns when the store serves again.
    async fn mend(&self, trouble: Trouble) -> Result<(), Fault>;
}

/// What a case says when it does not hold, or when it could not be tried.
pub type Fault = Box<dyn std::error::Error + Send + Sync>;

/// What can befall a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing listens.
    Down,
    /// It takes connections and answers nothing.
    Hung,
    /// It is locked until an operator opens it.
    Sealed,
    /// The rights of the broker's login were taken away.
    Denied,
    /// It asks for fewer calls.
    Throttled,
}

/// Runs every case that applies to the store, one after the other. Answers those that do not hold, with what the store
/// did instead.
pub async fn run(site: &dyn Site) -> Vec<String> {
    let about_secrets = if site.keeps_secrets() { ABOUT_SECRETS } else { &[] };
    let mut failed = Vec::new();
    for (name, case) in about_secrets.iter().chain(ABOUT_ALL) {
        if let Err(fault) = case(site).await {
            failed.push(format!("{name}: {fault}"));
        }
    }
    failed
}

type Case = for<'s> fn(&'s dyn Site) -> Pin<Box<dyn Future<Output = Result<(), Fault>> + Send + 's>>;

macro_rules! cases {
    ($(#[$about:meta])* $list:ident: $($module:ident :: $case:ident,)*) => {
        $(#[$about])*
        const $list: &[(&str, Case)] = &[$((stringify!($case), |site| Box::pin($module::$case(site))),)*];
    };
}

cases! {
    /// In the order in which a backend comes to do them.
    ABOUT_SECRETS:
    reading::a_secret_is_read_by_field_and_whole,
    reading::what_is_not_there_is_not_found,
    reading::odd_paths_are_apart,
    reading::a_large_value_arrives_whole,
    reading::bytes_arrive_as_they_are,
    reading::each_version_is_read_by_its_name,
    reading::a_folder_is_listed_in_pages,
    writing::what_is_written_is_read,
    writing::a_write_upon_another_version_is_refused,
    writing::a_deletion_can_be_taken_back,
    writing::what_is_destroyed_stays_so,
    writing::what_has_expired_is_not_read,
    writing::labels_change_and_stay_beside_the_value,
    writing::a_value_beyond_the_limit_is_refused_and_harms_nothing,
}

cases! {
    /// What holds whether the store keeps secrets or creates credentials.
    ABOUT_ALL:
    reading::a_healthy_store_says_so,
    leasing::a_credential_opens_until_it_is_revoked,
    leasing::a_credential_is_renewed_while_it_is_there,
    leasing::credentials_are_found_by_when_they_were_made,
    trouble::each_trouble_is_told_by_its_kind_and_passes,
    trouble::a_restart_under_load_is_survived,
}

/// Fails unless `holds`.
fn ensure(holds: bool, otherwise: impl Display) -> Result<(), Fault> {
    if holds { Ok(()) } else { Err(otherwise.to_string().into()) }
}

/// A place of its own for each case.
fn path(site: &dyn Site, name: &str) -> Result<SecretPath, Fault> {
    Ok(SecretPath::from_store(&site.path(name))?)
}

fn fields(entries: &[(&str, &[u8])]) -> Result<SecretData, Fault> {
    let entry = |(name, value): &(&str, &[u8])| {
        Ok::<_, Fault>((FieldName::parse(name)?, Arc::new(Secret::new(value.to_vec()))))
    };
    Ok(SecretData::Fields(entries.iter().map(entry).collect::<Result<_, _>>()?))
}

/// Whether a field of what was read is `value`. Nothing that was read is ever shown.
fn holds(fetched: &Fetched, field: &str, value: &[u8]) -> Result<bool, Fault> {
    Ok(fetched.data.select(Some(&FieldName::parse(field)?))?.ct_eq(value))
}

async fn read(site: &dyn Site, path: &SecretPath) -> Result<Fetched, BackendError> {
    site.backend().read(path, None).await
}

/// Fails unless `result` is a refusal of this kind, by the operation that was asked for.
fn refused<T>(
    result: Result<T, BackendError>,
    kinds: &[ErrorKind],
    operation: Operation,
) -> Result<(), Fault> {
    match result {
        Ok(_) => Err(format!("{operation} was answered where {kinds:?} was due").into()),
        Err(error) => {
            // A login that the call needed may be what failed.
            let asked = error.operation == operation || error.operation == Operation::Login;
            ensure(
                kinds.contains(&error.kind) && asked,
                format!("instead of {kinds:?} on {operation}: {error:?}"),
            )
        }
    }
}
