//! `bursar run --as files|fd`, and the files of an environment: what a program reads, what its surroundings show, and
//! what is left when it has ended.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use bursar_tests::{Process, Said, scan_bytes, wait_until};

use crate::masking::{LIMIT, PEM, Site};

#[test]
fn a_value_is_read_from_a_file_and_is_not_in_the_environment() -> Result<()> {
    let site = Site::start()?;
    for way in ["files", "fd"] {
        let script = "cat /proc/$$/environ >&2; cat \"$KEY_FILE\"";
        let said = run(&site, &["--as", way, "--pass", "KEY", "--", "sh", "-c", script])?;
        ensure!(said.code == Some(0), "{way}: {}", said.stderr);
        ensure!(said.stdout == site.key.value().as_bytes(), "{way}: the program read another value");
        ensure!(said.stderr.contains("LEVEL=info"), "{way}: a literal is no variable: {}", said.stderr);
        let found = scan_bytes("the environment", said.stderr.as_bytes(), &[&site.key])?;
        ensure!(found.is_empty(), "{way}: {found:?}");
    }
    Ok(())
}

#[test]
fn files_are_the_users_alone_and_go_with_the_program() -> Result<()> {
    let site = Site::start()?;
    let script = "stat -c '%a %a' \"$KEY_FILE\" \"$(dirname \"$KEY_FILE\")\"; echo \"$KEY_FILE\"; exit 5";
    let said = run(&site, &["--as", "files", "--", "sh", "-c", script])?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    ensure!(said.code == Some(5), "{}", said.stderr);
    let [file, folder, path] = text.lines().collect::<Vec<_>>()[..] else {
        anyhow::bail!("it printed {text:?}");
    };
    ensure!((file, folder) == ("400 400", "700 700"), "{text}");
    let folder = Path::new(path).ancestors().nth(2).context("no folder")?;
    ensure!(path.starts_with("/dev/shm/bursar-run-") && !folder.exists(), "`{path}` is still there");
    Ok(())
}

#[test]
fn the_files_of_an_environment_are_where_it_is_told_with_their_modes() -> Result<()> {
    let site = Site::start()?;
    let script = "cd \"$BURSAR_FILES\" && stat -c '%n %a' tls/key.pem app.conf && cat tls/key.pem && echo && cat app.conf";
    let said = site.cli.run(&["run", "--env", "files", "--", "sh", "-c", script])?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    let expected = format!("tls/key.pem 400\napp.conf 640\n{}\nlevel = info\n", PEM.trim_end());
    ensure!(said.code == Some(0) && text == expected, "{text}{}", said.stderr);

    // What they hold is masked as what variables hold.
    let masked = site.cli.run(&["run", "--env", "files", "--mask", "--", "sh", "-c", script])?;
    let text = String::from_utf8_lossy(&masked.stdout).into_owned();
    ensure!(text == "tls/key.pem 400\napp.conf 640\n[masked:tls/key.pem]\nlevel = info\n", "{text}");
    Ok(())
}

#[test]
fn what_a_killed_supervisor_leaves_is_removed_by_the_next() -> Result<()> {
    let site = Site::start()?;
    let place = tempfile::tempdir_in("/dev/shm").context("/dev/shm is needed, a tmpfs")?;
    let dir = place.path().display().to_string();
    let mut command = site.cli.command()?;
    command.args(["run", "--env", "app", "--as", "files", "--dir", &dir]);
    command.args(["--", "sh", "-c", "echo \"pid $$ $KEY_FILE\"; exec sleep 1000"]);
    let mut process = Process::start("killed", command, &site.cli.path(""))?;
    let line = process.wait_for_line(LIMIT, "pid ")?;
    let [_, pid, path] = line.split(' ').collect::<Vec<_>>()[..] else { anyhow::bail!("{line}") };
    let (program, path) = (PathBuf::from(format!("/proc/{pid}/stat")), PathBuf::from(path));

    // One that runs keeps its files.
    let next = ["--as", "files", "--dir", &dir, "--", "sh", "-c", "echo \"$KEY_FILE\""];
    run(&site, &next)?;
    ensure!(path.exists(), "the files of a program that runs were removed");
    process.kill()?;
    wait_until(LIMIT, "the program to be killed", || {
        std::fs::read_to_string(&program).map_or(true, |stat| stat.contains(") Z "))
    })?;
    let said = run(&site, &next)?;
    ensure!(said.code == Some(0) && !path.exists(), "`{}` is still there: {}", path.display(), said.stderr);
    Ok(())
}

#[test]
fn what_cannot_be_delivered_is_refused_before_the_program_starts() -> Result<()> {
    let site = Site::start()?;
    let echo = ["--", "echo", "started"];
    let run = |arguments: &[&str]| site.cli.run(&[&["run"], arguments, &echo].concat());
    run(&["--env", "clash", "--as", "fd"])?.refused(78, &["`KEY_FILE`", "hint: rename the variable"])?;
    run(&["--env", "files", "--dir", "/proc"])?.refused(78, &["`/proc` is on a disk", "hint: "])?;
    run(&["--env", "app", "--as", "files", "--dir", "/proc", "--on-disk"])?
        .refused(78, &["cannot be given its files", "/proc/bursar-run-"])?;
    run(&["--env", "app", "--on-disk"])?.refused(2, &["--dir"])?;
    Ok(())
}

fn run(site: &Site, arguments: &[&str]) -> Result<Said> {
    site.cli.run(&[&["run", "--env", "app"], arguments].concat())
}
