use std::time::Duration;

use bursar_core::{LeaseId, SpiffeId};
use bursar_proto::v1::leases_revoke_many_request::Selector;
use bursar_proto::v1::{LeasesRevokeManyRequest, LeasesRevokeManyResponse, LeasesRevokeRequest};
use bursar_sdk::Client;
use clap::Args;
use serde::Serialize;

use super::{Session, revocations};
use crate::error::{Error, counted};
use crate::progress::Progress;
use crate::terminal;
use crate::view::{self, LeaseView, RevocationView};

/// Take leases back, by their ids
#[derive(Debug, Args)]
pub(crate) struct One {
    /// The leases
    #[arg(required = true, value_name = "LEASE")]
    leases: Vec<LeaseId>,
    /// Why, for the audit record and the holder
    #[arg(long, value_name = "TEXT", value_parser = nonempty)]
    reason: Option<String>,
    /// Give the leases up where their store does not take them back: the credential may live on there
    ///
    /// The store is asked once more. Needs the right to `force-revoke`, and a reason.
    #[arg(long, requires = "reason")]
    force: bool,
}

/// Take back every live lease of a path, principal, node or environment
///
/// Says first how many there are, and asks. Then waits until all are revoked and stores have removed what they made,
/// and fails if some of that is stuck. Interrupted, it leaves the broker going on.
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
    /// Do not wait until it is done
    #[arg(long)]
    no_wait: bool,
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
    /// The number under which it goes on; none in a dry run.
    revocation: Option<u64>,
    dynamic: u64,
    waiting: u64,
    stuck: u64,
}

impl Revoked {
    fn none(matched: u64) -> Self {
        Self { matched, revoked: 0, revocation: None, dynamic: 0, waiting: 0, stuck: 0 }
    }

    fn by(revocation: &RevocationView) -> Self {
        let RevocationView { id, marked, dynamic, waiting, stuck, .. } = *revocation;
        Self { matched: marked, revoked: marked, revocation: Some(id), dynamic, waiting, stuck }
    }
}

impl One {
    pub(super) async fn carry_out(self, session: &Session) -> Result<(), Error> {
        let client = session.client()?;
        let mut revoked = Vec::with_capacity(self.leases.len());
        for lease in self.leases {
            let message = LeasesRevokeRequest {
                lease_id: lease.to_string(),
                reason: self.reason.clone().unwrap_or_default(),
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
            let matched = self.call(&client, &selector, true).await?.matched;
            let words = format!("{} would be revoked", counted(matched, "live lease"));
            return session.output.done(&Revoked::none(matched), &words);
        }
        if !self.yes {
            let matched = self.call(&client, &selector, true).await?.matched;
            terminal::confirm(&format!("Revoke {}?", counted(matched, "live lease")))?;
        }
        let progress = Progress::waiting("revoking".to_owned());
        let revocation = self.call(&client, &selector, false).await?.revocation;
        let mut revocation: RevocationView = view::read_required(&client, "revocation", revocation)?;
        if !self.no_wait {
            revocation = settled(&client, revocation, &progress).await?;
        }
        drop(progress);
        let id = revocation.id;
        let words = match revocation.is_settled() {
            true => revocation.progress(),
            false => format!(
                "{}; the broker goes on: `bursar lease revocations {id}` shows how far it is",
                revocation.progress()
            ),
        };
        session.output.done(&Revoked::by(&revocation), &words)?;
        match revocation.stuck {
            0 => Ok(()),
            stuck => Err(Error::Stuck { stuck, dynamic: revocation.dynamic }),
        }
    }

    async fn call(
        &self,
        client: &Client,
        selector: &Selector,
        dry_run: bool,
    ) -> Result<LeasesRevokeManyResponse, Error> {
        let message = LeasesRevokeManyRequest {
            selector: Some(selector.clone()),
            reason: self.reason.clone(),
            dry_run,
        };
        let call = client
            .repeatable(message, |client, request| async move { client.leases().revoke_many(request).await });
        Ok(call.await?)
    }
}

/// Waits until a bulk revocation is done, or nothing but stuck leases is left of it. A broker that restarts meanwhile
/// goes on with it, so that one which does not answer for a while is no failure.
async fn settled(
    client: &Client,
    mut revocation: RevocationView,
    progress: &Progress,
) -> Result<RevocationView, Error> {
    let id = revocation.id;
    let mut unanswered = 0;
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    while !revocation.is_settled() {
        progress.show(revocation.progress());
        let asked = async {
            tokio::time::sleep(LOOK).await;
            revocations::one(client, id).await
        };
        let found = tokio::select! {
            _ = &mut interrupted => return Err(Error::LeftGoing { id }),
            found = asked => found,
        };
        match found {
            Ok(found) => (revocation, unanswered) = (found, 0),
            Err(error) if error.may_pass() && unanswered < UNANSWERED => unanswered += 1,
            Err(error) => return Err(error),
        }
    }
    Ok(revocation)
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

/// How often the broker is asked how far it is.
const LOOK: Duration = Duration::from_secs(1);
/// After so many questions without an answer, it is not coming back.
const UNANSWERED: u32 = 60;

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
