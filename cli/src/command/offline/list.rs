use bursar_core::{Clock, SystemClock};

use crate::error::Error;
use crate::offline::{OfflineError, Shelf};
use crate::output::Output;
use crate::settings::Folders;
use crate::view::CopyView;

/// Needs neither identity nor broker, and no configuration.
pub(super) fn carry_out(output: Output) -> Result<(), Error> {
    let shelf = Shelf::of(&Folders::of_environment())?;
    let mut copies = Vec::new();
    for shelved in shelf.all()? {
        match shelved.head {
            Ok(head) => match head.usable(SystemClock.now()) {
                Err(over @ OfflineError::Over { .. }) => {
                    Shelf::remove(&shelved.path)?;
                    output.say(&over.to_string());
                }
                usable => copies.push(CopyView::new(head, usable.is_ok(), shelved.path)),
            },
            Err(error) => output.say(&error.to_string()),
        }
    }
    output.list(&copies, "no copy is kept here")
}
