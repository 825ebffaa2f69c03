//! The number of a version.

use bursar_core::Version;
use rusqlite::types::{ToSql, ToSqlOutput};

/// Counts from 1 for each path; never given out twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Number(i64);

impl Number {
    /// The number that `version` writes. None when this store never writes it so: `03`, `+3`, `0`, `AWSCURRENT`.
    pub(crate) fn parse(version: &Version) -> Option<Self> {
        let number: u64 = version.as_str().parse().ok()?;
        if number == 0 || Version::number(number) != *version {
            return None;
        }
        i64::try_from(number).ok().map(Self)
    }

    /// A number as a row holds it.
    pub(crate) fn from_row(number: i64) -> Self {
        Self(number)
    }

    /// The first when there is none yet, or the one after `newest`. None past the end of counting.
    pub(crate) fn following(newest: Option<Self>) -> Option<Self> {
        newest.map_or(0, |newest| newest.0).checked_add(1).map(Self)
    }

    /// The newest version to destroy when `kept` versions up to this one stay.
    pub(crate) fn before(self, kept: u32) -> Self {
        Self(self.0.saturating_sub(i64::from(kept)))
    }

    /// As check-and-set counts, where 0 is "none yet".
    pub(crate) fn as_expected(newest: Option<Self>) -> i64 {
        newest.map_or(0, |newest| newest.0)
    }

    pub(crate) fn to_be_bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }
}

impl From<Number> for Version {
    fn from(number: Number) -> Self {
        Self::number(number.0.unsigned_abs())
    }
}

impl ToSql for Number {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        self.0.to_sql()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_way_that_the_store_writes_a_number_is_one() {
        let parse = |text| Number::parse(&Version::from_store(text).expect("version"));
        assert_eq!(parse("12"), Some(Number(12)));
        for text in ["0", "03", "-1", "1.0", "latest", "9223372036854775808", "99999999999999999999"] {
            assert_eq!(parse(text), None, "`{text}` must name no version");
        }
    }

    #[test]
    fn counting_starts_at_one_and_stops_at_the_end() {
        assert_eq!(Number::following(None), Some(Number(1)));
        assert_eq!(Number::following(Some(Number(i64::MAX))), None);
    }
}
