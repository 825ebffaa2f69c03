//! Credentials of units, through the socket of systemd.

use std::path::Path;

use anyhow::{Result, ensure};

use super::Site;
use crate::systemd::{Group, Loaded, load};

/// What the agent is told of them.
pub(super) fn configuration(memory: &Path) -> String {
    let (place, [good, broken]) = (memory.display(), units());
    format!(
        "[systemd]\nsocket = '{place}/systemd.sock'\n[systemd.units]\n\
         '{good}' = {{ environment = 'app' }}\n\
         '{broken}' = {{ environment = 'broken' }}\n"
    )
}

/// Who they are registered as.
pub(super) fn registrations() -> String {
    let of = |unit: String| {
        format!(
            "[[registration]]\nprincipal = \"spiffe://example.org/workload/app\"\nnode = \"web-1\"\n\
             selectors = [\"systemd:unit:{unit}\"]\n"
        )
    };
    units().map(of).concat()
}

/// One that gets its credentials, and one whose environment cannot be had. Of this run alone.
fn units() -> [String; 2] {
    ["canary", "broken"].map(|name| format!("bursar{}-{name}.service", std::process::id()))
}

impl Site {
    /// Twice, so that the second is out of the cache; and what fails, on the name and on the store.
    pub(super) fn load(&self) -> Result<()> {
        let socket = self.delivered.path().join("systemd.sock");
        let [good, broken] = units();
        let unit = Group::of_unit(&good)?;
        for _ in 0..2 {
            let loaded = load(&socket, &unit, "KEY")?;
            ensure!(
                loaded == Loaded::Credential(self.values.kv.value().to_owned()),
                "there is nothing to look for"
            );
        }
        ensure!(load(&socket, &unit, "ABSENT")? == Loaded::TooLong, "there is no such credential");
        let broken = Group::of_unit(&broken)?;
        ensure!(load(&socket, &broken, "KEY")? == Loaded::TooLong, "half of an environment was given");
        Ok(())
    }
}
