//! Tokens that a command writes.
//!
//! The command is a program and its arguments, run as they are: no shell reads them, so nothing in them is expanded and
//! nobody has to escape. It inherits the environment, in which its own configuration and credentials are, but not
//! standard input, which may be a secret that the caller is about to send. What it says on standard error goes where the
//! caller's goes, so that it can ask a person for something; what it writes to standard output is the token and goes
//! nowhere else.
//!
//! Invariants. One run is under way at most; whoever needs a token meanwhile waits for it. A token is used until shortly
//! before its end, or until a server refuses it. A command that fails, that is abandoned, or whose tokens are refused is
//! run again only after the pauses of `Retry::BACKGROUND`; until then its last outcome stands.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bursar_core::retry::Retry;
use bursar_core::{Clock, SystemClock};
use jiff::Timestamp;
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{LONGEST, Presented, SCHEME, begin, claims, finish};

/// A command that writes a token to standard output: one word of at most 16 KiB, with or without a line end.
pub struct TokenCommand {
    program: OsString,
    arguments: Vec<OsString>,
    limit: Duration,
    clock: Arc<dyn Clock>,
    turn: Mutex<Turn>,
}

impl TokenCommand {
    /// Runs `program`, a path or a name in `PATH`, with `arguments` when a token is needed.
    pub fn new(program: impl Into<OsString>, arguments: impl IntoIterator<Item = OsString>) -> Self {
        Self::by(Arc::new(SystemClock), program.into(), arguments.into_iter().collect())
    }

    fn by(clock: Arc<dyn Clock>, program: OsString, arguments: Vec<OsString>) -> Self {
        Self { program, arguments, limit: LIMIT, clock, turn: Mutex::default() }
    }

    /// Gives each run this long instead of a minute, for a command that asks a person.
    #[must_use]
    pub fn with_limit(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// The program. Its arguments are shown nowhere: nothing keeps a person from writing a secret there.
    pub(super) fn program(&self) -> String {
        self.program.to_string_lossy().into_owned()
    }

    /// The token that is good now.
    ///
    /// # Errors
    /// [`TokenCommandError`], also of an earlier run that is not to be repeated yet.
    pub(super) async fn token(&self) -> Result<Presented, TokenCommandError> {
        let mut turn = self.turn.lock().await;
        if let Some(Ok(held)) = &turn.last
            && held.is_good(self.clock.now())
        {
            return Ok(held.token.clone());
        }
        match &turn.last {
            Some(last) if Instant::now() < turn.next => {
                return last.as_ref().map(|held| held.token.clone()).map_err(Clone::clone);
            }
            _ => {}
        }
        turn.begin();
        let outcome = tokio::time::timeout(self.limit, self.run(turn.runs)).await;
        let outcome = outcome.unwrap_or(Err(TokenCommandError::Late { limit: self.limit }));
        let token = outcome.as_ref().map(|held| held.token.clone()).map_err(Clone::clone);
        turn.last = Some(outcome);
        token
    }

    /// Says that a server did not take `used`: another is wanted for the next call.
    pub(super) async fn refused(&self, used: &Presented) {
        let mut turn = self.turn.lock().await;
        if let Some(Ok(held)) = &mut turn.last
            && held.token.run == used.run
        {
            held.refused = true;
        }
    }

    async fn run(&self, number: u64) -> Result<Held, TokenCommandError> {
        if is_nested() {
            return Err(TokenCommandError::Nested);
        }
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .env_remove("BURSAR_TOKEN_COMMAND")
            .env(WANTED, "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| TokenCommandError::NotStarted(Arc::new(source)))?;
        let mut written = begin();
        if let Some(stdout) = child.stdout.take() {
            // Who writes more is not read to the end, and ends by the closed pipe.
            let most = LONGEST as u64 + 1;
            let read = stdout.take(most).read_to_end(&mut written).await;
            read.map_err(|source| TokenCommandError::Unread(Arc::new(source)))?;
        }
        let too_long = written.len() > SCHEME.len() + LONGEST;
        let status = child.wait().await.map_err(|source| TokenCommandError::Unread(Arc::new(source)))?;
        if too_long {
            return Err(TokenCommandError::NoToken);
        }
        if !status.success() {
            return Err(TokenCommandError::Failed { status });
        }
        let header = finish(written).ok_or(TokenCommandError::NoToken)?;
        let now = self.clock.now();
        let ends = header.as_bytes().get(SCHEME.len()..).and_then(claims::ends);
        let good_until = ends.map(|ends| before(ends, now));
        Ok(Held {
            token: Presented { header, run: number },
            good_until,
            since: Instant::now(),
            refused: false,
        })
    }
}

impl fmt::Debug for TokenCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCommand").field("program", &self.program).finish_non_exhaustive()
    }
}

/// Why a command gave no token. Never says what it wrote.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum TokenCommandError {
    #[error("it cannot be started")]
    NotStarted(#[source] Arc<io::Error>),
    #[error("it ended with {status}; what it said stands on standard error")]
    Failed { status: ExitStatus },
    #[error("it wrote something other than one token of at most 16 KiB")]
    NoToken,
    #[error("it wrote no token within {} s and was ended", limit.as_secs())]
    Late { limit: Duration },
    #[error("its output cannot be read")]
    Unread(#[source] Arc<io::Error>),
    #[error("this program is run by a token command, and would run another without end")]
    Nested,
    #[error("whoever waited for it went away, and it was ended")]
    Abandoned,
}

/// What the runs so far came to.
struct Turn {
    last: Option<Result<Held, TokenCommandError>>,
    runs: u64,
    /// Runs in a row of which none gave a token that was of use.
    streak: u32,
    /// The next run is no earlier.
    next: Instant,
}

impl Turn {
    /// Starts a run. Until it is over it counts as one that was abandoned, so that whoever hangs up halfway has not
    /// tried for free.
    fn begin(&mut self) {
        let was_of_use = matches!(&self.last, Some(Ok(held)) if held.was_of_use());
        self.streak = if was_of_use { 1 } else { self.streak.saturating_add(1) };
        self.next = Instant::now() + Retry::BACKGROUND.delay(self.streak);
        self.runs = self.runs.wrapping_add(1);
        self.last = Some(Err(TokenCommandError::Abandoned));
    }
}

impl Default for Turn {
    fn default() -> Self {
        Self { last: None, runs: 0, streak: 0, next: Instant::now() }
    }
}

struct Held {
    token: Presented,
    /// Nothing for one that names no end.
    good_until: Option<Timestamp>,
    since: Instant,
    refused: bool,
}

impl Held {
    fn is_good(&self, now: Timestamp) -> bool {
        !self.refused && self.good_until.is_none_or(|until| now < until)
    }

    fn was_of_use(&self) -> bool {
        !self.refused && self.since.elapsed() >= OF_USE
    }
}

/// A minute before the end, or a fifth of what is left now where that is less, so that the call still arrives in time.
fn before(ends: Timestamp, now: Timestamp) -> Timestamp {
    let left = Duration::try_from(ends.duration_since(now)).unwrap_or_default();
    ends.checked_sub(MARGIN.min(left / 5)).unwrap_or(Timestamp::MIN)
}

/// Whether this process was started for a token: a command that asks for one by the configuration that names it would
/// start itself, each time as one more process.
#[expect(
    clippy::disallowed_methods,
    reason = "it is told by the process that started this one, and by nobody else"
)]
fn is_nested() -> bool {
    std::env::var_os(WANTED).is_some()
}

/// Set for a command, so that it knows what it is run for.
const WANTED: &str = "BURSAR_TOKEN_WANTED";
/// For one run.
const LIMIT: Duration = Duration::from_secs(60);
const MARGIN: Duration = Duration::from_secs(60);
/// A token that ends sooner than this after it was written is no better than none.
const OF_USE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
