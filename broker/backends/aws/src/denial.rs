//! The policy that denies everything to sessions that were taken back.
//!
//! It is an inline policy of the role, so it holds for sessions of that role alone, and of those for the ones that it
//! names: `aws:userid` of a session is the id of its role, a colon, and the session's name, in which no colon can be.
//! Sessions that end within one hour share a statement, whose `Sid` says when that hour is over. What has ended is
//! left out at the next writing, and nothing but the document has to be remembered for that.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

/// Sessions that are denied everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Denied {
    /// By the hour at whose beginning all of them have ended.
    sessions: BTreeMap<Timestamp, BTreeSet<String>>,
}

impl Denied {
    /// Reads a document. Statements of another form than ours are not kept: nobody else writes a policy of this name.
    /// None where it is no policy.
    pub(crate) fn read(document: &str) -> Option<Self> {
        let document: Value = serde_json::from_str(document).ok()?;
        let mut denied = Self::default();
        for statement in document.get("Statement")?.as_array()? {
            let Some(end) = statement.get("Sid").and_then(Value::as_str).and_then(end) else { continue };
            let ids = statement.pointer("/Condition/StringLike/aws:userid").and_then(Value::as_array);
            let names = ids.into_iter().flatten().filter_map(|id| id.as_str()?.strip_prefix(ANY_ROLE));
            denied.sessions.entry(end).or_default().extend(names.map(str::to_owned));
        }
        Some(denied)
    }

    /// Adds the session `name`, which ends at `end`.
    pub(crate) fn deny(&mut self, name: &str, end: Timestamp) {
        self.sessions.entry(whole_hour(end)).or_default().insert(name.to_owned());
    }

    /// Adds those of `other`.
    pub(crate) fn extend(&mut self, other: &Self) {
        for (end, names) in &other.sessions {
            self.sessions.entry(*end).or_default().extend(names.iter().cloned());
        }
    }

    /// Leaves out the sessions that have ended.
    pub(crate) fn forget_ended(&mut self, now: Timestamp) {
        self.sessions.retain(|end, names| *end > now && !names.is_empty());
    }

    /// The document, without blanks: they would not count, and are not there to be read.
    pub(crate) fn document(&self) -> String {
        let statement = |(end, names): (&Timestamp, &BTreeSet<String>)| {
            let ids: Vec<_> = names.iter().map(|name| format!("{ANY_ROLE}{name}")).collect();
            json!({
                "Sid": TimeZone::UTC.to_datetime(*end).strftime(SID).to_string(),
                "Effect": "Deny",
                "Action": "*",
                "Resource": "*",
                "Condition": { "StringLike": { "aws:userid": ids } },
            })
        };
        let statements: Vec<_> = self.sessions.iter().map(statement).collect();
        json!({ "Version": "2012-10-17", "Statement": statements }).to_string()
    }
}

/// The beginning of the first hour by which it is over.
fn whole_hour(time: Timestamp) -> Timestamp {
    let seconds = time.as_second();
    let over = seconds.rem_euclid(HOUR) + i64::from(time.subsec_nanosecond() > 0);
    let hour = if over == 0 { seconds } else { seconds - seconds.rem_euclid(HOUR) + HOUR };
    Timestamp::from_second(hour).unwrap_or(Timestamp::MAX)
}

fn end(sid: &str) -> Option<Timestamp> {
    TimeZone::UTC.to_timestamp(DateTime::strptime(SID, sid).ok()?).ok()
}

/// What a statement is called, by the hour: letters and digits are all that AWS takes there.
const SID: &str = "Until%Y%m%dT%H%MZ";
/// Before a session's name. The id of the role is left out: the policy is the role's own, and those 21 characters
/// would be two fifths of each entry.
const ANY_ROLE: &str = "*:";
const HOUR: i64 = 3600;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: &str) -> Timestamp {
        time.parse().expect("time")
    }

    fn denied(sessions: &[(&str, &str)]) -> Denied {
        let mut denied = Denied::default();
        for (name, end) in sessions {
            denied.deny(name, at(end));
        }
        denied
    }

    #[test]
    fn everything_is_denied_to_the_sessions_that_are_named() {
        let document = denied(&[
            ("bursar-b", "2026-11-27T01:20:00Z"),
            ("bursar-a", "2026-11-27T01:59:59Z"),
            ("bursar-c", "2026-11-27T02:00:01Z"),
        ])
        .document();
        let statement = |sid: &str, ids: &str| {
            format!(
                r#"{{"Sid":"{sid}","Effect":"Deny","Action":"*","Resource":"*","Condition":{{"StringLike":{{"aws:userid":[{ids}]}}}}}}"#
            )
        };
        let first = statement("Until20261127T0200Z", r#""*:bursar-a","*:bursar-b""#);
        let second = statement("Until20261127T0300Z", r#""*:bursar-c""#);
        assert_eq!(document, format!(r#"{{"Version":"2012-10-17","Statement":[{first},{second}]}}"#));
        assert_eq!(document.matches(char::is_whitespace).count(), 0);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let denied = denied(&[("bursar-a", "2026-11-27T01:00:00Z"), ("bursar-b", "2026-11-27T01:00:00.5Z")]);
        assert_eq!(denied.sessions.len(), 2, "one ends with the hour, and one a moment later");
        assert_eq!(Denied::read(&denied.document()), Some(denied));
    }

    #[test]
    fn what_has_ended_is_left_out_and_nothing_before() {
        let mut denied =
            denied(&[("bursar-a", "2026-11-27T01:20:00Z"), ("bursar-b", "2026-11-27T02:20:00Z")]);
        let all = denied.clone();
        denied.forget_ended(at("2026-11-27T01:59:59Z"));
        assert_eq!(denied, all);
        denied.forget_ended(at("2026-11-27T02:00:00Z"));
        assert!(!denied.document().contains("bursar-a") && denied.document().contains("bursar-b"));
    }

    #[test]
    fn denying_twice_changes_nothing() {
        let mut twice = denied(&[("bursar-a", "2026-11-27T01:20:00Z")]);
        let once = twice.clone();
        twice.deny("bursar-a", at("2026-11-27T01:20:00Z"));
        twice.extend(&once);
        assert_eq!(twice, once);
    }

    #[test]
    fn a_document_of_another_form_denies_nothing_of_ours() {
        for none in [
            r#"{"Version":"2012-10-17","Statement":[]}"#,
            r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}"#,
            r#"{"Version":"2012-10-17","Statement":[{"Sid":"Until99999999T9999Z","Effect":"Deny"}]}"#,
        ] {
            assert_eq!(Denied::read(none), Some(Denied::default()), "{none}");
        }
        for unreadable in ["", "[]", "{}", r#"{"Version":"2012-10-17","Statement":1}"#] {
            assert_eq!(Denied::read(unreadable), None, "`{unreadable}`");
        }
    }

    /// As `docs/backends.md` says it.
    #[test]
    fn a_role_with_no_other_policy_has_room_for_two_hundred_and_fifty() {
        let mut denied = Denied::default();
        let hours = ["2026-11-27T01:20:00Z", "2026-11-27T02:20:00Z"];
        for number in 0..250 {
            let end = hours.iter().cycle().nth(number).expect("an hour");
            denied.deny(&format!("bursar-{number:026}"), at(end));
        }
        assert!(denied.document().len() <= 10_240, "{}", denied.document().len());
    }
}
