//! Pods that ask for the first time: each with a token that nobody has verified before.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use bursar_core::{Clock, SystemClock};
use bursar_proto::v1::SecretsReadRequest;
use bursar_proto::v1::secrets_client::SecretsClient;
use bursar_sdk::Client;
use bursar_tests::TokenIssuer;
use serde_json::json;
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;

use crate::bursar::{Bursar, FOLDER, Programs};
use crate::echo::Echo;
use crate::load::{Caller, Plan, complete, median};

/// Requests a second.
pub(super) struct FirstCalls {
    /// Over connections that are there.
    pub(super) connected: f64,
    /// Each over a connection of its own.
    pub(super) connecting: f64,
    /// The same of the bare echo, which looks at no token.
    pub(super) bare_connecting: f64,
}

pub(super) async fn first_calls(programs: &Programs, plan: &Plan) -> Result<FirstCalls> {
    let files = tempfile::tempdir()?;
    let issuer = TokenIssuer::new()?;
    let keys = files.path().join("keys.json");
    std::fs::write(&keys, json!({ "keys": [issuer.jwk()] }).to_string())?;
    let bursar = Arc::new(Bursar::start_with(programs, &cluster(&keys))?);
    bursar.fill(1).await?;
    bursar.admit_workloads().await?;
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(bursar.connect_unknown().await?);
    }
    let echo = Arc::new(Echo::start()?);
    let (mut over_there, mut anew, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    let mut pods = 0_usize..;
    for _ in 0..plan.repeats {
        let mut tokens = || Tokens::mint(&issuer, pods.by_ref().take(plan.agents));
        let shared = tokens()?;
        let caller = |client: &Client| Connected { tokens: Arc::clone(&shared), client: client.secrets() };
        let callers = clients.iter().cycle().take(AT_ONCE).map(caller).collect();
        over_there.push(rate(plan.agents, callers).await?);
        let shared = tokens()?;
        let caller = |_| Unconnected { tokens: Arc::clone(&shared), bursar: Arc::clone(&bursar) };
        anew.push(rate(plan.agents, (0..AT_ONCE).map(caller).collect()).await?);
        let shared = tokens()?;
        let caller = |_| Bare { tokens: Arc::clone(&shared), echo: Arc::clone(&echo) };
        bare.push(rate(plan.agents, (0..AT_ONCE).map(caller).collect()).await?);
    }
    Ok(FirstCalls { connected: median(over_there), connecting: median(anew), bare_connecting: median(bare) })
}

async fn rate<C: Caller>(count: usize, callers: Vec<C>) -> Result<f64> {
    Ok(count as f64 / complete(callers, count).await?.as_secs_f64())
}

/// A token for each pod, taken one after the other.
struct Tokens {
    all: Vec<MetadataValue<Ascii>>,
    next: AtomicUsize,
}

impl Tokens {
    fn mint(issuer: &TokenIssuer, pods: impl Iterator<Item = usize>) -> Result<Arc<Self>> {
        let now = SystemClock.now().as_second();
        let token = |pod: usize| {
            let account = pod % ACCOUNTS;
            let token = issuer.token(&json!({
                "iss": ISSUER,
                "aud": ["bursar"],
                "sub": format!("system:serviceaccount:shop:web-{account}"),
                "iat": now,
                "nbf": now,
                "exp": now + 3600,
                "kubernetes.io": {
                    "namespace": "shop",
                    "serviceaccount": { "name": format!("web-{account}"), "uid": format!("account-{account}") },
                    "pod": { "name": format!("web-{pod}"), "uid": format!("pod-{pod}") },
                    "node": { "name": format!("node-{}", pod % 100), "uid": "node" },
                },
            }))?;
            let mut value: MetadataValue<Ascii> = format!("Bearer {token}").parse()?;
            value.set_sensitive(true);
            anyhow::Ok(value)
        };
        let all = pods.map(token).collect::<Result<_>>()?;
        Ok(Arc::new(Self { all, next: AtomicUsize::new(0) }))
    }

    fn take(&self) -> Result<MetadataValue<Ascii>> {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        self.all.get(next).cloned().context("there are more calls than pods")
    }
}

/// Asks for one pod after the other over a connection that is there.
struct Connected {
    tokens: Arc<Tokens>,
    client: SecretsClient<Channel>,
}

impl Caller for Connected {
    async fn call(&mut self) -> Result<()> {
        read(&mut self.client, self.tokens.take()?).await
    }
}

/// Connects for each pod.
struct Unconnected {
    tokens: Arc<Tokens>,
    bursar: Arc<Bursar>,
}

impl Caller for Unconnected {
    async fn call(&mut self) -> Result<()> {
        let client: Client = self.bursar.connect_unknown().await?;
        read(&mut client.secrets(), self.tokens.take()?).await
    }
}

/// The same, of the echo.
struct Bare {
    tokens: Arc<Tokens>,
    echo: Arc<Echo>,
}

impl Caller for Bare {
    async fn call(&mut self) -> Result<()> {
        let client = self.echo.connect().await?;
        read(&mut client.secrets(), self.tokens.take()?).await
    }
}

async fn read(client: &mut SecretsClient<Channel>, token: MetadataValue<Ascii>) -> Result<()> {
    let reference = format!("{FOLDER}/0000");
    let mut request = Request::new(SecretsReadRequest { reference, ..SecretsReadRequest::default() });
    request.metadata_mut().insert("authorization", token);
    let answer = client.read(request).await.context("`Secrets.Read` failed")?.into_inner();
    ensure!(!answer.value.is_empty() && answer.lease.is_some(), "`Secrets.Read` answered no leased value");
    Ok(())
}

fn cluster(keys: &Path) -> String {
    format!(
        "[identity.issuers.bench]\nkind = 'kubernetes'\nissuer = '{ISSUER}'\naudience = 'bursar'\njwks_file = '{}'\n",
        keys.display()
    )
}

const ISSUER: &str = "https://cluster.bench.test";
/// Several pods are of each.
const ACCOUNTS: usize = 1000;
const CONNECTIONS: usize = 8;
const AT_ONCE: usize = 256;
