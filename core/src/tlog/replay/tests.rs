use super::*;
use crate::tlog::fixtures::signer;

#[test]
fn the_whole_log_is_the_log_that_was_signed() {
    for count in [0, 1, 2, 7, 8, 300] {
        let records = records(count);
        let checkpoint = replay(&records, &signed(&records)).expect("verified");
        assert_eq!(checkpoint.head().size, count);
    }
}

#[test]
fn the_newest_records_verify_from_the_edge_before_them_and_from_no_other() {
    let records = records(300);
    let note = signed(&records);
    let edge = |records: &[String]| {
        let mut log = LogVerifier::new(signer("log").verifier().clone());
        records.iter().for_each(|record| log.push(record.as_bytes()));
        log.frontier
    };
    let from = |start: Frontier, records: &[String]| {
        let mut log = LogVerifier::new(signer("log").verifier().clone());
        log.start_at(start);
        records.iter().for_each(|record| log.push(record.as_bytes()));
        log.finish(&note).map(drop)
    };
    assert_eq!(from(edge(&records[..256]), &records[256..]), Ok(()));
    let mut other = records[..256].to_vec();
    other.swap(3, 4);
    assert_eq!(from(edge(&other), &records[256..]), Err(ReplayError::RootMismatch { size: 300 }));
    assert!(from(edge(&records[..255]), &records[256..]).is_err());
}

#[test]
fn a_record_cut_off_the_end_is_missed() {
    let records = records(9);
    let found = replay(&records[..8], &signed(&records));
    assert_eq!(found, Err(ReplayError::Truncated { have: 8, want: 9 }));
}

#[test]
fn a_record_removed_from_anywhere_is_missed() {
    let records = records(9);
    for position in 0..records.len() {
        let mut rest = records.clone();
        rest.remove(position);
        let found = replay(&rest, &signed(&records));
        assert_eq!(found, Err(ReplayError::Truncated { have: 8, want: 9 }), "without {position}");
    }
}

#[test]
fn a_record_removed_and_another_added_shows_in_the_root() {
    let records = records(9);
    let mut swapped = records.clone();
    swapped.remove(0);
    swapped.push("{}".to_owned());
    assert_eq!(replay(&swapped, &signed(&records)), Err(ReplayError::RootMismatch { size: 9 }));
}

#[test]
fn any_edited_byte_shows_in_the_root() {
    let records = records(9);
    for position in 0..records.len() {
        let mut edited = records.clone();
        edited[position].push(' ');
        let found = replay(&edited, &signed(&records));
        assert_eq!(found, Err(ReplayError::RootMismatch { size: 9 }), "edited {position}");
    }
}

#[test]
fn two_records_in_each_others_place_show_in_the_root() {
    let records = records(9);
    for position in 1..records.len() {
        let mut moved = records.clone();
        moved.swap(position - 1, position);
        let found = replay(&moved, &signed(&records));
        assert_eq!(found, Err(ReplayError::RootMismatch { size: 9 }), "swapped {position}");
    }
}

#[test]
fn an_inserted_record_is_one_too_many() {
    let records = records(9);
    for position in 0..=records.len() {
        let mut more = records.clone();
        more.insert(position, "{}".to_owned());
        let found = replay(&more, &signed(&records));
        assert_eq!(found, Err(ReplayError::Surplus { have: 10, want: 9 }), "inserted at {position}");
    }
}

#[test]
fn a_checkpoint_by_another_key_is_not_believed() {
    let records = records(3);
    let mut log = LogVerifier::new(signer("another").verifier().clone());
    records.iter().for_each(|record| log.push(record.as_bytes()));
    assert!(
        matches!(log.finish(&signed(&records)), Err(ReplayError::UnknownSigner { name, .. }) if name == "another")
    );
}

#[test]
fn a_checkpoint_with_another_size_written_in_is_not_believed() {
    let records = records(3);
    let forged = signed(&records).replacen("\n3\n", "\n2\n", 1);
    assert!(matches!(
        replay(&records[..2], &forged),
        Err(ReplayError::Checkpoint(CheckpointError::Note(NoteError::Forged { .. })))
    ));
}

fn records(count: u64) -> Vec<String> {
    (0..count).map(|seq| format!("{{\"seq\":{seq}}}")).collect()
}

fn signed(records: &[String]) -> String {
    let mut log = LogVerifier::new(signer("log").verifier().clone());
    records.iter().for_each(|record| log.push(record.as_bytes()));
    Checkpoint::sign(log.head(), &signer("log")).to_string()
}

fn replay(records: &[String], note: &str) -> Result<Checkpoint, ReplayError> {
    let mut log = LogVerifier::new(signer("log").verifier().clone());
    records.iter().for_each(|record| log.push(record.as_bytes()));
    log.finish(note)
}
