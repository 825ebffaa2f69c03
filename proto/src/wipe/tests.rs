//! Every message that the .proto files mark is tried with a canary: it must show in the encoding, so that the trial is
//! real, and in nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use prost::Message;
use zeroize::Zeroize;

use crate::v1::local_store_put_request::Data;
use crate::v1::nodes_join_request::Credential;
use crate::{csi, sds, v1};

/// What became of one message with the canary in each of its marked fields.
struct Trial {
    message: &'static str,
    encoded: Vec<u8>,
    debug: String,
    encoded_when_wiped: Vec<u8>,
}

impl Trial {
    fn of<M: Message + Debug>(message: &'static str, mut full: M, wipe: impl FnOnce(&mut M)) -> Self {
        let encoded = full.encode_to_vec();
        let debug = format!("{full:?} {full:#?}");
        wipe(&mut full);
        Self { message, encoded, debug, encoded_when_wiped: full.encode_to_vec() }
    }
}

fn trials() -> Vec<Trial> {
    let canary = || CANARY.to_vec();
    let fields = || v1::SecretFields { fields: BTreeMap::from([("password".to_owned(), canary())]) };
    let join = |credential| v1::NodesJoinRequest { credential: Some(credential), csr: vec![0x30] };
    let text = || String::from_utf8(CANARY.to_vec()).expect("text");
    let mount = |attributes, secrets| csi::MountRequest {
        attributes,
        secrets,
        target_path: String::new(),
        permission: "420".to_owned(),
        current_object_version: Vec::new(),
    };
    let put = |data| v1::LocalStorePutRequest { data: Some(data), ..Default::default() };
    vec![
        Trial::of(
            "bursar.v1.SecretsReadResponse",
            v1::SecretsReadResponse { value: canary(), version: "3".to_owned(), lease: None, age: None },
            Zeroize::zeroize,
        ),
        Trial::of(
            "bursar.v1.ResolvedVariable",
            v1::ResolvedVariable {
                name: "DB_PASSWORD".to_owned(),
                value: canary(),
                secret: true,
                lease_ids: Vec::new(),
                on_change: 0,
                max_stale: None,
                age: None,
            },
            Zeroize::zeroize,
        ),
        Trial::of(
            "bursar.v1.ResolvedFile",
            v1::ResolvedFile {
                path: "tls/key.pem".to_owned(),
                mode: 0o400,
                contents: canary(),
                secret: true,
                lease_ids: Vec::new(),
                on_change: 0,
                max_stale: None,
                age: None,
            },
            Zeroize::zeroize,
        ),
        Trial::of("bursar.v1.SecretFields", fields(), Zeroize::zeroize),
        Trial::of("bursar.v1.LocalStorePutRequest", put(Data::Value(canary())), wipe_put),
        Trial::of("bursar.v1.LocalStorePutRequest", put(Data::Fields(fields())), wipe_put),
        Trial::of(
            "bursar.v1.NodesCreateJoinTokenResponse",
            v1::NodesCreateJoinTokenResponse { token: canary(), expires_at: None, spiffe_id: String::new() },
            Zeroize::zeroize,
        ),
        Trial::of("bursar.v1.NodesJoinRequest", join(Credential::Token(canary())), wipe_join),
        Trial::of("bursar.v1.NodesJoinRequest", join(Credential::ServiceAccountToken(canary())), wipe_join),
        Trial::of("v1alpha1.MountRequest", mount(text(), String::new()), Zeroize::zeroize),
        Trial::of("v1alpha1.MountRequest", mount(String::new(), text()), Zeroize::zeroize),
        Trial::of(
            "v1alpha1.File",
            csi::File { path: "db/password".to_owned(), mode: 0o400, contents: canary() },
            Zeroize::zeroize,
        ),
        Trial::of(
            "envoy.service.secret.v3.DataSource",
            sds::DataSource { inline_bytes: canary() },
            Zeroize::zeroize,
        ),
        Trial::of(
            "envoy.service.secret.v3.Resource",
            sds::Resource { type_url: "type.example.org/Secret".to_owned(), value: canary() },
            Zeroize::zeroize,
        ),
    ]
}

/// `Option` would forget what it holds, wiped or not: the data itself is tried.
fn wipe_put(put: &mut v1::LocalStorePutRequest) {
    put.data.iter_mut().for_each(Zeroize::zeroize);
}

fn wipe_join(join: &mut v1::NodesJoinRequest) {
    join.credential.iter_mut().for_each(Zeroize::zeroize);
}

#[test]
fn every_marked_message_is_tried() {
    let tried: BTreeSet<_> = trials().iter().map(|trial| trial.message).collect();
    let marked: BTreeSet<_> = SECRET_MESSAGES.iter().copied().collect();
    assert_eq!(tried, marked, "add the message to `trials`, to debug.rs and to wipe.rs");
}

#[test]
fn the_canary_is_on_the_wire() {
    assert_all(|trial| holds_canary(&trial.encoded));
}

#[test]
fn debug_shows_no_value_in_any_form() {
    let numbers = format!("{CANARY:?}");
    let numbers = numbers.trim_matches(['[', ']']);
    assert_all(|trial| {
        let compact: String = trial.debug.split_whitespace().collect::<Vec<_>>().join(" ");
        !holds_canary(trial.debug.as_bytes()) && !compact.contains(numbers)
    });
}

#[test]
fn debug_says_how_long_a_value_is() {
    assert_all(|trial| trial.debug.contains(&format!("<redacted> ({} bytes)", CANARY.len())));
}

#[test]
fn wiping_leaves_nothing_to_send() {
    assert_all(|trial| !holds_canary(&trial.encoded_when_wiped));
}

#[test]
fn a_message_around_a_secret_one_hides_it_too() {
    let responses = vec![v1::SecretsReadResponse {
        value: CANARY.to_vec(),
        version: String::new(),
        lease: None,
        age: None,
    }];
    let shown = format!("{:?}", v1::SecretsBatchReadResponse { responses });
    assert!(!holds_canary(shown.as_bytes()) && shown.contains("<redacted>"));
}

/// Names what failed and nothing of its contents: a failing test must not print the value either.
fn assert_all(holds: impl Fn(&Trial) -> bool) {
    let failed: Vec<_> =
        trials().into_iter().filter(|trial| !holds(trial)).map(|trial| trial.message).collect();
    assert!(failed.is_empty(), "not so for {failed:?}");
}

fn holds_canary(bytes: &[u8]) -> bool {
    bytes.windows(CANARY.len()).any(|window| window == CANARY)
}

const CANARY: &[u8] = b"cAnArY-5f0c9a71d2";

/// The full names of the messages with a field that is marked `debug_redact`, as build.rs found them.
const SECRET_MESSAGES: &[&str] = &include!(concat!(env!("OUT_DIR"), "/secret_messages.rs"));
