//! Sessions that a policy of their role denies everything.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bursar_core::backend::{Backend, ErrorKind, Leasing, Operation, Removal, StoreHandle};
use bursar_core::clock::TestClock;
use bursar_core::{BackendName, Clock};
use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use tokio::task::JoinSet;

use super::fake::{Call, Fake, OfAws, ROLE, Reply, config, install_provider, lease, path, session, text};
use crate::{AwsBackend, AwsConfig, ConfigError, Revocation, Role};

const HOUR: Duration = Duration::from_secs(3600);

/// What IAM keeps: by role and policy, the document.
type Kept = Arc<Mutex<BTreeMap<(String, String), String>>>;

/// STS and IAM of one account, which keeps what it is given.
async fn account(kept: &Kept) -> Fake {
    let kept = Arc::clone(kept);
    Fake::start(move |call| answer(call, &kept)).await
}

fn answer(call: &Call, kept: &Kept) -> Option<Reply> {
    let name = || (parameter(call, "RoleName"), parameter(call, "PolicyName"));
    match call.action() {
        "GetCallerIdentity" => caller("123456789012"),
        "GetRolePolicy" => match kept.lock().expect("lock").get(&name()) {
            Some(document) => {
                let document = utf8_percent_encode(document, NON_ALPHANUMERIC);
                text(
                    200,
                    &format!(
                        "<R><GetRolePolicyResult><PolicyDocument>{document}</PolicyDocument></GetRolePolicyResult></R>"
                    ),
                )
            }
            None => refused(404, "NoSuchEntity"),
        },
        "PutRolePolicy" => {
            kept.lock().expect("lock").insert(name(), parameter(call, "PolicyDocument"));
            text(200, "<PutRolePolicyResponse/>")
        }
        _ => None,
    }
}

fn caller(account: &str) -> Option<Reply> {
    let result = format!("<GetCallerIdentityResult><Account>{account}</Account></GetCallerIdentityResult>");
    text(200, &format!("<GetCallerIdentityResponse>{result}</GetCallerIdentityResponse>"))
}

fn refused(status: u16, code: &str) -> Option<Reply> {
    text(
        status,
        &format!("<ErrorResponse><Error><Code>{code}</Code><Message>m</Message></Error></ErrorResponse>"),
    )
}

fn parameter(call: &Call, name: &str) -> String {
    let mut pairs = call.body.split('&').filter_map(|pair| pair.split_once('='));
    let value = pairs.find(|(key, _)| *key == name).map_or("", |(_, value)| value);
    percent_decode_str(value).decode_utf8().expect("UTF-8").into_owned()
}

pub(super) fn denying(address: &str) -> AwsConfig {
    let config = config(address);
    let role = |(name, role): (String, Role)| (name, Role { revoke: Revocation::Deny, ..role });
    AwsConfig { roles: config.roles.into_iter().map(role).collect(), ..config }
}

fn with_clock(config: AwsConfig) -> (AwsBackend, Arc<TestClock>) {
    install_provider();
    let clock = Arc::new(TestClock::new());
    (AwsBackend::new(config, Arc::clone(&clock) as Arc<dyn Clock>).expect("configuration"), clock)
}

fn in_an_hour() -> Timestamp {
    TestClock::new().now().checked_add(HOUR).expect("time")
}

fn handle(session: &str, end: Timestamp) -> StoreHandle {
    StoreHandle::new(format!("deploy/{session}/{end}/{ROLE}"))
}

/// The only policy that there is.
fn policy(kept: &Kept) -> String {
    let kept: Vec<_> = kept.lock().expect("lock").values().cloned().collect();
    let [policy] = kept.try_into().expect("one policy");
    policy
}

#[tokio::test]
async fn what_was_issued_is_denied_by_its_name_and_denied_twice_is_as_good() {
    let kept = Kept::default();
    let shared = Arc::clone(&kept);
    let made = session("AssumeRole", "ASIANEW", "s", &in_an_hour().to_string());
    let fake = Fake::start(move |call| match call.action() {
        "AssumeRole" => made.clone(),
        _ => answer(call, &shared),
    })
    .await;
    let (backend, _) = with_clock(denying(&fake.address));
    let issued = backend.issue(&path("sts/deploy"), lease(), HOUR).await.unwrap_or_else(|e| panic!("{e}"));
    for _ in 0..2 {
        assert_eq!(backend.revoke(&issued.handle).await, Ok(Removal::Gone));
        let name = format!("\"*:bursar-{}\"", lease()).to_ascii_lowercase();
        assert!(policy(&kept).contains(&format!("[{name}]")), "{}", policy(&kept));
    }
    let calls = fake.calls();
    let put = calls.iter().find(|call| call.action() == "PutRolePolicy").expect("a policy");
    assert_eq!(parameter(put, "RoleName"), "deploy");
    let signed = put.headers.get("authorization").expect("a signature");
    assert!(signed.contains("/us-east-1/iam/aws4_request") && signed.contains("host;x-amz-date"), "{signed}");
}

#[tokio::test]
async fn sessions_taken_back_at_once_lose_nothing_of_one_another() {
    let kept = Kept::default();
    let fake = account(&kept).await;
    let mut config = denying(&fake.address);
    // Another name for the same role.
    let role = config.roles.get("deploy").expect("a role").clone();
    config.roles.insert("again".to_owned(), role);
    let backend = Arc::new(with_clock(config).0);
    let mut all = JoinSet::new();
    for number in 0..20 {
        let backend = Arc::clone(&backend);
        let name = if number % 2 == 0 { "deploy" } else { "again" };
        let handle = StoreHandle::new(format!("{name}/bursar-{number:02}/{}/{ROLE}", in_an_hour()));
        all.spawn(async move { backend.revoke(&handle).await });
    }
    while let Some(removed) = all.join_next().await {
        assert_eq!(removed.expect("no panic"), Ok(Removal::Gone));
    }
    for number in 0..20 {
        assert!(policy(&kept).contains(&format!("\"*:bursar-{number:02}\"")), "{number} was lost");
    }
}

#[tokio::test]
async fn brokers_and_backends_that_share_a_role_have_a_policy_each() {
    let kept = Kept::default();
    let fake = account(&kept).await;
    let one = denying(&fake.address);
    let other = AwsConfig { owner: "another".to_owned(), ..denying(&fake.address) };
    let third = AwsConfig { name: BackendName::parse("other").expect("name"), ..denying(&fake.address) };
    for config in [one, other, third] {
        let (backend, _) = with_clock(config);
        assert_eq!(backend.revoke(&handle("bursar-a", in_an_hour())).await, Ok(Removal::Gone));
    }
    let names: Vec<_> = kept.lock().expect("lock").keys().map(|(_, policy)| policy.clone()).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(names.iter().all(|name| name.starts_with("bursar-aws-") || name.starts_with("bursar-other-")));
}

#[tokio::test]
async fn what_iam_does_not_show_yet_is_put_again() {
    let kept = Kept::default();
    let shared = Arc::clone(&kept);
    // It answers with what was there at the beginning: nothing.
    let fake = Fake::start(move |call| match call.action() {
        "GetRolePolicy" => refused(404, "NoSuchEntity"),
        _ => answer(call, &shared),
    })
    .await;
    let (backend, _) = with_clock(denying(&fake.address));
    for name in ["bursar-a", "bursar-b"] {
        assert_eq!(backend.revoke(&handle(name, in_an_hour())).await, Ok(Removal::Gone));
    }
    assert!(policy(&kept).contains(r#"["*:bursar-a","*:bursar-b"]"#), "{}", policy(&kept));
}

#[tokio::test]
async fn what_has_ended_is_not_denied_and_left_out_at_the_next_writing() {
    let kept = Kept::default();
    let fake = account(&kept).await;
    let (backend, clock) = with_clock(denying(&fake.address));
    let first = handle("bursar-a", in_an_hour());
    assert_eq!(backend.revoke(&first).await, Ok(Removal::Gone));
    clock.advance(HOUR * 3);
    let calls = fake.calls().len();
    assert_eq!(backend.revoke(&first).await, Ok(Removal::Gone));
    assert_eq!(fake.calls().len(), calls, "a session that has ended is nothing to ask about");
    let end = clock.now().checked_add(HOUR).expect("time");
    assert_eq!(backend.revoke(&handle("bursar-b", end)).await, Ok(Removal::Gone));
    assert!(policy(&kept).contains("bursar-b") && !policy(&kept).contains("bursar-a"));
}

#[tokio::test]
async fn what_was_made_of_another_role_ends_by_itself() {
    let kept = Kept::default();
    let fake = account(&kept).await;
    let (backend, _) = with_clock(denying(&fake.address));
    let end = in_an_hour();
    for other in [
        // As it was before sessions could be denied.
        format!("deploy/bursar-a/{end}"),
        format!("deploy/bursar-a/{end}/arn:aws:iam::123456789012:role/before"),
        format!("other/bursar-a/{end}/{ROLE}"),
    ] {
        let removed = backend.revoke(&StoreHandle::new(other.clone())).await;
        assert_eq!(removed, Ok(Removal::EndsAt(end)), "{other}");
    }
    assert_eq!(fake.calls().len(), 0);
}

#[tokio::test]
async fn a_role_of_another_account_is_left_alone() {
    let fake = Fake::start(|_| caller("210987654321")).await;
    let (backend, _) = with_clock(denying(&fake.address));
    let error = backend.revoke(&handle("bursar-a", in_an_hour())).await.expect_err("another's role");
    assert_eq!((error.kind, error.operation), (ErrorKind::Misconfigured, Operation::Revoke));
    assert_eq!(fake.calls().len(), 1, "a role of the same name is here, too");
}

#[tokio::test]
async fn each_refusal_has_its_kind_and_takes_nothing_back() {
    let table = [
        ("GetRolePolicy", 403, "AccessDenied", ErrorKind::Denied),
        ("PutRolePolicy", 403, "AccessDenied", ErrorKind::Denied),
        // There is no room for another.
        ("PutRolePolicy", 409, "LimitExceeded", ErrorKind::Misconfigured),
        ("PutRolePolicy", 400, "UnmodifiableEntity", ErrorKind::Misconfigured),
        ("PutRolePolicy", 409, "ConcurrentModification", ErrorKind::Unavailable),
        ("PutRolePolicy", 500, "ServiceFailure", ErrorKind::Unavailable),
        ("PutRolePolicy", 400, "Throttling", ErrorKind::Throttled),
        ("PutRolePolicy", 400, "words of nobody", ErrorKind::Misconfigured),
    ];
    for (action, status, code, kind) in table {
        let kept = Kept::default();
        let fake = Fake::start(move |call| match call.action() == action {
            true => refused(status, code),
            false => answer(call, &kept),
        })
        .await;
        let (backend, _) = with_clock(denying(&fake.address));
        let error = backend.revoke(&handle("bursar-a", in_an_hour())).await.expect_err("a refusal");
        assert_eq!(
            (error.kind, error.code, error.operation),
            (kind, Some(status), Operation::Revoke),
            "{code}"
        );
    }
}

#[tokio::test]
async fn a_role_that_is_gone_has_no_policy_and_its_sessions_end() {
    let fake = Fake::start(|call| match call.action() {
        "GetCallerIdentity" => caller("123456789012"),
        _ => refused(404, "NoSuchEntity"),
    })
    .await;
    let (backend, _) = with_clock(denying(&fake.address));
    let end = in_an_hour();
    assert_eq!(backend.revoke(&handle("bursar-a", end)).await, Ok(Removal::EndsAt(end)));
}

#[tokio::test]
async fn an_answer_that_is_no_policy_is_not_written_over() {
    for body in ["", "<html>", "<R><PolicyDocument>no JSON</PolicyDocument></R>", "<R/>"] {
        let fake = Fake::start(move |call| match call.action() {
            "GetCallerIdentity" => caller("123456789012"),
            _ => text(200, body),
        })
        .await;
        let (backend, _) = with_clock(denying(&fake.address));
        let error = backend.revoke(&handle("bursar-a", in_an_hour())).await.expect_err("no policy");
        assert_eq!(error.kind, ErrorKind::Malformed, "`{body}`");
        assert_eq!(fake.count("PutRolePolicy"), 0, "`{body}`");
    }
}

#[tokio::test]
async fn where_iam_is_has_to_be_known() {
    install_provider();
    let config = |region: &str| AwsConfig {
        region: region.to_owned(),
        iam_endpoint: None,
        ..denying("http://127.0.0.1:1")
    };
    let refused = AwsBackend::new(config("us-iso-east-1"), Arc::new(TestClock::new()));
    assert!(matches!(refused, Err(ConfigError::NoIam)));
    let (backend, _) = with_clock(config("eu-central-1"));
    assert!(backend.capabilities().leasing);
}
