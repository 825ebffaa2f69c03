use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bursar_core::reference::BackendName;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::config::VaultStore;
use crate::webhook::covers::covers;
use crate::webhook::testing::settings;

/// The pods of the corpus whose names begin with `prefix`, and the files that they are in.
fn corpus(refused: bool) -> Vec<(PathBuf, Value)> {
    let files = fs::read_dir(folder()).expect("a folder").map(|entry| entry.expect("an entry").path());
    let wanted = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.ends_with(".json") && !name.ends_with(".patch.json") && name.starts_with("refused-") == refused
    };
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a file");
        (path, serde_json::from_str(&text).expect("JSON"))
    };
    let mut pods: Vec<_> = files.filter(wanted).map(read).collect();
    pods.sort_by(|one, other| one.0.cmp(&other.0));
    assert!(pods.len() > 10, "the corpus is not there");
    pods
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/webhook/testdata")
}

/// With Vault's annotations read.
fn everything() -> Settings {
    let mut settings = settings();
    let backend = BackendName::parse("vault").expect("a name");
    settings.injection.vault = Some(VaultStore { backend, kv2_mounts: vec!["secret".to_owned()] });
    settings
}

fn decide(pod: &Value, settings: &Settings) -> Result<Outcome, Refusal> {
    let pod = serde_json::from_value(pod.clone()).expect("a pod");
    mutate(&pod, "shop", settings)
}

fn patched(pod: &Value, settings: &Settings) -> Value {
    let Ok(Outcome::Injected { patch, .. }) = decide(pod, settings) else {
        panic!("{:?}", decide(pod, settings))
    };
    let mut patched = pod.clone();
    json_patch::patch(&mut patched, &patch).expect("a patch that applies");
    patched
}

/// Golden file: one that is missing is written, and the test fails once. Answers whether it was there.
fn is_golden(path: &Path, made: &str) -> bool {
    let Ok(golden) = fs::read_to_string(path) else {
        fs::write(path, made).expect("written");
        return false;
    };
    assert_eq!(golden, made, "{}; remove it to have it written anew", path.display());
    true
}

#[test]
fn the_corpus_gets_the_patches_that_were_looked_at() {
    let mut written = Vec::new();
    for (path, pod) in corpus(false) {
        let Ok(Outcome::Injected { patch, warnings, shape }) = decide(&pod, &everything()) else {
            panic!("{}: {:?}", path.display(), decide(&pod, &everything()))
        };
        let made = json!({ "shape": shape.as_str(), "warnings": warnings, "patch": patch });
        let made = serde_json::to_string_pretty(&made).expect("JSON") + "\n";
        let golden = path.with_extension("patch.json");
        if !is_golden(&golden, &made) {
            written.push(golden);
        }
    }
    assert!(written.is_empty(), "look at these, which were not there, and run again: {written:?}");
}

#[test]
fn what_is_refused_is_told_in_the_words_that_were_looked_at() {
    let mut told = String::new();
    for (path, pod) in corpus(true) {
        let Err(Refusal(faults)) = decide(&pod, &everything()) else {
            panic!("{} is let in", path.display())
        };
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        told.push_str(&format!("{name}\n"));
        faults.iter().for_each(|fault| told.push_str(&format!("  {fault}\n")));
    }
    assert!(
        is_golden(&folder().join("refused.txt"), &told),
        "refused.txt was not there; look at it and run again"
    );
}

#[test]
fn a_patch_that_was_applied_leaves_nothing_to_be_added() {
    for (path, pod) in corpus(false) {
        let once = patched(&pod, &everything());
        assert_eq!(patched(&once, &everything()), once, "{}", path.display());
    }
}

#[test]
fn a_patched_pod_is_a_pod_to_the_last_member() {
    for (path, pod) in corpus(false) {
        let patched = patched(&pod, &everything());
        let read: Pod = serde_json::from_value(patched.clone()).expect("a pod");
        let written = serde_json::to_value(&read).expect("JSON");
        // What Kubernetes does not know it would drop.
        let known = json!({ "metadata": patched["metadata"]["annotations"], "spec": patched["spec"] });
        let written = json!({ "metadata": written["metadata"]["annotations"], "spec": written["spec"] });
        assert!(covers(&written, &known), "{}: {known:#}\n{written:#}", path.display());
    }
}

/// What the API server and other webhooks do between two questions.
#[test]
fn what_others_add_in_between_changes_nothing() {
    for (path, pod) in corpus(false) {
        let mut between = patched(&pod, &everything());
        for list in ["containers", "initContainers"] {
            for container in between["spec"][list].as_array_mut().into_iter().flatten() {
                container["terminationMessagePath"] = json!("/dev/termination-log");
                let mount = json!({ "name": "other", "mountPath": "/var/run/other", "readOnly": true });
                match container["volumeMounts"].as_array_mut() {
                    Some(mounts) => mounts.insert(0, mount),
                    None => container["volumeMounts"] = json!([mount]),
                }
            }
        }
        let volume = json!({ "name": "other", "emptyDir": {} });
        between["spec"]["volumes"].as_array_mut().expect("volumes").insert(0, volume);
        between["spec"]["containers"]
            .as_array_mut()
            .expect("containers")
            .push(json!({ "name": "logs", "image": "logs" }));
        let Ok(Outcome::Injected { patch, .. }) = decide(&between, &everything()) else {
            panic!("{}", path.display())
        };
        let touched = |operation: &json_patch::PatchOperation| operation.path().to_string();
        let own = patch.iter().map(touched).filter(|path| !path.contains("/containers/")).collect::<Vec<_>>();
        assert!(own.is_empty(), "{}: {own:?}", path.display());
        let is_exec = between.pointer("/metadata/annotations/bursar.io~1injected").and_then(Value::as_str);
        assert!(patch.0.is_empty() || !is_exec.unwrap_or_default().starts_with("exec"), "{patch}");
    }
}

#[test]
fn a_marker_that_was_planted_is_not_believed() {
    let (_, mut pod) =
        corpus(false).into_iter().find(|(path, _)| path.ends_with("bare.json")).expect("there");
    let plain = patched(&pod, &settings());
    pod["metadata"]["annotations"]["bursar.io/injected"] = json!("exec shop/prod");
    assert_eq!(patched(&pod, &settings()), plain);
}

#[test]
fn who_did_not_opt_in_is_not_touched_whatever_is_said() {
    for (path, mut pod) in corpus(false).into_iter().chain(corpus(true)) {
        for label in [Value::Null, json!("false")] {
            pod["metadata"]["labels"]["bursar.io/inject"] = label.clone();
            if label.is_null() {
                pod["metadata"]["labels"].as_object_mut().expect("labels").remove("bursar.io/inject");
            }
            let outcome = decide(&pod, &everything());
            assert!(
                matches!(&outcome, Ok(Outcome::Untouched { warnings }) if warnings.is_empty()),
                "{}",
                path.display()
            );
        }
    }
}

#[test]
fn a_namespace_opts_its_pods_in_but_for_those_that_opt_out() {
    let mut settings = settings();
    let defaults = NamespaceDefaults { shape: Some(Shape::Node), environment: None };
    settings.injection.namespaces.insert("shop".to_owned(), defaults);
    let mut pod = json!({ "metadata": {}, "spec": { "containers": [{ "name": "web" }] } });
    assert!(patched(&pod, &settings).pointer("/spec/volumes/1/hostPath").is_some());
    pod["metadata"]["labels"] = json!({ "bursar.io/inject": "false" });
    assert!(matches!(decide(&pod, &settings), Ok(Outcome::Untouched { .. })));
    let windows = json!({ "spec": { "os": { "name": "windows" }, "containers": [{ "name": "web" }] } });
    assert!(
        matches!(decide(&windows, &settings), Ok(Outcome::Untouched { warnings }) if warnings.len() == 1)
    );
    let mirror = json!({
        "metadata": { "annotations": { "kubernetes.io/config.mirror": "x" }, "labels": { "bursar.io/inject": "true" } },
        "spec": { "containers": [{ "name": "web" }] },
    });
    assert!(matches!(decide(&mirror, &settings), Ok(Outcome::Untouched { warnings }) if warnings.len() == 1));
}

#[test]
fn nothing_that_an_author_writes_reaches_the_words_that_lead_to_the_broker() {
    let mut pod = json!({
        "metadata": {
            "labels": { "bursar.io/inject": "true" },
            "annotations": { "bursar.io/environment": "shop/prod" },
        },
        "spec": { "containers": [{
            "name": "web", "command": ["--address", "https://evil.example"],
            "env": [{ "name": "BURSAR_ADDRESS", "value": "https://evil.example" }, { "name": "BURSAR_CA", "value": "/evil" }],
        }] },
    });
    let expected = [
        "/run/bursar-exec/bursar",
        "--address",
        "https://broker.bursar.svc:8443",
        "--ca",
        "/run/bursar-exec/ca.pem",
    ];
    let words = |pod: &Value| pod.pointer("/spec/containers/0/command").cloned().expect("a command");
    let patched_pod = patched(&pod, &settings());
    assert_eq!(words(&patched_pod).as_array().expect("words")[..5], expected.map(|word| json!(word)));
    pod["spec"]["containers"][0]["command"] = json!(["$(EVIL)"]);
    let last = words(&patched(&pod, &settings())).as_array().and_then(|words| words.last().cloned());
    assert_eq!(last, Some(json!("$(EVIL)")), "the author's own words are Kubernetes's to replace, as before");
}

fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z/.,$()=:-]{0,12}",
        "\\PC{0,8}",
        Just("true".to_owned()),
        Just("sidecar".to_owned()),
        Just("shop/prod".to_owned())
    ]
}

/// Any part of a pod that the webhook looks at, or that has a name of ours.
fn pods() -> impl Strategy<Value = Value> {
    let names = || {
        prop_oneof![
            Just("web"),
            Just("bursar-install"),
            Just("bursar-files"),
            Just("bursar-token"),
            Just("bursar-exec"),
            Just("a/b~c")
        ]
    };
    let keys = prop_oneof![
        Just("bursar.io/environment"),
        Just("bursar.io/shape"),
        Just("bursar.io/containers"),
        Just("bursar.io/injected"),
        Just("bursar.io/template.a~b"),
        Just("bursar.io/output.x"),
        Just("bursar.io/~1"),
        Just("other/~0~1"),
        Just("vault.hashicorp.com/agent-inject"),
        Just("vault.hashicorp.com/agent-inject-template-x"),
        Just("vault.hashicorp.com/agent-inject-secret-x"),
    ];
    let annotations = proptest::option::of(proptest::collection::btree_map(keys, texts(), 0..5));
    let container = || {
        (
            names(),
            proptest::option::of(proptest::collection::vec(texts(), 0..3)),
            proptest::bool::ANY,
            names(),
        )
            .prop_map(|(name, command, has_lists, mount)| {
                let mut container = json!({ "name": name, "image": "x" });
                if let Some(command) = command {
                    container["command"] = json!(command);
                    container["args"] = json!(command);
                }
                if has_lists {
                    container["volumeMounts"] = json!([{ "name": mount, "mountPath": "/run/bursar-exec" }]);
                    container["env"] = json!([]);
                }
                container
            })
    };
    let containers = || proptest::collection::vec(container(), 0..3);
    let volumes = proptest::option::of(proptest::collection::vec(
        names().prop_map(|name| json!({ "name": name })),
        0..3,
    ));
    let labels = prop_oneof![
        Just(json!({ "bursar.io/inject": "true" })),
        Just(json!({})),
        Just(json!(null)),
        Just(json!({ "bursar.io/inject": "1" }))
    ];
    (labels, annotations, containers(), proptest::option::of(containers()), volumes).prop_map(
        |(labels, annotations, containers, init, volumes)| {
            let mut pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "labels": labels }, "spec": { "containers": containers } });
            if let Some(annotations) = annotations {
                pod["metadata"]["annotations"] = json!(annotations.into_iter().collect::<BTreeMap<_, _>>());
            }
            init.into_iter().for_each(|init| pod["spec"]["initContainers"] = json!(init));
            volumes.into_iter().for_each(|volumes| pod["spec"]["volumes"] = json!(volumes));
            pod
        },
    )
}

proptest! {
    #[test]
    fn whatever_a_pod_says_a_patch_applies_once_and_gives_a_pod(pod in pods()) {
        let opted_in = pod.pointer("/metadata/labels/bursar.io~1inject") == Some(&json!("true"));
        match decide(&pod, &everything()) {
            Ok(Outcome::Untouched { .. }) => prop_assert!(!opted_in),
            Err(Refusal(faults)) => prop_assert!(!faults.is_empty() && faults.iter().all(|fault| !fault.chars().any(char::is_control))),
            Ok(Outcome::Injected { patch, .. }) => {
                prop_assert!(opted_in);
                let mut once = pod.clone();
                prop_assert!(json_patch::patch(&mut once, &patch).is_ok(), "{patch}");
                let read = serde_json::from_value::<Pod>(once.clone());
                prop_assert!(read.is_ok());
                let again = decide(&once, &everything());
                prop_assert!(matches!(&again, Ok(Outcome::Injected { patch, .. }) if patch.0.is_empty()), "{again:?}");
            }
        }
    }
}
