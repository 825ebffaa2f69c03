use bursar_core::audit::Action;
use bursar_core::tlog::{Checkpoint, ReplayError, Signer, leaf_hash};

use super::*;

/// PKCS#8 of an Ed25519 key that signs nothing but tests.
fn signer(name: &str) -> Signer {
    let document = ring_key();
    Signer::from_pkcs8(name, &document).expect("key")
}

fn ring_key() -> Vec<u8> {
    // RFC 8410, section 10.3, with the public key of the RFC's example.
    data_encoding::HEXLOWER
        .decode(
            b"3053020101300506032b657004220420d4ee72dbf913584ad5b6d8f1f769f8ad3afe7c28cbf1d4fbe097a88f44755842a1230321\
0019bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1",
        )
        .expect("hex")
}

fn records(count: u64) -> Vec<String> {
    (0..count).map(|seq| format!("{{\"seq\":{seq},\"action\":\"read\"}}")).collect()
}

fn note(records: &[String], signer: &Signer) -> String {
    let mut log = LogVerifier::new(signer.verifier().clone());
    records.iter().for_each(|record| log.push(record.as_bytes()));
    Checkpoint::sign(log.head(), signer).to_string()
}

fn file(records: &[String], note: &str, signer: &Signer) -> String {
    let trailer = Trailer { checkpoint: note.to_owned(), key: signer.verifier().to_string() };
    let trailer = serde_json::to_string(&trailer).expect("json");
    records.iter().chain([&trailer]).map(|line| format!("{line}\n")).collect()
}

fn check(text: &str) -> Result<Verified, Error> {
    let verification = Verification::new(signer("log").verifier().clone(), true);
    verify(text.as_bytes(), Path::new("export"), verification, || {})
}

#[test]
fn a_whole_export_is_verified() {
    let records = records(20);
    let signer = signer("log");
    let verified = check(&file(&records, &note(&records, &signer), &signer)).expect("verified");
    assert_eq!((verified.records, verified.origin.as_str()), (20, "log"));
}

#[test]
fn the_claimed_key_is_found() {
    let signer = signer("log");
    let text = file(&records(2), &note(&records(2), &signer), &signer);
    let key = claimed_key(text.as_bytes(), Path::new("export")).expect("key");
    assert_eq!(key, signer.verifier().to_string());
}

#[test]
fn one_changed_byte_is_found() {
    let records = records(20);
    let signer = signer("log");
    let text = file(&records, &note(&records, &signer), &signer).replacen("read", "reed", 1);
    assert!(matches!(
        check(&text),
        Err(Error::Unverified { place: None, source: ReplayError::RootMismatch { size: 20 } })
    ));
}

#[test]
fn a_missing_record_is_found_and_its_place_is_told() {
    let all = records(20);
    let signer = signer("log");
    let mut rest = all.clone();
    rest.remove(7);
    let Err(Error::Unverified { place: Some(place), .. }) =
        check(&file(&rest, &note(&all, &signer), &signer))
    else {
        panic!("instead of a place");
    };
    assert_eq!(place, "record 8 stands in the place of record 7, line 8");
}

/// Each kind of record in an export, changed in each way that there is.
#[test]
fn no_kind_of_record_can_be_tampered_with() {
    let line = |(seq, action): (usize, &Action)| {
        format!("{{\"seq\":{seq},\"action\":\"{}\",\"outcome\":\"ok\"}}", action.as_str())
    };
    let all: Vec<String> = Action::ALL.iter().enumerate().map(line).collect();
    let signer = signer("log");
    let note = note(&all, &signer);
    assert!(check(&file(&all, &note, &signer)).is_ok());
    for (place, action) in Action::ALL.iter().enumerate() {
        let other = (place + 1) % all.len();
        let mut ways = [(); 6].map(|()| all.clone());
        ways[0][place] = ways[0][place].replace("\"ok\"", "\"oh\"");
        ways[1].remove(place);
        ways[2].swap(place, other);
        ways[3].insert(place, all[place].clone());
        ways[4][place] = all[other].clone();
        ways[5].truncate(place);
        let names = ["changed", "deleted", "swapped", "inserted", "replaced by another", "cut off"];
        for (way, records) in names.into_iter().zip(ways) {
            let found = check(&file(&records, &note, &signer));
            assert!(matches!(found, Err(Error::Unverified { .. })), "{} {way}: {found:?}", action.as_str());
        }
    }
}

#[test]
fn an_export_without_its_end_is_told() {
    let records = records(3);
    let signer = signer("log");
    let text = file(&records, &note(&records, &signer), &signer);
    let lines: Vec<_> = text.lines().collect();
    let cut = format!("{}\n", lines[..3].join("\n"));
    assert!(matches!(check(&cut), Err(Error::Export(what)) if what.contains("no checkpoint")));
    assert!(matches!(check(text.trim_end()), Err(Error::Export(what)) if what.contains("does not end")));
}

#[test]
fn an_export_of_the_newest_records_is_verified_from_its_start() {
    let all = records(300);
    let signer = signer("log");
    let mut edge = Frontier::default();
    all[..256].iter().for_each(|record| edge.append(leaf_hash(record.as_bytes()), |_| {}));
    let text = |start: u64, edge: &Frontier, from: usize| {
        let edge = data_encoding::BASE64.encode(&edge.to_bytes());
        let start = serde_json::to_string(&Start { start, edge }).expect("json");
        format!("{start}\n{}", file(&all[from..], &note(&all, &signer), &signer))
    };
    let verified = check(&text(256, &edge, 256)).expect("verified");
    assert_eq!((verified.first, verified.records), (256, 44));
    // The edge of other records, of another place, and a start that was left out.
    let mut other = Frontier::default();
    all[..256].iter().rev().for_each(|record| other.append(leaf_hash(record.as_bytes()), |_| {}));
    assert!(matches!(check(&text(256, &other, 256)), Err(Error::Unverified { .. })));
    assert!(matches!(check(&text(255, &edge, 256)), Err(Error::Export(_))));
    assert!(matches!(check(&text(256, &edge, 257)), Err(Error::Unverified { place: Some(_), .. })));
    assert!(check(&file(&all[256..], &note(&all, &signer), &signer)).is_err());
}

#[test]
fn nothing_may_follow_the_checkpoint() {
    let records = records(3);
    let signer = signer("log");
    let text = file(&records, &note(&records, &signer), &signer) + "{\"seq\":3}\n";
    assert!(matches!(check(&text), Err(Error::Export(what)) if what.contains("follows")));
}

#[test]
fn another_key_is_told() {
    let records = records(3);
    let other = signer("other");
    assert!(matches!(
        check(&file(&records, &note(&records, &other), &other)),
        Err(Error::Unverified { source: ReplayError::UnknownSigner { .. }, .. })
    ));
}

#[test]
fn what_is_no_export_is_told() {
    assert!(matches!(check(""), Err(Error::Export(_))));
    assert!(matches!(check("{\"checkpoint\": 1}\n"), Err(Error::Export(_))));
    assert!(check(&"x".repeat(3_000_000)).is_err());
}
