//! What a new broker holds.

use bursar_core::SpiffeId;

use super::policies::{Policies, PolicyFile};

impl Policies {
    /// The set of a new broker: `administrator` may do everything but read secrets.
    pub fn bootstrap(administrator: &SpiffeId) -> Vec<PolicyFile> {
        // A SPIFFE ID has no character that would need an escape in Cedar.
        let text = BOOTSTRAP.replace("{administrator}", administrator.as_str());
        vec![PolicyFile { name: "bootstrap.cedar".to_owned(), text }]
    }
}

const BOOTSTRAP: &str = include_str!("bootstrap.cedar");
