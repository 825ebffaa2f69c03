//! `.env`: there is no standard, and readers differ in what they make of `$`, quotes and comments.
//!
//! Here a line is `NAME=VALUE`, with `export` before it or not. Within `'` a value is as it stands; within `"` a backslash
//! stands before `"`, `\`, `$` and a line end, or in `\n`, `\r` and `\t`; both may go on over several lines. Without quotes
//! it ends with the line or before a blank and `#`. Nothing is put in for `$NAME`.

use bursar_core::Secret;
use zeroize::Zeroizing;

use super::{Entry, Fault, Named};

pub(super) fn read(text: &str) -> Result<Vec<Named<Entry>>, Fault> {
    let mut entries = Vec::new();
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut line = 1;
    while !rest.is_empty() {
        let (this, after) = rest.split_once('\n').unwrap_or((rest, ""));
        let bare = this.trim();
        if bare.is_empty() || bare.starts_with('#') {
            (rest, line) = (after, line + 1);
            continue;
        }
        let fault = |what| Fault::Line { line, what };
        let declared = bare.strip_prefix("export ").unwrap_or(bare);
        let (name, _) = declared.split_once('=').ok_or_else(|| fault("is not NAME=VALUE"))?;
        let name = name.trim();
        if name.is_empty() || !name.bytes().all(is_of_name) {
            return Err(fault("its name has other than letters, digits, `_`, `-` and `.`"));
        }
        // Found above, in this line.
        let (_, value) = rest.split_once('=').unwrap_or_default();
        let value = value.trim_start_matches([' ', '\t']);
        let (value, after) = match value.chars().next() {
            Some(quote @ ('\'' | '"')) => quoted(value.get(1..).unwrap_or_default(), quote).map_err(fault)?,
            _ => bare_value(value),
        };
        line += rest.len().checked_sub(after.len()).and_then(|end| rest.get(..end)).map_or(0, lines);
        entries.push((name.to_owned(), Entry::Value(value)));
        rest = after;
    }
    Ok(entries)
}

/// A value up to the end of its line, and what comes after that.
fn bare_value(text: &str) -> (Secret, &str) {
    let (line, after) = text.split_once('\n').unwrap_or((text, ""));
    let comment = line.char_indices().zip(line.char_indices().skip(1));
    let mut comments = comment.filter(|((_, before), (_, it))| before.is_whitespace() && *it == '#');
    let end = comments.next().map_or(line.len(), |((at, _), _)| at);
    let value = if line.starts_with('#') { "" } else { line.get(..end).unwrap_or(line).trim() };
    (Secret::new(value.as_bytes().to_vec()), after)
}

/// A value up to its closing quote, and what comes after the end of that line.
fn quoted(text: &str, quote: char) -> Result<(Secret, &str), &'static str> {
    // No longer than the text, so that it never grows.
    let mut value = Zeroizing::new(String::with_capacity(text.len()));
    let mut characters = text.char_indices();
    let end = loop {
        let (at, character) = characters.next().ok_or("its quote does not end")?;
        match character {
            _ if character == quote => break at + character.len_utf8(),
            '\\' if quote == '"' => match characters.next().map(|(_, next)| next) {
                Some('n') => value.push('\n'),
                Some('r') => value.push('\r'),
                Some('t') => value.push('\t'),
                Some(itself @ ('"' | '\\' | '$')) => value.push(itself),
                Some('\n') => {}
                _ => return Err("has a `\\` that means nothing; write `\\\\`, or use single quotes"),
            },
            _ => value.push(character),
        }
    };
    let rest = text.get(end..).unwrap_or_default();
    let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
    let line = line.trim();
    if !line.is_empty() && !line.starts_with('#') {
        return Err("has something after its closing quote");
    }
    Ok((Secret::new(value.as_bytes().to_vec()), after))
}

fn lines(text: &str) -> usize {
    text.matches('\n').count()
}

fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}
