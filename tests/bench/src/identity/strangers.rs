//! Strangers: a great many calls, each with a token that nobody made.
//!
//! What is measured is the worst that they can do: no rate limits them, and each token has to be taken apart, and two
//! of three compared with keys. What has to hold, whatever it is that they send, is checked: nothing of it is kept, the
//! issuer is asked for keys no more often than its window allows, and whoever is known is served afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use bursar_core::{Clock, SystemClock};
use bursar_proto::Reason;
use bursar_proto::v1::SecretsReadRequest;
use bursar_proto::v1::secrets_client::SecretsClient;
use bursar_tests::{IssuerDoor, TokenIssuer};
use data_encoding::BASE64URL_NOPAD;
use serde_json::json;
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;

use crate::bursar::{Bursar, FOLDER, Programs};
use crate::load::{Caller, Plan, complete};
use crate::memory;

pub(super) struct Strangers {
    /// Refusals a second.
    pub(super) rate: f64,
    /// What the broker holds more in memory at the end than after the first tenth of them, in MiB.
    pub(super) growth: f64,
    /// How often the issuer was asked for its keys meanwhile.
    pub(super) rounds: usize,
}

pub(super) async fn storm(programs: &Programs, plan: &Plan) -> Result<Strangers> {
    let door = IssuerDoor::start()?;
    let issuer = TokenIssuer::new()?;
    door.publish(&[&issuer]);
    let section = format!(
        "[identity.issuers.bench]\nkind = 'kubernetes'\nissuer = '{}'\naudience = 'bursar'\nca_file = '{}'\n",
        door.url(),
        door.ca().display()
    );
    let bursar = Bursar::start_with(programs, &section)?;
    bursar.fill(1).await?;
    bursar.admit_workloads().await?;
    let good = token(&issuer, door.url())?;
    let mut known = bursar.connect_unknown().await?.secrets();
    known.read(request(&good)?).await.context("the pod is not served before the storm")?;

    let shared = Arc::new(Bogus::like(&good)?);
    let mut callers = Vec::new();
    for _ in 0..CONNECTIONS {
        let client = bursar.connect_unknown().await?.secrets();
        callers.extend((0..EACH).map(|_| Stranger { tokens: Arc::clone(&shared), client: client.clone() }));
    }
    let asked = door.asked();
    let first = plan.strangers / 10;
    complete(callers.clone(), first).await?;
    let before = memory::resident(bursar.pid())?;
    let left = plan.strangers - first;
    let took = complete(callers, left).await?;
    let growth = memory::resident(bursar.pid())? - before;
    let rounds = door.asked() - asked;

    ensure!(growth < LEAST_OF_A_LEAK, "{left} made-up tokens left {growth:.1} MiB with the broker");
    let windows = took.as_secs() as usize / WINDOW + SLACK;
    ensure!(rounds <= windows, "the issuer was asked {rounds} times in {took:?}");
    known.read(request(&good)?).await.context("the pod is not served after the storm")?;
    Ok(Strangers { rate: left as f64 / took.as_secs_f64(), growth, rounds })
}

fn token(issuer: &TokenIssuer, url: &str) -> Result<String> {
    let now = SystemClock.now().as_second();
    issuer.token(&json!({
        "iss": url,
        "aud": ["bursar"],
        "sub": "system:serviceaccount:shop:web",
        "iat": now,
        "nbf": now,
        "exp": now + 3600,
        "kubernetes.io": {
            "namespace": "shop",
            "serviceaccount": { "name": "web", "uid": "account" },
            "pod": { "name": "web-0", "uid": "pod" },
        },
    }))
}

/// Tokens that say what a good one does: in turn one whose key nobody has, one whose signature does not hold, and one
/// that is only as long.
struct Bogus {
    header: String,
    claims: String,
    next: AtomicUsize,
}

impl Bogus {
    fn like(good: &str) -> Result<Self> {
        let mut parts = good.split('.').map(str::to_owned);
        let (header, claims) = (parts.next().context("no header")?, parts.next().context("no claims")?);
        Ok(Self { header, claims, next: AtomicUsize::new(0) })
    }

    fn take(&self) -> String {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        // A signature by ES256 is 64 bytes.
        let mut signature = [7; 64];
        signature.iter_mut().zip(number.to_le_bytes()).for_each(|(byte, of)| *byte = of);
        let signature = BASE64URL_NOPAD.encode(&signature);
        match number % 3 {
            0 => {
                let header = json!({ "alg": "ES256", "typ": "JWT", "kid": format!("made-up-{number}") });
                let header = BASE64URL_NOPAD.encode(header.to_string().as_bytes());
                format!("{header}.{}.{signature}", self.claims)
            }
            1 => format!("{}.{}.{signature}", self.header, self.claims),
            _ => format!("{signature}{}", self.claims),
        }
    }
}

#[derive(Clone)]
struct Stranger {
    tokens: Arc<Bogus>,
    client: SecretsClient<Channel>,
}

impl Caller for Stranger {
    async fn call(&mut self) -> Result<()> {
        let refused = self.client.read(request(&self.tokens.take())?).await;
        let refused = refused.err().context("a token that nobody made is believed")?;
        ensure!(Reason::of(&refused) == Some(Reason::TokenInvalid), "refused for something else: {refused}");
        Ok(())
    }
}

fn request(token: &str) -> Result<Request<SecretsReadRequest>> {
    let reference = format!("{FOLDER}/0000");
    let mut request = Request::new(SecretsReadRequest { reference, ..SecretsReadRequest::default() });
    let mut value: MetadataValue<Ascii> = format!("Bearer {token}").parse()?;
    value.set_sensitive(true);
    request.metadata_mut().insert("authorization", value);
    Ok(request)
}

const CONNECTIONS: usize = 8;
const EACH: usize = 32;
/// What 16 bytes of each of a million tokens would come to, in MiB.
const LEAST_OF_A_LEAK: f64 = 16.0;
/// Seconds in which an issuer is asked at most once for a key that is not there.
const WINDOW: usize = 10;
/// Of windows: the one that is open when the storm begins, the first tenth, and the regular round.
const SLACK: usize = 4;
