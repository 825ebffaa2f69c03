use std::collections::BTreeMap;
use std::str::FromStr;

use bursar_core::SpiffeId;
use bursar_core::audit::Action;
use bursar_proto::v1::PoliciesCheckRequest;
use clap::Args;

use super::Session;
use crate::error::Error;
use crate::view::{self, DecisionView};

/// Say what policy would decide, and why, without doing it; fails when it would deny
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Who would ask
    #[arg(long, value_name = "SPIFFE-ID")]
    principal: SpiffeId,
    /// What it would do, such as `read`, `renew` or `apply-policy`
    #[arg(long)]
    action: Action,
    /// To what: a reference, or the name of an environment, node or backend; nothing for the broker itself
    #[arg(default_value = "", hide_default_value = true)]
    resource: String,
    /// What else policies may look at, such as `reason=ticket 4711`; may be given several times
    #[arg(long, value_name = "NAME=VALUE")]
    context: Vec<Entry>,
    /// As if this principal had approved it, and nobody whom this does not name; may be given several times
    #[arg(long, value_name = "SPIFFE-ID")]
    approved_by: Vec<SpiffeId>,
}

#[derive(Debug, Clone)]
struct Entry {
    name: String,
    value: String,
}

impl FromStr for Entry {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, value) = text.split_once('=').ok_or("it does not read NAME=VALUE")?;
        Ok(Self { name: name.to_owned(), value: value.to_owned() })
    }
}

impl Arguments {
    pub(super) async fn carry_out(self, session: &Session) -> Result<(), Error> {
        let mut context: BTreeMap<String, String> =
            self.context.into_iter().map(|entry| (entry.name, entry.value)).collect();
        if !self.approved_by.is_empty() {
            let ids: Vec<&str> = self.approved_by.iter().map(SpiffeId::as_str).collect();
            context.insert("approved_by".to_owned(), ids.join(" "));
        }
        let message = PoliciesCheckRequest {
            principal: self.principal.to_string(),
            action: self.action.as_str().to_owned(),
            resource: self.resource,
            context,
        };
        let client = session.client()?;
        let checked = client
            .repeatable(message, |client, request| async move { client.policies().check(request).await })
            .await?;
        let decision: DecisionView = view::read(&client, checked)?;
        session.output.one(&decision)?;
        if decision.is_allowed() { Ok(()) } else { Err(Error::WouldBeDenied) }
    }
}

const EXAMPLES: &str = "\
Examples:
  bursar policy check --principal spiffe://example.org/user/ada --action read vault/payments/db
  bursar policy check --principal spiffe://example.org/user/ada --action resolve payments/prod \\
    --context reason='ticket 4711'
  bursar policy check --principal spiffe://example.org/user/ada --action read vault/payments/db \\
    --approved-by spiffe://example.org/user/bob";
