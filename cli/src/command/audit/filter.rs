use std::str::FromStr;

use bursar_core::audit::{Action, Decision, Outcome};
use bursar_core::settings::parse_duration;
use bursar_core::{Clock, LeaseId, SpiffeId, SystemClock};
use bursar_proto::convert::timestamp_to_wire;
use bursar_proto::v1::{self, AuditFilter};
use clap::{Args, ValueEnum};
use jiff::Timestamp;

/// What records have to match: every option given.
#[derive(Debug, Args)]
pub(super) struct FilterArguments {
    /// Made at this time or later: `2026-01-31T12:00:00Z`, or so long ago: `2h`
    #[arg(long, value_name = "TIME")]
    since: Option<Moment>,
    /// Made before this time
    #[arg(long, value_name = "TIME")]
    until: Option<Moment>,
    /// Done by this principal
    #[arg(long, value_name = "SPIFFE-ID")]
    principal: Option<SpiffeId>,
    /// This action, such as `read` or `revoke`; may be given several times
    #[arg(long, value_name = "ACTION", value_delimiter = ',')]
    action: Vec<Action>,
    /// Done to a secret at or under this path; a backend's name alone stands for all of it
    #[arg(long, value_name = "BACKEND[/PATH]")]
    path: Option<String>,
    /// Concerning this lease
    #[arg(long, value_name = "LEASE")]
    lease: Option<LeaseId>,
    /// Decided like this by policy
    #[arg(long, value_enum)]
    decision: Option<DecisionName>,
    /// Ended like this
    #[arg(long, value_enum)]
    outcome: Option<OutcomeName>,
    /// Belonging to this request
    #[arg(long, value_name = "ID")]
    request: Option<String>,
}

/// A time, or a time ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Moment(Timestamp);

impl FromStr for Moment {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "write a time like `2026-01-31T12:00:00Z`, or so long ago like `2h`";
        if let Ok(ago) = parse_duration(text) {
            return SystemClock.now().checked_sub(ago).map(Self).map_err(|_| FORM);
        }
        text.parse().map(Self).map_err(|_| FORM)
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum DecisionName {
    Allow,
    Deny,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum OutcomeName {
    Ok,
    Denied,
    Failed,
    Asked,
}

impl FilterArguments {
    /// As the API has it.
    pub(super) fn filter(self) -> AuditFilter {
        let wire = |moment: Option<Moment>| moment.map(|Moment(time)| timestamp_to_wire(time));
        let decision = self.decision.map(|name| match name {
            DecisionName::Allow => Decision::Allow,
            DecisionName::Deny => Decision::Deny,
        });
        let outcome = self.outcome.map(|name| match name {
            OutcomeName::Ok => Outcome::Ok,
            OutcomeName::Denied => Outcome::Denied,
            OutcomeName::Failed => Outcome::Failed,
            OutcomeName::Asked => Outcome::Asked,
        });
        AuditFilter {
            start_time: wire(self.since),
            end_time: wire(self.until),
            principal: self.principal.map(|id| id.to_string()).unwrap_or_default(),
            actions: self.action.into_iter().map(|action| action.as_str().to_owned()).collect(),
            reference_prefix: self.path.unwrap_or_default(),
            lease_id: self.lease.map(|id| id.to_string()).unwrap_or_default(),
            decision: decision.map(|decision| v1::Decision::from(decision).into()).unwrap_or_default(),
            outcome: outcome.map(|outcome| v1::Outcome::from(outcome).into()).unwrap_or_default(),
            request_id: self.request.unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Typed {
        #[command(flatten)]
        filter: FilterArguments,
    }

    #[test]
    fn a_moment_is_a_time_or_so_long_ago() {
        assert_eq!("2026-01-01T00:00:00Z".parse(), Ok(Moment(Timestamp::constant(1_767_225_600, 0))));
        let Moment(ago) = "2h".parse().expect("moment");
        let distance = SystemClock.now().duration_since(ago).as_secs();
        assert!((7199..=7260).contains(&distance), "{distance} s");
        assert!("yesterday".parse::<Moment>().is_err());
    }

    #[test]
    fn every_option_reaches_the_filter() {
        let typed = [
            "query",
            "--principal",
            "spiffe://e/user/ada",
            "--action",
            "read,revoke",
            "--path",
            "vault/a",
            "--lease",
            "01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "--decision",
            "deny",
            "--outcome",
            "denied",
            "--request",
            "r-1",
            "--since",
            "1h",
            "--until",
            "1m",
        ];
        let filter = Typed::try_parse_from(typed).expect("arguments").filter.filter();
        assert_eq!(filter.actions, ["read", "revoke"]);
        assert_eq!(filter.decision(), v1::Decision::Deny);
        assert_eq!(filter.outcome(), v1::Outcome::Denied);
        let texts = [&filter.principal, &filter.reference_prefix, &filter.lease_id, &filter.request_id];
        assert!(texts.iter().all(|text| !text.is_empty()));
        assert!(filter.start_time.is_some() && filter.end_time.is_some());
    }

    #[test]
    fn a_misspelt_action_is_refused() {
        assert!(Typed::try_parse_from(["query", "--action", "raed"]).is_err());
    }
}
