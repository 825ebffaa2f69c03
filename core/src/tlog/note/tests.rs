use proptest::prelude::*;
use ring::rand::SystemRandom;
use ring::signature::Ed25519KeyPair;

use super::*;
use crate::tlog::fixtures::{PETER, signer};

/// From the C2SP signed-note specification.
const SPECIFICATION_KEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
const SPECIFICATION_NOTE: &str = "This is an example message.\n\n\
    — example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";

/// From the Go implementation, whose two example keys sign one text.
const TEXT: &str =
    "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
const BY_PETER: &str = "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
const BY_ENOCH: &str = "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n";
const ENOCH: &str = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop";

#[test]
fn the_note_of_the_specification_opens() {
    let note = SignedNote::parse(SPECIFICATION_NOTE).expect("note");
    assert_eq!(note.open(&verifier(SPECIFICATION_KEY)), Ok("This is an example message.\n"));
}

#[test]
fn a_note_is_signed_as_the_go_implementation_signs_it() {
    let note = SignedNote::sign(TEXT.to_owned(), &signer("PeterNeumann"));
    assert_eq!(note.to_string(), format!("{TEXT}\n{BY_PETER}"));
}

#[test]
fn either_of_two_signers_opens_a_note() {
    let note = SignedNote::parse(&format!("{TEXT}\n{BY_PETER}{BY_ENOCH}")).expect("note");
    assert_eq!(note.open(&verifier(PETER)), Ok(TEXT));
    assert_eq!(note.open(&verifier(ENOCH)), Ok(TEXT));
}

#[test]
fn a_note_reads_back_as_it_was_written() {
    for text in [format!("{TEXT}\n{BY_PETER}{BY_ENOCH}"), SPECIFICATION_NOTE.to_owned()] {
        assert_eq!(SignedNote::parse(&text).expect("note").to_string(), text);
    }
}

#[test]
fn the_last_blank_line_ends_the_text() {
    let text = "a\n\nb\n\n\n".to_owned();
    let note = SignedNote::sign(text.clone(), &signer("PeterNeumann")).to_string();
    assert_eq!(SignedNote::parse(&note).expect("note").open(&verifier(PETER)), Ok(text.as_str()));
}

#[test]
fn a_note_without_the_signature_asked_for_stays_shut() {
    let note = SignedNote::parse(&format!("{TEXT}\n{BY_ENOCH}")).expect("note");
    assert!(
        matches!(note.open(&verifier(PETER)), Err(NoteError::UnknownSigner { name, .. }) if name == "PeterNeumann")
    );
}

#[test]
fn another_key_of_the_same_name_is_unknown() {
    let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("key");
    let impostor = Signer::from_pkcs8("PeterNeumann", document.as_ref()).expect("signer");
    let note = SignedNote::sign(TEXT.to_owned(), &impostor);
    assert_eq!(note.open(impostor.verifier()), Ok(TEXT));
    assert!(matches!(note.open(&verifier(PETER)), Err(NoteError::UnknownSigner { .. })));
}

#[test]
fn a_changed_text_is_forged() {
    let note = SignedNote::parse(&format!("{}\n{BY_PETER}", TEXT.replace("don't", "do"))).expect("note");
    assert!(matches!(note.open(&verifier(PETER)), Err(NoteError::Forged { .. })));
}

#[test]
fn a_false_signature_after_a_true_one_shuts_the_note() {
    let false_one = BY_PETER.replace("UG/Sff", "UG/Sfg");
    let note = SignedNote::parse(&format!("{TEXT}\n{BY_PETER}{false_one}")).expect("note");
    assert!(matches!(note.open(&verifier(PETER)), Err(NoteError::Forged { .. })));
}

#[test]
fn each_fault_of_a_note_is_named() {
    let signed = format!("{TEXT}\n{BY_PETER}");
    let line = |number| NoteError::Line { number };
    let cases = [
        (String::new(), NoteError::Unsigned),
        (TEXT.to_owned(), NoteError::Unsigned),
        (format!("{TEXT}\n"), NoteError::Unsigned),
        (signed.trim_end().to_owned(), NoteError::Unsigned),
        (format!("{signed}Unexpected line.\n"), line(2)),
        (format!("{signed}\n"), NoteError::Unsigned),
        (format!("{TEXT}\n\n"), NoteError::Unsigned),
        (signed.replace("— ", "- "), line(1)),
        (signed.replace("— ", "—"), line(1)),
        (signed.replace("PeterNeumann", "Peter Neumann"), line(1)),
        (signed.replace("PeterNeumann", "Peter+Neumann"), line(1)),
        (signed.replace("PeterNeumann", ""), line(1)),
        (signed.replace("nAM=\n", "nAM\n"), line(1)),
        (format!("{TEXT}\n— PeterNeumann x08gow==\n"), line(1)),
        (format!("{TEXT}\n— PeterNeumann\n"), line(1)),
        (format!("\u{1}{signed}"), NoteError::ControlCharacter),
        (signed.replace('\n', "\r\n"), NoteError::ControlCharacter),
        (format!("{TEXT}\n{}", BY_PETER.repeat(101)), NoteError::TooManySignatures),
        (format!("{}{signed}", "a".repeat(256 * 1024)), NoteError::TooLong),
    ];
    for (note, fault) in cases {
        assert_eq!(SignedNote::parse(&note), Err(fault), "{note:.200}");
    }
}

#[test]
fn a_note_with_all_the_signatures_allowed_opens() {
    let note = SignedNote::parse(&format!("{TEXT}\n{}", BY_PETER.repeat(100))).expect("note");
    assert_eq!(note.open(&verifier(PETER)), Ok(TEXT));
}

proptest! {
    #[test]
    fn what_parses_is_written_as_it_was(note in "[a\n]{0,5}\n\n(— [a+ ]{1,3} [A-D=]{4,12}\n){1,3}") {
        if let Ok(parsed) = SignedNote::parse(&note) {
            prop_assert_eq!(parsed.to_string(), note);
        }
    }

    #[test]
    fn a_damaged_note_never_opens_to_another_text(position in 0..TEXT.len(), put in "\\PC|\n|") {
        let mut note = format!("{TEXT}\n{BY_PETER}");
        note.replace_range(position..=position, &put);
        if let Ok(parsed) = SignedNote::parse(&note) {
            prop_assert!(parsed.open(&verifier(PETER)).is_err() || note.starts_with(TEXT));
        }
    }
}

fn verifier(text: &str) -> Verifier {
    Verifier::parse(text).expect("verifier key")
}
