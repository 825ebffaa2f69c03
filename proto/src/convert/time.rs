//! Times and durations. The core's are wider than the wire's rules allow in places and narrower in others, so each
//! direction says what becomes of the rest.

use std::time::Duration;

use jiff::Timestamp;

use super::WireError;

/// A time as `google.protobuf.Timestamp`: exact, with nanoseconds that count forward from the second also before 1970.
pub fn timestamp_to_wire(time: Timestamp) -> prost_types::Timestamp {
    let (seconds, nanos) = match time.subsec_nanosecond() {
        nanos if nanos < 0 => (time.as_second() - 1, nanos + NANOS_PER_SECOND),
        nanos => (time.as_second(), nanos),
    };
    prost_types::Timestamp { seconds, nanos }
}

/// Reads a `google.protobuf.Timestamp`; `field` is named in errors.
///
/// # Errors
/// [`WireError::Missing`], or [`WireError::OutOfRange`] for nanoseconds outside 0 to 999,999,999 and for years that
/// have more than four digits.
pub fn timestamp_from_wire(
    field: &'static str,
    time: Option<prost_types::Timestamp>,
) -> Result<Timestamp, WireError> {
    let time = time.ok_or(WireError::Missing { field })?;
    if !(0..NANOS_PER_SECOND).contains(&time.nanos) {
        return Err(WireError::OutOfRange { field });
    }
    Timestamp::new(time.seconds, time.nanos).map_err(|_| WireError::OutOfRange { field })
}

/// A duration as `google.protobuf.Duration`. Longer ones than it may hold, 10,000 years, become the longest.
pub fn duration_to_wire(duration: Duration) -> prost_types::Duration {
    match i64::try_from(duration.as_secs()) {
        Ok(seconds) if seconds < MAX_SECONDS => {
            prost_types::Duration { seconds, nanos: duration.subsec_nanos().cast_signed() }
        }
        _ => prost_types::Duration { seconds: MAX_SECONDS, nanos: 0 },
    }
}

/// Reads a `google.protobuf.Duration` that may be absent; `field` is named in errors. Zero is a duration like others:
/// whether it makes sense is for the caller to say.
///
/// # Errors
/// [`WireError::OutOfRange`] when it is negative, longer than 10,000 years, or its nanoseconds are not within a second.
pub fn duration_from_wire(
    field: &'static str,
    duration: Option<prost_types::Duration>,
) -> Result<Option<Duration>, WireError> {
    let Some(duration) = duration else { return Ok(None) };
    let out_of_range = WireError::OutOfRange { field };
    if !(0..NANOS_PER_SECOND).contains(&duration.nanos) || duration.seconds > MAX_SECONDS {
        return Err(out_of_range);
    }
    match (u64::try_from(duration.seconds), u32::try_from(duration.nanos)) {
        (Ok(seconds), Ok(nanos)) => Ok(Some(Duration::new(seconds, nanos))),
        _ => Err(out_of_range),
    }
}

const NANOS_PER_SECOND: i32 = 1_000_000_000;

/// The bound that `google/protobuf/duration.proto` states.
const MAX_SECONDS: i64 = 315_576_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn wire_time(seconds: i64, nanos: i32) -> Option<prost_types::Timestamp> {
        Some(prost_types::Timestamp { seconds, nanos })
    }

    fn wire_duration(seconds: i64, nanos: i32) -> Option<prost_types::Duration> {
        Some(prost_types::Duration { seconds, nanos })
    }

    #[test]
    fn times_read_back() {
        let nearly_a_second = Timestamp::constant(1_767_225_600, 999_999_999);
        for time in [Timestamp::UNIX_EPOCH, Timestamp::MIN, Timestamp::MAX, nearly_a_second] {
            assert_eq!(timestamp_from_wire("time", Some(timestamp_to_wire(time))), Ok(time));
        }
    }

    #[test]
    fn before_1970_nanoseconds_count_forward() {
        let time = Timestamp::constant(-1, -250_000_000);
        assert_eq!(Some(timestamp_to_wire(time)), wire_time(-2, 750_000_000));
        assert_eq!(timestamp_from_wire("time", wire_time(-2, 750_000_000)), Ok(time));
    }

    #[test]
    fn a_missing_time_is_named() {
        assert_eq!(timestamp_from_wire("time", None), Err(WireError::Missing { field: "time" }));
    }

    #[test]
    fn times_out_of_range_are_refused() {
        for bad in
            [wire_time(0, -1), wire_time(0, NANOS_PER_SECOND), wire_time(i64::MAX, 0), wire_time(i64::MIN, 0)]
        {
            assert_eq!(timestamp_from_wire("time", bad), Err(WireError::OutOfRange { field: "time" }));
        }
    }

    #[test]
    fn durations_read_back() {
        for duration in [Duration::ZERO, Duration::from_nanos(1), Duration::new(3600, 999_999_999)] {
            assert_eq!(duration_from_wire("ttl", Some(duration_to_wire(duration))), Ok(Some(duration)));
        }
    }

    #[test]
    fn the_longest_duration_stays_on_the_wire() {
        let longest = duration_to_wire(Duration::MAX);
        assert_eq!(Some(longest), wire_duration(MAX_SECONDS, 0));
        assert!(duration_from_wire("ttl", Some(longest)).is_ok());
    }

    #[test]
    fn an_absent_duration_is_none() {
        assert_eq!(duration_from_wire("ttl", None), Ok(None));
    }

    #[test]
    fn durations_out_of_range_are_refused() {
        let bad = [
            wire_duration(-1, 0),
            wire_duration(0, -1),
            wire_duration(-1, -1),
            wire_duration(0, NANOS_PER_SECOND),
            wire_duration(MAX_SECONDS + 1, 0),
            wire_duration(i64::MIN, i32::MIN),
        ];
        for duration in bad {
            assert_eq!(duration_from_wire("ttl", duration), Err(WireError::OutOfRange { field: "ttl" }));
        }
    }
}
