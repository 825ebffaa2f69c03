//! An environment of one variable, which has the one secret that there is.

use bursar_proto::v1::environments_server::Environments;
use bursar_proto::{Reason, v1};
use tonic::{Request, Response, Status};

use super::{Answer, Fake, refused};

#[tonic::async_trait]
impl Environments for Fake {
    async fn resolve(
        &self,
        _: Request<v1::EnvironmentsResolveRequest>,
    ) -> Answer<v1::EnvironmentsResolveResponse> {
        self.arrive().await?;
        let mut read = self.state().response();
        let mut variable = v1::ResolvedVariable::default();
        variable.name = "PASSWORD".to_owned();
        variable.value = std::mem::take(&mut read.value);
        variable.secret = true;
        let leases = read.lease.take().into_iter().collect();
        let (variables, files) = (vec![variable], Vec::new());
        let answer = v1::EnvironmentsResolveResponse { revision: 1, variables, files, leases, offline: None };
        Ok(Response::new(answer))
    }

    async fn apply(&self, _: Request<v1::EnvironmentsApplyRequest>) -> Answer<v1::EnvironmentsApplyResponse> {
        Err(absent())
    }

    async fn get(&self, _: Request<v1::EnvironmentsGetRequest>) -> Answer<v1::EnvironmentsGetResponse> {
        Err(absent())
    }

    async fn list(&self, _: Request<v1::EnvironmentsListRequest>) -> Answer<v1::EnvironmentsListResponse> {
        Err(absent())
    }

    async fn delete(
        &self,
        _: Request<v1::EnvironmentsDeleteRequest>,
    ) -> Answer<v1::EnvironmentsDeleteResponse> {
        Err(absent())
    }

    async fn check(&self, _: Request<v1::EnvironmentsCheckRequest>) -> Answer<v1::EnvironmentsCheckResponse> {
        Err(absent())
    }

    async fn diff(&self, _: Request<v1::EnvironmentsDiffRequest>) -> Answer<v1::EnvironmentsDiffResponse> {
        Err(absent())
    }
}

fn absent() -> Status {
    refused(Reason::NotImplemented, None)
}
