//! Whether a change is one that anybody is to be told of: an entry of an environment may say `on_change = "none"`.

use bursar_proto::v1::{EnvironmentsResolveResponse, OnChange};
use sha2::{Digest, Sha256};

/// Digests of the values whose changes are told, and of those whose changes are not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::files) struct Contract {
    told: [u8; 32],
    untold: [u8; 32],
}

impl Contract {
    /// That of an environment with its values.
    pub(in crate::files) fn of(environment: &EnvironmentsResolveResponse) -> Self {
        let (mut told, mut untold) = (Sha256::new(), Sha256::new());
        let mut add = |on_change: OnChange, name: &str, value: &[u8]| {
            let digest = if on_change == OnChange::None { &mut untold } else { &mut told };
            for part in [name.as_bytes(), value] {
                digest.update(part.len().to_be_bytes());
                digest.update(part);
            }
        };
        for variable in &environment.variables {
            add(variable.on_change(), &variable.name, &variable.value);
        }
        for file in &environment.files {
            add(file.on_change(), &file.path, &file.contents);
        }
        Self { told: told.finalize().into(), untold: untold.finalize().into() }
    }

    /// Whether nothing changed since `before` but what is not told. Where no value did, it was something else, such as a
    /// template or a mode.
    pub(in crate::files) fn is_untold_since(&self, before: &Self) -> bool {
        self.told == before.told && self.untold != before.untold
    }
}

#[cfg(test)]
mod tests {
    use bursar_proto::v1::ResolvedVariable;

    use super::*;

    #[test]
    fn only_a_change_of_what_says_so_is_not_told() {
        let contract = |loud: &str, quiet: &str| {
            let variable = |name: &str, value: &str, on_change: OnChange| ResolvedVariable {
                name: name.to_owned(),
                value: value.as_bytes().to_vec(),
                on_change: on_change.into(),
                secret: true,
                lease_ids: Vec::new(),
                max_stale: None,
                age: None,
            };
            let variables =
                vec![variable("A", loud, OnChange::Unspecified), variable("B", quiet, OnChange::None)];
            Contract::of(&EnvironmentsResolveResponse { variables, ..Default::default() })
        };
        let before = contract("1", "1");
        assert!(contract("1", "2").is_untold_since(&before));
        for other in [contract("2", "1"), contract("2", "2"), contract("1", "1")] {
            assert!(!other.is_untold_since(&before));
        }
    }
}
