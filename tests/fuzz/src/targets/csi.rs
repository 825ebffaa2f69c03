//! Volumes of pods: what whoever writes a SecretProviderClass, or a driver, can ask for.

use std::path::Component;

use bursar_agent::csi::{asking, listed};
use bursar_proto::csi::MountRequest;
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

use crate::Target;

pub(super) const REQUESTS: Target =
    Target { name: "csi-requests", seeds: request_seeds, run: run_request, rounds: 20_000 };
pub(super) const LISTS: Target =
    Target { name: "csi-lists", seeds: list_seeds, run: run_list, rounds: 20_000 };

/// Attributes, secrets and permission, a line feed between them.
fn run_request(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let mut parts = text.splitn(3, '\n');
    let mut part = || parts.next().unwrap_or_default().to_owned();
    let message = MountRequest {
        attributes: part(),
        secrets: part(),
        permission: part(),
        target_path: String::new(),
        current_object_version: Vec::new(),
    };
    match asking(message, AUDIENCE) {
        Ok(asking) => {
            let printable = asking.pod.bytes().all(|byte| byte.is_ascii_graphic());
            assert!(printable && asking.pod.len() <= 2 * 253 + 1, "{}", asking.pod);
            for (path, mode) in &asking.files {
                let mut components = path.components();
                assert!(*mode <= 0o777, "{mode:o}");
                assert!(
                    components.all(|component| matches!(component, Component::Normal(_))),
                    "`{}` leads out of the volume",
                    path.display()
                );
            }
            assert!(asking.environment.is_some() || !asking.files.is_empty(), "nothing is asked for");
            assert!(asking.mode <= 0o777);
        }
        Err(told) => one_line(&told),
    }
}

fn run_list(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match listed(text) {
        Ok(entries) => assert!(entries <= text.len(), "a short text means {entries} entries"),
        Err(told) => one_line(&told),
    }
}

/// It goes into a log and into the events of a pod.
fn one_line(told: &str) {
    assert!(!told.chars().any(char::is_control), "{told:?}");
}

fn request_seeds() -> Vec<Vec<u8>> {
    let claims =
        json!({ "aud": [AUDIENCE], "kubernetes.io": { "pod": { "name": "web-0", "uid": "uid-1" } } });
    let token = format!("e30.{}.c2ln", BASE64URL_NOPAD.encode(claims.to_string().as_bytes()));
    let tokens =
        json!({ AUDIENCE: { "token": token, "expirationTimestamp": "2030-01-01T00:00:00Z" } }).to_string();
    let request = |parameters: Value, in_secrets: bool, permission: &str| {
        let mut attributes = json!({
            "secretProviderClass": "web",
            "csi.storage.k8s.io/ephemeral": "true",
            "csi.storage.k8s.io/pod.name": "web-0",
            "csi.storage.k8s.io/pod.namespace": "shop",
            "csi.storage.k8s.io/pod.uid": "uid-1",
            "csi.storage.k8s.io/serviceAccount.name": "web",
        });
        if let (Some(all), Some(more)) = (attributes.as_object_mut(), parameters.as_object()) {
            all.extend(more.clone());
            if !in_secrets {
                all.insert(TOKENS.to_owned(), tokens.clone().into());
            }
        }
        let secrets = if in_secrets { json!({ TOKENS: tokens }).to_string() } else { "null".to_owned() };
        format!("{attributes}\n{secrets}\n{permission}").into_bytes()
    };
    let objects = "- path: db/password\n  reference: local/db#password\n  mode: '0440'\n";
    let outputs =
        r#"[{"path": "app.env", "format": "env", "variables": ["A"]}, {"path": "t", "template": "{{ A }}"}]"#;
    vec![
        request(json!({ "environment": "shop/prod" }), false, "420"),
        request(json!({ "environment": "shop/prod", "outputs": outputs, "mode": "0400" }), true, ""),
        request(json!({ "objects": objects }), false, "256"),
        request(json!({ "objects": "- path: ../a\n  reference: local/a\n" }), false, "0"),
        request(json!({ "obejcts": "x" }), true, "512"),
        b"{}\nnull\n420".to_vec(),
        b"[]\n[]\n-1".to_vec(),
    ]
}

fn list_seeds() -> Vec<Vec<u8>> {
    [
        "- path: a/b\n  mode: 0400\n  variables: [A, \"B\"]\n- {path: no}\n",
        r#"[{"path": "a/b", "mode": "0400", "variables": ["A", "B"]}, {"path": "no"}]"#,
        "- a: &x b\n- c: *x\n",
        "- a: |\n    line\n    line\n  b: >-\n    folded\n",
        "- ? key\n  : value\n--- # another\n- !!str a: b\n...\n",
        "[[[[[[[[[[",
        "path: a\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

const AUDIENCE: &str = "bursar";
const TOKENS: &str = "csi.storage.k8s.io/serviceAccount.tokens";

#[cfg(test)]
mod tests {
    use super::*;

    /// Else what is tried would be no more than that everything is refused.
    #[test]
    fn a_request_that_is_good_is_read() {
        let read = |seed: &Vec<u8>| {
            let text = String::from_utf8(seed.clone()).expect("text");
            let mut parts = text.split('\n');
            let mut part = || parts.next().unwrap_or_default().to_owned();
            let message = MountRequest {
                attributes: part(),
                secrets: part(),
                permission: part(),
                target_path: String::new(),
                current_object_version: Vec::new(),
            };
            asking(message, AUDIENCE).map(|asking| asking.files.len())
        };
        let files: Vec<_> = request_seeds().iter().take(3).map(read).collect();
        assert_eq!(files, [Ok(0), Ok(2), Ok(1)]);
    }
}
