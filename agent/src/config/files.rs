//! `[files.NAME]`: the sets of files that the agent delivers by itself.

use std::path::{Component, Path, PathBuf};

use bursar_core::settings::Section;

use super::hook::{Hook, hook};

/// A set of files, delivered as one.
#[derive(Debug, Clone)]
pub struct FileSet {
    /// 1 to 64 letters, digits, `.`, `_` and `-`; what policy knows it by.
    pub name: String,
    /// Absolute, without `.` and `..`.
    pub directory: PathBuf,
    /// Whether the directory may lie on a disk.
    pub on_disk: bool,
    /// Whose variables the outputs are made of, and whose files are delivered beside them.
    pub environment: String,
    /// Who owns the files; the agent's own user when not given.
    pub owner: Option<Account>,
    /// The owner's group when not given.
    pub group: Option<Account>,
    pub outputs: Vec<Output>,
    /// What is done when they changed.
    pub hook: Option<Hook>,
}

/// A user or a group of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Account {
    Name(String),
    Number(u32),
}

/// One file that is made of variables.
#[derive(Debug, Clone)]
pub struct Output {
    /// Relative to the directory of the set, in normal form.
    pub path: String,
    pub mode: u32,
    pub content: Content,
}

/// What a file is made of.
#[derive(Debug, Clone)]
pub enum Content {
    /// A template of the administrator's.
    Template(PathBuf),
    /// A template by its text, where somebody else than the administrator names it.
    Inline(String),
    /// All variables, or those that are named, in one of the usual forms.
    Listing { format: Format, variables: Option<Vec<String>> },
    /// PEM blocks of these variables, one after the other.
    Pem { variables: Vec<String> },
}

/// A usual form for variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `NAME=value`, quoted as a POSIX shell and systemd read it.
    Env,
    /// An object of texts.
    Json,
    /// A mapping of texts.
    Yaml,
    /// Java's.
    Properties,
}

pub(super) fn file_sets(root: &mut Section<'_>) -> Vec<FileSet> {
    let sets = root.each("files", file_set);
    for (place, set) in sets.iter().enumerate() {
        let others = sets.iter().take(place);
        for other in others.filter(|other| overlap(&other.directory, &set.directory)) {
            let message = format!("is inside the directory of `files.{}`, or around it", other.name);
            root.fault::<()>(&format!("files.{}.directory", set.name), message);
        }
    }
    sets
}

fn overlap(one: &Path, other: &Path) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

fn file_set(name: &str, set: &mut Section<'_>) -> Option<FileSet> {
    let named = set_name(name).map_err(|message| set.fault::<()>("", message));
    let directory = set.parsed("directory", directory);
    let directory = set.required("directory", directory);
    let environment = set.text("environment");
    let environment = set.required("environment", environment);
    let on_disk = set.flag("on_disk").unwrap_or(false);
    let owner = set.parsed("owner", account);
    let group = set.parsed("group", account);
    let mode = set.parsed("mode", mode).unwrap_or(0o400);
    let outputs = set.each("output", |path, output_section| output(path, mode, output_section));
    let hook = set.section_if_given("hook", hook);
    Some(FileSet {
        name: named.ok()?,
        directory: directory?,
        on_disk,
        environment: environment?,
        owner,
        group,
        outputs,
        hook: hook.flatten(),
    })
}

fn output(path: &str, mode_of_set: u32, output: &mut Section<'_>) -> Option<Output> {
    let path = relative(path).map_err(|message| output.fault::<()>("", message));
    let mode = output.parsed("mode", mode).unwrap_or(mode_of_set);
    let template = output.parsed("template", absolute);
    let format = output.text("format");
    let variables = output.texts("variables");
    let content = match (template, format.as_deref()) {
        (Some(_), Some(_)) => {
            output.fault("format", "goes without `template`; give one of the two".to_owned())
        }
        (Some(_), None) if !variables.is_empty() => {
            output.fault("variables", "goes with a `format`; a template sees every variable".to_owned())
        }
        (Some(template), None) => Some(Content::Template(template)),
        (None, Some("pem")) if variables.is_empty() => {
            output.fault("variables", "is required for `pem`: the key, the certificate, its chain".to_owned())
        }
        (None, Some("pem")) => Some(Content::Pem { variables }),
        (None, Some(format)) => match format_named(format) {
            Ok(format) => {
                let variables = (!variables.is_empty()).then_some(variables);
                Some(Content::Listing { format, variables })
            }
            Err(message) => output.fault("format", message),
        },
        (None, None) => output.fault("", "needs a `template` or a `format`".to_owned()),
    };
    Some(Output { path: path.ok()?, mode, content: content? })
}

/// Also a selector and the name of a file, so neither long nor odd.
pub(super) fn set_name(name: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if name.is_empty() || name.len() > 64 || !name.bytes().all(allowed) || name.starts_with('.') {
        return Err(
            "is named by 1 to 64 letters, digits, `.`, `_` and `-`, not beginning with `.`".to_owned()
        );
    }
    Ok(name.to_owned())
}

pub(super) fn absolute(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_absolute() { Ok(path) } else { Err("is an absolute path".to_owned()) }
}

fn directory(text: &str) -> Result<PathBuf, String> {
    let path = absolute(text)?;
    let plain = path.components().skip(1).all(|part| matches!(part, Component::Normal(_)));
    if plain && path.components().count() > 1 && text.split('/').all(|part| part != ".") {
        Ok(path.components().collect())
    } else {
        Err("is an absolute path without `.` and `..`, and not `/`".to_owned())
    }
}

/// As environments name their files. What begins with `..` is the agent's own.
pub(crate) fn relative(path: &str) -> Result<String, String> {
    let good = |part: &str| !part.is_empty() && part != "." && !part.starts_with("..") && part.len() <= 255;
    if path.len() <= 4096 && path.split('/').all(good) && !path.contains('\0') {
        return Ok(path.to_owned());
    }
    Err("is a relative path without `.`, empty parts, and parts that begin with `..`".to_owned())
}

pub(super) fn account(text: &str) -> Result<Account, String> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let number = text.parse::<u32>().ok().filter(|number| *number != u32::MAX);
        return number.map(Account::Number).ok_or_else(|| "is too large for a number of a user".to_owned());
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'$');
    if text.is_empty() || !text.bytes().all(allowed) {
        return Err(format!("`{}` is neither a name nor a number", text.escape_default()));
    }
    Ok(Account::Name(text.to_owned()))
}

/// Nobody but root may write what the agent would repair.
pub(crate) fn mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777 && mode & 0o022 == 0);
    let wanted = "write one like \"0400\" or \"0440\", which lets neither the group nor others write";
    mode.ok_or_else(|| format!("`{}` is no mode; {wanted}", text.escape_default()))
}

pub(crate) fn format_named(text: &str) -> Result<Format, String> {
    match text {
        "env" => Ok(Format::Env),
        "json" => Ok(Format::Json),
        "yaml" => Ok(Format::Yaml),
        "properties" => Ok(Format::Properties),
        other => {
            Err(format!("is `env`, `json`, `yaml`, `properties` or `pem`, not `{}`", other.escape_default()))
        }
    }
}
