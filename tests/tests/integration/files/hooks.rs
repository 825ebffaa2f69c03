//! What a program is told of its files.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use bursar_tests::{Agent, Canary, wait_until};

use super::site::{LIMIT, REGISTRATION, Site};
use crate::policies::ADMINISTRATION;

#[test]
fn a_hook_hears_of_the_first_delivery_each_change_and_the_removal() -> Result<()> {
    let site = Hooked::start("printf '%s ' \"$BURSAR_FILES_EVENT\"; cat app.env")?;
    site.until_heard(1)?;
    let second = Canary::alphanumeric("second password");
    site.site.put("local/shop/db", "password", &second)?;
    site.until_heard(2)?;
    site.site.administrator.apply_policies(ADMINISTRATION, REGISTRATION)?;
    site.site.administrator.done(&["lease", "revoke", &site.site.lease()?, "--reason", "test"])?;
    site.until_heard(3)?;
    let heard = site.heard();
    let value = |canary: &Canary| format!("delivered LEVEL=info\nPASSWORD={}\n", canary.value());
    ensure!(
        heard == [value(&site.password), value(&second), "removed ".to_owned()],
        "it heard {}",
        heard.len()
    );
    Ok(())
}

#[test]
fn a_change_storm_runs_few_hooks_and_ends_with_the_last_value() -> Result<()> {
    let site = Hooked::start("cat app.env")?;
    site.until_heard(1)?;
    let mut last = site.password.clone();
    for _ in 0..40 {
        last = Canary::alphanumeric("password");
        site.site.put("local/shop/db", "password", &last)?;
    }
    wait_until(LIMIT, "the last value in the hook", || {
        site.heard().last().is_some_and(|heard| heard.contains(last.value()))
    })?;
    let hooks = site.agent.counted("bursar_agent_file_hooks_total{outcome=\"done\"}");
    let deliveries = site.agent.counted("bursar_agent_files_total{outcome=\"delivered\"}");
    ensure!((2..=15).contains(&hooks), "{hooks} hooks ran");
    ensure!(deliveries >= hooks && deliveries <= 41, "{deliveries} deliveries for {hooks} hooks");
    Ok(())
}

#[test]
fn a_hook_that_hangs_or_fails_holds_up_no_delivery_and_is_run_again() -> Result<()> {
    let site = Hooked::start("test -e ../good || { sleep 600 & sleep 600; }; cat app.env")?;
    site.site.until("app.env", |text| text.contains(site.password.value()))?;
    let second = Canary::alphanumeric("second password");
    site.site.put("local/shop/db", "password", &second)?;
    site.site.until("app.env", |text| text.contains(second.value()))?;
    site.site.log(&site.agent, "it was not done after 2s, and was ended")?;
    wait_until(LIMIT, "the agent to show it", || {
        let ready = site.agent.http("/readyz").map(|ready| ready.body).unwrap_or_default();
        ready.starts_with(b"ready, but degraded: 1 of 1 sets of files")
    })?;
    fs::write(site.site.directory().join("good"), "")?;
    site.until_heard(1)?;
    ensure!(site.heard()[0].contains(second.value()), "it saw another value");
    wait_until(LIMIT, "the agent to be as it has to be", || {
        site.agent.http("/readyz").is_ok_and(|ready| ready.body == b"ready\n")
    })
}

#[test]
fn a_process_gets_a_signal_when_its_files_changed() -> Result<()> {
    let (site, password) = (Site::start()?, Canary::alphanumeric("password"));
    site.put("local/shop/db", "password", &password)?;
    let (pid_file, heard) = (site.directory().join("pid"), site.directory().join("heard"));
    let script =
        "trap 'echo >>\"$1\"' USR1; echo $$ >\"$2.new\"; mv \"$2.new\" \"$2\"; while :; do sleep 0.1; done";
    let mut program = Command::new("sh")
        .args(["-c", script, "sh"])
        .args([&heard, &pid_file])
        .stdin(Stdio::null())
        .spawn()?;
    wait_until(LIMIT, "the program to run", || pid_file.exists())?;
    let hook = format!("[files.web.hook]\nsignal = 'USR1'\npid_file = '{}'\n", pid_file.display());
    let agent = site.agent(&format!("{}{hook}", super::OUTPUTS))?;
    let outcome = wait_until(LIMIT, "the signal", || heard.exists());
    program.kill()?;
    program.wait()?;
    outcome?;
    // Nobody is left to be told. That is shown, and the files change all the same.
    let second = Canary::alphanumeric("second password");
    site.put("local/shop/db", "password", &second)?;
    site.until("app.env", |text| text.contains(second.value()))?;
    site.log(&agent, "does not run")
}

/// A set whose hook takes down what a script in the directory of the set says.
struct Hooked {
    site: Site,
    agent: Agent,
    password: Canary,
    folder: PathBuf,
}

impl Hooked {
    fn start(script: &str) -> Result<Self> {
        let (site, password) = (Site::start()?, Canary::alphanumeric("password"));
        site.put("local/shop/db", "password", &password)?;
        let folder = site.directory().join("heard");
        fs::create_dir(&folder)?;
        // Each run writes a file of its own, whose name appears when it is complete.
        site.template(
            "hook.sh",
            &format!(
                "cd \"$BURSAR_FILES_DIRECTORY\" || exit 1\nname=$(ls \"$1\" | wc -l)\n\
                 {{ {script}; }} >\"$1/../part\" 2>/dev/null\nmv \"$1/../part\" \"$1/$name\"\n"
            ),
        )?;
        let hook = format!(
            "[files.web.hook]\ncommand = ['/bin/sh', '{}', '{}']\ntimeout = '2s'\nevery = '1s'\n",
            site.directory().join("hook.sh").display(),
            folder.display()
        );
        let agent = site.agent(&format!("[files.web.output.'app.env']\nformat = 'env'\n{hook}"))?;
        Ok(Self { site, agent, password, folder })
    }

    /// What each run said, in order.
    fn heard(&self) -> Vec<String> {
        (0..).map_while(|run| fs::read_to_string(self.folder.join(run.to_string())).ok()).collect()
    }

    fn until_heard(&self, runs: usize) -> Result<()> {
        wait_until(LIMIT, &format!("run {runs} of the hook"), || self.heard().len() >= runs)
    }
}
