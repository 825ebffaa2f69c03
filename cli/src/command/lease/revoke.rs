use bursar_core::{LeaseId, SpiffeId};
use bursar_proto::v1::leases_revoke_many_request::Selector;
use bursar_proto::v1::{LeasesRevokeManyRequest, LeasesRevokeRequest};
use bursar_sdk::Client;
use clap::Args;
use serde::Serialize;

use super::Session;
use crate::error::{Error, counted};
use crate::progress::Progress;
use crate::terminal;
use crate::view::{self, LeaseView};

/// Take leases back, by their ids
#[derive(Debug, Args)]
pub(crate) struct One {
    /// The leases
    #[arg(required = true, value_name = "LEASE")]
    leases: Vec<LeaseId>,
    /// Why, for the audit record and the holder
    #[arg(long, default_value = "", value_name = "TEXT", hide_default_value = true)]
    reason: String,
    /// Give the lease up without the store's agreement: the credential may live on there
    #[arg(long)]
    force: bool,
}

/// Take back every live lease of a path, principal, node or environment
///
/// Says first how many there are, and asks.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Many {
    #[command(flatten)]
    selector: SelectorArguments,
    /// Why, for the audit record and the holders
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Say how many there are, and revoke none
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct SelectorArguments {
    /// On secrets at or under this path; a backend's name alone stands for all of it
    #[arg(long, value_name = "BACKEND[/PATH]", value_parser = nonempty)]
    path: Option<String>,
    /// Held by this principal
    #[arg(long, value_name = "SPIFFE-ID")]
    principal: Option<SpiffeId>,
    /// Asked for by the agent of this node
    #[arg(long, value_name = "SPIFFE-ID")]
    node: Option<SpiffeId>,
    /// Asked for through this environment
    #[arg(long, value_name = "NAME", value_parser = nonempty)]
    env: Option<String>,
}

#[derive(Serialize)]
struct Revoked {
    matched: u64,
    revoked: u64,
}

impl One {
    pub(super) async fn carry_out(self, session: &Session) -> Result<(), Error> {
        let client = session.client()?;
        let mut revoked = Vec::with_capacity(self.leases.len());
        for lease in self.leases {
            let message = LeasesRevokeRequest {
                lease_id: lease.to_string(),
                reason: self.reason.clone(),
                force: self.force,
            };
            let call = client
                .repeatable(message, |client, request| async move { client.leases().revoke(request).await });
            let lease: LeaseView = view::read_required(&client, "lease", call.await?.lease)?;
            revoked.push(lease);
        }
        session.output.list(&revoked, "nothing was revoked")
    }
}

impl Many {
    pub(super) async fn carry_out(self, session: &Session) -> Result<(), Error> {
        let selector = self.selector.check()?;
        let client = session.client()?;
        if self.dry_run {
            let matched = self.call(&client, &selector, true).await?;
            let words = format!("{} would be revoked", counted(matched, "live lease"));
            return session.output.done(&Revoked { matched, revoked: 0 }, &words);
        }
        if !self.yes {
            let matched = self.call(&client, &selector, true).await?;
            terminal::confirm(&format!("Revoke {}?", counted(matched, "live lease")))?;
        }
        let progress = Progress::waiting("revoking".to_owned());
        let matched = self.call(&client, &selector, false).await?;
        drop(progress);
        let words = format!("{} revoked; stores are being asked to remove theirs", counted(matched, "lease"));
        session.output.done(&Revoked { matched, revoked: matched }, &words)
    }

    async fn call(&self, client: &Client, selector: &Selector, dry_run: bool) -> Result<u64, Error> {
        let message = LeasesRevokeManyRequest {
            selector: Some(selector.clone()),
            reason: self.reason.clone(),
            dry_run,
        };
        let call = client
            .repeatable(message, |client, request| async move { client.leases().revoke_many(request).await });
        Ok(call.await?.matched)
    }
}

impl SelectorArguments {
    fn check(&self) -> Result<Selector, Error> {
        match (&self.path, &self.principal, &self.node, &self.env) {
            (Some(path), ..) => Ok(Selector::PathPrefix(path.clone())),
            (_, Some(principal), ..) => Ok(Selector::Principal(principal.to_string())),
            (_, _, Some(node), _) => Ok(Selector::Node(node.to_string())),
            (.., Some(environment)) => Ok(Selector::Environment(environment.clone())),
            _ => Err(Error::Usage("say which leases: --path, --principal, --node or --env".to_owned())),
        }
    }
}

/// An empty selector must never come to mean everything.
fn nonempty(text: &str) -> Result<String, &'static str> {
    if text.is_empty() { Err("it is empty") } else { Ok(text.to_owned()) }
}

const EXAMPLES: &str = "\
Examples:
  bursar lease revoke-many --path vault/payments --reason 'incident 12' --dry-run
  bursar lease revoke-many --principal spiffe://example.org/workload/ci --reason 'token leaked' --yes";

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Typed {
        #[command(flatten)]
        arguments: Many,
    }

    fn selector(arguments: &[&str]) -> Result<Selector, clap::Error> {
        let all = ["revoke-many", "--reason", "x"].iter().chain(arguments);
        Typed::try_parse_from(all).map(|typed| typed.arguments.selector.check().expect("a selector"))
    }

    #[test]
    fn exactly_one_selector_is_taken() {
        assert_eq!(
            selector(&["--path", "vault/a"]).expect("selector"),
            Selector::PathPrefix("vault/a".to_owned())
        );
        assert_eq!(selector(&["--env", "shop"]).expect("selector"), Selector::Environment("shop".to_owned()));
        assert!(selector(&[]).is_err());
        assert!(selector(&["--path", "vault", "--env", "shop"]).is_err());
    }

    #[test]
    fn an_empty_selector_is_refused() {
        assert!(selector(&["--path", ""]).is_err());
        assert!(selector(&["--env", ""]).is_err());
        assert!(selector(&["--principal", ""]).is_err());
    }

    #[test]
    fn revoking_many_needs_a_reason() {
        assert!(Typed::try_parse_from(["revoke-many", "--path", "vault"]).is_err());
    }
}
