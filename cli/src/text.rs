//! Words, times and other people's text as a terminal shows them.

use std::time::Duration;

use jiff::{Timestamp, Unit};

/// Text from elsewhere, with its control characters escaped so that it cannot drive the terminal. Line ends within it
/// stay line ends.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' => shown.push('\n'),
            _ if character.is_control() || is_bidi(character) => shown.extend(character.escape_unicode()),
            _ => shown.push(character),
        }
    }
    shown
}

/// As [`printable`], on one line.
pub(crate) fn line(text: &str) -> String {
    printable(text).replace('\n', "\\n")
}

/// Characters that reorder what stands around them, by which one name can be made to look like another (Unicode
/// Technical Report 36, section 2.5).
fn is_bidi(character: char) -> bool {
    matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
}

/// `45s`, `12m`, `3h 20m`, `4d 2h`: the two largest units.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => two(minutes, "m", seconds % 60, "s"),
        3600..86_400 => two(hours, "h", minutes % 60, "m"),
        _ => two(days, "d", hours % 24, "h"),
    }
}

fn two(large: u64, large_unit: &str, small: u64, small_unit: &str) -> String {
    match small {
        0 => format!("{large}{large_unit}"),
        _ => format!("{large}{large_unit} {small}{small_unit}"),
    }
}

/// `in 12m`, `3h ago`, seen from `now`.
pub(crate) fn relative(time: Timestamp, now: Timestamp) -> String {
    let distance = time.duration_since(now);
    let length = duration(distance.unsigned_abs());
    if distance.is_negative() { format!("{length} ago") } else { format!("in {length}") }
}

/// `2026-01-01T00:00:00Z`, to the second.
pub(crate) fn time(time: Timestamp) -> String {
    time.round(Unit::Second).unwrap_or(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_and_not_obeyed() {
        assert_eq!(line("a\u{1b}[31mb\nc\u{9b}"), "a\\u{1b}[31mb\\nc\\u{9b}");
        assert_eq!(line("admin\u{202e}txt"), "admin\\u{202e}txt");
        assert_eq!(line("ключ ünïcode"), "ключ ünïcode");
    }

    #[test]
    fn durations_have_their_two_largest_units() {
        let text = |seconds| duration(Duration::from_secs(seconds));
        assert_eq!(text(0), "0s");
        assert_eq!(text(59), "59s");
        assert_eq!(text(60), "1m");
        assert_eq!(text(3661), "1h 1m");
        assert_eq!(text(86_400 * 4 + 7200 + 59), "4d 2h");
    }

    #[test]
    fn times_are_told_from_now() {
        let now = Timestamp::constant(1_767_225_600, 0);
        assert_eq!(relative(Timestamp::constant(1_767_225_660, 0), now), "in 1m");
        assert_eq!(relative(Timestamp::constant(1_767_225_540, 0), now), "1m ago");
        assert_eq!(time(Timestamp::constant(1_767_225_600, 400_000_000)), "2026-01-01T00:00:00Z");
    }
}
