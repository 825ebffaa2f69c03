//! Versions of files, as the status of a pod's volumes shows them to whoever may read it.
//!
//! They tell that a file changed and nothing of what is in it: a digest under a key that is in the memory of this process
//! alone, so that nobody can try values out, and neither two files nor two pods can be compared. An agent that starts again
//! calls everything by another version once.

use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::Arc;

use bursar_core::Secret;
use bursar_core::secret::SecretData;

/// The key.
#[derive(Default)]
pub(super) struct Versions(RandomState);

impl Versions {
    /// The version of these contents at `path` for a pod. Equal contents elsewhere have another.
    pub(super) fn of(&self, pod_uid: &str, path: &str, contents: Arc<Secret>) -> String {
        let mut hasher = self.0.build_hasher();
        (pod_uid, path).hash(&mut hasher);
        SecretData::Opaque(contents).feed(&mut hasher);
        format!("{:016x}", hasher.finish())
    }
}

impl fmt::Debug for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Versions").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_changes_with_the_contents_and_is_known_to_this_process_alone() {
        let (one, other) = (Versions::default(), Versions::default());
        let of = |versions: &Versions, pod: &str, path: &str, text: &str| {
            versions.of(pod, path, Arc::new(Secret::from(text.to_owned())))
        };
        let version = of(&one, "pod", "path", "a");
        assert_eq!(version, of(&one, "pod", "path", "a"));
        assert_ne!(version, of(&one, "pod", "path", "b"));
        assert_ne!(version, of(&one, "pod", "other", "a"));
        assert_ne!(version, of(&one, "other", "path", "a"));
        assert_ne!(version, of(&other, "pod", "path", "a"));
    }
}
