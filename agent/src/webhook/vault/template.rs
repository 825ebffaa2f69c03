//! Templates of Consul Template, where they do nothing but put fields of secrets between texts.
//!
//! `{{ with secret "PATH" }}`, `{{ .Data.FIELD }}`, `{{ .Data.data.FIELD }}`, `{{ index .Data.data "FIELD" }}`, `{{ end }}`,
//! and the marks that take white space away. Anything else is refused by name: half a translation is a wrong file.

use crate::webhook::text::excerpt;

/// The same in the language of templates here. `variable` says what a field of a secret is called: it is given the path,
/// the field, and whether it was asked for in `.Data.data`.
///
/// # Errors
/// What cannot be translated, to be put after the name of what said so.
pub(super) fn translate(
    text: &str,
    mut variable: impl FnMut(&str, &str, bool) -> Result<String, String>,
) -> Result<String, String> {
    let mut out = String::new();
    let mut within: Vec<&str> = Vec::new();
    let mut rest = text;
    let mut trims = false;
    while let Some((before, after)) = rest.split_once("{{") {
        let (inside, next) = after.split_once("}}").ok_or("has a `{{` without its `}}`")?;
        let (trims_before, inside) =
            trimmed(inside.strip_prefix('-').filter(|rest| starts_blank(rest)), inside);
        let (trims_after, inside) = trimmed(inside.strip_suffix('-').filter(|rest| ends_blank(rest)), inside);
        let before = if trims { before.trim_start() } else { before };
        literal(&mut out, if trims_before { before.trim_end() } else { before });
        match Action::read(inside.trim())? {
            Action::With(path) => within.push(path),
            Action::End => drop(within.pop().ok_or("has an `end` too many")?),
            Action::Field { name, nested } => {
                let path = within.last().ok_or("names a field outside of `with secret`")?;
                out.push_str(&format!("{{{{ {} }}}}", variable(path, name, nested)?));
            }
            Action::Comment => {}
        }
        (rest, trims) = (next, trims_after);
    }
    literal(&mut out, if trims { rest.trim_start() } else { rest });
    if within.is_empty() { Ok(out) } else { Err("has a `with` without its `end`".to_owned()) }
}

enum Action<'a> {
    With(&'a str),
    End,
    Field { name: &'a str, nested: bool },
    Comment,
}

impl<'a> Action<'a> {
    fn read(text: &'a str) -> Result<Self, String> {
        let unknown = || {
            format!("has `{}`, which is not translated; write it as `bursar.io/template.NAME`", excerpt(text))
        };
        if text == "end" {
            return Ok(Self::End);
        }
        if text.starts_with("/*") && text.ends_with("*/") {
            return Ok(Self::Comment);
        }
        if let Some(path) =
            text.strip_prefix("with").and_then(|rest| rest.trim_start().strip_prefix("secret"))
        {
            return quoted(path.trim()).map(Self::With).ok_or_else(unknown);
        }
        if let Some(of) = text.strip_prefix("index") {
            let of = of.trim_start();
            let (nested, key) = match of.strip_prefix(".Data.data") {
                Some(key) => (true, key),
                None => (false, of.strip_prefix(".Data").ok_or_else(unknown)?),
            };
            let name = quoted(key.trim()).ok_or_else(unknown)?;
            return Ok(Self::Field { name, nested });
        }
        let name = text.strip_prefix(".Data.").ok_or_else(unknown)?;
        let (nested, name) = match name.strip_prefix("data.") {
            Some(name) => (true, name),
            None => (false, name),
        };
        let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let is_name = !name.is_empty() && name.bytes().all(good);
        is_name.then_some(Self::Field { name, nested }).ok_or_else(unknown)
    }
}

/// What stands between the quotes of the one word that there is.
fn quoted(text: &str) -> Option<&str> {
    let inside = |quote| text.strip_prefix(quote).and_then(|rest: &str| rest.strip_suffix(quote));
    let found = inside('"').or_else(|| inside('`'))?;
    (!found.contains(['"', '`', '\\']) && !found.is_empty()).then_some(found)
}

/// A text as it is, where some of it would mean something to a template here.
fn literal(out: &mut String, text: &str) {
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        let (before, after) = rest.split_at_checked(at).unwrap_or((rest, ""));
        out.push_str(before);
        // Each by itself: two that stood together begin something here.
        let next = after.strip_prefix('{').unwrap_or_default();
        out.push_str(if next.starts_with(['{', '%', '#']) || next.is_empty() { "{{ \"{\" }}" } else { "{" });
        rest = next;
    }
    out.push_str(rest);
}

fn trimmed<'a>(without: Option<&'a str>, inside: &'a str) -> (bool, &'a str) {
    without.map_or((false, inside), |without| (true, without))
}

fn starts_blank(text: &str) -> bool {
    text.starts_with(char::is_whitespace)
}

fn ends_blank(text: &str) -> bool {
    text.ends_with(char::is_whitespace)
}
