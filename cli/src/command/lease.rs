//! `bursar lease`: who holds what, and taking it back.

mod list;
mod revocations;
mod revoke;
mod top;

use std::time::Duration;

use bursar_core::LeaseId;
use bursar_core::settings::parse_duration;
use bursar_proto::v1::LeasesGetRequest;
use clap::Subcommand;

use super::Session;
use crate::error::Error;
use crate::view::{self, LeaseView};

/// Who holds what, and taking it back
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    List(list::Arguments),
    /// Show everything that is known of one lease
    Show {
        /// The lease
        lease: LeaseId,
    },
    /// Extend a lease; a renewal that fails changes nothing
    Renew {
        /// The lease
        lease: LeaseId,
        /// How long it should last from now, such as `8h`; what the broker grants by default when not given
        #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
        ttl: Option<Duration>,
    },
    Revoke(revoke::One),
    RevokeMany(revoke::Many),
    Revocations(revocations::Arguments),
    Top(top::Arguments),
}

impl Command {
    pub(super) async fn carry_out(self, session: &Session) -> Result<(), Error> {
        match self {
            Self::List(list) => list.carry_out(session).await,
            Self::Show { lease } => show(session, lease).await,
            Self::Renew { lease, ttl } => renew(session, lease, ttl).await,
            Self::Revoke(revoke) => revoke.carry_out(session).await,
            Self::RevokeMany(revoke) => revoke.carry_out(session).await,
            Self::Revocations(revocations) => revocations.carry_out(session).await,
            Self::Top(top) => top.carry_out(session).await,
        }
    }
}

async fn show(session: &Session, lease: LeaseId) -> Result<(), Error> {
    let client = session.client()?;
    let message = LeasesGetRequest { lease_id: lease.to_string() };
    let got = client.repeatable(message, |client, request| async move { client.leases().get(request).await });
    let lease: LeaseView = view::read_required(&client, "lease", got.await?.lease)?;
    session.output.one(&lease)
}

async fn renew(session: &Session, lease: LeaseId, ttl: Option<Duration>) -> Result<(), Error> {
    let renewed = session.client()?.renew(lease, ttl).await?;
    session.output.one(&LeaseView::from(renewed))
}
