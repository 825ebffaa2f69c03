use std::path::PathBuf;

use bursar_proto::v1::PoliciesApplyRequest;
use bursar_proto::v1::policies_apply_response::Result as Applied;
use clap::Args;

use super::{Session, files};
use crate::error::{Error, counted};
use crate::view::{self, DiagnosticView};

/// Replace all policies by those given, or nothing when one has a fault
///
/// A file that is in force and not given is dropped.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Files, or directories with `*.cedar`, `grants.toml` and `registrations.toml`
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Refuse when another revision is in force
    #[arg(long, value_name = "NUMBER")]
    expected_revision: Option<u64>,
}

/// Check policies as if they were applied, and change nothing
#[derive(Debug, Args)]
pub(crate) struct Validate {
    /// Files, or directories with `*.cedar`, `grants.toml` and `registrations.toml`
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

impl Arguments {
    pub(super) async fn carry_out(self, session: &Session) -> Result<(), Error> {
        let (files, expected_revision) = (files::read(&self.files)?, self.expected_revision);
        let revision =
            put(session, PoliciesApplyRequest { files, expected_revision, dry_run: false }).await?;
        session.output.say(&format!("applied; revision {revision} is in force"));
        Ok(())
    }
}

impl Validate {
    pub(super) async fn carry_out(self, session: &Session) -> Result<(), Error> {
        let (files, expected_revision) = (files::read(&self.files)?, None);
        let revision = put(session, PoliciesApplyRequest { files, expected_revision, dry_run: true }).await?;
        session.output.say(&format!("no fault; revision {revision} stays in force"));
        Ok(())
    }
}

/// Shows faults or warnings, and answers the revision in force.
pub(super) async fn put(session: &Session, message: PoliciesApplyRequest) -> Result<u64, Error> {
    let client = session.client()?;
    let applied = client
        .repeatable(message, |client, request| async move { client.policies().apply(request).await })
        .await?;
    match applied.result {
        Some(Applied::Accepted(accepted)) => {
            let warnings: Vec<_> = accepted.warnings.into_iter().map(DiagnosticView::from).collect();
            if !warnings.is_empty() || session.output.is_json() {
                session.output.list(&warnings, "")?;
                session.output.say(&counted(warnings.len(), "warning"));
            }
            Ok(accepted.revision)
        }
        Some(Applied::Rejected(rejected)) => {
            let faults: Vec<_> = rejected.faults.into_iter().map(DiagnosticView::from).collect();
            session.output.list(&faults, "")?;
            Err(Error::Policies { faults: faults.len() })
        }
        None => Err(view::missing(&client, "result")),
    }
}

const EXAMPLES: &str = "\
Examples:
  bursar policy get --out policies
  bursar policy validate policies
  bursar policy apply policies --expected-revision 12";
