//! Callers who present a token: of a Kubernetes cluster, of a CI system, and made up.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bursar_core::Clock;
use bursar_core::clock::SystemClock;
use bursar_proto::{Reason, v1};
use bursar_tests::{
    Broker, Canary, Cli, IssuerDoor, TokenIssuer, Verdict, scan, scan_bytes, text, wait_until,
};
use jiff::Timestamp;
use prost::Message;
use serde_json::{Value, json};
use tonic::Code;

use crate::raw::{Caller, Ended};

#[test]
fn a_pod_reads_what_policy_gives_its_namespace_and_its_token_is_nowhere() -> Result<()> {
    let site = Site::start("kind = 'kubernetes'\npath = 'east'")?;
    let token = site.issuer.token(&site.pod("shop", 600)?)?;
    let pod = Cli::bearing(&token, &site.broker)?;
    let read = pod.json(&["get", "local/db#password"])?;
    ensure!(text(&read, "/value") == "hunter2-of-shop", "the pod got something else");
    let other = site.issuer.token(&site.pod("other", 600)?)?;
    let denied = Cli::bearing(&other, &site.broker)?.run(&["get", "local/db#password"])?;
    denied.refused(77, &["policy does not allow this"])?;

    let records = site.admin.audit(&["--principal", "spiffe://example.org/east/ns/shop/sa/web"])?;
    let record = records.first().context("no record")?;
    ensure!(text(record, "/actor/method") == "kubernetes", "{record}");
    ensure!(text(record, "/actor/credential").len() == 64, "{record}");
    let selectors = record.pointer("/actor/selectors").cloned().unwrap_or_default();
    for selector in
        ["k8s:cluster:issuer", "k8s:ns:shop", "k8s:pod-name:web-0", "k8s:pod-uid:pod-shop", "k8s:sa:web"]
    {
        ensure!(selectors.as_array().is_some_and(|all| all.iter().any(|one| one == selector)), "{record}");
    }
    // The lease ends with the token, and belongs to the pod.
    let lease = site.admin.json(&["lease", "show", &text(&read, "/lease_id")])?;
    let ends: Timestamp = text(&lease, "/expires_at").parse()?;
    ensure!(ends.as_second() <= now() + 600 + 60, "the lease outlives its token: {lease}");

    let mut said = pod.run(&["--help"])?.stdout;
    said.extend(denied.stderr.as_bytes());
    site.tokens_are_nowhere(&[&token, &other], &said)
}

#[test]
fn a_token_that_is_replaced_in_its_file_is_followed() -> Result<()> {
    let site = Site::start("kind = 'kubernetes'\npath = 'east'")?;
    let pod = Cli::bearing(&site.issuer.token(&site.pod("shop", -120)?)?, &site.broker)?;
    pod.run(&["get", "local/db#password"])?
        .refused(77, &["the token has expired", "hint: present a new token"])?;
    pod.rotate(&site.issuer.token(&site.pod("shop", 600)?)?)?;
    pod.done(&["get", "local/db#password"])?;
    pod.rotate("\n")?;
    pod.run(&["get", "local/db#password"])?.refused(78, &["cannot read the token"])?;
    let nobody = Cli::bearing("x", &site.broker)?;
    nobody
        .run(&["get", "local/db#password"])?
        .refused(77, &["no signed JSON Web Token that is accepted here"])
}

#[test]
fn tokens_that_name_nobody_are_refused_counted_and_not_kept() -> Result<()> {
    let site = Site::start("kind = 'kubernetes'\npath = 'east'")?;
    let (pod, stranger) = (site.pod("shop", 600)?, TokenIssuer::new()?);
    let with = |name: &str, value: Value| {
        let mut claims = pod.clone();
        claims.as_object_mut().context("no claims")?.insert(name.to_owned(), value);
        anyhow::Ok(claims)
    };
    let before = site.admin.audit(&[])?.len();
    let cases = [
        ("issuer_unknown", Reason::IssuerUnknown, site.issuer.token(&with("iss", json!("https://evil"))?)?),
        ("audience", Reason::TokenInvalid, site.issuer.token(&with("aud", json!("vault"))?)?),
        ("expired", Reason::TokenExpired, site.issuer.token(&with("exp", json!(now() - 61))?)?),
        ("not_yet_valid", Reason::TokenInvalid, site.issuer.token(&with("nbf", json!(now() + 120))?)?),
        ("claim", Reason::TokenInvalid, site.issuer.token(&with("kubernetes.io", json!({}))?)?),
        (
            "signature",
            Reason::TokenInvalid,
            stranger.token_by(text(site.issuer.jwk(), "/kid").as_str(), &pod)?,
        ),
        ("form", Reason::TokenInvalid, "x".to_owned()),
    ];
    for (_, reason, token) in &cases {
        // The administrator's certificate does not make a bad token good.
        let ended = Caller::administrator(&site.broker)?.bearing(token).read()?;
        ensure!((ended.code, ended.reason) == (Code::Unauthenticated, Some(*reason)), "{ended:?}");
    }
    ensure!(site.admin.audit(&[])?.len() == before + 1, "tokens that name nobody have records");
    let metrics = site.metrics()?;
    for (outcome, ..) in &cases {
        let counted = metrics.lines().any(|line| {
            line.starts_with("bursar_authentications_total{")
                && line.contains(&format!("outcome=\"{outcome}\"}} 1"))
        });
        ensure!(counted, "`{outcome}` is not counted: {metrics}");
    }
    Ok(())
}

#[test]
fn tokens_that_do_not_hold_are_paid_for_by_their_address_and_those_that_hold_are_not() -> Result<()> {
    let site = Site::start("kind = 'kubernetes'\npath = 'east'\n[limits.rate]\nper_address = 40")?;
    let good = Caller::connect(&site.broker, None)?.bearing(&site.issuer.token(&site.pod("shop", 600)?)?);
    ensure!(good.read()?.code == Code::Ok, "the token does not count");
    let bad = Caller::connect(&site.broker, None)?.bearing("x");
    // Ten seconds' worth come at once, and what comes back meanwhile.
    let paid = (0..10_000)
        .map(|_| bad.read())
        .find(|ended| ended.as_ref().map_or(true, |ended| ended.reason != Some(Reason::TokenInvalid)));
    let paid = paid.context("nobody pays")??;
    ensure!(paid.reason == Some(Reason::RateLimited) && paid.retry_after.is_some(), "{paid:?}");
    // What is not paid for is not in the log either, which is written before the answer.
    let (mut paid_for, before) = (0, site.logged("a token was refused")?);
    for _ in 0..100 {
        paid_for += usize::from(bad.read()?.reason == Some(Reason::TokenInvalid));
    }
    let after = site.logged("a token was refused")?;
    ensure!(
        before > 0 && after == before + paid_for,
        "{before} and then {after} lines for {paid_for} refusals"
    );
    ensure!(paid_for < 100, "the rate is not kept");
    ensure!(good.read()?.code == Code::Ok, "whoever is known waits for strangers");
    Ok(())
}

/// One that came before would leave the message to a stream that is given up, and HTTP/2 ends a connection on which that
/// happens often, for everybody.
#[test]
fn a_refusal_comes_after_what_it_refuses() -> Result<()> {
    let site = Site::start("kind = 'kubernetes'\npath = 'east'")?;
    let stranger = Caller::connect(&site.broker, None)?.bearing("made.up.token");
    for (path, code) in [(READ, Code::Unauthenticated), ("/bursar.v1.Secrets/None", Code::Unimplemented)] {
        let (ended, sent) = stranger.call_late(path, reference())?;
        ensure!(ended.code == code, "{ended:?}");
        ensure!(sent, "`{path}` was answered before its message was sent");
    }
    Ok(())
}

#[test]
fn keys_are_replaced_while_the_broker_runs_and_a_storm_of_names_costs_little() -> Result<()> {
    let site = Site::start("kind = 'kubernetes'\npath = 'east'")?;
    let (pod, next) = (site.pod("shop", 600)?, TokenIssuer::new()?);
    let old = Caller::connect(&site.broker, None)?.bearing(&site.issuer.token(&pod)?);
    ensure!(old.read()?.code == Code::Ok, "the first key does not count");

    let asked = site.door.asked();
    let bogus = Caller::connect(&site.broker, None)?;
    let mut bogus = Some(bogus);
    for number in 0..1000 {
        let token = site.issuer.token_by(&format!("bogus-{number}"), &pod)?;
        let caller = bogus.take().context("no caller")?.bearing(&token);
        let ended = caller.read()?;
        ensure!(ended.reason == Some(Reason::TokenInvalid), "{ended:?}");
        bogus = Some(caller);
    }
    // The storm takes a few seconds: at most two windows begin in it.
    ensure!(site.door.asked() <= asked + 2, "{} rounds for 1000 names", site.door.asked() - asked);

    site.door.publish(&[&next]);
    let new = Caller::connect(&site.broker, None)?.bearing(&next.token(&pod)?);
    wait_until(LIMIT, "the new key to be found", || new.read().is_ok_and(|ended| ended.code == Code::Ok))?;
    let ended = old.read()?;
    ensure!(ended.reason == Some(Reason::TokenInvalid), "a key that was taken out counts: {ended:?}");
    Ok(())
}

#[test]
fn an_issuer_that_is_away_stops_no_broker_and_what_is_known_goes_on() -> Result<()> {
    let door = IssuerDoor::start()?;
    door.be_away(true);
    let site = Site::with(door, "kind = 'kubernetes'\npath = 'east'")?;
    let token = site.issuer.token(&site.pod("shop", 600)?)?;
    let pod = Caller::connect(&site.broker, None)?.bearing(&token);
    let ended = pod.read()?;
    ensure!((ended.code, ended.reason) == (Code::Unavailable, Some(Reason::IssuerUnavailable)), "{ended:?}");
    ensure!(
        site.metrics()?.contains(r#"issuer="issuer",outcome="unreachable""#),
        "the outage is not counted"
    );
    site.door.be_away(false);
    wait_until(LIMIT, "the issuer to be asked again", || {
        pod.read().is_ok_and(|ended| ended.code == Code::Ok)
    })?;
    site.door.be_away(true);
    let again = Caller::connect(&site.broker, None)?.bearing(&site.issuer.token(&site.pod("shop", 700)?)?);
    ensure!(again.read()?.code == Code::Ok, "the keys that were fetched do not count any more");
    Ok(())
}

#[test]
fn a_server_that_speaks_for_another_issuer_is_not_believed() -> Result<()> {
    let door = IssuerDoor::start()?;
    door.pretend("https://elsewhere.example.org");
    let site = Site::with(door, "kind = 'kubernetes'\npath = 'east'")?;
    let token = site.issuer.token(&site.pod("shop", 600)?)?;
    let ended = Caller::connect(&site.broker, None)?.bearing(&token).read()?;
    ensure!(ended.reason == Some(Reason::IssuerUnavailable), "{ended:?}");
    ensure!(site.metrics()?.contains(r#"issuer="issuer",outcome="other_issuer""#), "it is not counted");
    ensure!(site.door.asked() == 0, "its keys were asked for");
    Ok(())
}

#[test]
fn the_brokers_own_token_is_shown_to_the_server_of_discovery_alone() -> Result<()> {
    for elsewhere in [false, true] {
        let door = IssuerDoor::start()?;
        let own = door.file("own-token");
        std::fs::write(&own, "the.broker.token")?;
        if elsewhere {
            door.keep_keys_elsewhere();
        }
        let kind =
            format!("kind = 'kubernetes'\npath = 'east'\ndiscovery_token = {{ file = '{}' }}", own.display());
        let site = Site::with(door, &kind)?;
        let token = site.issuer.token(&site.pod("shop", 600)?)?;
        ensure!(Caller::connect(&site.broker, None)?.bearing(&token).read()?.code == Code::Ok);
        let shown = site.door.shown();
        ensure!(shown.iter().any(|path| path == "/.well-known/openid-configuration"), "{shown:?}");
        ensure!(shown.iter().any(|path| path == "/keys") != elsewhere, "{elsewhere}: {shown:?}");
    }
    Ok(())
}

#[test]
fn a_cluster_that_is_asked_decides() -> Result<()> {
    let site = Site::reviewed("fail")?;
    let of = |life: i64| {
        let token = site.issuer.token(&site.pod("shop", life)?)?;
        Caller::connect(&site.broker, None)?.bearing(&token).read()
    };
    ensure!(of(600)?.code == Code::Ok, "a token that the cluster knows is refused");
    ensure!(of(600)?.code == Code::Ok && site.door.reviewed() >= 1, "the cluster was not asked");
    for (life, verdict) in [(601, Verdict::Gone), (602, Verdict::NoAudience), (603, Verdict::Another)] {
        site.door.judge(verdict);
        let ended = of(life)?;
        ensure!(ended.reason == Some(Reason::TokenInvalid), "{verdict:?}: {ended:?}");
    }
    for (life, verdict) in [(604, Verdict::Broken), (605, Verdict::Forbidden)] {
        site.door.judge(verdict);
        let ended = of(life)?;
        ensure!(ended.reason == Some(Reason::IssuerUnavailable), "{verdict:?}: {ended:?}");
    }
    Ok(())
}

#[test]
fn an_authority_of_the_cluster_is_replaced_while_the_broker_runs() -> Result<()> {
    let door = IssuerDoor::start()?;
    let trusted = door.file("trusted.pem");
    let site = Site::reviewed_by(door, &trusted, "fail")?;
    let of = |life: i64| {
        let token = site.issuer.token(&site.pod("shop", life)?)?;
        Caller::connect(&site.broker, None)?.bearing(&token).read()
    };
    ensure!(of(600)?.code == Code::Ok, "the cluster is not asked");
    site.door.replace_authority()?;
    let ended = of(601)?;
    ensure!(ended.reason == Some(Reason::IssuerUnavailable), "nobody vouches for that server: {ended:?}");
    std::fs::copy(site.door.ca(), &trusted)?;
    ensure!(of(602)?.code == Code::Ok, "the new authority does not count");
    // A file that is being written locks nobody out.
    std::fs::write(&trusted, "-----BEGIN CERT")?;
    ensure!(of(603)?.code == Code::Ok, "the authority that was read last does not count");
    ensure!(site.logged("the authorities are as `ca_file` had them before")? == 1, "the fault is not logged");
    Ok(())
}

#[test]
fn an_outage_of_the_cluster_may_leave_the_signature_to_decide() -> Result<()> {
    let site = Site::reviewed("offline")?;
    for (life, verdict, wanted) in [
        (600, Verdict::Broken, None),
        (601, Verdict::Forbidden, Some(Reason::IssuerUnavailable)),
        (602, Verdict::Gone, Some(Reason::TokenInvalid)),
    ] {
        site.door.judge(verdict);
        let token = site.issuer.token(&site.pod("shop", life)?)?;
        let ended = Caller::connect(&site.broker, None)?.bearing(&token).read()?;
        ensure!(ended.reason == wanted, "{verdict:?}: {ended:?}");
    }
    Ok(())
}

#[test]
fn a_pipeline_is_whoever_the_rules_say() -> Result<()> {
    let site = Site::start(RULES)?;
    let token = |more: Value| {
        let mut claims = json!({
            "iss": site.door.url(), "aud": "bursar", "iat": now(), "nbf": now(), "exp": now() + 300, "jti": "1",
        });
        let all = claims.as_object_mut().context("no claims")?;
        all.extend(more.as_object().context("no claims")?.clone());
        site.issuer.token(&claims)
    };
    // As GitHub Actions and GitLab write them.
    let github = json!({
        "sub": "repo:acme/shop:ref:refs/heads/main", "repository": "acme/shop", "repository_owner": "acme",
        "ref": "refs/heads/main", "event_name": "push", "runner_environment": "github-hosted",
    });
    let gitlab = json!({
        "sub": "project_path:acme/shop:ref_type:branch:ref:main", "project_path": "acme/shop",
        "namespace_path": "acme", "ref": "main", "ref_type": "branch", "ref_protected": "true",
        "environment": "production",
    });
    for (claims, principal) in [
        (github.clone(), "spiffe://example.org/workload/github-shop"),
        (gitlab, "spiffe://example.org/workload/gitlab-production"),
    ] {
        let pipeline = Cli::bearing(&token(claims)?, &site.broker)?;
        pipeline.done(&["get", "local/db#password"])?;
        let records = site.admin.audit(&["--principal", principal])?;
        let record = records.first().with_context(|| format!("no record of {principal}"))?;
        ensure!(text(record, "/actor/method") == "oidc", "{record}");
    }
    let mut fork = github;
    fork.as_object_mut().context("no claims")?.insert("ref".to_owned(), json!("refs/pull/7/merge"));
    let ended = Caller::connect(&site.broker, None)?.bearing(&token(fork)?).read()?;
    ensure!(ended.reason == Some(Reason::TokenInvalid), "{ended:?}");
    Ok(())
}

/// A broker that takes the tokens of one issuer.
struct Site {
    door: IssuerDoor,
    issuer: TokenIssuer,
    broker: Broker,
    admin: Cli,
}

impl Site {
    fn start(kind: &str) -> Result<Self> {
        Self::with(IssuerDoor::start()?, kind)
    }

    fn reviewed(on_outage: &str) -> Result<Self> {
        let door = IssuerDoor::start()?;
        let trusted = door.file("trusted.pem");
        Self::reviewed_by(door, &trusted, on_outage)
    }

    /// The cluster is known by the authority in `trusted`, which is written here.
    fn reviewed_by(door: IssuerDoor, trusted: &Path, on_outage: &str) -> Result<Self> {
        std::fs::copy(door.ca(), trusted)?;
        let own = door.file("own-token");
        std::fs::write(&own, "the.broker.token")?;
        let review = format!(
            "kind = 'kubernetes'\npath = 'east'\n[identity.issuers.issuer.token_review]\nserver = '{}'\n\
             ca_file = '{}'\ntoken = {{ file = '{}' }}\non_outage = '{on_outage}'",
            door.url(),
            trusted.display(),
            own.display()
        );
        Self::with(door, &review)
    }

    fn with(door: IssuerDoor, kind: &str) -> Result<Self> {
        let issuer = TokenIssuer::new()?;
        door.publish(&[&issuer]);
        let broker = Broker::start(&format!(
            "[identity.issuers.issuer]\nissuer = '{}'\naudience = 'bursar'\nca_file = '{}'\n{kind}\n\
             [backends.local]\nkind = 'local'\n",
            door.url(),
            door.ca().display()
        ))?;
        let admin = Cli::administering(&broker)?;
        admin.apply_policies(POLICIES, "")?;
        admin.done_with(&["secret", "put", "local/db", "--field", "password"], b"hunter2-of-shop")?;
        Ok(Self { door, issuer, broker, admin })
    }

    /// What a token of a pod says that ends in `life` seconds.
    fn pod(&self, namespace: &str, life: i64) -> Result<Value> {
        let uid = format!("pod-{namespace}");
        Ok(json!({
            "iss": self.door.url(), "aud": ["bursar"], "sub": format!("system:serviceaccount:{namespace}:web"),
            "iat": now() - 300, "nbf": now() - 300, "exp": now() + life,
            "kubernetes.io": {
                "namespace": namespace,
                "serviceaccount": { "name": "web", "uid": format!("sa-{namespace}") },
                "pod": { "name": "web-0", "uid": uid },
                "node": { "name": "n1", "uid": "node-1" },
            },
        }))
    }

    /// How many lines of the log have these words.
    fn logged(&self, words: &str) -> Result<usize> {
        let mut lines = 0;
        for entry in std::fs::read_dir(self.broker.directory())? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "stderr" || extension == "stdout") {
                lines += std::fs::read_to_string(path)?.lines().filter(|line| line.contains(words)).count();
            }
        }
        Ok(lines)
    }

    fn metrics(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.broker.http("/metrics")?.body).into_owned())
    }

    /// Looks wherever a token must not be, with logs at their most verbose.
    fn tokens_are_nowhere(&self, tokens: &[&str], said: &[u8]) -> Result<()> {
        // The signature by itself too: with the claims, which are no secret, it is the token.
        let parts = tokens.iter().flat_map(|token| [Some(*token), token.rsplit('.').next()]).flatten();
        let canaries = parts.map(|part| Canary::known("a token", part)).collect::<Result<Vec<_>>>()?;
        let canaries: Vec<&Canary> = canaries.iter().collect();
        let mut found = scan(self.broker.directory(), &canaries)?;
        found.extend(scan_bytes("what was said", said, &canaries)?);
        found.extend(scan_bytes("metrics", self.metrics()?.as_bytes(), &canaries)?);
        let export = self.admin.run(&["audit", "export"])?;
        found.extend(scan_bytes("an export", &export.stdout, &canaries)?);
        ensure!(found.is_empty(), "a token is in {} places", found.len());
        Ok(())
    }
}

impl Caller {
    /// Reads the one secret there is.
    fn read(&self) -> Result<Ended> {
        self.call(READ, reference())
    }
}

fn reference() -> Vec<u8> {
    v1::SecretsReadRequest { reference: "local/db#password".to_owned(), ..Default::default() }.encode_to_vec()
}

fn now() -> i64 {
    SystemClock.now().as_second()
}

const LIMIT: Duration = Duration::from_secs(60);

const POLICIES: &str = r#"
@id("everything")
permit (principal == Bursar::Principal::"spiffe://example.org/user/admin", action, resource);
@id("shop")
permit (principal, action in Bursar::Action::"use", resource in Bursar::Backend::"local")
when { principal.method == "kubernetes" && principal has cluster && principal.cluster == "east"
       && principal has namespace && principal.namespace == "shop"
       && principal.selectors.contains("k8s:pod-name:web-0") };
@id("ci")
permit (principal in Bursar::Group::"ci", action in Bursar::Action::"use", resource in Bursar::Backend::"local")
when { principal.method == "oidc" };
"#;

const READ: &str = "/bursar.v1.Secrets/Read";
const RULES: &str = "kind = 'oidc'
[[identity.issuers.issuer.rules]]
match = { repository = 'acme/shop', ref = 'refs/heads/main', event_name = 'push' }
principal = '/workload/github-shop'
groups = ['ci']
[[identity.issuers.issuer.rules]]
match = { project_path = 'acme/*', ref_protected = 'true', environment = '*' }
principal = '/workload/gitlab-{environment}'
groups = ['ci', 'gitlab/{environment}']";
