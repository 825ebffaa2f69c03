//! Reading configuration: TOML in, typed values out, every fault at once.
//!
//! A [`Section`] hands out the keys of one table. What is missing, of the wrong form or unknown becomes a [`Fault`] with
//! its full key path, and reading goes on, so that somebody with three mistakes learns of three. Unknown keys are
//! faults: a misspelt limit that is ignored is a limit that is not there.
//!
//! `serde` with `deny_unknown_fields` was the alternative: it stops at the first fault.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use toml::{Table, Value};

use crate::reference::Reference;

/// One thing wrong with a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// `backends.vault.address`
    pub key: String,
    /// What is wrong and what is wanted.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key.as_str() {
            "" => f.write_str(&self.message),
            key => write!(f, "{key}: {}", self.message),
        }
    }
}

/// Reads the whole of a file's text.
///
/// # Errors
/// Every fault found: the syntax error alone, or all faults of the content.
pub fn read<T>(text: &str, content: impl FnOnce(&mut Section<'_>) -> Option<T>) -> Result<T, Vec<Fault>> {
    let table = text.parse::<Table>().map_err(|error| vec![syntax_fault(text, &error)])?;
    let mut faults = Vec::new();
    let mut section = Section::new(table, String::new(), &mut faults);
    let read = content(&mut section);
    section.finish();
    match read {
        Some(read) if faults.is_empty() => Ok(read),
        _ => Err(faults),
    }
}

/// One table of the file. Keys that nobody asked for are faults once it is finished.
#[derive(Debug)]
pub struct Section<'faults> {
    table: Table,
    path: String,
    asked: Vec<&'static str>,
    faults: &'faults mut Vec<Fault>,
}

impl<'faults> Section<'faults> {
    fn new(table: Table, path: String, faults: &'faults mut Vec<Fault>) -> Self {
        Self { table, path, asked: Vec::new(), faults }
    }

    /// A text, if given.
    pub fn text(&mut self, key: &'static str) -> Option<String> {
        match self.take(key)? {
            Value::String(text) => Some(text),
            other => self.wrong(key, "a text", &other),
        }
    }

    /// A whole number within `range`, if given.
    pub fn number(&mut self, key: &'static str, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
        let value = self.take(key)?;
        let number = value.as_integer().and_then(|number| u64::try_from(number).ok());
        match number.filter(|number| range.contains(number)) {
            Some(number) => Some(number),
            None => {
                self.wrong(key, &format!("a whole number from {} to {}", range.start(), range.end()), &value)
            }
        }
    }

    /// `true` or `false`, if given.
    pub fn flag(&mut self, key: &'static str) -> Option<bool> {
        match self.take(key)? {
            Value::Boolean(flag) => Some(flag),
            other => self.wrong(key, "true or false", &other),
        }
    }

    /// A list of texts; empty when not given.
    pub fn texts(&mut self, key: &'static str) -> Vec<String> {
        let Some(value) = self.take(key) else { return Vec::new() };
        let texts = value.as_array().and_then(|items| {
            items.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
        });
        texts.or_else(|| self.wrong(key, "a list of texts", &value)).unwrap_or_default()
    }

    /// A text or a list of them, if given.
    pub fn one_or_more(&mut self, key: &'static str) -> Option<Vec<String>> {
        let texts: Option<Vec<_>> = match self.take(key)? {
            Value::String(one) => Some(vec![one]),
            Value::Array(items) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
            _ => None,
        };
        let texts = texts.filter(|texts| !texts.is_empty());
        texts.or_else(|| self.fault(key, "must be a text or a list of texts".to_owned()))
    }

    /// A duration such as `90s`, `10m` or `1h 30m`, if given.
    pub fn duration(&mut self, key: &'static str) -> Option<Duration> {
        self.parsed(key, |text| parse_duration(text).map_err(|error| error.to_string()))
    }

    /// A path, if given.
    pub fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        self.text(key).map(PathBuf::from)
    }

    /// A text that `parse` turns into something, if given; its error is the fault.
    pub fn parsed<T, E: fmt::Display>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.text(key)?;
        match parse(&text) {
            Ok(parsed) => Some(parsed),
            Err(error) => self.fault(key, error.to_string()),
        }
    }

    /// Where a secret of the configuration itself comes from: `{ file = … }`, `{ env = … }` or `{ credential = … }`. A
    /// bare text is refused: it would be the secret.
    pub fn secret_source(&mut self, key: &'static str) -> Option<SecretSource> {
        const FORM: &str = "a source, one of { file = \"PATH\" }, { env = \"NAME\" }, { credential = \"NAME\" }; never the secret itself";
        let source = match self.take(key)? {
            Value::Table(table) => source(table),
            _ => None,
        };
        source.or_else(|| self.fault(key, format!("must be {FORM}")))
    }

    /// The same, or `{ from = "BACKEND/PATH#FIELD" }`: a secret that a backend keeps.
    pub fn kept_secret(&mut self, key: &'static str) -> Option<KeptSecret> {
        const FORM: &str = "a source, one of { from = \"BACKEND/PATH#FIELD\" }, { file = \"PATH\" }, { env = \"NAME\" }, { credential = \"NAME\" }; never the secret itself";
        let kept = match self.take(key)? {
            Value::Table(table) => match (table.len(), table.get("from")) {
                (1, Some(Value::String(text))) => match Reference::parse(text) {
                    Ok(reference) => Some(KeptSecret::Backend(reference)),
                    Err(error) => return self.fault(key, error.to_string()),
                },
                _ => source(table).map(KeptSecret::Outside),
            },
            _ => None,
        };
        kept.or_else(|| self.fault(key, format!("must be {FORM}")))
    }

    /// A table that may be left out, read as if it were there and empty.
    pub fn section<T>(&mut self, key: &'static str, content: impl FnOnce(&mut Section<'_>) -> T) -> T {
        let table = match self.take(key) {
            None => Table::new(),
            Some(Value::Table(table)) => table,
            Some(other) => self.wrong(key, "a table", &other).unwrap_or_default(),
        };
        let mut inner = Section::new(table, self.key(key), self.faults);
        let read = content(&mut inner);
        inner.finish();
        read
    }

    /// A table that says something by being there; nothing when it is not.
    pub fn section_if_given<T>(
        &mut self,
        key: &'static str,
        content: impl FnOnce(&mut Section<'_>) -> T,
    ) -> Option<T> {
        if self.table.contains_key(key) {
            return Some(self.section(key, content));
        }
        self.asked.push(key);
        None
    }

    /// Every entry of a table whose keys are names that the user chose; entries that read as nothing are left out.
    pub fn each<T>(
        &mut self,
        key: &'static str,
        mut content: impl FnMut(&str, &mut Section<'_>) -> Option<T>,
    ) -> Vec<T> {
        let entries = match self.take(key) {
            None => return Vec::new(),
            Some(Value::Table(table)) => table,
            Some(other) => self.wrong(key, "a table of tables", &other).unwrap_or_default(),
        };
        let mut read = Vec::new();
        for (name, value) in entries {
            let path = format!("{}.{name}", self.key(key));
            match value {
                Value::Table(table) => {
                    let mut inner = Section::new(table, path, self.faults);
                    read.extend(content(&name, &mut inner));
                    inner.finish();
                }
                other => self.faults.push(Fault { key: path, message: form("a table", &other) }),
            }
        }
        read
    }

    /// Every table of a list of tables, in order; those that read as nothing are left out. The key path of a fault counts
    /// from 1: `rules[2].match`.
    pub fn tables<T>(
        &mut self,
        key: &'static str,
        mut content: impl FnMut(&mut Section<'_>) -> Option<T>,
    ) -> Vec<T> {
        let items = match self.take(key) {
            None => return Vec::new(),
            Some(Value::Array(items)) => items,
            Some(other) => self.wrong(key, "a list of tables", &other).unwrap_or_default(),
        };
        let mut read = Vec::new();
        for (place, value) in items.into_iter().enumerate() {
            let path = format!("{}[{}]", self.key(key), place + 1);
            match value {
                Value::Table(table) => {
                    let mut inner = Section::new(table, path, self.faults);
                    read.extend(content(&mut inner));
                    inner.finish();
                }
                other => self.faults.push(Fault { key: path, message: form("a table", &other) }),
            }
        }
        read
    }

    /// A table of texts whose keys are names that the user chose.
    #[expect(
        clippy::redundant_closure_for_method_calls,
        reason = "the method itself is tied to one lifetime"
    )]
    pub fn pairs(&mut self, key: &'static str) -> Vec<(String, String)> {
        self.section(key, |table| table.rest())
    }

    /// Every key that nobody asked for, each a text: for tables whose keys are not ours to know.
    pub fn rest(&mut self) -> Vec<(String, String)> {
        let mut read = Vec::new();
        for (name, value) in std::mem::take(&mut self.table) {
            match value {
                Value::String(text) => read.push((name, text)),
                other => drop(self.wrong::<()>(&name, "a text", &other)),
            }
        }
        read
    }

    /// Says that `key` has to be given when it read as nothing.
    pub fn required<T>(&mut self, key: &'static str, read: Option<T>) -> Option<T> {
        let faulty = self.faults.iter().any(|fault| fault.key == self.key(key));
        if read.is_none() && !faulty {
            return self.fault(key, "is required".to_owned());
        }
        read
    }

    /// Records a fault of `key`, or of the section itself when that is empty, that the caller found. Reads as nothing, so that it can stand at the end of a match.
    pub fn fault<T>(&mut self, key: &str, message: String) -> Option<T> {
        let key = self.key(key);
        self.faults.push(Fault { key, message });
        None
    }

    fn wrong<T>(&mut self, key: &str, wanted: &str, found: &Value) -> Option<T> {
        self.fault(key, form(wanted, found))
    }

    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.asked.push(key);
        self.table.remove(key)
    }

    fn key(&self, key: &str) -> String {
        match (self.path.as_str(), key) {
            ("", key) => key.to_owned(),
            (path, "") => path.to_owned(),
            (path, key) => format!("{path}.{key}"),
        }
    }

    fn finish(self) {
        for unknown in self.table.keys() {
            let known = self.asked.join("`, `");
            let message = format!("is not a key here; the keys are `{known}`");
            self.faults.push(Fault { key: self.key(unknown), message });
        }
    }
}

/// Where a secret of the configuration itself comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// A file that only the process may read.
    File(PathBuf),
    /// An environment variable.
    Env(String),
    /// A systemd credential: a file of this name in `$CREDENTIALS_DIRECTORY`.
    Credential(String),
}

/// Where a secret of the configuration comes from that a backend may keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeptSecret {
    /// As every other.
    Outside(SecretSource),
    /// A secret of a backend.
    Backend(Reference),
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file `{}`", path.display()),
            Self::Env(name) => write!(f, "environment variable `{name}`"),
            Self::Credential(name) => write!(f, "systemd credential `{name}`"),
        }
    }
}

/// Reads a duration: numbers with units `s`, `m`, `h`, `d` (of 24 hours), as jiff's friendly format has them.
///
/// # Errors
/// [`DurationError`], which shows the form.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let fault = || DurationError(text.chars().take(32).flat_map(char::escape_default).collect());
    let span = text.parse::<jiff::Span>().map_err(|_| fault())?;
    let exact = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|_| fault())?;
    Duration::try_from(exact).map_err(|_| fault())
}

/// Text that is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no duration; write one like `90s`, `10m` or `1h 30m`")]
pub struct DurationError(String);

fn source(mut table: Table) -> Option<SecretSource> {
    match (table.len(), table.remove("file"), table.remove("env"), table.remove("credential")) {
        (1, Some(Value::String(path)), None, None) => Some(SecretSource::File(path.into())),
        (1, None, Some(Value::String(name)), None) => Some(SecretSource::Env(name)),
        (1, None, None, Some(Value::String(name))) => Some(SecretSource::Credential(name)),
        _ => None,
    }
}

/// The wrong value itself is not shown: it may be a secret in the wrong place.
fn form(wanted: &str, found: &Value) -> String {
    format!("must be {wanted}, not {}", article(found))
}

fn article(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a text",
        Value::Integer(_) => "this whole number",
        Value::Float(_) => "a fraction",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "this list",
        Value::Table(_) => "a table",
    }
}

fn syntax_fault(text: &str, error: &toml::de::Error) -> Fault {
    let at = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = at.matches('\n').count() + 1;
    Fault { key: String::new(), message: format!("line {line}: {}", error.message()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<String> {
        let read = read(text, |root| {
            let name = root.text("name");
            let name = root.required("name", name);
            let wait = root.duration("wait");
            let inner = root.section("inner", |inner| inner.number("count", 1..=10));
            let key = root.secret_source("key");
            let many = root.each("many", |_, one| one.flag("on"));
            name.map(|name| (name, wait, inner, key, many))
        });
        read.err().unwrap_or_default().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_fault_is_reported_at_once_with_its_key_path() {
        let text =
            "wiat = '1s'\nwait = 'soon'\nkey = 'hunter2'\n[inner]\ncount = 11\nx = 1\n[many.a]\non = 'yes'\n";
        assert_eq!(
            faults(text),
            [
                "name: is required",
                "wait: `soon` is no duration; write one like `90s`, `10m` or `1h 30m`",
                "inner.count: must be a whole number from 1 to 10, not this whole number",
                "inner.x: is not a key here; the keys are `count`",
                "key: must be a source, one of { file = \"PATH\" }, { env = \"NAME\" }, { credential = \"NAME\" }; never the \
                 secret itself",
                "many.a.on: must be true or false, not a text",
                "wiat: is not a key here; the keys are `name`, `wait`, `inner`, `key`, `many`",
            ]
        );
    }

    #[test]
    fn tables_of_a_list_are_read_in_order_and_counted_from_1() {
        let numbers =
            |text: &str| read(text, |root| Some(root.tables("rules", |rule| rule.number("n", 1..=9))));
        assert_eq!(numbers("[[rules]]\nn = 2\n[[rules]]\nn = 1\n"), Ok(vec![2, 1]));
        assert_eq!(numbers(""), Ok(Vec::new()));
        let faults = |text: &str| {
            let faults = numbers(text).expect_err("faults");
            faults.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            faults("rules = [{ n = 1 }, { m = 1 }, 3]"),
            [
                "rules[2].m: is not a key here; the keys are `n`",
                "rules[3]: must be a table, not this whole number"
            ]
        );
        assert_eq!(faults("rules = 'x'"), ["rules: must be a list of tables, not a text"]);
    }

    #[test]
    fn a_secret_that_a_backend_keeps_is_named_by_a_reference() {
        let kept = |text: &str| {
            read(text, |root| {
                let kept = root.kept_secret("password");
                root.required("password", kept)
            })
        };
        let reference = Reference::parse("local/pg/root#password").expect("reference");
        assert_eq!(
            kept("password = { from = 'local/pg/root#password' }"),
            Ok(KeptSecret::Backend(reference))
        );
        let outside = KeptSecret::Outside(SecretSource::Env("PG".to_owned()));
        assert_eq!(kept("password = { env = 'PG' }"), Ok(outside));
        for bad in ["'hunter2'", "{ from = 1 }", "{ from = 'a/b', env = 'X' }", "{ from = 'hunter2' }", "{}"]
        {
            let faults = kept(&format!("password = {bad}")).expect_err("a fault");
            assert_eq!(faults.len(), 1, "{bad}: {faults:?}");
        }
    }

    #[test]
    fn a_syntax_error_names_its_line() {
        let faults = faults("name = 'a'\nwait = = 1\n");
        assert!(faults.iter().all(|fault| fault.starts_with("line 2: ")) && faults.len() == 1, "{faults:?}");
    }

    #[test]
    fn durations_have_units_up_to_days() {
        assert_eq!(parse_duration("7d 1h"), Ok(Duration::from_secs(169 * 3600)));
        for bad in ["", "5", "-5m", "1y", "soon"] {
            assert!(parse_duration(bad).is_err(), "`{bad}`");
        }
    }

    #[test]
    fn a_good_file_has_no_faults() {
        assert_eq!(faults("name = 'a'\nwait = '1h 30m'\nkey = { env = 'K' }\n"), Vec::<String>::new());
    }
}
