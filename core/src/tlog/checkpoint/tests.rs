use super::*;
use crate::tlog::fixtures::signer;

#[test]
fn a_checkpoint_has_the_text_of_the_specification() {
    let note = Checkpoint::sign(head(), &signer("example.com/behind-the-sofa")).to_string();
    let text = format!("example.com/behind-the-sofa\n20852163\n{ROOT}\n\n— example.com/behind-the-sofa ");
    assert!(note.starts_with(&text), "{note}");
}

#[test]
fn a_signed_checkpoint_opens_to_the_head_it_was_made_of() {
    let signer = signer("example.com/log");
    let checkpoint = Checkpoint::open(&Checkpoint::sign(head(), &signer).to_string(), signer.verifier());
    let checkpoint = checkpoint.expect("checkpoint");
    assert_eq!(checkpoint.origin(), "example.com/log");
    assert_eq!(checkpoint.head(), head());
    assert_eq!(checkpoint.extensions(), [""; 0]);
}

#[test]
fn extension_lines_are_kept_as_they_stand() {
    let opened = open(&format!("log\n3\n{ROOT}\n one \n\u{2014} two\n")).expect("checkpoint");
    assert_eq!(opened.extensions(), [" one ", "\u{2014} two"]);
}

#[test]
fn the_largest_and_the_smallest_size_are_read() {
    for size in [0, u64::MAX] {
        assert_eq!(open(&format!("log\n{size}\n{ROOT}\n")).expect("checkpoint").head().size, size);
    }
}

#[test]
fn each_fault_of_a_checkpoint_is_named() {
    let cases = [
        ("log\n3\n".to_owned(), CheckpointError::Lines),
        ("\n".to_owned(), CheckpointError::Lines),
        (format!("\n3\n{ROOT}\n"), CheckpointError::Origin),
        (format!("log\n\n{ROOT}\n"), CheckpointError::Size),
        (format!("log\n03\n{ROOT}\n"), CheckpointError::Size),
        (format!("log\n+3\n{ROOT}\n"), CheckpointError::Size),
        (format!("log\n-3\n{ROOT}\n"), CheckpointError::Size),
        (format!("log\n3 \n{ROOT}\n"), CheckpointError::Size),
        (format!("log\n0x3\n{ROOT}\n"), CheckpointError::Size),
        (format!("log\n18446744073709551616\n{ROOT}\n"), CheckpointError::Size),
        ("log\n3\n\n".to_owned(), CheckpointError::Root),
        (format!("log\n3\n{ROOT} \n"), CheckpointError::Root),
        (format!("log\n3\n{}\n", ROOT.replace('=', "")), CheckpointError::Root),
        (format!("log\n3\n{ROOT}\n\n"), CheckpointError::Extension),
        (format!("log\n3\n{ROOT}\none\n\ntwo\n"), CheckpointError::Extension),
    ];
    for (text, fault) in cases {
        assert_eq!(open(&text), Err(fault), "{text}");
    }
}

#[test]
fn the_checkpoint_of_another_log_by_the_same_key_is_refused() {
    let foreign = CheckpointError::Foreign { origin: "other".to_owned(), log: "log".to_owned() };
    assert_eq!(open(&format!("other\n3\n{ROOT}\n")), Err(foreign));
}

#[test]
fn an_unsigned_checkpoint_is_refused() {
    let text = format!("log\n3\n{ROOT}\n");
    let opened = Checkpoint::open(&text, signer("log").verifier());
    assert_eq!(opened, Err(CheckpointError::Note(NoteError::Unsigned)));
}

/// With the size in [`head`], from the example of the specification.
const ROOT: &str = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=";

/// What a log with this text, and a true signature under it, is taken for.
fn open(text: &str) -> Result<Checkpoint, CheckpointError> {
    let signer = signer("log");
    Checkpoint::open(&SignedNote::sign(text.to_owned(), &signer).to_string(), signer.verifier())
}

fn head() -> TreeHead {
    TreeHead { size: 20_852_163, root: Hash::parse(ROOT).expect("root") }
}
