//! Whether what is there is at least what is wanted.
//!
//! What was added once comes back with more in it: the API server fills in defaults, and other webhooks add variables and
//! mounts to every container. So it need not be the same. But all that is wanted has to be there, to the letter.

use serde_json::Value;

/// Whether `there` has everything of `wanted`. Objects may have further members, and lists of objects further elements, in
/// any order; a list of anything else is compared whole, since commands and capabilities mean what they are as a whole.
pub(super) fn covers(there: &Value, wanted: &Value) -> bool {
    match (there, wanted) {
        (Value::Object(there), Value::Object(wanted)) => {
            wanted.iter().all(|(name, wanted)| there.get(name).is_some_and(|there| covers(there, wanted)))
        }
        (Value::Array(there), Value::Array(wanted)) if wanted.iter().any(Value::is_object) => {
            wanted.iter().all(|wanted| there.iter().any(|there| covers(there, wanted)))
        }
        _ => there == wanted,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_others_add_does_not_matter_and_what_they_take_or_change_does() {
        let wanted =
            json!({ "command": ["a", "b"], "env": [{ "name": "X", "value": "1" }], "c": { "d": true } });
        let there = json!({
            "command": ["a", "b"], "c": { "d": true, "e": 1 }, "imagePullPolicy": "Always",
            "env": [{ "name": "REGION", "value": "x" }, { "name": "X", "value": "1" }],
        });
        assert!(covers(&there, &wanted) && covers(&wanted, &wanted));
        for (path, other) in [
            ("/command", json!(["a", "b", "c"])),
            ("/command", json!(["b", "a"])),
            ("/env", json!([])),
            ("/env/1/value", json!("2")),
            ("/c", json!({})),
            ("/c/d", json!("true")),
            ("/c", json!(null)),
        ] {
            let mut changed = there.clone();
            *changed.pointer_mut(path).expect("there") = other;
            assert!(!covers(&changed, &wanted), "{path}");
        }
    }
}
