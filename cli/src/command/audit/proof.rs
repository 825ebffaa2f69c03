use std::io::Write;
use std::path::PathBuf;

use bursar_core::tlog::Hash;
use bursar_proto::v1::AuditInclusionProofRequest;
use clap::Args;

use super::Session;
use crate::disclose;
use crate::error::Error;
use crate::proof::Proof;
use crate::view;

/// Write one record with the proof that it is in the log
///
/// What `bursar audit verify --proof FILE` reads, on any machine and without a connection. A record that was pruned is
/// proved as well; whoever kept its line gives it by --record.
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  bursar audit proof 4711 --out record.json")]
pub(crate) struct Arguments {
    /// The record's number
    sequence: u64,
    /// Prove it in the log as it was with this many records, instead of as it is now
    #[arg(long, value_name = "RECORDS")]
    size: Option<u64>,
    /// Write to this new file instead of standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Arguments {
    pub(super) async fn carry_out(self, session: &Session) -> Result<(), Error> {
        let client = session.client()?;
        let message = AuditInclusionProofRequest { sequence: self.sequence, size: self.size };
        let answer = client
            .repeatable(
                message,
                |client, request| async move { client.audit().inclusion_proof(request).await },
            )
            .await?;
        let signed = answer.checkpoint.ok_or_else(|| view::missing(&client, "checkpoint"))?;
        let hash = |hash: &Vec<u8>| {
            let hash = Hash::try_from(hash.as_slice()).map_err(|error| Error::Proof(error.to_string()));
            hash.map(|hash| hash.to_string())
        };
        let record = String::from_utf8(answer.record)
            .map_err(|_| Error::Proof("its record is not UTF-8".to_owned()))?;
        let proof = Proof {
            sequence: self.sequence,
            record: (!record.is_empty()).then_some(record),
            hashes: answer.hashes.iter().map(hash).collect::<Result<_, _>>()?,
            checkpoint: signed.note,
            key: signed.verifier_key,
        };
        let Some(path) = self.out else { return session.output.object(&proof) };
        let fault = |source| Error::Unwritable { path: path.clone(), source };
        let text = serde_json::to_vec(&proof).map_err(|error| Error::Output(error.into()))?;
        let mut file = disclose::private_file(&path)?;
        file.write_all(&text).and_then(|()| file.write_all(b"\n")).map_err(fault)?;
        file.sync_all().map_err(fault)?;
        session.output.say(&format!("the proof of record {} is in `{}`", self.sequence, path.display()));
        Ok(())
    }
}
