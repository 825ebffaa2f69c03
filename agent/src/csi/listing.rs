//! Lists in the parameters of a SecretProviderClass: YAML, of which JSON is a part. Each entry is a mapping of texts, or of
//! lists of texts.
//!
//! A scalar is the text that was written, whatever type YAML would give it: a mode keeps its zeros. Aliases, by which a
//! short text can mean a very long one, are refused.

use std::collections::BTreeMap;

use yaml_rust2::Event;
use yaml_rust2::parser::Parser;

/// One entry, by its keys.
pub(super) type Entry = BTreeMap<String, Field>;

/// What stands under a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Field {
    Text(String),
    List(Vec<String>),
}

/// Reads a list.
///
/// # Errors
/// What is wrong, and in which line.
pub(super) fn entries(text: &str) -> Result<Vec<Entry>, String> {
    let mut reader = Reader::default();
    let mut parser = Parser::new_from_str(text);
    // One by one: the parser's own loop goes one call deeper for each list within a list.
    while reader.place != Place::After {
        let (event, mark) = match parser.next_token() {
            Ok(event) => event,
            Err(error) => return Err(format!("line {}: is not YAML", error.marker().line())),
        };
        if event == Event::StreamEnd {
            return Err(NO_LIST.to_owned());
        }
        let place = std::mem::take(&mut reader.place);
        reader.place = reader.take(place, event).map_err(|what| format!("line {}: {what}", mark.line()))?;
    }
    // What follows has to be the end.
    match parser.next_token() {
        Ok((Event::DocumentEnd, _)) => Ok(reader.entries),
        _ => Err(NO_LIST.to_owned()),
    }
}

/// Takes events down as they come.
#[derive(Default)]
struct Reader {
    entries: Vec<Entry>,
    place: Place,
    entry: Entry,
}

/// Where in the list the next event belongs.
#[derive(Default, PartialEq, Eq)]
enum Place {
    #[default]
    Before,
    /// Between two entries.
    List,
    /// Between two keys of one.
    Entry,
    Value(String),
    Values(String, Vec<String>),
    After,
}

impl Reader {
    fn take(&mut self, place: Place, event: Event) -> Result<Place, &'static str> {
        Ok(match (place, event) {
            (place @ Place::Before, Event::StreamStart | Event::DocumentStart) => place,
            (_, Event::Alias(_)) => return Err("has an alias; write the value itself"),
            (Place::Before, Event::SequenceStart(..)) => Place::List,
            (Place::List, Event::MappingStart(..)) => Place::Entry,
            (Place::List, Event::SequenceEnd) => Place::After,
            (Place::Entry, Event::Scalar(key, ..)) if self.entry.contains_key(&key) => {
                return Err("has a key twice");
            }
            (Place::Entry, Event::Scalar(key, ..)) => Place::Value(key),
            (Place::Entry, Event::MappingEnd) => {
                self.entries.push(std::mem::take(&mut self.entry));
                Place::List
            }
            (Place::Value(key), Event::Scalar(text, ..)) => {
                self.entry.insert(key, Field::Text(text));
                Place::Entry
            }
            (Place::Value(key), Event::SequenceStart(..)) => Place::Values(key, Vec::new()),
            (Place::Values(key, mut list), Event::Scalar(text, ..)) => {
                list.push(text);
                Place::Values(key, list)
            }
            (Place::Values(key, list), Event::SequenceEnd) => {
                self.entry.insert(key, Field::List(list));
                Place::Entry
            }
            _ => return Err(NO_LIST),
        })
    }
}

const NO_LIST: &str = "is no list of mappings like `- path: db/password`";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn yaml_and_json_say_the_same_and_scalars_stay_as_they_were_written() {
        let yaml = "- path: a/b\n  mode: 0400\n  variables: [A, \"B\"]\n- {path: no}\n";
        let json = r#"[{"path": "a/b", "mode": "0400", "variables": ["A", "B"]}, {"path": "no"}]"#;
        let read = entries(yaml).expect("good");
        assert_eq!(read, entries(json).expect("good"));
        assert_eq!(read[0].get("mode"), Some(&Field::Text("0400".to_owned())));
        assert_eq!(entries("[]").expect("good"), Vec::<Entry>::new());
    }

    #[test]
    fn what_is_something_else_is_refused_by_its_line() {
        let cases = [
            ("", NO_LIST),
            ("db/password", "line 1: is no list"),
            ("path: a\n", "line 1: is no list"),
            ("- path: a\n- b\n", "line 2: is no list"),
            ("- path: {a: b}\n", "line 1: is no list"),
            ("- a: [[b]]\n", "line 1: is no list"),
            ("- a: &x b\n- c: *x\n", "line 2: has an alias"),
            ("- a: b\n  a: c\n", "line 2: has a key twice"),
            ("- a: [b\n", ""),
            ("- a: b\n\tc: d\n", ""),
        ];
        for (text, fault) in cases {
            let refused = entries(text).expect_err(text);
            assert!(refused.starts_with(fault), "{text}: {refused}");
        }
        let deep = "[".repeat(100_000);
        assert!(entries(&deep).is_err());
    }

    proptest! {
        #[test]
        fn no_text_breaks_it(text in "(.|\\n|- |: |\\[|\\]|\\{|\\}|&a|\\*a|\\||\"|'){0,60}") {
            drop(entries(&text));
        }
    }
}
