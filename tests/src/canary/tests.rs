use std::fs;
use std::os::unix::fs::symlink;

use super::*;

/// The forms in which `text` holds the canary.
fn found(canary: &Canary, text: &str) -> Vec<&'static str> {
    let findings = scan_bytes("text", text.as_bytes(), &[canary]).unwrap();
    findings.into_iter().map(|finding| finding.form).collect()
}

fn awkward() -> Canary {
    Canary::known("stripe key", r#"a"b\c/d+e%f&g<h>i~j"#).unwrap()
}

#[test]
fn a_value_is_found_at_its_offset() {
    let text = format!("token={}", awkward().value());
    let findings = scan_bytes("log", text.as_bytes(), &[&awkward()]).unwrap();
    let expected = Finding {
        canary: "stripe key".to_owned(),
        form: "in plain text",
        place: "log".to_owned(),
        offset: 6,
    };
    assert_eq!(findings, [expected]);
}

#[test]
fn a_value_is_found_in_base64_at_every_alignment() {
    // As base64(1) encodes it: alone, after `x`, after `xy`, and the last in the alphabet for URLs.
    for text in [
        "YSJiXGMvZCtlJWYmZzxoPml+ag==",
        "eGEiYlxjL2QrZSVmJmc8aD5pfmp6enp6",
        "eHlhImJcYy9kK2UlZiZnPGg+aX5qenp6eg==",
        "eHlhImJcYy9kK2UlZiZnPGg-aX5qenp6eg",
    ] {
        assert_eq!(found(&awkward(), text), ["in base64"], "{text}");
    }
}

#[test]
fn a_value_is_found_in_hex_of_either_case() {
    assert_eq!(found(&awkward(), "x'6122625c632f642b65256626673c683e697e6a'"), ["in hex"]);
    assert_eq!(found(&awkward(), "6122625C632F642B65256626673C683E697E6A"), ["in hex"]);
}

#[test]
fn a_value_is_found_url_escaped_in_either_case() {
    assert_eq!(found(&awkward(), "?q=a%22b%5Cc%2Fd%2Be%25f%26g%3Ch%3Ei~j"), ["URL-escaped"]);
    assert_eq!(found(&awkward(), "?q=a%22b%5cc%2fd%2be%25f%26g%3ch%3ei~j"), ["URL-escaped"]);
}

#[test]
fn a_value_is_found_as_json_libraries_escape_it() {
    assert_eq!(found(&awkward(), r#"{"v":"a\"b\\c/d+e%f&g<h>i~j"}"#), ["JSON-escaped"]);
    assert_eq!(found(&awkward(), r#"{"v":"a\"b\\c\/d+e%f&g<h>i~j"}"#), ["JSON-escaped"]);
    assert_eq!(found(&awkward(), r#"{"v":"a\"b\\c/d+e%f\u0026g\u003ch\u003ei~j"}"#), ["JSON-escaped"]);
}

#[test]
fn a_value_is_found_as_debug_prints_bytes() {
    let canary = awkward();
    assert_eq!(found(&canary, &format!("{:?}", canary.value().as_bytes())), ["as numbers"]);
    assert_eq!(found(&canary, &format!("{:?}", canary.value())), ["JSON-escaped"]);
}

#[test]
fn half_a_value_is_not_the_value() {
    let canary = Canary::random("half");
    let half: String = canary.value().chars().take(20).collect();
    assert_eq!(found(&canary, &half), Vec::<&str>::new());
}

#[test]
fn a_value_is_found_in_a_file_larger_than_any_buffer() {
    let directory = tempfile::tempdir().unwrap();
    let canary = Canary::random("deep");
    fs::create_dir(directory.path().join("sub")).unwrap();
    let path = directory.path().join("sub/core");
    let mut bytes = vec![0xff; 300_001];
    bytes.extend_from_slice(canary.value().as_bytes());
    fs::write(&path, bytes).unwrap();
    let findings = scan(directory.path(), &[&canary]).unwrap();
    let places: Vec<_> = findings.iter().map(|finding| (finding.place.as_str(), finding.offset)).collect();
    assert_eq!(places, [(path.to_str().unwrap(), 300_001)]);
}

#[test]
fn a_value_in_a_file_name_is_found_and_not_repeated() {
    let directory = tempfile::tempdir().unwrap();
    let canary = Canary::alphanumeric("name");
    fs::write(directory.path().join(canary.value()), canary.value()).unwrap();
    let findings = scan(directory.path(), &[&canary]).unwrap();
    assert_eq!(findings.len(), 1);
    assert!(!format!("{findings:?} {}", findings[0]).contains(canary.value()), "a finding shows the value");
}

#[test]
fn a_value_in_the_target_of_a_link_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let canary = Canary::alphanumeric("link");
    symlink(format!("/nowhere/{}", canary.value()), directory.path().join("link")).unwrap();
    let findings = scan(directory.path(), &[&canary]).unwrap();
    assert_eq!(findings.iter().map(|finding| finding.offset).collect::<Vec<_>>(), [9]);
}

#[test]
fn a_form_is_reported_once_a_file_and_for_each_canary() {
    let (one, other) = (Canary::random("one"), Canary::random("other"));
    let text = format!("{0} {1} {0} {1}", one.value(), other.value());
    let findings = scan_bytes("log", text.as_bytes(), &[&one, &other]).unwrap();
    assert_eq!(findings.iter().map(|finding| finding.canary.as_str()).collect::<Vec<_>>(), ["one", "other"]);
}

#[test]
fn a_search_of_nothing_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let canary = Canary::random("any");
    scan(directory.path(), &[&canary]).unwrap_err();
    scan(&directory.path().join("missing"), &[&canary]).unwrap_err();
    scan_bytes("log", b"text", &[]).unwrap_err();
}

#[test]
fn a_value_that_is_too_short_is_refused_by_name_only() {
    let error = Canary::known("pin", "1234").unwrap_err().to_string();
    assert_eq!(error, "the value of `pin` has fewer than 8 bytes: too few to search for");
}

#[test]
fn formatting_shows_the_name_only() {
    assert_eq!(format!("{:?}", awkward()), r#"Canary { name: "stripe key", .. }"#);
}
