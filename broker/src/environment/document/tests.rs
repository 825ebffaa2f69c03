use proptest::prelude::*;

use super::*;
use crate::environment::Position;

fn faults(text: &str) -> Vec<String> {
    parse(text).expect_err("refused").iter().map(ToString::to_string).collect()
}

fn definition(entries: &str) -> Definition {
    parse(&format!("[environment.e]\n{entries}")).expect("document").remove(0)
}

macro_rules! bad_document {
    ($name:ident, $file:literal) => {
        #[test]
        fn $name() {
            let found = faults(include_str!(concat!("../testdata/", $file, ".toml"))).join("\n");
            assert_eq!(found.trim(), include_str!(concat!("../testdata/", $file, ".faults")).trim());
        }
    };
}
bad_document!(every_bad_name_is_a_fault, "bad-names");
bad_document!(every_bad_value_is_a_fault, "bad-values");
bad_document!(every_unknown_key_is_a_fault, "bad-keys");
bad_document!(text_that_is_no_toml_is_a_fault_that_does_not_quote_it, "bad-syntax");
bad_document!(a_document_without_environments_says_how_to_begin_one, "bad-empty");

#[test]
fn a_good_document_is_written_in_one_way() {
    let definitions = parse(include_str!("../testdata/good.toml")).expect("document");
    let written: Vec<_> = definitions.iter().map(Definition::to_toml).collect();
    assert_eq!(written.join("\n"), include_str!("../testdata/good.normal.toml"));
}

#[test]
fn environments_come_in_the_order_of_the_document() {
    let definitions =
        parse("environment.b = {}\nenvironment.c = {}\nenvironment.a = {}\n").expect("document");
    assert_eq!(definitions.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["b", "c", "a"]);
}

#[test]
fn a_position_counts_characters() {
    let found = parse("[environment.e.vars]\nÄ = \"é\"\n").expect_err("refused");
    let quoted =
        parse("[environment.e]\nfiles = { \"é\" = { content = \"\" }, \"/\" = { content = \"\" } }\n");
    let quoted = quoted.expect_err("refused");
    assert_eq!(found[0].position, Some(Position { line: 2, column: 1 }));
    assert_eq!(quoted[0].position, Some(Position { line: 2, column: 35 }));
}

#[test]
fn a_wrong_value_is_not_shown() {
    let text = "[environment.e.vars]\nA = [\"canary\"]\nB = { from = [\"canary\"] }\nC = { compose = \"canary ${\" }\n\
                D = \"canary ${x}\"\n[environment.e.files]\nf = \"canary\"\n";
    let found = faults(text);
    assert_eq!(found.len(), 5, "{found:?}");
    assert!(!format!("{found:?}").contains("canary"), "{found:?}");
}

#[test]
fn a_document_is_limited_in_size() {
    let text = format!("[environment.e.vars]\nA = '{}'\n", "x".repeat(MAX_DOCUMENT));
    assert_eq!(faults(&text).len(), 1);
    assert!(faults(&text)[0].contains("at most 1048576"));
}

#[test]
fn an_environment_is_limited_in_its_written_form() {
    let around = "environment.e.files.f.content=''".len();
    let text = format!("environment.e.files.f.content='{}'", "x".repeat(MAX_DOCUMENT - around));
    let found = faults(&text);
    assert_eq!(found.len(), 1, "the text itself is short enough, what is written of it is not");
    assert!(found[0].starts_with("line 1, column 13: environment.e: takes "), "{found:?}");
}

#[test]
fn a_variable_is_limited_to_what_execve_carries() {
    let literal = |bytes| format!("[environment.e.vars]\nABC = '{}'\n", "x".repeat(bytes));
    assert!(parse(&literal(MAX_VARIABLE - 3)).is_ok());
    assert_eq!(faults(&literal(MAX_VARIABLE - 2)).len(), 1);
}

#[test]
fn entries_are_limited_in_number() {
    let vars = |count| (0..count).map(|n| format!("vars.V{n} = ''\n")).collect::<String>();
    assert_eq!(definition(&vars(1000)).vars.len(), 1000);
    let text = format!("[environment.e]\n{}", vars(1001));
    assert_eq!(
        faults(&text),
        ["line 2, column 1: environment.e.vars: has 1001 entries; at most 1000 are allowed"]
    );
}

#[test]
fn faults_past_a_hundred_are_counted() {
    let text: String = (0..150).map(|n| format!("environment.e.vars.V{n} = 1\n")).collect();
    let found = faults(&text);
    assert_eq!((found.len(), found[100].as_str()), (101, "has 50 faults more"));
}

#[test]
fn a_file_is_its_owners_unless_it_says_otherwise() {
    let definition = definition("files.f = { from = 'v/f' }\n");
    let modes: Vec<_> = definition.files.values().map(|file| file.mode.bits()).collect();
    assert_eq!(modes, [0o400]);
}

#[test]
fn a_copy_is_kept_for_a_second_to_a_week_or_not_at_all() {
    for (longest, seconds) in [("1s", 1), ("8h", 28_800), ("168h", 604_800), ("7d", 604_800)] {
        let found = definition(&format!("offline = '{longest}'\n")).offline;
        assert_eq!(found, Some(Duration::from_secs(seconds)), "`{longest}`");
    }
    assert_eq!(definition("").offline, None);
    for longest in ["'0s'", "'169h'", "'-1h'", "'always'", "''", "true", "8"] {
        assert_eq!(faults(&format!("[environment.e]\noffline = {longest}\n")).len(), 1, "{longest}");
    }
}

#[test]
fn a_limit_on_age_is_a_second_to_a_year() {
    let entry = |limit: &str| format!("vars.A = {{ from = 'v/a', max_stale = '{limit}' }}\n");
    for (limit, seconds) in [("1s", 1), ("10m", 600), ("1h 30m", 5_400), ("8760h", 31_536_000)] {
        let found =
            definition(&entry(limit)).vars.into_values().next().and_then(|entry| entry.contract.max_stale);
        assert_eq!(found, Some(Duration::from_secs(seconds)), "`{limit}`");
    }
    for limit in ["0s", "999ms", "-1s", "8761h", "1 year", "10", ""] {
        assert_eq!(
            faults(&format!("[environment.e]\n{}", entry(limit))).len(),
            1,
            "`{limit}` must be refused"
        );
    }
}

#[test]
fn an_empty_table_of_environments_is_a_fault() {
    assert_eq!(faults("[environment]\n"), [NO_ENVIRONMENT]);
}

#[test]
fn deep_nesting_is_a_fault_and_no_overflow() {
    let text = format!("environment = {}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(faults(&text).len(), 1);
}

fn any_entry() -> impl Strategy<Value = String> {
    let name = "[A-Z]{1,4}[0-9]";
    let literal = "\\PC{0,20}|[ -~\t\r\n\"'\\\\é]{0,20}".prop_map(|text| text.replace("${", "$ {"));
    let compose = "([^$\\x00]|\\$\\$\\{|\\$\\{[A-Z]{1,3}\\}|\\$\\{v/[a-z]{1,3}#[a-z]\\}){0,5}";
    let contract = prop_oneof![Just(""), Just(", on_change = 'hook'"), Just(", max_stale = '90m'")];
    let quoted = |text: &str| toml::Value::from(text).to_string();
    prop_oneof![
        (name, literal.clone()).prop_map(move |(name, text)| format!("vars.{name}L = {}\n", quoted(&text))),
        (name, "[a-z]{1,5}(#[a-z]{1,3})?(@[0-9])?", contract.clone())
            .prop_map(|(name, path, contract)| format!("vars.{name}F = {{ from = 'v/{path}'{contract} }}\n")),
        (name, compose, contract).prop_map(move |(name, text, contract)| format!(
            "vars.{name}C = {{ compose = {}{contract} }}\n",
            quoted(&text)
        )),
        ("[^\\p{Cc}/.]{1,9}", literal, "0[0-7]{3}").prop_map(move |(path, text, mode)| format!(
            "files.{} = {{ content = {}, mode = '{mode}' }}\n",
            quoted(&path),
            quoted(&text)
        )),
    ]
}

proptest! {
    #[test]
    fn parsing_never_panics(text in "\\PC{0,60}|(\\[environment\\.[a\"/]{1,3}(\\.vars|\\.files)?\\]\n([A\"]{1,2} = [\\{\\}\\[\\]a-z\"=$ ]{0,20}\n){0,3}){1,2}") {
        if let Err(faults) = parse(&text) {
            prop_assert!(faults.iter().all(|fault| !fault.message.is_empty()) && !faults.is_empty());
        }
    }

    #[test]
    fn what_is_written_reads_the_same(entries in proptest::collection::hash_set(any_entry(), 0..8)) {
        let text = format!("[environment.\"a/b\"]\nextends = ['c/d', 'e']\n{}", entries.into_iter().collect::<String>());
        let read = parse(&text);
        prop_assume!(read.is_ok(), "two entries of one name are no TOML");
        let read = read.expect("document");
        let written = read[0].to_toml();
        let again = parse(&written).expect("what was written");
        prop_assert_eq!(&again, &read);
        prop_assert_eq!(again[0].to_toml(), written);
    }
}
