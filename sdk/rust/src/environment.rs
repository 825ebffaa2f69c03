//! Resolving environments.

use std::fmt;
use std::time::Duration;

use bursar_proto::convert::{WireError, duration_from_wire, duration_to_wire};
use bursar_proto::v1::{self, EnvironmentsResolveRequest, OnChange};

use crate::client::Client;
use crate::error::Error;
use crate::{Lease, LeaseId, Secret};

/// What resolving asks for besides the environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolveOptions {
    /// How long the leases should last; what the broker grants by default when absent.
    pub ttl: Option<Duration>,
    /// Why, for the audit record. At most 1,024 bytes.
    pub reason: String,
    /// Tells instances of one workload apart. At most 256 bytes; empty where there is only one.
    pub instance: String,
    /// Whether stores are to make other credentials although the caller holds live ones.
    pub new_lease: bool,
}

/// Everything that an environment names.
#[derive(Debug)]
pub struct ResolvedEnvironment {
    /// The newest revision among the environment and those it extends.
    pub revision: u64,
    /// In order of their names.
    pub variables: Vec<ResolvedVariable>,
    /// In order of their paths.
    pub files: Vec<ResolvedFile>,
    /// One for each secret, however many variables and files use it.
    pub leases: Vec<Lease>,
}

/// A variable with its value.
pub struct ResolvedVariable {
    pub name: String,
    /// Without a NUL byte.
    pub value: Secret,
    /// Whether a secret is in the value; otherwise it is a literal.
    pub secret: bool,
    /// What holds for the value over time.
    pub contract: Contract,
}

/// A file with its contents.
pub struct ResolvedFile {
    /// Relative, without `.`, `..` or empty segments.
    pub path: String,
    /// Permission bits, at most 0o777.
    pub mode: u32,
    pub contents: Secret,
    /// Whether a secret is in the contents; otherwise they are a literal.
    pub secret: bool,
    /// What holds for the contents over time.
    pub contract: Contract,
}

/// What holds for a value over time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contract {
    /// What the value stands on: nothing for a literal, several leases for a composition.
    pub leases: Vec<LeaseId>,
    /// What to do when it changes.
    pub on_change: OnChange,
    /// How old it may become before it must not be used; without a limit when absent.
    pub max_stale: Option<Duration>,
    /// How long ago the store was asked, for the oldest secret in it. Absent for a literal.
    pub age: Option<Duration>,
}

impl Client {
    /// Reads everything that an environment names: all of it or nothing. Repeated like [`Client::read`].
    ///
    /// # Errors
    /// [`Error`]; a refusal has a violation for each entry that failed.
    pub async fn resolve(
        &self,
        environment: &str,
        options: &ResolveOptions,
    ) -> Result<ResolvedEnvironment, Error> {
        let message = options.message(environment);
        let response = self
            .guarded(message, |client, request| async move { client.environments().resolve(request).await });
        ResolvedEnvironment::try_from(response.await?).map_err(|source| self.malformed(source))
    }

    /// As [`Client::resolve`], in one attempt.
    pub(crate) async fn resolve_once(
        &self,
        environment: &str,
        options: &ResolveOptions,
    ) -> Result<ResolvedEnvironment, Error> {
        let message = options.message(environment);
        let response =
            self.once(message, |client, request| async move { client.environments().resolve(request).await });
        ResolvedEnvironment::try_from(response.await?).map_err(|source| self.malformed(source))
    }
}

impl ResolveOptions {
    pub(crate) fn message(&self, environment: &str) -> EnvironmentsResolveRequest {
        EnvironmentsResolveRequest {
            name: environment.to_owned(),
            ttl: self.ttl.map(duration_to_wire),
            reason: self.reason.clone(),
            instance: self.instance.clone(),
            new_lease: self.new_lease,
            offline: false,
        }
    }
}

impl TryFrom<v1::EnvironmentsResolveResponse> for ResolvedEnvironment {
    type Error = WireError;

    fn try_from(response: v1::EnvironmentsResolveResponse) -> Result<Self, WireError> {
        let variables = response.variables.into_iter().map(ResolvedVariable::try_from);
        let files = response.files.into_iter().map(ResolvedFile::try_from);
        Ok(Self {
            revision: response.revision,
            variables: variables.collect::<Result<_, _>>()?,
            files: files.collect::<Result<_, _>>()?,
            leases: response.leases.into_iter().map(Lease::try_from).collect::<Result<_, _>>()?,
        })
    }
}

impl TryFrom<v1::ResolvedVariable> for ResolvedVariable {
    type Error = WireError;

    fn try_from(mut variable: v1::ResolvedVariable) -> Result<Self, WireError> {
        let value = variable.take_value();
        let contract =
            Contract::read(&variable.lease_ids, variable.on_change, variable.max_stale, variable.age)?;
        Ok(Self { name: std::mem::take(&mut variable.name), value, secret: variable.secret, contract })
    }
}

impl TryFrom<v1::ResolvedFile> for ResolvedFile {
    type Error = WireError;

    fn try_from(mut file: v1::ResolvedFile) -> Result<Self, WireError> {
        let contents = file.take_contents();
        let contract = Contract::read(&file.lease_ids, file.on_change, file.max_stale, file.age)?;
        if file.mode > 0o777 {
            return Err(WireError::UnknownValue { field: "mode", value: file.mode.cast_signed() });
        }
        let path = std::mem::take(&mut file.path);
        Ok(Self { path, mode: file.mode, contents, secret: file.secret, contract })
    }
}

impl Contract {
    fn read(
        leases: &[String],
        on_change: i32,
        max_stale: Option<prost_types::Duration>,
        age: Option<prost_types::Duration>,
    ) -> Result<Self, WireError> {
        let id =
            |text: &String| text.parse().map_err(|source| WireError::LeaseId { field: "lease_ids", source });
        let on_change = OnChange::try_from(on_change)
            .map_err(|_| WireError::UnknownValue { field: "on_change", value: on_change })?;
        Ok(Self {
            leases: leases.iter().map(id).collect::<Result<_, _>>()?,
            on_change,
            max_stale: duration_from_wire("max_stale", max_stale)?,
            age: duration_from_wire("age", age)?,
        })
    }
}

impl fmt::Debug for ResolvedVariable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResolvedVariable").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for ResolvedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResolvedFile").field("path", &self.path).finish_non_exhaustive()
    }
}
