use bursar_core::tlog::{Frontier, ProofError, Signer, node_hash};
use ring::rand::SystemRandom;
use ring::signature::Ed25519KeyPair;

use super::*;

/// A log of two records, and the proof of the second.
fn proof() -> (Proof, Signer) {
    let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("key");
    let signer = Signer::from_pkcs8("log", key.as_ref()).expect("signer");
    let leaves = [leaf_hash(b"first"), leaf_hash(b"second")];
    let mut log = Frontier::default();
    leaves.iter().for_each(|leaf| log.append(*leaf, |_| {}));
    assert_eq!(log.root(), node_hash(&leaves[0], &leaves[1]));
    let proof = Proof {
        sequence: 1,
        record: Some("second".to_owned()),
        hashes: vec![leaves[0].to_string()],
        checkpoint: Checkpoint::sign(log.head(), &signer).to_string(),
        key: signer.verifier().to_string(),
    };
    (proof, signer)
}

#[test]
fn a_record_in_its_place_is_proven_and_survives_the_file() {
    let (proof, signer) = proof();
    let text = serde_json::to_string(&proof).expect("json");
    let proven = Proof::read(&text).expect("proof").verify(signer.verifier(), true, None).expect("proven");
    assert_eq!((proven.sequence, proven.size), (1, 2));
}

#[test]
fn a_pruned_record_is_proven_by_its_line() {
    let (proof, signer) = proof();
    let proof = Proof { record: None, ..proof };
    assert!(matches!(proof.verify(signer.verifier(), true, None), Err(Error::Proof(_))));
    assert!(proof.verify(signer.verifier(), true, Some("second\n")).is_ok());
    assert!(matches!(proof.verify(signer.verifier(), true, Some("other")), Err(Error::Unproven(_))));
}

#[test]
fn whatever_is_changed_in_a_proof_is_found() {
    let (good, signer) = proof();
    let unproven = |proof: Proof| proof.verify(signer.verifier(), true, None).is_err();
    assert!(unproven(Proof { record: Some("secund".to_owned()), ..proof_of(&good) }));
    assert!(unproven(Proof { sequence: 0, ..proof_of(&good) }));
    assert!(unproven(Proof { hashes: Vec::new(), ..proof_of(&good) }));
    assert!(unproven(Proof { hashes: vec!["?".to_owned()], ..proof_of(&good) }));
    assert!(unproven(Proof { checkpoint: good.checkpoint.replacen("\n2\n", "\n3\n", 1), ..proof_of(&good) }));
    let beyond = Proof { sequence: 2, ..proof_of(&good) };
    let refused = beyond.verify(signer.verifier(), true, None);
    assert!(matches!(refused, Err(Error::Unproven(ProofError::IndexOutOfRange { index: 2, size: 2 }))));
    assert!(Proof::read("{}").is_err());
}

fn proof_of(proof: &Proof) -> Proof {
    Proof {
        sequence: proof.sequence,
        record: proof.record.clone(),
        hashes: proof.hashes.clone(),
        checkpoint: proof.checkpoint.clone(),
        key: proof.key.clone(),
    }
}
