//! What the sidecar is told, by words that the webhook writes. No file: whoever reads the pod's manifest sees all of it.

use std::path::PathBuf;
use std::time::Duration;

use bursar_core::Reference;
use bursar_core::settings::parse_duration;
use bursar_sdk::Address;
use clap::Args;
use rustix::process::Signal;

use crate::config::{self, Content, FileSet, Hook, HookAction, Output};
use crate::webhook::form;

/// Deliver files into a memory volume of the pod, and follow their secrets.
///
/// Added to pods by the webhook. It asks the broker by the pod's own token.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The broker.
    #[arg(long, value_parser = Address::parse, value_name = "ADDRESS")]
    pub(super) address: Address,
    /// The roots that vouch for it, PEM.
    #[arg(long, env = "BURSAR_CA_PEM", hide_env_values = true, value_name = "PEM")]
    pub(super) ca_pem: String,
    /// The pod's token, read anew for each call.
    #[arg(long, value_name = "FILE")]
    pub(super) token_file: PathBuf,
    /// Where the files are: a volume in memory.
    #[arg(long, value_name = "DIRECTORY")]
    pub(super) directory: PathBuf,
    /// The environment whose variables and files are delivered.
    #[arg(long, value_name = "NAME", required_unless_present = "secret", conflicts_with = "secret")]
    pub(super) env: Option<String>,
    /// A secret that outputs and templates see as this variable, instead of an environment.
    #[arg(long, value_name = "NAME=REFERENCE", value_parser = secret)]
    pub(super) secret: Vec<(String, Reference)>,
    /// A file of all variables (`env`, `json`, `yaml`, `properties`), or of PEM blocks (`pem:NAME,…`).
    #[arg(long, value_name = "PATH=FORM", value_parser = output)]
    output: Vec<(String, Content)>,
    /// A file by its template.
    #[arg(long, value_name = "PATH=TEXT", value_parser = template)]
    template: Vec<(String, String)>,
    /// The mode of files that have none of their own.
    #[arg(long, default_value = "0444", value_parser = config::mode, value_name = "MODE")]
    pub(super) mode: u32,
    /// The mode of one file.
    #[arg(long, value_name = "PATH=MODE", value_parser = mode_of)]
    mode_of: Vec<(String, u32)>,
    /// How long leases should last.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(super) ttl: Option<Duration>,
    /// A server in this pod that gets an empty POST after each change.
    #[arg(long, value_name = "URL", value_parser = hook, conflicts_with = "signal_process")]
    hook_url: Option<HookAction>,
    /// The processes of this name, in this pod and of this user, get a signal after each change.
    #[arg(long, value_name = "NAME", value_parser = config::process_name)]
    signal_process: Option<String>,
    /// Which signal.
    #[arg(long, value_name = "SIGNAL", value_parser = config::signal, default_value = "HUP", requires = "signal_process")]
    signal: Signal,
}

impl Arguments {
    /// The set of files that is delivered.
    pub(super) fn set(&self) -> FileSet {
        let mode = |path: &str| {
            let own = self.mode_of.iter().find(|(of, _)| of == path);
            own.map_or(self.mode, |(_, mode)| *mode)
        };
        let output =
            |(path, content): (&String, Content)| Output { path: path.clone(), mode: mode(path), content };
        let outputs = self.output.iter().map(|(path, content)| (path, content.clone()));
        let templates = self.template.iter().map(|(path, text)| (path, Content::Inline(text.clone())));
        let named = |name: &String| HookAction::Named { signal: self.signal, name: name.clone() };
        let action = self.hook_url.clone().or_else(|| self.signal_process.as_ref().map(named));
        FileSet {
            name: "pod".to_owned(),
            directory: self.directory.clone(),
            on_disk: false,
            environment: self.env.clone().unwrap_or_default(),
            owner: None,
            group: None,
            outputs: outputs.chain(templates).map(output).collect(),
            hook: action.map(|action| Hook { action, timeout: HOOK_TIMEOUT, every: HOOK_EVERY }),
        }
    }
}

fn pair<T>(text: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<(String, T), String> {
    let (path, rest) = text.split_once('=').ok_or("is PATH=…")?;
    Ok((config::relative(path)?, parse(rest)?))
}

fn output(text: &str) -> Result<(String, Content), String> {
    pair(text, form::parse)
}

fn template(text: &str) -> Result<(String, String), String> {
    pair(text, |text| Ok(text.to_owned()))
}

fn mode_of(text: &str) -> Result<(String, u32), String> {
    pair(text, config::mode)
}

fn secret(text: &str) -> Result<(String, Reference), String> {
    let (name, reference) = text.split_once('=').ok_or("is NAME=REFERENCE")?;
    let reference = Reference::parse(reference).map_err(|error| error.to_string())?;
    Ok((name.to_owned(), reference))
}

fn hook(text: &str) -> Result<HookAction, String> {
    config::local_server(text).map(|(address, uri)| HookAction::Http { address, uri })
}

const HOOK_TIMEOUT: Duration = Duration::from_secs(30);
const HOOK_EVERY: Duration = Duration::from_secs(5);
