//! Copies of environments: the values are in a file on a disk by design, in no form that anybody could read.

use anyhow::{Result, ensure};

use super::Site;

impl Site {
    /// Keeps a copy, runs on it, and fails to. The files stay where they are searched with all others.
    pub(super) fn keep(&self) -> Result<()> {
        self.admin.done(&["offline", "init"])?;
        let said = self.admin.run(&["offline", "keep", "kept"])?;
        self.told(said, Some(0))?;
        let run = ["run", "--env", "kept", "--offline", "--", "sh", "-c", "printf %s \"$LOCAL\" | wc -c"];
        let said = self.admin.run(&run)?;
        ensure!(String::from_utf8_lossy(&said.stdout).trim() != "0", "the program got nothing");
        self.told(said, Some(0))?;
        let said = self.admin.run(&["offline", "list", "--output", "json"])?;
        self.told(said, Some(0))?;
        // What is in the way is named, and a copy that was cut is refused.
        for refused in ["app", "broken"] {
            let said = self.admin.run(&["offline", "keep", refused])?;
            self.told(said, None)?;
        }
        let shelf = self.admin.path("cache/bursar/offline");
        for entry in std::fs::read_dir(shelf)? {
            let file = std::fs::OpenOptions::new().write(true).open(entry?.path())?;
            file.set_len(file.metadata()?.len() - 1)?;
        }
        let said = self.admin.run(&run)?;
        self.told(said, Some(78))
    }
}
