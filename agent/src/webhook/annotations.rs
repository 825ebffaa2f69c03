//! The annotations of Bursar on a pod: which there are, and what they say. Raw texts in, one [`Plan`] out, or every fault
//! at once.

mod nearest;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use bursar_core::settings::parse_duration;

use super::text::{excerpt, list};
use crate::config::{self, Injection, NamespaceDefaults, Shape};

/// What is to be done with a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    /// The containers that are to have secrets, by name; all of them when absent.
    pub(super) containers: Option<BTreeSet<String>>,
    pub(super) way: Way,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    Exec(Exec),
    Sidecar(Sidecar),
    Node,
}

impl Way {
    pub(super) fn shape(&self) -> Shape {
        match self {
            Self::Exec(_) => Shape::Exec,
            Self::Sidecar(_) => Shape::Sidecar,
            Self::Node => Shape::Node,
        }
    }
}

/// How a command is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Exec {
    pub(super) environment: String,
    /// `env`, `files` or `fd`.
    pub(super) by: Option<&'static str>,
    pub(super) on_change: Option<&'static str>,
    /// Without `SIG`.
    pub(super) signal: Option<&'static str>,
    pub(super) mask: bool,
    pub(super) ttl: Option<String>,
}

/// Which files are delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sidecar {
    pub(super) source: Source,
    pub(super) directory: String,
    /// In octal, of files that have none of their own.
    pub(super) mode: Option<String>,
    pub(super) modes: BTreeMap<String, String>,
    /// Forms by the paths of files.
    pub(super) outputs: BTreeMap<String, String>,
    /// Texts of templates by the paths of files.
    pub(super) templates: BTreeMap<String, String>,
    pub(super) hook_url: Option<String>,
    /// The name of the processes that hear of a change, and by which signal.
    pub(super) signal: Option<(String, &'static str)>,
    pub(super) ttl: Option<String>,
}

/// What files are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    Environment(String),
    /// References by the names of variables.
    Secrets(BTreeMap<String, String>),
}

/// An annotation that there is.
#[derive(Debug)]
pub(crate) struct Known {
    /// Without the prefix; one that ends in `.*` is a family.
    pub(crate) name: &'static str,
    shapes: &'static [Shape],
}

/// Every annotation that pods may set.
pub(crate) const KNOWN: [Known; 14] = [
    known("shape", &Shape::ALL),
    known("environment", &[Shape::Exec, Shape::Sidecar]),
    known("containers", &Shape::ALL),
    known("as", &[Shape::Exec]),
    known("on-change", &[Shape::Exec]),
    known("signal", &[Shape::Exec, Shape::Sidecar]),
    known("mask", &[Shape::Exec]),
    known("ttl", &[Shape::Exec, Shape::Sidecar]),
    known("directory", &[Shape::Sidecar]),
    known("mode", &[Shape::Sidecar]),
    known("output.*", &[Shape::Sidecar]),
    known("template.*", &[Shape::Sidecar]),
    known("hook-url", &[Shape::Sidecar]),
    known("signal-process", &[Shape::Sidecar]),
];

const fn known(name: &'static str, shapes: &'static [Shape]) -> Known {
    Known { name, shapes }
}

impl Known {
    fn is(&self, name: &str) -> bool {
        match self.name.strip_suffix('*') {
            Some(family) => name.strip_prefix(family).is_some_and(|rest| !rest.is_empty()),
            None => self.name == name,
        }
    }
}

/// Reads what a pod says. `defaults` are those of its namespace.
///
/// # Errors
/// Every fault.
pub(super) fn read(
    annotations: &BTreeMap<String, String>,
    defaults: &NamespaceDefaults,
    injection: &Injection,
) -> Result<Plan, Vec<String>> {
    let mut said = Said::of(annotations, injection);
    let shape = said.take("shape", |text| shape(text, injection));
    let shape = shape.or(defaults.shape).unwrap_or(injection.default_shape);
    said.fit(shape);
    let containers = said.take("containers", containers);
    let way = match shape {
        Shape::Exec => said.exec(defaults).map(Way::Exec),
        Shape::Sidecar => said.sidecar(defaults).map(Way::Sidecar),
        Shape::Node => Some(Way::Node),
    };
    match way {
        Some(way) if said.faults.is_empty() => Ok(Plan { containers, way }),
        _ => Err(said.faults),
    }
}

/// What is left to be read, and what is wrong with what was.
struct Said<'a> {
    texts: BTreeMap<&'a str, &'a str>,
    faults: Vec<String>,
}

impl<'a> Said<'a> {
    /// Those that there are and that may be set.
    fn of(annotations: &'a BTreeMap<String, String>, injection: &Injection) -> Self {
        let mut said = Self { texts: BTreeMap::new(), faults: Vec::new() };
        for (key, text) in annotations {
            let Some(name) = key.strip_prefix(PREFIX).filter(|name| *name != INJECTED) else { continue };
            match KNOWN.iter().find(|known| known.is(name)) {
                Some(known) if injection.allow.contains(known.name) => {
                    said.texts.insert(name, text);
                }
                Some(_) => said.fault(name, "may not be set here: the webhook's `allow` does not have it"),
                None if name == INJECT => {
                    said.fault(name, "is a label, so that the API server can select by it");
                }
                None => {
                    let nearest = nearest::among(name, KNOWN.iter().map(|known| known.name));
                    said.fault(name, &format!("is no annotation; the nearest is `{PREFIX}{nearest}`"));
                }
            }
        }
        said
    }

    fn fault(&mut self, name: &str, what: &str) {
        self.faults.push(format!("`{PREFIX}{}` {what}", excerpt(name)));
    }

    /// That nothing is said which the shape has no use for.
    fn fit(&mut self, shape: Shape) {
        let is_unfit =
            |name: &str| KNOWN.iter().find(|known| known.is(name) && !known.shapes.contains(&shape));
        let unfit: Vec<_> =
            self.texts.keys().filter_map(|name| Some((*name, is_unfit(name)?.shapes))).collect();
        for (name, shapes) in unfit {
            self.texts.remove(name);
            let shapes = list(shapes.iter().map(|shape| shape.as_str()));
            self.fault(
                name,
                &format!("means nothing for the shape `{}`; it is for {shapes}", shape.as_str()),
            );
        }
    }

    fn take<T>(&mut self, name: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let text = self.texts.remove(name)?;
        match parse(text) {
            Ok(parsed) => Some(parsed),
            Err(what) => {
                self.fault(name, &what);
                None
            }
        }
    }

    /// Every annotation of a family, by what stands after its name: a path.
    fn family(
        &mut self,
        family: &str,
        check: impl Fn(&str) -> Result<(), String>,
    ) -> BTreeMap<String, String> {
        let names: Vec<_> = self.texts.keys().filter(|name| name.starts_with(family)).copied().collect();
        let mut read = BTreeMap::new();
        for name in names {
            let text = self.texts.remove(name).unwrap_or_default();
            let path = name.strip_prefix(family).unwrap_or_default();
            match config::relative(path).and_then(|path| check(text).map(|()| path)) {
                Ok(path) => {
                    read.insert(path, text.to_owned());
                }
                Err(what) => self.fault(name, &what),
            }
        }
        read
    }

    fn environment(&mut self, defaults: &NamespaceDefaults) -> Option<String> {
        let is_said = self.texts.contains_key("environment");
        let named =
            self.take("environment", config::environment_name).or_else(|| defaults.environment.clone());
        if named.is_none() && !is_said {
            self.fault("environment", "is required: the name of the environment whose secrets the pod gets");
        }
        named
    }

    fn exec(&mut self, defaults: &NamespaceDefaults) -> Option<Exec> {
        let environment = self.environment(defaults);
        let by = self.take("as", |text| one_of(text, &["env", "files", "fd"]));
        let on_change = self.take("on-change", |text| one_of(text, &["restart", "signal", "none"]));
        let signals = self.texts.contains_key("signal");
        let signal = self.take("signal", config::signal_name);
        if signals && on_change != Some("signal") {
            self.fault("signal", "goes with `bursar.io/on-change: signal`");
        }
        let mask = self.take("mask", |text| one_of(text, &["true", "false"])) == Some("true");
        let ttl = self.take("ttl", ttl);
        Some(Exec { environment: environment?, by, on_change, signal, mask, ttl })
    }

    fn sidecar(&mut self, defaults: &NamespaceDefaults) -> Option<Sidecar> {
        let environment = self.environment(defaults);
        let directory = self.take("directory", config::absolute_path).unwrap_or_else(|| DIRECTORY.to_owned());
        let mode = self.take("mode", mode);
        let outputs = self.family("output.", |form| super::form::parse(form).map(drop));
        let templates = self.family("template.", |_| Ok(()));
        for path in outputs.keys().filter(|path| templates.contains_key(*path)).cloned().collect::<Vec<_>>() {
            self.fault(&format!("template.{path}"), "is a file that there is an output for already");
        }
        let hook_url = self.take("hook-url", |text| config::local_server(text).map(|_| text.to_owned()));
        let signal = self.signal_to_process();
        if hook_url.is_some() && signal.is_some() {
            self.fault("signal-process", "is not needed beside `bursar.io/hook-url`: a program hears once");
        }
        let ttl = self.take("ttl", ttl);
        Some(Sidecar {
            source: Source::Environment(environment?),
            directory,
            mode,
            modes: BTreeMap::new(),
            outputs,
            templates,
            hook_url,
            signal,
            ttl,
        })
    }

    fn signal_to_process(&mut self) -> Option<(String, &'static str)> {
        let (is_said, signals) =
            (self.texts.contains_key("signal-process"), self.texts.contains_key("signal"));
        let name = self.take("signal-process", config::process_name);
        let signal = self.take("signal", config::signal_name);
        if signals && !is_said {
            self.fault("signal", "goes with `bursar.io/signal-process`, which says who gets it");
        }
        Some((name?, signal.unwrap_or("HUP")))
    }
}

fn shape(text: &str, injection: &Injection) -> Result<Shape, String> {
    let shape = text.parse()?;
    match injection.shapes.contains(&shape) {
        true => Ok(shape),
        false => {
            let shapes = list(injection.shapes.iter().map(|shape| shape.as_str()));
            Err(format!("may not be `{text}` here: the webhook's `shapes` are {shapes}"))
        }
    }
}

fn containers(text: &str) -> Result<BTreeSet<String>, String> {
    let names: BTreeSet<_> = text.split(',').map(|name| name.trim().to_owned()).collect();
    match names.contains("") {
        true => Err("is a list of names of containers, with commas between them".to_owned()),
        false => Ok(names),
    }
}

fn one_of(text: &str, known: &[&'static str]) -> Result<&'static str, String> {
    let found = known.iter().find(|name| **name == text).copied();
    found.ok_or_else(|| format!("is {}, not `{}`", list(known.iter().copied()), excerpt(text)))
}

fn ttl(text: &str) -> Result<String, String> {
    match parse_duration(text) {
        Ok(duration) if !duration.is_zero() => Ok(text.to_owned()),
        Ok(_) => Err("must be longer than nothing".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// In octal. The files are written by nobody but the sidecar.
pub(super) fn mode(text: &str) -> Result<String, String> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let bits = u32::from_str_radix(text, 8).ok().filter(|bits| digits && *bits <= 0o777 && bits & 0o222 == 0);
    bits.map(|bits| format!("{bits:04o}"))
        .ok_or_else(|| "is a mode without a bit for writing, such as `0444`".to_owned())
}

pub(super) const PREFIX: &str = "bursar.io/";
/// The label.
pub(super) const INJECT: &str = "inject";
/// What was done, for people.
pub(super) const INJECTED: &str = "injected";
/// Where files are when nobody says.
const DIRECTORY: &str = "/run/bursar-files";
