//! `Debug` for the messages that carry a secret: names and lengths, never values.
//!
//! build.rs finds these messages by the mark `debug_redact` in the .proto files and leaves the derived `Debug` out. A
//! literal's value is hidden too: what a definition calls a literal may still be a secret in the wrong place.

use std::fmt;

use crate::csi::{File, MountRequest};
use crate::sds::{DataSource, Resource};
use crate::v1::local_store_put_request::Data;
use crate::v1::nodes_join_request::Credential;
use crate::v1::{
    LocalStorePutRequest, NodesCreateJoinTokenResponse, NodesJoinRequest, ResolvedFile, ResolvedVariable,
    SecretFields, SecretsReadResponse,
};

impl fmt::Debug for SecretsReadResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretsReadResponse")
            .field("value", &Redacted::of(&self.value))
            .field("version", &self.version)
            .field("lease", &self.lease)
            .field("age", &self.age)
            .finish()
    }
}

impl fmt::Debug for ResolvedVariable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResolvedVariable")
            .field("name", &self.name)
            .field("value", &Redacted::of(&self.value))
            .field("secret", &self.secret)
            .field("lease_ids", &self.lease_ids)
            .field("on_change", &self.on_change())
            .field("max_stale", &self.max_stale)
            .field("age", &self.age)
            .finish()
    }
}

impl fmt::Debug for ResolvedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResolvedFile")
            .field("path", &self.path)
            .field("mode", &format_args!("{:#o}", self.mode))
            .field("contents", &Redacted::of(&self.contents))
            .field("secret", &self.secret)
            .field("lease_ids", &self.lease_ids)
            .field("on_change", &self.on_change())
            .field("max_stale", &self.max_stale)
            .field("age", &self.age)
            .finish()
    }
}

impl fmt::Debug for LocalStorePutRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalStorePutRequest")
            .field("reference", &self.reference)
            .field("data", &self.data)
            .field("expected_version", &self.expected_version)
            .field("expires_at", &self.expires_at)
            .finish()
    }
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) => f.debug_tuple("Value").field(&Redacted::of(value)).finish(),
            Self::Fields(fields) => f.debug_tuple("Fields").field(fields).finish(),
        }
    }
}

impl fmt::Debug for SecretFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.fields.iter().map(|(name, value)| (name, Redacted::of(value)))).finish()
    }
}

impl fmt::Debug for NodesCreateJoinTokenResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodesCreateJoinTokenResponse")
            .field("token", &Redacted::of(&self.token))
            .field("expires_at", &self.expires_at)
            .field("spiffe_id", &self.spiffe_id)
            .finish()
    }
}

impl fmt::Debug for NodesJoinRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodesJoinRequest")
            .field("credential", &self.credential)
            .field("csr", &format_args!("{} bytes", self.csr.len()))
            .finish()
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(token) => f.debug_tuple("Token").field(&Redacted::of(token)).finish(),
            Self::ServiceAccountToken(token) => {
                f.debug_tuple("ServiceAccountToken").field(&Redacted::of(token)).finish()
            }
            Self::ClientCertificate(certificate) => {
                f.debug_tuple("ClientCertificate").field(certificate).finish()
            }
        }
    }
}

impl fmt::Debug for MountRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MountRequest")
            .field("attributes", &Redacted::of(self.attributes.as_bytes()))
            .field("secrets", &Redacted::of(self.secrets.as_bytes()))
            .field("target_path", &self.target_path)
            .field("permission", &self.permission)
            .field("current_object_version", &self.current_object_version)
            .finish()
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File")
            .field("path", &self.path)
            .field("mode", &format_args!("{:#o}", self.mode))
            .field("contents", &Redacted::of(&self.contents))
            .finish()
    }
}

impl fmt::Debug for DataSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataSource").field("inline_bytes", &Redacted::of(&self.inline_bytes)).finish()
    }
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resource")
            .field("type_url", &self.type_url)
            .field("value", &Redacted::of(&self.value))
            .finish()
    }
}

/// Stands for a value of this many bytes.
struct Redacted(usize);

impl Redacted {
    fn of(value: &[u8]) -> Self {
        Self(value.len())
    }
}

impl fmt::Debug for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<redacted> ({} bytes)", self.0)
    }
}
