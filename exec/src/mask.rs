//! Secrets in a stream of bytes are replaced by the names of their variables: `[masked:DB_PASSWORD]`.
//!
//! **What is looked for** is each value in every form of [`bursar_core::secret::forms`], and what of it may be shown
//! alone (`pieces`). All of it is one automaton (Aho-Corasick), which takes each byte once, however many values there
//! are. What is covered by any match is masked, and matches that overlap become one mask. Anything else passes as it
//! is, byte for byte: a picture stays a picture.
//!
//! **What is held back.** A value may come in two reads, so the end of what came is kept while it may be the beginning
//! of a match: never more than the longest pattern less a byte, and nothing at all where the last byte begins none. The
//! depth of the automaton's state is the length of that beginning, so nothing is compared twice. A program that asks
//! `Password: ` and waits must not wait for ever for its last characters to show: [`Masker::patience`] says for how
//! long they may be kept. Below [`SURE`] bytes that is 50 ms, since many texts end in a byte that begins something;
//! from there on it is a second after the last byte that fitted, since hardly any does by chance. So a program that
//! prints a value in pieces, with pauses of under a second, shows at most the first three bytes of it. After a
//! [`Masker::release`] the state stays, and the rest of a value whose beginning was let go is masked all the same.
//!
//! **What changes.** Secrets change while a program runs. Its streams look for what is [`Sought`] at each moment: what is
//! held back by then is looked at anew.
//!
//! **What it costs.** Output that happens to end in the beginning of a value comes late by those times. The automaton
//! takes some 20 bytes of memory for each byte that is looked for, which is why there is a limit
//! ([`Limit`](PatternsError)) and why a value of more than [`LARGE`] bytes is looked for in fewer forms.
//!
//! **What it is not.** A seat belt against accidents, not a wall: a program that means to give its secrets away
//! encrypts them, or prints every second letter. The automaton also holds what it looks for in memory that it does not
//! wipe; that is the memory of the process whose child has the same values in its own.

mod patterns;
mod pieces;
mod stream;

pub use patterns::{LARGE, Patterns, PatternsError, SHORTEST};
pub use stream::{Masker, SURE, Sought};

#[cfg(test)]
mod tests;
