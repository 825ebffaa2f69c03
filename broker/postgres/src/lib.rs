//! Sessions with a PostgreSQL, for the backend that makes roles there and for the ledger that is kept there.
//!
//! A session is within TLS whose certificate is for the configured host, unless the configuration says otherwise
//! ([`trust`]). Whoever uses it drives its connection; there is no task for it ([`session`]). What a server writes about a
//! failure ends here, since it may quote a statement: names and codes go on ([`refusal`]).

mod refusal;
mod session;
mod trust;

pub use refusal::{Refusal, sqlstate};
pub use session::{Server, Session};
pub use trust::{ClientFiles, ConfigError, Tls, Transport, Trust};
