//! The admission webhook as the API server meets it: a real process behind TLS. What it does to pods of every kind is
//! tested beside its code; what it keeps in the cluster is in [`cluster`], and what becomes of a patched pod in [`pods`].

mod cluster;
mod pods;

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bursar_tests::webhook::{read, response};
use bursar_tests::{ServedFiles, Webhook, patiently};
use serde_json::{Value, json};

/// A review of the creation of `object`.
pub(crate) fn review(object: &Value) -> Vec<u8> {
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "7f1c7e1a-0000-4000-8000-000000000001",
            "kind": { "group": "", "version": "v1", "kind": "Pod" },
            "resource": { "group": "", "version": "v1", "resource": "pods" },
            "namespace": "shop", "operation": "CREATE", "userInfo": { "username": "ada" }, "object": object,
        },
    });
    review.to_string().into_bytes()
}

/// A pod that wants `shop/prod` in this shape.
pub(crate) fn pod(shape: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "web-0", "labels": { "bursar.io/inject": "true" },
            "annotations": { "bursar.io/environment": "shop/prod", "bursar.io/shape": shape },
        },
        "spec": { "containers": [{ "name": "web", "image": "web", "command": ["/bin/sh", "-c", "true"] }] },
    })
}

fn start() -> Result<(Webhook, ServedFiles)> {
    let files = ServedFiles::make()?;
    let webhook = Webhook::start("https://broker.bursar.svc:8443", &files.authority_file(), &files, "")?;
    Ok((webhook, files))
}

#[test]
fn a_review_is_answered_over_tls_and_counted() -> Result<()> {
    let (webhook, files) = start()?;
    let roots = files.authority()?;
    let send = |body: &[u8]| webhook.send(&roots, "localhost", "POST", "/mutate", body);
    let answered = response(&send(&review(&pod("exec")))?)?;
    ensure!(answered["allowed"] == true && answered["patchType"] == "JSONPatch", "{answered}");
    let mut other = pod("exec");
    other["metadata"]["labels"] = json!({ "bursar.io/inject": "false" });
    let untouched = response(&send(&review(&other))?)?;
    ensure!(untouched.get("patch").is_none() && untouched["allowed"] == true, "{untouched}");
    for named in ["{outcome=\"injected\",shape=\"exec\"}", "{outcome=\"untouched\",shape=\"none\"}"] {
        let name = format!("bursar_webhook_reviews_total{named}");
        ensure!(webhook.metric(&name)? == Some(1.0), "no `{name}`");
    }
    Ok(())
}

#[test]
fn what_is_no_review_is_refused_whatever_its_size() -> Result<()> {
    let (webhook, files) = start()?;
    let roots = files.authority()?;
    let huge = vec![b' '; 10 * 1024 * 1024];
    let old = json!({ "apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview" }).to_string();
    let cases: [(&str, &str, &[u8], u16, &str); 7] = [
        ("POST", "/mutate", b"{", 400, "is no JSON"),
        ("POST", "/mutate", b"", 400, "is no JSON"),
        ("POST", "/mutate", old.as_bytes(), 422, "only `AdmissionReview` of `admission.k8s.io/v1`"),
        ("POST", "/mutate", &huge, 413, "longer than 3 MiB"),
        ("GET", "/mutate", b"", 405, "by `POST`"),
        ("POST", "/", b"{}", 404, "nothing but `/mutate`"),
        ("POST", "/metrics", b"{}", 404, "nothing but `/mutate`"),
    ];
    for (method, path, body, status, words) in cases {
        let reply = webhook.send(&roots, "localhost", method, path, body)?;
        let said = String::from_utf8_lossy(&reply.body).into_owned();
        ensure!(reply.status == status && said.contains(words), "{method} {path}: {} {said}", reply.status);
    }
    ensure!(
        response(&webhook.send(&roots, "localhost", "POST", "/mutate", &review(&pod("node")))?)?["allowed"]
            == true,
        "it is gone"
    );
    Ok(())
}

#[test]
fn another_certificate_is_served_once_its_files_change_and_none_in_place_of_a_broken_one() -> Result<()> {
    let (webhook, files) = start()?;
    let before = files.authority()?;
    files.replace()?;
    let after = files.authority()?;
    patiently("the new certificate", || webhook.connect(&after, "localhost").map(drop))?;
    ensure!(webhook.connect(&before, "localhost").is_err(), "the old one is served still");
    std::fs::write(files.authority_file().with_file_name("server.key"), "nothing")?;
    patiently("the broken key to be seen", || {
        let seen = webhook.metric("bursar_webhook_certificate_total{outcome=\"unusable\"}")?;
        seen.filter(|times| *times > 0.0).context("not seen yet")
    })?;
    webhook.connect(&after, "localhost").map(drop)
}

#[test]
fn a_review_that_was_begun_is_answered_although_the_process_is_told_to_stop() -> Result<()> {
    let (mut webhook, files) = start()?;
    let roots = files.authority()?;
    let body = review(&pod("exec"));
    let mut begun = webhook.connect(&roots, "localhost")?;
    let (first, rest) = body.split_at(body.len() / 2);
    write!(
        begun,
        "POST /mutate HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )?;
    begun.write_all(first)?;
    begun.flush()?;
    webhook.process().signal(bursar_tests::Signal::TERM)?;
    webhook.process().wait_for_line(LIMIT, "the webhook goes down")?;
    // A Service may lead here for a moment longer.
    let late = webhook.send(&roots, "localhost", "POST", "/mutate", &body)?;
    ensure!(response(&late)?["allowed"] == true, "a late review is refused");
    begun.write_all(rest)?;
    ensure!(response(&read(&mut begun)?)?["allowed"] == true, "a review that was begun is refused");
    let ended = webhook.process().wait(LIMIT)?;
    ensure!(ended.success(), "{ended}");
    Ok(())
}

#[test]
fn a_configuration_is_checked_whole_and_holds_nothing_up() -> Result<()> {
    let files = ServedFiles::make()?;
    let mut webhook = Webhook::launch("http://broker", &files.authority_file(), "shapes = ['pod']")?;
    let ended = webhook.process().wait(LIMIT)?;
    let said = webhook.process().stderr()?;
    ensure!(ended.code() == Some(64), "{ended}");
    for part in ["broker: ", "shapes: ", "self_made: or `certificate` is required"] {
        ensure!(said.contains(part), "no `{part}` in {said}");
    }
    Ok(())
}

pub(crate) const LIMIT: Duration = Duration::from_secs(60);
