//! Calls by path and bytes, for tests that go through every RPC or send what no client would.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use bursar_proto::v1::nodes_join_request::Credential;
use bursar_proto::v1::{NodesJoinRequest, NodesJoinResponse, WorkloadContext};
use bursar_proto::{REQUEST_ID_METADATA_KEY, Reason};
use bursar_sdk::{Address, Identity, Secret, Tls};
use bursar_tests::{Broker, ClientCertificate};
use futures_util::stream::{self, Stream};
use prost::Message;
use tokio::runtime::Runtime;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};
use tonic_types::StatusExt;

/// A connection to a broker, of one caller.
pub(crate) struct Caller {
    runtime: Runtime,
    channel: Channel,
    token: Option<String>,
}

/// How a call ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Code,
    pub(crate) reason: Option<Reason>,
    pub(crate) message: String,
    /// When to try again, where that was said.
    pub(crate) retry_after: Option<Duration>,
    pub(crate) request_id: String,
    /// The first message of the answer.
    pub(crate) answer: Vec<u8>,
}

impl Caller {
    /// Connects as whoever `identity` says; as nobody without one.
    pub(crate) fn connect(broker: &Broker, identity: Option<Identity>) -> Result<Self> {
        let tls = Tls { ca_pem: std::fs::read(broker.bootstrap("ca.pem"))?, identity, server_name: None };
        let address = Address::from_str(&broker.address())?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let channel = runtime.block_on(bursar_sdk::channel(&address, Some(&tls)))?;
        Ok(Self { runtime, channel, token: None })
    }

    /// Connects with a certificate.
    pub(crate) fn presenting(broker: &Broker, certificate: &ClientCertificate) -> Result<Self> {
        Self::connect(broker, Some(identity(certificate)))
    }

    /// Connects as the administrator.
    pub(crate) fn administrator(broker: &Broker) -> Result<Self> {
        let read = |name| std::fs::read(broker.bootstrap(name));
        let identity = Identity { cert_pem: read("admin.crt")?, key_pem: Secret::new(read("admin.key")?) };
        Self::connect(broker, Some(identity))
    }

    /// The same connection, with a token in each call.
    pub(crate) fn bearing(self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self }
    }

    /// Calls `path` with a message that is encoded already, and waits for the first message of the answer or its end.
    pub(crate) fn call(&self, path: &str, message: Vec<u8>) -> Result<Ended> {
        self.call_for(path, message, None)
    }

    /// As [`Caller::call`], on behalf of a workload.
    pub(crate) fn call_for(
        &self,
        path: &str,
        message: Vec<u8>,
        workload: Option<&WorkloadContext>,
    ) -> Result<Ended> {
        let (request, request_id) = self.request(message, workload)?;
        let path = PathAndQuery::from_str(path).context("no path")?;
        let request = request.map(|message| stream::iter([message]));
        Ok(self.runtime.block_on(self.ended(path, request, request_id)))
    }

    /// As [`Caller::call`], with a message that sets out a moment after the call. Answers also whether it had set out when
    /// the answer came.
    pub(crate) fn call_late(&self, path: &str, message: Vec<u8>) -> Result<(Ended, bool)> {
        let (request, request_id) = self.request(message, None)?;
        let path = PathAndQuery::from_str(path).context("no path")?;
        let sent = Arc::new(AtomicBool::new(false));
        let sends = Arc::clone(&sent);
        let late = request.map(|message| {
            stream::once(async move {
                tokio::time::sleep(A_MOMENT).await;
                sends.store(true, Ordering::Release);
                message
            })
        });
        let ended = self.runtime.block_on(self.ended(path, late, request_id));
        Ok((ended, sent.load(Ordering::Acquire)))
    }

    async fn ended<S>(&self, path: PathAndQuery, request: Request<S>, request_id: String) -> Ended
    where
        S: Stream<Item = Vec<u8>> + Send + 'static,
    {
        let called = async {
            let mut grpc = Grpc::new(self.channel.clone());
            grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
            // A unary answer is a stream of one message.
            let mut answers = grpc.streaming(request, path, Bytes).await?.into_inner();
            answers.message().await
        };
        Ended::of(called.await, request_id)
    }

    /// Opens a stream, and waits for its first message.
    pub(crate) fn listen(&self, path: &str, message: Vec<u8>) -> Result<Listening<'_>> {
        let (request, request_id) = self.request(message, None)?;
        let path = PathAndQuery::from_str(path).context("no path")?;
        let (first, answers) = self.runtime.block_on(async {
            let mut grpc = Grpc::new(self.channel.clone());
            grpc.ready().await?;
            let mut answers = grpc.server_streaming(request, path, Bytes).await?.into_inner();
            let first = answers.message().await?.context("the stream has nothing")?;
            anyhow::Ok((first, answers))
        })?;
        Ok(Listening { caller: self, first, answers, request_id })
    }

    fn request(
        &self,
        message: Vec<u8>,
        workload: Option<&WorkloadContext>,
    ) -> Result<(Request<Vec<u8>>, String)> {
        let mut request = Request::new(message);
        if let Some(workload) = workload {
            workload.attach(request.metadata_mut())?;
        }
        if let Some(token) = &self.token {
            let header = MetadataValue::from_str(&format!("Bearer {token}"))?;
            request.metadata_mut().insert("authorization", header);
        }
        let request_id = format!("test-{:016x}", fastrand::u64(..));
        request.metadata_mut().insert(REQUEST_ID_METADATA_KEY, MetadataValue::from_str(&request_id)?);
        Ok((request, request_id))
    }
}

/// A stream that is open.
pub(crate) struct Listening<'caller> {
    caller: &'caller Caller,
    /// The first message.
    pub(crate) first: Vec<u8>,
    answers: Streaming<Vec<u8>>,
    request_id: String,
}

impl Listening<'_> {
    /// Waits for the end of the stream.
    pub(crate) fn end(mut self, limit: Duration) -> Result<Ended> {
        let ended = self.caller.runtime.block_on(async {
            tokio::time::timeout(limit, async {
                loop {
                    match self.answers.message().await {
                        Ok(Some(_)) => {}
                        Ok(None) => return Ok(None),
                        Err(status) => return Err(status),
                    }
                }
            })
            .await
        });
        Ok(Ended::of(ended.context("the stream goes on")?, self.request_id))
    }
}

impl Ended {
    fn of(called: Result<Option<Vec<u8>>, Status>, request_id: String) -> Self {
        match called {
            Ok(answer) => Self {
                code: Code::Ok,
                reason: None,
                message: String::new(),
                retry_after: None,
                request_id,
                answer: answer.unwrap_or_default(),
            },
            Err(status) => Self {
                code: status.code(),
                reason: Reason::of(&status),
                message: status.message().to_owned(),
                retry_after: status.get_details_retry_info().and_then(|info| info.retry_delay),
                request_id,
                answer: Vec::new(),
            },
        }
    }

    /// The certificate that joining, or renewing, with a request for `key` was answered by.
    pub(crate) fn certificate(&self, key: &rcgen::KeyPair) -> Result<ClientCertificate> {
        anyhow::ensure!(self.code == Code::Ok, "{self:?}");
        let joined = NodesJoinResponse::decode(self.answer.as_slice())?;
        let chain = joined.certificate.context("no certificate")?.chain;
        let leaf = data_encoding::BASE64.encode(chain.first().context("an empty chain")?);
        Ok(ClientCertificate {
            certificate: format!("-----BEGIN CERTIFICATE-----\n{leaf}\n-----END CERTIFICATE-----\n"),
            key: key.serialize_pem(),
            serial: 0,
        })
    }
}

/// Asks to be let in as a node, by `credential`, with a certificate for `key`.
pub(crate) fn join(caller: &Caller, credential: Credential, key: &rcgen::KeyPair) -> Result<Ended> {
    let request = NodesJoinRequest { credential: Some(credential), csr: signing_request(key)? };
    caller.call("/bursar.v1.Nodes/Join", request.encode_to_vec())
}

/// A request to certify a key.
pub(crate) fn signing_request(key: &rcgen::KeyPair) -> Result<Vec<u8>> {
    Ok(rcgen::CertificateParams::default().serialize_request(key)?.der().to_vec())
}

/// A certificate as the SDK takes it.
pub(crate) fn identity(certificate: &ClientCertificate) -> Identity {
    let key_pem = Secret::from(certificate.key.clone());
    Identity { cert_pem: certificate.certificate.clone().into_bytes(), key_pem }
}

/// Messages as they are.
#[derive(Debug, Clone, Copy, Default)]
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, message: Vec<u8>, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        prost::bytes::BufMut::put_slice(out, &message);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut message = vec![0; prost::bytes::Buf::remaining(from)];
        prost::bytes::Buf::copy_to_slice(from, &mut message);
        Ok(Some(message))
    }
}

const A_MOMENT: Duration = Duration::from_millis(50);
