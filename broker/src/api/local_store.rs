//! `bursar.v1.LocalStore`.

use bursar_core::audit::Action;
use bursar_core::backend::{LabelChange, Labels, PutTerms, VersionInfo, VersionState};
use bursar_core::secret::SecretData;
use bursar_core::{BackendName, Reference, SecretPath, Version};
use bursar_proto::convert::{timestamp_from_wire, timestamp_to_wire};
use bursar_proto::limits;
use bursar_proto::v1::local_store_server::LocalStore;
use bursar_proto::v1::{
    LocalStoreDeleteRequest, LocalStoreDeleteResponse, LocalStoreDestroyRequest, LocalStoreDestroyResponse,
    LocalStoreGetMetadataRequest, LocalStoreGetMetadataResponse, LocalStoreHistoryRequest,
    LocalStoreHistoryResponse, LocalStoreLabelRequest, LocalStoreLabelResponse, LocalStoreListRequest,
    LocalStoreListResponse, LocalStorePutRequest, LocalStorePutResponse, LocalStoreUndeleteRequest,
    LocalStoreUndeleteResponse, SecretVersion,
};
use tonic::{Request, Response, Status};

use super::Api;
use super::page::{self, text};
use crate::failure::Failure;
use crate::policy::Resource;

#[tonic::async_trait]
impl LocalStore for Api {
    async fn put(
        &self,
        request: Request<LocalStorePutRequest>,
    ) -> Result<Response<LocalStorePutResponse>, Status> {
        self.answer(request, put, |call, (reference, data, terms)| async move {
            if terms.expires_at.is_some_and(|end| end <= call.time) {
                return Err(Failure::Invalid { field: "expires_at", message: "is in the future".to_owned() });
            }
            let shown = reference.to_string();
            let draft =
                self.broker.permit(&call, Action::Write, Resource::secret(&reference), &shown, "").await?;
            let version = self.broker.put(&reference, data, terms, draft).await?;
            Ok(LocalStorePutResponse { version: number(&version) })
        })
        .await
    }

    async fn get_metadata(
        &self,
        request: Request<LocalStoreGetMetadataRequest>,
    ) -> Result<Response<LocalStoreGetMetadataResponse>, Status> {
        self.answer(
            request,
            |message| path(&message.reference),
            |call, reference| async move {
                let shown = reference.to_string();
                let draft =
                    self.broker.permit(&call, Action::List, Resource::secret(&reference), &shown, "").await?;
                let (versions, labels) = self.broker.observe(draft, self.broker.describe(&reference)).await?;
                let oldest = versions.last().and_then(|info| info.created_at);
                Ok(LocalStoreGetMetadataResponse {
                    reference: shown,
                    versions: versions.len() as u64,
                    created_at: oldest.map(timestamp_to_wire),
                    newest: versions.into_iter().next().map(wire_version),
                    labels,
                })
            },
        )
        .await
    }

    async fn list(
        &self,
        request: Request<LocalStoreListRequest>,
    ) -> Result<Response<LocalStoreListResponse>, Status> {
        self.answer(request, folder, |call, (backend, folder, page)| async move {
            let (resource, shown) = match &folder {
                Some(path) => (Resource::Folder { backend: &backend, path }, format!("{backend}/{path}/")),
                None => (Resource::Backend(&backend), format!("{backend}/")),
            };
            let draft = self.broker.permit(&call, Action::List, resource, &shown, "").await?;
            let list = self.broker.list_secrets(&backend, folder.as_ref(), page.token.as_deref(), page.size);
            let names = self.broker.observe(draft, list).await?;
            let full = names.len() == page.size;
            let next_page_token = names.last().filter(|_| full).cloned().unwrap_or_default();
            Ok(LocalStoreListResponse { names, next_page_token })
        })
        .await
    }

    async fn delete(
        &self,
        request: Request<LocalStoreDeleteRequest>,
    ) -> Result<Response<LocalStoreDeleteResponse>, Status> {
        let read = |message: LocalStoreDeleteRequest| {
            let reason = text("reason", message.reason, limits::REASON)?;
            Ok((path(&message.reference)?, versions(&message.versions)?, reason))
        };
        self.answer(request, read, |call, (reference, versions, reason)| async move {
            let (resource, shown) = (Resource::secret(&reference), reference.to_string());
            let draft = self.broker.permit(&call, Action::Delete, resource, &shown, &reason).await?;
            self.broker.delete(&reference, &versions, draft).await?;
            Ok(LocalStoreDeleteResponse {})
        })
        .await
    }

    async fn undelete(
        &self,
        request: Request<LocalStoreUndeleteRequest>,
    ) -> Result<Response<LocalStoreUndeleteResponse>, Status> {
        let read = |message: LocalStoreUndeleteRequest| {
            let reason = text("reason", message.reason, limits::REASON)?;
            Ok((path(&message.reference)?, versions(&message.versions)?, reason))
        };
        self.answer(request, read, |call, (reference, versions, reason)| async move {
            let (resource, shown) = (Resource::secret(&reference), reference.to_string());
            let draft = self.broker.permit(&call, Action::Write, resource, &shown, &reason).await?;
            self.broker.undelete(&reference, &versions, draft).await?;
            Ok(LocalStoreUndeleteResponse {})
        })
        .await
    }

    async fn destroy(
        &self,
        request: Request<LocalStoreDestroyRequest>,
    ) -> Result<Response<LocalStoreDestroyResponse>, Status> {
        let read = |message: LocalStoreDestroyRequest| {
            if message.versions.is_empty() != message.all {
                let message = "names what is destroyed, or `all` is set".to_owned();
                return Err(Failure::Invalid { field: "versions", message });
            }
            let reason = text("reason", message.reason, limits::REASON)?;
            Ok((path(&message.reference)?, versions(&message.versions)?, reason))
        };
        self.answer(request, read, |call, (reference, versions, reason)| async move {
            let (resource, shown) = (Resource::secret(&reference), reference.to_string());
            let draft = self.broker.permit(&call, Action::Destroy, resource, &shown, &reason).await?;
            self.broker.destroy(&reference, &versions, draft).await?;
            Ok(LocalStoreDestroyResponse {})
        })
        .await
    }

    async fn label(
        &self,
        request: Request<LocalStoreLabelRequest>,
    ) -> Result<Response<LocalStoreLabelResponse>, Status> {
        self.answer(request, label, |call, (reference, change)| async move {
            let (resource, shown) = (Resource::secret(&reference), reference.to_string());
            let draft = self.broker.permit(&call, Action::Write, resource, &shown, "").await?;
            let labels = self.broker.label(&reference, change, draft).await?;
            Ok(LocalStoreLabelResponse { labels })
        })
        .await
    }

    async fn history(
        &self,
        request: Request<LocalStoreHistoryRequest>,
    ) -> Result<Response<LocalStoreHistoryResponse>, Status> {
        let read = |message: LocalStoreHistoryRequest| {
            // The store keeps a bounded number of versions, so one page holds them all.
            page::read(message.page_size, message.page_token)?;
            path(&message.reference)
        };
        self.answer(request, read, |call, reference| async move {
            let shown = reference.to_string();
            let draft =
                self.broker.permit(&call, Action::List, Resource::secret(&reference), &shown, "").await?;
            let versions = self.broker.observe(draft, self.broker.versions(&reference)).await?;
            Ok(LocalStoreHistoryResponse {
                versions: versions.into_iter().map(wire_version).collect(),
                next_page_token: String::new(),
            })
        })
        .await
    }
}

fn put(mut message: LocalStorePutRequest) -> Result<(Reference, SecretData, PutTerms), Failure> {
    let end = message.expires_at.take().map(|end| timestamp_from_wire("expires_at", Some(end)));
    let terms = PutTerms { expected: message.expected_version, expires_at: end.transpose()? };
    Ok((path(&message.reference)?, message.take_data()?, terms))
}

fn label(message: LocalStoreLabelRequest) -> Result<(Reference, LabelChange), Failure> {
    let named = |field, name: &str| match name {
        "" => Err(Failure::Invalid { field, message: "holds names of at least one byte".to_owned() }),
        name => word(field, name, limits::LABEL_NAME),
    };
    for (name, value) in &message.set {
        named("set", name)?;
        word("set", value, limits::LABEL_VALUE)?;
    }
    message.remove.iter().try_for_each(|name| named("remove", name))?;
    if message.set.len() > limits::LABELS || message.remove.len() > limits::LABELS {
        let message = format!("holds at most {}", limits::LABELS);
        return Err(Failure::Invalid { field: "set", message });
    }
    let set: Labels = message.set;
    Ok((path(&message.reference)?, LabelChange { set, remove: message.remove.into_iter().collect() }))
}

fn word(field: &'static str, text: &str, limit: usize) -> Result<(), Failure> {
    let message = match text {
        text if text.len() > limit => format!("holds texts of at most {limit} bytes here"),
        text if text.chars().any(char::is_control) => "holds texts without control characters".to_owned(),
        _ => return Ok(()),
    };
    Err(Failure::Invalid { field, message })
}

/// `BACKEND/PATH`: what is written has neither field nor version yet.
fn path(text: &str) -> Result<Reference, Failure> {
    let reference = Reference::parse(text)?;
    if reference.field.is_some() || reference.version.is_some() {
        let message = "is BACKEND/PATH here, without a field and a version".to_owned();
        return Err(Failure::Invalid { field: "reference", message });
    }
    Ok(reference)
}

fn folder(
    message: LocalStoreListRequest,
) -> Result<(BackendName, Option<SecretPath>, crate::ledger::Page), Failure> {
    let page = page::read(message.page_size, message.page_token)?;
    let folder = message.folder.trim_end_matches('/');
    if !folder.contains('/') {
        return Ok((BackendName::parse(folder)?, None, page));
    }
    let reference = path(folder)?;
    Ok((reference.backend, Some(reference.path), page))
}

fn versions(numbers: &[u64]) -> Result<Vec<Version>, Failure> {
    if numbers.len() > limits::VERSIONS {
        return Err(Failure::Invalid {
            field: "versions",
            message: format!("holds at most {}", limits::VERSIONS),
        });
    }
    Ok(numbers.iter().map(|number| Version::number(*number)).collect())
}

fn wire_version(info: VersionInfo) -> SecretVersion {
    SecretVersion {
        version: number(&info.version),
        created_at: info.created_at.map(timestamp_to_wire),
        deleted: info.state != VersionState::Kept,
        destroyed: info.state == VersionState::Destroyed,
        expires_at: info.expires_at.map(timestamp_to_wire),
        name: info.version.as_str().to_owned(),
    }
}

/// Stores that Bursar writes count their versions.
fn number(version: &Version) -> u64 {
    version.as_str().parse().unwrap_or_default()
}
