//! How fresh the values of a store are, and what is served when it cannot be asked.

use std::collections::BTreeMap;
use std::time::Duration;

use bursar_core::SecretPath;
use bursar_core::settings::Section;

/// How fresh values of a store are, and those below some of its paths.
#[derive(Debug, Clone)]
pub struct CacheContracts {
    pub usual: CacheContract,
    paths: BTreeMap<String, CacheContract>,
}

/// How fresh values are.
#[derive(Debug, Clone, Copy)]
pub struct CacheContract {
    /// A cached value is served without asking the store for this long.
    pub max_stale: Duration,
    /// What happens when the store cannot be asked after that.
    pub on_outage: OnOutage,
    /// How often a secret that somebody watches is looked at for a new version.
    pub poll: Duration,
}

/// What a read gets while the store is out of reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnOutage {
    /// The last value, with its age.
    Serve,
    /// An error.
    Fail,
}

impl From<CacheContract> for CacheContracts {
    fn from(usual: CacheContract) -> Self {
        Self { usual, paths: BTreeMap::new() }
    }
}

impl CacheContracts {
    /// That of `path`: of the nearest path at or above it that has one of its own.
    pub fn of(&self, path: &SecretPath) -> &CacheContract {
        if self.paths.is_empty() {
            return &self.usual;
        }
        let path = path.as_str();
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        let above = ends.rev().filter_map(|end| path.get(..end));
        above.filter_map(|above| self.paths.get(above)).next().unwrap_or(&self.usual)
    }
}

/// Reads the keys of a backend, and of its table `paths`.
pub(super) fn read(section: &mut Section<'_>) -> CacheContracts {
    let usual = contract(section, None);
    let paths = section.each("paths", |path, section| {
        let contract = contract(section, Some(usual));
        match SecretPath::from_store(path) {
            Ok(path) => Some((path.as_str().to_owned(), contract)),
            Err(error) => section.fault("", error.to_string()),
        }
    });
    CacheContracts { usual, paths: paths.into_iter().collect() }
}

/// What is not said is as for the rest of the store, where this is about a path.
fn contract(section: &mut Section<'_>, usual: Option<CacheContract>) -> CacheContract {
    let max_stale = section.duration("max_stale");
    let poll = section.duration("poll");
    if poll.is_some_and(|poll| poll < SHORTEST_POLL) {
        section.fault::<()>("poll", "is at least 1s".to_owned());
    }
    let on_outage = section.parsed("on_outage", on_outage);
    let inherited = |of: fn(CacheContract) -> Duration| usual.map(of);
    let max_stale = max_stale.or(inherited(|usual| usual.max_stale)).unwrap_or(DEFAULT_MAX_STALE);
    CacheContract {
        max_stale,
        on_outage: on_outage.or(usual.map(|usual| usual.on_outage)).unwrap_or(OnOutage::Fail),
        poll: poll.or(inherited(|usual| usual.poll)).unwrap_or(max_stale.max(DEFAULT_MAX_STALE)),
    }
}

fn on_outage(text: &str) -> Result<OnOutage, String> {
    match text {
        "serve" => Ok(OnOutage::Serve),
        "fail" => Ok(OnOutage::Fail),
        other => Err(format!("is `serve` or `fail`, not `{other}`")),
    }
}

const DEFAULT_MAX_STALE: Duration = Duration::from_secs(30);
const SHORTEST_POLL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_path_above_says_how_fresh_values_are() {
        let text = "max_stale = '5m'\non_outage = 'serve'\n[paths.'kv/app']\nmax_stale = '1s'\n[paths.'kv/app/db']\npoll = '1h'\n";
        let contracts = bursar_core::settings::read(text, |section| Some(read(section))).expect("good");
        let of = |path: &str| {
            let contract = contracts.of(&SecretPath::from_store(path).expect("path"));
            (contract.max_stale.as_secs(), contract.poll.as_secs(), contract.on_outage)
        };
        assert_eq!(of("kv/other"), (300, 300, OnOutage::Serve));
        assert_eq!(of("kv/application"), (300, 300, OnOutage::Serve));
        assert_eq!(of("kv/app/key"), (1, 300, OnOutage::Serve));
        assert_eq!(of("kv/app/db"), (300, 3600, OnOutage::Serve));
        assert_eq!(of("kv/app/db/main"), (300, 3600, OnOutage::Serve));
    }
}
