//! Keys wrapped by one of a transit engine, which never leaves it.
//! Endpoints: <https://openbao.org/api-docs/secret/transit/>.

use async_trait::async_trait;
use bursar_backend_http::body;
use bursar_core::Secret;
use bursar_core::backend::{BackendError, ErrorKind, Operation, Wrapping};
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::answer::Reply;
use crate::backend::VaultBackend;

#[async_trait]
impl Wrapping for VaultBackend {
    /// `key` is `MOUNT/NAME`: `transit/bursar`. It has to be of a type that takes associated data, as the engine's
    /// default does.
    async fn wrap_key(&self, key: &str, plain: &Secret, context: &str) -> Result<String, BackendError> {
        #[derive(Serialize)]
        struct Encrypt<'a> {
            plaintext: &'a str,
            associated_data: &'a str,
        }
        #[derive(Deserialize)]
        struct Encrypted {
            ciphertext: String,
        }
        let path = self.transit(key, "encrypt", Operation::WrapKey)?;
        let plaintext = Zeroizing::new(BASE64.encode(plain.expose()));
        let associated_data = BASE64.encode(context.as_bytes());
        let content =
            serde_json::to_vec(&Encrypt { plaintext: &plaintext, associated_data: &associated_data });
        let content = body(Secret::new(content.unwrap_or_default()));
        let request = self.session.client.update_with(Operation::WrapKey, &path, content);
        Ok(self.ask(&request).await?.parse::<Reply<Encrypted>>()?.data.ciphertext)
    }

    async fn unwrap_key(&self, key: &str, wrapped: &str, context: &str) -> Result<Secret, BackendError> {
        #[derive(Serialize)]
        struct Decrypt<'a> {
            ciphertext: &'a str,
            associated_data: &'a str,
        }
        #[derive(Deserialize)]
        struct Decrypted<'a> {
            plaintext: &'a str,
        }
        let path = self.transit(key, "decrypt", Operation::UnwrapKey)?;
        let associated_data = BASE64.encode(context.as_bytes());
        let content = Decrypt { ciphertext: wrapped, associated_data: &associated_data };
        let answer = self.ask(&self.session.client.update(Operation::UnwrapKey, &path, &content)).await?;
        let plain = answer.parse::<Reply<Decrypted<'_>>>()?.data.plaintext;
        let plain = BASE64.decode(plain.as_bytes()).map_err(|_| answer.error(ErrorKind::Malformed))?;
        Ok(Secret::new(plain))
    }
}

impl VaultBackend {
    fn transit(&self, key: &str, what: &str, operation: Operation) -> Result<String, BackendError> {
        let parts = key.rsplit_once('/').filter(|(mount, name)| !mount.is_empty() && !name.is_empty());
        let (mount, name) = parts.ok_or_else(|| self.error(ErrorKind::Misconfigured, operation))?;
        Ok(format!("{mount}/{what}/{name}"))
    }
}
