use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use super::*;
use crate::config::Format;

/// What is hard to quote, in one way or another.
const ODD: [(&str, &str); 10] = [
    ("A_PLAIN", "postgres://db:5432/shop?sslmode=require"),
    ("B_EMPTY", ""),
    ("C_QUOTES", "it's \"so\" `whoami` $HOME \\n ${PATH} #no"),
    ("D_LINES", "first\nsecond\n\n"),
    ("E_BLANKS", "  = : ! leading and trailing \t "),
    ("F_UNICODE", "ключ é 🔑 \u{2028}\u{85}\u{feff}"),
    ("G_CONTROL", "\u{1}\u{7f}\r"),
    ("H_SINGLE", "double \" only, back\\slash"),
    ("I_NUMBER", "0123"),
    ("NO", "yes"),
];

fn output(content: Content) -> Output {
    Output { path: "out".to_owned(), mode: 0o400, content }
}

fn variables(entries: &[(&str, &[u8])]) -> Arc<Variables> {
    let variable = |(name, value): &(&str, &[u8])| {
        let value = Arc::new(Secret::new(value.to_vec()));
        ((*name).to_owned(), Variable { is_secret: true, value })
    };
    Arc::new(entries.iter().map(variable).collect())
}

fn odd() -> Arc<Variables> {
    variables(&ODD.map(|(name, value)| (name, value.as_bytes())))
}

fn listed(format: Format) -> String {
    let made = make(&output(Content::Listing { format, variables: None }), &odd()).expect("made");
    String::from_utf8(made.expose().to_vec()).expect("text")
}

fn template(text: &str, variables: &Arc<Variables>) -> Result<String, RenderError> {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("t.j2");
    std::fs::write(&path, text).expect("written");
    let made = make(&output(Content::Template(path)), variables)?;
    Ok(String::from_utf8(made.expose().to_vec()).expect("text"))
}

/// What is wrong with a template, without the path.
fn fault(text: &str, variables: &Arc<Variables>) -> String {
    let error = template(text, variables).expect_err("faulty").to_string();
    error.split_once(", ").expect("a place").1.to_owned()
}

#[test]
fn a_shell_reads_what_is_listed_as_env() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("app.env");
    std::fs::write(&file, listed(Format::Env)).expect("written");
    for (name, value) in ODD {
        let script = format!(". \"$1\"; printf %s \"${{{name}}}\"");
        let mut shell = Command::new("sh");
        shell.args(["-c", &script, "sh"]).arg(&file);
        let said = shell.output().expect("a shell");
        assert_eq!(String::from_utf8_lossy(&said.stdout), value, "{name}");
    }
}

#[test]
fn a_json_library_reads_what_is_listed_as_json() {
    let read: BTreeMap<String, String> = serde_json::from_str(&listed(Format::Json)).expect("json");
    assert_eq!(read, ODD.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
}

#[test]
fn yaml_is_a_line_of_two_json_texts_for_each() {
    for (line, (name, value)) in listed(Format::Yaml).lines().zip(ODD) {
        let (key, text) = line.split_once(": ").expect("a mapping");
        assert_eq!(serde_json::from_str::<String>(key).expect("json"), name);
        assert_eq!(serde_json::from_str::<String>(text).expect("json"), value);
        assert!(!text.contains(|character: char| character.is_control() || character == '\u{feff}'));
    }
}

#[test]
fn properties_are_ascii_on_a_line_each_and_nothing_in_them_means_anything() {
    let listed = listed(Format::Properties);
    assert_eq!(listed.lines().count(), ODD.len());
    assert!(listed.is_ascii());
    assert!(listed.contains("E_BLANKS=\\ \\ = : ! leading and trailing \\t \n"), "{listed}");
    assert!(
        listed.contains("F_UNICODE=\\u043a\\u043b\\u044e\\u0447 \\u00e9 \\ud83d\\udd11 \\u2028"),
        "{listed}"
    );
    assert!(listed.contains("H_SINGLE=double \" only, back\\\\slash\n"), "{listed}");
}

#[test]
fn what_is_listed_can_be_named_and_has_to_be_there() {
    let chosen =
        |name: &str| Content::Listing { format: Format::Env, variables: Some(vec![name.to_owned()]) };
    let made = make(&output(chosen("I_NUMBER")), &odd()).expect("made");
    assert!(made.ct_eq(b"I_NUMBER=0123\n"));
    let error = make(&output(chosen("MISSING")), &odd()).map(drop).expect_err("missing");
    assert_eq!(error.to_string(), "`out` names the variable `MISSING`, which the environment does not have");
}

#[test]
fn pem_blocks_follow_each_other_and_nothing_else_passes_for_one() {
    let key = "-----BEGIN PRIVATE KEY-----\nMC4=\n-----END PRIVATE KEY-----";
    let chain = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n\n";
    let half = "-----BEGIN CERTIFICATE-----\nMA==\n-----END PRIVATE KEY-----";
    let entries: [(&str, &[u8]); 4] = [
        ("KEY", key.as_bytes()),
        ("CHAIN", chain.as_bytes()),
        ("HALF", half.as_bytes()),
        ("TEXT", b"canary"),
    ];
    let pem = |names: &[&str]| {
        let variables = names.iter().map(ToString::to_string).collect();
        make(&output(Content::Pem { variables }), &self::variables(&entries))
    };
    assert!(pem(&["KEY", "CHAIN"]).expect("made").ct_eq(format!("{key}\n{}\n", chain.trim()).as_bytes()));
    for bad in ["HALF", "TEXT"] {
        let error = pem(&["KEY", bad]).map(drop).expect_err("no PEM").to_string();
        assert_eq!(error, format!("the variable `{bad}`, which goes into `out`, holds no PEM blocks"));
    }
}

#[test]
fn a_template_writes_secrets_as_they_are_and_by_the_filters_made_for_them() {
    let variables = variables(&[("P", b"a'b\"c\n"), ("BINARY", b"\xff\xfe\xfd\xfc")]);
    let text =
        "p={{ P }};{{ P | tojson }};{{ P | shell }};{{ BINARY | base64 }};{% if P %}there{% endif %}\n";
    let made = template(text, &variables).expect("made");
    assert_eq!(made, "p=a'b\"c\n;\"a'b\\\"c\\n\";\"a'b\\\"c\n\";//79/A==;there\n");
}

#[test]
fn literals_are_texts_and_secrets_are_not() {
    let literal = Variable { is_secret: false, value: Arc::new(Secret::from("debug".to_owned())) };
    let variables = Arc::new(BTreeMap::from([("LEVEL".to_owned(), literal)]));
    let made = template("{% if LEVEL == 'debug' %}verbose{% endif %}", &variables).expect("made");
    assert_eq!(made, "verbose");
}

#[test]
fn what_is_wrong_in_a_template_is_told_by_line_and_column_without_a_value() {
    let variables = variables(&[("P", b"canary"), ("BINARY", b"\xff")]);
    assert_eq!(fault("a\n  é {{ MISSING }}", &variables), "line 2, column 8: undefined value: `MISSING`");
    assert_eq!(fault("{{ P | int }}", &variables), "line 1, column 8: invalid operation: `int`");
    assert_eq!(fault("{{ P + 1 }}", &variables), "line 1, column 4: invalid operation: `P + 1`");
    assert_eq!(fault("{{ P | nofilter }}", &variables), "line 1, column 8: unknown filter: `nofilter`");
    assert_eq!(
        fault("x {{ BINARY }}", &variables),
        "line 1, column 6: `BINARY` is not UTF-8; use the filter `base64`"
    );
    assert_eq!(
        fault("{% include '/etc/passwd' %}", &variables),
        "line 1, column 4: syntax error: unknown statement include"
    );
    for text in [
        "{{ debug() }}",
        "{{ P | pprint }}",
        "{{ (P ~ 'x') | int }}",
        "{{ P }}{{ P.x }}",
        "{{ P | upper | int }}",
    ] {
        let fault = fault(text, &variables);
        assert!(!fault.to_lowercase().contains("canary"), "{fault}");
    }
}

#[test]
fn a_template_that_would_never_end_is_ended() {
    let endless = "{% for a in range(10000) %}{% for b in range(10000) %}{% endfor %}{% endfor %}";
    assert!(fault(endless, &variables(&[])).contains("out of fuel"));
}

#[test]
fn a_template_that_is_not_there_is_named() {
    let error = make(&output(Content::Template("/nowhere/t.j2".into())), &variables(&[]));
    assert_eq!(error.map(drop).expect_err("gone").to_string(), "the template `/nowhere/t.j2` cannot be read");
    assert!(!Path::new("/nowhere").exists());
}

#[test]
fn no_two_files_share_a_place_and_none_leaves_the_directory() {
    let file = || File { mode: 0o400, contents: Secret::new(Vec::new()) };
    let check = |paths: &[&str]| {
        check_paths(&paths.iter().map(|path| ((*path).to_owned(), file())).collect()).is_ok()
    };
    assert!(check(&["a", "b/c", "b/d", ".env", "b.c"]));
    for bad in [&["a", "a/b"][..], &["../a"], &["a/../b"], &["..data"], &["a//b"], &["/a"], &[""]] {
        assert!(!check(bad), "{bad:?}");
    }
}
