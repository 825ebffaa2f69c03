//! The search through files, in one pass and without reading a file whole.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use aho_corasick::AhoCorasick;
use anyhow::{Context, Result, ensure};
use bursar_core::secret::forms;

use super::Canary;

/// One place that a value was found in. Names the canary, never its value.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    /// Name of the canary.
    pub canary: String,
    /// What its value looked like there.
    pub form: &'static str,
    /// The file, or what the bytes were said to be.
    pub place: String,
    /// Bytes before it, from the start of the place.
    pub offset: u64,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { canary, form, place, offset } = self;
        write!(f, "`{canary}` stands {form} in `{place}`, at byte {offset}")
    }
}

/// Searches every file under `directory`, and the names of what lies there, for each canary in each form. Symbolic
/// links are searched for what they say, not followed. Sockets and pipes hold nothing. A file that goes away
/// meanwhile is passed over. Each form of a canary is reported once a file.
///
/// # Errors
/// There is no file at all, so that nothing was searched; or one cannot be read.
pub fn scan(directory: &Path, canaries: &[&Canary]) -> Result<Vec<Finding>> {
    let search = Search::new(canaries)?;
    let mut findings = Vec::new();
    let files = search.tree(directory, &mut findings)?;
    ensure!(files > 0, "there is no file under `{}`: nothing was searched", directory.display());
    Ok(findings)
}

/// Searches `bytes`, called `place` in findings, for each canary in each form.
///
/// # Errors
/// There are no canaries.
pub fn scan_bytes(place: &str, bytes: &[u8], canaries: &[&Canary]) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    Search::new(canaries)?.stream(place, bytes, &mut findings)?;
    Ok(findings)
}

/// Every form of every canary, as one automaton.
struct Search {
    automaton: AhoCorasick,
    /// Canary and form, in the order of the automaton's patterns.
    patterns: Vec<(String, &'static str)>,
}

impl Search {
    fn new(canaries: &[&Canary]) -> Result<Self> {
        ensure!(!canaries.is_empty(), "there are no canaries to search for");
        let mut patterns = Vec::new();
        let mut texts = Vec::new();
        for canary in canaries {
            for form in forms(canary.value().as_bytes()) {
                patterns.push((canary.name().to_owned(), form.kind.as_str()));
                texts.push(form.text);
            }
        }
        Ok(Self { automaton: AhoCorasick::new(texts.iter().map(|text| text.as_slice()))?, patterns })
    }

    /// Searches what lies under `directory`, and returns how many files that were.
    fn tree(&self, directory: &Path, findings: &mut Vec<Finding>) -> Result<usize> {
        let mut files = 0;
        let entries = match fs::read_dir(directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
            entries => entries.with_context(|| format!("`{}` cannot be listed", directory.display()))?,
        };
        for entry in entries {
            let entry = entry?;
            let before = findings.len();
            self.stream(
                &format!("the name of an entry of {}", directory.display()),
                entry.file_name().as_bytes(),
                findings,
            )?;
            // What follows would be reported under its path, and the path holds the value.
            if findings.len() > before {
                files += 1;
                continue;
            }
            let path = entry.path();
            let kind = entry.file_type().with_context(|| format!("`{}` has no type", path.display()))?;
            if kind.is_dir() {
                files += self.tree(&path, findings)?;
            } else if kind.is_file() || kind.is_symlink() {
                let searched =
                    if kind.is_file() { self.file(&path, findings) } else { self.link(&path, findings) };
                match searched {
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    searched => {
                        searched.with_context(|| format!("`{}` cannot be read", path.display()))?;
                        files += 1;
                    }
                }
            }
        }
        Ok(files)
    }

    fn file(&self, path: &Path, findings: &mut Vec<Finding>) -> io::Result<()> {
        self.stream(&path.display().to_string(), File::open(path)?, findings)
    }

    fn link(&self, path: &Path, findings: &mut Vec<Finding>) -> io::Result<()> {
        let target = fs::read_link(path)?;
        self.stream(&format!("the target of {}", path.display()), target.as_os_str().as_bytes(), findings)
    }

    fn stream(&self, place: &str, bytes: impl Read, findings: &mut Vec<Finding>) -> io::Result<()> {
        let first = findings.len();
        for found in self.automaton.stream_find_iter(bytes) {
            let found = found?;
            let Some((canary, form)) = self.patterns.get(found.pattern().as_usize()) else { continue };
            let mut here = findings.iter().skip(first);
            if here.any(|earlier| earlier.canary == *canary && earlier.form == *form) {
                continue;
            }
            let offset = found.start() as u64;
            findings.push(Finding { canary: canary.clone(), form, place: place.to_owned(), offset });
        }
        Ok(())
    }
}
