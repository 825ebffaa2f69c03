//! The token that is kept until shortly before its end, so that a person approves once and not for each command.
//!
//! It is kept in `$XDG_RUNTIME_DIR`, which is the user's alone and in memory, and only where that is so: a token is
//! never written to a disk unasked. Its file is named for what it is a token of, so that another issuer, client, scope or
//! audience is another file.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bursar_core::Secret;
use bursar_exec::is_in_memory;
use bursar_sdk::token_ends_at;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::disclose;
use crate::error::Error;
use crate::input;
use crate::settings::{Folders, IssuerSettings};

/// The place of one token.
#[derive(Debug)]
pub(crate) struct Kept {
    folder: PathBuf,
    name: String,
}

impl Kept {
    /// Where it is for `settings`; nothing where there is no folder to keep tokens in.
    pub(crate) fn of(settings: &IssuerSettings, folders: &Folders) -> Option<Self> {
        let runtime = folders.runtime().filter(|runtime| is_private_memory(runtime))?;
        Some(Self { folder: runtime.join("bursar"), name: name(settings) })
    }

    /// Its file.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.join(&self.name)
    }

    /// Waits until nobody else gets a token for this place, and keeps others waiting until it is dropped: commands that
    /// start together are to ask a person once. `waiting` is called when somebody else is there.
    ///
    /// # Errors
    /// [`Error::Unwritable`].
    pub(crate) fn turn(&self, waiting: impl FnOnce()) -> Result<File, Error> {
        let path = self.folder.join(format!("{}.lock", self.name));
        let unwritable = |source| Error::Unwritable { path: path.clone(), source };
        match DirBuilder::new().mode(0o700).create(&self.folder) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(unwritable(error)),
            _ => {}
        }
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let lock = lock.map_err(unwritable)?;
        if lock.try_lock().is_err() {
            waiting();
            lock.lock().map_err(unwritable)?;
        }
        Ok(lock)
    }

    /// The token that is kept, and when it ends, if that is not soon.
    pub(crate) fn token(&self, now: Timestamp) -> Option<(Secret, Timestamp)> {
        let path = self.path();
        let token = path.is_file().then(|| input::secret(Some(&path), "token"))?.ok()?;
        let ends = token_ends_at(&token)?;
        (now.checked_add(MARGIN).ok()? < ends).then_some((token, ends))
    }

    /// Keeps this one from now on.
    ///
    /// # Errors
    /// [`Error::Unwritable`].
    pub(crate) fn keep(&self, token: &Secret) -> Result<(), Error> {
        disclose::replace_file(&self.path(), token)
    }
}

/// Whether nobody else may look into `folder`, and what is in it is on no disk.
fn is_private_memory(folder: &Path) -> bool {
    let ours = folder.metadata().is_ok_and(|metadata| {
        metadata.is_dir()
            && metadata.uid() == rustix::process::geteuid().as_raw()
            && metadata.mode() & 0o077 == 0
    });
    ours && is_in_memory(folder)
}

fn name(settings: &IssuerSettings) -> String {
    let IssuerSettings { issuer, url: _, client_id, scope, audience, which, ca: _ } = settings;
    let mut digest = Sha256::new();
    for part in [issuer, client_id, scope, audience.as_deref().unwrap_or_default(), &format!("{which:?}")] {
        // With its length, so that no two lists of parts are the same text.
        digest.update(format!("{}:{part}", part.len()));
    }
    let digest = data_encoding::HEXLOWER.encode(&digest.finalize());
    format!("token-{}", digest.get(..NAME).unwrap_or(&digest))
}

/// A token that ends sooner is not handed out again.
const MARGIN: Duration = Duration::from_secs(60);
/// Of the hash, in digits.
const NAME: usize = 16;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use bursar_core::{Clock, SystemClock};
    use data_encoding::BASE64URL_NOPAD;

    use super::*;
    use crate::settings::Use;

    fn settings(scope: &str) -> IssuerSettings {
        IssuerSettings {
            issuer: "https://login".to_owned(),
            url: reqwest::Url::parse("https://login").expect("a URL"),
            client_id: "bursar".to_owned(),
            scope: scope.to_owned(),
            audience: None,
            which: Use::IdToken,
            ca: None,
        }
    }

    fn kept() -> (tempfile::TempDir, Kept) {
        let place = tempfile::tempdir().expect("directory");
        let kept = Kept { folder: place.path().join("bursar"), name: name(&settings("openid")) };
        (place, kept)
    }

    fn token(seconds: i64) -> Secret {
        let exp = SystemClock.now().as_second() + seconds;
        let claims = BASE64URL_NOPAD.encode(format!("{{\"exp\":{exp}}}").as_bytes());
        Secret::from(format!("e30.{claims}.c2ln"))
    }

    #[test]
    fn a_token_is_handed_out_again_until_shortly_before_its_end_and_is_its_users_alone() {
        let (_place, kept) = kept();
        let _turn = kept.turn(|| ()).expect("a turn");
        let now = SystemClock.now();
        assert!(kept.token(now).is_none());
        kept.keep(&token(600)).expect("kept");
        let mode = |path: &Path| path.metadata().expect("metadata").permissions().mode() & 0o777;
        assert_eq!((mode(&kept.path()), mode(&kept.folder)), (0o600, 0o700));
        assert!(kept.token(now).is_some());
        kept.keep(&token(55)).expect("kept");
        assert!(kept.token(now).is_none(), "one that ends in a moment is of no use");
        kept.keep(&Secret::from("opaque".to_owned())).expect("kept");
        assert!(kept.token(now).is_none());
    }

    #[test]
    fn what_another_is_asked_for_is_another_file() {
        assert_ne!(name(&settings("openid")), name(&settings("openid groups")));
    }

    #[test]
    fn one_at_a_time_gets_a_token() {
        let (_place, kept) = kept();
        let first = kept.turn(|| ()).expect("a turn");
        let (said, heard) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let other = scope.spawn(|| kept.turn(|| said.send(()).expect("heard")).map(drop));
            heard.recv().expect("the other waits");
            drop(first);
            assert!(other.join().expect("ended").is_ok());
        });
    }

    #[test]
    fn a_folder_on_a_disk_or_of_everybody_keeps_no_token() {
        assert!(!is_private_memory(Path::new("/nowhere")));
        assert!(!is_private_memory(Path::new("/proc/self")));
        let Ok(place) = tempfile::tempdir_in("/dev/shm") else { panic!("/dev/shm is needed, a tmpfs") };
        let opened = |mode| {
            std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(mode)).expect("mode");
            is_private_memory(place.path())
        };
        assert_eq!([0o700, 0o750, 0o701].map(opened), [true, false, false]);
    }
}
