//! Runs a program with secrets, and looks after it: gives it files and descriptors, masks what it prints, passes signals
//! on, ends when it ends.
//!
//! It knows neither broker nor environment: what a program is given comes from whoever calls. It links no TLS and opens
//! no socket.

mod folder;
pub mod mask;
mod relay;
mod running;
mod sealed;
mod signals;
mod stage;
mod supervise;
mod terminal;
mod tie;

pub use folder::{Folder, FolderError, Site, is_in_memory};
pub use running::Running;
pub use sealed::Sealed;
pub use stage::{StageError, become_program};
pub use supervise::{Ended, Outputs, Program, Supervisor};
