//! What changed between two resolutions of an environment, and what is to be done about it.

use std::ffi::OsString;

use bursar_core::Secret;
use bursar_proto::v1::OnChange;
use bursar_sdk::{Contract, ResolvedEnvironment};
use rustix::process::Signal;

use crate::disclose;

/// What is done when a secret has changed. Of several changes, the last of these in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(super) enum Action {
    None,
    Signal,
    Hook,
    Restart,
}

/// A program and its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hook(pub(super) Vec<OsString>);

/// Entries that changed together.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// Names of variables and paths of files.
    pub(super) names: Vec<String>,
    pub(super) action: Action,
}

impl Change {
    /// What is different in `new`; nothing when nothing is. An entry without an `on_change` of its own goes by
    /// `default`, and so does one that is gone.
    pub(super) fn between(
        old: &ResolvedEnvironment,
        new: &ResolvedEnvironment,
        default: Action,
    ) -> Option<Self> {
        let (before, after) = (entries(old), entries(new));
        let is_same = |entry: &Entry<'_>, other: &Entry<'_>| {
            entry.is_file == other.is_file
                && entry.name == other.name
                && disclose::same(entry.value, other.value)
        };
        let changed = after.iter().filter(|entry| !before.iter().any(|other| is_same(entry, other)));
        let is_there = |entry: &Entry<'_>| {
            after.iter().any(|other| entry.is_file == other.is_file && entry.name == other.name)
        };
        let gone = before.iter().filter(|entry| !is_there(entry));
        let (names, actions): (Vec<_>, Vec<_>) = changed
            .map(|entry| (entry.name.to_owned(), action(entry.contract).unwrap_or(default)))
            .chain(gone.map(|entry| (entry.name.to_owned(), default)))
            .unzip();
        actions.into_iter().max().map(|action| Self { names, action })
    }
}

/// An entry that wants the hook to be run when it changes.
pub(super) fn hooked(resolved: &ResolvedEnvironment) -> Option<&str> {
    let entries = entries(resolved).into_iter();
    let mut hooked = entries.filter(|entry| action(entry.contract) == Some(Action::Hook));
    hooked.next().map(|entry| entry.name)
}

struct Entry<'resolved> {
    is_file: bool,
    name: &'resolved str,
    value: &'resolved Secret,
    contract: &'resolved Contract,
}

fn entries(resolved: &ResolvedEnvironment) -> Vec<Entry<'_>> {
    let variables = resolved.variables.iter().map(|variable| Entry {
        is_file: false,
        name: &variable.name,
        value: &variable.value,
        contract: &variable.contract,
    });
    let files = resolved.files.iter().map(|file| Entry {
        is_file: true,
        name: &file.path,
        value: &file.contents,
        contract: &file.contract,
    });
    variables.chain(files).collect()
}

fn action(contract: &Contract) -> Option<Action> {
    match contract.on_change {
        OnChange::Unspecified => None,
        OnChange::None => Some(Action::None),
        OnChange::Signal => Some(Action::Signal),
        OnChange::Hook => Some(Action::Hook),
        OnChange::Restart => Some(Action::Restart),
    }
}

/// A signal by its name, with or without `SIG`.
pub(super) fn parse_signal(text: &str) -> Result<Signal, String> {
    match text.trim_start_matches("SIG") {
        "HUP" => Ok(Signal::HUP),
        "INT" => Ok(Signal::INT),
        "QUIT" => Ok(Signal::QUIT),
        "TERM" => Ok(Signal::TERM),
        "USR1" => Ok(Signal::USR1),
        "USR2" => Ok(Signal::USR2),
        "WINCH" => Ok(Signal::WINCH),
        _ => Err("is none of HUP, INT, QUIT, TERM, USR1, USR2 and WINCH".to_owned()),
    }
}

/// Words, separated by spaces: what needs more is a script.
pub(super) fn parse_hook(text: &str) -> Result<Hook, String> {
    let words: Vec<_> = text.split_ascii_whitespace().map(OsString::from).collect();
    if words.is_empty() { Err("names no program".to_owned()) } else { Ok(Hook(words)) }
}

#[cfg(test)]
mod tests {
    use bursar_sdk::ResolvedVariable;

    use super::*;

    fn environment(variables: &[(&str, &str, OnChange)]) -> ResolvedEnvironment {
        let variable = |(name, value, on_change): &(&str, &str, OnChange)| ResolvedVariable {
            name: (*name).to_owned(),
            value: Secret::from((*value).to_owned()),
            secret: true,
            contract: Contract { leases: Vec::new(), on_change: *on_change, max_stale: None, age: None },
        };
        let variables = variables.iter().map(variable).collect();
        ResolvedEnvironment { revision: 1, variables, files: Vec::new(), leases: Vec::new() }
    }

    fn between(
        old: &[(&str, &str, OnChange)],
        new: &[(&str, &str, OnChange)],
        default: Action,
    ) -> Option<(Vec<String>, Action)> {
        let change = Change::between(&environment(old), &environment(new), default);
        change.map(|change| (change.names, change.action))
    }

    #[test]
    fn the_same_values_are_no_change() {
        let same = [("A", "1", OnChange::Restart), ("B", "2", OnChange::Unspecified)];
        assert_eq!(between(&same, &same, Action::Restart), None);
    }

    #[test]
    fn what_changed_what_is_new_and_what_is_gone_is_named() {
        let old = [("A", "1", OnChange::Unspecified), ("B", "2", OnChange::Unspecified)];
        let new = [("A", "2", OnChange::Unspecified), ("C", "3", OnChange::Unspecified)];
        let names = ["A", "C", "B"].map(str::to_owned).to_vec();
        assert_eq!(between(&old, &new, Action::Signal), Some((names, Action::Signal)));
    }

    #[test]
    fn the_environment_says_what_is_done_and_of_several_the_strongest_is() {
        let old = [("A", "1", OnChange::None), ("B", "1", OnChange::Hook), ("C", "1", OnChange::Unspecified)];
        let changed = |which: &[usize]| {
            let mut new = old;
            which.iter().for_each(|index| new[*index].1 = "2");
            between(&old, &new, Action::Restart).map(|(_, action)| action)
        };
        assert_eq!(changed(&[0]), Some(Action::None));
        assert_eq!(changed(&[0, 1]), Some(Action::Hook));
        assert_eq!(changed(&[0, 1, 2]), Some(Action::Restart));
    }

    #[test]
    fn signals_and_hooks_are_read() {
        assert_eq!(parse_signal("SIGUSR1"), Ok(Signal::USR1));
        assert_eq!(parse_signal("HUP"), Ok(Signal::HUP));
        assert!(parse_signal("KILL").is_err());
        assert_eq!(parse_hook("reload  --all"), Ok(Hook(vec!["reload".into(), "--all".into()])));
        assert!(parse_hook(" ").is_err());
    }
}
