//! What the tests of copies have in common.

use bursar_core::Secret;
use bursar_proto::v1::OnChange;
use bursar_sdk::{Contract, ResolvedEnvironment, ResolvedFile, ResolvedVariable};
use jiff::Timestamp;

use super::copy::Head;
use super::identity::{Identity, generate};

pub(super) const GIVEN: Timestamp = Timestamp::constant(1_767_225_600, 0);
pub(super) const UNTIL: Timestamp = Timestamp::constant(1_767_254_400, 0);
pub(super) const BROKER: &str = "https://broker:8443";
pub(super) const VALUE: &str = "correct-horse-battery-staple";

pub(super) fn head(environment: &str) -> Head {
    Head {
        environment: environment.to_owned(),
        revision: 3,
        broker: BROKER.to_owned(),
        principal: "spiffe://example.org/user/ada".to_owned(),
        given_at: GIVEN,
        usable_until: UNTIL,
    }
}

pub(super) fn identity() -> Identity {
    let file = generate(GIVEN).expect("made");
    Identity::parse(file.expose()).expect("an identity")
}

/// A secret, a literal, and a file of bytes that are no text.
pub(super) fn environment() -> ResolvedEnvironment {
    let contract = |on_change| Contract { leases: Vec::new(), on_change, max_stale: None, age: None };
    let variable = |name: &str, value: &str, secret, on_change| ResolvedVariable {
        name: name.to_owned(),
        value: Secret::from(value.to_owned()),
        secret,
        contract: contract(on_change),
    };
    ResolvedEnvironment {
        revision: 3,
        variables: vec![
            variable("KEY", VALUE, true, OnChange::Restart),
            variable("LEVEL", "info", false, OnChange::Unspecified),
        ],
        files: vec![ResolvedFile {
            path: "tls/key.der".to_owned(),
            mode: 0o440,
            contents: Secret::new(vec![0, 0xff, 7]),
            secret: true,
            contract: contract(OnChange::Unspecified),
        }],
        leases: Vec::new(),
    }
}
