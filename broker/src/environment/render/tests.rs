use std::cell::RefCell;

use proptest::prelude::*;

use super::*;
use crate::environment::{document, flatten};

fn flat(entries: &str) -> Flat {
    let text = format!("[environment.e]\n{entries}");
    let definition = Arc::new(document::parse(&text).expect("document").remove(0));
    flatten("e", |_| Some(Arc::clone(&definition))).expect("flat")
}

fn secret(value: &[u8]) -> Option<Arc<Secret>> {
    Some(Arc::new(Secret::new(value.to_vec())))
}

/// Renders with one value for every reference.
fn render(entries: &str, value: &[u8]) -> Result<Rendered, RenderError> {
    flat(entries).render(|_| secret(value))
}

fn refused(entries: &str, value: &[u8]) -> RenderError {
    render(entries, value).expect_err("refused")
}

fn variable(rendered: &Rendered, name: &str, expected: &[u8]) -> bool {
    let name = VariableName::parse(name).expect("name");
    rendered.vars.get(&name).is_some_and(|value| value.ct_eq(expected))
}

fn file(rendered: &Rendered, path: &str, expected: &[u8]) -> bool {
    rendered.files.get(path).is_some_and(|value| value.ct_eq(expected))
}

#[test]
fn values_are_put_into_their_places() {
    let entries = "vars.LEVEL = 'info'\nvars.USER = { from = 'v/a#user' }\n\
                   vars.URL = { compose = 'pg://${USER}:${v/a#password}@db $${USER}' }\n\
                   files.'a/b' = { from = 'v/a#key' }\nfiles.c = { compose = \"${URL}\\n\" }\n\
                   files.d = { content = '${x}' }\n";
    let rendered = flat(entries).render(|reference| {
        let field = reference.field.as_ref().expect("field").as_str();
        secret(field.to_uppercase().as_bytes())
    });
    let rendered = rendered.expect("rendered");
    assert!(variable(&rendered, "LEVEL", b"info"));
    assert!(variable(&rendered, "USER", b"USER"));
    assert!(variable(&rendered, "URL", b"pg://USER:PASSWORD@db ${USER}"));
    assert!(file(&rendered, "a/b", b"KEY"));
    assert!(file(&rendered, "c", b"pg://USER:PASSWORD@db ${USER}\n"));
    assert!(file(&rendered, "d", b"${x}"));
}

#[test]
fn compositions_of_compositions_are_made_in_their_order() {
    let entries = "vars.A = { compose = '<${B}>' }\nvars.B = { compose = '(${C}${C})' }\nvars.C = { compose = '${v/c}' }\n";
    let rendered = render(entries, b"x").expect("rendered");
    assert!(variable(&rendered, "A", b"<(xx)>"));
}

#[test]
fn what_a_value_holds_is_not_read_as_a_composition() {
    let rendered = render("vars.A = { compose = '${v/a}' }\nvars.B = 'b'\n", b"${B} $${").expect("rendered");
    assert!(variable(&rendered, "A", b"${B} $${"));
}

#[test]
fn a_value_is_bytes() {
    let rendered = render("vars.A = { compose = 'é${v/a}' }\n", b"\xff\xfe").expect("rendered");
    assert!(variable(&rendered, "A", b"\xc3\xa9\xff\xfe"));
}

#[test]
fn a_value_that_is_used_as_it_is_is_not_copied() {
    let value = secret(b"x").expect("secret");
    let rendered =
        flat("vars.A = { from = 'v/a' }\n").render(|_| Some(Arc::clone(&value))).expect("rendered");
    assert!(rendered.vars.values().all(|rendered| Arc::ptr_eq(rendered, &value)));
}

#[test]
fn a_nul_is_refused_in_a_variable_and_fine_in_a_file() {
    for source in ["{ from = 'v/a' }", "{ compose = 'x${v/a}' }"] {
        let name = VariableName::parse("A").expect("name");
        assert_eq!(refused(&format!("vars.A = {source}\n"), b"a\0b"), RenderError::Nul { name });
        assert!(render(&format!("files.f = {source}\n"), b"a\0b").is_ok());
    }
}

#[test]
fn a_value_that_was_not_read_is_named() {
    let flat = flat("vars.A = 'a'\nfiles.f = { compose = '${v/x#y}' }\n");
    let error = flat.render(|_| None).expect_err("refused").to_string();
    assert_eq!(error, "file `f` needs `v/x#y`, which was not read");
}

#[test]
fn a_variable_is_limited_to_what_execve_carries() {
    assert!(render("vars.ABC = { from = 'v/a' }\n", &[b'x'; MAX_VARIABLE - 3]).is_ok());
    let error = refused("vars.ABC = { from = 'v/a' }\n", &[b'x'; MAX_VARIABLE - 2]);
    assert!(matches!(error, RenderError::TooLong { bytes, .. } if bytes == MAX_VARIABLE - 2));
}

#[test]
fn values_that_multiply_at_each_step_are_refused_early() {
    let multiply =
        |n: usize| format!("vars.V{n:02} = {{ compose = '{}' }}\n", format!("${{V{:02}}}", n + 1).repeat(64));
    let entries = format!("{}vars.V16 = 'x'\n", (0..16).map(multiply).collect::<String>());
    assert!(matches!(refused(&entries, b""), RenderError::TooLong { .. } | RenderError::TooLarge { .. }));
}

#[test]
fn all_values_together_are_limited() {
    let files =
        |count: usize| (0..count).map(|n| format!("files.f{n} = {{ from = 'v/a' }}\n")).collect::<String>();
    assert!(render(&files(4), &[b'x'; 1 << 20]).is_ok());
    let error = refused(&files(5), &[b'x'; 1 << 20]);
    assert!(matches!(&error, RenderError::TooLarge { entry } if entry.to_string() == "file `f4`"), "{error}");
}

#[test]
fn only_what_is_listed_as_a_reference_is_asked_for() {
    let flat = flat(
        "vars.A = { from = 'v/a#x' }\nvars.B = { compose = '${v/b}${A}' }\nfiles.f = { from = 'v/c' }\n",
    );
    let asked = RefCell::new(Vec::new());
    let rendered = flat.render(|reference| {
        asked.borrow_mut().push(reference.clone());
        secret(b"")
    });
    assert!(rendered.is_ok());
    let mut asked = asked.into_inner();
    asked.sort();
    assert_eq!(asked, flat.references().into_values().flatten().collect::<Vec<_>>());
}

#[test]
fn no_value_is_in_any_debug_or_error() {
    let canary = b"canary-7f3a\0";
    let entries = "vars.A = { compose = '${v/a}' }\n";
    let error = refused(entries, canary);
    let rendered = render("files.f = { from = 'v/a' }\nvars.B = 'canary'\n", canary).expect("rendered");
    let shown = format!("{error} {error:?} {rendered:?} {:?}", flat(entries));
    assert!(!shown.contains("canary"), "{shown}");
    assert!(shown.contains("`f`") && shown.contains("`B`"), "{shown}");
}

#[derive(Debug, Clone)]
enum Word {
    Text(String),
    Variable(usize),
    Reference(usize),
}

fn any_word() -> impl Strategy<Value = Word> {
    prop_oneof![
        "[a-z{} é]{0,6}|\\$\\{?".prop_map(Word::Text),
        (0_usize..4).prop_map(Word::Variable),
        (0_usize..4).prop_map(Word::Reference),
    ]
}

proptest! {
    #[test]
    fn rendering_is_substitution(
        rows in proptest::collection::vec(proptest::collection::vec(any_word(), 0..6), 1..5),
        values in proptest::collection::vec("[^\\x00]{0,8}", 4),
    ) {
        let mut entries = String::new();
        let mut expected: Vec<String> = Vec::new();
        for (index, row) in rows.iter().enumerate() {
            let mut compose = String::new();
            let mut value = String::new();
            for word in row {
                match word {
                    // A dollar that ends a text would become part of the next placeholder.
                    Word::Text(text) if text == "$" => {}
                    Word::Text(text) => {
                        compose.push_str(&text.replace("${", "$${"));
                        value.push_str(text);
                    }
                    // Only variables of earlier rows, so that there is no circle.
                    Word::Variable(other) if *other < index => {
                        compose.push_str(&format!("${{V{other}}}"));
                        value.push_str(&expected[*other]);
                    }
                    Word::Variable(_) => {}
                    Word::Reference(number) => {
                        compose.push_str(&format!("${{v/s#f{number}}}"));
                        value.push_str(&values[*number]);
                    }
                }
            }
            entries.push_str(&format!("vars.V{index} = {{ compose = {} }}\n", toml::Value::from(compose)));
            expected.push(value);
        }
        let rendered = flat(&entries).render(|reference| {
            let field = reference.field.as_ref().expect("field").as_str();
            let number: usize = field.trim_start_matches('f').parse().expect("number");
            secret(values[number].as_bytes())
        });
        let rendered = rendered.expect("rendered");
        for (index, value) in expected.iter().enumerate() {
            prop_assert!(variable(&rendered, &format!("V{index}"), value.as_bytes()), "V{} of {}", index, entries);
        }
    }
}
