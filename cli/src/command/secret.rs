//! `bursar secret`: the broker's own store, written and looked after. Reading is `bursar get`.
//!
//! A value is never an argument: arguments stay in the shell's history and show in `ps`.

mod destroy;
mod import;
mod label;
mod put;

use std::str::FromStr;

use bursar_core::settings::parse_duration;
use bursar_core::{Clock, Reference, SystemClock};
use bursar_proto::convert::timestamp_to_wire;
use bursar_proto::v1::{
    LocalStoreDeleteRequest, LocalStoreGetMetadataRequest, LocalStoreHistoryRequest, LocalStoreListRequest,
    LocalStoreUndeleteRequest,
};
use bursar_sdk::Client;
use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::Serialize;

use super::Session;
use crate::error::Error;
use crate::page;
use crate::view::{self, NameView, SecretView, VersionView};

/// The broker's own store: write secrets and look after them
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Put(put::Arguments),
    Import(import::Arguments),
    /// Show what is known of a secret besides its value
    GetMetadata {
        /// The secret: `BACKEND/PATH`
        reference: Reference,
    },
    /// List the names right below a folder
    List {
        /// `BACKEND`, or `BACKEND/PATH` of a folder
        folder: String,
        /// How many at most
        #[arg(long, default_value_t = page::DEFAULT, value_name = "NUMBER")]
        limit: usize,
    },
    /// Mark versions deleted: they cannot be read until they are undeleted
    Delete(Versions),
    /// Take a deletion back
    Undelete(Versions),
    Destroy(destroy::Arguments),
    Label(label::Arguments),
    /// List the versions of a secret, newest first
    History {
        /// The secret: `BACKEND/PATH`
        reference: Reference,
        /// How many at most
        #[arg(long, default_value_t = page::DEFAULT, value_name = "NUMBER")]
        limit: usize,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Versions {
    /// The secret: `BACKEND/PATH`
    reference: Reference,
    /// The versions; the newest when not given
    #[arg(long = "version", value_name = "NUMBER", value_delimiter = ',')]
    versions: Vec<u64>,
    /// Why, for the audit record
    #[arg(long, default_value = "", value_name = "TEXT", hide_default_value = true)]
    reason: String,
}

/// A time to come.
#[derive(Debug, Clone, Copy)]
struct Deadline(Timestamp);

impl FromStr for Deadline {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "write a time like `2027-01-31T12:00:00Z`, or in how long like `30d`";
        if let Ok(ahead) = parse_duration(text) {
            return SystemClock.now().checked_add(ahead).map(Self).map_err(|_| FORM);
        }
        text.parse().map(Self).map_err(|_| FORM)
    }
}

impl Deadline {
    fn to_wire(self) -> prost_types::Timestamp {
        timestamp_to_wire(self.0)
    }
}

#[derive(Serialize)]
struct Changed {
    reference: String,
    /// Empty for the newest.
    versions: Vec<u64>,
}

impl Command {
    pub(super) async fn carry_out(self, session: &Session) -> Result<(), Error> {
        match self {
            Self::Put(put) => put.carry_out(session).await,
            Self::Import(import) => import.carry_out(session).await,
            Self::GetMetadata { reference } => metadata(session, &reference).await,
            Self::List { folder, limit } => list(session, folder, limit).await,
            Self::Delete(versions) => delete(session, versions).await,
            Self::Undelete(versions) => undelete(session, versions).await,
            Self::Destroy(destroy) => destroy.carry_out(session).await,
            Self::Label(label) => label.carry_out(session).await,
            Self::History { reference, limit } => history(session, &reference, limit).await,
        }
    }
}

async fn metadata(session: &Session, reference: &Reference) -> Result<(), Error> {
    let client = session.client()?;
    let message = LocalStoreGetMetadataRequest { reference: whole(reference)? };
    let metadata = client.repeatable(message, |client, request| async move {
        client.local_store().get_metadata(request).await
    });
    let secret: SecretView = view::read(&client, metadata.await?)?;
    session.output.one(&secret)
}

async fn list(session: &Session, folder: String, limit: usize) -> Result<(), Error> {
    let client = session.client()?;
    let fetched = page::fetch(limit, async |page_size, page_token| {
        let message = LocalStoreListRequest { folder: folder.clone(), page_size, page_token };
        let call = client
            .repeatable(message, |client, request| async move { client.local_store().list(request).await });
        let page = call.await?;
        Ok((page.names, page.next_page_token))
    });
    let fetched = fetched.await?;
    let names: Vec<_> = fetched.items.into_iter().map(NameView::from).collect();
    session.output.list(&names, "there is nothing in this folder")?;
    session.output.say_more(fetched.more);
    Ok(())
}

async fn delete(session: &Session, of: Versions) -> Result<(), Error> {
    let client = session.client()?;
    let reference = whole(&of.reference)?;
    let changed = Changed { reference: reference.clone(), versions: of.versions.clone() };
    let message = LocalStoreDeleteRequest { reference, versions: of.versions, reason: of.reason };
    client
        .repeatable(message, |client, request| async move { client.local_store().delete(request).await })
        .await?;
    let words = format!("`{}` is deleted; leases on it are not revoked", changed.reference);
    session.output.done(&changed, &words)
}

async fn undelete(session: &Session, of: Versions) -> Result<(), Error> {
    let client = session.client()?;
    let reference = whole(&of.reference)?;
    let changed = Changed { reference: reference.clone(), versions: of.versions.clone() };
    let message = LocalStoreUndeleteRequest { reference, versions: of.versions, reason: of.reason };
    client
        .repeatable(message, |client, request| async move { client.local_store().undelete(request).await })
        .await?;
    let words = format!("`{}` can be read again", changed.reference);
    session.output.done(&changed, &words)
}

async fn history(session: &Session, reference: &Reference, limit: usize) -> Result<(), Error> {
    let reference = whole(reference)?;
    let page = async |client: Client, page_size, page_token| {
        let message = LocalStoreHistoryRequest { reference: reference.clone(), page_size, page_token };
        let call = client.repeatable(message, |client, request| async move {
            client.local_store().history(request).await
        });
        let page = call.await?;
        Ok((page.versions, page.next_page_token))
    };
    session.list::<VersionView, _>(limit, "it has no version", page).await
}

/// The reference as text, where it names a secret as a whole.
fn whole(reference: &Reference) -> Result<String, Error> {
    if reference.field.is_some() || reference.version.is_some() {
        return Err(Error::Usage(format!("`{reference}` has a field or a version; name the secret alone")));
    }
    Ok(reference.to_string())
}
