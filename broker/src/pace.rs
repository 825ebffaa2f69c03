//! How often somebody may ask.
//!
//! Before it is known who asks, the network address pays: for each handshake, for each call that turns out to come from
//! nobody, and for each call that anybody may make. After that the principal pays. The two do not mix: whoever is known
//! is not slowed down by strangers behind the same address, except where it connects anew.
//!
//! A refusal costs less than what it refuses: it is counted and leaves no record, since records are what a flood would
//! fill the ledger with.
//!
//! The state of an address or principal is a few bytes, of at most [`KEPT`] of each. Beyond that the least used are
//! forgotten, and whoever is forgotten begins anew.

use std::fmt;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bursar_core::SpiffeId;
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed, StateStore};
use governor::{Quota, RateLimiter};
use quick_cache::sync::Cache;
use tokio::time::Instant;

use crate::config::Rates;
use crate::failure::Failure;
use crate::telemetry::Metrics;

/// The paces of everybody.
#[derive(Debug)]
pub struct Pace {
    addresses: Option<Keyed<IpAddr>>,
    principals: Option<Keyed<SpiffeId>>,
    metrics: Metrics,
}

/// Who pays for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payer {
    Address,
    Principal,
}

impl Payer {
    /// The name in metrics and to callers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Principal => "principal",
        }
    }
}

impl Pace {
    /// By `rates`; nobody has asked yet.
    pub fn new(rates: Rates, metrics: Metrics) -> Self {
        let (addresses, principals) =
            (rates.per_address.map(Keyed::new), rates.per_principal.map(Keyed::new));
        Self { addresses, principals, metrics }
    }

    /// Whether a connection from `address` may shake hands now. There is nobody yet who could be told to wait.
    pub fn admits(&self, address: IpAddr) -> bool {
        let admitted = self.addresses.as_ref().is_none_or(|paced| paced.check(&payer(address)).is_ok());
        if !admitted {
            self.metrics.rate_refusal(Payer::Address.as_str(), "handshake");
        }
        admitted
    }

    /// A call from `address` of somebody who is not known.
    ///
    /// # Errors
    /// [`Failure::RateLimited`].
    pub fn stranger(&self, address: IpAddr) -> Result<(), Failure> {
        let refused = self.addresses.as_ref().and_then(|paced| paced.check(&payer(address)).err());
        self.refuse(Payer::Address, refused)
    }

    /// A call of `principal`.
    ///
    /// # Errors
    /// [`Failure::RateLimited`].
    pub fn principal(&self, principal: &SpiffeId) -> Result<(), Failure> {
        let refused = self.principals.as_ref().and_then(|paced| paced.check(principal).err());
        self.refuse(Payer::Principal, refused)
    }

    fn refuse(&self, of: Payer, refused: Option<Duration>) -> Result<(), Failure> {
        let Some(retry_after) = refused else { return Ok(()) };
        self.metrics.rate_refusal(of.as_str(), "call");
        Err(Failure::RateLimited { of, retry_after })
    }
}

/// Whoever has an address of IPv6 has 2^64 of them.
fn payer(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & NETWORK)),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// A rate for each key.
struct Keyed<K: Hash + Eq + Clone>(RateLimiter<K, Recent<K>, Beat, NoOpMiddleware<Nanos>>);

impl<K: Hash + Eq + Clone> Keyed<K> {
    /// So many a second, and [`BURST`] seconds' worth of them at once.
    fn new(per_second: NonZeroU32) -> Self {
        let quota = Quota::per_second(per_second).allow_burst(per_second.saturating_mul(BURST));
        Self(RateLimiter::new(quota, Recent(Cache::new(KEPT)), Beat(Instant::now())))
    }

    /// Takes one, or says when there is one again.
    fn check(&self, key: &K) -> Result<(), Duration> {
        self.0.check_key(key).map_err(|until| until.wait_time_from(self.0.clock().now()))
    }
}

impl<K: Hash + Eq + Clone> fmt::Debug for Keyed<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyed").finish_non_exhaustive()
    }
}

/// What is known of those who asked lately.
struct Recent<K>(Cache<K, Arc<InMemoryState>>);

impl<K: Hash + Eq + Clone> StateStore for Recent<K> {
    type Key = K;

    fn measure_and_replace<T, F, E>(&self, key: &K, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        if let Some(state) = self.0.get(key) {
            return state.measure_and_replace(&NotKeyed::NonKey, measure);
        }
        // Two that are the first at once count as one.
        let state = Arc::new(InMemoryState::default());
        let measured = state.measure_and_replace(&NotKeyed::NonKey, measure);
        self.0.insert(key.clone(), state);
        measured
    }
}

/// Time since the start, which paused tests move.
#[derive(Debug, Clone)]
struct Beat(Instant);

impl Clock for Beat {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.elapsed().into()
    }
}

/// Clients that come back together after an outage come at once.
const BURST: NonZeroU32 = NonZeroU32::MIN.saturating_add(9);
const KEPT: usize = 65_536;
const NETWORK: u128 = !0 << 64;

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;

    fn pace(per_address: u32, per_principal: u32) -> Pace {
        let rates = Rates {
            per_address: NonZeroU32::new(per_address),
            per_principal: NonZeroU32::new(per_principal),
        };
        Pace::new(rates, Metrics::register(&mut Registry::default()))
    }

    fn principal(name: &str) -> SpiffeId {
        SpiffeId::parse(&format!("spiffe://example.org/user/{name}")).expect("id")
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("address")
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_let_through_and_what_follows_waits_as_it_is_told() {
        let (pace, ada) = (pace(0, 5), principal("ada"));
        assert_eq!((0..60).filter(|_| pace.principal(&ada).is_ok()).count(), 50);
        let refused = pace.principal(&ada).expect_err("too often");
        let Failure::RateLimited { of: Payer::Principal, retry_after } = refused else {
            panic!("{refused:?}")
        };
        assert!(!retry_after.is_zero() && retry_after <= Duration::from_millis(200), "{retry_after:?}");
        tokio::time::advance(retry_after).await;
        assert!(pace.principal(&ada).is_ok() && pace.principal(&ada).is_err());
        assert!(pace.principal(&principal("bob")).is_ok(), "another has a pace of its own");
    }

    #[tokio::test(start_paused = true)]
    async fn handshakes_and_calls_of_strangers_are_paid_by_the_address_together() {
        let pace = pace(1, 0);
        let here = address("192.0.2.1");
        assert!((0..5).all(|_| pace.admits(here)));
        assert!((0..5).all(|_| pace.stranger(here).is_ok()));
        assert!(!pace.admits(here) && pace.stranger(here).is_err());
        assert!(pace.admits(address("192.0.2.2")));
        assert!(!pace.admits(address("::ffff:192.0.2.1")), "it is the same address");
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_of_one_network_of_ipv6_are_one() {
        let pace = pace(1, 0);
        let of = |host: u16| address(&format!("2001:db8:1:2::{host:x}"));
        assert_eq!((0..100).filter(|host| pace.admits(of(*host))).count(), 10);
        assert!(pace.admits(address("2001:db8:1:3::1")));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_limited_is_not_counted() {
        let pace = pace(0, 0);
        assert!(
            (0..10_000).all(|_| pace.admits(address("192.0.2.1")) && pace.principal(&principal("a")).is_ok())
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_capped_however_many_come() {
        let pace = pace(1, 0);
        for host in 0..200_000_u32 {
            assert!(pace.admits(IpAddr::from(host.to_be_bytes())));
        }
        let kept = pace.addresses.map_or(0, |addresses| addresses.0.into_state_store().0.len());
        assert!((1..=KEPT).contains(&kept), "{kept} are kept");
    }
}
