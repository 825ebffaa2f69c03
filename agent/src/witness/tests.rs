use std::convert::Infallible;
use std::ops::Range;

use bursar_core::tlog::{NodeSource, Signer, TreeHead, consistency_proof, leaf_hash, root_at};
use bursar_proto::Reason;
use bursar_proto::v1::SignedCheckpoint;

use super::*;
use crate::testing::Rig;

/// A log of so many records, whose contents begin with `story`.
struct Records {
    story: &'static str,
    size: u64,
}

impl NodeSource for Records {
    type Error = Infallible;

    fn leaf_hashes(&self, range: Range<u64>) -> Result<Vec<Hash>, Infallible> {
        let record = |index: u64| leaf_hash(format!("{} {index}", self.story).as_bytes());
        Ok(range.filter(|index| *index < self.size).map(record).collect())
    }

    fn tile_root(&self, _: u8, _: u64) -> Result<Option<Hash>, Infallible> {
        Ok(None)
    }
}

struct Bench {
    rig: Rig,
    folder: tempfile::TempDir,
    signer: Signer,
}

impl Bench {
    async fn new() -> Self {
        Self { rig: Rig::new().await, folder: tempfile::tempdir().expect("folder"), signer: signer() }
    }

    fn witness(&self) -> Witness {
        Witness::resume(self.folder.path(), Arc::clone(&self.rig.upstream), Metrics::default())
            .expect("resumed")
    }

    fn note(&self, records: &Records) -> String {
        let root = root_at(records, records.size).expect("root");
        Checkpoint::sign(TreeHead { size: records.size, root }, &self.signer).to_string()
    }

    /// Makes the broker show the log, with the proof from `old` records on.
    fn show(&self, records: &Records, old: u64) {
        let proof = consistency_proof(records, old.min(records.size), records.size).expect("proof");
        let mut state = self.rig.broker.script.state();
        state.proof = proof.iter().map(|hash| hash.as_bytes().to_vec()).collect();
        state.checkpoint =
            SignedCheckpoint { note: self.note(records), verifier_key: self.signer.verifier().to_string() };
    }

    /// A witness that has seen the log at ten records.
    async fn that_saw_ten(&self) -> Witness {
        self.show(&Records { story: "true", size: 10 }, 0);
        let witness = self.witness();
        witness.check().await.expect("first");
        witness
    }
}

fn signer() -> Signer {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("key");
    Signer::from_pkcs8("broker.example.org/log", &key.serialize_der()).expect("signer")
}

#[tokio::test]
async fn a_log_that_is_only_added_to_is_followed() {
    let bench = Bench::new().await;
    let witness = bench.that_saw_ten().await;
    bench.show(&Records { story: "true", size: 25 }, 10);
    witness.check().await.expect("consistent");
    bench.show(&Records { story: "true", size: 40 }, 25);
    witness.check().await.expect("consistent");
    assert_eq!(witness.fault(), None);
}

#[tokio::test]
async fn a_history_that_was_rewritten_is_noticed_and_not_forgotten_by_a_restart() {
    let bench = Bench::new().await;
    let witness = bench.that_saw_ten().await;
    bench.show(&Records { story: "other", size: 25 }, 10);
    assert!(witness.check().await.is_err_and(|error| error.is_fault()));
    assert!(witness.fault().is_some_and(|fault| fault.contains("checkpoints.toml")));
    assert!(bench.witness().fault().is_some());
}

#[tokio::test]
async fn the_good_checkpoint_is_kept_when_a_later_one_is_not_proven() {
    let bench = Bench::new().await;
    let witness = bench.that_saw_ten().await;
    bench.show(&Records { story: "other", size: 25 }, 10);
    assert!(witness.check().await.is_err());
    bench.show(&Records { story: "true", size: 25 }, 10);
    assert!(witness.check().await.is_ok());
    assert!(witness.fault().is_some(), "only a person may say that it is well again");
}

#[tokio::test]
async fn a_log_that_lost_records_is_noticed() {
    let bench = Bench::new().await;
    let witness = bench.that_saw_ten().await;
    bench.show(&Records { story: "true", size: 9 }, 9);
    assert!(matches!(witness.check().await, Err(WitnessError::Proof(ProofError::SizesReversed { .. }))));
}

#[tokio::test]
async fn another_log_of_the_same_size_is_noticed() {
    let bench = Bench::new().await;
    let witness = bench.that_saw_ten().await;
    bench.show(&Records { story: "other", size: 10 }, 10);
    assert!(witness.check().await.is_err_and(|error| error.is_fault()));
}

#[tokio::test]
async fn another_key_of_the_same_name_is_noticed() {
    let mut bench = Bench::new().await;
    let witness = bench.that_saw_ten().await;
    bench.signer = signer();
    bench.show(&Records { story: "true", size: 25 }, 10);
    assert!(witness.check().await.is_err_and(|error| error.is_fault()));
}

#[tokio::test]
async fn a_log_that_grew_between_the_questions_is_proven_to_where_it_is() {
    let bench = Bench::new().await;
    let witness = bench.that_saw_ten().await;
    bench.show(&Records { story: "true", size: 25 }, 10);
    let claimed = bench.note(&Records { story: "true", size: 20 });
    bench.rig.broker.script.state().newest = Some(claimed);
    witness.check().await.expect("consistent");
    bench.rig.broker.script.state().newest = None;
    bench.show(&Records { story: "true", size: 25 }, 25);
    witness.check().await.expect("25 records were remembered");
}

#[tokio::test]
async fn a_broker_that_answers_without_a_proof_is_noticed_and_one_that_is_away_or_forbids_it_is_not_accused()
{
    for (reason, accused) in
        [(Reason::AccessDenied, false), (Reason::LedgerUnavailable, false), (Reason::RequestInvalid, true)]
    {
        let bench = Bench::new().await;
        let witness = bench.that_saw_ten().await;
        bench.show(&Records { story: "true", size: 25 }, 10);
        bench.rig.broker.script.state().unproven = Some(reason);
        let error = witness.check().await.expect_err("no proof");
        assert_eq!(error.is_fault(), accused, "{reason}");
    }
}

#[tokio::test]
async fn a_broker_that_is_away_is_not_accused() {
    let mut bench = Bench::new().await;
    let witness = bench.that_saw_ten().await;
    bench.rig.broker.kill();
    assert!(witness.check().await.is_err_and(|error| !error.is_fault()));
}

#[tokio::test]
async fn a_damaged_memory_is_a_fault() {
    let bench = Bench::new().await;
    std::fs::write(bench.folder.path().join("checkpoints.toml"), "log = 7").expect("written");
    let resumed = Witness::resume(bench.folder.path(), Arc::clone(&bench.rig.upstream), Metrics::default());
    assert!(matches!(resumed, Err(WitnessError::Damaged { .. })));
}
