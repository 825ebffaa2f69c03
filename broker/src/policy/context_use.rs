//! Which parts of the context a policy looks at, and so whether a decision may be kept.

use cedar_policy::{Policy, PolicyToJsonError};
use serde_json::Value;

/// How policies depend on what changes from request to request.
///
/// Who asks for what, and who approved it, is part of what a kept decision is found by; the time and the reason are not.
/// Anything that this module does not recognise counts as changing: a decision too few is kept, never one too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct ContextUse {
    /// Something changes with each request, so no decision may be kept.
    pub(super) changing: bool,
    /// Whether a reason was given matters, but not which.
    pub(super) reason_given: bool,
    /// Who approved it matters, so that has to be looked up.
    pub(super) approvals: bool,
}

impl ContextUse {
    /// Reads it from the conditions of `policy`; the scope cannot mention the context.
    pub(super) fn of(policy: &Policy) -> Result<Self, Box<PolicyToJsonError>> {
        let mut found = Self::default();
        if let Some(conditions) = policy.to_json()?.get("conditions") {
            found.look_at(conditions);
        }
        Ok(found)
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self {
            changing: self.changing || other.changing,
            reason_given: self.reason_given || other.reason_given,
            approvals: self.approvals || other.approvals,
        }
    }

    /// Cedar's JSON policy format writes `context.a` as `{".": {"left": {"Var": "context"}, "attr": "a"}}`, `context has a`
    /// the same under `"has"`, and the bare word as `{"Var": "context"}`.
    fn look_at(&mut self, expression: &Value) {
        match expression {
            Value::Object(parts) => {
                for (operator, operand) in parts {
                    match (operator.as_str(), attribute_of_context(operand)) {
                        ("." | "has", Some("approved_by" | "approvals")) => self.approvals = true,
                        (".", Some(attribute)) => self.changing |= attribute != "version",
                        ("has", Some("reason")) => self.reason_given = true,
                        ("has", Some(attribute)) => self.changing |= attribute != "version",
                        // All of it at once.
                        ("Var", _) if operand == "context" => {
                            (self.changing, self.approvals) = (true, true);
                        }
                        _ => self.look_at(operand),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.look_at(item)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

fn attribute_of_context(operand: &Value) -> Option<&str> {
    let of_context = operand.get("left")?.get("Var")? == "context";
    operand.get("attr")?.as_str().filter(|_| of_context)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uses(condition: &str) -> ContextUse {
        let text = format!("permit (principal, action, resource) when {{ {condition} }};");
        ContextUse::of(&text.parse().expect("policy")).expect("json")
    }

    fn of(condition: &str) -> (bool, bool) {
        let found = uses(condition);
        (found.changing, found.reason_given)
    }

    #[test]
    fn approvals_are_found_wherever_they_stand() {
        for condition in [
            "context.approvals >= 1",
            "context has approved_by && context.approved_by.contains(\"spiffe://example.org/user/bob\")",
            "if principal.kind == \"user\" then context[\"approvals\"] == 2 else true",
            "!(context has approvals)",
        ] {
            assert!(uses(condition).approvals && !uses(condition).changing, "`{condition}`");
        }
        assert!(uses("context == { \"approvals\": 1 }").approvals, "they are part of all of it");
        for condition in ["context has reason", "context.weekday < 6", "principal has approvals"] {
            assert!(!uses(condition).approvals, "`{condition}` must not be looked up for");
        }
    }

    #[test]
    fn what_is_part_of_the_key_may_be_looked_at() {
        assert_eq!(
            of("principal.kind == \"user\" && context has version && context.version == \"3\""),
            (false, false)
        );
        assert_eq!(of("context has reason"), (false, true));
    }

    #[test]
    fn what_changes_is_found_wherever_it_stands() {
        for condition in [
            "context.time > datetime(\"2030-01-01\")",
            "context.weekday < 6",
            "context has reason && context.reason like \"INC-*\"",
            "context[\"reason\"] == \"x\"",
            "if principal has node then context.weekday == 1 else true",
            "[1, context.weekday].contains(2)",
            "{ \"a\": context.weekday }.a == 1",
            "!(context == { \"x\": 1 })",
            "context has time",
            "context has \"reason\" && (context).reason == \"x\"",
        ] {
            assert!(of(condition).0, "a decision by `{condition}` must not be kept");
        }
    }
}
