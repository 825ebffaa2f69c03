//! Asking people.

use std::io::{self, BufRead, IsTerminal, Write};

use bursar_core::Secret;
use zeroize::Zeroizing;

use crate::error::Error;

/// Whether results go to a terminal.
pub(crate) fn is_stdout() -> bool {
    io::stdout().is_terminal()
}

/// Whether somebody sees what is said.
pub(crate) fn is_stderr() -> bool {
    io::stderr().is_terminal()
}

/// The width of the terminal that results go to, in columns.
pub(crate) fn width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// Asks whether to go on; anything but `y` or `yes` is no.
///
/// # Errors
/// [`Error::Unconfirmed`] without a terminal to ask on, [`Error::Declined`].
pub(crate) fn confirm(question: &str) -> Result<(), Error> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Error::Unconfirmed);
    }
    let mut stderr = io::stderr();
    write!(stderr, "{question} [y/N] ").map_err(Error::Output)?;
    stderr.flush().map_err(Error::Output)?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(Error::Input)?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Error::Declined),
    }
}

/// Asks for a secret, twice, without echo.
///
/// # Errors
/// [`Error::Usage`] when the two are not the same.
pub(crate) fn ask_secret(what: &str) -> Result<Secret, Error> {
    let first = Secret::from(rpassword::prompt_password(format!("{what}: ")).map_err(Error::Input)?);
    let again = rpassword::prompt_password(format!("{what}, again: ")).map_err(Error::Input)?;
    let again = Zeroizing::new(again);
    if first.is_empty() || !first.ct_eq(again.as_bytes()) {
        return Err(Error::Usage("the value is empty, or the second differs from the first".to_owned()));
    }
    Ok(first)
}
