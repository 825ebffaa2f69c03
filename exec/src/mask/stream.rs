//! One stream on its way through the automaton.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aho_corasick::Anchored;
use aho_corasick::automaton::{Automaton, StateID};
use zeroize::Zeroizing;

use super::patterns::Patterns;

/// What the streams of a program look for, which may change while they run.
#[derive(Debug)]
pub struct Sought(Mutex<Arc<Patterns>>);

impl Sought {
    /// Looks for these.
    pub fn new(patterns: Patterns) -> Self {
        Self(Mutex::new(Arc::new(patterns)))
    }

    /// Looks for these from now on, and for nothing else.
    pub fn replace(&self, patterns: Patterns) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(patterns);
    }

    fn now(&self) -> Arc<Patterns> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Masks one stream. What it holds back is wiped with it.
pub struct Masker {
    sought: Arc<Sought>,
    patterns: Arc<Patterns>,
    state: StateID,
    /// What came and was not passed on yet. Never grows, so it leaves no copy behind.
    held: Zeroizing<Vec<u8>>,
    /// Matches in what is held, in order and without overlap.
    found: Vec<Found>,
}

/// A match: from where to where in what is held.
#[derive(Clone, Copy)]
struct Found {
    start: usize,
    end: usize,
    owner: usize,
    /// Whether its replacement was written, when its beginning was passed on.
    replaced: bool,
}

impl Masker {
    /// A stream of which nothing has come.
    pub fn new(sought: Arc<Sought>) -> Self {
        let patterns = sought.now();
        let held = room(&patterns);
        Self { sought, state: patterns.start, patterns, held, found: Vec::new() }
    }

    /// Takes the next bytes, and adds to `out` what may be shown by now.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let now = self.sought.now();
        if !Arc::ptr_eq(&now, &self.patterns) {
            self.turn_to(now, out);
        }
        self.take(bytes, out);
    }

    fn take(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for chunk in bytes.chunks(CHUNK) {
            for byte in chunk {
                self.held.push(*byte);
                self.state = self.patterns.automaton.next_state(Anchored::No, self.state, *byte);
                if let Some((length, owner)) = self.patterns.longest(self.state) {
                    self.find(length, owner);
                }
            }
            let kept = self.patterns.depth(self.state).min(self.held.len());
            self.pass(self.held.len() - kept, out);
        }
    }

    /// How long what is held back may stay so without another byte; nothing when nothing is.
    pub fn patience(&self) -> Option<Duration> {
        if self.held.is_empty() {
            return None;
        }
        Some(if self.patterns.depth(self.state) < SURE { SHORT } else { LONG })
    }

    /// Adds to `out` what was held back. What completes it to a value is masked when it comes.
    pub fn release(&mut self, out: &mut Vec<u8>) {
        self.pass(self.held.len(), out);
    }

    /// Goes on with other patterns. Of what is held, the rest of a value whose mask was written is dropped.
    fn turn_to(&mut self, patterns: Arc<Patterns>, out: &mut Vec<u8>) {
        let masked = self.found.first().filter(|found| found.replaced).map_or(0, |found| found.end);
        let held = std::mem::replace(&mut self.held, room(&patterns));
        self.found.clear();
        self.state = patterns.start;
        self.patterns = patterns;
        self.take(held.get(masked..).unwrap_or_default(), out);
    }

    /// A match of `length` bytes that ends here. Its beginning may have been released.
    fn find(&mut self, length: usize, owner: usize) {
        let end = self.held.len();
        let mut whole = Found { start: end.saturating_sub(length), end, owner, replaced: false };
        while let Some(earlier) = self.found.pop_if(|earlier| earlier.end > whole.start) {
            // By what begins first, which no later match changes: so the name does not depend on how the stream is cut.
            let owner = if earlier.start < whole.start { earlier.owner } else { whole.owner };
            let start = earlier.start.min(whole.start);
            whole = Found { start, end, owner, replaced: whole.replaced || earlier.replaced };
        }
        self.found.push(whole);
    }

    /// Passes the first `count` bytes on, with names in the place of values.
    fn pass(&mut self, count: usize, out: &mut Vec<u8>) {
        let mut passed = 0;
        for found in &mut self.found {
            if found.start < count {
                out.extend_from_slice(self.held.get(passed..found.start).unwrap_or_default());
                if !found.replaced {
                    out.extend_from_slice(self.patterns.replacement(found.owner));
                }
                found.replaced = true;
                passed = found.end.min(count);
            }
        }
        out.extend_from_slice(self.held.get(passed..count).unwrap_or_default());
        self.found.retain(|found| found.end > count);
        for found in &mut self.found {
            found.start = found.start.saturating_sub(count);
            found.end -= count;
        }
        self.held.drain(..count);
    }
}

impl fmt::Debug for Masker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Masker").field("held", &self.held.len()).finish_non_exhaustive()
    }
}

/// For all that is ever held of a stream.
fn room(patterns: &Patterns) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(Vec::with_capacity(patterns.automaton.max_pattern_len() + CHUNK))
}

/// Bytes of a value that are seldom met by chance.
pub const SURE: usize = 4;
const SHORT: Duration = Duration::from_millis(50);
const LONG: Duration = Duration::from_secs(1);
const CHUNK: usize = 64 * 1024;
