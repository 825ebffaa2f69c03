//! How names and texts stand in a statement.
//! Rules: <https://www.postgresql.org/docs/current/sql-syntax-lexical.html>.

/// A name, whatever characters it has.
pub(crate) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text. One with a backslash is written so that it means the same whatever `standard_conforming_strings` is.
pub(crate) fn literal(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if text.contains('\\') {
        format!(" E'{}'", doubled.replace('\\', "\\\\"))
    } else {
        format!("'{doubled}'")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the server reads in a quoted token that is the whole of `text`; none if anything is left over.
    fn read(text: &str, quote: char, escapes: bool) -> Option<String> {
        let mut characters = text.chars().peekable();
        if characters.next()? != quote {
            return None;
        }
        let mut value = String::new();
        loop {
            match characters.next()? {
                '\\' if escapes => value.push(characters.next()?),
                character if character == quote => match characters.next() {
                    Some(next) if next == quote => value.push(quote),
                    None => return Some(value),
                    Some(_) => return None,
                },
                character => value.push(character),
            }
        }
    }

    proptest! {
        #[test]
        fn any_name_is_read_back(name in "[^\0]{1,80}") {
            prop_assert_eq!(read(&identifier(&name), '"', false), Some(name));
        }

        #[test]
        fn any_text_is_read_back(text in "([^\0]|['\\\\]){0,80}") {
            let quoted = literal(&text);
            let (token, escapes) = match quoted.strip_prefix(" E") {
                Some(rest) => (rest, true),
                None => (quoted.as_str(), false),
            };
            prop_assert_eq!(read(token, '\'', escapes), Some(text));
        }
    }
}
