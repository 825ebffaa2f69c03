//! Sessions of roles.

use std::sync::Arc;
use std::time::Duration;

use bursar_core::Clock;
use bursar_core::FieldName;
use bursar_core::backend::{Backend, ErrorKind, Issued, Leasing, Operation, Removal, StoreHandle};
use bursar_core::clock::TestClock;
use jiff::Timestamp;

use super::fake::{Fake, ROLE, Reply, backend, config, install_provider, lease, path, session, text};
use crate::{AwsBackend, AwsConfig, Revocation, Role};

const HOUR: Duration = Duration::from_secs(3600);

fn in_an_hour() -> Timestamp {
    TestClock::new().now().checked_add(HOUR).expect("time")
}

async fn granting() -> Fake {
    Fake::start(|_| session("AssumeRole", "ASIANEW", "new/secret", &in_an_hour().to_string())).await
}

fn is(issued: &Issued, field: &str, value: &str) -> bool {
    let field = FieldName::parse(field).expect("field");
    issued.data.select(Some(&field)).is_ok_and(|selected| selected.ct_eq(value.as_bytes()))
}

/// The parameters of the only call, in the form of a query.
fn parameters(fake: &Fake) -> Vec<String> {
    let [call] = fake.calls().try_into().expect("one call");
    let mut pairs: Vec<_> = call.body.split('&').map(str::to_owned).collect();
    pairs.retain(|pair| !pair.starts_with("Version="));
    pairs
}

#[tokio::test]
async fn a_session_is_named_for_its_lease_and_ends_when_sts_says() {
    let fake = granting().await;
    let issued =
        fake.backend().issue(&path("sts/deploy"), lease(), HOUR).await.unwrap_or_else(|e| panic!("{e}"));
    let end = in_an_hour();
    assert!(is(&issued, "access_key_id", "ASIANEW") && is(&issued, "secret_access_key", "new/secret"));
    assert!(is(&issued, "session_token", "token of ASIANEW") && is(&issued, "expiration", &end.to_string()));
    assert_eq!((issued.ttl, issued.renewable), (HOUR, false));
    let name = format!("bursar-{}", lease()).to_ascii_lowercase();
    assert_eq!(issued.handle.as_str(), format!("deploy/{name}/{end}/{ROLE}"));
    let arn = ROLE.replace(':', "%3A").replace('/', "%2F");
    let mut asked =
        ["Action=AssumeRole".to_owned(), format!("RoleArn={arn}"), format!("RoleSessionName={name}")]
            .to_vec();
    asked.push("DurationSeconds=3600".to_owned());
    assert_eq!(parameters(&fake), asked);
}

#[tokio::test]
async fn a_session_is_as_long_as_asked_within_what_sts_and_the_role_allow() {
    for (asked, seconds) in [(60, 900), (900, 900), (1800, 1800), (7200, 3600)] {
        let fake = granting().await;
        let issued = fake.backend().issue(&path("sts/deploy"), lease(), Duration::from_secs(asked)).await;
        assert!(issued.is_ok());
        assert!(parameters(&fake).contains(&format!("DurationSeconds={seconds}")), "asked for {asked} s");
    }
}

#[tokio::test]
async fn what_the_role_asks_for_is_sent() {
    let fake = granting().await;
    let role = Role {
        arn: ROLE.to_owned(),
        ttl: HOUR,
        external_id: Some("outside".to_owned()),
        policy: Some("{}".to_owned()),
        session_tags: [("team".to_owned(), "pay".to_owned())].into(),
        revoke: Revocation::AtEnd,
    };
    let backend = backend(AwsConfig { roles: [("deploy".to_owned(), role)].into(), ..config(&fake.address) });
    assert!(backend.issue(&path("sts/deploy"), lease(), HOUR).await.is_ok());
    let sent = parameters(&fake);
    let tag = ["Tags.member.1.Key=team", "Tags.member.1.Value=pay"];
    for pair in ["ExternalId=outside", "Policy=%7B%7D"].iter().chain(&tag) {
        assert!(sent.contains(&(*pair).to_owned()), "{pair} is not in {sent:?}");
    }
}

#[tokio::test]
async fn a_role_that_is_not_configured_is_not_found() {
    let fake = granting().await;
    for absent in ["sts/other", "sts", "sts/deploy/more"] {
        let error = fake.backend().issue(&path(absent), lease(), HOUR).await.err().expect("no role");
        assert_eq!((error.kind, error.operation), (ErrorKind::NotFound, Operation::Issue), "`{absent}`");
    }
    assert_eq!(fake.calls().len(), 0);
    let backend = fake.backend();
    assert!(backend.is_leased(&path("sts/other")), "sessions of a role that was configured are still out");
    assert!(!backend.is_leased(&path("stst/deploy")) && !backend.is_leased(&path("app/sts/deploy")));
}

#[tokio::test]
async fn issuing_is_not_repeated() {
    for reply in [
        text(503, "<ErrorResponse><Error><Code>ServiceUnavailable</Code></Error></ErrorResponse>"),
        Some(Reply::Raw(Vec::new())),
        text(400, "<ErrorResponse><Error><Code>Throttling</Code></Error></ErrorResponse>"),
    ] {
        let fake = Fake::start(move |_| reply.clone()).await;
        assert!(fake.backend().issue(&path("sts/deploy"), lease(), HOUR).await.is_err());
        assert_eq!(fake.calls().len(), 1);
    }
}

#[tokio::test]
async fn each_refusal_of_sts_has_its_kind() {
    let table = [
        (403, "AccessDenied", ErrorKind::Denied),
        (400, "ValidationError", ErrorKind::Misconfigured),
        (400, "MalformedPolicyDocument", ErrorKind::Misconfigured),
        (403, "RegionDisabledException", ErrorKind::Misconfigured),
        (400, "Throttling", ErrorKind::Throttled),
        (500, "InternalFailure", ErrorKind::Unavailable),
    ];
    for (status, code, kind) in table {
        let body =
            format!("<ErrorResponse><Error><Code>{code}</Code><Message>m</Message></Error></ErrorResponse>");
        let fake = Fake::start(move |_| text(status, &body)).await;
        let error = fake.backend().issue(&path("sts/deploy"), lease(), HOUR).await.err().expect("a refusal");
        assert_eq!((error.kind, error.code), (kind, Some(status)), "{code}");
    }
}

#[tokio::test]
async fn an_answer_without_a_credential_is_malformed() {
    for body in ["", "<html>", "{}", "<AssumeRoleResponse><AssumeRoleResult/></AssumeRoleResponse>"] {
        let fake = Fake::start(move |_| text(200, body)).await;
        let error =
            fake.backend().issue(&path("sts/deploy"), lease(), HOUR).await.err().expect("nothing made");
        assert_eq!(error.kind, ErrorKind::Malformed, "`{body}`");
    }
}

#[tokio::test]
async fn a_session_is_not_taken_back_and_is_gone_at_its_end() {
    install_provider();
    let clock = Arc::new(TestClock::new());
    let backend = AwsBackend::new(config("http://127.0.0.1:1"), Arc::clone(&clock) as Arc<dyn Clock>)
        .expect("configuration");
    let end = in_an_hour();
    let handle = StoreHandle::new(format!("deploy/bursar-x/{end}"));
    for _ in 0..2 {
        assert_eq!(backend.revoke(&handle).await, Ok(Removal::EndsAt(end)));
    }
    clock.advance(HOUR);
    assert_eq!(backend.revoke(&handle).await, Ok(Removal::Gone));
    let renewed = backend.renew(&handle, HOUR).await.expect_err("STS extends none");
    assert_eq!((renewed.kind, renewed.operation), (ErrorKind::Misconfigured, Operation::Renew));
    let unreadable = backend.revoke(&StoreHandle::new("deploy/x/soon".to_owned())).await;
    assert_eq!(unreadable.expect_err("no time").kind, ErrorKind::Malformed);
    let found = backend.find_orphans(&path("sts/deploy"), Timestamp::UNIX_EPOCH..Timestamp::MAX).await;
    assert_eq!(found, Ok(Vec::new()));
    assert!(backend.capabilities().leasing);
}
