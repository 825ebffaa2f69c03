//! Bursar's gRPC surface: the package `bursar.v1`, and where it meets the vocabulary of `bursar_core`.
//!
//! [`v1`] is generated from `bursar/v1/*.proto`: messages, clients and servers. Around it stands what is written by
//! hand: [`convert`] turns messages into the types of the core and back, once, at the edge; [`reason`] names the errors
//! that a client can act on; [`limits`] holds the sizes that the .proto files promise.
//!
//! # Messages that carry a secret
//! gRPC needs plain bytes, so for a moment a value is outside `bursar_core::Secret`. Messages with a field that the
//! .proto marks `debug_redact` make that moment safe:
//! - their `Debug` is written by hand and shows names and lengths;
//! - they wipe the marked fields when they are dropped. This costs one pass over the value, small beside encryption;
//! - because they do, the value cannot be moved out of them, and `..Default::default()` does not build them. The
//!   ways in and out are [`convert::wire_bytes`] and the `take_…` methods, which hand over a `Secret` and leave no
//!   copy behind.
//!
//! What they cannot do: prost derives `Clone` and `PartialEq` for every message, so do not clone one or compare two;
//! and the transport's own buffers, which hold the message on its way into TLS, are not wiped.

pub mod convert;
mod debug;
pub mod limits;
pub mod reason;
mod wipe;
mod workload;

pub use reason::Reason;

/// The package `bursar.v1`, generated.
pub mod v1 {
    #![expect(
        unused_qualifications,
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason,
        reason = "prost and tonic write this code; every other lint of the workspace holds for it"
    )]
    tonic::include_proto!("bursar.v1");
}

/// The package `v1alpha1`, generated: what the Secrets Store CSI driver calls at its providers.
pub mod csi {
    #![expect(
        unused_qualifications,
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason,
        reason = "prost and tonic write this code; every other lint of the workspace holds for it"
    )]
    tonic::include_proto!("v1alpha1");
}

/// The package `envoy.service.secret.v3`, generated: how Envoy asks for its secrets, with what that takes of other packages.
pub mod sds {
    #![expect(
        unused_qualifications,
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason,
        reason = "prost and tonic write this code; every other lint of the workspace holds for it"
    )]
    tonic::include_proto!("envoy.service.secret.v3");
}

/// The compiled .proto files of `bursar.v1` with what they import, for gRPC reflection: an encoded
/// `google.protobuf.FileDescriptorSet`.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("descriptors");

/// Metadata key of every answer: the id under which the broker logged and recorded the request. A client may send one
/// of its own, which the broker keeps when it is at most 64 of A-Z, a-z, 0-9, `-` and `_`.
pub const REQUEST_ID_METADATA_KEY: &str = "bursar-request-id";

/// Metadata key under which an agent sends an encoded [`v1::WorkloadContext`]. Binary, hence the suffix.
pub const WORKLOAD_CONTEXT_METADATA_KEY: &str = "bursar-workload-bin";

#[cfg(test)]
mod tests {
    use prost::Message;
    use prost_types::FileDescriptorSet;

    use super::*;

    fn descriptors() -> FileDescriptorSet {
        FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("a descriptor set")
    }

    #[test]
    fn the_descriptor_set_holds_every_service() {
        let files = descriptors().file;
        let services =
            files.iter().filter(|file| file.package() == "bursar.v1").flat_map(|file| &file.service);
        let mut names: Vec<_> = services.map(prost_types::ServiceDescriptorProto::name).collect();
        names.sort_unstable();
        let all = ["Audit", "Environments", "Leases", "LocalStore", "Nodes", "Policies", "Secrets", "System"];
        assert_eq!(names, all);
    }

    #[test]
    fn the_descriptor_set_stands_by_itself() {
        let files = descriptors().file;
        let names: Vec<_> = files.iter().map(prost_types::FileDescriptorProto::name).collect();
        let imports = files.iter().flat_map(|file| &file.dependency);
        let missing: Vec<_> = imports.filter(|import| !names.contains(&import.as_str())).collect();
        assert!(missing.is_empty(), "reflection cannot answer for {missing:?}");
    }
}
