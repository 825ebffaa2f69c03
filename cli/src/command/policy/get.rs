use std::path::PathBuf;

use bursar_proto::convert::timestamp_from_wire;
use bursar_proto::v1::PoliciesGetRequest;
use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use super::{Session, files};
use crate::error::{Error, counted};
use crate::{text, view};

/// Write the policies in force
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  bursar policy get --out policies")]
pub(crate) struct Arguments {
    /// Write the files into this directory instead of standard output
    #[arg(long, value_name = "DIRECTORY")]
    out: Option<PathBuf>,
    /// The set of this revision
    #[arg(long, value_name = "NUMBER")]
    revision: Option<u64>,
}

#[derive(Serialize)]
struct Set {
    revision: u64,
    applied_at: Option<Timestamp>,
    applied_by: Option<String>,
    files: Vec<File>,
}

#[derive(Serialize)]
struct File {
    name: String,
    text: String,
}

impl Arguments {
    pub(super) async fn carry_out(self, session: &Session) -> Result<(), Error> {
        let client = session.client()?;
        let message = PoliciesGetRequest { revision: self.revision };
        let got = client
            .repeatable(message, |client, request| async move { client.policies().get(request).await })
            .await?;
        let words = format!("revision {} has {}", got.revision, counted(got.files.len(), "file"));
        if let Some(directory) = &self.out {
            files::write(directory, &got.files)?;
            session.output.say(&format!("{words}, written to `{}`", directory.display()));
            return Ok(());
        }
        if session.output.is_json() {
            let at = got.applied_at.map(|at| timestamp_from_wire("applied_at", Some(at))).transpose();
            let files = got.files.into_iter().map(|file| File { name: file.name, text: file.text });
            let set = Set {
                revision: got.revision,
                applied_at: at.map_err(|source| view::malformed(&client, source))?,
                applied_by: Some(got.applied_by).filter(|by| !by.is_empty()),
                files: files.collect(),
            };
            return session.output.done(&set, "");
        }
        for file in &got.files {
            session.output.document(&format!("// {}\n{}\n", text::line(&file.name), file.text))?;
        }
        session.output.say(&words);
        Ok(())
    }
}
