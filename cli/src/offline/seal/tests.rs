use super::*;
use crate::offline::testing::{VALUE, environment, head, identity};

fn opened(file: &[u8], length: usize, identity: &Identity) -> Result<ResolvedEnvironment, OfflineError> {
    open(file, length, identity, Path::new("a.copy"))
}

/// A sealed file, how long its head is, and who opens it.
fn sealed() -> (Vec<u8>, usize, Identity) {
    let (head, identity) = (head("shop"), identity());
    let file = seal(&head, &environment(), &identity).expect("sealed");
    let (_, length) = Head::read(&file).expect("a head");
    (file, length, identity)
}

#[test]
fn what_is_sealed_opens_by_its_identity_and_shows_nothing() {
    let (file, length, identity) = sealed();
    let found = opened(&file, length, &identity).expect("opened");
    assert!(found.variables[0].value.ct_eq(VALUE.as_bytes()));
    let shows = |part: &[u8]| file.windows(part.len()).any(|window| window == part);
    assert!(!shows(VALUE.as_bytes()) && !shows(b"KEY") && !shows(b"tls/key.der"));
}

#[test]
fn the_same_is_sealed_in_another_way_each_time() {
    let identity = identity();
    let sealed = || seal(&head("shop"), &environment(), &identity).expect("sealed");
    let (one, other) = (sealed(), sealed());
    let (_, length) = Head::read(&one).expect("a head");
    assert_eq!(one[..length], other[..length]);
    let behind = |file: &[u8]| file[length..].chunks(16).map(<[u8]>::to_vec).collect::<Vec<_>>();
    assert!(behind(&one).iter().zip(&behind(&other)).all(|(one, other)| one != other));
}

#[test]
fn another_identity_does_not_open_it_and_any_of_a_file_does() {
    let (file, length, mine) = sealed();
    let other = identity();
    assert!(matches!(opened(&file, length, &other), Err(OfflineError::OtherIdentity { .. })));
    let both = Identity { keys: other.keys.into_iter().chain(mine.keys).collect() };
    assert!(opened(&file, length, &both).is_ok());
}

#[test]
fn nobody_makes_a_copy_for_an_identity_that_he_does_not_have() {
    let (file, length, victim) = sealed();
    let forged = seal(&head("shop"), &environment(), &identity()).expect("sealed");
    assert!(matches!(opened(&forged, length, &victim), Err(OfflineError::OtherIdentity { .. })));
    // With the victim's own mark.
    let marked = [&file[..length + SALT + MARK], &forged[length + SALT + MARK..]].concat();
    assert!(matches!(opened(&marked, length, &victim), Err(OfflineError::Changed { .. })));
    // Not sealed at all.
    let plain = encoded(&environment(), 0).expect("encoded");
    let open = [&file[..length + SALT + MARK], &plain].concat();
    assert!(matches!(opened(&open, length, &victim), Err(OfflineError::Changed { .. })));
}

#[test]
fn a_file_that_was_changed_anywhere_does_not_open() {
    let (file, length, identity) = sealed();
    for at in 0..file.len() {
        let mut changed = file.clone();
        changed[at] ^= 1;
        assert!(opened(&changed, length, &identity).is_err(), "byte {at} was changed");
        assert!(opened(&file[..at], length, &identity).is_err(), "it was cut at {at}");
    }
    let longer = [&file[..], b"x"].concat();
    assert!(opened(&longer, length, &identity).is_err());
}

#[test]
fn what_belongs_to_one_copy_does_not_open_under_the_head_of_another() {
    let (file, length, identity) = sealed();
    let longer = Head { usable_until: jiff::Timestamp::MAX, ..head("shop") };
    let other = longer.written().expect("written");
    let moved = [&other[..], &file[length..]].concat();
    assert!(matches!(opened(&moved, other.len(), &identity), Err(OfflineError::Changed { .. })));
}
