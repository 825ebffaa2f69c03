use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use bursar_core::tlog::Verifier;
use bursar_proto::v1::AuditExportRequest;
use clap::Args;
use jiff::Timestamp;

use super::Session;
use super::export::{Part, receive};
use crate::error::{Error, counted};
use crate::export::{self, Verification, Verified};
use crate::input;
use crate::output::Details;
use crate::progress::Progress;
use crate::proof::{Proof, Proven};
use crate::table::Cell;

/// Check that no record was changed, removed, added or moved
///
/// With a file, an export is checked without a connection; without one, the broker's log is exported and checked
/// right away. The key has to come another way than the records: `audit.vkey`, which `bursar-broker init` writes.
/// Without --verifier-key or --key-file the key that comes with the records is used, and the result says so.
/// With --proof, one record is checked: that it stands in the log that was signed, in its place.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// An export, as `bursar audit export` writes it
    file: Option<PathBuf>,
    /// A proof of one record, as `bursar audit proof` writes it
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    proof: Option<PathBuf>,
    /// The record's line, where the proof came without it because the record was pruned
    #[arg(long, value_name = "FILE", requires = "proof")]
    record: Option<PathBuf>,
    /// The key of the log: NAME+ID+KEY
    #[arg(long, value_name = "VERIFIER-KEY", conflicts_with = "key_file")]
    verifier_key: Option<String>,
    /// A file with the key of the log
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

impl Arguments {
    pub(super) async fn carry_out(self, session: &Session) -> Result<(), Error> {
        let trusted = self.trusted_key()?;
        if let Some(path) = &self.proof {
            let proven = self.one_record(path, trusted)?;
            session.output.one(&proven)?;
            warn_unless(proven.key_trusted, session);
            return Ok(());
        }
        let verified = match &self.file {
            Some(path) => offline(path, trusted)?,
            None => online(session, trusted).await?,
        };
        session.output.one(&verified)?;
        warn_unless(verified.key_trusted, session);
        Ok(())
    }

    fn one_record(&self, path: &Path, trusted: Option<Verifier>) -> Result<Proven, Error> {
        let proof = Proof::read(&input::document(path, LONGEST_PROOF)?)?;
        let line = self.record.as_ref().map(|path| input::document(path, LONGEST_PROOF)).transpose()?;
        match trusted {
            Some(key) => proof.verify(&key, true, line.as_deref()),
            None => proof.verify(&super::verifier(&proof.key)?, false, line.as_deref()),
        }
    }

    fn trusted_key(&self) -> Result<Option<Verifier>, Error> {
        let text = match (&self.verifier_key, &self.key_file) {
            (Some(key), _) => key.clone(),
            (None, Some(file)) => input::document(file, LONGEST_KEY)?,
            (None, None) => return Ok(None),
        };
        super::verifier(&text).map(Some)
    }
}

fn warn_unless(key_trusted: bool, session: &Session) {
    if !key_trusted {
        session.output.say(
            "warning: the key came with the records, so this shows that they belong together, not who signed \
             them; give the key of the log by --key-file",
        );
    }
}

fn offline(path: &Path, trusted: Option<Verifier>) -> Result<Verified, Error> {
    let open = || {
        let file = File::open(path);
        file.map(BufReader::new).map_err(|source| Error::Unreadable { path: path.to_owned(), source })
    };
    let verification = match trusted {
        Some(key) => Verification::new(key, true),
        None => Verification::new(super::verifier(&export::claimed_key(open()?, path)?)?, false),
    };
    let progress = Progress::counting("records");
    export::verify(open()?, path, verification, || progress.advance(1))
}

async fn online(session: &Session, trusted: Option<Verifier>) -> Result<Verified, Error> {
    let client = session.client()?;
    let mut verification = match trusted {
        Some(key) => Verification::new(key, true),
        None => Verification::new(super::verifier(&super::signed_checkpoint(&client).await?.key)?, false),
    };
    let progress = Progress::counting("records");
    let trailer = receive(&client, AuditExportRequest::default(), |part| {
        match part {
            Part::Start(start) => verification.start_at(&start)?,
            Part::Record(record) => {
                verification.push(record);
                progress.advance(1);
            }
        }
        Ok(())
    });
    let trailer = trailer.await?;
    verification.finish(&trailer.checkpoint)
}

impl Details for Verified {
    fn details(&self, _: Timestamp) -> Vec<(&'static str, Cell)> {
        let mut details = vec![("verified", Cell::good(counted(self.records, "record")))];
        if self.first > 0 {
            details.push(("from record", Cell::new(self.first.to_string())));
        }
        details.extend([
            ("log", Cell::new(&self.origin)),
            ("root", Cell::new(&self.root)),
            ("signed by key", Cell::new(key(&self.key_id, self.key_trusted))),
        ]);
        details
    }
}

impl Details for Proven {
    fn details(&self, _: Timestamp) -> Vec<(&'static str, Cell)> {
        vec![
            ("proven", Cell::good(format!("record {} of {}", self.sequence, self.size))),
            ("log", Cell::new(&self.origin)),
            ("root", Cell::new(&self.root)),
            ("signed by key", Cell::new(key(&self.key_id, self.key_trusted))),
        ]
    }
}

fn key(id: &str, trusted: bool) -> String {
    let origin = if trusted { "given" } else { "came with the records" };
    format!("{id} ({origin})")
}

/// Above any verifier key.
const LONGEST_KEY: usize = 4096;
/// Above any proof with its record.
const LONGEST_PROOF: usize = 4 * 1024 * 1024;

const EXAMPLES: &str = "\
Examples:
  bursar audit verify audit.jsonl --key-file audit.vkey
  bursar audit verify --proof record.json --key-file audit.vkey
  bursar audit verify --verifier-key example.org/broker+4b3c1c2a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
