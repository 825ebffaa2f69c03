//! Inputs made out of others.

use fastrand::Rng;

/// Makes inputs out of seeds, the same ones for the same number.
#[derive(Debug)]
pub struct Mutator(Rng);

impl Mutator {
    /// One that makes a sequence of its own.
    pub fn new(seed: u64) -> Self {
        Self(Rng::with_seed(seed))
    }

    /// The next input: a seed, or parts of two, changed in a few places.
    pub fn next(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut made = self.one_of(seeds);
        if self.0.u8(..) < 64 {
            let other = self.one_of(seeds);
            made.truncate(self.place(&made));
            made.extend_from_slice(other.get(self.place(&other)..).unwrap_or_default());
        }
        for _ in 0..self.0.usize(0..4) {
            self.change(&mut made);
        }
        made.truncate(MAX_BYTES);
        made
    }

    fn change(&mut self, made: &mut Vec<u8>) {
        let (from, to) = (self.place(made), self.place(made));
        let range = from.min(to)..from.max(to);
        match self.0.u8(..7) {
            0 => drop(made.drain(range)),
            1 => {
                let again = made.get(range).unwrap_or_default().to_vec();
                let times = 1 << self.0.u8(..6);
                made.splice(from..from, again.repeat(times).into_iter().take(MAX_BYTES));
            }
            2 => made.insert(from, self.0.u8(..)),
            3 => {
                let word = self.0.choice(WORDS).copied().unwrap_or_default();
                made.splice(from..from, word.bytes());
            }
            4 => {
                let word = self.0.choice(WORDS).copied().unwrap_or_default();
                made.splice(range, word.bytes());
            }
            5 => {
                if let Some(byte) = made.get_mut(from) {
                    *byte ^= 1 << self.0.u8(..8);
                }
            }
            _ => {
                if let Some(byte) = made.get_mut(from) {
                    *byte = *self.0.choice(&[0, 1, 0x7f, 0x80, 0xff, b'/', b'"', b'\n']).unwrap_or(&0);
                }
            }
        }
    }

    fn one_of(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        self.0.choice(seeds).cloned().unwrap_or_default()
    }

    fn place(&mut self, bytes: &[u8]) -> usize {
        self.0.usize(..=bytes.len())
    }
}

/// What means something to one of the parsers.
const WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "(",
    ")",
    "\"",
    "\\",
    "/",
    "//",
    "..",
    ".",
    "#",
    "@",
    "@id(\"",
    "\")",
    ":",
    "::",
    ",",
    ";",
    "=",
    "*",
    "%2f",
    "\0",
    "\r\n",
    "é",
    "\u{202e}",
    "spiffe://",
    "example.org",
    "/node/",
    "/user/admin",
    "/ns/",
    "/sa/",
    "null",
    "true",
    "-1",
    "1e999",
    "18446744073709551616",
    "alg",
    "none",
    "HS256",
    "kid",
    "crit",
    "exp",
    "iss",
    "sub",
    "kubernetes.io",
    "permit",
    "forbid",
    "principal",
    "action",
    "resource",
    "when",
    "unless",
    "context",
    "has",
    "like",
    "?principal",
    "Bursar::Action::\"govern\"",
    "[[registration]]",
    "selectors",
    "node = \"*\"",
];
const MAX_BYTES: usize = 64 * 1024;
