//! Names that a definition gives: of environments, variables and files. Checked where they are made.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// The name of an environment: segments of `[a-z0-9._-]` separated by `/`, at most 255 bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EnvironmentName(Arc<str>);

impl EnvironmentName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`NameError`], which says which rule the text breaks.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        let segment = |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(allowed);
        if text.len() > MAX_NAME {
            return Err(NameError::new("environment", text, "is longer than 255 bytes"));
        }
        if !text.split('/').all(segment) {
            let reason = "has a segment other than a-z, 0-9, `.`, `_` and `-`";
            return Err(NameError::new("environment", text, reason));
        }
        Ok(Self(Arc::from(text)))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of a variable: `[A-Za-z_][A-Za-z0-9_]*`, at most 255 bytes, and none that makes a loader or a shell run
/// code (the module's essay says why).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VariableName(Arc<str>);

impl VariableName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`NameError`], which says which rule the text breaks.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let fault = |reason| Err(NameError::new("variable", text, reason));
        if text.len() > MAX_NAME {
            return fault("is longer than 255 bytes");
        }
        if text.is_empty() || text.starts_with(|c: char| c.is_ascii_digit()) || !text.bytes().all(allowed) {
            return fault("is not made of letters, digits and `_`, or starts with a digit");
        }
        if REFUSED.contains(&text) {
            return fault(
                "makes a loader or a shell run code in the workload; set it where the workload is packaged",
            );
        }
        Ok(Self(Arc::from(text)))
    }

    /// Whether its value says which code runs, so that only a literal may set it.
    pub fn is_literal_only(&self) -> bool {
        LITERAL_ONLY.contains(&self.as_str())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Where a file goes below the directory of its delivery: relative, segments separated by `/`, none empty, `.`, or
/// starting with `..` (a delivery that swaps directories keeps its own under such names); at most 4,096 bytes, 255 a
/// segment, as Linux has them; no control character.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FilePath(Arc<str>);

impl FilePath {
    /// Checks a path.
    ///
    /// # Errors
    /// [`NameError`], which says which rule the text breaks.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let fault = |reason| Err(NameError::new("file", text, reason));
        if text.starts_with('/') {
            return fault("is absolute; name it from the directory of its delivery");
        }
        if text.len() > MAX_PATH || text.split('/').any(|segment| segment.len() > MAX_NAME) {
            return fault("is longer than 4096 bytes, or has a segment longer than 255");
        }
        if text.chars().any(char::is_control) {
            return fault("has a control character");
        }
        if text.split('/').any(|segment| matches!(segment, "" | ".") || segment.starts_with("..")) {
            return fault("has a segment that is empty or `.`, or starts with `..`");
        }
        Ok(Self(Arc::from(text)))
    }

    /// The path.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Every folder that has to be there for the file: `a`, `a/b` for `a/b/c`.
    pub fn folders(&self) -> impl Iterator<Item = &str> {
        self.0.match_indices('/').filter_map(|(at, _)| self.0.get(..at))
    }
}

impl Borrow<str> for FilePath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// One entry of an environment, as errors and answers name it. Variables come before files.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EntryName {
    Variable(VariableName),
    File(FilePath),
}

impl fmt::Display for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => write!(f, "variable {name:?}"),
            Self::File(path) => write!(f, "file {path:?}"),
        }
    }
}

/// Text that cannot be the name it is meant to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} name `{text}` {reason}")]
pub struct NameError {
    kind: &'static str,
    text: String,
    reason: &'static str,
}

impl NameError {
    fn new(kind: &'static str, text: &str, reason: &'static str) -> Self {
        Self { kind, text: excerpt(text, EXCERPT), reason }
    }
}

/// The beginning of text that somebody wrote, fit for one line of a terminal.
pub(super) fn excerpt(text: &str, characters: usize) -> String {
    let mut shown: String = text.chars().take(characters).flat_map(char::escape_debug).collect();
    if text.chars().nth(characters).is_some() {
        shown.push('…');
    }
    shown
}

macro_rules! show_as_text {
    ($($name:ty),+) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "`{self}`")
            }
        }
    )+};
}
show_as_text!(EnvironmentName, VariableName, FilePath);

/// Read by a loader or by a shell that is not interactive, before the first line of the program: glibc, musl, dyld,
/// bash.
const REFUSED: [&str; 14] = [
    "BASHOPTS",
    "BASH_ENV",
    "DYLD_FALLBACK_LIBRARY_PATH",
    "DYLD_FRAMEWORK_PATH",
    "DYLD_INSERT_LIBRARIES",
    "DYLD_LIBRARY_PATH",
    "GCONV_PATH",
    "GLIBC_TUNABLES",
    "LD_AUDIT",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "PROMPT_COMMAND",
    "PS4",
    "SHELLOPTS",
];

/// Says to a shell or an interpreter which code to run or where to look for it. `ENV` is read by interactive shells
/// alone, and many applications use the name for their stage.
const LITERAL_ONLY: [&str; 17] = [
    "CLASSPATH",
    "ENV",
    "GIT_SSH_COMMAND",
    "IFS",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "NODE_OPTIONS",
    "NODE_PATH",
    "PATH",
    "PERL5LIB",
    "PERL5OPT",
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "RUBYLIB",
    "RUBYOPT",
    "_JAVA_OPTIONS",
];

const MAX_NAME: usize = 255;
const MAX_PATH: usize = 4096;
pub(super) const EXCERPT: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environments_have_lower_case_segments() {
        for good in ["a", "payments/prod", "pr-123", "a.b_c/0", &"a".repeat(255)] {
            assert!(EnvironmentName::parse(good).is_ok(), "`{good}` is a good name");
        }
        for bad in ["", "/", "a/", "/a", "a//b", "A", "a b", "a/..", ".", "é", "a\0", &"a".repeat(256)] {
            assert!(EnvironmentName::parse(bad).is_err(), "`{bad}` must be refused");
        }
    }

    #[test]
    fn variables_are_what_a_shell_can_name() {
        for good in ["A", "_", "a1", "DATABASE_URL", "LD_SDK_KEY", "PATH"] {
            assert!(VariableName::parse(good).is_ok(), "`{good}` is a good name");
        }
        for bad in ["", "1A", "A-B", "A B", "A=B", "É", "A\0", "BASH_FUNC_x%%", &"A".repeat(256)] {
            assert!(VariableName::parse(bad).is_err(), "`{bad}` must be refused");
        }
    }

    #[test]
    fn variables_that_load_code_are_refused_by_name() {
        for bad in REFUSED {
            let error = VariableName::parse(bad).expect_err("refused").to_string();
            assert!(error.contains("run code"), "{error}");
        }
    }

    #[test]
    fn files_stay_below_their_directory() {
        for good in ["a", "tls/key.pem", ".pgpass", "a b/ключ", "a..b"] {
            assert!(FilePath::parse(good).is_ok(), "`{good}` is a good path");
        }
        let long = format!("a/{}", "b".repeat(256));
        for bad in ["", "/etc/passwd", "a/../b", "..", "../a", "./a", "a//b", "a/", "..data", "a\n", &long] {
            assert!(FilePath::parse(bad).is_err(), "`{bad}` must be refused");
        }
    }

    #[test]
    fn an_error_shows_the_beginning_of_a_name_on_one_line() {
        let error = FilePath::parse(&"\n".repeat(5000)).expect_err("refused").to_string();
        assert!(error.len() < 300 && !error.contains('\n'), "{error}");
    }
}
