use std::cell::Cell;
use std::rc::Rc;

use bursar_core::clock::SystemClock;
use serde_json::{Map, json};

use super::*;
use crate::identity::token::jws::Algorithm;

/// An issuer that counts how often it is asked.
#[derive(Clone, Default)]
struct Issuer {
    asked: Rc<Cell<usize>>,
    /// The name of its key; none while it is away.
    key: Rc<Cell<Option<&'static str>>>,
}

impl Issuer {
    fn with(key: &'static str) -> Self {
        let issuer = Self::default();
        issuer.key.set(Some(key));
        issuer
    }

    fn fetch(&self) -> std::future::Ready<Result<KeySet, Unfetched>> {
        self.asked.set(self.asked.get() + 1);
        std::future::ready(self.key.get().map(set).ok_or(Unfetched::Status(503)))
    }
}

fn set(kid: &str) -> KeySet {
    let key = json!({ "kty": "OKP", "crv": "Ed25519", "kid": kid, "x": data_encoding::BASE64URL_NOPAD.encode(&[9; 32]) });
    KeySet::parse(json!({ "keys": [key] }).to_string().as_bytes()).expect("a set")
}

/// A token whose signature never holds; whether its key is there shows in why it is refused.
fn token(kid: &str) -> Jws<'static> {
    let signature = vec![0; 64];
    Jws { algorithm: Algorithm::EdDsa, kid: kid.to_owned(), claims: Map::new(), signed: b"", signature }
}

fn held() -> Held {
    Held::new("ci".to_owned(), Duration::from_secs(300), Duration::from_secs(24 * 3600))
}

/// Runs `test` beside the task that fetches.
async fn beside<T>(held: &Held, issuer: &Issuer, test: impl Future<Output = T>) -> T {
    let metrics = Metrics::register(&mut prometheus_client::registry::Registry::default());
    tokio::select! {
        biased;
        done = test => done,
        () = held.keep(|| issuer.fetch(), Arc::new(SystemClock), metrics) => unreachable!("it does not end"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_comes_before_the_keys_waits_for_them() {
    let (held, issuer) = (held(), Issuer::with("a"));
    let refused = beside(&held, &issuer, async { held.verify(&token("a")).await }).await;
    assert_eq!((refused, issuer.asked.get()), (Err(Refused::Signature), 1));
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_unknown_keys_costs_one_round_in_ten_seconds() {
    let (held, issuer) = (held(), Issuer::with("a"));
    beside(&held, &issuer, async {
        assert_eq!(held.verify(&token("a")).await, Err(Refused::Signature));
        tokio::time::sleep(WINDOW).await;
        for storm in 1..=6 {
            let names: Vec<_> = (0..1000).map(|number| format!("bogus-{number}")).collect();
            let tokens: Vec<_> = names.iter().map(|name| token(name)).collect();
            let all = futures_util::future::join_all(tokens.iter().map(|token| held.verify(token))).await;
            assert!(all.iter().all(|refused| *refused == Err(Refused::KeyUnknown)));
            // Half of the window lies between two storms.
            assert_eq!(issuer.asked.get(), 1 + usize::div_ceil(storm, 2), "after storm {storm}");
            tokio::time::sleep(WINDOW / 2).await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_new_key_is_found_at_once_and_the_old_one_counts_no_more() {
    let (held, issuer) = (held(), Issuer::with("a"));
    beside(&held, &issuer, async {
        assert_eq!(held.verify(&token("a")).await, Err(Refused::Signature));
        let before = held.revision().expect("keys");
        tokio::time::sleep(WINDOW).await;
        issuer.key.set(Some("b"));
        assert_eq!(held.verify(&token("b")).await, Err(Refused::Signature));
        assert_eq!(held.verify(&token("a")).await, Err(Refused::KeyUnknown));
        assert_ne!(held.revision(), Ok(before), "what was believed by the old key is looked at anew");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_key_that_was_taken_out_counts_no_more_after_the_regular_round() {
    let (held, issuer) = (held(), Issuer::with("a"));
    beside(&held, &issuer, async {
        assert_eq!(held.verify(&token("a")).await, Err(Refused::Signature));
        issuer.key.set(Some("b"));
        tokio::time::sleep(Duration::from_secs(301)).await;
        assert_eq!(held.verify(&token("a")).await, Err(Refused::KeyUnknown));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_last_keys_count_through_an_outage_for_a_day() {
    let (held, issuer) = (held(), Issuer::with("a"));
    beside(&held, &issuer, async {
        assert_eq!(held.verify(&token("a")).await, Err(Refused::Signature));
        issuer.key.set(None);
        tokio::time::sleep(Duration::from_secs(23 * 3600)).await;
        assert_eq!(held.verify(&token("a")).await, Err(Refused::Signature));
        assert!(held.revision().is_ok());
        tokio::time::sleep(Duration::from_secs(3601)).await;
        assert_eq!(held.verify(&token("a")).await, Err(Refused::KeysUnavailable));
        assert_eq!(held.revision(), Err(Refused::KeysUnavailable));
        issuer.key.set(Some("a"));
        tokio::time::sleep(AFTER_FAILURE).await;
        assert_eq!(held.verify(&token("a")).await, Err(Refused::Signature));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_is_away_is_asked_twice_a_minute() {
    let (held, issuer) = (held(), Issuer::default());
    beside(&held, &issuer, async {
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(held.verify(&token("a")).await, Err(Refused::KeysUnavailable));
    })
    .await;
    assert!((120..=135).contains(&issuer.asked.get()), "{} rounds in an hour", issuer.asked.get());
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_hangs_does_not_hold_tokens_up_for_ever() {
    let held = held();
    let metrics = Metrics::register(&mut prometheus_client::registry::Registry::default());
    let began = Instant::now();
    let refused = tokio::select! {
        refused = async { held.verify(&token("a")).await } => refused,
        () = held.keep(std::future::pending, Arc::new(SystemClock), metrics) => unreachable!("it does not end"),
    };
    assert_eq!(refused, Err(Refused::KeysUnavailable));
    assert!(began.elapsed() <= PATIENCE);
}
