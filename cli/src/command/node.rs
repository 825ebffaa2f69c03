//! `bursar node`: the machines whose agents the broker knows.

use std::path::PathBuf;
use std::time::Duration;

use bursar_core::settings::parse_duration;
use bursar_proto::convert::{duration_to_wire, timestamp_from_wire};
use bursar_proto::v1::{
    NodesCreateJoinTokenRequest, NodesEvictRequest, NodesListRequest, NodesReadmitRequest,
};
use bursar_sdk::Client;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::Session;
use crate::error::{Error, counted};
use crate::view::{self, NodeView};
use crate::{disclose, page, terminal, text};

/// The machines whose agents the broker knows
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Token(Token),
    /// List the nodes
    List {
        /// How many at most
        #[arg(long, default_value_t = page::DEFAULT, value_name = "NUMBER")]
        limit: usize,
    },
    Evict(Evict),
    Readmit(Readmit),
}

/// Make a token with which one node may join, once
///
/// The token goes to standard output, or to a new file that only you can read, and is not shown again.
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  bursar node token web-1 --ttl 10m --out web-1.token")]
pub(crate) struct Token {
    /// The node's name
    node: String,
    /// How long the token may be used: `5s` to `24h`
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    ttl: Option<Duration>,
    /// The IP address that the node has to join from
    #[arg(long = "from", value_name = "IP")]
    from: Option<std::net::IpAddr>,
    /// Write the token to this new file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Shut a node out and revoke the leases that its agent asked for
#[derive(Debug, Args)]
pub(crate) struct Evict {
    /// The node's name
    node: String,
    /// Why, for the audit record
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// Let an evicted node in again by what the broker's configuration says lets it in
///
/// One that is to come back by a join token needs no more than a new token.
#[derive(Debug, Args)]
pub(crate) struct Readmit {
    /// The node's name
    node: String,
    /// Why, for the audit record
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

#[derive(Serialize)]
struct Readmitted {
    node: String,
}

#[derive(Serialize)]
struct Evicted {
    node: String,
    leases_revoked: u64,
}

impl Command {
    pub(super) async fn carry_out(self, session: &Session) -> Result<(), Error> {
        match self {
            Self::Token(token) => token.carry_out(session).await,
            Self::List { limit } => list(session, limit).await,
            Self::Evict(evict) => evict.carry_out(session).await,
            Self::Readmit(readmit) => readmit.carry_out(session).await,
        }
    }
}

impl Token {
    async fn carry_out(self, session: &Session) -> Result<(), Error> {
        let client = session.client()?;
        // Made first: a token that cannot be kept would be lost.
        let file = self.out.as_deref().map(disclose::private_file).transpose()?;
        let message = NodesCreateJoinTokenRequest {
            node: self.node,
            ttl: self.ttl.map(duration_to_wire),
            address: self.from.map(|address| address.to_string()).unwrap_or_default(),
        };
        let call = client
            .once(message, |client, request| async move { client.nodes().create_join_token(request).await });
        let mut made = call.await?;
        let token = made.take_token();
        match (file, &self.out) {
            (Some(file), Some(path)) => disclose::to_file(file, path, &token)?,
            _ => {
                disclose::to_stdout(&token)?;
                disclose::line_end()?;
            }
        }
        let ends = timestamp_from_wire("expires_at", made.expires_at);
        let ends = ends.map_err(|source| view::malformed(&client, source))?;
        let id = std::mem::take(&mut made.spiffe_id);
        session.output.say(&format!("a node may join as {id} once, until {}", text::time(ends)));
        Ok(())
    }
}

async fn list(session: &Session, limit: usize) -> Result<(), Error> {
    let page = async |client: Client, page_size, page_token| {
        let message = NodesListRequest { page_size, page_token };
        let call =
            client.repeatable(message, |client, request| async move { client.nodes().list(request).await });
        let page = call.await?;
        Ok((page.nodes, page.next_page_token))
    };
    session.list::<NodeView, _>(limit, "no node has joined", page).await
}

impl Evict {
    async fn carry_out(self, session: &Session) -> Result<(), Error> {
        if !self.yes {
            terminal::confirm(&format!("Shut node `{}` out and revoke its leases?", text::line(&self.node)))?;
        }
        let client = session.client()?;
        let message = NodesEvictRequest { node: self.node.clone(), reason: self.reason };
        let evicted = client
            .repeatable(message, |client, request| async move { client.nodes().evict(request).await })
            .await?;
        let leases_revoked = evicted.leases_revoked;
        let words = format!("node `{}` is shut out; {} revoked", self.node, counted(leases_revoked, "lease"));
        session.output.done(&Evicted { node: self.node, leases_revoked }, &words)
    }
}

impl Readmit {
    async fn carry_out(self, session: &Session) -> Result<(), Error> {
        let client = session.client()?;
        let message = NodesReadmitRequest { node: self.node.clone(), reason: self.reason };
        client.once(message, |client, request| async move { client.nodes().readmit(request).await }).await?;
        let words = format!("node `{}` may join again", self.node);
        session.output.done(&Readmitted { node: self.node }, &words)
    }
}
