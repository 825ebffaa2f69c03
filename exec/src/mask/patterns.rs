//! Everything that is looked for, as one automaton.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt;

use aho_corasick::automaton::{Automaton, StateID};
use aho_corasick::nfa::contiguous::NFA;
use aho_corasick::{Anchored, BuildError, MatchKind};
use bursar_core::Secret;
use bursar_core::secret::{FormKind, forms};
use zeroize::Zeroizing;

use super::pieces::{pieces, wrapped};

/// What is looked for, and what is put in its place.
pub struct Patterns {
    pub(super) automaton: NFA,
    pub(super) start: StateID,
    /// How many bytes of a pattern a state stands for.
    depths: HashMap<StateID, usize>,
    /// For each pattern, the index of its replacement.
    owners: Vec<usize>,
    replacements: Vec<Vec<u8>>,
    passed_over: Vec<String>,
}

/// Why values cannot be masked.
#[derive(Debug, thiserror::Error)]
pub enum PatternsError {
    /// All forms of all values take more memory than masking is given.
    #[error("the values are too large to be masked: to look for them takes more than {} MiB", LIMIT >> 20)]
    Limit,
    /// The automaton cannot hold them.
    #[error("the values cannot be looked for")]
    Automaton(#[source] BuildError),
}

impl Patterns {
    /// Prepares to look for `values`, each with the name that is put in its place. Values that every other line has
    /// (shorter than [`SHORTEST`] bytes, or such as `true`) are passed over, see [`Patterns::passed_over`].
    ///
    /// # Errors
    /// [`PatternsError`].
    pub fn new<'value>(
        values: impl IntoIterator<Item = (&'value str, &'value Secret)>,
    ) -> Result<Self, PatternsError> {
        let mut texts = Texts::default();
        let mut replacements = Vec::new();
        let mut passed_over = Vec::new();
        let mut sought = Vec::new();
        for (owner, (name, value)) in values.into_iter().enumerate() {
            replacements.push(format!("[masked:{name}]").into_bytes());
            if is_common(value.expose()) {
                passed_over.push(name.to_owned());
            } else {
                sought.push((owner, value.expose()));
            }
        }
        // A password is named after its own variable, and not after a URL that it is in as well.
        sought.iter().try_for_each(|(owner, value)| texts.add_whole(*owner, value))?;
        sought.iter().try_for_each(|(owner, value)| texts.add_pieces(*owner, value))?;
        let automaton = NFA::builder().match_kind(MatchKind::Standard).prefilter(false).build(texts.texts());
        let automaton = automaton.map_err(PatternsError::Automaton)?;
        // Searching unanchored is what this kind of automaton always can.
        let start = automaton.start_state(Anchored::No).unwrap_or_default();
        let depths = depths(&automaton, start, texts.texts());
        Ok(Self { automaton, start, depths, owners: texts.owners, replacements, passed_over })
    }

    /// Names of the variables whose values are not looked for, since masking them would mask everything.
    pub fn passed_over(&self) -> &[String] {
        &self.passed_over
    }

    /// How many of the bytes up to `state` may be the beginning of a match.
    pub(super) fn depth(&self, state: StateID) -> usize {
        self.depths.get(&state).copied().unwrap_or_default()
    }

    /// The longest match that ends in `state`: its length and whose it is.
    pub(super) fn longest(&self, state: StateID) -> Option<(usize, usize)> {
        if !self.automaton.is_match(state) {
            return None;
        }
        let matches = (0..self.automaton.match_len(state)).map(|index| {
            let pattern = self.automaton.match_pattern(state, index);
            let owner = self.owners.get(pattern.as_usize()).copied().unwrap_or_default();
            (self.automaton.pattern_len(pattern), owner)
        });
        // Of equals the first.
        matches.min_by_key(|(length, _)| Reverse(*length))
    }

    pub(super) fn replacement(&self, owner: usize) -> &[u8] {
        self.replacements.get(owner).map(Vec::as_slice).unwrap_or_default()
    }
}

/// The state after each beginning of each pattern is the one that stands for just that beginning.
fn depths<'text>(
    automaton: &NFA,
    start: StateID,
    texts: impl Iterator<Item = &'text [u8]>,
) -> HashMap<StateID, usize> {
    let mut depths = HashMap::new();
    for text in texts {
        let mut state = start;
        for (index, byte) in text.iter().enumerate() {
            state = automaton.next_state(Anchored::No, state, *byte);
            depths.insert(state, index + 1);
        }
    }
    depths
}

/// Whether other output has such a text so often that masking it would only make it unreadable.
fn is_common(value: &[u8]) -> bool {
    value.len() < SHORTEST || COMMON.iter().any(|word| value.eq_ignore_ascii_case(word.as_bytes()))
}

/// What is looked for, each with whose it is.
#[derive(Default)]
struct Texts {
    texts: Vec<Zeroizing<Vec<u8>>>,
    owners: Vec<usize>,
    size: usize,
}

impl Texts {
    fn add_whole(&mut self, owner: usize, value: &[u8]) -> Result<(), PatternsError> {
        self.add_forms(owner, value, value.len() <= LARGE)?;
        wrapped(value).into_iter().try_for_each(|line| self.add(owner, line))
    }

    /// What is printed of it alone.
    fn add_pieces(&mut self, owner: usize, value: &[u8]) -> Result<(), PatternsError> {
        let every = value.len() <= LARGE;
        pieces(value).into_iter().try_for_each(|piece| self.add_forms(owner, &piece, every))
    }

    fn add_forms(&mut self, owner: usize, value: &[u8], every: bool) -> Result<(), PatternsError> {
        if self.size + value.len() > LIMIT {
            return Err(PatternsError::Limit);
        }
        for form in forms(value) {
            let usual = matches!(form.kind, FormKind::Plain | FormKind::Json | FormKind::Base64);
            // The inside of a short value's base64 has so few characters that anything may have them.
            let long = form.kind == FormKind::Plain || form.text.len() >= SHORTEST_FORM;
            if (every || usual) && long {
                self.add(owner, form.text)?;
            }
        }
        Ok(())
    }

    /// The first that has a text keeps it: the automaton reports both, and [`Patterns::longest`] takes the first.
    fn add(&mut self, owner: usize, text: Zeroizing<Vec<u8>>) -> Result<(), PatternsError> {
        self.size += text.len();
        if self.size > LIMIT {
            return Err(PatternsError::Limit);
        }
        self.texts.push(text);
        self.owners.push(owner);
        Ok(())
    }

    fn texts(&self) -> impl Iterator<Item = &[u8]> {
        self.texts.iter().map(|text| text.as_slice())
    }
}

impl fmt::Debug for Patterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Patterns").field("values", &self.replacements.len()).finish_non_exhaustive()
    }
}

/// Bytes that a value has to have to be looked for.
pub const SHORTEST: usize = 4;
/// Bytes up to which a value is looked for in every form.
pub const LARGE: usize = 16 * 1024;
const SHORTEST_FORM: usize = 6;
const COMMON: [&str; 6] = ["true", "false", "null", "none", "root", "localhost"];
/// Bytes of all that is looked for.
const LIMIT: usize = 8 << 20;
