//! Sessions taken back, by a policy of their role that denies them everything.
//!
//! The policy is read, extended and put as a whole, since IAM has no other way: two who do so at once lose what one of
//! them adds. Within this process they wait for one another, role by role. Between brokers nobody has to wait, as the
//! policy's name is each broker's own. And because IAM may for some seconds answer with what was there before, what
//! this process has put is remembered and put again.

use std::collections::BTreeMap;

use bursar_core::BackendName;
use bursar_core::backend::{BackendError, ErrorKind, Operation, Removal};
use data_encoding::HEXLOWER;
use jiff::Timestamp;
use ring::digest::{Context, SHA256};
use tokio::sync::Mutex;

use crate::backend::AwsBackend;
use crate::config::{Revocation, Role};
use crate::denial::Denied;
use crate::iam::{Iam, PolicyName};

/// Takes sessions back.
#[derive(Debug)]
pub(crate) struct Revoking {
    iam: Iam,
    /// What this broker's policy is called, in each role.
    policy: String,
    /// By the names in the configuration.
    roles: BTreeMap<String, String>,
    /// By their ARNs: two names may be of one role.
    put: BTreeMap<String, Mutex<Denied>>,
}

/// The role of a session that is taken back.
pub(crate) struct OfRole<'a> {
    iam: &'a Iam,
    policy: PolicyName<'a>,
    account: &'a str,
    /// What this process has put into the policy and has not ended.
    put: &'a Mutex<Denied>,
}

impl Revoking {
    /// `owner` tells this broker from all others.
    pub(crate) fn new(iam: Iam, owner: &str, backend: &BackendName, roles: &BTreeMap<String, Role>) -> Self {
        let denying = roles.iter().filter(|(_, role)| role.revoke == Revocation::Deny);
        let roles: BTreeMap<_, _> = denying.map(|(name, role)| (name.clone(), role.arn.clone())).collect();
        let put = roles.values().map(|arn| (arn.clone(), Mutex::default())).collect();
        Self { iam, policy: policy_name(owner, backend), roles, put }
    }

    /// How sessions of the role `arn` are taken back, which is called `role` in the configuration; none where they are
    /// not, or where it calls another one so by now.
    pub(crate) fn of_role(&self, role: &str, arn: &str) -> Option<OfRole<'_>> {
        let arn = self.roles.get(role).filter(|configured| *configured == arn)?;
        // `arn:PARTITION:iam::ACCOUNT:role/PATH/NAME`, of which IAM wants the name alone.
        let account = arn.split(':').nth(4)?;
        let policy = PolicyName { role: arn.rsplit('/').next()?, policy: &self.policy };
        Some(OfRole { iam: &self.iam, policy, account, put: self.put.get(arn)? })
    }
}

impl AwsBackend {
    /// Denies everything to the session `name`. One that is denied already stays so.
    pub(crate) async fn deny(
        &self,
        role: OfRole<'_>,
        name: &str,
        end: Timestamp,
    ) -> Result<Removal, BackendError> {
        let mut put = role.put.lock().await;
        self.own(role.account).await?;
        let mut denied = self.denied(&role).await?;
        denied.extend(&put);
        denied.deny(name, end);
        denied.forget_ended(self.clock.now());
        let document = denied.document();
        let call = || role.iam.put_role_policy(role.policy, &document);
        match self.caller.ask(Operation::Revoke, call).await {
            Ok(()) => {
                *put = denied;
                Ok(Removal::Gone)
            }
            // There is no such role any more, and no place for a policy.
            Err(error) if error.kind == ErrorKind::NotFound => Ok(Removal::EndsAt(end)),
            Err(error) => Err(error),
        }
    }

    /// What the policy denies now.
    async fn denied(&self, role: &OfRole<'_>) -> Result<Denied, BackendError> {
        match self.caller.ask(Operation::Revoke, || role.iam.role_policy(role.policy)).await {
            Ok(document) => {
                Denied::read(&document).ok_or_else(|| self.error(ErrorKind::Malformed, Operation::Revoke))
            }
            // Until the first session is taken back.
            Err(error) if error.kind == ErrorKind::NotFound => Ok(Denied::default()),
            Err(error) => Err(error),
        }
    }

    /// Refuses where `account` is not the broker's own: IAM knows roles by their names, and would change the one that is
    /// called the same here.
    async fn own(&self, account: &str) -> Result<(), BackendError> {
        let answer = self.caller.ask(Operation::Revoke, || self.sts.get_caller_identity().send()).await?;
        let own = answer.account.ok_or_else(|| self.error(ErrorKind::Malformed, Operation::Revoke))?;
        if own == account {
            return Ok(());
        }
        tracing::warn!(
            backend = %self.caller.backend, own, account,
            "a session cannot be denied, since its role is of another account than the broker works in; make its \
             sessions by a backend that works there (`assume_role`)"
        );
        Err(self.error(ErrorKind::Misconfigured, Operation::Revoke))
    }
}

/// `bursar-BACKEND-TAG`, of what IAM takes in the name of a policy.
fn policy_name(owner: &str, backend: &BackendName) -> String {
    let mut context = Context::new(&SHA256);
    for part in ["bursar aws denial", owner, backend.as_str()] {
        context.update(part.as_bytes());
        // None of them has this byte.
        context.update(&[0]);
    }
    let digest = context.finish();
    let tag = digest.as_ref().get(..TAG_BYTES).unwrap_or_default();
    format!("bursar-{backend}-{}", HEXLOWER.encode(tag))
}

const TAG_BYTES: usize = 8;
