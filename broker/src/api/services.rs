//! From a path to its service.
//!
//! Those of Bursar are called by name. Tonic's own router would find them too, for a dozen allocations a call; it keeps
//! the services that tonic brings, which nobody calls often.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bursar_proto::v1;
use tonic::body::Body;
use tonic::service::Routes;
use tower::Service;

use super::Api;

macro_rules! services {
    ($($service:ident: $server:ident in $module:ident,)*) => {
        /// Every service of the gRPC port.
        #[derive(Debug, Clone)]
        pub struct Services {
            $($service: v1::$module::$server<Api>,)*
            others: Routes,
        }

        impl Services {
            /// Those of `api`, beside `others`.
            pub fn new(api: &Api, others: Routes) -> Self {
                let limit = api.message_bytes;
                Self {
                    $($service: v1::$module::$server::new(api.clone())
                        .max_decoding_message_size(limit)
                        .max_encoding_message_size(limit),)*
                    others,
                }
            }
        }

        impl Service<http::Request<Body>> for Services {
            type Response = http::Response<Body>;
            type Error = Infallible;
            type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

            /// All of them are always ready.
            fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
                Poll::Ready(Ok(()))
            }

            fn call(&mut self, request: http::Request<Body>) -> Self::Future {
                match service_of(request.uri().path()) {
                    $(v1::$module::SERVICE_NAME => self.$service.call(request),)*
                    _ => Box::pin(self.others.call(request)),
                }
            }
        }
    };
}

services! {
    secrets: SecretsServer in secrets_server,
    environments: EnvironmentsServer in environments_server,
    leases: LeasesServer in leases_server,
    audit: AuditServer in audit_server,
    policies: PoliciesServer in policies_server,
    nodes: NodesServer in nodes_server,
    local_store: LocalStoreServer in local_store_server,
    system: SystemServer in system_server,
}

/// `bursar.v1.Secrets` of `/bursar.v1.Secrets/Read`.
fn service_of(path: &str) -> &str {
    path.strip_prefix('/').and_then(|path| path.split_once('/')).map_or("", |(service, _)| service)
}
