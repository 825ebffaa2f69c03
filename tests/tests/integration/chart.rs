//! The chart, rendered and linted by Helm itself, its objects put to Kubernetes' own schemas, and its configurations to our
//! programs. The manifests in `deploy/kubernetes` are made of it.

mod rights;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use bursar_tests::{binary, venv};
use serde_json::{Value, json};

#[test]
fn what_it_makes_is_valid_for_kubernetes_whatever_is_switched_on() -> Result<()> {
    for (values, rendered) in cases().iter().zip(render(&cases())?) {
        let faults = rendered.pointer("/faults").with_context(|| format!("{values}: {rendered}"))?;
        ensure!(faults.as_array().is_some_and(Vec::is_empty), "{values}: {faults:#}");
    }
    Ok(())
}

#[test]
fn what_is_switched_off_is_not_there() -> Result<()> {
    let values = [
        with(json!({ "broker": { "enabled": false } })),
        with(json!({ "agent": { "enabled": false } })),
        with(json!({ "webhook": { "enabled": false } })),
    ];
    for (rendered, part) in render(&values)?.iter().zip(["broker", "agent", "webhook"]) {
        let named =
            objects(rendered)?.iter().filter(|object| name(object) == format!("bursar-{part}")).count();
        ensure!(named == 0, "{named} objects of the {part} are there");
    }
    Ok(())
}

#[test]
fn wrong_values_are_refused_by_name() -> Result<()> {
    let cases = [
        (json!({}), "trustDomain"),
        (json!({ "trustDomain": "example.org" }), "/image/registry"),
        (with(json!({ "trustDomain": "Example" })), "/trustDomain"),
        (with(json!({ "brokers": {} })), "brokers"),
        (with(json!({ "agent": { "capability": [] } })), "capability"),
        (with(json!({ "agent": { "capabilities": ["SYS_ADMIN"] } })), "/agent/capabilities/0"),
        (with(json!({ "agent": { "broker": "http://broker:8443" } })), "/agent/broker"),
        (with(json!({ "agent": { "socketDirectory": "run/bursar" } })), "/agent/socketDirectory"),
        (with(json!({ "broker": { "config": "name = 'other'" } })), "/broker/config"),
        (with(json!({ "broker": { "replicas": 3 } })), "replicas"),
        (with(json!({ "broker": { "storage": { "size": "lots" } } })), "/broker/storage/size"),
        (with(json!({ "broker": { "policy": { "../other": "" } } })), "../other"),
        (with(json!({ "webhook": { "defaultShape": "init" } })), "/webhook/defaultShape"),
        (with(json!({ "webhook": { "failurePolicy": "Ignore" } })), "failurePolicy"),
        (with(json!({ "webhook": { "namespaces": { "shop": { "image": "x" } } } })), "image"),
        (with(json!({ "metrics": { "serviceMonitor": { "enabled": true } } })), "/networkPolicies/scrapers"),
    ];
    let values: Vec<Value> = cases.iter().map(|(values, _)| values.clone()).collect();
    for ((values, part), rendered) in cases.iter().zip(render(&values)?) {
        let refused = rendered.pointer("/refused").and_then(Value::as_str);
        let refused = refused.with_context(|| format!("{values} was taken"))?;
        ensure!(refused.contains(part), "{values} was refused without a word of `{part}`: {refused}");
    }
    Ok(())
}

#[test]
fn its_configurations_are_those_of_our_programs() -> Result<()> {
    let place = tempfile::tempdir()?;
    for (values, rendered) in cases().iter().zip(render(&cases())?) {
        for (file, program, words) in [
            ("broker.toml", "bursar-broker", &["check-config"][..]),
            ("agent.toml", "bursar-agent", &["check-config"]),
            ("webhook.toml", "bursar-agent", &["webhook", "--check"]),
        ] {
            let found =
                objects(&rendered)?.iter().find_map(|object| object.pointer(&format!("/data/{file}")));
            let Some(text) = found.and_then(Value::as_str) else { continue };
            let path = place.path().join(file);
            fs::write(&path, text)?;
            let checked = Command::new(binary(program)?).arg("--config").arg(&path).args(words).output()?;
            let said = String::from_utf8_lossy(&checked.stderr);
            ensure!(checked.status.success(), "{values}: {said}\n{text}");
        }
    }
    Ok(())
}

#[test]
fn the_plain_manifests_are_those_of_the_chart() -> Result<()> {
    for (part, text) in manifests(&plain())? {
        golden(&root().join(format!("deploy/kubernetes/{part}.yaml")), &text)?;
    }
    Ok(())
}

#[test]
fn with_everything_on_it_makes_what_was_looked_at() -> Result<()> {
    let golden_of = root().join("tests/tests/integration/chart/everything");
    for (part, text) in manifests(&everything())? {
        golden(&golden_of.join(format!("{part}.yaml")), &text)?;
    }
    Ok(())
}

/// What the chart makes of `values`, a text for each part.
fn manifests(values: &Value) -> Result<BTreeMap<String, String>> {
    let rendered = render(std::slice::from_ref(values))?;
    let texts =
        rendered.first().and_then(|rendered| rendered.pointer("/texts")).context("nothing was rendered")?;
    let mut parts: BTreeMap<String, String> = BTreeMap::new();
    for (template, text) in texts.as_object().context("no texts")? {
        let (_, part) = template.split_once("/templates/").context("a template is elsewhere")?;
        let (part, _) = part.split_once('/').context("a template is of no part")?;
        let text = text.as_str().unwrap_or_default().trim();
        let file = parts.entry(part.to_owned()).or_insert_with(|| HEAD.to_owned());
        if !text.is_empty() {
            file.push_str(&format!("---\n{}\n", text.trim_start_matches("---").trim_start()));
        }
    }
    ensure!(parts.len() == 3, "the parts are {:?}", parts.keys());
    Ok(parts)
}

/// Remove a file to have it written anew.
fn golden(path: &Path, text: &str) -> Result<()> {
    match fs::read_to_string(path) {
        Ok(there) => ensure!(
            there == text,
            "`{}` is not what the chart makes: remove it and run this twice",
            path.display()
        ),
        Err(_) => {
            fs::write(path, text)?;
            bail!("`{}` was written anew: read it, and run this again", path.display());
        }
    }
    Ok(())
}

/// The spec of an agent's pod, and its configuration, as the chart makes them of `values`.
pub(crate) fn agent(values: &Value) -> Result<(Value, String)> {
    let rendered = render(std::slice::from_ref(values))?;
    let objects = objects(rendered.first().context("nothing was rendered")?)?;
    let of = |pointer: &str| {
        let found = objects
            .iter()
            .filter(|object| name(object) == "bursar-agent")
            .find_map(|object| object.pointer(pointer));
        found.cloned().with_context(|| format!("the chart has no `{pointer}`"))
    };
    let config =
        of("/data/agent.toml")?.as_str().map(str::to_owned).context("the configuration is no text")?;
    Ok((of("/spec/template/spec")?, config))
}

/// What Helm makes of the chart with each of `values`.
fn render(values: &[Value]) -> Result<Vec<Value>> {
    let mut python = Command::new(venv("python")?)
        .args(["-c", include_str!("chart/render.py")])
        .arg(root().join("deploy/helm/bursar"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut input = python.stdin.take().context("no input")?;
    input.write_all(serde_json::to_string(values)?.as_bytes())?;
    drop(input);
    let output = python.wait_with_output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn objects(rendered: &Value) -> Result<&Vec<Value>> {
    rendered.pointer("/objects").and_then(Value::as_array).with_context(|| format!("{rendered}"))
}

fn name(object: &Value) -> &str {
    object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
}

fn plain() -> Value {
    json!({ "trustDomain": "example.org", "image": { "registry": "registry.example.org/bursar" } })
}

/// What is least, and `more`.
fn with(more: Value) -> Value {
    let mut values = plain();
    if let (Some(values), Value::Object(more)) = (values.as_object_mut(), more) {
        values.extend(more);
    }
    values
}

fn cases() -> Vec<Value> {
    vec![
        plain(),
        everything(),
        // Agents and webhook of a broker elsewhere, with cert-manager.
        with(json!({
            "broker": { "enabled": false },
            "agent": { "broker": "https://broker.example.org:8443", "capabilities": [] },
            "webhook": {
                "broker": "https://broker.example.org:8443",
                "certificate": { "secret": "webhook-tls", "annotations": { "cert-manager.io/inject-ca-from": "bursar/webhook" } },
            },
            "networkPolicies": { "enabled": false },
        })),
    ]
}

/// Everything that can be switched on.
fn everything() -> Value {
    with(json!({
        "image": {
            "registry": "registry.example.org/bursar", "tag": "1.2.3", "pullPolicy": "Always", "pullSecrets": ["pull"],
        },
        "cluster": { "name": "east", "issuer": "https://issuer.example.org/east" },
        "broker": {
            "names": ["broker.example.org"],
            "listen": "[::]",
            "secrets": ["vault-login"],
            "policy": { "shop.cedar": "@id(\"shop\")\npermit (principal, action, resource);\n", "registrations.toml": "" },
            "config": "[backends.vault]\nkind = \"vault\"\naddress = \"https://vault.example.org:8200\"\n\
                       auth = { method = \"token\", token = { file = \"/var/run/secrets/bursar.io/vault-login/token\" } }\n\
                       mounts = { secret = \"kv-v2\" }\n",
            "storage": { "size": "100Gi", "className": "fast" },
            "service": { "type": "LoadBalancer", "annotations": { "example.org/internal": "true" } },
            "podAnnotations": { "example.org/a": "b" },
            "nodeSelector": { "example.org/pool": "system" },
            "tolerations": [{ "key": "example.org/system", "operator": "Exists" }],
            "affinity": { "nodeAffinity": {} },
            "priorityClassName": "system-cluster-critical",
        },
        "agent": {
            "capabilities": ["IPC_LOCK", "SYS_PTRACE", "CHOWN", "DAC_READ_SEARCH", "KILL", "SETUID", "SETGID"],
            "csi": { "enabled": true },
            "config": "[cache]\nbytes = 67108864\n",
        },
        "webhook": {
            "replicas": 3,
            "shapes": ["exec", "sidecar"],
            "allow": ["environment", "output.*"],
            "namespaces": { "shop": { "shape": "sidecar", "environment": "shop/prod" }, "pay": {} },
            "config": "[vault]\nbackend = \"vault\"\n",
        },
        "networkPolicies": {
            "callers": [{ "namespaceSelector": {} }],
            "scrapers": [{ "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "monitoring" } } }],
            "brokerEgress": [{ "ports": [{ "port": 443 }] }],
        },
        "metrics": { "serviceMonitor": { "enabled": true, "labels": { "release": "prometheus" } } },
    }))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

const HEAD: &str =
    "# Made of the chart in deploy/helm/bursar, which is where to change it. See docs/helm.md.\n";
