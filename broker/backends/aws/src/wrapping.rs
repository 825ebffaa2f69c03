//! Keys wrapped by one of KMS, which never leaves it.
//! Operations: <https://docs.aws.amazon.com/kms/latest/APIReference/API_Encrypt.html>.

use async_trait::async_trait;
use aws_smithy_types::Blob;
use bursar_core::Secret;
use bursar_core::backend::{BackendError, ErrorKind, Operation, Wrapping};
use data_encoding::BASE64;

use crate::backend::AwsBackend;

#[async_trait]
impl Wrapping for AwsBackend {
    /// `key` is an id, an alias (`alias/bursar`) or the ARN of either.
    async fn wrap_key(&self, key: &str, plain: &Secret, context: &str) -> Result<String, BackendError> {
        let call = || {
            let call = self.kms.encrypt().key_id(key).encryption_context(CONTEXT, context);
            call.plaintext(Blob::new(plain.expose())).send()
        };
        let wrapped = self.caller.ask(Operation::WrapKey, call).await?.ciphertext_blob;
        let malformed = || self.error(ErrorKind::Malformed, Operation::WrapKey);
        Ok(BASE64.encode(wrapped.ok_or_else(malformed)?.as_ref()))
    }

    async fn unwrap_key(&self, key: &str, wrapped: &str, context: &str) -> Result<Secret, BackendError> {
        let not_ours = |_| self.error(ErrorKind::Misconfigured, Operation::UnwrapKey);
        let wrapped = BASE64.decode(wrapped.as_bytes()).map_err(not_ours)?;
        // The key is named, so that nothing opens which another key of the account has wrapped.
        let call = || {
            let call = self.kms.decrypt().key_id(key).encryption_context(CONTEXT, context);
            call.ciphertext_blob(Blob::new(wrapped.as_slice())).send()
        };
        let plain = self.caller.ask(Operation::UnwrapKey, call).await?.plaintext;
        let malformed = || self.error(ErrorKind::Malformed, Operation::UnwrapKey);
        Ok(Secret::new(plain.ok_or_else(malformed)?.into_inner()))
    }
}

/// Under which the context is in CloudTrail, and in the conditions of a key policy.
const CONTEXT: &str = "bursar";
