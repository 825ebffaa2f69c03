//! `cargo xtask demo`: the main job from end to end on the embedded default, in plain words.
//!
//! Everything is real: a broker with its own authority and ledger, an agent that joins and attests, the command that
//! people type. What is typed is shown, so that it can be typed again; what it prints is kept, and at the end all of it
//! is searched for the secrets, together with every file that was written.

mod stage;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bursar_tests::Canary;

use crate::workspace::Workspace;
use stage::Stage;

pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    eprintln!("demo: building the three programs (minutes the first time, seconds after that)");
    let programs = ["--package=bursar-broker", "--package=bursar-agent", "--package=bursar"];
    crate::command::run(workspace.cargo().arg("build").args(programs))?;

    let password = Canary::alphanumeric("database password");
    let key = Canary::alphanumeric("payment key");
    let mut stage = Stage::set(workspace)?;

    stage.say(
        "A broker starts: TLS from its own authority, a ledger, an encrypted store. Nothing else is needed.",
    );
    stage.start_broker()?;
    stage.say("This machine joins by a token that works once. From now on the agent proves who asks.");
    stage.bursar(&["node", "token", "demo-node", "--out", "join-token"])?;
    stage.start_agent()?;

    stage.say(
        "Two secrets go into the broker's own store. Values come from standard input, never from arguments.",
    );
    stage.bursar_with(&["secret", "put", "local/demo/db", "--field", "password"], password.value())?;
    stage.bursar_with(&["secret", "put", "local/demo/payments", "--field", "key"], key.value())?;

    stage.say(
        "Policies say who may read what, registrations who a process is, an environment what a program gets.",
    );
    stage.write("policies/demo.cedar", POLICIES)?;
    let uid = rustix::process::getuid().as_raw();
    stage.write("policies/registrations.toml", &REGISTRATIONS.replace("UID", &uid.to_string()))?;
    stage.write("environment.toml", ENVIRONMENT)?;
    stage.bursar(&["policy", "apply", "policies"])?;
    stage.bursar(&["env", "apply", "environment.toml"])?;

    stage.say("A program runs on leased secrets. It has them in its environment and tells us only how long they are.");
    let run = ["run", "--env", "demo/app", "--reason", "the demo", "--", "sh", "-c", PROGRAM];
    let said = stage.bursar_as_workload(&run)?;
    ensure!(
        said.contains("DATABASE_URL has 62 characters"),
        "the program did not get its environment:\n{said}"
    );

    stage.say("Who holds what. Each secret is under a lease that ends by itself.");
    stage.bursar(&["lease", "list"])?;
    let leases = stage.leases()?;
    let [first, second, ..] = leases.as_slice() else {
        anyhow::bail!("two leases were expected, {} are there", leases.len());
    };
    stage.say("One lease is extended, one is taken back.");
    stage.bursar(&["lease", "renew", first, "--ttl", "30m"])?;
    stage.bursar(&["lease", "revoke", second, "--reason", "the demo takes it back"])?;
    stage.bursar(&["lease", "list"])?;

    stage.say("Every disclosure and every change is in the ledger: who, what, when, why.");
    stage.bursar(&["audit", "query"])?;
    stage.say("The ledger is a signed transparency log: whatever is changed in it afterwards is found.");
    let vkey = stage.bootstrap("audit.vkey");
    let vkey = vkey.to_str().context("the demo's directory is not UTF-8")?;
    stage.bursar(&["audit", "verify", "--key-file", vkey])?;

    stage.say("Last, everything that was written or printed is searched for the two secrets.");
    stage.stop()?;
    let found = stage.search(&[&password, &key])?;
    ensure!(found.is_empty(), "the demo found secrets where none may be: {found:?}");
    stage.say(
        "None, in any of the usual disguises. That is the main job; `bursar dev` keeps it running for play.",
    );
    Ok(())
}

const POLICIES: &str = r#"// The administrator runs the broker and cannot read what it keeps.
@id("administration")
permit (
  principal == Bursar::Principal::"spiffe://demo.test/user/admin",
  action in Bursar::Action::"administer",
  resource
);

// The demo's program may use its environment and the secrets in its folder.
@id("demo-uses-its-folder")
permit (
  principal == Bursar::Principal::"spiffe://demo.test/workload/demo",
  action in Bursar::Action::"use",
  resource in Bursar::Folder::"local/demo"
);
@id("demo-resolves-its-environment")
permit (
  principal == Bursar::Principal::"spiffe://demo.test/workload/demo",
  action == Bursar::Action::"resolve",
  resource in Bursar::EnvironmentFolder::"demo"
);

// Without this an agent does not hear of revocations.
@id("watch")
permit (
  principal,
  action == Bursar::Action::"watch",
  resource == Bursar::System::"broker"
);
"#;

const REGISTRATIONS: &str = r#"[[registration]]
principal = "spiffe://demo.test/workload/demo"
node = "demo-node"
selectors = ["unix:uid:UID"]
"#;

const ENVIRONMENT: &str = r#"[environment."demo/app".vars]
LOG_LEVEL = "info"
DATABASE_URL = { compose = "postgres://app:${local/demo/db#password}@localhost/demo" }
PAYMENT_KEY = { from = "local/demo/payments#key" }
"#;

const PROGRAM: &str = "echo \"LOG_LEVEL is $LOG_LEVEL\"; \
    echo \"DATABASE_URL has ${#DATABASE_URL} characters\"; echo \"PAYMENT_KEY has ${#PAYMENT_KEY} characters\"";

/// How long a program may take to get ready.
const READY: Duration = Duration::from_secs(30);
