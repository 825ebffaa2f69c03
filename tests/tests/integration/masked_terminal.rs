//! `bursar run --mask` on a terminal: the program has one too, with size, colours and keys, and the secrets that it
//! prints there are masked.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, ensure};
use bursar_tests::{scan_bytes, wait_for, wait_until};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, OutputModes, Winsize, tcgetattr, tcsetwinsize};

use crate::masking::{LIMIT, PEM, Site, through};

#[test]
fn a_program_on_a_terminal_keeps_it_and_prints_no_secret() -> Result<()> {
    let site = Site::start()?;
    let script =
        "test -t 0 && test -t 1 && test -t 2 && stty size; printf '\\033[31mred\\033[0m %s\\n' \"$KEY\"
        printf '%s' \"$PEM\"; printf '%s' \"$PEM\" | base64; echo \"$KEY\" > /dev/tty; echo the end";
    let mut screen = Screen::start(&site.command(&["sh", "-c", script])?)?;
    ensure!(screen.end()?.code == 0, "{}", screen.text());
    let text = screen.text();
    ensure!(text.starts_with("33 101\r\n\u{1b}[31mred\u{1b}[0m [masked:KEY]\r\n"), "{text}");
    ensure!(text.contains("[masked:PEM]\r\n") && text.ends_with("[masked:KEY]\r\nthe end\r\n"), "{text}");
    let found = scan_bytes("the terminal", text.as_bytes(), &[&site.key])?;
    ensure!(found.is_empty(), "{found:?}");
    let shown = PEM.lines().skip(1).take(4).find(|line| text.contains(line));
    ensure!(shown.is_none(), "a line of the key is shown: {text}");
    Ok(())
}

#[test]
fn keys_signals_and_sizes_reach_the_program_and_the_terminal_is_given_back() -> Result<()> {
    let site = Site::start()?;
    let script =
        "read -r line; echo \"got <$line>\"; trap 'stty size' WINCH; trap 'echo interrupted; exit 7' INT
        echo ready; while :; do sleep 1 & wait; done";
    let mut screen = Screen::start(&site.command(&["sh", "-c", script])?)?;
    wait_until(LIMIT, "the terminal to be raw", || screen.is_raw().unwrap_or_default())?;
    screen.press("typed\r")?;
    screen.wait_for("got <typed>")?;
    screen.wait_for("ready")?;
    screen.resize(50, 132)?;
    screen.wait_for("50 132")?;
    screen.press("\u{3}")?;
    screen.wait_for("interrupted")?;
    let left = screen.end()?;
    ensure!(left.code == 7, "{}", screen.text());
    ensure!(!left.raw, "the terminal was left raw");
    Ok(())
}

#[test]
fn what_does_not_go_to_the_terminal_goes_where_it_went() -> Result<()> {
    let site = Site::start()?;
    let script = "test -t 1 || echo \"no terminal $KEY\"; test -t 2 && echo \"terminal $KEY\" >&2";
    let run = site.command(&["sh", "-c", script])?;
    let mut screen = Screen::start(&through(&["sh", "-c", "\"$@\" > out", "sh"], &run)?)?;
    ensure!(screen.end()?.code == 0, "{}", screen.text());
    ensure!(screen.text() == "terminal [masked:KEY]\r\n", "{}", screen.text());
    let out = std::fs::read_to_string(site.cli.path("out"))?;
    ensure!(out == "no terminal [masked:KEY]\n", "{out}");
    Ok(())
}

#[test]
fn without_output_on_the_terminal_keys_still_end_the_program() -> Result<()> {
    let site = Site::start()?;
    let script =
        "trap 'echo interrupted; exit 7' INT; echo ready > /dev/tty; while :; do sleep 1 & wait; done";
    let run = site.command(&["sh", "-c", script])?;
    let mut screen = Screen::start(&through(&["sh", "-c", "exec \"$@\" > out 2>&1", "sh"], &run)?)?;
    screen.wait_for("ready")?;
    screen.press("\u{3}")?;
    ensure!(screen.end()?.code == 7, "{}", screen.text());
    // Once, and not once more by whoever stands before it.
    ensure!(std::fs::read_to_string(site.cli.path("out"))? == "interrupted\n");
    Ok(())
}

/// Somebody's terminal, with a command in its foreground.
struct Screen {
    child: Child,
    ours: OwnedFd,
    /// Held until the command has ended, so that all it wrote can be read.
    theirs: Option<OwnedFd>,
    shown: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

/// How a command left its terminal.
struct Left {
    code: i32,
    /// Whether keys still come as they are pressed.
    raw: bool,
}

impl Screen {
    fn start(command: &Command) -> Result<Self> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let ours = openpt(flags)?;
        grantpt(&ours)?;
        unlockpt(&ours)?;
        let theirs = ioctl_tiocgptpeer(&ours, flags)?;
        tcsetwinsize(&ours, Winsize { ws_row: 33, ws_col: 101, ws_xpixel: 0, ws_ypixel: 0 })?;
        let mut command = through(&["setsid", "--ctty"], command)?;
        command.stdin(theirs.try_clone()?).stdout(theirs.try_clone()?).stderr(theirs.try_clone()?);
        let child = command.spawn().context("`setsid` cannot be started; install util-linux")?;
        let shown = Arc::new(Mutex::new(Vec::new()));
        let mut screen = File::from(ours.try_clone()?);
        let written = Arc::clone(&shown);
        let reader = thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut buffer) {
                let bytes = buffer.get(..count).unwrap_or_default();
                written.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
            }
        });
        Ok(Self { child, ours, theirs: Some(theirs), shown, reader: Some(reader) })
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    fn wait_for(&self, text: &str) -> Result<()> {
        let seen = wait_until(LIMIT, &format!("`{text}` to be shown"), || self.text().contains(text));
        seen.with_context(|| format!("the terminal shows {:?}", self.text()))
    }

    fn press(&self, keys: &str) -> Result<()> {
        Ok(File::from(self.ours.try_clone()?).write_all(keys.as_bytes())?)
    }

    fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        Ok(tcsetwinsize(&self.ours, size)?)
    }

    /// Whether keys come as they are pressed, and lines as they are written.
    fn is_raw(&self) -> Result<bool> {
        let settings = tcgetattr(&self.ours)?;
        Ok(!settings.local_modes.contains(LocalModes::ICANON)
            && !settings.output_modes.contains(OutputModes::OPOST))
    }

    /// Waits for the end of the command, and for all that it wrote.
    fn end(&mut self) -> Result<Left> {
        let ended = wait_for(LIMIT, "the command to end", || Ok(self.child.try_wait()?));
        let status = ended.with_context(|| format!("the terminal shows {:?}", self.text()))?;
        let raw = self.is_raw()?;
        drop(self.theirs.take());
        if let Some(reader) = self.reader.take() {
            ensure!(reader.join().is_ok(), "the terminal cannot be read");
        }
        Ok(Left { code: status.code().context("the command was ended by a signal")?, raw })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // What was not seen to end must not stay.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
