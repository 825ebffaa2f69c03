//! Pods that have their secrets without the agent of their node: the program of each is in an image that has nothing of ours.

use anyhow::{Result, ensure};
use bursar_pod::{ABSENT, digest};
use bursar_tests::wait_until;

use super::{BARE, LIMIT, Site, WEB};

#[test]
fn a_program_has_its_variables_by_exec_and_is_not_started_once_it_may_not_have_them() -> Result<()> {
    let site = Site::start()?;
    let manifest = site.admit("exec", BARE, &["/bursar-pod", "PASSWORD", "OWN"])?;
    let pod = site.pod(&manifest)?;
    pod.wait_for_line(LIMIT, WEB, &format!("PASSWORD {}", site.digest()))?;
    pod.wait_for_line(LIMIT, WEB, &format!("OWN {}", digest(b"own")))?;
    site.withdraw()?;
    site.is_nowhere(&pod.output(WEB)?)?;
    pod.remove()?;

    let pod = site.pod(&manifest)?;
    ensure!(pod.wait(LIMIT, WEB)? == 77, "{}", pod.output(WEB)?);
    ensure!(!pod.output(WEB)?.contains("PASSWORD "), "the program was started");
    Ok(())
}

#[test]
fn a_program_has_its_files_by_sidecar_and_loses_them() -> Result<()> {
    let site = Site::start()?;
    let file = "/run/bursar-files/PASSWORD";
    let pod = site.pod(&site.admit("sidecar", BARE, &["/bursar-pod", file])?)?;
    pod.wait_for_line(LIMIT, WEB, &format!("{file} {}", site.digest()))?;
    site.withdraw()?;
    let gone = format!("{file} {ABSENT}");
    let ends_so = |output: String| output.lines().last().is_some_and(|line| line == gone);
    wait_until(LIMIT, "the file to go", || pod.output(WEB).is_ok_and(ends_so))?;
    site.is_nowhere(&pod.output(WEB)?)
}
