//! The broker's own credentials for AWS, as the SDK takes them.
//!
//! The SDK's own cache of credentials is switched off, since it can be told neither to drop what was refused nor to be
//! slow: [`backend::Session`] keeps them.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use bursar_core::backend::{self, BackendError, Granted, Held};
use bursar_core::{BackendName, Clock};
use jiff::Timestamp;

use crate::access::Access;

/// Holds the credentials that calls are signed with.
#[derive(Debug)]
pub(crate) struct Session(backend::Session<Login>);

/// How they are obtained.
struct Login {
    backend: BackendName,
    access: Access,
    clock: Arc<dyn Clock>,
}

impl Session {
    /// Each login may take `limit`.
    pub(crate) fn new(backend: BackendName, access: Access, clock: Arc<dyn Clock>, limit: Duration) -> Self {
        let login = Login { backend: backend.clone(), access, clock };
        Self(backend::Session::new(backend, login, limit))
    }

    /// Credentials that are good now.
    pub(crate) async fn login(&self) -> Result<Arc<Held<Credentials>>, BackendError> {
        self.0.credential().await
    }

    /// After AWS refused `used`: whether there are others now.
    pub(crate) async fn replace(&self, used: &Held<Credentials>) -> Result<bool, BackendError> {
        self.0.replace(used).await
    }
}

#[async_trait]
impl backend::Login for Login {
    type Credential = Credentials;

    async fn log_in(&self) -> Result<Granted<Credentials>, BackendError> {
        let credential = self.access.obtain(&self.backend).await?;
        let left = |end: SystemTime| {
            let left = Timestamp::try_from(end).map(|end| end.duration_since(self.clock.now()));
            left.ok().and_then(|left| left.try_into().ok()).unwrap_or_default()
        };
        let life = credential.expiry().map(left);
        Ok(Granted { credential, life })
    }
}

/// For the SDK, which asks each time that it signs.
impl ProvideCredentials for Session {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            let login = self.login().await.map_err(CredentialsError::provider_error)?;
            Ok(login.credential.clone())
        })
    }
}
