//! What AWS calls a version: an id of 32 to 64 characters, or a stage that moves from one to the next.

use aws_sdk_secretsmanager::types::SecretVersionsListEntry;
use bursar_core::Version;
use bursar_core::backend::{VersionInfo, VersionState};
use jiff::Timestamp;

/// A version as a reference asks for it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Id(String),
    Stage(String),
}

impl Asked {
    /// No id is shorter than 32 characters and no stage of AWS's own is as long, so the length tells which is meant. A
    /// stage of somebody's own that is that long cannot be asked for.
    pub(crate) fn of(version: &Version) -> Self {
        let text = version.as_str().to_owned();
        if text.len() < SHORTEST_ID { Self::Stage(text) } else { Self::Id(text) }
    }

    /// As the parameters of a call: an id, a stage.
    pub(crate) fn parameters(asked: Option<Self>) -> (Option<String>, Option<String>) {
        match asked {
            Some(Self::Id(id)) => (Some(id), None),
            Some(Self::Stage(stage)) => (None, Some(stage)),
            None => (None, None),
        }
    }
}

/// The versions of a secret, newest first. Those that came about at one time are in the order of their stages.
pub(crate) fn newest_first(mut entries: Vec<SecretVersionsListEntry>) -> Vec<VersionInfo> {
    // Of what nothing tells apart, that which AWS lists last is the newer.
    entries.reverse();
    entries.sort_by_key(|entry| (std::cmp::Reverse(created(entry)), rank(entry)));
    entries.iter().filter_map(info).collect()
}

fn info(entry: &SecretVersionsListEntry) -> Option<VersionInfo> {
    let version = Version::from_store(entry.version_id()?).ok()?;
    // One without a stage can be read until AWS removes it, which it does when there are more than about a hundred.
    Some(VersionInfo { version, created_at: created(entry), expires_at: None, state: VersionState::Kept })
}

fn created(entry: &SecretVersionsListEntry) -> Option<Timestamp> {
    let date = entry.created_date()?;
    Timestamp::new(date.secs(), i32::try_from(date.subsec_nanos()).ok()?).ok()
}

fn rank(entry: &SecretVersionsListEntry) -> usize {
    let has = |stage: &&str| entry.version_stages().iter().any(|own| own == stage);
    STAGES.iter().position(has).unwrap_or(STAGES.len())
}

const SHORTEST_ID: usize = 32;
/// The stages that AWS moves, newest first.
const STAGES: [&str; 3] = ["AWSPENDING", CURRENT, "AWSPREVIOUS"];
/// The stage of the version that a read without a version gets.
pub(crate) const CURRENT: &str = "AWSCURRENT";

#[cfg(test)]
mod tests {
    use aws_smithy_types::DateTime;

    use super::*;

    #[test]
    fn ids_and_stages_are_told_apart() {
        let asked = |text: &str| Asked::of(&Version::from_store(text).expect("version"));
        for id in ["d04f2f0c-7a3b-4a8e-9a52-5b1a0e8f1c3d", "terraform-20260101000000000000000001"] {
            assert_eq!(asked(id), Asked::Id(id.to_owned()));
        }
        for stage in ["AWSCURRENT", "AWSPREVIOUS", "blue", "4000000000"] {
            assert_eq!(asked(stage), Asked::Stage(stage.to_owned()));
        }
    }

    #[test]
    fn versions_go_from_the_newest_to_the_oldest() {
        let entry = |id: char, second: i64, stages: &[&str]| {
            SecretVersionsListEntry::builder()
                .version_id(id.to_string().repeat(32))
                .created_date(DateTime::from_secs(second))
                .set_version_stages(Some(stages.iter().map(ToString::to_string).collect()))
                .build()
        };
        let entries = vec![
            entry('a', 5, &[]),
            entry('b', 5, &[]),
            entry('c', 5, &["AWSPREVIOUS"]),
            entry('d', 5, &["mine", "AWSCURRENT"]),
            entry('e', 4, &[]),
            entry('f', 6, &["AWSPENDING"]),
        ];
        let order: String =
            newest_first(entries).iter().filter_map(|info| info.version.as_str().chars().next()).collect();
        assert_eq!(order, "fdcbae");
    }
}
