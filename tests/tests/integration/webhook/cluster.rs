//! What the webhook keeps in its cluster: a certificate of its own, whom the API server trusts, who leads, and how many
//! pods were missed. The API server is a fake with the rules of the real one, and its clock is moved.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bursar_tests::webhook::response;
use bursar_tests::{KubeApi, ServedFiles, Webhook, patiently};
use data_encoding::BASE64;
use serde_json::{Value, json};

use super::{LIMIT, pod, review};

#[test]
fn the_api_server_trusts_what_every_replica_serves_and_who_leads_may_go() -> Result<()> {
    let site = Site::start()?;
    let mut first = site.replica()?;
    first.wait_ready()?;
    patiently("the first to lead", || leads(&first))?;
    let mut second = site.replica()?;
    second.wait_ready()?;
    for replica in [&first, &second] {
        patiently("a certificate that is trusted", || site.asks(replica))?;
    }
    ensure!(second.metric("bursar_webhook_leads")? == Some(0.0), "two lead");
    let bundles = site.bundles()?;
    ensure!(bundles.len() == 2 && bundles.iter().all(|bundle| *bundle == bundles[0]), "{bundles:?}");

    // One that is told to go gives the Lease back; one that is killed leaves it to be taken over.
    first.process().stop()?;
    patiently("the second to lead", || leads(&second))?;
    second.process().kill()?;
    let mut third = site.replica()?;
    third.wait_ready()?;
    patiently("the third to lead", || leads(&third))?;
    site.asks(&third)
}

#[test]
fn two_that_believe_to_lead_do_not_undo_each_other() -> Result<()> {
    let site = Site::start()?;
    let (mut first, mut second) = (site.replica()?, site.replica()?);
    first.wait_ready()?;
    second.wait_ready()?;
    // Somebody gives the Lease to nobody, again and again: whoever looks next takes it.
    for _ in 0..3 {
        let mut lease = site.api.object(LEASE).context("no Lease")?;
        lease["spec"]["holderIdentity"] = json!("");
        site.api.put(LEASE, lease);
        patiently("somebody to take the Lease", || {
            let lease = site.api.object(LEASE).context("no Lease")?;
            ensure!(lease["spec"]["holderIdentity"] != "", "nobody did");
            Ok(())
        })?;
    }
    site.api.conflict_for(4);
    patiently("the conflicts to be over", || {
        ensure!(site.api.has_recovered(), "not all were met");
        Ok(())
    })?;
    for replica in [&first, &second] {
        patiently("one certificate for both", || site.asks(replica))?;
    }
    Ok(())
}

#[test]
fn what_is_deleted_by_hand_is_made_anew_and_the_key_of_before_is_forgotten() -> Result<()> {
    let site = Site::start()?;
    let mut replica = site.replica()?;
    replica.wait_ready()?;
    patiently("trust", || site.asks(&replica))?;
    let before = site.authority()?;
    site.api.delete(SECRET);
    patiently("another Secret", || {
        ensure!(site.authority()? != before, "it is the one of before");
        site.asks(&replica)
    })?;
    ensure!(
        site.bundles()?[0].contains(before.trim()),
        "replicas with the certificate of before are cut off"
    );
    // Somebody empties the configuration: it is filled again.
    site.api.put(CONFIGURATION, configuration());
    patiently("trust again", || site.asks(&replica))?;
    // Ten minutes later nobody serves what was before.
    site.api.advance(Duration::from_secs(11 * 60));
    patiently("the authority of before to be forgotten", || {
        ensure!(!site.bundles()?[0].contains(before.trim()), "it is trusted still");
        Ok(())
    })?;
    site.asks(&replica)
}

#[test]
fn a_certificate_is_replaced_by_the_api_servers_time_and_never_cut_off() -> Result<()> {
    let site = Site::start()?;
    let mut replica = site.replica()?;
    replica.wait_ready()?;
    patiently("trust", || site.asks(&replica))?;
    let first = site.served()?;
    site.api.advance(DAY * 21);
    patiently("another certificate", || {
        ensure!(site.served()? != first, "it is the first");
        Ok(())
    })?;
    let authority = site.authority()?;
    site.api.advance(DAY * 230);
    patiently("the next authority to be trusted", || {
        ensure!(site.bundles()?[0].matches("BEGIN").count() == 2, "there is one");
        Ok(())
    })?;
    ensure!(site.authority()? == authority, "it signs before it was trusted for long enough");
    site.api.advance(Duration::from_secs(11 * 60));
    patiently("the next authority to sign", || {
        ensure!(site.authority()? != authority, "it does not");
        Ok(())
    })
}

#[test]
fn an_api_server_that_fails_or_is_away_leaves_what_is_served() -> Result<()> {
    let site = Site::start()?;
    let mut replica = site.replica()?;
    replica.wait_ready()?;
    patiently("trust", || site.asks(&replica))?;
    let bundle = site.bundles()?.remove(0);
    site.api.set_away(true);
    replica.process().wait_for_line(LIMIT, "the certificate cannot be kept; what is served stays")?;
    replica.connect(&bundle, NAME)?;
    ensure!(replica.look("/readyz")?.status == 200, "it is not ready");
    site.api.break_for(3);
    site.api.set_away(false);
    replica.process().wait_for_line(LIMIT, "the certificate is kept again")?;
    ensure!(site.api.has_recovered(), "the errors were not met");

    // One that never had a certificate is not ready, and says why.
    std::fs::write(site.api.token(), "another")?;
    let mut late = site.replica()?;
    late.process().wait_for_line(LIMIT, "status 401")?;
    ensure!(late.look("/readyz")?.status == 503, "it is ready without a certificate");
    Ok(())
}

#[test]
fn pods_that_were_missed_are_counted_by_what_they_have_and_not_by_what_they_say() -> Result<()> {
    let site = Site::start()?;
    let named = |name: &str, volumes: Value| {
        let mut pod = pod("exec");
        pod["metadata"]["name"] = json!(name);
        pod["metadata"]["uid"] = json!(format!("uid-{name}"));
        pod["metadata"]["annotations"]["bursar.io/injected"] = json!("exec shop/prod");
        pod["spec"]["volumes"] = volumes;
        site.api.put(&format!("/api/v1/namespaces/shop/pods/{name}"), pod);
    };
    for name in ["a", "b", "c"] {
        named(name, json!([{ "name": "other" }]));
    }
    named("d", json!([{ "name": "bursar-token" }]));
    // Of a namespace that opted in, those that nothing was said of, and that are not left as they are.
    let within = |name: &str, namespace: &str, labels: Value, annotations: Value, spec: Value| {
        let uid = format!("uid-{name}");
        let metadata = json!({ "name": name, "uid": uid, "labels": labels, "annotations": annotations });
        let pod = json!({ "metadata": metadata, "spec": spec });
        site.api.put(&format!("/api/v1/namespaces/{namespace}/pods/{name}"), pod);
    };
    let (none, out) = (json!({}), json!({ "bursar.io/inject": "false" }));
    for name in ["e", "f", "g"] {
        within(name, "paid", none.clone(), none.clone(), json!({ "volumes": [{ "name": "other" }] }));
    }
    within("h", "paid", none.clone(), none.clone(), json!({ "volumes": [{ "name": "bursar-token" }] }));
    within("i", "paid", out, none.clone(), none.clone());
    within("j", "paid", none.clone(), json!({ "kubernetes.io/config.mirror": "x" }), none.clone());
    within("k", "paid", none.clone(), none.clone(), json!({ "os": { "name": "windows" } }));
    within("l", "other", none.clone(), none.clone(), none);
    let mut replica = site.replica()?;
    replica.wait_ready()?;
    patiently("the count", || {
        let missed = replica.metric("bursar_webhook_missed_pods")?;
        ensure!(missed == Some(6.0), "{missed:?}");
        Ok(())
    })?;
    let told = replica.process().wait_for_line(LIMIT, "a pod opted in and has no secrets")?;
    ensure!(told.contains("\"pod\":\"a\""), "{told}");
    Ok(())
}

/// A cluster in which a webhook is configured and none runs yet.
struct Site {
    api: KubeApi,
    files: ServedFiles,
}

impl Site {
    fn start() -> Result<Self> {
        let api = KubeApi::start()?;
        api.put(CONFIGURATION, configuration());
        Ok(Self { api, files: ServedFiles::make()? })
    }

    fn replica(&self) -> Result<Webhook> {
        let own = "[namespaces.paid]\nenvironment = 'paid/prod'\n\
                   [self_made]\nnamespace = 'bursar'\nservice = 'hook'\nconfiguration = 'hook'\n";
        let more = format!("{own}{}", self.api.table());
        Webhook::launch("https://broker.bursar.svc:8443", &self.files.authority_file(), &more)
    }

    /// Asks a replica as the API server does: by the name of its Service, trusting what the configuration says.
    fn asks(&self, replica: &Webhook) -> Result<()> {
        let bundles = self.bundles()?;
        let bundle = bundles.first().context("no webhook is configured")?;
        let reply = replica.send(bundle, NAME, "POST", "/mutate", &review(&pod("exec")))?;
        ensure!(response(&reply)?.pointer("/allowed") == Some(&true.into()), "it does not answer");
        Ok(())
    }

    fn bundles(&self) -> Result<Vec<String>> {
        let configuration = self.api.object(CONFIGURATION).context("no configuration")?;
        let webhooks = configuration.pointer("/webhooks").and_then(Value::as_array).context("no webhooks")?;
        let bundle = |webhook: &Value| {
            let text = webhook.pointer("/clientConfig/caBundle").and_then(Value::as_str).unwrap_or_default();
            Ok(String::from_utf8(BASE64.decode(text.as_bytes())?)?)
        };
        webhooks.iter().map(bundle).collect()
    }

    fn authority(&self) -> Result<String> {
        self.kept("ca.crt")
    }

    fn served(&self) -> Result<String> {
        self.kept("tls.crt")
    }

    fn kept(&self, key: &str) -> Result<String> {
        let secret = self.api.object(SECRET).context("no Secret")?;
        let text = secret.pointer("/data").and_then(|data| data.get(key)).and_then(Value::as_str);
        let text = text.context("no such key")?;
        Ok(String::from_utf8(BASE64.decode(text.as_bytes())?)?)
    }
}

fn leads(replica: &Webhook) -> Result<()> {
    ensure!(replica.metric("bursar_webhook_leads")? == Some(1.0), "it does not lead");
    Ok(())
}

fn configuration() -> Value {
    let webhook = |name: &str| {
        json!({
            "name": name, "sideEffects": "None", "admissionReviewVersions": ["v1"], "failurePolicy": "Fail",
            "clientConfig": { "service": { "name": "hook", "namespace": "bursar", "path": "/mutate" } },
            "objectSelector": { "matchLabels": { "bursar.io/inject": "true" } },
        })
    };
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": { "name": "hook" }, "webhooks": [webhook("pods.bursar.io"), webhook("namespaces.pods.bursar.io")],
    })
}

const NAME: &str = "hook.bursar.svc";
const SECRET: &str = "/api/v1/namespaces/bursar/secrets/bursar-webhook";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/bursar/leases/bursar-webhook";
const CONFIGURATION: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/hook";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
