//! Files, hooks and programs of the agent.

use std::fs;

use anyhow::{Context, Result};
use bursar_tests::{scan, wait_until};
use tempfile::TempDir;

use super::{LIMIT, Site, units};

impl Site {
    /// Files have the values by design, in memory; that is why their directory is not searched with the others. What the
    /// agent says of them, of a template that fails on a value and of a hook or a program that prints one, is. What it
    /// keeps of them through a restart, sealed, is too.
    pub(super) fn deliver(&self) -> Result<()> {
        wait_until(LIMIT, "files with the values, without which nothing would be looked at", || {
            let found = scan(&self.delivered.path().join("app"), &[&self.values.kv, &self.values.local]);
            found.is_ok_and(|found| !found.is_empty())
        })?;
        for outcome in [
            "bursar_agent_file_hooks_total{outcome=\"failed\"}",
            "bursar_agent_files_total{outcome=\"failed\"}",
            "bursar_agent_state_writes_total{outcome=\"written\"}",
            "bursar_agent_runs_total{outcome=\"failed\"}",
        ] {
            wait_until(LIMIT, outcome, || self.agent.counted(outcome) > 0)?;
        }
        Ok(())
    }
}

/// A directory in memory, with a template that fails on a value.
pub(super) fn delivered() -> Result<TempDir> {
    let memory = tempfile::Builder::new().prefix("bursar-files-").tempdir_in("/dev/shm");
    let memory = memory.context("`/dev/shm` has to be a tmpfs that the tests may write")?;
    fs::write(memory.path().join("broken.j2"), "{{ LEVEL }}\n{{ KEY }} {{ (KEY ~ LOCAL) | int }}\n")?;
    fs::write(memory.path().join("good.j2"), "{{ KEY | tojson }} {{ URL | shell }} {{ AWS | base64 }}\n")?;
    Ok(memory)
}

/// Sets of files of every form, with a hook that prints what it finds and fails, and a program that does the same, masked,
/// into the agent's own log.
pub(super) fn sets(memory: &TempDir) -> String {
    let (place, units) = (memory.path().display(), units::configuration(memory.path()));
    format!(
        "[files.app]\ndirectory = '{place}/app'\nenvironment = 'app'\n\
         [files.app.output.'app.env']\nformat = 'env'\n[files.app.output.'app.json']\nformat = 'json'\n\
         [files.app.output.'app.conf']\ntemplate = '{place}/good.j2'\n\
         [files.app.hook]\ncommand = ['/bin/sh', '-c', 'cat {place}/app/* | tee /dev/stderr; exit 1']\n\
         [files.broken]\ndirectory = '{place}/broken'\nenvironment = 'app'\n\
         [files.broken.output.'x']\ntemplate = '{place}/broken.j2'\n\
         [run.app]\ncommand = ['/bin/sh', '-c', 'cat $KEY_FILE $LOCAL_FILE $URL_FILE | tee /dev/stderr; exit 1']\n\
         environment = 'app'\nas = 'files'\nmask = true\n\
         [csi]\nsocket = '{place}/bursar.sock'\n{units}"
    )
}
