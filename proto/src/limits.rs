//! The sizes that the .proto files promise, in one place for broker, agent and clients.

/// Largest message of any call, encoded. In bytes.
pub const MESSAGE: usize = 4 * 1024 * 1024;
/// Largest secret value, or all fields of one together. In bytes.
pub const VALUE: usize = 1024 * 1024;
/// Most fields of one secret.
pub const FIELDS: usize = 256;
/// Longest reference as text. In bytes.
pub const REFERENCE: usize = 4096;
/// Longest reason that a caller may give. In bytes.
pub const REASON: usize = 1024;
/// Longest name of an instance. In bytes.
pub const INSTANCE: usize = 256;
/// Most reads of one batch, and of one journal.
pub const BATCH: usize = 256;
/// Most versions in one call that deletes, undeletes or destroys.
pub const VERSIONS: usize = 256;
/// Most labels of one secret, and of one call that changes them.
pub const LABELS: usize = 64;
/// Longest name of a label. In bytes.
pub const LABEL_NAME: usize = 128;
/// Longest value of a label. In bytes.
pub const LABEL_VALUE: usize = 512;
/// Entries of a page when the request does not say.
pub const PAGE_DEFAULT: u32 = 100;
/// Most entries of a page.
pub const PAGE: u32 = 1000;
/// Holders that `Leases.Top` answers when the request does not say.
pub const TOP_DEFAULT: u32 = 10;
/// Most holders that `Leases.Top` answers.
pub const TOP: u32 = 100;
/// Longest name of an environment. In bytes.
pub const ENVIRONMENT_NAME: usize = 255;
/// Largest document with environments. In bytes.
pub const DOCUMENT: usize = 1024 * 1024;
/// Most files of a set of policies.
pub const POLICY_FILES: usize = 1000;
/// All files of a set of policies together. In bytes.
pub const POLICY_SET: usize = 2 * 1024 * 1024;
/// Most entries of the context in `Policies.Check`.
pub const CONTEXT: usize = 64;
/// Most expectations of one `Policies.Test`.
pub const EXPECTATIONS: usize = 1000;
/// Longest name of a node. In bytes.
pub const NODE_NAME: usize = 253;
/// Largest certification request. In bytes.
pub const CSR: usize = 16 * 1024;
/// Longest join token. In bytes.
pub const JOIN_TOKEN: usize = 256;
/// Longest token of an issuer, a JSON Web Token. In bytes.
pub const BEARER_TOKEN: usize = 16 * 1024;
/// Most selectors that an agent may attest.
pub const SELECTORS: usize = 64;
/// Longest selector. In bytes.
pub const SELECTOR: usize = 256;
/// Largest [`WorkloadContext`](crate::v1::WorkloadContext), encoded. In bytes.
pub const WORKLOAD_CONTEXT: usize = 8 * 1024;
/// Largest piece of records in `Audit.Export`. In bytes.
pub const EXPORT_PIECE: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// A figure as the .proto files write it: `4,096`, `1 MiB`, `16 KiB`.
    fn written(figure: usize) -> String {
        let (kib, mib) = (1024, 1024 * 1024);
        match figure {
            _ if figure.is_multiple_of(mib) => format!("{} MiB", figure / mib),
            _ if figure.is_multiple_of(kib) && figure > 4 * kib => format!("{} KiB", figure / kib),
            _ if figure >= 1000 => format!("{},{:03}", figure / 1000, figure % 1000),
            _ => figure.to_string(),
        }
    }

    #[test]
    fn the_proto_files_promise_these_figures() {
        let secrets = include_str!("../bursar/v1/secrets.proto");
        let environments = include_str!("../bursar/v1/environments.proto");
        let leases = include_str!("../bursar/v1/leases.proto");
        let policies = include_str!("../bursar/v1/policies.proto");
        let nodes = include_str!("../bursar/v1/nodes.proto");
        let workload = include_str!("../bursar/v1/workload.proto");
        let local = include_str!("../bursar/v1/local_store.proto");
        let audit = include_str!("../bursar/v1/audit.proto");
        let promises = [
            (secrets, format!("take at most {}", written(MESSAGE))),
            (environments, format!("All values together take at most {}", written(MESSAGE))),
            (secrets, format!("The value. At most {}", written(VALUE))),
            (local, format!("Named values. At most {} together", written(VALUE))),
            (local, format!("1 to {} fields", written(FIELDS))),
            (local, format!("The versions, at most {}", written(VERSIONS))),
            (
                local,
                format!(
                    "A name takes 1 to {} bytes, a value at most {},",
                    written(LABEL_NAME),
                    written(LABEL_VALUE)
                ),
            ),
            (local, format!("secret has at most {}.", written(LABELS))),
            (secrets, format!("At most {} bytes.\n  string reference", written(REFERENCE))),
            (leases, format!("At most {} bytes.\n  string reason", written(REASON))),
            (secrets, format!("At most {} bytes; empty\n  // where there is only one", written(INSTANCE))),
            (secrets, format!("1 to {} of them", written(BATCH))),
            (leases, format!("1 to {}; 0 for {PAGE_DEFAULT}.", written(PAGE as usize))),
            (leases, format!("1 to {TOP}; 0 for {TOP_DEFAULT}.")),
            (environments, format!("At most {} bytes.\n  string name", written(ENVIRONMENT_NAME))),
            (environments, format!("At most {}. It holds references", written(DOCUMENT))),
            (policies, format!("at most {} and {} together", written(POLICY_FILES), written(POLICY_SET))),
            (policies, format!("At most {} entries", written(CONTEXT))),
            (policies, format!("1 to {} of them", written(EXPECTATIONS))),
            (
                policies,
                format!("At most {} bytes.\n  string resource = 3;\n  // For how long", written(REFERENCE)),
            ),
            (policies, format!("1 to {} bytes.\n  string reason", written(REASON))),
            (nodes, format!("At most {} bytes.\n  string node", written(NODE_NAME))),
            (nodes, format!("PKCS #10 in DER, at most {}", written(CSR))),
            (nodes, format!("A one-time token. At most {} bytes", written(JOIN_TOKEN))),
            (nodes, format!("takes\n    // tokens of, at most {}.", written(BEARER_TOKEN))),
            (
                workload,
                format!("At most {}, of at most {} bytes each", written(SELECTORS), written(SELECTOR)),
            ),
            (workload, format!("Encoded at most {}", written(WORKLOAD_CONTEXT))),
            (audit, format!("1 to {} of them. They are kept", written(BATCH))),
            (audit, format!("At most {}.\n    bytes records", written(EXPORT_PIECE))),
        ];
        let broken: Vec<_> = promises.iter().filter(|(proto, promise)| !proto.contains(promise)).collect();
        let broken: Vec<_> = broken.iter().map(|(_, promise)| promise).collect();
        assert!(broken.is_empty(), "say the same in the .proto file and in limits.rs: {broken:#?}");
    }
}
