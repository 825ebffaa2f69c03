//! `bursar audit`: the record of every disclosure and every change of a lease.

mod export;
mod filter;
mod proof;
mod query;
mod verify;

use bursar_core::tlog::Verifier;
use bursar_proto::v1::AuditCheckpointRequest;
use clap::Subcommand;
use serde::Serialize;

use super::Session;
use crate::error::Error;
use crate::view;

/// The record of every disclosure and every change of a lease
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Query(query::Query),
    Tail(query::Tail),
    Export(export::Arguments),
    Verify(verify::Arguments),
    Proof(proof::Arguments),
    /// Write the newest signed checkpoint of the log
    Checkpoint,
}

/// The JSON form of a checkpoint: that of the last line of an export.
#[derive(Serialize)]
struct Checkpoint {
    checkpoint: String,
    key: String,
}

impl Command {
    pub(super) async fn carry_out(self, session: &Session) -> Result<(), Error> {
        match self {
            Self::Query(query) => query.carry_out(session).await,
            Self::Tail(tail) => tail.carry_out(session).await,
            Self::Export(export) => export.carry_out(session).await,
            Self::Verify(verify) => verify.carry_out(session).await,
            Self::Proof(proof) => proof.carry_out(session).await,
            Self::Checkpoint => checkpoint(session).await,
        }
    }
}

async fn checkpoint(session: &Session) -> Result<(), Error> {
    let signed = signed_checkpoint(&session.client()?).await?;
    if session.output.is_json() {
        return session.output.done(&signed, "");
    }
    session.output.document(&signed.checkpoint)?;
    session.output.say(&format!("the broker claims the key {}", signed.key));
    Ok(())
}

/// The newest checkpoint, with the key that the broker claims.
async fn signed_checkpoint(client: &bursar_sdk::Client) -> Result<Checkpoint, Error> {
    let answered = client
        .repeatable(AuditCheckpointRequest {}, |client, request| async move {
            client.audit().checkpoint(request).await
        })
        .await?;
    let missing = || view::missing(client, "checkpoint");
    let signed = answered.checkpoint.ok_or_else(missing)?;
    Ok(Checkpoint { checkpoint: signed.note, key: signed.verifier_key })
}

fn verifier(text: &str) -> Result<Verifier, Error> {
    Verifier::parse(text.trim()).map_err(Error::VerifierKey)
}
