//! Where a broker or an agent is.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use tonic::transport::Uri;

/// `https://HOST[:PORT]`, a broker, or `unix:///PATH`, the socket of an agent. Carries no credential, so it may be
/// printed and logged.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address(pub(crate) Place);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// `host` without the brackets of an IPv6 address.
    Https {
        host: String,
        port: u16,
    },
    Unix {
        path: PathBuf,
    },
}

impl Address {
    /// Parses `https://HOST[:PORT]` or `unix:///PATH`. The port is 8443 when not given.
    ///
    /// # Errors
    /// [`AddressError`], which says what is wrong and shows the forms. `http://` is refused: it would carry secrets in
    /// the clear.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let fault = |reason| AddressError { text: excerpt(text), reason };
        if let Some(path) = text.strip_prefix("unix://") {
            return match path {
                _ if !path.starts_with('/') => Err(fault("has a socket whose path does not start with `/`")),
                _ if path.contains('\0') => Err(fault("has a NUL character")),
                _ => Ok(Self::unix(path)),
            };
        }
        if text.starts_with("http://") {
            return Err(fault("would carry secrets in the clear"));
        }
        if !text.starts_with("https://") {
            return Err(fault("starts with neither `https://` nor `unix:///`"));
        }
        let uri = text.parse::<Uri>().map_err(|_| fault("is malformed"))?;
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(fault("has something after its port"));
        }
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(fault("has a user name, which nothing would use"));
        }
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(fault("has no host"));
        }
        // `Uri` reads a port that is none, such as `:99999`, as an absent one.
        let port = match uri.authority().map(|authority| authority.as_str().rsplit_once(':')) {
            Some(Some((_, digits))) if !digits.ends_with(']') => {
                digits.parse().map_err(|_| fault("has a port other than 1 to 65535"))?
            }
            _ => DEFAULT_PORT,
        };
        Ok(Self(Place::Https { host: host.to_owned(), port }))
    }

    /// The socket at `path`.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self(Place::Unix { path: path.into() })
    }

    /// The path of the socket, when it is one.
    pub fn socket(&self) -> Option<&Path> {
        match &self.0 {
            Place::Unix { path } => Some(path),
            Place::Https { .. } => None,
        }
    }
}

/// Text that is no [`Address`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("address `{text}` {reason}; write `https://HOST:PORT` for a broker or `unix:///PATH` for an agent")]
pub struct AddressError {
    text: String,
    reason: &'static str,
}

impl FromStr for Address {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Https { host, port } if host.contains(':') => write!(f, "https://[{host}]:{port}"),
            Place::Https { host, port } => write!(f, "https://{host}:{port}"),
            Place::Unix { path } => write!(f, "unix://{}", path.display()),
        }
    }
}

/// What is no address may be anything, a pasted secret included: show its beginning only, escaped.
fn excerpt(text: &str) -> String {
    text.chars().take(EXCERPT).flat_map(char::escape_default).collect()
}

const DEFAULT_PORT: u16 = 8443;
const EXCERPT: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_printed() {
        for text in
            ["https://broker.example.org:8443", "https://10.0.0.5:1", "https://[::1]:8443", "unix:///run/a"]
        {
            assert_eq!(Address::parse(text).expect("address").to_string(), text);
        }
    }

    #[test]
    fn the_port_may_be_left_out() {
        let printed = |text| Address::parse(text).expect("address").to_string();
        assert_eq!(printed("https://broker"), "https://broker:8443");
        assert_eq!(printed("https://broker/"), "https://broker:8443");
        assert_eq!(printed("https://[::1]"), "https://[::1]:8443");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let bad = [
            "",
            "broker:8443",
            "http://broker:8443",
            "ftp://broker",
            "https://",
            "https://:8443",
            "https://broker:",
            "https://broker:0x1",
            "https://broker:99999",
            "https://broker/path",
            "https://broker?query",
            "https://user@broker",
            "https://bro ker",
            "unix://run/agent.sock",
            "unix://",
            "unix:///run/\0",
        ];
        let accepted: Vec<_> = bad.iter().filter(|text| Address::parse(text).is_ok()).collect();
        assert!(accepted.is_empty(), "these must be refused: {accepted:?}");
    }

    #[test]
    fn an_error_shows_the_beginning_only() {
        let error = Address::parse(&"s".repeat(500)).expect_err("refused").to_string();
        assert!(error.len() < 250, "{error}");
    }
}
