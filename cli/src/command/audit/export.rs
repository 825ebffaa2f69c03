use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use bursar_proto::v1::AuditExportRequest;
use bursar_proto::v1::audit_export_response::Piece;
use bursar_sdk::Client;
use clap::Args;

use super::Session;
use crate::disclose;
use crate::error::{Error, counted};
use crate::export::Trailer;
use crate::progress::Progress;
use crate::view;

/// Write every record as it is stored, and the checkpoint that vouches for them
///
/// What `bursar audit verify FILE` reads, on any machine and without a connection: JSON Lines, the last line
/// being the checkpoint.
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  bursar audit export --out audit.jsonl")]
pub(crate) struct Arguments {
    /// Write to this new file instead of standard output; it appears when it is whole
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Arguments {
    pub(super) async fn carry_out(self, session: &Session) -> Result<(), Error> {
        let client = session.client()?;
        let Some(path) = self.out else {
            let mut stdout = BufWriter::new(io::stdout());
            copy(&client, |bytes| stdout.write_all(bytes).map_err(Error::Output)).await?;
            return stdout.flush().map_err(Error::Output);
        };
        if path.exists() {
            let source = io::ErrorKind::AlreadyExists.into();
            return Err(Error::Unwritable { path, source });
        }
        let partial = partial(&path);
        let written = to_file(&client, &partial).await;
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

async fn to_file(client: &Client, path: &Path) -> Result<u64, Error> {
    let fault = |source| Error::Unwritable { path: path.to_owned(), source };
    let mut file: BufWriter<File> = BufWriter::new(disclose::private_file(path)?);
    let records = copy(client, |bytes| file.write_all(bytes).map_err(fault)).await?;
    file.flush().and_then(|()| file.get_ref().sync_all()).map_err(fault)?;
    Ok(records)
}

/// Hands every line to `write`, and answers how many records there were.
async fn copy(client: &Client, mut write: impl FnMut(&[u8]) -> Result<(), Error>) -> Result<u64, Error> {
    let progress = Progress::counting("records");
    let mut records = 0;
    let trailer = receive(client, |record| {
        records += 1;
        progress.advance(1);
        write(record)?;
        write(b"\n")
    });
    let trailer = serde_json::to_vec(&trailer.await?).map_err(|error| Error::Output(error.into()))?;
    write(&trailer)?;
    write(b"\n")?;
    Ok(records)
}

/// Receives the whole log: each record goes to `each`, without its line end; the checkpoint is the answer.
pub(super) async fn receive(
    client: &Client,
    mut each: impl FnMut(&[u8]) -> Result<(), Error>,
) -> Result<Trailer, Error> {
    let message = AuditExportRequest { first_sequence: 0, size: None };
    let mut pieces =
        client.stream(message, |client, request| async move { client.audit().export(request).await }).await?;
    while let Some(answer) = pieces.message().await.map_err(|status| client.error(status))? {
        match answer.piece {
            Some(Piece::Records(records)) => {
                for record in records.split_inclusive(|byte| *byte == b'\n') {
                    let record = record
                        .strip_suffix(b"\n")
                        .ok_or_else(|| Error::Export("a piece ended inside a record".to_owned()))?;
                    each(record)?;
                }
            }
            Some(Piece::Checkpoint(signed)) => {
                return Ok(Trailer { checkpoint: signed.note, key: signed.verifier_key });
            }
            None => return Err(view::missing(client, "piece")),
        }
    }
    Err(Error::Export("the broker ended it without a checkpoint".to_owned()))
}

fn partial(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    PathBuf::from(name)
}
