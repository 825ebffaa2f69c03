//! `[disk]`: how much room there has to be.

use bursar_core::settings::Section;

/// Limits on the free space of the file system that the data directory is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskLimits {
    /// Below this the broker is degraded.
    pub warn: Threshold,
    /// Below this it issues nothing.
    pub refuse: Threshold,
}

/// An amount of space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threshold {
    Bytes(u64),
    /// Of the whole file system.
    Percent(u8),
}

pub(super) fn disk(disk: &mut Section<'_>) -> DiskLimits {
    let limits = DiskLimits {
        warn: disk.parsed("warn", threshold).unwrap_or(Threshold::Bytes(1 << 30)),
        refuse: disk.parsed("refuse", threshold).unwrap_or(Threshold::Bytes(256 << 20)),
    };
    // An amount and a share are compared once the disk is known; the larger one then counts first.
    let swapped = match (limits.warn, limits.refuse) {
        (Threshold::Bytes(warn), Threshold::Bytes(refuse)) => refuse > warn,
        (Threshold::Percent(warn), Threshold::Percent(refuse)) => refuse > warn,
        _ => false,
    };
    if swapped {
        disk.fault::<()>("refuse", "must not be more than `warn`".to_owned());
    }
    limits
}

fn threshold(text: &str) -> Result<Threshold, String> {
    let form = || format!("`{text}` is no amount of space; write one like `512 MiB`, `2 GiB` or `5%`");
    if let Some(percent) = text.strip_suffix('%') {
        let percent = percent.trim_end().parse().ok().filter(|percent| *percent <= 50);
        return percent.map(Threshold::Percent).ok_or_else(|| format!("`{text}` is not `0%` to `50%`"));
    }
    let digits = text.len() - text.trim_start_matches(|digit: char| digit.is_ascii_digit()).len();
    let (number, unit) = text.split_at_checked(digits).ok_or_else(form)?;
    let shift = match unit.trim_start() {
        "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return Err(form()),
    };
    let number: u64 = number.parse().map_err(|_| form())?;
    number.checked_mul(1 << shift).map(Threshold::Bytes).ok_or_else(form)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_has_a_unit_or_is_a_share() {
        let bytes = |number| Ok(Threshold::Bytes(number));
        assert_eq!(threshold("512 MiB"), bytes(512 << 20));
        assert_eq!(threshold("2GiB"), bytes(2 << 30));
        assert_eq!(threshold("0 B"), bytes(0));
        assert_eq!(threshold("5%"), Ok(Threshold::Percent(5)));
        for bad in ["", "512", "MiB", "-1 MiB", "1 MB", "51%", "%", "99999999999 TiB", "5 %%"] {
            assert!(threshold(bad).is_err(), "`{bad}`");
        }
    }
}
