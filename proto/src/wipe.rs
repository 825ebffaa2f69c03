//! Messages that carry a secret wipe it when they are dropped.
//!
//! The `Drop` is worth more than the wiping: it makes moving a value out of a message a compile error, which leaves the
//! `take_…` methods as the way out.
//!
//! ```compile_fail,E0509
//! let response = bursar_proto::v1::SecretsReadResponse::default();
//! let bytes: Vec<u8> = response.value;
//! ```

use zeroize::Zeroize;

use crate::csi::{File, MountRequest};
use crate::sds::{DataSource, Resource};
use crate::v1::local_store_put_request::Data;
use crate::v1::nodes_join_request::Credential;
use crate::v1::{
    NodesCreateJoinTokenResponse, ResolvedFile, ResolvedVariable, SecretFields, SecretsReadResponse,
};

macro_rules! wipe_on_drop {
    ($($message:ty => $field:ident),+ $(,)?) => {$(
        impl Zeroize for $message {
            fn zeroize(&mut self) {
                self.$field.zeroize();
            }
        }

        impl Drop for $message {
            fn drop(&mut self) {
                self.zeroize();
            }
        }
    )+};
}

wipe_on_drop! {
    SecretsReadResponse => value,
    ResolvedVariable => value,
    ResolvedFile => contents,
    NodesCreateJoinTokenResponse => token,
    File => contents,
    DataSource => inline_bytes,
    Resource => value,
}

impl Zeroize for SecretFields {
    fn zeroize(&mut self) {
        self.fields.values_mut().for_each(Zeroize::zeroize);
    }
}

impl Drop for SecretFields {
    fn drop(&mut self) {
        self.zeroize();
    }
}

impl Zeroize for MountRequest {
    fn zeroize(&mut self) {
        self.attributes.zeroize();
        self.secrets.zeroize();
    }
}

impl Drop for MountRequest {
    fn drop(&mut self) {
        self.zeroize();
    }
}

/// For `LocalStorePutRequest`, whose secret is all in here.
impl Zeroize for Data {
    fn zeroize(&mut self) {
        match self {
            Self::Value(value) => value.zeroize(),
            Self::Fields(fields) => fields.zeroize(),
        }
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        self.zeroize();
    }
}

/// For `NodesJoinRequest`, whose secret is all in here.
impl Zeroize for Credential {
    fn zeroize(&mut self) {
        match self {
            Self::Token(token) | Self::ServiceAccountToken(token) => token.zeroize(),
            Self::ClientCertificate(_) => {}
        }
    }
}

impl Drop for Credential {
    fn drop(&mut self) {
        self.zeroize();
    }
}

#[cfg(test)]
mod tests;
