use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bursar_core::clock::TestClock;
use bursar_core::settings::SecretSource;
use bursar_core::{Clock, SystemClock};
use tokio::sync::{Mutex, watch};

use super::*;
use crate::config::Join;
use crate::telemetry::Metrics;
use crate::testing::{FakeBroker, LIMIT, eventually};
use crate::upstream::Upstream;

const HOUR: Duration = Duration::from_secs(3600);

struct Node {
    broker: FakeBroker,
    folder: tempfile::TempDir,
}

impl Node {
    async fn new() -> Self {
        let node = Self { broker: FakeBroker::start().await, folder: tempfile::tempdir().expect("folder") };
        node.put_token("join-token");
        node
    }

    fn put_token(&self, token: &str) {
        std::fs::write(self.token(), token).expect("written");
        std::fs::set_permissions(self.token(), std::fs::Permissions::from_mode(0o600)).expect("mode");
    }

    fn token(&self) -> PathBuf {
        self.folder.path().join("token")
    }

    fn keeper(&self, clock: Arc<dyn Clock>) -> Arc<Keeper> {
        Arc::new(Keeper {
            broker: bursar_sdk::Address::parse(&self.broker.url()).expect("address"),
            ca: self.broker.authority.root_pem.clone().into_bytes(),
            server_name: None,
            node: Some("web-1".to_owned()),
            data_dir: self.folder.path().to_owned(),
            join: Some(Join::Token(SecretSource::File(self.token()))),
            clock,
            upstream: Arc::new(Upstream::new(Duration::from_secs(10), Metrics::default())),
            metrics: Metrics::default(),
            current: watch::Sender::new(None),
            spent: Mutex::new(None),
        })
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("node.pem")
    }
}

/// As the pod of an agent is set up: without a name, and with a token that kubelet put there.
async fn in_a_pod(node: &Node) -> Arc<Keeper> {
    node.broker.script.state().service_account_token = b"of-the-pod".to_vec();
    std::fs::write(node.token(), "of-the-pod").expect("written");
    std::fs::set_permissions(node.token(), std::fs::Permissions::from_mode(0o644)).expect("mode");
    let mut keeper = node.keeper(Arc::new(SystemClock));
    let this = Arc::get_mut(&mut keeper).expect("only one");
    this.node = None;
    this.join = Some(Join::Kubernetes { token_file: node.token() });
    keeper
}

/// Runs the keeper until `holds`.
async fn keep_until(keeper: &Arc<Keeper>, what: &str, holds: impl FnMut() -> bool) {
    tokio::select! {
        () = keeper.keep() => {}
        () = eventually(what, holds) => {}
    }
}

#[tokio::test]
async fn a_node_joins_with_its_token_and_keeps_certificate_and_key_to_itself() {
    let node = Node::new().await;
    let keeper = node.keeper(Arc::new(SystemClock));
    assert!(!keeper.resume().expect("nothing there"));
    keep_until(&keeper, "the node has joined", || keeper.current.borrow().is_some() && node.file().exists())
        .await;
    let mode = std::fs::metadata(node.file()).expect("file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let id = keeper.current.borrow().as_ref().map(|credential| credential.id().to_string());
    assert_eq!(id.as_deref(), Some("spiffe://example.org/node/web-1"));
}

#[tokio::test]
async fn a_node_that_joined_goes_on_with_its_certificate_and_asks_for_nothing() {
    let node = Node::new().await;
    let first = node.keeper(Arc::new(SystemClock));
    keep_until(&first, "the node has joined", || node.file().exists()).await;
    let second = node.keeper(Arc::new(SystemClock));
    assert!(second.resume().expect("taken up"));
    assert_eq!(node.broker.script.calls("join"), 1);
    assert!(second.upstream.channel().is_some());
}

#[tokio::test]
async fn past_half_of_its_life_a_certificate_is_renewed_with_another_key() {
    let node = Node::new().await;
    // The first is at 56 % of its life at once.
    node.broker.script.state().lives = vec![(14 * HOUR, 11 * HOUR), (HOUR, 23 * HOUR)];
    let keeper = node.keeper(Arc::new(SystemClock));
    keep_until(&keeper, "the certificate is renewed", || node.broker.script.calls("renew_certificate") == 1)
        .await;
    let certified = node.broker.script.state().certified.clone();
    assert_eq!(certified.len(), 2);
    assert_ne!(public_key(&certified[0]), public_key(&certified[1]));
    assert_eq!(node.broker.script.calls("join"), 1);
}

fn public_key(csr: &[u8]) -> Vec<u8> {
    let request = rcgen::CertificateSigningRequestParams::from_der(&csr.into()).expect("request");
    rcgen::PublicKeyData::subject_public_key_info(&request.public_key)
}

#[tokio::test]
async fn before_that_it_is_left_alone() {
    let node = Node::new().await;
    node.broker.script.state().lives = vec![(10 * HOUR, 14 * HOUR)];
    let keeper = node.keeper(Arc::new(SystemClock));
    keep_until(&keeper, "the node has joined", || node.file().exists()).await;
    let due = keeper.current.borrow().as_ref().map(|credential| credential.at_share_of_life(0.45));
    assert!(due.expect("joined") > SystemClock.now());
    assert_eq!(node.broker.script.calls("renew_certificate"), 0);
}

#[tokio::test]
async fn a_pod_of_the_agent_joins_again_for_each_certificate_by_the_token_of_that_moment() {
    let node = Node::new().await;
    node.broker.script.state().node = "east.n1".to_owned();
    // The first is at 56 % of its life at once.
    node.broker.script.state().lives = vec![(14 * HOUR, 11 * HOUR), (HOUR, 23 * HOUR)];
    let keeper = in_a_pod(&node).await;
    keeper.keep_once().await.expect("joined");
    let id = keeper.current.borrow().as_ref().map(|credential| credential.id().to_string());
    assert_eq!(id.as_deref(), Some("spiffe://example.org/node/east.n1"));
    // Kubelet has put another there since.
    node.broker.script.state().service_account_token = b"the-next".to_vec();
    std::fs::write(node.token(), "the-next").expect("written");
    keep_until(&keeper, "it has joined again", || node.broker.script.calls("join") == 2).await;
    let certified = node.broker.script.state().certified.clone();
    assert_ne!(public_key(&certified[0]), public_key(&certified[1]));
    assert_eq!(node.broker.script.calls("renew_certificate"), 0);
}

#[tokio::test]
async fn a_token_of_a_pod_that_is_refused_is_tried_again_with_what_is_there_then() {
    let node = Node::new().await;
    let keeper = in_a_pod(&node).await;
    node.broker.script.state().service_account_token = b"another".to_vec();
    keeper.keep_once().await.expect_err("refused");
    keeper.keep_once().await.expect_err("refused");
    assert_eq!(node.broker.script.calls("join"), 2);
    std::fs::write(node.token(), "another").expect("written");
    keeper.keep_once().await.expect("joined");
}

#[tokio::test]
async fn after_its_end_the_node_joins_again_with_a_new_token() {
    let node = Node::new().await;
    let first = node.keeper(Arc::new(SystemClock));
    keep_until(&first, "the node has joined", || node.file().exists()).await;
    node.put_token("second-token");
    node.broker.script.state().token = b"second-token".to_vec();
    let clock = Arc::new(Later(48 * HOUR));
    node.broker.script.state().lives = vec![(HOUR, 100 * HOUR)];
    let second = node.keeper(clock);
    assert!(second.resume().expect("taken up"));
    keep_until(&second, "the node has joined again", || node.broker.script.calls("join") == 2).await;
}

/// The real time and some more.
#[derive(Debug)]
struct Later(Duration);

impl Clock for Later {
    fn now(&self) -> jiff::Timestamp {
        SystemClock.now() + self.0
    }
}

#[tokio::test]
async fn a_token_that_was_used_is_not_sent_again() {
    let node = Node::new().await;
    node.put_token("used-before");
    let keeper = node.keeper(Arc::new(SystemClock));
    tokio::select! {
        () = keeper.keep() => {}
        () = eventually("the token was refused", || node.broker.script.calls("join") == 1) => {}
    }
    // The next attempts end before the broker.
    let spent = async {
        while keeper.spent.lock().await.is_none() {
            keeper.keep_once().await.expect_err("no certificate");
        }
        keeper.keep_once().await
    };
    let again = tokio::time::timeout(LIMIT, spent).await.expect("in time");
    assert!(matches!(again, Err(CertifyError::TokenSpent)));
}

#[tokio::test]
async fn a_certificate_for_another_name_is_not_used() {
    let node = Node::new().await;
    node.broker.script.state().node = "web-2".to_owned();
    let keeper = node.keeper(Arc::new(SystemClock));
    assert!(matches!(keeper.keep_once().await, Err(CertifyError::OtherNode { .. })));
    assert!(keeper.current.borrow().is_none() && !node.file().exists());
}

#[tokio::test]
async fn a_certificate_that_is_already_over_is_not_used() {
    let node = Node::new().await;
    node.broker.script.state().lives = vec![(2 * HOUR, Duration::from_secs(1))];
    let keeper = node.keeper(Arc::new(Later(HOUR)));
    assert!(matches!(keeper.keep_once().await, Err(CertifyError::Over)));
}

#[tokio::test]
async fn a_broker_of_another_authority_is_not_sent_the_token() {
    let node = Node::new().await;
    let mut keeper = node.keeper(Arc::new(SystemClock));
    Arc::get_mut(&mut keeper).expect("only one").ca = crate::testing::Authority::new().root_pem.into_bytes();
    let refused = keeper.keep_once().await;
    assert!(matches!(refused, Err(CertifyError::Connect(bursar_sdk::ConnectError::ServerUnknownAuthority))));
    assert_eq!(node.broker.script.calls("join"), 0);
}

#[tokio::test]
async fn a_full_disk_does_not_cost_the_certificate() {
    let node = Node::new().await;
    let mut keeper = node.keeper(Arc::new(SystemClock));
    Arc::get_mut(&mut keeper).expect("only one").data_dir = node.folder.path().join("not-there");
    assert!(keeper.keep_once().await.is_ok());
    assert!(keeper.current.borrow().is_some());
}

#[tokio::test]
async fn a_damaged_file_is_a_fault_and_not_a_reason_to_join() {
    let node = Node::new().await;
    std::fs::write(node.file(), "-----BEGIN PRIVATE KEY-----\nAAAA\n").expect("written");
    let keeper = node.keeper(Arc::new(TestClock::new()));
    let fault = keeper.resume().expect_err("damaged");
    assert!(matches!(fault, CertifyError::Unusable(CredentialError::Damaged { .. })));
    assert!(!format!("{fault:?}").contains("AAAA"));
}

#[tokio::test]
async fn nothing_that_can_be_formatted_shows_the_key() {
    let node = Node::new().await;
    let keeper = node.keeper(Arc::new(SystemClock));
    keeper.keep_once().await.expect("joined");
    let text = format!("{:?} {:?}", keeper, keeper.current.borrow());
    assert!(!text.contains("PRIVATE"), "{text}");
}
