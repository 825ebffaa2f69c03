//! Which engine a path belongs to.

use std::collections::{BTreeMap, BTreeSet};

use bursar_core::SecretPath;

use crate::config::{ConfigError, MountKind};

/// The configured mounts by their path, without slashes at the ends.
#[derive(Debug)]
pub(crate) struct Mounts(BTreeMap<String, MountKind>);

/// A path, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Place<'path> {
    pub(crate) mount: &'path str,
    pub(crate) kind: MountKind,
    /// What follows the mount; empty at the mount itself.
    pub(crate) rest: &'path str,
}

impl Mounts {
    pub(crate) fn new(configured: BTreeMap<String, MountKind>) -> Result<Self, ConfigError> {
        let checked = configured.into_iter().map(|(mount, kind)| Ok((mount_path(&mount)?, kind)));
        checked.collect::<Result<_, _>>().map(Self)
    }

    /// The longest mount that `path` is at or under.
    pub(crate) fn place<'path>(&self, path: &'path SecretPath) -> Option<Place<'path>> {
        let path = path.as_str();
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        let at = |end| {
            let (mount, rest) = path.split_at_checked(end)?;
            let kind = *self.0.get(mount)?;
            Some(Place { mount, kind, rest: rest.trim_start_matches('/') })
        };
        ends.rev().find_map(at)
    }

    /// The folders right below `folder` that lead to mounts, each with a `/` at its end.
    pub(crate) fn below(&self, folder: Option<&SecretPath>) -> BTreeSet<String> {
        let inside = |mount: &str| match folder {
            None => Some(mount.to_owned()),
            Some(folder) => mount.strip_prefix(folder.as_str())?.strip_prefix('/').map(str::to_owned),
        };
        let first = |rest: String| rest.split('/').next().map(|segment| format!("{segment}/"));
        self.0.keys().filter_map(|mount| inside(mount)).filter_map(first).collect()
    }

    /// Whether reading `path` creates a credential.
    pub(crate) fn creates(&self, path: &SecretPath) -> bool {
        self.place(path).is_some_and(|place| place.kind.creates())
    }

    pub(crate) fn any(&self, wanted: impl Fn(MountKind) -> bool) -> bool {
        self.0.values().any(|kind| wanted(*kind))
    }
}

/// Checks a mount path and takes the slashes off its ends, which the store's own tools print and accept.
pub(crate) fn mount_path(mount: &str) -> Result<String, ConfigError> {
    let bare = mount.trim_matches('/');
    SecretPath::from_store(bare)
        .map(|path| path.as_str().to_owned())
        .map_err(|_| ConfigError::MountPath { mount: mount.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mounts() -> Mounts {
        let configured = [
            ("secret/", MountKind::KvV2),
            ("team/kv", MountKind::KvV1),
            ("team/kv/database", MountKind::Leased),
        ];
        Mounts::new(configured.map(|(mount, kind)| (mount.to_owned(), kind)).into()).expect("mounts")
    }

    fn place(path: &str) -> Option<(String, MountKind, String)> {
        let path = SecretPath::from_store(path).expect("path");
        mounts().place(&path).map(|place| (place.mount.to_owned(), place.kind, place.rest.to_owned()))
    }

    #[test]
    fn the_longest_mount_wins() {
        let expected = ("team/kv/database".to_owned(), MountKind::Leased, "creds/ro".to_owned());
        assert_eq!(place("team/kv/database/creds/ro"), Some(expected));
        assert_eq!(place("team/kv/data"), Some(("team/kv".to_owned(), MountKind::KvV1, "data".to_owned())));
    }

    #[test]
    fn a_mount_ends_where_a_segment_does() {
        assert_eq!(place("secrets/a"), None);
        assert_eq!(place("team"), None);
        assert_eq!(place("secret"), Some(("secret".to_owned(), MountKind::KvV2, String::new())));
    }

    #[test]
    fn folders_lead_to_mounts() {
        let team = SecretPath::from_store("team").expect("path");
        assert_eq!(mounts().below(None), ["secret/", "team/"].map(String::from).into());
        assert_eq!(mounts().below(Some(&team)), ["kv/"].map(String::from).into());
    }

    #[test]
    fn what_is_no_mount_path_is_refused() {
        for mount in ["", "/", "a//b", "../sys", "a/./b", "a\nb"] {
            let made = Mounts::new([(mount.to_owned(), MountKind::KvV1)].into());
            assert!(matches!(made, Err(ConfigError::MountPath { .. })), "`{mount}` must be refused");
        }
    }
}
