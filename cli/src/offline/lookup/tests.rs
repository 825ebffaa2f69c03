use std::fs;

use tempfile::TempDir;

use super::*;
use crate::offline::seal;
use crate::offline::testing::{BROKER, GIVEN, UNTIL, VALUE, environment, head, identity};

struct Kept {
    _place: TempDir,
    shelf: Shelf,
    identity: Option<Identity>,
}

impl Kept {
    fn new(name: &str) -> Self {
        let (place, identity) = (tempfile::tempdir().expect("directory"), identity());
        let shelf = Shelf { folder: place.path().join("offline") };
        let head = head(name);
        shelf.put(&head, seal(&head, &environment(), &identity).expect("sealed")).expect("put");
        Self { _place: place, shelf, identity: Some(identity) }
    }

    fn look_up(&mut self, name: &str, now: Timestamp) -> Result<(Head, ResolvedEnvironment), Error> {
        let identity = self.identity.take();
        look_up(&self.shelf, name, BROKER, now, || Ok(identity.expect("asked once")))
    }

    fn refused(&mut self, name: &str, now: Timestamp) -> OfflineError {
        match self.look_up(name, now) {
            Err(Error::Offline(error)) => error,
            other => panic!("it was not refused: {other:?}"),
        }
    }

    fn change(&self, name: &str, from: &str, to: &str) {
        let path = self.shelf.path(name, BROKER);
        let file = fs::read(&path).expect("file");
        let at = file.windows(from.len()).position(|part| part == from.as_bytes()).expect("it is there");
        let changed = [&file[..at], to.as_bytes(), &file[at + from.len()..]].concat();
        fs::write(&path, changed).expect("written");
    }
}

#[test]
fn a_copy_gives_what_was_kept() {
    let (head, found) = Kept::new("shop").look_up("shop", GIVEN).expect("found");
    assert_eq!(head.principal, "spiffe://example.org/user/ada");
    assert!(found.variables[0].value.ct_eq(VALUE.as_bytes()));
}

#[test]
fn one_that_is_over_is_removed_and_no_identity_is_asked_for() {
    let mut kept = Kept::new("shop");
    kept.identity = None;
    assert!(matches!(kept.refused("shop", UNTIL), OfflineError::Over { .. }));
    assert!(!kept.shelf.path("shop", BROKER).exists());
    assert!(matches!(kept.refused("shop", GIVEN), OfflineError::NotKept { .. }));
}

#[test]
fn a_clock_that_was_set_back_uses_nothing_and_removes_nothing() {
    let mut kept = Kept::new("shop");
    let before = Timestamp::new(GIVEN.as_second() - 3600, 0).expect("a time");
    assert!(matches!(kept.refused("shop", before), OfflineError::ClockBack { .. }));
    assert!(kept.shelf.path("shop", BROKER).exists());
}

#[test]
fn times_that_were_changed_in_the_head_do_not_count() {
    let mut kept = Kept::new("shop");
    kept.change("shop", "2026-01-01T08:00:00Z", "2036-01-01T08:00:00Z");
    assert!(matches!(kept.refused("shop", UNTIL), OfflineError::Changed { .. }));
}

#[test]
fn a_copy_that_was_renamed_is_not_taken_for_another() {
    let mut kept = Kept::new("shop/dev");
    let (dev, prod) = (kept.shelf.path("shop/dev", BROKER), kept.shelf.path("shop/prod", BROKER));
    fs::rename(dev, prod).expect("renamed");
    assert!(matches!(kept.refused("shop/prod", GIVEN), OfflineError::OfSomethingElse { .. }));
    // Nor when its head is made to fit.
    let mut kept = Kept::new("shop/dev1");
    let (dev, prod) = (kept.shelf.path("shop/dev1", BROKER), kept.shelf.path("shop/prod", BROKER));
    kept.change("shop/dev1", "shop/dev1", "shop/prod");
    fs::rename(dev, prod).expect("renamed");
    assert!(matches!(kept.refused("shop/prod", GIVEN), OfflineError::Changed { .. }));
}

#[test]
fn what_is_no_copy_is_told() {
    let mut kept = Kept::new("shop");
    kept.change("shop", "bursar offline copy 1", "bursar offline copy 9");
    assert!(matches!(kept.refused("shop", GIVEN), OfflineError::NoCopy { .. }));
}
