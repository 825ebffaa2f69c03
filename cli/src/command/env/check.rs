use std::path::PathBuf;

use bursar_core::SpiffeId;
use bursar_proto::limits;
use bursar_proto::v1::EnvironmentsCheckRequest;
use bursar_proto::v1::environments_check_request::Target;
use clap::Args;

use super::Session;
use crate::error::Error;
use crate::input;
use crate::view::{self, FindingView};

/// Say whether an environment would resolve, without reading a value
///
/// Shows what is wrong only; `bursar env explain` shows every entry. Fails when something is wrong.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The environment
    #[arg(required_unless_present = "file")]
    name: Option<String>,
    /// Check a document as if it were applied; `-` for standard input
    #[arg(long, value_name = "FILE", conflicts_with = "name")]
    file: Option<PathBuf>,
    /// For whom the references have to be allowed; for you when not given
    #[arg(long, value_name = "SPIFFE-ID")]
    principal: Option<SpiffeId>,
}

/// Show what every entry of an environment is made of, and whether it would resolve
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// The environment
    name: String,
    /// For whom the references have to be allowed; for you when not given
    #[arg(long, value_name = "SPIFFE-ID")]
    principal: Option<SpiffeId>,
}

impl Arguments {
    pub(super) async fn carry_out(self, session: &Session) -> Result<(), Error> {
        let (target, shown) = match (self.name, self.file) {
            (Some(name), _) => (Target::Name(name.clone()), name),
            (None, Some(file)) => {
                let shown = file.display().to_string();
                (Target::Document(input::document(&file, limits::DOCUMENT)?), shown)
            }
            (None, None) => return Err(Error::Usage("name an environment, or give --file".to_owned())),
        };
        let found = check(session, target, self.principal).await?;
        let (good, bad): (Vec<_>, Vec<_>) = found.findings.into_iter().partition(FindingView::is_ok);
        session.output.list(&bad, &format!("all {} references and literals would resolve", good.len()))?;
        if found.ok { Ok(()) } else { Err(Error::WouldNotResolve { name: shown }) }
    }
}

impl Explain {
    pub(super) async fn carry_out(self, session: &Session) -> Result<(), Error> {
        let found = check(session, Target::Name(self.name.clone()), self.principal).await?;
        session.output.list(&found.findings, "it has neither variables nor files")?;
        if found.ok { Ok(()) } else { Err(Error::WouldNotResolve { name: self.name }) }
    }
}

struct Found {
    ok: bool,
    findings: Vec<FindingView>,
}

async fn check(session: &Session, target: Target, principal: Option<SpiffeId>) -> Result<Found, Error> {
    let client = session.client()?;
    let message = EnvironmentsCheckRequest {
        target: Some(target),
        principal: principal.map(|id| id.to_string()).unwrap_or_default(),
    };
    let checked = client
        .repeatable(message, |client, request| async move { client.environments().check(request).await })
        .await?;
    Ok(Found { ok: checked.ok, findings: view::read_all(&client, checked.findings)? })
}

const EXAMPLES: &str = "\
Examples:
  bursar env check payments/prod --principal spiffe://example.org/workload/payments
  bursar env check --file environments.toml";
