//! When and where the broker is killed: first once at each named point, then anywhere.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use fastrand::Rng;

use crate::ledger::Engine;

/// How one broker dies.
#[derive(Debug)]
pub(crate) enum Kill {
    /// By itself, at a point: `NAME:N`.
    At(String),
    /// From outside, after so many more answers.
    After { answers: u64 },
}

impl Kill {
    /// Where, for the report.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::At(trigger) => trigger.split(':').next().unwrap_or_default().to_owned(),
            Self::After { .. } => "anywhere".to_owned(),
        }
    }
}

/// The points that the broker at `program` says it has, of those that are passed with this engine.
///
/// # Errors
/// It was built without them.
pub(crate) fn points(program: &Path, engine: Engine) -> Result<Vec<String>> {
    let output = Command::new(program).arg("kill-points").env_clear().output();
    let output = output.with_context(|| format!("`{}` cannot be run", program.display()))?;
    ensure!(
        output.status.success(),
        "`{}` has no kill points; build it with the feature `killpoints`, as `cargo xtask torture` does",
        program.display()
    );
    let points = String::from_utf8(output.stdout)?;
    let passed = |point: &&str| engine == Engine::Sqlite || !OF_FILES.contains(point);
    Ok(points.lines().filter(passed).map(str::to_owned).collect())
}

/// Which kill is next.
#[derive(Debug)]
pub(crate) struct Schedule {
    points: Vec<String>,
    /// Points that come before anything else, the next one last.
    first: Vec<String>,
    /// What a kill that was chosen has to be followed by.
    then: Option<Kill>,
    rng: Rng,
}

impl Schedule {
    pub(crate) fn new(points: Vec<String>, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut first = points.clone();
        rng.shuffle(&mut first);
        // What is done about an issuance that was interrupted is passed only after one was.
        for (cause, effect) in CAUSES {
            if let Some(at) = first.iter().position(|point| point == effect) {
                let effect = first.remove(at);
                let cause = first.iter().position(|point| point == cause).unwrap_or_default();
                first.insert(cause, effect);
            }
        }
        Self { points, first, then: None, rng }
    }

    pub(crate) fn next(&mut self) -> Kill {
        if let Some(point) = self.first.pop() {
            return Kill::At(point);
        }
        if let Some(kill) = self.then.take() {
            return kill;
        }
        match self.rng.choice(&self.points) {
            Some(point) if self.rng.bool() => {
                let rare = RARE.contains(&point.as_str());
                let passing = if rare { 1 } else { self.rng.u32(1..=MOST_PASSINGS) };
                let kill = Kill::At(format!("{point}:{passing}"));
                let Some((cause, _)) = CAUSES.iter().find(|(_, effect)| effect == point) else { return kill };
                self.then = Some(kill);
                Kill::At((*cause).to_owned())
            }
            _ => Kill::After { answers: self.rng.u64(1..=MOST_ANSWERS) },
        }
    }

    /// How many kills it takes to be at each point once.
    pub(crate) fn least(&self) -> u32 {
        u32::try_from(self.points.len()).unwrap_or(u32::MAX)
    }

    /// The points at which nobody was killed yet.
    pub(crate) fn missed(&self) -> BTreeSet<&str> {
        self.first.iter().map(String::as_str).collect()
    }
}

/// A kill at the first leads to the passing of the second.
const CAUSES: [(&str, &str); 2] = [("intent-durable", "intent-given-up"), ("store-created", "orphan-found")];
/// Passed only where there is a write-ahead log of the broker's own.
const OF_FILES: [&str; 4] = ["copy-begun", "copy-written", "copy-synced", "log-restart"];
/// Passed once in a life, or seldom.
const RARE: [&str; 14] = [
    "opened",
    "intent-given-up",
    "orphan-found",
    "log-restart",
    "give-up-begun",
    "give-up-marked",
    "give-up-tried",
    "give-up-durable",
    "order-begun",
    "order-durable",
    "mark-begun",
    "mark-durable",
    "forget-begun",
    "forget-durable",
];
const MOST_PASSINGS: u32 = 12;
const MOST_ANSWERS: u64 = 150;

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(seed: u64) -> Schedule {
        let mut points: Vec<_> = CAUSES.iter().flat_map(|(cause, effect)| [*cause, *effect]).collect();
        points.extend(["opened", "batch-begun"]);
        Schedule::new(points.into_iter().map(str::to_owned).collect(), seed)
    }

    #[test]
    fn each_point_comes_once_before_anything_else() {
        for seed in 0..50 {
            let mut schedule = schedule(seed);
            let names: BTreeSet<_> = (0..schedule.least()).map(|_| schedule.next().name()).collect();
            assert_eq!(names.len(), 6);
            assert!(schedule.missed().is_empty());
        }
    }

    #[test]
    fn an_effect_comes_right_after_its_cause() {
        for seed in 0..50 {
            let mut schedule = schedule(seed);
            let names: Vec<_> = (0..100).map(|_| schedule.next().name()).collect();
            for pair in names.windows(2) {
                let cause = CAUSES.iter().find(|(_, effect)| *effect == pair[1]).map(|(cause, _)| *cause);
                assert!(cause.is_none_or(|cause| cause == pair[0]), "{names:?}");
            }
        }
    }
}
