//! A provider beside a fake broker, asked as the driver asks.

use std::path::PathBuf;
use std::time::Duration;

use bursar_proto::Reason;
use bursar_proto::csi::csi_driver_provider_client::CsiDriverProviderClient;
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tonic::transport::Channel;

use super::*;
use crate::testing::{LIMIT, Rig};

/// A provider behind its socket.
struct Site {
    rig: Rig,
    folder: tempfile::TempDir,
    _bound: socket::Bound,
}

impl Site {
    async fn new() -> Self {
        Self::with(16).await
    }

    async fn with(connections: usize) -> Self {
        let rig = Rig::new().await;
        let folder = tempfile::tempdir().expect("folder");
        let config = Csi {
            socket: folder.path().join("bursar.sock"),
            audience: "bursar".to_owned(),
            refresh: Duration::from_secs(300),
        };
        let (listener, bound) = socket::bind(&config.socket, 0o600).await.expect("bound");
        let attestor = Arc::new(Attestor::new().expect("attestor"));
        let provider = Provider::new(&config, Arc::clone(&rig.answers), attestor, rig.metrics.clone());
        let limits = Limits {
            connections,
            connections_per_user: connections,
            streams: 8,
            deadline: Duration::from_secs(10),
        };
        let served = serve(listener, provider, limits, rig.tasks.clone());
        rig.tasks.run("csi", async move { served.await.expect("served") });
        Self { rig, folder, _bound: bound }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("bursar.sock")
    }

    async fn driver(&self) -> CsiDriverProviderClient<Channel> {
        let channel = bursar_sdk::channel(&bursar_sdk::Address::unix(self.socket()), None).await;
        CsiDriverProviderClient::new(channel.expect("channel")).max_decoding_message_size(8 << 20)
    }

    async fn mount(&self, pod: &str, token: &str) -> Result<MountResponse, Status> {
        self.mount_with(pod, token, json!({ "environment": "app" })).await
    }

    async fn mount_with(&self, pod: &str, token: &str, parameters: Value) -> Result<MountResponse, Status> {
        self.ask(asked(pod, token, parameters)).await
    }

    async fn ask(&self, message: MountRequest) -> Result<MountResponse, Status> {
        self.driver().await.mount(message).await.map(Response::into_inner)
    }

    fn asked_the_broker(&self) -> usize {
        self.rig.broker.script.calls("resolve")
    }
}

/// As the driver asks for a pod that was given the token number `token`.
fn asked(pod: &str, token: &str, parameters: Value) -> MountRequest {
    let claims = json!({ "kubernetes.io": { "pod": { "uid": pod } } }).to_string();
    let token = format!("e30.{}.{token}", BASE64URL_NOPAD.encode(claims.as_bytes()));
    let mut attributes = json!({
        "secretProviderClass": "web",
        "csi.storage.k8s.io/pod.name": "web-0",
        "csi.storage.k8s.io/pod.namespace": "shop",
        "csi.storage.k8s.io/pod.uid": pod,
        "csi.storage.k8s.io/serviceAccount.name": "web",
        "csi.storage.k8s.io/serviceAccount.tokens": json!({ "bursar": { "token": token } }).to_string(),
    });
    for (key, value) in parameters.as_object().expect("an object") {
        attributes[key] = value.clone();
    }
    MountRequest {
        attributes: attributes.to_string(),
        secrets: "{}".to_owned(),
        target_path: "/mount".to_owned(),
        permission: "420".to_owned(),
        current_object_version: Vec::new(),
    }
}

fn contents(response: &MountResponse, path: &str) -> String {
    let file = response.files.iter().find(|file| file.path == path).expect("a file of this name");
    String::from_utf8(file.contents.clone()).expect("text")
}

fn version<'a>(response: &'a MountResponse, path: &str) -> &'a str {
    let object = response.object_version.iter().find(|object| object.id == path);
    &object.expect("a version of this name").version
}

#[tokio::test]
async fn a_volume_has_what_the_pods_own_token_gets() {
    let site = Site::new().await;
    let response = site.mount("uid-1", "one").await.expect("mounted");
    let paths: Vec<_> = response.files.iter().map(|file| (file.path.as_str(), file.mode)).collect();
    assert_eq!(paths, [("LEVEL", 0o644), ("PASSWORD", 0o644)]);
    assert_eq!(contents(&response, "PASSWORD"), "secret-value");
    let state = site.rig.broker.script.state();
    assert!(state.contexts.is_empty(), "the broker was told of somebody beside the token");
    assert!(state.authorizations.len() == 1 && state.authorizations[0].ends_with(".one"));
}

#[tokio::test]
async fn outputs_and_objects_are_made_as_they_are_asked_for() {
    let site = Site::new().await;
    let parameters = json!({
        "environment": "app",
        "mode": "0440",
        "outputs": "- path: app.conf\n  mode: '0400'\n  template: |\n    key {{ PASSWORD | tojson }};\n- {path: app.env, format: env}\n",
        "objects": "- {path: db/password, reference: kv/app}\n",
    });
    let response = site.mount_with("uid-1", "one", parameters).await.expect("mounted");
    let paths: Vec<_> = response.files.iter().map(|file| (file.path.as_str(), file.mode)).collect();
    assert_eq!(paths, [("app.conf", 0o400), ("app.env", 0o440), ("db/password", 0o440)]);
    assert_eq!(contents(&response, "app.conf"), "key \"secret-value\";\n");
    assert_eq!(contents(&response, "app.env"), "LEVEL=info\nPASSWORD=secret-value\n");
    assert_eq!(contents(&response, "db/password"), "secret-value");
}

#[tokio::test]
async fn a_pod_that_is_published_again_is_answered_without_the_broker_until_word_of_a_change_comes() {
    let site = Site::new().await;
    let first = site.mount("uid-1", "one").await.expect("mounted");
    site.rig.clock.advance(Duration::from_secs(290));
    let second = site.mount("uid-1", "one").await.expect("mounted");
    assert_eq!(site.asked_the_broker(), 1);
    assert_eq!(version(&first, "PASSWORD"), version(&second, "PASSWORD"));
    site.rig.broker.script.state().secrets.insert("kv/app".to_owned(), b"another".to_vec());
    site.rig.cache.changed("kv/app");
    let third = site.mount("uid-1", "one").await.expect("mounted");
    assert_eq!((contents(&third, "PASSWORD").as_str(), site.asked_the_broker()), ("another", 2));
    assert_ne!(version(&first, "PASSWORD"), version(&third, "PASSWORD"));
    assert_eq!(version(&first, "LEVEL"), version(&third, "LEVEL"));
    // What nobody tells of, such as another definition of the environment, is looked for now and then.
    site.rig.clock.advance(Duration::from_secs(301));
    site.mount("uid-1", "one").await.expect("mounted");
    assert_eq!(site.asked_the_broker(), 3);
    // Each answer of the cache's own was written down.
    assert_eq!(site.rig.journal.len(), 1);
}

#[tokio::test]
async fn a_lease_that_is_about_to_end_is_asked_about_however_young_the_answer() {
    let site = Site::new().await;
    site.rig.broker.script.state().ttl = Duration::from_secs(200);
    site.mount("uid-1", "one").await.expect("mounted");
    site.rig.clock.advance(Duration::from_secs(151));
    site.mount("uid-1", "one").await.expect("mounted");
    assert_eq!(site.asked_the_broker(), 2);
}

#[tokio::test]
async fn while_the_broker_is_away_a_pod_gets_what_it_has_by_its_next_token_too() {
    let mut site = Site::new().await;
    site.mount("uid-1", "one").await.expect("mounted");
    site.rig.broker.kill();
    site.rig.cache.listening(false);
    site.rig.clock.advance(Duration::from_secs(600));
    for token in ["one", "two"] {
        let last = site.mount("uid-1", token).await.expect("the last good copy");
        assert_eq!(contents(&last, "PASSWORD"), "secret-value");
    }
    let refused = site.mount("uid-2", "three").await.expect_err("never mounted");
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().starts_with("the volume of pod `shop/web-0`: the broker cannot be reached"));
    // Other files of the same pod were never read.
    let other = site.mount_with("uid-1", "two", json!({ "environment": "other" })).await;
    assert_eq!(other.expect_err("never mounted").code(), Code::Unavailable);
    // Its lease ends, and so does what may be had of it.
    site.rig.clock.advance(Duration::from_secs(3000));
    assert!(site.mount("uid-1", "one").await.is_err() && site.mount("uid-1", "two").await.is_err());
}

#[tokio::test]
async fn what_was_revoked_or_is_refused_is_never_the_last_good_copy() {
    let mut site = Site::new().await;
    site.mount("uid-1", "one").await.expect("mounted");
    site.rig.broker.script.state().refusal = Some(Reason::AccessDenied);
    // Another token of the pod, of which the broker says that it may not; then the first, which is asked about again.
    let refused = site.mount("uid-1", "two").await.expect_err("refused");
    assert_eq!(refused.code(), Code::PermissionDenied);
    site.rig.clock.advance(Duration::from_secs(301));
    assert!(site.mount("uid-1", "one").await.is_err());
    site.rig.broker.script.state().refusal = None;
    site.mount("uid-1", "one").await.expect("mounted");
    let lease = site.rig.broker.script.state().leases.keys().next().cloned().expect("a lease");
    site.rig.cache.ended(&lease);
    site.rig.broker.kill();
    assert!(site.mount("uid-1", "one").await.is_err() && site.mount("uid-1", "two").await.is_err());
}

#[tokio::test]
async fn a_pod_keeps_what_it_has_while_the_broker_says_that_something_is_away() {
    let site = Site::new().await;
    site.mount("uid-1", "one").await.expect("mounted");
    site.rig.clock.advance(Duration::from_secs(301));
    for reason in [Reason::BackendUnavailable, Reason::LedgerUnavailable, Reason::RateLimited] {
        site.rig.broker.script.state().refusal = Some(reason);
        // By the same token, and by the pod's next one.
        for token in ["one", "two"] {
            let last = site.mount("uid-1", token).await.expect("the last good one");
            assert_eq!(contents(&last, "PASSWORD"), "secret-value", "{reason:?}");
        }
        let another = site.mount("uid-2", "three").await.expect_err("it never had anything");
        assert_eq!(Some(another.code()), Some(reason.code()));
    }
}

#[tokio::test]
async fn a_broker_that_hangs_is_not_waited_for_where_there_is_something_that_lasts() {
    let site = Site::new().await;
    site.mount("uid-1", "one").await.expect("mounted");
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    site.rig.broker.script.state().gate = Some(Arc::clone(&gate));
    site.rig.clock.advance(Duration::from_secs(301));
    let last =
        tokio::time::timeout(LIMIT, site.mount("uid-1", "one")).await.expect("soon").expect("last good");
    assert_eq!(contents(&last, "PASSWORD"), "secret-value");
    gate.add_permits(1000);
}

#[tokio::test]
async fn what_cannot_be_mounted_is_told_in_words_for_whoever_looks_at_the_pod() {
    let site = Site::new().await;
    let below = "- {path: a, reference: kv/app}\n- {path: a/b, reference: kv/app}\n";
    let same = "- {path: a, reference: kv/app}\n- {path: a, reference: kv/app}\n";
    let template = "- {path: x, template: '{{ PASSWORD | int }}'}\n";
    let cases = [
        (json!({ "objects": below }), "two files are called `a`, or one is where another has a folder"),
        (json!({ "objects": same }), "two files are called `a`"),
        (json!({ "objects": "- {path: a, reference: kv/absent}" }), "no such secret"),
        (json!({ "environment": "app", "objects": "- {path: LEVEL, reference: kv/app}" }), "called `LEVEL`"),
        (json!({ "environment": "app", "outputs": template }), "the template `x`, line 1, column"),
        (json!({}), "neither `environment` nor `objects`"),
    ];
    for (parameters, words) in cases {
        let refused = site.mount_with("uid-1", "one", parameters).await.expect_err(words);
        assert!(refused.message().contains(words), "{refused}");
        assert!(refused.message().contains("pod `shop/web-0`"), "{refused}");
        assert!(!refused.message().contains("secret-value") && !refused.message().contains("e30."));
    }
}

#[tokio::test]
async fn more_than_the_driver_takes_is_refused_before_it_fails() {
    let site = Site::new().await;
    for name in ["kv/one", "kv/two"] {
        site.rig.broker.script.state().secrets.insert(name.to_owned(), vec![b'x'; 2_097_000]);
    }
    let one = json!({ "objects": "- {path: a, reference: kv/one}\n" });
    site.mount_with("uid-1", "one", one).await.expect("mounted");
    let two = json!({ "objects": "- {path: a, reference: kv/two}\n" });
    site.mount_with("uid-1", "one", two).await.expect("mounted");
    let three =
        "- {path: a, reference: kv/one}\n- {path: b, reference: kv/two}\n- {path: c, reference: kv/app}\n";
    let long = format!("{three}- {{path: '{}', reference: kv/app}}\n", ["x"; 250].concat());
    let refused = site.mount_with("uid-1", "one", json!({ "objects": long })).await.expect_err("too large");
    assert!(refused.message().contains("a volume can have 4194304 at most, so mount fewer"), "{refused}");
}

#[tokio::test]
async fn the_driver_is_told_who_is_there() {
    let site = Site::new().await;
    let asked = VersionRequest { version: "v1alpha1".to_owned() };
    let said = site.driver().await.version(asked).await.expect("answered").into_inner();
    assert_eq!((said.version.as_str(), said.runtime_name.as_str()), ("v1alpha1", "bursar"));
    assert_eq!(said.runtime_version.split('.').count(), 3);
}

#[tokio::test]
async fn what_is_no_call_or_half_of_one_or_a_huge_one_holds_up_nobody() {
    let site = Site::with(8).await;
    let mut silent = Vec::new();
    for words in [&b""[..], b"PRI * HTTP/2.0\r\n", b"GET / HTTP/1.1\r\n\r\n", &[0; 64]] {
        let mut stream = UnixStream::connect(site.socket()).await.expect("connected");
        // One that is closed already is as good.
        drop(stream.write_all(words).await);
        silent.push(stream);
    }
    let mut huge = asked("uid-1", "one", json!({}));
    huge.secrets = "x".repeat(5 << 20);
    assert!(site.ask(huge).await.is_err());
    site.mount("uid-1", "one").await.expect("mounted");
    for mut stream in silent {
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(LIMIT, stream.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "a connection that says nothing keeps its place");
    }
}
