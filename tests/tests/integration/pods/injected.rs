//! Pods that have their secrets without the agent of their node: the program of each is in an image that has nothing of ours.

use anyhow::{Result, ensure};
use bursar_pod::{ABSENT, digest};
use bursar_tests::{Canary, Signal, scan_bytes, wait_until};
use serde_json::json;

use super::{BARE, LIMIT, Site, WEB, put};

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

#[test]
fn a_program_gets_a_signal_once_its_files_are_others() -> Result<()> {
    let site = Site::start()?;
    let file = "/run/bursar-files/PASSWORD";
    // The container that keeps the pod's namespaces has a process of the same name, and another user.
    let manifest = site.admit_with("sidecar", BARE, &["/bursar-pod", file], |pod| {
        pod["metadata"]["annotations"]["bursar.io/signal-process"] = json!("bursar-pod");
        pod["spec"]["shareProcessNamespace"] = json!(true);
    })?;
    let pod = site.pod(&manifest)?;
    pod.wait_for_line(LIMIT, WEB, &format!("{file} {}", site.digest()))?;
    let next = Canary::alphanumeric("the next password");
    put(&site.cluster.admin, &next)?;
    // It knows no signal but to end by it, and what comes after a change is seen by no program that ended before.
    ensure!(pod.wait(LIMIT, WEB)? == i64::from(128 + Signal::HUP.as_raw()), "{}", pod.output(WEB)?);
    let output = pod.output(WEB)?;
    ensure!(scan_bytes("the output", output.as_bytes(), &[&site.password, &next])?.is_empty(), "a value");
    Ok(())
}
