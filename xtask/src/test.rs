//! `cargo xtask test`: servers, programs, tests. There is no way to leave the servers out: a test that passes because
//! its server is absent proves nothing.

use std::num::NonZero;
use std::process::Command;
use std::thread;

use anyhow::Result;
use clap::Args;

use crate::venv::Venv;
use crate::workspace::Workspace;
use crate::{apt, command, container, postgres};

#[derive(Args)]
pub(crate) struct Options {
    /// Run only the tests whose names contain FILTER
    #[arg(long, value_name = "FILTER")]
    only: Option<String>,
    /// Run only the tests of this package, not of the whole workspace (may be repeated)
    #[arg(long = "package", short, value_name = "NAME")]
    packages: Vec<String>,
}

impl Options {
    /// Whether tests may run that need images, which take a build of their own.
    fn pods(&self) -> bool {
        let integration = self.packages.is_empty() || self.packages.iter().any(|name| name == "bursar-tests");
        integration && self.only.as_ref().is_none_or(|filter| filter.contains("pods::"))
    }
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let venv = Venv::prepare(workspace)?;
    let bao = venv.program("bao")?;
    let postgres = postgres::binaries()?;
    for (program, package) in DEBIANS {
        if Command::new(program).arg("--version").output().is_err() {
            apt::install(package, program)?;
        }
    }
    eprintln!("xtask: OpenBao is `{}`, PostgreSQL is in `{}`", bao.display(), postgres.display());

    let packages: Vec<String> = match options.packages.as_slice() {
        [] => vec!["--workspace".to_owned()],
        names => names.iter().map(|name| package(name)).collect(),
    };
    // The integration tests start the programs that lie beside them. `--tests` is there for its features, not its
    // targets: with it cargo resolves them as `cargo test` will, and compiles each dependency once instead of twice.
    let programs = PROGRAMS.map(package);
    command::run(workspace.cargo().args(["build", "--bins", "--tests"]).args(&packages).args(programs))?;
    let podman = options.pods().then(|| container::for_tests(workspace)).transpose()?;

    let mut test = workspace.cargo();
    test.args(["test", "--no-fail-fast"]).args(&packages);
    if let Some(filter) = &options.only {
        test.args(["--", filter]);
    }
    test.envs(podman.map(|podman| ("BURSAR_TEST_PODMAN", podman.directory().to_owned())));
    // Tests wait for servers more than they compute.
    let threads = 2 * thread::available_parallelism().map_or(1, NonZero::get);
    test.env("RUST_TEST_THREADS", threads.to_string());
    test.env("BURSAR_TEST_BAO", bao).env("BURSAR_TEST_PG_BIN", postgres).env("BURSAR_TEST_VENV", &venv.path);
    command::run(&mut test)
}

fn package(name: &str) -> String {
    format!("--package={name}")
}

/// What the units are put to, and copies of environments, and the packages that have it.
const DEBIANS: [(&str, &str); 4] =
    [("systemd-analyze", "systemd"), ("strace", "strace"), ("setpriv", "util-linux"), ("age", "age")];
const PROGRAMS: [&str; 3] = ["bursar-broker", "bursar-agent", "bursar"];
