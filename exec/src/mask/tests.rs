use std::sync::Arc;

use bursar_core::Secret;
use bursar_core::secret::forms;
use proptest::prelude::*;

use super::*;

fn patterns(values: &[(&str, &str)]) -> Patterns {
    let secrets: Vec<_> = values.iter().map(|(_, value)| Secret::from((*value).to_owned())).collect();
    let named = values.iter().map(|(name, _)| *name).zip(&secrets);
    Patterns::new(named).expect("patterns")
}

fn sought(values: &[(&str, &str)]) -> Arc<Sought> {
    Arc::new(Sought::new(patterns(values)))
}

/// What comes out when `text` goes in, cut at `cuts`.
fn masked_in(sought: &Arc<Sought>, text: &[u8], cuts: &[usize]) -> Vec<u8> {
    let mut masker = Masker::new(Arc::clone(sought));
    let mut out = Vec::new();
    let mut at = 0;
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (text.len() + 1)).collect();
    cuts.push(text.len());
    cuts.sort_unstable();
    for cut in cuts {
        masker.push(&text[at..cut], &mut out);
        at = cut;
    }
    masker.release(&mut out);
    out
}

fn masked(values: &[(&str, &str)], text: &str) -> String {
    let sought = sought(values);
    let whole = masked_in(&sought, text.as_bytes(), &[]);
    let single: Vec<_> = (0..text.len()).collect();
    assert_eq!(masked_in(&sought, text.as_bytes(), &single), whole, "byte by byte it is another");
    String::from_utf8(whole).expect("text")
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[test]
fn a_value_becomes_its_name_wherever_it_stands() {
    let out = masked(&[("KEY", "hunter2")], "key=hunter2;hunter2hunter2 hunter hunte");
    assert_eq!(out, "key=[masked:KEY];[masked:KEY][masked:KEY] hunter hunte");
}

#[test]
fn values_that_overlap_become_one_mask() {
    assert_eq!(masked(&[("A", "abcdef"), ("B", "defghi")], "<abcdefghi>"), "<[masked:A]>");
    let ends_alike = [("LONG", "a secret"), ("SHORT", "secret")];
    assert_eq!(masked(&ends_alike, "a secret, secret"), "[masked:LONG], [masked:SHORT]");
    let within = [("IN", "cdef"), ("OUT", "abcdefgh")];
    assert_eq!(masked(&within, "abcdefgh abcdefgx"), "[masked:OUT] ab[masked:IN]gx");
    assert_eq!(masked(&[("R", "aaaa")], "aaaaaab"), "[masked:R]b");
}

#[test]
fn the_same_value_twice_goes_by_the_first_name_and_a_whole_value_by_its_own() {
    assert_eq!(masked(&[("A", "hunter2"), ("B", "hunter2")], "hunter2"), "[masked:A]");
    let values = [("A_URL", "pg://u:hunter2@h/x"), ("PASSWORD", "hunter2")];
    assert_eq!(masked(&values, "hunter2 pg://u:hunter2@h/x"), "[masked:PASSWORD] [masked:A_URL]");
}

#[test]
fn values_that_everything_has_are_passed_over_by_name() {
    let values = [("FLAG", "true"), ("PIN", "123"), ("EMPTY", ""), ("KEY", "hunter2")];
    assert_eq!(patterns(&values).passed_over(), ["FLAG", "PIN", "EMPTY"]);
    assert_eq!(masked(&values, "true 123 hunter2"), "true 123 [masked:KEY]");
}

#[test]
fn a_key_is_masked_whole_and_line_by_line() {
    let key = "-----BEGIN KEY-----\nMC4CAQAwBQYDK2Vw\nBCIEIAabcdefghij\n-----END KEY-----\n";
    let out = masked(&[("KEY", key)], key);
    assert_eq!(out, "[masked:KEY]");
    let out = masked(&[("KEY", key)], &key.replace('\n', "\r\n"));
    assert_eq!(out, "-----BEGIN KEY-----\r\n[masked:KEY]\r\n[masked:KEY]\r\n-----END KEY-----\r\n");
}

#[test]
fn base64_of_a_long_value_is_masked_as_it_is_broken_into_lines() {
    let value = "0123456789abcdefghijklmnopqrstuvwxyz".repeat(5);
    for columns in [76, 64] {
        let encoded = data_encoding::BASE64.encode(value.as_bytes());
        let lines: Vec<_> = encoded.as_bytes().chunks(columns).map(String::from_utf8_lossy).collect();
        let out = masked(&[("KEY", &value)], &lines.join("\n"));
        let shown = out.replace("[masked:KEY]", "");
        assert!(shown.len() < 8, "{shown}");
    }
}

#[test]
fn members_of_json_and_passwords_of_urls_are_values_too() {
    let json = r#"{"user":"u","password":"hun\"ter2","db":{"token":"deep-token"}}"#;
    assert_eq!(masked(&[("DB", json)], "hun\"ter2 deep-token u"), "[masked:DB] [masked:DB] u");
    let url = "postgres://app:p%40ssw0rd@db:5432/shop";
    assert_eq!(masked(&[("URL", url)], "p@ssw0rd p%40ssw0rd db:5432"), "[masked:URL] [masked:URL] db:5432");
}

#[test]
fn a_beginning_is_held_back_and_told_by_its_length() {
    let mut masker = Masker::new(sought(&[("KEY", "hunter2")]));
    let mut out = Vec::new();
    masker.push(b"Password: h", &mut out);
    assert_eq!(out, b"Password: ");
    let short = masker.patience().expect("held");
    masker.push(b"unte", &mut out);
    assert_eq!(out, b"Password: ");
    assert!(masker.patience().expect("held") > short);
    masker.push(b"r", &mut out);
    masker.push(b"!", &mut out);
    assert_eq!(out, b"Password: hunter!");
    assert_eq!(masker.patience(), None);
}

#[test]
fn the_rest_of_a_value_is_masked_although_its_beginning_was_released() {
    let mut masker = Masker::new(sought(&[("KEY", "hunter2")]));
    let mut out = Vec::new();
    masker.push(b"hu", &mut out);
    masker.release(&mut out);
    masker.push(b"nter2 and more", &mut out);
    assert_eq!(out, b"hu[masked:KEY] and more");
}

#[test]
fn a_value_that_is_new_is_masked_from_then_on_and_what_is_held_is_looked_at_anew() {
    let sought = sought(&[("KEY", "hunter2")]);
    let mut masker = Masker::new(Arc::clone(&sought));
    let mut out = Vec::new();
    masker.push(b"hunter2 new-one hunt", &mut out);
    assert_eq!(out, b"[masked:KEY] new-one ");
    sought.replace(patterns(&[("KEY", "new-one"), ("OTHER", "hunted")]));
    masker.push(b"ed new-one hunter2", &mut out);
    masker.release(&mut out);
    assert_eq!(out, b"[masked:KEY] new-one [masked:OTHER] [masked:KEY] hunter2");
}

#[test]
fn what_takes_too_much_memory_is_refused() {
    let value = Secret::from("x".repeat(9 << 20));
    assert!(matches!(Patterns::new([("HUGE", &value)]), Err(PatternsError::Limit)));
}

#[test]
fn formatting_shows_no_value() {
    let sought = sought(&[("KEY", "hunter2")]);
    let mut masker = Masker::new(Arc::clone(&sought));
    masker.push(b"hunt", &mut Vec::new());
    assert!(!format!("{sought:?} {masker:?}").contains("hunt"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// However it is written, whatever stands around it, and wherever it is cut.
    #[test]
    fn no_form_of_a_value_comes_out(
        value in "[!-~é ]{6,40}",
        form in any::<prop::sample::Index>(),
        before in prop::collection::vec(any::<u8>(), 0..80),
        after in prop::collection::vec(any::<u8>(), 0..80),
        cuts in prop::collection::vec(any::<usize>(), 0..12),
    ) {
        let all = forms(value.as_bytes());
        let form = &all[form.index(all.len())].text;
        let text = [&before, form.as_slice(), &after].concat();
        let out = masked_in(&sought(&[("A_NAME", &value)]), &text, &cuts);
        prop_assert!(!contains(&out, form), "{:?}", String::from_utf8_lossy(&out));
        prop_assert!(contains(&out, b"[masked:A_NAME]"));
    }

    #[test]
    fn what_holds_no_value_comes_out_as_it_went_in(
        text in prop::collection::vec(any::<u8>(), 0..4000),
        cuts in prop::collection::vec(any::<usize>(), 0..12),
    ) {
        let out = masked_in(&sought(&[("KEY", "correct horse battery staple")]), &text, &cuts);
        prop_assert_eq!(out, text);
    }

    /// Short alphabets, so that beginnings overlap in every way.
    #[test]
    fn however_it_is_cut_the_same_comes_out(
        values in prop::collection::vec("[ab]{4,9}", 1..4),
        text in "[abc]{0,120}",
        cuts in prop::collection::vec(any::<usize>(), 0..20),
    ) {
        let named: Vec<_> = values.iter().map(|value| ("X", value.as_str())).collect();
        let sought = sought(&named);
        let out = masked_in(&sought, text.as_bytes(), &cuts);
        prop_assert_eq!(&out, &masked_in(&sought, text.as_bytes(), &[]));
        let shown = String::from_utf8_lossy(&out).replace("[masked:X]", "#");
        prop_assert!(values.iter().all(|value| !shown.contains(value.as_str())), "{}", shown);
    }
}
