//! What can go wrong with copies.

use std::path::PathBuf;

use jiff::Timestamp;

use crate::text;

/// Why there is no copy to use, or none to be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OfflineError {
    #[error("there is no identity `{}` by which copies are encrypted", path.display())]
    NoIdentity { path: PathBuf },
    #[error("there is an identity `{}` already", path.display())]
    IdentityThere { path: PathBuf },
    #[error("the identity `{}` can be read by others (mode {mode:03o})", path.display())]
    OpenIdentity { path: PathBuf, mode: u32 },
    #[error("`{}` is no age identity that copies can be kept with: {what}", path.display())]
    BadIdentity { path: PathBuf, what: &'static str },
    #[error("neither $XDG_CACHE_HOME nor $HOME says where copies are to be kept")]
    Nowhere,
    #[error("no copy of environment `{environment}` of `{broker}` is kept here")]
    NotKept { environment: String, broker: String },
    #[error("`{}` is not yours alone, so what is in it is not used: {what}", path.display())]
    NotOurs { path: PathBuf, what: &'static str },
    #[error("`{}` is no copy", path.display())]
    NoCopy { path: PathBuf },
    #[error("`{}` is a copy of something else: of environment `{environment}` of `{broker}`", path.display())]
    OfSomethingElse { path: PathBuf, environment: String, broker: String },
    #[error(
        "the copy of environment `{environment}` could be used until {}, and is removed",
        text::time(*usable_until)
    )]
    Over { environment: String, usable_until: Timestamp },
    #[error(
        "the copy of environment `{environment}` is from {}, and this machine's clock says {}",
        text::time(*given_at),
        text::time(*now)
    )]
    ClockBack { environment: String, given_at: Timestamp, now: Timestamp },
    #[error("this machine's clock says {}, and the broker's {}", text::time(*now), text::time(*broker))]
    ClockOff { now: Timestamp, broker: Timestamp },
    #[error("the copy `{}` is for another identity", path.display())]
    OtherIdentity { path: PathBuf },
    #[error("the copy `{}` was changed, or was not made with this identity", path.display())]
    Changed { path: PathBuf },
    #[error("the copy cannot be sealed")]
    Unsealable,
}
