use super::*;

/// The entries, with their values shown: those of these tests are no secrets.
fn shown(format: Format, text: &str) -> Result<Vec<String>, Fault> {
    let show = |secret: &Secret| String::from_utf8_lossy(secret.expose()).into_owned();
    let entry = |(name, entry): &Named<Entry>| match entry {
        Entry::Value(value) => format!("{name}={}", show(value)),
        Entry::Fields(fields) => {
            let fields: Vec<_> =
                fields.iter().map(|(name, value)| format!("{name}={}", show(value))).collect();
            format!("{name}({})", fields.join(","))
        }
    };
    Ok(format.read(text)?.iter().map(entry).collect())
}

fn refused(format: Format, text: &str) -> String {
    shown(format, text).expect_err("refused").to_string()
}

#[test]
fn a_line_of_an_env_file_is_a_name_and_what_stands_after_it() {
    let text = "# comment\n\nPLAIN=a b # comment\nexport HASH=a#b\nEMPTY=\nNONE= # nothing\n\
                SINGLE='a $HOME \\n # \"'\nDOUBLE=\"a\\n\\\"\\$HOME\\\\\" # comment\nDOLLAR=$HOME${X}\n\
                LINES='one\ntwo'\nLAST=\tend";
    assert_eq!(
        shown(Format::Env, text).expect("read"),
        [
            "PLAIN=a b",
            "HASH=a#b",
            "EMPTY=",
            "NONE=",
            "SINGLE=a $HOME \\n # \"",
            "DOUBLE=a\n\"$HOME\\",
            "DOLLAR=$HOME${X}",
            "LINES=one\ntwo",
            "LAST=end",
        ]
    );
    assert_eq!(shown(Format::Env, "\u{feff}A=1\r\nB=2\r\n").expect("read"), ["A=1", "B=2"]);
}

#[test]
fn what_an_env_file_could_mean_otherwise_is_refused_with_its_line() {
    assert_eq!(refused(Format::Env, "A='1\n2'\nhunter2\n"), "line 3: is not NAME=VALUE");
    assert!(refused(Format::Env, "A=1\nB C=2\n").starts_with("line 2: its name"));
    assert_eq!(refused(Format::Env, "\nA='x\n"), "line 2: its quote does not end");
    assert_eq!(refused(Format::Env, "A='x'y\n"), "line 1: has something after its closing quote");
    assert!(refused(Format::Env, "A=\"\\x\"\n").starts_with("line 1: has a `\\`"));
    assert_eq!(refused(Format::Env, "A=1\nA=2\n"), "`A` is there twice");
    assert_eq!(refused(Format::Env, "# nothing\n"), "it holds nothing");
}

#[test]
fn a_member_of_an_object_is_a_value_or_has_fields() {
    let text = r#"{"a":"x\ny","n":012.50,"l":[1, 2]}"#.replace("012.50", "12.50");
    assert_eq!(shown(Format::Json, &text).expect("read"), ["a=x\ny", "l=[1, 2]", "n=12.50"]);
    let text = r#"{"db":{"user":"u","more":{"deep":[1]}}}"#;
    assert_eq!(shown(Format::Json, text).expect("read"), ["db(more={\"deep\":[1]},user=u)"]);
    for text in ["", "[]", "\"hunter2\"", "{", "{\"a\":1} x"] {
        assert!(refused(Format::Json, text).starts_with("it is not one JSON object"), "{text}");
    }
    assert_eq!(refused(Format::Json, "{}"), "it holds nothing");
}

#[test]
fn a_scalar_of_yaml_is_the_text_that_was_written() {
    let text = "pin: 012345\nflag: no\nfloat: 1.10\nquoted: \"a\\nb\"\nblock: |\n  one\n  two\nempty: ''\n\
                db:\n  user: u\n  password: ~\n";
    assert_eq!(
        shown(Format::Yaml, text).expect("read"),
        [
            "pin=012345",
            "flag=no",
            "float=1.10",
            "quoted=a\nb",
            "block=one\ntwo\n",
            "empty=",
            "db(user=u,password=~)",
        ]
    );
}

#[test]
fn what_yaml_has_besides_is_refused_with_its_line_and_not_quoted() {
    for (text, fault) in [
        ("a: 1\nl:\n  - hunter2\n", "line 3: has a list; write it as a text"),
        ("a: &x hunter2\nb: *x\n", "line 2: has an alias; write the value itself"),
        ("hunter2", "line 1: is no mapping"),
        (
            "a:\n  b:\n    c: hunter2\n",
            "line 3: is nested three deep; a secret has fields, and those have values",
        ),
    ] {
        assert_eq!(refused(Format::Yaml, text), fault, "{text}");
    }
    let broken = refused(Format::Yaml, "a: 'hunter2\n");
    assert!(broken.starts_with("line ") && !broken.contains("hunter2"), "{broken}");
    assert_eq!(refused(Format::Yaml, "a: 1\na: 2\n"), "`a` is there twice");
}

#[test]
fn the_name_of_a_file_says_what_it_is() {
    for (name, format) in [
        (".env", Some(Format::Env)),
        (".env.production", Some(Format::Env)),
        ("app.env", Some(Format::Env)),
        ("a.JSON", None),
        ("secrets.json", Some(Format::Json)),
        ("secrets.yml", Some(Format::Yaml)),
        ("secrets", None),
    ] {
        assert_eq!(Format::of(Path::new(name)), format, "{name}");
    }
}
