//! What Google calls a version: a number that counts up from 1, or an alias that somebody gave one.
//! <https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets.versions>

use bursar_core::Version;
use bursar_core::backend::{VersionInfo, VersionState};
use serde::Deserialize;

/// The version that a read without a version gets: the one that was made last, whatever its state.
pub(crate) const LATEST: &str = "latest";

/// A version, without its value.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Info {
    name: String,
    create_time: Option<String>,
    state: Option<String>,
}

impl Info {
    /// The version of the secret `id`; none where the answer is about something else.
    pub(crate) fn of(&self, id: &str) -> Option<VersionInfo> {
        Some(VersionInfo {
            version: of_name(&self.name, id)?,
            created_at: self.create_time.as_deref().and_then(|time| time.parse().ok()),
            expires_at: None,
            state: match self.state.as_deref() {
                Some("ENABLED") => VersionState::Kept,
                Some("DESTROYED") => VersionState::Destroyed,
                // Disabled, or in a state that does not exist yet: it cannot be read.
                _ => VersionState::Deleted,
            },
        })
    }
}

/// A version as a reference asks for it; none where Google can have no such number or alias.
pub(crate) fn asked(version: &Version) -> Option<&str> {
    let text = version.as_str();
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let fits = match text.bytes().next()? {
        b'1'..=b'9' => text.parse::<u64>().is_ok(),
        first => first.is_ascii_alphabetic() && text.len() <= LONGEST_ALIAS && text.bytes().all(allowed),
    };
    fits.then_some(text)
}

/// Sorts versions, the newest first.
pub(crate) fn newest_first(versions: &mut [VersionInfo]) {
    let number = |info: &VersionInfo| info.version.as_str().parse::<u64>().ok();
    versions.sort_by_key(|info| std::cmp::Reverse(number(info)));
}

/// The number in `projects/…/secrets/ID/versions/NUMBER`. The project is left out: Google answers with its number,
/// whichever name was asked.
pub(crate) fn of_name(name: &str, id: &str) -> Option<Version> {
    let (secret, number) = name.rsplit_once("/versions/")?;
    let (_, own) = secret.rsplit_once("/secrets/")?;
    let number = number.parse().ok().filter(|number| *number > 0 && own == id)?;
    Some(Version::number(number))
}

const LONGEST_ALIAS: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_aliases_are_asked_for() {
        let is_asked = |text: &str| asked(&Version::from_store(text).expect("version")).is_some();
        for text in ["1", "4000000000", "latest", "prod", "Blue_2-x"] {
            assert!(is_asked(text), "`{text}`");
        }
        for text in ["0", "01", "1a", "-1", "a.b", "..", "99999999999999999999", &"a".repeat(64)] {
            assert!(!is_asked(text), "`{text}`");
        }
    }

    #[test]
    fn the_number_of_a_version_is_read_from_its_name() {
        let number = |name: &str| of_name(name, "db").map(|version| version.to_string());
        assert_eq!(number("projects/123/secrets/db/versions/7").as_deref(), Some("7"));
        assert_eq!(number("projects/123/locations/l/secrets/db/versions/7").as_deref(), Some("7"));
        for other in [
            "",
            "7",
            "projects/123/secrets/other/versions/7",
            "projects/123/secrets/db/versions/latest",
            "projects/123/secrets/db/versions/0",
            "projects/123/secrets/db/versions/-7",
            "projects/123/secrets/db/versions/",
        ] {
            assert_eq!(number(other), None, "`{other}`");
        }
    }
}
