//! OpenBao's own leases: those of tokens, each durable, each in the audit file.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bursar_tests::OpenBao;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::connection::Connection;
use super::{CONNECTIONS, Setting, connect, start};
use crate::load::Caller;
use crate::{cpu, memory};

/// A running OpenBao that gives out tokens. Stopped, and its data removed, on drop.
pub(crate) struct Tokens {
    bao: OpenBao,
    pid: u32,
}

impl Tokens {
    /// Starts OpenBao.
    ///
    /// # Errors
    /// There is no `bao`, or it does not come up.
    pub(crate) fn start(setting: Setting) -> Result<Self> {
        let (bao, pid) = start(setting)?;
        Ok(Self { bao, pid })
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Resident, in MiB.
    ///
    /// # Errors
    /// It has ended.
    pub(crate) fn memory(&self) -> Result<f64> {
        memory::resident(self.pid)
    }

    /// Makes `count` tokens, or as many as `limit` allows, by many connections at once.
    ///
    /// # Errors
    /// OpenBao refuses.
    pub(crate) async fn make(&self, count: usize, limit: Option<Duration>) -> Result<Vec<String>> {
        let end = limit.map(|limit| Instant::now() + limit);
        let left = Arc::new(AtomicUsize::new(count));
        let mut makers = JoinSet::new();
        for _ in 0..CONNECTIONS {
            let root = self.bao.root_token().value().to_owned();
            makers.spawn(make_some(connect(&self.bao).await?, root, Arc::clone(&left), end));
        }
        let mut made = Vec::with_capacity(count);
        while let Some(some) = makers.join_next().await {
            made.extend(some??);
        }
        Ok(made)
    }

    /// Connections that each renew a part of `tokens`.
    ///
    /// # Errors
    /// OpenBao cannot be reached.
    pub(crate) async fn renewers(&self, tokens: &[String]) -> Result<Vec<Renewer>> {
        let mut renewers = Vec::new();
        for tokens in tokens.chunks(tokens.len().div_ceil(CONNECTIONS)) {
            renewers.push(Renewer {
                connection: connect(&self.bao).await?,
                tokens: tokens.to_vec(),
                next: 0,
            });
        }
        Ok(renewers)
    }

    /// Revokes every token but the root token by one order. Answers how long it took until none was left.
    ///
    /// # Errors
    /// OpenBao refuses.
    pub(crate) fn revoke_all(&self) -> Result<Duration> {
        super::revoke_all(&self.bao, PREFIX)
    }

    /// Lists all leases. Answers how many there are, and how long the answer took.
    ///
    /// # Errors
    /// OpenBao does not answer.
    pub(crate) fn list(&self) -> Result<(usize, Duration)> {
        super::list(&self.bao, PREFIX)
    }

    /// Restarts it. Answers how long the start took until it served, and the processor time until it had restored all of
    /// its leases.
    ///
    /// # Errors
    /// It does not end, or does not come up.
    pub(crate) fn restart(&mut self) -> Result<(Duration, Duration)> {
        self.bao.stop()?;
        let start = Instant::now();
        self.bao.start_again()?;
        let taken = start.elapsed();
        self.bao.wait_for_line(RESTORED, "lease restore complete")?;
        self.pid = cpu::process_in(self.bao.directory())?;
        Ok((taken, cpu::time(self.pid)?))
    }
}

/// Renews tokens in turn, each by itself.
pub(crate) struct Renewer {
    connection: Connection,
    tokens: Vec<String>,
    next: usize,
}

impl Caller for Renewer {
    async fn call(&mut self) -> Result<()> {
        let token = self.tokens.get(self.next).context("there is no token to renew")?;
        self.next = (self.next + 1) % self.tokens.len();
        let path = "/v1/auth/token/renew-self";
        let status = self.connection.post(path, ("X-Vault-Token", token), RENEWAL).await?;
        ensure!(status == 200, "OpenBao answered {status} to the renewal of a token");
        Ok(())
    }
}

async fn make_some(
    mut connection: Connection,
    root: String,
    left: Arc<AtomicUsize>,
    end: Option<Instant>,
) -> Result<Vec<String>> {
    let mut made = Vec::new();
    let one_less = |left: usize| left.checked_sub(1);
    while end.is_none_or(|end| Instant::now() < end)
        && left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok()
    {
        let status = connection.post("/v1/auth/token/create", ("X-Vault-Token", &root), NEW).await?;
        ensure!(status == 200, "OpenBao answered {status} to the creation of a token");
        let answer: Value = serde_json::from_slice(connection.body())?;
        let token = answer.pointer("/auth/client_token").and_then(Value::as_str);
        made.push(token.context("OpenBao gave no token")?.to_owned());
    }
    Ok(made)
}

/// Where the leases of tokens are.
const PREFIX: &str = "auth/token/create";
const NEW: &str = r#"{"policies":["default"],"ttl":"24h","no_parent":true}"#;
const RENEWAL: &str = r#"{"increment":"24h"}"#;
const RESTORED: Duration = Duration::from_secs(120);
