use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};

use rustix::fs::{CWD, FileType, mknodat};
use tempfile::TempDir;

use super::*;
use crate::offline::testing::{BROKER, environment, head, identity};
use crate::offline::{OfflineError, seal};

fn shelf() -> (TempDir, Shelf) {
    let place = tempfile::tempdir().expect("directory");
    let folder = place.path().join("bursar").join("offline");
    (place, Shelf { folder })
}

fn put(shelf: &Shelf, environment_: &str) -> PathBuf {
    let head = head(environment_);
    let file = seal(&head, &environment(), &identity()).expect("sealed");
    shelf.put(&head, file).expect("put")
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("metadata").permissions().mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("mode");
}

fn is_not_ours(read: Result<Vec<u8>, Error>) -> bool {
    matches!(read, Err(Error::Offline(OfflineError::NotOurs { .. })))
}

#[test]
fn a_copy_is_its_users_alone_under_a_name_that_says_nothing() {
    let (_place, shelf) = shelf();
    let name = "../../etc/passwd";
    let path = put(&shelf, name);
    assert_eq!((mode(&shelf.folder), mode(&path)), (0o700, 0o600));
    assert_eq!(path.parent(), Some(shelf.folder.as_path()));
    assert!(!path.display().to_string().contains("passwd"));
    assert!(shelf.read(name, BROKER).is_ok());
    assert_eq!(fs::read_dir(&shelf.folder).expect("listed").count(), 1, "nothing is left beside it");
    assert_ne!(shelf.path("a", "b"), shelf.path("b", "a"));
    assert_ne!(shelf.path("a", "b2:c"), shelf.path("a1:b", "c"));
}

#[test]
fn what_is_not_there_is_told_by_name() {
    let (_place, shelf) = shelf();
    for _ in 0..2 {
        let error = shelf.read("shop", BROKER).expect_err("nothing").to_string();
        assert_eq!(error, "no copy of environment `shop` of `https://broker:8443` is kept here");
        put(&shelf, "shop/dev");
    }
    assert!(Shelf::remove(&shelf.path("shop/dev", BROKER)).expect("removed"));
    assert!(!Shelf::remove(&shelf.path("shop/dev", BROKER)).expect("gone"));
}

#[test]
fn a_copy_that_others_could_write_is_not_used() {
    let (_place, shelf) = shelf();
    let path = put(&shelf, "shop");
    for open in [0o604, 0o640, 0o620] {
        set_mode(&path, open);
        assert!(is_not_ours(shelf.read("shop", BROKER)), "{open:o}");
    }
    set_mode(&path, 0o600);
    for open in [0o701, 0o710, 0o770] {
        set_mode(&shelf.folder, open);
        assert!(is_not_ours(shelf.read("shop", BROKER)), "{open:o}");
        assert!(shelf.all().is_err() && shelf.put(&head("shop"), Vec::new()).is_err());
    }
    set_mode(&shelf.folder, 0o700);
    assert!(shelf.read("shop", BROKER).is_ok());
}

#[test]
fn links_and_what_is_no_file_are_not_followed() {
    let (place, shelf) = shelf();
    let path = put(&shelf, "shop");
    let elsewhere = place.path().join("elsewhere");
    fs::rename(&path, &elsewhere).expect("renamed");
    symlink(&elsewhere, &path).expect("link");
    assert!(is_not_ours(shelf.read("shop", BROKER)));
    fs::remove_file(&path).expect("removed");
    mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("a pipe");
    assert!(is_not_ours(shelf.read("shop", BROKER)));
    fs::remove_file(&path).expect("removed");

    let real = place.path().join("real");
    fs::rename(&shelf.folder, &real).expect("renamed");
    symlink(&real, &shelf.folder).expect("link");
    assert!(is_not_ours(shelf.read("shop", BROKER)));
}

#[test]
fn all_that_is_there_is_told_and_what_cannot_be_read_too() {
    let (_place, shelf) = shelf();
    assert!(shelf.all().expect("nothing").is_empty());
    put(&shelf, "one");
    put(&shelf, "two");
    let stray = shelf.folder.join("stray");
    fs::write(&stray, "what somebody put there").expect("file");
    set_mode(&stray, 0o600);
    let all = shelf.all().expect("all");
    let mut known: Vec<_> =
        all.iter().filter_map(|one| one.head.as_ref().ok()).map(|head| &head.environment).collect();
    known.sort();
    assert_eq!(known, ["one", "two"]);
    let strange: Vec<_> = all.iter().filter(|one| one.head.is_err()).map(|one| &one.path).collect();
    assert_eq!(strange, [&stray]);
}

#[test]
fn what_is_larger_than_any_copy_is_not_read() {
    let (_place, shelf) = shelf();
    let path = put(&shelf, "shop");
    let file = fs::OpenOptions::new().write(true).open(&path).expect("file");
    file.set_len(u64::try_from(LARGEST).expect("a size") + 1).expect("longer");
    assert!(matches!(shelf.read("shop", BROKER), Err(Error::TooLarge { .. })));
}
