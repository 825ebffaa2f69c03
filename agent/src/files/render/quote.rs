//! Text as the forms of configuration files want it. Everything is written straight into its buffer.

use std::io::{self, Write};

/// A text of JSON, which is one of YAML too: what YAML takes for unprintable is escaped.
pub(super) fn json(out: &mut impl Write, text: &str) -> io::Result<()> {
    out.write_all(b"\"")?;
    for character in text.chars() {
        match character {
            '"' => out.write_all(b"\\\"")?,
            '\\' => out.write_all(b"\\\\")?,
            '\n' => out.write_all(b"\\n")?,
            '\r' => out.write_all(b"\\r")?,
            '\t' => out.write_all(b"\\t")?,
            '\0'..='\x1f'
            | '\x7f'..='\u{9f}'
            | '\u{2028}'
            | '\u{2029}'
            | '\u{feff}'
            | '\u{fffe}'
            | '\u{ffff}' => {
                units(out, character)?;
            }
            plain => character_of(out, plain)?,
        }
    }
    out.write_all(b"\"")
}

/// A word of a POSIX shell: bare where nothing in it means anything, in single quotes where it has none itself, and in
/// double quotes otherwise. systemd reads all three as the shell does.
pub(super) fn shell(out: &mut impl Write, text: &str) -> io::Result<()> {
    let bare = |byte: u8| {
        byte.is_ascii_alphanumeric()
            || matches!(byte, b'_' | b'-' | b'.' | b'/' | b':' | b'@' | b'%' | b'+' | b',')
    };
    if !text.is_empty() && text.bytes().all(bare) {
        return out.write_all(text.as_bytes());
    }
    if !text.contains('\'') {
        out.write_all(b"'")?;
        out.write_all(text.as_bytes())?;
        return out.write_all(b"'");
    }
    out.write_all(b"\"")?;
    for character in text.chars() {
        if matches!(character, '"' | '\\' | '$' | '`') {
            out.write_all(b"\\")?;
        }
        character_of(out, character)?;
    }
    out.write_all(b"\"")
}

/// A value of `java.util.Properties`, in ASCII, so that no reader's guess at an encoding matters.
pub(super) fn properties(out: &mut impl Write, text: &str) -> io::Result<()> {
    let mut leading = true;
    for character in text.chars() {
        match character {
            ' ' if leading => out.write_all(b"\\ ")?,
            '\\' => out.write_all(b"\\\\")?,
            '\n' => out.write_all(b"\\n")?,
            '\r' => out.write_all(b"\\r")?,
            '\t' => out.write_all(b"\\t")?,
            '\x0c' => out.write_all(b"\\f")?,
            plain @ ' '..='~' => character_of(out, plain)?,
            other => units(out, other)?,
        }
        leading &= character == ' ';
    }
    Ok(())
}

fn character_of(out: &mut impl Write, character: char) -> io::Result<()> {
    out.write_all(character.encode_utf8(&mut [0; 4]).as_bytes())
}

/// `\uXXXX` for each unit of UTF-16.
fn units(out: &mut impl Write, character: char) -> io::Result<()> {
    character.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(out, "\\u{unit:04x}"))
}
