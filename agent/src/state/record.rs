//! What is in the pieces of a state: first what there is of everything, then one answer a piece.
//!
//! The answers are the messages that they are on the socket, which wipe themselves; around them stands what they stand on.
//! The journal's lines and the names that workloads ask under have no secret in them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bursar_proto::v1::{EnvironmentsResolveResponse, LocalRead, SecretsReadResponse};
use prost::Message;
use zeroize::Zeroizing;

use crate::attest::{Attestor, Identity, Workload};
use crate::cache::{Answer, Held, Kept, Key, Lent};
use crate::journal::Waiting;

/// The first piece.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Beginning {
    /// When it was kept, in nanoseconds since 1970 and since the machine started.
    #[prost(int64, tag = "1")]
    pub(super) wall: i64,
    #[prost(uint64, tag = "2")]
    pub(super) since_boot: u64,
    #[prost(message, repeated, tag = "3")]
    lent: Vec<LentName>,
    #[prost(message, repeated, tag = "4")]
    journal: Vec<Line>,
}

#[derive(Clone, PartialEq, Message)]
struct LentName {
    #[prost(bytes = "vec", tag = "1")]
    identity: Vec<u8>,
    #[prost(string, tag = "2")]
    instance: String,
    #[prost(uint64, tag = "3")]
    left_millis: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Line {
    #[prost(message, optional, tag = "1")]
    read: Option<LocalRead>,
    #[prost(bytes = "vec", tag = "2")]
    identity: Vec<u8>,
}

/// What stands around an answer, which follows it.
#[derive(Clone, PartialEq, Message)]
struct Around {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bool, tag = "2")]
    is_environment: bool,
    #[prost(message, repeated, tag = "3")]
    held: Vec<HeldLease>,
}

#[derive(Clone, PartialEq, Message)]
struct HeldLease {
    #[prost(string, tag = "1")]
    instance: String,
    #[prost(message, optional, tag = "2")]
    ttl: Option<prost_types::Duration>,
    #[prost(uint64, tag = "3")]
    left_millis: u64,
    #[prost(message, repeated, tag = "4")]
    readers: Vec<Reader>,
}

/// A process that got the value.
#[derive(Clone, PartialEq, Message)]
struct Reader {
    #[prost(uint32, tag = "1")]
    pid: u32,
    #[prost(string, tag = "2")]
    instance: String,
    #[prost(bytes = "vec", tag = "3")]
    identity: Vec<u8>,
}

impl Beginning {
    pub(super) fn new(wall: i64, since_boot: u64, lent: Vec<Lent>, journal: Vec<Waiting>) -> Self {
        let name = |Lent { identity, instance, left }: Lent| LentName {
            identity: identity.as_bytes().to_vec(),
            instance,
            left_millis: millis(left),
        };
        let line = |Waiting { read, identity }: Waiting| Line {
            read: Some(read),
            identity: identity.as_bytes().to_vec(),
        };
        let lent = lent.into_iter().map(name).collect();
        Self { wall, since_boot, lent, journal: journal.into_iter().map(line).collect() }
    }

    pub(super) fn read(piece: &[u8]) -> Option<Self> {
        Self::decode(piece).ok()
    }

    pub(super) fn written(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.encode_to_vec())
    }

    /// The names that workloads asked under, and the lines that the broker did not have.
    pub(super) fn content(self) -> (Vec<Lent>, Vec<Waiting>) {
        let lent = |name: LentName| {
            let (identity, left) = (identity(&name.identity)?, Duration::from_millis(name.left_millis));
            Some(Lent { identity, instance: name.instance, left })
        };
        let waiting = |line: Line| Some(Waiting { read: line.read?, identity: identity(&line.identity)? });
        (
            self.lent.into_iter().filter_map(lent).collect(),
            self.journal.into_iter().filter_map(waiting).collect(),
        )
    }
}

/// One answer as a piece.
pub(super) fn written(kept: &Kept) -> Zeroizing<Vec<u8>> {
    let reader = |reader: &Arc<Workload>| {
        let identity = reader.identity().as_bytes().to_vec();
        Some(Reader { pid: reader.pid()?, instance: reader.instance().to_owned(), identity })
    };
    let held = |held: &Held| HeldLease {
        instance: held.instance.clone(),
        ttl: held.ttl,
        left_millis: millis(held.left),
        readers: held.readers.iter().filter_map(reader).collect(),
    };
    let around = Around {
        key: kept.key.as_bytes().to_vec(),
        is_environment: matches!(kept.answer, Answer::Environment(_)),
        held: kept.held.iter().map(held).collect(),
    };
    let around = around.encode_length_delimited_to_vec();
    let length = match &kept.answer {
        Answer::Secret(answer) => answer.encoded_len(),
        Answer::Environment(answer) => answer.encoded_len(),
    };
    // Of its final size: one that grows leaves copies behind.
    let mut piece = Zeroizing::new(Vec::with_capacity(around.len() + length));
    piece.extend_from_slice(&around);
    match &kept.answer {
        Answer::Secret(answer) => answer.encode_raw(&mut *piece),
        Answer::Environment(answer) => answer.encode_raw(&mut *piece),
    }
    piece
}

/// Reads answers, and finds again who got them.
#[derive(Debug)]
pub(super) struct Reading<'agent> {
    attestor: &'agent Attestor,
    /// Each process that was looked for, by its instance.
    found: HashMap<String, Option<Arc<Workload>>>,
}

impl<'agent> Reading<'agent> {
    pub(super) fn new(attestor: &'agent Attestor) -> Self {
        Self { attestor, found: HashMap::new() }
    }

    /// Reads a piece. A process that ended meanwhile, or became another program, is no reader any more. Blocks.
    pub(super) fn read(&mut self, mut piece: &[u8]) -> Option<Kept> {
        let around = Around::decode_length_delimited(&mut piece).ok()?;
        let key = Key::from_bytes(around.key.try_into().ok()?);
        let answer = match around.is_environment {
            true => Answer::Environment(EnvironmentsResolveResponse::decode(piece).ok()?),
            false => Answer::Secret(Box::new(SecretsReadResponse::decode(piece).ok()?)),
        };
        let held = around.held.into_iter().map(|held| Held {
            instance: held.instance,
            ttl: held.ttl,
            left: Duration::from_millis(held.left_millis),
            readers: held.readers.into_iter().filter_map(|reader| self.find(reader)).collect(),
        });
        Some(Kept { key, answer, held: held.collect() })
    }

    fn find(&mut self, reader: Reader) -> Option<Arc<Workload>> {
        let Reader { pid, instance, identity: known } = reader;
        let again = || self.attestor.attest_again(pid, &instance).ok().map(Arc::new);
        let found = self.found.entry(instance.clone()).or_insert_with(again).clone()?;
        (Some(found.identity()) == identity(&known)).then_some(found)
    }
}

fn identity(bytes: &[u8]) -> Option<Identity> {
    bytes.try_into().ok().map(Identity::from_bytes)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
