use clap::Args;
use serde::Serialize;

use crate::error::Error;
use crate::offline::Shelf;
use crate::output::Output;
use crate::settings::Folders;

/// Remove copies that are kept here: of one environment, of whichever broker, or all
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Arguments {
    /// The environment
    name: Option<String>,
    /// Remove everything that is kept, what cannot be read too
    #[arg(long)]
    all: bool,
}

#[derive(Serialize)]
struct Forgotten {
    copies: usize,
}

impl Arguments {
    pub(super) fn carry_out(self, output: Output) -> Result<(), Error> {
        let mut copies = 0;
        for shelved in Shelf::of(&Folders::of_environment())?.all()? {
            let is_meant = match (&self.name, &shelved.head) {
                (None, _) => true,
                (Some(name), Ok(head)) => head.environment == *name,
                (Some(_), Err(_)) => false,
            };
            if is_meant && Shelf::remove(&shelved.path)? {
                copies += 1;
            }
        }
        let words = match copies {
            0 => "there was nothing to forget".to_owned(),
            1 => "1 copy is removed".to_owned(),
            _ => format!("{copies} copies are removed"),
        };
        output.done(&Forgotten { copies }, &words)
    }
}
