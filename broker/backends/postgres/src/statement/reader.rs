//! Reads one statement, as far as telling what is quoted in it takes.

use super::{Fault, Part, Placeholder, Statement};

/// Reads `text`, in which only the placeholders of `allowed` may stand.
pub(super) fn read(text: &str, allowed: &[Placeholder]) -> Result<Statement, Fault> {
    let mut reader =
        Reader { rest: text.trim(), before: ' ', plain: String::new(), parts: Vec::new(), words: Vec::new() };
    while !reader.rest.is_empty() {
        reader.step(allowed)?;
    }
    reader.finish()
}

struct Reader<'text> {
    rest: &'text str,
    /// The character before `rest`.
    before: char,
    /// Text since the last placeholder.
    plain: String,
    parts: Vec<Part>,
    /// The bare words so far, in capitals.
    words: Vec<String>,
}

impl<'text> Reader<'text> {
    fn step(&mut self, allowed: &[Placeholder]) -> Result<(), Fault> {
        let rest = self.rest;
        if let Some(inside) = rest.strip_prefix("{{") {
            return self.placeholder(inside, allowed);
        }
        if rest.starts_with("--") || rest.starts_with("/*") {
            return Err(Fault::Comment);
        }
        let first = rest.chars().next().unwrap_or_default();
        match first {
            ';' if rest.trim_start_matches(|c: char| c == ';' || c.is_whitespace()).is_empty() => {
                self.rest = "";
                Ok(())
            }
            ';' => Err(Fault::Several),
            '\'' | '"' => self.quoted(first, false),
            'e' | 'E' if rest.get(1..2) == Some("'") && !is_word(self.before) => {
                self.take(1);
                self.quoted('\'', true)
            }
            '$' if !is_word(self.before) => match dollar_tag(rest) {
                Some(tag) => self.dollar_quoted(tag),
                None => {
                    self.take(1);
                    Ok(())
                }
            },
            first if is_word(first) => {
                let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                let word = self.take(length);
                self.words.push(word.to_ascii_uppercase());
                Ok(())
            }
            first => {
                self.take(first.len_utf8());
                Ok(())
            }
        }
    }

    fn placeholder(&mut self, inside: &'text str, allowed: &[Placeholder]) -> Result<(), Fault> {
        let (name, rest) = inside.split_once("}}").ok_or(Fault::Open)?;
        let placeholder = match name {
            "name" => Some(Placeholder::Name),
            "password" => Some(Placeholder::Password),
            "expiration" => Some(Placeholder::Expiration),
            _ => None,
        };
        let placeholder =
            placeholder.filter(|placeholder| allowed.contains(placeholder)).ok_or_else(|| {
                let allowed: Vec<_> = allowed.iter().map(|allowed| format!("`{allowed}`")).collect();
                Fault::Unknown { placeholder: shown(name), allowed: allowed.join(", ") }
            })?;
        self.flush();
        self.parts.push(Part::Value(placeholder));
        (self.rest, self.before) = (rest, '}');
        Ok(())
    }

    /// What is between two of `quote`, which stands for itself where it is doubled.
    fn quoted(&mut self, quote: char, escapes: bool) -> Result<(), Fault> {
        let mut characters = self.rest.char_indices().skip(1).peekable();
        loop {
            let (at, character) = characters.next().ok_or(Fault::Unterminated)?;
            if character == '\\' && escapes {
                characters.next();
            } else if character == quote && characters.next_if(|(_, next)| *next == quote).is_none() {
                return self.take_quoted(at + quote.len_utf8());
            }
        }
    }

    fn dollar_quoted(&mut self, tag: &str) -> Result<(), Fault> {
        let (_, inside) = self.rest.split_at_checked(tag.len()).ok_or(Fault::Unterminated)?;
        let length = inside.find(tag).ok_or(Fault::Unterminated)?;
        self.take_quoted(tag.len() + length + tag.len())
    }

    fn take_quoted(&mut self, length: usize) -> Result<(), Fault> {
        let quoted = self.take(length);
        match quoted.split_once("{{") {
            Some((_, name)) => {
                let name = name.split_once("}}").map_or(name, |(name, _)| name);
                Err(Fault::Quoted { placeholder: shown(name) })
            }
            None => Ok(()),
        }
    }

    /// Takes the next bytes as they are.
    fn take(&mut self, length: usize) -> &'text str {
        let (taken, rest) = self.rest.split_at_checked(length).unwrap_or((self.rest, ""));
        self.plain.push_str(taken);
        self.before = taken.chars().next_back().unwrap_or(self.before);
        self.rest = rest;
        taken
    }

    fn flush(&mut self) {
        if !self.plain.is_empty() {
            self.parts.push(Part::Text(std::mem::take(&mut self.plain)));
        }
    }

    fn finish(mut self) -> Result<Statement, Fault> {
        self.flush();
        let words: Vec<_> = self.words.iter().map(String::as_str).collect();
        match words.as_slice() {
            [] => return Err(Fault::Empty),
            [
                word
                @ ("BEGIN" | "START" | "COMMIT" | "END" | "ROLLBACK" | "ABORT" | "SAVEPOINT" | "RELEASE"),
                ..,
            ]
            | [word @ "PREPARE", "TRANSACTION", ..] => {
                return Err(Fault::Transaction { word: (*word).to_owned() });
            }
            [word @ "SET", second, ..] if *second != "LOCAL" => {
                return Err(Fault::Session { word: (*word).to_owned() });
            }
            [word @ ("RESET" | "DISCARD" | "LISTEN" | "LOAD" | "PREPARE" | "DECLARE"), ..] => {
                return Err(Fault::Session { word: (*word).to_owned() });
            }
            _ => {}
        }
        let changes_what_is_shared = !is_of_one_role(&words);
        Ok(Statement { parts: self.parts, changes_what_is_shared })
    }
}

/// Whether a statement writes rows of the catalogue that are one role's alone.
fn is_of_one_role(words: &[&str]) -> bool {
    match words {
        ["CREATE" | "ALTER" | "DROP", "ROLE" | "USER", ..] => true,
        // Membership in a role. On an object it writes the object's row.
        ["GRANT" | "REVOKE", rest @ ..] => !rest.contains(&"ON"),
        _ => false,
    }
}

/// `$tag$` at the beginning of `text`.
fn dollar_tag(text: &str) -> Option<&str> {
    let (tag, _) = text.strip_prefix('$')?.split_once('$')?;
    let is_tag = tag.chars().all(is_word) && !tag.starts_with(|c: char| c.is_ascii_digit());
    is_tag.then(|| text.get(..tag.len() + 2)).flatten()
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// A placeholder as it was written, cut where it is long.
fn shown(name: &str) -> String {
    let name: String = name.chars().take(32).flat_map(char::escape_default).collect();
    format!("{{{{{name}}}}}")
}
