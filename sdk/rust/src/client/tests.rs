use std::time::Duration;

use bursar_core::Version;
use bursar_proto::Reason;
use bursar_proto::v1::LeasesTopRequest;
use tokio::time::Instant;

use crate::error::Error;
use crate::fake::Fake;
use crate::{LeaseId, ReadOptions, Reference, TokenCommand};

fn reference() -> Reference {
    Reference::parse("local/db").expect("reference")
}

fn lease() -> LeaseId {
    LeaseId::from_bytes([1; 16])
}

#[tokio::test(start_paused = true)]
async fn a_read_brings_value_lease_version_and_age() {
    let read = Fake::new(false).client().read(&reference(), &ReadOptions::default()).await.expect("read");
    assert!(read.value.ct_eq(b"one"));
    assert_eq!(read.version().map(Version::as_str), Some("1"));
    assert_eq!(read.age, Duration::from_secs(3));
    assert!(read.lease.state.is_live());
}

#[tokio::test(start_paused = true)]
async fn many_reads_are_one_call() {
    let fake = Fake::new(false);
    let references = [reference(), reference()];
    let read = fake.client().read_many(&references, &ReadOptions::default()).await.expect("reads");
    assert_eq!((read.len(), fake.state().calls), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_carries_reason_and_request_id() {
    let fake = Fake::new(false);
    fake.state().refusal = Some((Reason::AccessDenied, None));
    let error = fake.client().read(&reference(), &ReadOptions::default()).await.expect_err("refused");
    assert_eq!(error.reason(), Some(Reason::AccessDenied));
    assert_eq!(error.refusal().and_then(|refusal| refusal.request_id.as_deref()), Some("r-1"));
    assert_eq!(error.to_string(), "refused: ACCESS_DENIED");
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_may_pass_is_tried_three_times() {
    let fake = Fake::new(true);
    fake.state().refusal = Some((Reason::LedgerUnavailable, None));
    fake.client().renew(lease(), None).await.expect_err("refused");
    assert_eq!(fake.state().calls, 3);
}

#[tokio::test(start_paused = true)]
async fn a_read_that_may_have_had_an_effect_is_not_repeated() {
    let fake = Fake::new(true);
    fake.state().refusal = Some((Reason::LedgerUnavailable, None));
    fake.client().read(&reference(), &ReadOptions::default()).await.expect_err("refused");
    assert_eq!(fake.state().calls, 1);
}

#[tokio::test(start_paused = true)]
async fn a_read_is_repeated_when_the_server_says_when() {
    let fake = Fake::new(true);
    fake.state().refusal = Some((Reason::BackendThrottled, Some(Duration::from_secs(2))));
    let start = Instant::now();
    fake.client().read(&reference(), &ReadOptions::default()).await.expect_err("refused");
    assert_eq!(fake.state().calls, 3);
    assert!(start.elapsed() >= Duration::from_secs(4), "waited {:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_asks_for_a_long_rest_gets_it() {
    let fake = Fake::new(true);
    fake.state().refusal = Some((Reason::BackendThrottled, Some(Duration::from_secs(60))));
    fake.client().renew(lease(), None).await.expect_err("refused");
    assert_eq!(fake.state().calls, 1);
}

#[tokio::test(start_paused = true)]
async fn a_denial_is_final() {
    let fake = Fake::new(true);
    fake.state().refusal = Some((Reason::AccessDenied, None));
    fake.client().renew(lease(), None).await.expect_err("refused");
    assert_eq!(fake.state().calls, 1);
}

#[tokio::test(start_paused = true)]
async fn silence_ends_at_the_deadline() {
    let fake = Fake::new(true);
    fake.state().silent = true;
    let client = fake.client().with_deadline(Duration::from_secs(7));
    let start = Instant::now();
    let error = client.renew(lease(), None).await.expect_err("deadline");
    assert!(matches!(error, Error::Deadline { limit, .. } if limit == Duration::from_secs(7)), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(8));
}

#[tokio::test(start_paused = true)]
async fn what_a_server_does_not_do_is_a_refusal() {
    let client = Fake::new(true).client();
    let message = LeasesTopRequest { group_by: 1, limit: 1 };
    let top = client.repeatable(message, |client, request| async move { client.leases().top(request).await });
    assert_eq!(top.await.expect_err("refused").reason(), Some(Reason::NotImplemented));
}

#[tokio::test(start_paused = true)]
async fn revoking_answers_with_the_lease() {
    let fake = Fake::new(true);
    let client = fake.client();
    let read = client.read(&reference(), &ReadOptions::default()).await.expect("read");
    let revoked = client.revoke(read.lease.id, "rotation").await.expect("revoked");
    assert_eq!(revoked.id, read.lease.id);
}

#[tokio::test]
async fn a_token_that_the_server_refuses_is_asked_for_anew_by_a_later_call() {
    let place = tempfile::tempdir().expect("directory");
    let script = format!("echo run >> '{}'; echo opaque", place.path().join("runs").display());
    let runs = || std::fs::read_to_string(place.path().join("runs")).map_or(0, |runs| runs.lines().count());
    let fake = Fake::new(false);
    let client = fake.client().with_token_command(TokenCommand::new("sh", ["-c".into(), script.into()]));
    for _ in 0..3 {
        client.read(&reference(), &ReadOptions::default()).await.expect("read");
    }
    assert_eq!(runs(), 1);
    fake.state().refusal = Some((Reason::TokenInvalid, None));
    client.read(&reference(), &ReadOptions::default()).await.expect_err("refused");
    fake.state().refusal = None;
    // Not before the pause after the first run, which calls do not wait for.
    while runs() == 1 {
        client.read(&reference(), &ReadOptions::default()).await.expect("read");
    }
    assert_eq!(runs(), 2);
}

#[tokio::test]
async fn the_deadline_of_a_call_begins_when_its_token_is_there() {
    let place = tempfile::tempdir().expect("directory");
    let approved = place.path().join("approved");
    let script = format!("until [ -e '{}' ]; do :; done; echo opaque", approved.display());
    let command = TokenCommand::new("sh", ["-c".into(), script.into()]);
    let deadline = Duration::from_millis(100);
    let client = Fake::new(false).client().with_deadline(deadline).with_token_command(command);
    let (reference, options) = (reference(), ReadOptions::default());
    let mut read = std::pin::pin!(client.read(&reference, &options));
    assert!(tokio::time::timeout(deadline * 3, &mut read).await.is_err(), "nobody has approved");
    std::fs::write(&approved, "").expect("approved");
    read.await.expect("read");
}
