//! Sessions that STS makes of roles.
//! <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_sts::types::{Credentials, Tag};
use bursar_core::backend::{
    BackendError, ErrorKind, Issued, Leasing, Operation, Removal, StoreHandle, fields_from,
};
use bursar_core::{LeaseId, Secret, SecretPath};
use jiff::Timestamp;

use crate::backend::AwsBackend;
use crate::config::Role;

impl AwsBackend {
    /// Whether `path` is where roles are, or below.
    pub(crate) fn is_of_roles(&self, path: &SecretPath) -> bool {
        !self.roles.is_empty() && path.segments().next() == Some(ROLES)
    }

    /// The roles right below `folder`.
    pub(crate) fn roles_in(&self, folder: &SecretPath) -> BTreeSet<String> {
        match folder.as_str() == ROLES {
            true => self.roles.keys().cloned().collect(),
            false => BTreeSet::new(),
        }
    }

    fn role(&self, path: &SecretPath) -> Result<(&str, &Role), BackendError> {
        let name = path.as_str().strip_prefix(ROLES).and_then(|rest| rest.strip_prefix('/'));
        let role = name.and_then(|name| self.roles.get_key_value(name));
        let (name, role) = role.ok_or_else(|| self.error(ErrorKind::NotFound, Operation::Issue))?;
        Ok((name, role))
    }
}

#[async_trait]
impl Leasing for AwsBackend {
    /// All below `sts/`, whether such a role is configured or not any more: sessions of one that was are still out.
    fn is_leased(&self, path: &SecretPath) -> bool {
        self.is_of_roles(path)
    }

    /// The session is named for its lease, so that CloudTrail tells which lease did what.
    #[tracing::instrument(skip_all, fields(backend = %self.caller.backend))]
    async fn issue(&self, path: &SecretPath, lease: LeaseId, ttl: Duration) -> Result<Issued, BackendError> {
        let (name, role) = self.role(path)?;
        let session = format!("bursar-{lease}").to_ascii_lowercase();
        let seconds = ttl.clamp(Role::SHORTEST, role.ttl.max(Role::SHORTEST)).as_secs();
        let seconds =
            i32::try_from(seconds).map_err(|_| self.error(ErrorKind::Misconfigured, Operation::Issue))?;
        let tags = (!role.session_tags.is_empty()).then(|| tags(role));
        let call = || {
            let call = self.sts.assume_role().role_arn(&role.arn).role_session_name(&session);
            let call = call.duration_seconds(seconds).set_external_id(role.external_id.clone());
            call.set_policy(role.policy.clone()).set_tags(tags.clone()).send()
        };
        let answer = self.caller.make(Operation::Issue, call).await.map_err(|refusal| refusal.error)?;
        let issued = answer.credentials.and_then(|made| self.issued(name, &session, &role.arn, made));
        issued.ok_or_else(|| self.error(ErrorKind::Malformed, Operation::Issue))
    }

    /// STS extends none.
    async fn renew(&self, _: &StoreHandle, _: Duration) -> Result<Duration, BackendError> {
        Err(self.error(ErrorKind::Misconfigured, Operation::Renew))
    }

    #[tracing::instrument(skip_all, fields(backend = %self.caller.backend))]
    async fn revoke(&self, handle: &StoreHandle) -> Result<Removal, BackendError> {
        let session = Session::read(handle.as_str());
        let session = session.ok_or_else(|| self.error(ErrorKind::Malformed, Operation::Revoke))?;
        if session.end <= self.clock.now() {
            return Ok(Removal::Gone);
        }
        match session.arn.and_then(|arn| self.revoking.as_ref()?.of_role(session.role, arn)) {
            Some(revoking) => self.deny(revoking, session.name, session.end).await,
            None => Ok(Removal::EndsAt(session.end)),
        }
    }

    /// None: nobody received a session whose answer was lost, nobody can take it back, and it ends by itself.
    async fn find_orphans(
        &self,
        _: &SecretPath,
        _: Range<Timestamp>,
    ) -> Result<Vec<StoreHandle>, BackendError> {
        Ok(Vec::new())
    }
}

impl AwsBackend {
    /// None where the answer names no time as its end.
    fn issued(&self, role: &str, session: &str, arn: &str, made: Credentials) -> Option<Issued> {
        let nanos = i32::try_from(made.expiration.subsec_nanos()).ok()?;
        let end = Timestamp::new(made.expiration.secs(), nanos).ok()?;
        let data = fields_from([
            ("access_key_id", Secret::from(made.access_key_id)),
            ("secret_access_key", Secret::from(made.secret_access_key)),
            ("session_token", Secret::from(made.session_token)),
            ("expiration", Secret::from(end.to_string())),
        ]);
        Some(Issued {
            data: data.ok()?,
            handle: StoreHandle::new(format!("{role}/{session}/{end}/{arn}")),
            ttl: Duration::try_from(end.duration_since(self.clock.now())).unwrap_or_default(),
            renewable: false,
        })
    }
}

/// What a handle says of a session: `ROLE/NAME/END/ARN`.
struct Session<'a> {
    /// In the configuration.
    role: &'a str,
    name: &'a str,
    end: Timestamp,
    /// Of the role, which the configuration may meanwhile have another of. None for a session that was made before
    /// any could be denied.
    arn: Option<&'a str>,
}

impl<'a> Session<'a> {
    fn read(handle: &'a str) -> Option<Self> {
        let mut parts = handle.splitn(4, '/');
        let (role, name, end) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self { role, name, end: end.parse().ok()?, arn: parts.next() })
    }
}

fn tags(role: &Role) -> Vec<Tag> {
    let tag = |(key, value): (&String, &String)| Tag::builder().key(key).value(value).build().ok();
    role.session_tags.iter().filter_map(tag).collect()
}

/// The folder of the roles.
pub(crate) const ROLES: &str = "sts";
