//! `bursar run --offline`: what the program is given is in a copy that was kept, and nobody is asked.

use bursar_core::{Clock, SystemClock};
use bursar_sdk::ResolvedEnvironment;

use super::{Arguments, Session};
use crate::error::Error;
use crate::offline::{Identity, Shelf, look_up};
use crate::settings::Folders;
use crate::text;

/// What is in the copy of the environment. Whoever runs a program on one is told so: what was changed, revoked or forbidden
/// since it was made is not in it.
pub(super) fn resolved(
    arguments: &Arguments,
    program: &str,
    session: &Session,
) -> Result<ResolvedEnvironment, Error> {
    let (folders, now) = (Folders::of_environment(), SystemClock.now());
    let broker = session.settings()?.address.to_string();
    let identity = || Identity::load(&arguments.copies.identity(&folders)?);
    let (head, resolved) = look_up(&Shelf::of(&folders)?, &arguments.env, &broker, now, identity)?;
    session.output.say(&format!(
        "offline: `{program}` runs on a copy of environment `{}` that {} was given at {} ({}), usable until {} ({}); \
         what was changed or revoked since is not in it",
        head.environment,
        head.principal,
        text::time(head.given_at),
        text::relative(head.given_at, now),
        text::time(head.usable_until),
        text::relative(head.usable_until, now),
    ));
    Ok(resolved)
}
