//! The crossings between `bursar_core::Secret` and the bytes that gRPC needs. A value enters a message by
//! [`wire_bytes`] and leaves it by a `take_…` method, which leaves no copy behind.

use std::fmt;
use std::mem;
use std::sync::Arc;

use bursar_core::reference::FieldName;
use bursar_core::secret::{Secret, SecretData};

use super::WireError;
use crate::csi::MountRequest;
use crate::limits;
use crate::v1::local_store_put_request::Data;
use crate::v1::nodes_join_request::Credential;
use crate::v1::{
    LocalStorePutRequest, NodesCreateJoinTokenResponse, NodesJoinRequest, ResolvedFile, ResolvedVariable,
    SecretFields, SecretsReadResponse,
};

/// Copies a secret out for a message to send. Put the copy into a field that is marked `debug_redact`, which wipes it,
/// and nowhere else.
pub fn wire_bytes(secret: &Secret) -> Vec<u8> {
    secret.expose().to_vec()
}

impl SecretsReadResponse {
    /// Takes the value out and leaves none behind.
    pub fn take_value(&mut self) -> Secret {
        Secret::new(mem::take(&mut self.value))
    }
}

impl ResolvedVariable {
    /// Takes the value out and leaves none behind.
    pub fn take_value(&mut self) -> Secret {
        Secret::new(mem::take(&mut self.value))
    }
}

impl ResolvedFile {
    /// Takes the contents out and leaves none behind.
    pub fn take_contents(&mut self) -> Secret {
        Secret::new(mem::take(&mut self.contents))
    }
}

impl NodesCreateJoinTokenResponse {
    /// Takes the token out and leaves none behind.
    pub fn take_token(&mut self) -> Secret {
        Secret::new(mem::take(&mut self.token))
    }
}

impl MountRequest {
    /// Takes `attributes` and `secrets` out, which the pod's tokens may be in, and leaves neither behind.
    pub fn take_texts(&mut self) -> (Secret, Secret) {
        (Secret::from(mem::take(&mut self.attributes)), Secret::from(mem::take(&mut self.secrets)))
    }
}

/// What lets a node in.
pub enum JoinCredential {
    /// A one-time token.
    Token(Secret),
    /// The token of the agent's service account.
    ServiceAccountToken(Secret),
    /// The client certificate of the connection.
    ClientCertificate,
}

impl fmt::Debug for JoinCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token(_) => "Token",
            Self::ServiceAccountToken(_) => "ServiceAccountToken",
            Self::ClientCertificate => "ClientCertificate",
        })
    }
}

impl NodesJoinRequest {
    /// Takes out what lets the node in, and leaves nothing behind.
    ///
    /// # Errors
    /// [`WireError`] when nothing is given, or a token that is longer than any. Whatever was sent is wiped then too.
    pub fn take_credential(&mut self) -> Result<JoinCredential, WireError> {
        let mut credential = self.credential.take().ok_or(WireError::Missing { field: "credential" })?;
        match &mut credential {
            Credential::ServiceAccountToken(token) if token.len() > limits::BEARER_TOKEN => {
                Err(WireError::TooLarge { field: "service_account_token" })
            }
            Credential::Token(token) => Ok(JoinCredential::Token(Secret::new(mem::take(token)))),
            Credential::ServiceAccountToken(token) => {
                Ok(JoinCredential::ServiceAccountToken(Secret::new(mem::take(token))))
            }
            Credential::ClientCertificate(_) => Ok(JoinCredential::ClientCertificate),
        }
    }
}

impl LocalStorePutRequest {
    /// Takes the value or the fields out and leaves none behind.
    ///
    /// # Errors
    /// [`WireError`] when neither is given, a limit of [`limits`] is broken, or a field's name is not one. Whatever was
    /// sent is wiped then too.
    pub fn take_data(&mut self) -> Result<SecretData, WireError> {
        let mut data = self.data.take().ok_or(WireError::Missing { field: "data" })?;
        match &mut data {
            Data::Value(value) if value.len() > limits::VALUE => Err(WireError::TooLarge { field: "value" }),
            Data::Value(value) => Ok(SecretData::Opaque(Arc::new(Secret::new(mem::take(value))))),
            Data::Fields(fields) => take_fields(fields),
        }
    }
}

/// Each value is taken only once its name is known to be good: what is left when one is not, `fields` wipes.
fn take_fields(fields: &mut SecretFields) -> Result<SecretData, WireError> {
    let fields = &mut fields.fields;
    if fields.is_empty() {
        return Err(WireError::Missing { field: "fields" });
    }
    if fields.len() > limits::FIELDS || fields.values().map(Vec::len).sum::<usize>() > limits::VALUE {
        return Err(WireError::TooLarge { field: "fields" });
    }
    let taken = fields.iter_mut().map(|(name, value)| {
        let name =
            FieldName::parse(name).map_err(|source| WireError::Reference { field: "fields", source })?;
        Ok((name, Arc::new(Secret::new(mem::take(value)))))
    });
    taken.collect::<Result<_, _>>().map(SecretData::Fields)
}

impl From<&SecretData> for Data {
    fn from(data: &SecretData) -> Self {
        match data {
            SecretData::Opaque(value) => Self::Value(wire_bytes(value)),
            SecretData::Fields(fields) => {
                let entry =
                    |(name, value): (&FieldName, &Arc<Secret>)| (name.as_str().to_owned(), wire_bytes(value));
                Self::Fields(SecretFields { fields: fields.iter().map(entry).collect() })
            }
        }
    }
}

#[cfg(test)]
mod tests;
