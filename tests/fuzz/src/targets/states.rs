//! What an agent keeps through a restart: a file that somebody may have written, and one that an agent of another make
//! sealed.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bursar_agent::attest::Attestor;
use bursar_agent::cache::Cache;
use bursar_agent::config::{CacheLimits, OnOutage};
use bursar_agent::journal::Journal;
use bursar_agent::state::{Surroundings, sealed, taken_up};
use bursar_agent::telemetry::Metrics;
use bursar_core::{Clock, Secret, SystemClock};
use bursar_proto::convert::{duration_to_wire, timestamp_to_wire};
use bursar_proto::v1::{Lease, LeaseState, SecretsReadResponse};
use prometheus_client::registry::Registry;
use prost::Message;
use tokio::sync::watch;

use crate::Target;

pub(super) const TARGET: Target = Target { name: "states", seeds, run, rounds: 3_000 };

static KEY: LazyLock<Secret> = LazyLock::new(|| Secret::new(vec![7; 32]));
static ATTESTOR: LazyLock<Arc<Attestor>> =
    LazyLock::new(|| Arc::new(Attestor::new().expect("a machine whose processes can be looked at")));

/// The first byte says whether the rest is the file as it is, or what an agent sealed in pieces.
fn run(input: &[u8]) {
    let Some((first, rest)) = input.split_first() else { return };
    if *first == SEALED {
        let pieces = pieces(rest);
        let file = sealed(&KEY, &pieces).expect("sealed");
        let around = around();
        taken_up(&around, &KEY, &file);
        assert!(around.cache.size().entries <= pieces.len(), "more is taken up than there is");
        return;
    }
    let around = around();
    let opened = taken_up(&around, &KEY, rest);
    // No byte of it can be changed, so one that opens is one that was sealed.
    assert!(opened.is_none() || FILES.iter().any(|file| file == rest), "a file opens that nobody sealed");
    assert!(opened.is_some() || around.cache.size().entries == 0, "a file that does not open is taken up");
}

/// Each with its length before it, in two bytes.
fn pieces(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let (piece, after) = rest.split_at(usize::from(u16::from_be_bytes(*length)).min(rest.len()));
        pieces.push(piece);
        bytes = after;
    }
    pieces
}

fn around() -> Surroundings {
    let clock = Arc::new(SystemClock) as Arc<dyn Clock>;
    let limits = CacheLimits {
        bytes: 1024 * 1024,
        entries: 100,
        fresh_for: Duration::from_secs(30),
        on_outage: OnOutage::Serve,
    };
    Surroundings {
        cache: Arc::new(Cache::new(limits, Arc::clone(&clock))),
        journal: Arc::new(Journal::new(Arc::clone(&clock))),
        attestor: Arc::clone(&ATTESTOR),
        credential: watch::Sender::new(None).subscribe(),
        clock,
        metrics: Metrics::register(&mut Registry::default()),
    }
}

/// Files that were sealed: by them it is told whether one that opens was changed.
static FILES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let contents = contents();
    let file = |pieces: &Vec<Vec<u8>>| {
        let pieces: Vec<_> = pieces.iter().map(Vec::as_slice).collect();
        sealed(&KEY, &pieces).expect("sealed")
    };
    contents.iter().map(file).collect()
});

fn contents() -> Vec<Vec<Vec<u8>>> {
    vec![vec![beginning()], vec![beginning(), answer()]]
}

/// In the form of `agent/src/state/record.rs`: when it was kept, a name that was lent, and no line of the journal.
fn beginning() -> Vec<u8> {
    let now = i64::try_from(SystemClock.now().as_nanosecond()).unwrap_or_default();
    let name = [bytes_field(1, &[1; 32]), bytes_field(2, b"1:2@boot"), varint_field(3, 60_000)].concat();
    let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let since_boot = u64::try_from(boot.tv_sec).unwrap_or_default().saturating_mul(1_000_000_000);
    [varint_field(1, now.unsigned_abs()), varint_field(2, since_boot), bytes_field(3, &name)].concat()
}

fn answer() -> Vec<u8> {
    let (now, ttl) = (SystemClock.now(), Duration::from_secs(600));
    let lease = Lease {
        id: "01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned(),
        reference: "local/app@1".to_owned(),
        state: LeaseState::Active.into(),
        expires_at: Some(timestamp_to_wire(now + ttl)),
        ttl: Some(duration_to_wire(ttl)),
        renewable: true,
        ..Lease::default()
    };
    let reader = [varint_field(1, 1), bytes_field(2, b"1:2@boot"), bytes_field(3, &[1; 32])].concat();
    let held = [bytes_field(1, b"1:2@boot"), varint_field(3, 600_000), bytes_field(4, &reader)].concat();
    let around = [bytes_field(1, &[2; 32]), bytes_field(3, &held)].concat();
    let mut read = SecretsReadResponse::default();
    read.value = b"value".to_vec();
    read.version = "1".to_owned();
    read.lease = Some(lease);
    let mut piece = Vec::new();
    prost::encoding::encode_varint(u64::try_from(around.len()).unwrap_or_default(), &mut piece);
    piece.extend_from_slice(&around);
    piece.extend_from_slice(&read.encode_to_vec());
    piece
}

fn bytes_field(tag: u32, bytes: &[u8]) -> Vec<u8> {
    let mut field = Vec::new();
    prost::encoding::bytes::encode(tag, &bytes.to_vec(), &mut field);
    field
}

fn varint_field(tag: u32, value: u64) -> Vec<u8> {
    let mut field = Vec::new();
    prost::encoding::uint64::encode(tag, &value, &mut field);
    field
}

fn seeds() -> Vec<Vec<u8>> {
    let in_pieces = |pieces: &Vec<Vec<u8>>| {
        let piece = |piece: &Vec<u8>| {
            let length = u16::try_from(piece.len()).unwrap_or(u16::MAX);
            [&length.to_be_bytes()[..], piece].concat()
        };
        [vec![SEALED], pieces.iter().flat_map(piece).collect()].concat()
    };
    let plain = |file: &Vec<u8>| [&[0], file.as_slice()].concat();
    contents().iter().map(in_pieces).chain(FILES.iter().map(plain)).collect()
}

const SEALED: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    /// Else what is tried would be no more than that everything is refused.
    #[test]
    fn what_was_sealed_is_taken_up() {
        let taken: Vec<_> = FILES.iter().map(|file| taken_up(&around(), &KEY, file)).collect();
        assert_eq!(taken, [Some((0, 0)), Some((1, 0))]);
    }
}
