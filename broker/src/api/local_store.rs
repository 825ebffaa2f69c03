//! `bursar.v1.LocalStore`.

use bursar_core::audit::Action;
use bursar_core::backend::VersionInfo;
use bursar_core::secret::SecretData;
use bursar_core::{BackendName, Reference, SecretPath, Version};
use bursar_proto::convert::timestamp_to_wire;
use bursar_proto::limits;
use bursar_proto::v1::local_store_server::LocalStore;
use bursar_proto::v1::{
    LocalStoreDeleteRequest, LocalStoreDeleteResponse, LocalStoreGetMetadataRequest,
    LocalStoreGetMetadataResponse, LocalStoreHistoryRequest, LocalStoreHistoryResponse,
    LocalStoreListRequest, LocalStoreListResponse, LocalStorePutRequest, LocalStorePutResponse,
    LocalStoreUndeleteRequest, LocalStoreUndeleteResponse, SecretVersion,
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
        self.answer(request, put, |call, (reference, data, expected)| async move {
            let shown = reference.to_string();
            let draft =
                self.broker.permit(&call, Action::Write, Resource::secret(&reference), &shown, "").await?;
            let version = self.broker.put(&reference, data, expected, draft).await?;
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
                let versions = self.broker.observe(draft, self.broker.versions(&reference)).await?;
                let oldest = versions.last().and_then(|info| info.created_at);
                Ok(LocalStoreGetMetadataResponse {
                    reference: shown,
                    versions: versions.len() as u64,
                    created_at: oldest.map(timestamp_to_wire),
                    newest: versions.into_iter().next().map(wire_version),
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

fn put(mut message: LocalStorePutRequest) -> Result<(Reference, SecretData, Option<u64>), Failure> {
    Ok((path(&message.reference)?, message.take_data()?, message.expected_version))
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
        deleted: info.deleted,
        name: info.version.as_str().to_owned(),
    }
}

/// Stores that Bursar writes count their versions.
fn number(version: &Version) -> u64 {
    version.as_str().parse().unwrap_or_default()
}
