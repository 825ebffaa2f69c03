//! What of a value is shown by itself: its lines, the members of its JSON, the password of its URL.

use bursar_core::secret::{FormKind, SecretData, forms, json};
use zeroize::Zeroizing;

/// The parts of `value` that are looked for like values of their own.
pub(super) fn pieces(value: &[u8]) -> Vec<Zeroizing<Vec<u8>>> {
    let mut pieces = Vec::new();
    lines(value, &mut pieces);
    members(value, DEEPEST, &mut pieces);
    password(value, &mut pieces);
    pieces
}

/// A key in PEM is logged line by line, and a terminal puts a carriage return before each line feed. The lines that
/// say what a key is are no secret.
fn lines(value: &[u8], pieces: &mut Vec<Zeroizing<Vec<u8>>>) {
    if !value.contains(&b'\n') {
        return;
    }
    for line in value.split(|byte| *byte == b'\n') {
        let line = line.trim_ascii();
        if line.len() >= SHORTEST_LINE && !line.starts_with(b"-----") {
            pieces.push(Zeroizing::new(line.to_vec()));
        }
    }
}

/// A secret that is read without a field is a JSON object, of which a program shows the password alone.
fn members(value: &[u8], deepest: usize, pieces: &mut Vec<Zeroizing<Vec<u8>>>) {
    if deepest == 0 || !value.trim_ascii_start().starts_with(b"{") {
        return;
    }
    let Some(SecretData::Fields(fields)) = json::object(value) else { return };
    for member in fields.values() {
        let member = member.expose();
        members(member, deepest - 1, pieces);
        lines(member, pieces);
        if member.len() >= SHORTEST_MEMBER {
            pieces.push(Zeroizing::new(member.to_vec()));
        }
    }
}

/// `scheme://user:password@host`, as it stands there and as it is meant.
fn password(value: &[u8], pieces: &mut Vec<Zeroizing<Vec<u8>>>) {
    let found = || {
        let (_, rest) = std::str::from_utf8(value).ok()?.split_once("://")?;
        let authority = rest.split(['/', '?', '#']).next()?;
        let (user, _) = authority.rsplit_once('@')?;
        Some(user.split_once(':')?.1)
    };
    if let Some(password) = found().filter(|password| password.len() >= super::SHORTEST) {
        pieces.push(Zeroizing::new(password.as_bytes().to_vec()));
        pieces.push(Zeroizing::new(percent_encoding::percent_decode_str(password).collect()));
    }
}

/// The lines of `value` in base64 as programs break it: after 76 characters (MIME, `base64`) or 64 (PEM).
pub(super) fn wrapped(value: &[u8]) -> Vec<Zeroizing<Vec<u8>>> {
    let mut lines = Vec::new();
    for columns in [76, 64] {
        let parts = value.chunks(columns / 4 * 3);
        for part in parts.filter(|part| part.len() < value.len() && part.len() >= SHORTEST_PART) {
            let first = forms(part).into_iter().find(|form| form.kind == FormKind::Base64);
            lines.extend(first.map(|form| form.text));
        }
    }
    lines
}

const SHORTEST_LINE: usize = 12;
const SHORTEST_MEMBER: usize = 8;
/// Of what makes a line of base64: eight characters.
const SHORTEST_PART: usize = 6;
/// Objects within objects.
const DEEPEST: usize = 4;
