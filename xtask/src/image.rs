//! `cargo xtask image`: static programs in images with nothing beside them, and each image as an archive that every
//! container runtime loads. Podman works below the target directory and asks no registry.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use bursar_tests::Podman;
use clap::Args;

use crate::workspace::Workspace;
use crate::{apt, container, musl};

#[derive(Args)]
pub(crate) struct Options {
    /// Put the archives there, instead of into `image` of the target directory
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let built = musl::build(workspace, &["bursar-broker", "bursar-agent", "bursar"])?;
    let authorities = Path::new(AUTHORITIES);
    if !authorities.is_file() {
        apt::install("ca-certificates", "the bundle of public authorities")?;
    }
    let podman = container::podman(workspace, "podman")?;
    let to = options.to.clone().unwrap_or_else(|| workspace.target.join("image"));
    fs::create_dir_all(&to).with_context(|| format!("`{}` cannot be made", to.display()))?;
    for (kind, public) in [("broker", true), ("agent", false)] {
        let programs = [format!("bursar-{kind}"), "bursar".to_owned()];
        let mut files: Vec<PathBuf> = programs.iter().map(|program| built.join(program)).collect();
        files.extend(public.then(|| authorities.to_owned()));
        let context = container::gather(files.iter().map(AsRef::as_ref))?;
        let name = format!("localhost/bursar-{kind}:{VERSION}");
        let file = workspace.root.join(format!("deploy/container/{kind}.Containerfile"));
        podman.build(&name, &file, context.path(), "scratch")?;
        for program in &programs {
            // With nothing beside it, a program that is not static cannot be started.
            let entry = format!("--entrypoint=/{program}");
            let said =
                podman.run(&["run", "--rm", "--pull=never", "--network=none", &entry, &name, "--version"])?;
            ensure!(said.contains(VERSION), "`{program}` of `{name}` says `{}`", said.trim());
        }
        let archive = to.join(format!("bursar-{kind}-{VERSION}.tar"));
        save(&podman, &name, &archive)?;
    }
    Ok(())
}

fn save(podman: &Podman, name: &str, archive: &Path) -> Result<()> {
    // Podman adds to an archive that is there.
    if archive.exists() {
        fs::remove_file(archive).with_context(|| format!("`{}` cannot be removed", archive.display()))?;
    }
    let path = archive.display().to_string();
    podman.run(&["save", "--quiet", "--format=oci-archive", "--output", &path, name])?;
    let bytes = fs::metadata(archive)?.len();
    eprintln!("xtask: `{path}` has `{name}`, {:.1} MiB", bytes as f64 / f64::from(1 << 20));
    Ok(())
}

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// As Debian keeps it.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
