//! In the way of Envoy: what it is given, what it rejects with the value in its words, and what it cannot be given.

use std::path::Path;

use anyhow::{Context, Result};
use bursar_proto::sds::secret_discovery_service_client::SecretDiscoveryServiceClient;
use bursar_proto::sds::{DiscoveryRequest, Status};
use bursar_tests::{scan_bytes, wait_until};
use futures_util::stream::unfold;
use tokio::sync::mpsc;
use tonic::transport::Channel;

use super::{LIMIT, Site};

impl Site {
    pub(super) fn discover(&self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let address = bursar_sdk::Address::unix(self.delivered.path().join(SOCKET));
        runtime.block_on(async {
            let channel = bursar_sdk::channel(&address, None).await?;
            self.follow(SecretDiscoveryServiceClient::new(channel.clone())).await?;
            self.fetch(SecretDiscoveryServiceClient::new(channel)).await
        })
    }

    /// All of it on one stream, and rejected in words that quote it.
    async fn follow(&self, mut client: SecretDiscoveryServiceClient<Channel>) -> Result<()> {
        let (requests, sent) = mpsc::unbounded_channel();
        requests.send(request(&NAMES))?;
        let sent = unfold(sent, |mut sent| async move { Some((sent.recv().await?, sent)) });
        let mut responses = client.stream_secrets(sent).await?.into_inner();
        let mut missing = vec![&self.values.kv, &self.values.local];
        let mut nonce = String::new();
        while !missing.is_empty() {
            let response = tokio::time::timeout(LIMIT, responses.message()).await;
            let named = || format!("not all was given, so nothing would be looked at: {missing:?}");
            let response = response.with_context(named)??.context("the stream ended")?;
            for resource in &response.resources {
                let given = scan_bytes("a response", &resource.value, &self.values.all())?;
                missing.retain(|value| !given.iter().any(|finding| finding.canary == value.name()));
            }
            nonce.clone_from(&response.nonce);
        }
        let words = format!("{} is no certificate", self.values.kv.value());
        let error_detail = Some(Status { code: 3, message: words });
        requests.send(DiscoveryRequest { response_nonce: nonce, error_detail, ..request(&NAMES) })?;
        let rejected = "bursar_agent_sds_answers_total{outcome=\"rejected\"}";
        wait_until(LIMIT, rejected, || self.agent.counted(rejected) > 0)
    }

    /// A token where a certificate is wanted.
    async fn fetch(&self, mut client: SecretDiscoveryServiceClient<Channel>) -> Result<()> {
        for name in ["tls:vault/secret/api#key", "ca:local/a", "odd/kv/fails#p", "local/a#p@x y"] {
            let refused = client.fetch_secrets(request(&[name])).await;
            let refused = refused.err().with_context(|| format!("`{name}` was not refused"))?;
            self.said.borrow_mut().push_str(&format!("{refused:?}"));
        }
        Ok(())
    }
}

/// What the agent's configuration says.
pub(super) fn section(place: &Path) -> String {
    format!("[sds]\nsocket = '{}'\n", place.join(SOCKET).display())
}

fn request(names: &[&str]) -> DiscoveryRequest {
    let resource_names = names.iter().map(|name| (*name).to_owned()).collect();
    DiscoveryRequest { resource_names, ..DiscoveryRequest::default() }
}

const SOCKET: &str = "sds.sock";
const NAMES: [&str; 6] = [
    "vault/secret/api#key",
    "local/a#p",
    "env:app#URL",
    "tls:vault/secret/api#key",
    "vault/database/creds/app#password",
    "odd/kv/garbage#p",
];
