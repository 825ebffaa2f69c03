use bech32::{Bech32m, Checksum};

use super::*;
use crate::offline::testing::GIVEN;

fn made() -> Secret {
    generate(GIVEN).expect("made")
}

fn refused(content: &str) -> &'static str {
    Identity::parse(content.as_bytes()).expect_err("refused")
}

fn written<C: Checksum>(key: &[u8]) -> String {
    let mut line = String::new();
    bech32::encode_upper_to_fmt::<C, String>(&mut line, HRP, key).expect("encoded");
    line
}

fn file(content: &[u8], mode: u32) -> (tempfile::TempDir, std::path::PathBuf) {
    let place = tempfile::tempdir().expect("directory");
    let path = place.path().join("offline.key");
    std::fs::write(&path, content).expect("file");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("mode");
    (place, path)
}

#[test]
fn what_is_made_reads_back_and_is_another_each_time() {
    let (one, other) = (made(), made());
    let key = |made: &Secret| Identity::parse(made.expose()).expect("an identity").keys.remove(0);
    assert!(key(&one).len() == KEY && !key(&one).ct_eq(key(&other).expose()));
    let text = str::from_utf8(one.expose()).expect("text");
    assert!(text.starts_with("# created: 2026-01-01T00:00:00Z\n") && text.len() < ROOM, "it did not grow");
    assert!(text.lines().last().is_some_and(|line| line.starts_with(PREFIX) && line.len() == 74));
}

#[test]
fn an_identity_is_the_bytes_that_are_written_in_it() {
    let key: Vec<u8> = (0..32).map(|byte| byte * 7).collect();
    let read = Identity::parse(written::<Bech32>(&key).as_bytes()).expect("an identity");
    assert!(read.keys[0].ct_eq(&key));
}

#[test]
fn every_identity_of_a_file_is_read_between_comments_and_empty_lines() {
    let content = [made().expose(), b"\r\n\n# mine\n", made().expose()].concat();
    assert_eq!(Identity::parse(&content).expect("identities").keys.len(), 2);
}

#[test]
fn what_is_no_identity_is_told_in_words_without_it() {
    let made = made();
    let text = str::from_utf8(made.expose()).expect("text");
    let line = text.lines().last().expect("a line");
    let (head, last) = line.split_at(line.len() - 1);
    let mistyped = format!("{head}{}", if last == "Q" { "P" } else { "Q" });
    let none = "a line begins as an identity and is none";
    assert_eq!(refused(&mistyped), none);
    assert_eq!(refused(head), none, "one character is missing");
    assert_eq!(refused("AGE-SECRET-KEY-1"), none);
    assert_eq!(refused(&written::<Bech32>(&[7; 31])), none);
    assert_eq!(refused(&written::<Bech32m>(&[7; 32])), none, "another checksum");
    assert_eq!(refused("# nothing\n\n"), "there is no identity in it");
    assert!(refused("AGE-PLUGIN-YUBIKEY-1QQQ\n").contains("plugins"));
    assert!(refused("AGE-SECRET-KEY-PQ-1QQQ\n").contains("alone"));
    assert!(refused("hunter2\n").contains("neither"));
    assert!(refused("age-encryption.org/v1\n-> scrypt").contains("age -d"));
    assert!(refused("-----BEGIN AGE ENCRYPTED FILE-----\n").contains("age -d"));
    assert_eq!(Identity::parse(b"\xff").err(), Some("it is not UTF-8"));
}

#[test]
fn an_identity_that_others_may_read_is_refused() {
    let made = made();
    for mode in [0o604, 0o640, 0o660] {
        let (_place, path) = file(made.expose(), mode);
        let refused = Identity::load(&path);
        assert!(matches!(refused, Err(Error::Offline(OfflineError::OpenIdentity { .. }))), "{mode:o}");
    }
    let (_place, path) = file(made.expose(), 0o600);
    assert!(Identity::load(&path).is_ok());
    let missing = Identity::load(Path::new("/nowhere/offline.key"));
    assert!(matches!(missing, Err(Error::Offline(OfflineError::NoIdentity { .. }))));
}
