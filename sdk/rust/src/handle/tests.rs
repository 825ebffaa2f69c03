use std::time::Duration;

use bursar_proto::Reason;

use super::*;
use crate::fake::Fake;

async fn hold(fake: &Fake) -> Handle {
    let reference = Reference::parse("local/db").expect("reference");
    fake.client().hold(reference, ReadOptions::default()).await.expect("first read")
}

async fn seconds(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

fn holds(handle: &Handle, value: &str) -> bool {
    handle.current().is_some_and(|held| held.ct_eq(value.as_bytes()))
}

#[tokio::test(start_paused = true)]
async fn a_credential_is_renewed_between_60_and_70_percent_of_its_life() {
    let fake = Fake::new(true);
    let _handle = hold(&fake).await;
    seconds(59).await;
    assert_eq!(fake.state().renewals, 0);
    seconds(12).await;
    assert_eq!(fake.state().renewals, 1);
}

#[tokio::test(start_paused = true)]
async fn a_credential_is_kept_by_renewals_alone() {
    let fake = Fake::new(true);
    let handle = hold(&fake).await;
    seconds(10_000).await;
    assert!(holds(&handle, "credential-1"));
    assert_eq!(fake.state().reads, 1);
    assert_eq!(fake.state().issued, 1);
    let renewals = fake.state().renewals;
    assert!((140..=170).contains(&renewals), "{renewals} renewals");
}

#[tokio::test(start_paused = true)]
async fn a_static_secret_brings_its_new_version_along() {
    let fake = Fake::new(false);
    let mut handle = hold(&fake).await;
    fake.state().value = "two";
    tokio::time::timeout(Duration::from_secs(71), handle.changed()).await.expect("a change");
    assert!(holds(&handle, "two"));
    assert_eq!(fake.state().issued, 1);
}

#[tokio::test(start_paused = true)]
async fn the_same_value_again_is_no_change() {
    let fake = Fake::new(false);
    let mut handle = hold(&fake).await;
    assert!(tokio::time::timeout(Duration::from_secs(1000), handle.changed()).await.is_err());
    assert!(fake.state().reads > 10);
}

#[tokio::test(start_paused = true)]
async fn a_failed_renewal_asks_for_no_other_credential_while_the_first_lives() {
    let fake = Fake::new(true);
    fake.state().renewal_refusal = Some(Reason::LeaseNotRenewable);
    let handle = hold(&fake).await;
    seconds(99).await;
    assert!(holds(&handle, "credential-1"));
    assert_eq!(fake.state().renewals, 1);
    assert_eq!(fake.state().reads, 1);
    seconds(5).await;
    assert!(holds(&handle, "credential-2"));
    assert_eq!(fake.state().reads_while_live, 0);
}

#[tokio::test(start_paused = true)]
async fn a_lease_at_its_longest_is_asked_for_no_more_than_once() {
    let fake = Fake::new(true);
    fake.state().max_life = Duration::from_secs(130);
    let handle = hold(&fake).await;
    seconds(129).await;
    let asked = fake.state().renewals;
    assert!(asked <= 2, "{asked} renewals for one extension and one answer that there is no other");
    seconds(5).await;
    assert!(holds(&handle, "credential-2"));
    assert_eq!(fake.state().reads_while_live, 0);
}

#[tokio::test(start_paused = true)]
async fn an_outage_shorter_than_the_lease_is_not_noticed() {
    let fake = Fake::new(true);
    let handle = hold(&fake).await;
    fake.state().refusal = Some((Reason::LedgerUnavailable, None));
    // Renewal is due at 60 to 70 s. Whatever the jitter, an attempt follows an outage that ends here within 16 s.
    seconds(75).await;
    assert!(holds(&handle, "credential-1"));
    fake.state().refusal = None;
    seconds(200).await;
    assert!(holds(&handle, "credential-1"));
    assert_eq!(fake.state().issued, 1);
}

#[tokio::test(start_paused = true)]
async fn the_value_is_dropped_when_its_lease_ends() {
    let fake = Fake::new(false);
    let mut handle = hold(&fake).await;
    fake.state().refusal = Some((Reason::AccessDenied, None));
    tokio::time::timeout(Duration::from_secs(102), handle.changed()).await.expect("a change");
    assert!(handle.current().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_never_answers_takes_the_value_with_it_too() {
    let fake = Fake::new(false);
    let handle = hold(&fake).await;
    fake.state().silent = true;
    seconds(102).await;
    assert!(handle.current().is_none());
}

#[tokio::test(start_paused = true)]
async fn an_hour_of_refusals_costs_a_bounded_number_of_calls() {
    let fake = Fake::new(true);
    let _handle = hold(&fake).await;
    fake.state().refusal = Some((Reason::BackendUnavailable, None));
    seconds(3600).await;
    let calls = fake.state().calls;
    assert!((60..=145).contains(&calls), "{calls} calls");
}

#[tokio::test(start_paused = true)]
async fn a_lease_of_next_to_nothing_is_not_asked_for_without_end() {
    let fake = Fake::new(false);
    fake.state().ttl = Duration::from_millis(1);
    let _handle = hold(&fake).await;
    seconds(60).await;
    let calls = fake.state().calls;
    assert!(calls <= 61, "{calls} calls");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_handle_asks_for_nothing_more() {
    let fake = Fake::new(true);
    drop(hold(&fake).await);
    seconds(1000).await;
    assert_eq!(fake.state().calls, 1);
}

#[tokio::test(start_paused = true)]
async fn formatting_a_handle_names_it_and_shows_no_value() {
    let fake = Fake::new(true);
    let text = format!("{:?}", hold(&fake).await);
    assert!(text.contains("local/db") && !text.contains("credential"), "{text}");
}
