use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use bursar_proto::v1::AuditExportRequest;
use bursar_proto::v1::audit_export_response::Piece;
use bursar_sdk::Client;
use clap::Args;
use serde::Serialize;

use super::Session;
use crate::disclose;
use crate::error::{Error, counted};
use crate::export::{Start, Trailer};
use crate::progress::Progress;
use crate::view;

/// Write every record as it is stored, and the checkpoint that vouches for them
///
/// What `bursar audit verify FILE` reads, on any machine and without a connection: JSON Lines, the last line
/// being the checkpoint.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Begin with this record instead of the oldest that the broker keeps
    #[arg(long, value_name = "NUMBER", default_value_t = 0, hide_default_value = true)]
    from: u64,
    /// End where the log had this many records, instead of at its end
    #[arg(long, value_name = "RECORDS")]
    size: Option<u64>,
    /// Write to this new file instead of standard output; it appears when it is whole
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Arguments {
    pub(super) async fn carry_out(self, session: &Session) -> Result<(), Error> {
        let client = session.client()?;
        let wanted = AuditExportRequest { first_sequence: self.from, size: self.size };
        let Some(path) = self.out else {
            let mut stdout = BufWriter::new(io::stdout());
            copy(&client, wanted, |bytes| stdout.write_all(bytes).map_err(Error::Output)).await?;
            return stdout.flush().map_err(Error::Output);
        };
        if path.exists() {
            let source = io::ErrorKind::AlreadyExists.into();
            return Err(Error::Unwritable { path, source });
        }
        let partial = partial(&path);
        let written = to_file(&client, wanted, &partial).await;
        let renamed = written.and_then(|records| {
            let renamed = std::fs::rename(&partial, &path);
            renamed.map(|()| records).map_err(|source| Error::Unwritable { path: path.clone(), source })
        });
        if renamed.is_err() {
            // Half an export is no use to anybody; the error that matters is the one above.
            drop(std::fs::remove_file(&partial));
        }
        let words = format!("{} exported to `{}`", counted(renamed?, "record"), path.display());
        session.output.say(&words);
        Ok(())
    }
}

async fn to_file(client: &Client, wanted: AuditExportRequest, path: &Path) -> Result<u64, Error> {
    let fault = |source| Error::Unwritable { path: path.to_owned(), source };
    let mut file: BufWriter<File> = BufWriter::new(disclose::private_file(path)?);
    let records = copy(client, wanted, |bytes| file.write_all(bytes).map_err(fault)).await?;
    file.flush().and_then(|()| file.get_ref().sync_all()).map_err(fault)?;
    Ok(records)
}

/// Hands every line to `write`, and answers how many records there were.
async fn copy(
    client: &Client,
    wanted: AuditExportRequest,
    mut write: impl FnMut(&[u8]) -> Result<(), Error>,
) -> Result<u64, Error> {
    let progress = Progress::counting("records");
    let mut records = 0;
    let trailer = receive(client, wanted, |part| {
        match part {
            Part::Start(start) => write(&json(&start)?)?,
            Part::Record(record) => {
                records += 1;
                progress.advance(1);
                write(record)?;
            }
        }
        write(b"\n")
    });
    let trailer = trailer.await?;
    write(&json(&trailer)?)?;
    write(b"\n")?;
    Ok(records)
}

/// What comes before the checkpoint.
pub(super) enum Part<'piece> {
    /// Once, and first, where the export does not begin with record 0.
    Start(Start),
    /// Without its line end.
    Record(&'piece [u8]),
}

/// Receives an export: each part goes to `each`; the checkpoint is the answer.
pub(super) async fn receive(
    client: &Client,
    wanted: AuditExportRequest,
    mut each: impl FnMut(Part<'_>) -> Result<(), Error>,
) -> Result<Trailer, Error> {
    let mut pieces =
        client.stream(wanted, |client, request| async move { client.audit().export(request).await }).await?;
    while let Some(answer) = pieces.message().await.map_err(|status| client.error(status))? {
        match answer.piece {
            Some(Piece::Records(records)) => {
                for record in records.split_inclusive(|byte| *byte == b'\n') {
                    let record = record
                        .strip_suffix(b"\n")
                        .ok_or_else(|| Error::Export("a piece ended inside a record".to_owned()))?;
                    each(Part::Record(record))?;
                }
            }
            Some(Piece::Start(start)) => {
                let edge = data_encoding::BASE64.encode(&start.edge);
                each(Part::Start(Start { start: start.first_sequence, edge }))?;
            }
            Some(Piece::Checkpoint(signed)) => {
                return Ok(Trailer { checkpoint: signed.note, key: signed.verifier_key });
            }
            None => return Err(view::missing(client, "piece")),
        }
    }
    Err(Error::Export("the broker ended it without a checkpoint".to_owned()))
}

fn json(line: &impl Serialize) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(line).map_err(|error| Error::Output(error.into()))
}

fn partial(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    PathBuf::from(name)
}

const EXAMPLES: &str = "\
Examples:
  bursar audit export --out audit.jsonl
  bursar audit export --from 100000 --out newest.jsonl";
