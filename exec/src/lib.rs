//! Runs a program with secrets, and looks after it: masks what it prints, passes signals on, ends when it ends.
//!
//! It knows neither broker nor environment: what a program is given comes from whoever calls. It links no TLS and opens
//! no socket.

pub mod mask;
mod relay;
mod signals;
mod stage;
mod supervise;
mod terminal;

pub use stage::{StageError, become_program};
pub use supervise::{Ended, Program};
