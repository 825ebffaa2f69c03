//! Fuzz targets: one for each parser that meets the network or a file of a user.
//!
//! A target takes any bytes and panics when something does not hold that has to. What has to hold is more than that
//! nothing crashes: no token is believed that nobody signed, no name comes out other than it went in.
//!
//! Each is run in two ways. `cargo test -p bursar-fuzz` puts its seeds and some thousands of mutations of them to it, the
//! same ones each time, and needs nothing that the other tests do not need. `cargo xtask fuzz TARGET` has libFuzzer look
//! for what reaches new code, for as long as it is let; what it finds belongs into the seeds.

#![expect(clippy::expect_used, reason = "to panic is how a target says what it found")]

mod mutate;
mod targets;

pub use mutate::Mutator;
pub use targets::TARGETS;

/// A parser, and what has to hold of it.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    pub name: &'static str,
    /// What mutations begin with: inputs that are good, and such as were bad once.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Panics when something does not hold.
    pub run: fn(&[u8]),
    /// How many mutations the tests try.
    pub rounds: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_to_hold_holds_for_seeds_and_mutations() {
        for target in TARGETS {
            let seeds = (target.seeds)();
            assert!(!seeds.is_empty(), "`{}` has no seeds", target.name);
            seeds.iter().for_each(|seed| (target.run)(seed));
            let mut mutator = Mutator::new(SEED);
            for _ in 0..target.rounds {
                (target.run)(&mutator.next(&seeds));
            }
        }
    }

    #[test]
    fn mutations_are_the_same_each_time_and_reach_everything() {
        let seeds = [b"abcdef".to_vec(), b"123456".to_vec()];
        let made = |seed| {
            let mut mutator = Mutator::new(seed);
            (0..1000).map(|_| mutator.next(&seeds)).collect::<Vec<_>>()
        };
        assert_eq!(made(1), made(1));
        assert_ne!(made(1), made(2));
        let all = made(1);
        assert!(all.iter().any(|one| one.len() > 12) && all.iter().any(|one| one.len() < 3));
        assert!(all.iter().any(|one| one.starts_with(b"abc") && one.ends_with(b"456")), "seeds are spliced");
    }

    const SEED: u64 = 4711;
}
