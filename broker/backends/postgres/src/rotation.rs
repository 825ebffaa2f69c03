//! A new password for the broker's own login.
//!
//! It is kept before the server has it, and a login tries the newest and then the one before. So wherever this is broken
//! off, a login works: before it is kept, by the old one; after that, by the one before the newest; once the server has
//! it, by the newest. A rotation that finds the newest refused and the one before good gives the server the newest: a
//! third would leave the server with one that no login tries.

use std::sync::Arc;

use async_trait::async_trait;
use bursar_core::Reference;
use bursar_core::backend::{BackendError, ErrorKind, Operation, Rotated, Rotating};
use ring::rand::SystemRandom;

use crate::backend::PostgresBackend;
use crate::{scram, sql};

#[async_trait]
impl Rotating for PostgresBackend {
    #[tracing::instrument(skip_all, fields(backend = %self.name))]
    async fn rotate_root(&self) -> Result<Rotated, BackendError> {
        let misconfigured = || self.error(ErrorKind::Misconfigured, Operation::Rotate);
        let keeper = self.pool.keeper().ok_or_else(misconfigured)?;
        let _turn = self.rotation.lock().await;
        let good = self.pool.good_password().await?;
        let newest = self.pool.password(0).await?.ok_or_else(misconfigured)?;
        let version = newest.version.ok_or_else(misconfigured)?;
        let (password, version) = match good {
            0 => {
                let password = Arc::new(self.made(Operation::Rotate, scram::password).await?);
                let version = keeper.keep(Arc::clone(&password), Some(&version)).await?;
                (password, version)
            }
            _ => {
                tracing::info!("a rotation that was interrupted is finished");
                (newest.password, version)
            }
        };
        let iterations = self.scram_iterations;
        let verifier = move |random: &SystemRandom| scram::verifier(&password, iterations, random);
        let verifier = self.made(Operation::Rotate, verifier).await?;
        let alter = format!("ALTER ROLE CURRENT_USER PASSWORD {}", sql::literal(verifier.as_str()));
        self.ask(Operation::Rotate, &alter).await?;
        match self.pool.good_password().await? {
            0 => Ok(Rotated { kept: Reference { version: Some(version), ..keeper.place().clone() } }),
            // Somebody else changes it too.
            _ => Err(misconfigured()),
        }
    }
}
