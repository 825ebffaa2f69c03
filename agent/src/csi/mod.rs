//! The provider for the Secrets Store CSI driver: a pod's volume has files with its secrets, and no client of ours is in
//! the pod.
//!
//! The driver runs as root on every node and calls at a socket of the agent's, once when a pod is started and again
//! whenever kubelet publishes the volume anew. It asks on behalf of a pod and brings the pod's own token, so the broker
//! decides as if the pod had asked with that token over the agent's own socket: by policy, under the pod's lease, from the
//! same cache, into the same journal. The driver vouches for nothing but which pod it is working for, and for nothing at
//! all to the broker.
//!
//! A pod that is published again has its files already, and asks what changed. So the cache answers for longer than it does
//! others, as long as the broker's events arrive and none is about it; and while the broker cannot be asked, the pod gets
//! what it has, as long as its lease is in force. Kubelet gives the pod another token about once an hour. Where the broker
//! never saw that one, the answer to the token before it is the last good one: it is found by holding on to whom it was
//! given to, for as long as the cache does, and never longer.
//!
//! The driver writes the files; nothing of a volume is on a disk of ours. What this cannot do: take files out of a volume
//! when a lease is revoked. An answer replaces files, and an error leaves those that are there.

mod asked;
mod listing;
#[cfg(test)]
mod tests;
#[cfg(feature = "testing")]
mod trial;
mod versions;
mod volume;

use std::sync::{Arc, Weak};
use std::time::Duration;

use bursar_core::tasks::Tasks;
use bursar_proto::convert::wire_bytes;
use bursar_proto::csi::csi_driver_provider_server::{CsiDriverProvider, CsiDriverProviderServer};
use bursar_proto::csi::{self, MountRequest, MountResponse, ObjectVersion, VersionRequest, VersionResponse};
use bursar_proto::limits;
use bursar_proto::v1::{EnvironmentsResolveRequest, SecretsBatchReadRequest, SecretsReadRequest};
use http::HeaderMap;
use prost::Message;
use quick_cache::sync::Cache;
use tokio::net::UnixListener;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};

use crate::admission::Admission;
use crate::answer::{Answers, Call};
use crate::attest::{Attestor, Workload};
use crate::config::{Csi, Limits};
use crate::files::render::{File, Rendered, check_paths, contents, render_in_pod};
use crate::socket::{self, Acceptor};
use crate::telemetry::Metrics;
use crate::upstream::may_pass;
use asked::{Asked, Pod};
#[cfg(feature = "testing")]
pub use trial::{Asking, asking, listed};
use versions::Versions;
use volume::{Environment, Object, Volume};

/// Serves the driver on `listener` until the process stops, and ends once it is done.
///
/// # Errors
/// The transport's.
pub async fn serve(
    listener: UnixListener,
    provider: Provider,
    limits: Limits,
    tasks: Tasks,
) -> Result<(), tonic::transport::Error> {
    let metrics = provider.metrics.clone();
    // Places of its own: no caller of the other sockets takes the driver's.
    let admission = Admission::new(limits.connections, limits.connections_per_user);
    let acceptor = Acceptor::new(listener, admission, metrics.clone(), tasks.clone());
    let own = rustix::process::geteuid().as_raw();
    let connections = socket::of_user(own, acceptor, &metrics, &tasks);
    let service = CsiDriverProviderServer::new(provider).max_decoding_message_size(limits::MESSAGE);
    socket::server(limits)
        .add_service(service)
        .serve_with_incoming_shutdown(ReceiverStream::new(connections), async move {
            tasks.stopping().await;
        })
        .await
}

/// Answers the driver.
#[derive(Debug)]
pub struct Provider {
    answers: Arc<Answers>,
    attestor: Arc<Attestor>,
    metrics: Metrics,
    audience: String,
    refresh: Duration,
    versions: Versions,
    /// Who was given the last good answer, by the uid of the pod. Whom the cache holds no lease for any more is nobody.
    last_good: Cache<String, Weak<Workload>>,
}

impl Provider {
    /// Answers as `config` says.
    pub fn new(config: &Csi, answers: Arc<Answers>, attestor: Arc<Attestor>, metrics: Metrics) -> Self {
        Self {
            answers,
            attestor,
            metrics,
            audience: config.audience.clone(),
            refresh: config.refresh,
            versions: Versions::default(),
            last_good: Cache::new(PODS),
        }
    }

    /// The contents of a volume, and whether they are what the pod has because the broker could not be asked.
    async fn answer(&self, message: MountRequest) -> Result<(MountResponse, bool), Status> {
        let Asked { pod, bearer, volume } = Asked::read(message, &self.audience)?;
        let workload = Arc::new(self.attestor.mount(&pod.uid).bearing(bearer));
        let before = self.last_good.get(&pod.uid).and_then(|before| before.upgrade());
        let (rendered, old) = match self.contents(&workload, &volume).await {
            Ok(rendered) => {
                self.last_good.insert(pod.uid.clone(), Arc::downgrade(&workload));
                (rendered, false)
            }
            Err(status) if may_pass(&status) => match before {
                Some(before) if before.identity() != workload.identity() => {
                    let last = self.contents(&before, &volume).await;
                    (last.map_err(|_| told(&pod, &status))?, true)
                }
                _ => return Err(told(&pod, &status)),
            },
            Err(status) => return Err(told(&pod, &status)),
        };
        Ok((self.response(&pod, rendered)?, old))
    }

    async fn contents(&self, workload: &Arc<Workload>, volume: &Volume) -> Result<Rendered, Status> {
        let call = Call::new(Arc::clone(workload), &HeaderMap::new()).again(self.refresh);
        let mut rendered = match &volume.environment {
            Some(environment) => self.environment(&call, environment, volume.mode).await?,
            None => Rendered::new(),
        };
        if !volume.objects.is_empty() {
            self.objects(&call, &volume.objects, &mut rendered).await?;
        }
        check_paths(&rendered).map_err(|fault| Status::failed_precondition(fault.to_string()))?;
        if rendered.is_empty() {
            // The driver takes an answer without files for one of a provider that wrote them itself.
            return Err(Status::failed_precondition("the environment has neither variables nor files"));
        }
        Ok(rendered)
    }

    /// The files of an environment with what is made of its variables, or with a file for each.
    async fn environment(
        &self,
        call: &Call,
        environment: &Environment,
        mode: u32,
    ) -> Result<Rendered, Status> {
        let Environment { name, outputs } = environment;
        let request = EnvironmentsResolveRequest {
            name: name.clone(),
            reason: REASON.to_owned(),
            ..EnvironmentsResolveRequest::default()
        };
        let resolved = self.answers.resolve(call, request).await?;
        let outputs = outputs.clone();
        let make = move || render_in_pod(&outputs, contents(resolved), mode);
        let rendered = tokio::task::spawn_blocking(make).await;
        let rendered = rendered.map_err(|_| Status::internal("the files could not be made"))?;
        rendered.map_err(|fault| Status::failed_precondition(fault.to_string()))
    }

    async fn objects(&self, call: &Call, objects: &[Object], rendered: &mut Rendered) -> Result<(), Status> {
        let read = |object: &Object| SecretsReadRequest {
            reference: object.reference.clone(),
            reason: REASON.to_owned(),
            ..SecretsReadRequest::default()
        };
        let requests = objects.iter().map(read).collect();
        let read = self.answers.batch_read(call, SecretsBatchReadRequest { requests }).await?;
        for (object, mut secret) in objects.iter().zip(read.responses) {
            let file = File { mode: object.mode, contents: secret.take_value() };
            add(rendered, object.path.clone(), file)?;
        }
        Ok(())
    }

    fn response(&self, pod: &Pod, rendered: Rendered) -> Result<MountResponse, Status> {
        let mut response = MountResponse::default();
        for (path, File { mode, contents }) in rendered {
            let contents = Arc::new(contents);
            response.files.push(csi::File {
                path: path.clone(),
                mode: i32::try_from(mode).unwrap_or_default(),
                contents: wire_bytes(&contents),
            });
            let version = self.versions.of(&pod.uid, &path, contents);
            response.object_version.push(ObjectVersion { id: path, version });
        }
        let size = response.encoded_len();
        if size > limits::MESSAGE {
            return Err(Status::failed_precondition(format!(
                "the files of pod `{}` are {size} bytes together; a volume can have {} at most, so mount fewer",
                pod.name,
                limits::MESSAGE
            )));
        }
        Ok(response)
    }
}

#[tonic::async_trait]
impl CsiDriverProvider for Provider {
    async fn version(&self, _: Request<VersionRequest>) -> Result<Response<VersionResponse>, Status> {
        Ok(Response::new(VersionResponse {
            version: "v1alpha1".to_owned(),
            runtime_name: "bursar".to_owned(),
            runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
        }))
    }

    async fn mount(&self, request: Request<MountRequest>) -> Result<Response<MountResponse>, Status> {
        match self.answer(request.into_inner()).await {
            Ok((response, false)) => {
                self.metrics.mount("mounted");
                Ok(Response::new(response))
            }
            Ok((response, true)) => {
                self.metrics.mount("last_good");
                Ok(Response::new(response))
            }
            Err(status) => {
                let failed = matches!(status.code(), Code::Unavailable | Code::Internal | Code::Unknown);
                self.metrics.mount(if failed { "failed" } else { "refused" });
                tracing::warn!(code = ?status.code(), error = status.message(), "a volume could not be answered");
                Err(status)
            }
        }
    }
}

fn add(rendered: &mut Rendered, path: String, file: File) -> Result<(), Status> {
    if rendered.contains_key(&path) {
        return Err(Status::failed_precondition(format!("two files are called `{path}`")));
    }
    rendered.insert(path, file);
    Ok(())
}

/// What the events of the pod say.
fn told(pod: &Pod, status: &Status) -> Status {
    Status::new(status.code(), format!("the volume of pod `{}`: {}", pod.name, status.message()))
}

/// In the audit record.
const REASON: &str = "CSI volume";
/// More than a node runs.
const PODS: usize = 4096;
