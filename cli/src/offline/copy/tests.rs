use super::*;
use crate::offline::testing::{BROKER, GIVEN, UNTIL, environment, head};

fn at(time: Timestamp, seconds: i64) -> Timestamp {
    Timestamp::new(time.as_second() + seconds, 0).expect("a time")
}

#[test]
fn a_head_reads_back_whatever_the_environment_is_called() {
    for name in ["shop/dev", "a\nb", "\"\\{}", "ünï", &"x".repeat(255)] {
        let head = head(name);
        let mut file = head.written().expect("written");
        let length = file.len();
        file.extend_from_slice(b"age-encryption.org/v1\n\n{}");
        assert_eq!(Head::read(&file), Some((head, length)));
    }
}

#[test]
fn what_is_no_head_is_none() {
    let good = String::from_utf8(head("shop").written().expect("written")).expect("text");
    let more = good.replace("{\"environment\"", "{\"more\":1,\"environment\"");
    let less = good.replace("\"revision\":3,", "");
    let other = good.replace("copy 1", "copy 2");
    let endless = good.trim_end().to_owned();
    let long = good.replace("shop", &"x".repeat(LONGEST));
    for bad in
        ["", "\n", "bursar offline copy 1", "bursar offline copy 1\n", &more, &less, &other, &endless, &long]
    {
        assert_eq!(Head::read(bad.as_bytes()), None, "{bad}");
    }
}

#[test]
fn a_copy_is_usable_from_when_it_was_given_until_its_end_and_not_a_moment_longer() {
    let head = head("shop");
    assert!(head.usable(GIVEN).is_ok());
    assert!(head.usable(at(GIVEN, -60)).is_ok(), "clocks are a little apart");
    assert!(head.usable(at(UNTIL, -1)).is_ok());
    assert!(matches!(head.usable(UNTIL), Err(OfflineError::Over { .. })));
    assert!(matches!(head.usable(at(GIVEN, -61)), Err(OfflineError::ClockBack { .. })));
}

#[test]
fn a_machine_whose_clock_is_off_keeps_nothing() {
    let head = head("shop");
    for seconds in [0, 60, -60] {
        assert!(head.is_timely(at(GIVEN, seconds)).is_ok(), "{seconds}");
    }
    for seconds in [61, -61, 86_400, -86_400] {
        assert!(
            matches!(head.is_timely(at(GIVEN, seconds)), Err(OfflineError::ClockOff { .. })),
            "{seconds}"
        );
    }
}

#[test]
fn a_copy_is_of_one_environment_of_one_broker() {
    let head = head("shop");
    let is_of = |environment, broker| head.is_of(environment, broker, Path::new("x"));
    assert!(is_of("shop", BROKER).is_ok());
    assert!(matches!(is_of("shop/prod", BROKER), Err(OfflineError::OfSomethingElse { .. })));
    assert!(matches!(is_of("shop", "https://other:8443"), Err(OfflineError::OfSomethingElse { .. })));
}

#[test]
fn values_come_back_as_they_were_and_leases_do_not() {
    let before = environment();
    let bytes = encoded(&before, 16).expect("encoded");
    assert_eq!(bytes.capacity(), bytes.len() + 16, "it must not grow");
    let after = decoded(&bytes).expect("decoded");
    assert!(after.leases.is_empty() && after.revision == before.revision);
    for (before, after) in before.variables.iter().zip(&after.variables) {
        assert!(before.name == after.name && before.value.ct_eq(after.value.expose()));
        assert_eq!((before.secret, &before.contract), (after.secret, &after.contract));
    }
    for (before, after) in before.files.iter().zip(&after.files) {
        assert!(before.path == after.path && before.contents.ct_eq(after.contents.expose()));
        assert_eq!((before.mode, before.secret), (after.mode, after.secret));
    }
    assert_eq!((after.variables.len(), after.files.len()), (2, 1));
}

/// Whoever may write the folder may put anything there.
#[test]
fn whatever_stands_in_a_file_is_read_as_a_head_or_not_at_all() {
    let good = [head("shop/dev").written().expect("written"), b"age-encryption.org/v1\n".to_vec()].concat();
    for _ in 0..20_000 {
        let mut file = good.clone();
        for _ in 0..fastrand::usize(1..4) {
            let at = fastrand::usize(..file.len());
            match fastrand::u8(..3) {
                0 => file[at] = fastrand::u8(..),
                1 => file.truncate(at.max(1)),
                _ => file.insert(at, *fastrand::choice(b"\n\"{}:0\\\xff").expect("a byte")),
            }
        }
        if let Some((head, length)) = Head::read(&file) {
            assert_eq!(file.get(length - 1), Some(&b'\n'));
            let again = head.written().expect("written");
            assert_eq!(Head::read(&again), Some((head, again.len())));
        }
    }
}
