//! Reviews of pods: what somebody who reached the webhook's port may send, and what anybody may write into a pod.

use std::sync::LazyLock;

use bursar_agent::config::WebhookConfig;
use bursar_agent::webhook::Settings;
use bursar_agent::webhook::review::answer;
use serde_json::{Value, json};

use crate::Target;

pub(super) const TARGET: Target = Target { name: "reviews", seeds, run, rounds: 5_000 };

static SETTINGS: LazyLock<Settings> = LazyLock::new(|| {
    let config = WebhookConfig::parse(
        "image = 'bursar:1'\nbroker = 'https://broker'\nca_file = 'ca'\n[certificate]\ncert = 'c'\nkey = 'k'\n\
         [vault]\nbackend = 'vault'\n",
    );
    Settings { injection: config.expect("a configuration").injection, trust_bundle: "PEM".to_owned() }
});

/// What is answered is an answer: under the id that came, with a patch only where a pod is let in that opted in.
fn run(input: &[u8]) {
    let Ok(answered) = answer(input, &SETTINGS) else { return };
    let asked: Value = serde_json::from_slice(input).expect("what is answered is JSON");
    let said: Value = serde_json::from_slice(&answered.body).expect("an answer is JSON");
    assert_eq!(said["response"]["uid"], asked["request"]["uid"]);
    let opted_in = asked["request"]["object"]["metadata"]["labels"]["bursar.io/inject"] == "true";
    let is_patched = said["response"].get("patch").is_some();
    assert!(!is_patched || (opted_in && said["response"]["allowed"] == true), "{said}");
}

fn seeds() -> Vec<Vec<u8>> {
    let review = |shape: &str, more: &Value| {
        let mut annotations = json!({ "bursar.io/environment": "shop/prod", "bursar.io/shape": shape });
        let members = annotations.as_object_mut().expect("members");
        members.extend(more.as_object().cloned().unwrap_or_default());
        let review = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": "1", "kind": { "group": "", "version": "v1", "kind": "Pod" },
                "resource": { "group": "", "version": "v1", "resource": "pods" }, "operation": "CREATE", "userInfo": {},
                "object": {
                    "apiVersion": "v1", "kind": "Pod",
                    "metadata": { "labels": { "bursar.io/inject": "true" }, "annotations": annotations },
                    "spec": { "containers": [{ "name": "a", "command": ["b"], "args": ["c"] }], "volumes": [] },
                },
            },
        });
        review.to_string().into_bytes()
    };
    let template = "{{- with secret \"secret/data/a\" -}}{{ .Data.data.b }}{{- end }}";
    let vault = json!({
        "bursar.io/environment": null, "vault.hashicorp.com/agent-inject": "true",
        "vault.hashicorp.com/agent-inject-secret-x": "a/b", "vault.hashicorp.com/agent-inject-template-x": template,
    });
    let mut vault: Value = serde_json::from_slice(&review("sidecar", &vault)).expect("JSON");
    let annotations = vault["request"]["object"]["metadata"]["annotations"].as_object_mut().expect("members");
    annotations.retain(|name, _| !name.starts_with("bursar.io/"));
    vec![
        review("exec", &json!({})),
        review("sidecar", &json!({ "bursar.io/template.a": "{{ A }}", "bursar.io/output.b": "pem:A" })),
        review("node", &json!({ "bursar.io/containers": "a" })),
        vault.to_string().into_bytes(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Else what is tried would be no more than that everything is refused.
    #[test]
    fn the_seeds_are_let_in() {
        let outcomes: Vec<_> = seeds().iter().filter_map(|seed| answer(seed, &SETTINGS).ok()).collect();
        let shapes: Vec<_> = outcomes.iter().map(|answer| answer.shape).collect();
        assert_eq!(shapes, ["exec", "sidecar", "node", "sidecar"]);
    }
}
