use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bursar_core::SpiffeId;
use bursar_core::audit::{Action, Decision};
use bursar_proto::limits;
use bursar_proto::v1;
use bursar_proto::v1::policies_test_response::Result as Tested;
use bursar_proto::v1::{PoliciesCheckRequest, PoliciesTestRequest, PolicyExpectation};
use clap::Args;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Session, files};
use crate::error::{Error, counted};
use crate::input;
use crate::output::Row;
use crate::table::{Cell, Column, cut, whole};
use crate::view::{self, DecisionView, DiagnosticView};

/// Compare decisions with a table of what is expected; fails when one is another
///
/// The table is TOML: `[[decision]]` with `principal`, `action`, `resource`, `expect` (`allow` or `deny`), and where they
/// matter `policies`, the ids of those that have to decide, `approved_by`, the principals that are taken to have approved
/// it, and `context` as in `bursar policy check`. Without policy files
/// the set in force is asked.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The table; `-` for standard input
    table: PathBuf,
    /// Policies that are not applied: files, or directories with `*.cedar` and `registrations.toml`
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default)]
    decision: Vec<Expected>,
}

/// What a request is expected to meet.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    principal: String,
    action: String,
    #[serde(default)]
    resource: String,
    #[serde(default)]
    context: BTreeMap<String, String>,
    /// Nobody where it is not given.
    #[serde(default)]
    approved_by: Vec<String>,
    expect: Decision,
    #[serde(default)]
    policies: Vec<String>,
}

/// One expectation and what it met.
#[derive(Serialize)]
struct Outcome {
    /// From 1, in the order of the table.
    number: usize,
    as_expected: bool,
    expected: Decision,
    principal: String,
    action: String,
    resource: String,
    decided: DecisionView,
}

impl Arguments {
    pub(super) async fn carry_out(self, session: &Session) -> Result<(), Error> {
        let table = read(&self.table)?;
        let files = match self.files.as_slice() {
            [] => Vec::new(),
            paths => files::read(paths)?,
        };
        let expectations = table.decision.iter().map(Expected::to_wire).collect();
        let client = session.client()?;
        let message = PoliciesTestRequest { files, expectations };
        let tested = client
            .repeatable(message, |client, request| async move { client.policies().test(request).await })
            .await?;
        let outcomes = match tested.result {
            Some(Tested::Tested(tested)) => tested.outcomes,
            Some(Tested::Rejected(rejected)) => {
                let faults: Vec<_> = rejected.faults.into_iter().map(DiagnosticView::from).collect();
                session.output.list(&faults, "")?;
                return Err(Error::Policies { faults: faults.len() });
            }
            None => return Err(view::missing(&client, "result")),
        };
        let mut shown = Vec::new();
        for (number, (expected, outcome)) in (1..).zip(table.decision.into_iter().zip(outcomes)) {
            shown.push(Outcome {
                number,
                as_expected: outcome.as_expected,
                expected: expected.expect,
                principal: expected.principal,
                action: expected.action,
                resource: expected.resource,
                decided: view::read_required(&client, "decided", outcome.decided)?,
            });
        }
        let total = shown.len();
        let wrong: Vec<_> = shown.iter().filter(|outcome| !outcome.as_expected).collect();
        let failed = wrong.len();
        match session.output.is_json() {
            true => session.output.list(&shown, "")?,
            false if failed > 0 => session.output.list(&wrong, "")?,
            false => {}
        }
        match failed {
            0 => {
                session.output.say(&format!("{} as expected", counted(total, "decision")));
                Ok(())
            }
            failed => Err(Error::NotAsExpected { failed, total }),
        }
    }
}

impl Expected {
    fn to_wire(&self) -> PolicyExpectation {
        let mut context = self.context.clone();
        if !self.approved_by.is_empty() {
            context.insert(APPROVED_BY.to_owned(), self.approved_by.join(" "));
        }
        PolicyExpectation {
            request: Some(PoliciesCheckRequest {
                principal: self.principal.clone(),
                action: self.action.clone(),
                resource: self.resource.clone(),
                context,
            }),
            decision: v1::Decision::from(self.expect).into(),
            policies: self.policies.clone(),
        }
    }
}

impl Row for &Outcome {
    const COLUMNS: &'static [Column] = Outcome::COLUMNS;

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        (*self).cells(now)
    }
}

impl Row for Outcome {
    const COLUMNS: &'static [Column] = &[
        whole("NUMBER"),
        whole("EXPECTED"),
        whole("DECIDED"),
        whole("ACTION"),
        cut("PRINCIPAL"),
        cut("RESOURCE"),
        cut("BECAUSE"),
    ];

    fn cells(&self, _: Timestamp) -> Vec<Cell> {
        let decided = self.decided.shown();
        vec![
            Cell::new(self.number.to_string()),
            Cell::new(self.expected.as_str()),
            if self.as_expected { Cell::good(decided) } else { Cell::bad(decided) },
            Cell::new(&self.action),
            Cell::new(&self.principal),
            Cell::new(&self.resource),
            Cell::maybe(self.decided.because()),
        ]
    }
}

fn read(path: &Path) -> Result<Table, Error> {
    let text = input::document(path, limits::POLICY_SET)?;
    let faulty = |what: String| Error::Table { path: path.to_owned(), what };
    let table: Table = toml::from_str(&text).map_err(|error| faulty(error.to_string()))?;
    for (number, expected) in (1..).zip(&table.decision) {
        let wrong = |error: &dyn std::error::Error| faulty(format!("decision {number}: {error}"));
        SpiffeId::parse(&expected.principal).map_err(|error| wrong(&error))?;
        expected.action.parse::<Action>().map_err(|error| wrong(&error))?;
        for id in &expected.approved_by {
            SpiffeId::parse(id).map_err(|error| wrong(&error))?;
        }
    }
    match table.decision.len() {
        0 => Err(faulty("it has no `[[decision]]`".to_owned())),
        count if count > limits::EXPECTATIONS => {
            Err(faulty(format!("it has {count} decisions, and a test takes {}", limits::EXPECTATIONS)))
        }
        _ => Ok(table),
    }
}

const APPROVED_BY: &str = "approved_by";

const EXAMPLES: &str = "\
Examples:
  bursar policy test expected.toml             # the policies in force
  bursar policy test expected.toml policies    # those of a directory, before they are applied

A table:
  [[decision]]
  principal = \"spiffe://example.org/ns/payments/sa/web\"
  action = \"read\"
  resource = \"vault/payments/db\"
  expect = \"allow\"
  policies = [\"payments\"]
  [[decision]]
  principal = \"spiffe://example.org/user/ada\"
  action = \"read\"
  resource = \"vault/payments/db\"
  context = { reason = \"ticket 4711\", time = \"2026-01-31T03:00:00Z\" }
  expect = \"deny\"
  [[decision]]
  principal = \"spiffe://example.org/user/ada\"
  action = \"read\"
  resource = \"vault/payments/db\"
  approved_by = [\"spiffe://example.org/user/bob\"]
  expect = \"allow\"";

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> String {
        let place = tempfile::tempdir().expect("directory");
        let file = place.path().join("expected.toml");
        std::fs::write(&file, text).expect("file");
        read(&file).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_faulty_table_is_told_with_its_place() {
        assert!(fault("").contains("no `[[decision]]`"));
        let good = "[[decision]]\nprincipal = 'spiffe://d/user/a'\naction = 'read'\nexpect = 'deny'\n";
        assert_eq!(fault(good), "");
        assert!(fault(&good.replace("'read'", "'raed'")).contains("decision 1: there is no action `raed`"));
        let approved = format!("{good}approved_by = ['bob']\n");
        assert!(fault(&approved).contains("decision 1: "), "{}", fault(&approved));
        assert!(fault(&good.replace("'deny'", "'denied'")).contains("line 4"));
        assert!(fault(&good.replace("expect", "expects")).contains("expects"));
    }
}
