//! Latencies in buckets whose width grows with their value, as HdrHistogram has them: a fixed size whatever is recorded,
//! and every value known to within 1.6 %.

use std::time::Duration;

/// How often each latency was seen.
pub(crate) struct Histogram {
    buckets: Vec<u32>,
    count: u64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self { buckets: vec![0; BUCKETS], count: 0 }
    }

    pub(crate) fn record(&mut self, latency: Duration) {
        let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        if let Some(bucket) = self.buckets.get_mut(bucket(nanoseconds)) {
            *bucket += 1;
            self.count += 1;
        }
    }

    /// Takes in what another recorded.
    pub(crate) fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.count += other.count;
    }

    /// How many latencies were recorded.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// What `percent` of the latencies do not exceed: the upper edge of the bucket in which that one is. Zero when
    /// nothing was recorded.
    pub(crate) fn percentile(&self, percent: u64) -> Duration {
        let rank = (self.count * percent).div_ceil(100);
        let mut seen = 0;
        for (index, bucket) in self.buckets.iter().enumerate() {
            seen += u64::from(*bucket);
            if seen >= rank && seen > 0 {
                return Duration::from_nanos(upper_edge(index));
            }
        }
        Duration::ZERO
    }
}

/// Values below `2 * HALF` have a bucket each; above, each power of two is cut into `HALF` buckets.
fn bucket(value: u64) -> usize {
    let shift = (value | HALF).ilog2() - HALF.ilog2();
    let index = u64::from(shift) * HALF + (value >> shift);
    usize::try_from(index).unwrap_or(usize::MAX)
}

fn upper_edge(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let shift = (bucket / HALF).saturating_sub(1);
    // Less one before the shift is undone, not after: the last bucket ends with the last number there is.
    ((bucket - shift * HALF) << shift) + ((1 << shift) - 1)
}

const HALF: u64 = 64;
/// Of every `u64`: one for each `HALF` values of 0, 1, … 57 shifts, and one more for the smallest.
const BUCKETS: usize = (HALF * (64 - HALF.ilog2() as u64 + 1)) as usize;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_is_in_the_bucket_that_ends_at_or_just_above_it() {
        for value in (0..1_000).chain([4_095, 4_096, 1_000_000_007, u64::MAX / 3, u64::MAX]) {
            let index = bucket(value);
            assert!(index < BUCKETS, "{value} has no bucket");
            let edge = upper_edge(index);
            assert!(edge >= value && edge - value <= value / HALF, "{value} is reported as {edge}");
        }
    }

    #[test]
    fn percentiles_are_of_all_that_was_recorded_together() {
        let (mut low, mut high) = (Histogram::new(), Histogram::new());
        (1..=90).for_each(|_| low.record(Duration::from_nanos(10)));
        (1..=10).for_each(|_| high.record(Duration::from_nanos(100)));
        low.add(&high);
        let percentiles = [50, 90, 91, 99].map(|percent| low.percentile(percent).as_nanos());
        assert_eq!(percentiles, [10, 10, 100, 100]);
        assert_eq!(low.count(), 100);
    }

    #[test]
    fn nothing_recorded_is_zero() {
        assert_eq!(Histogram::new().percentile(99), Duration::ZERO);
    }
}
