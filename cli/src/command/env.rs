//! `bursar env`: definitions of environments, and what they would come to.

mod apply;
mod check;
mod diff;

use std::time::Duration;

use bursar_core::settings::parse_duration;
use bursar_proto::v1::{EnvironmentsDeleteRequest, EnvironmentsGetRequest, EnvironmentsListRequest};
use bursar_sdk::{Client, ResolveOptions};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::Session;
use crate::error::{Error, counted};
use crate::view::{self, EnvironmentView, ResolvedView};
use crate::{page, terminal, text};

/// Environments: named sets of variables and files, made of references
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Apply(apply::Arguments),
    /// Write the definition of an environment, fit to be applied again
    Get {
        /// The environment
        name: String,
        /// As of this revision
        #[arg(long, value_name = "NUMBER")]
        revision: Option<u64>,
    },
    /// List the environments you may see
    List {
        /// Those at or under this name
        #[arg(default_value = "", hide_default_value = true)]
        prefix: String,
        /// How many at most
        #[arg(long, default_value_t = page::DEFAULT, value_name = "NUMBER")]
        limit: usize,
    },
    Delete(Delete),
    Check(check::Arguments),
    Explain(check::Explain),
    Diff(diff::Arguments),
    Resolve(Resolve),
}

/// Delete an environment and revoke every lease that was asked for through it
#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// The environment
    name: String,
    /// Why, for the audit record
    #[arg(long, default_value = "", value_name = "TEXT", hide_default_value = true)]
    reason: String,
    /// Refuse unless it is at this revision
    #[arg(long, value_name = "NUMBER")]
    expected_revision: Option<u64>,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// Resolve an environment and show what it has, without values
///
/// This leases every secret in it, as `bursar run` does. `bursar env check` says whether it would resolve
/// without leasing anything.
#[derive(Debug, Args)]
pub(crate) struct Resolve {
    /// The environment
    name: String,
    /// Why, for the audit record
    #[arg(long, default_value = "", value_name = "TEXT", hide_default_value = true)]
    reason: String,
    /// How long the leases should last, such as `8h`; what the broker grants by default when not given
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    ttl: Option<Duration>,
}

#[derive(Serialize)]
struct Deleted {
    environment: String,
    leases_revoked: u64,
}

impl Command {
    pub(super) async fn carry_out(self, session: &Session) -> Result<(), Error> {
        match self {
            Self::Apply(apply) => apply.carry_out(session).await,
            Self::Get { name, revision } => get(session, name, revision).await,
            Self::List { prefix, limit } => list(session, prefix, limit).await,
            Self::Delete(delete) => delete.carry_out(session).await,
            Self::Check(check) => check.carry_out(session).await,
            Self::Explain(explain) => explain.carry_out(session).await,
            Self::Diff(diff) => diff.carry_out(session).await,
            Self::Resolve(resolve) => resolve.carry_out(session).await,
        }
    }
}

async fn get(session: &Session, name: String, revision: Option<u64>) -> Result<(), Error> {
    let client = session.client()?;
    let message = EnvironmentsGetRequest { name, revision };
    let got = client
        .repeatable(message, |client, request| async move { client.environments().get(request).await })
        .await?;
    if session.output.is_json() {
        let environment: EnvironmentView = view::read_required(&client, "environment", got.environment)?;
        return session.output.list(&[environment], "");
    }
    session.output.document(&got.document)
}

async fn list(session: &Session, prefix: String, limit: usize) -> Result<(), Error> {
    let nothing = "there is no environment that you may see";
    let page = async |client: Client, page_size, page_token| {
        let message = EnvironmentsListRequest { prefix: prefix.clone(), page_size, page_token };
        let call = client
            .repeatable(message, |client, request| async move { client.environments().list(request).await });
        let page = call.await?;
        Ok((page.environments, page.next_page_token))
    };
    session.list::<EnvironmentView, _>(limit, nothing, page).await
}

impl Delete {
    async fn carry_out(self, session: &Session) -> Result<(), Error> {
        if !self.yes {
            let name = text::line(&self.name);
            terminal::confirm(&format!("Delete environment `{name}` and revoke every lease under it?"))?;
        }
        let client = session.client()?;
        let message = EnvironmentsDeleteRequest {
            name: self.name.clone(),
            expected_revision: self.expected_revision,
            reason: self.reason,
        };
        // Sent once: after an answer that was lost, the environment is gone and a second attempt would say so.
        let deleted = client
            .once(message, |client, request| async move { client.environments().delete(request).await })
            .await?;
        let deleted = Deleted { environment: self.name, leases_revoked: deleted.leases_revoked };
        let revoked = counted(deleted.leases_revoked, "lease");
        let words = format!("environment `{}` is deleted; {revoked} revoked", deleted.environment);
        session.output.done(&deleted, &words)
    }
}

impl Resolve {
    async fn carry_out(self, session: &Session) -> Result<(), Error> {
        let options = ResolveOptions { ttl: self.ttl, reason: self.reason, ..ResolveOptions::default() };
        let resolved = session.client()?.resolve(&self.name, &options).await?;
        session.output.list(&ResolvedView::all(&resolved), "it has neither variables nor files")
    }
}
