//! What a volume is to have: the parameters of its SecretProviderClass, as read.
//!
//! Whoever may write a SecretProviderClass is somebody in one namespace. So nothing in it names a file of this machine:
//! templates come by their text.

use bursar_proto::limits;

use super::listing::{Entry, Field, entries};
use crate::config::{Content, Output, format_named, mode, relative};

/// The files of a volume.
#[derive(Debug)]
pub(super) struct Volume {
    pub(super) environment: Option<Environment>,
    pub(super) objects: Vec<Object>,
    /// Of files that have none of their own.
    pub(super) mode: u32,
}

/// An environment, and what is made of its variables. Without outputs each variable is a file.
#[derive(Debug)]
pub(super) struct Environment {
    pub(super) name: String,
    pub(super) outputs: Vec<Output>,
}

/// A file that is one secret.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) path: String,
    pub(super) reference: String,
    pub(super) mode: u32,
}

impl Volume {
    /// Reads the parameters that `take` takes out by name. `default_mode` is what the driver gives files.
    ///
    /// # Errors
    /// What is wrong, beginning with the name of the parameter.
    pub(super) fn read(
        mut take: impl FnMut(&str) -> Result<Option<String>, String>,
        default_mode: u32,
    ) -> Result<Self, String> {
        let own = take("mode")?.map(|text| mode(&text).map_err(|fault| format!("`mode`: {fault}")));
        let mode = own.transpose()?.unwrap_or(default_mode);
        let environment = take("environment")?;
        let outputs = list("outputs", take("outputs")?, |entry| output(entry, mode))?;
        let objects = list("objects", take("objects")?, |entry| object(entry, mode))?;
        if environment.is_none() && !outputs.is_empty() {
            return Err("`outputs` are made of an `environment`, which is not given".to_owned());
        }
        if environment.is_none() && objects.is_empty() {
            return Err("neither `environment` nor `objects` says what to mount".to_owned());
        }
        if objects.len() > limits::BATCH {
            let most = limits::BATCH;
            return Err(format!("`objects` has more than {most} entries; use an environment"));
        }
        let environment = environment.map(|name| Environment { name, outputs });
        Ok(Self { environment, objects, mode })
    }
}

fn list<T>(
    name: &str,
    text: Option<String>,
    read: impl Fn(Entry) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    let entries = entries(&text.unwrap_or_else(|| "[]".to_owned()));
    let entries = entries.map_err(|fault| format!("`{name}`: {fault}"))?.into_iter();
    let numbered = entries.enumerate();
    let read =
        |(place, entry)| read(entry).map_err(|fault| format!("`{name}`, entry {}: {fault}", place + 1));
    numbered.map(read).collect()
}

fn object(mut entry: Entry, mode: u32) -> Result<Object, String> {
    let (path, mode) = (path(&mut entry)?, own_mode(&mut entry, mode)?);
    let reference = text(&mut entry, "reference")?.ok_or("`reference` is required")?;
    nothing_else(&entry, "`path`, `reference`, `mode`")?;
    Ok(Object { path, reference, mode })
}

fn output(mut entry: Entry, mode: u32) -> Result<Output, String> {
    let (path, mode) = (path(&mut entry)?, own_mode(&mut entry, mode)?);
    let (template, format) = (text(&mut entry, "template")?, text(&mut entry, "format")?);
    let variables = match entry.remove("variables") {
        None => None,
        Some(Field::List(names)) => Some(names),
        Some(Field::Text(_)) => return Err("`variables` is a list".to_owned()),
    };
    nothing_else(&entry, "`path`, `format`, `template`, `variables`, `mode`")?;
    let content = match (template, format.as_deref(), variables) {
        (Some(template), None, None) => Content::Inline(template),
        (None, Some("pem"), Some(variables)) => Content::Pem { variables },
        (None, Some("pem"), None) => {
            return Err("`variables` is required for `pem`: the key, the certificate, its chain".to_owned());
        }
        (None, Some(format), variables) => {
            let format = format_named(format).map_err(|fault| format!("`format` {fault}"))?;
            Content::Listing { format, variables }
        }
        (Some(_), None, Some(_)) => {
            return Err("`variables` goes with a `format`; a template sees every variable".to_owned());
        }
        _ => return Err("needs a `template` or a `format`".to_owned()),
    };
    Ok(Output { path, mode, content })
}

fn path(entry: &mut Entry) -> Result<String, String> {
    let path = text(entry, "path")?.ok_or("`path` is required")?;
    relative(&path).map_err(|fault| format!("`path` {fault}"))
}

fn own_mode(entry: &mut Entry, other: u32) -> Result<u32, String> {
    match text(entry, "mode")? {
        Some(text) => mode(&text).map_err(|fault| format!("`mode`: {fault}")),
        None => Ok(other),
    }
}

fn text(entry: &mut Entry, key: &str) -> Result<Option<String>, String> {
    match entry.remove(key) {
        None => Ok(None),
        Some(Field::Text(text)) => Ok(Some(text)),
        Some(Field::List(_)) => Err(format!("`{key}` is a text")),
    }
}

fn nothing_else(entry: &Entry, known: &str) -> Result<(), String> {
    match entry.keys().next() {
        None => Ok(()),
        Some(key) => Err(format!("`{}` is not a key here; the keys are {known}", key.escape_default())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(parameters: &[(&str, &str)]) -> Result<Volume, String> {
        let take = |name: &str| {
            let found = parameters.iter().find(|(known, _)| *known == name);
            Ok(found.map(|(_, text)| (*text).to_owned()))
        };
        Volume::read(take, 0o644)
    }

    #[test]
    fn an_environment_with_outputs_and_objects_beside_it_is_read() {
        let volume = read(&[
            ("environment", "shop/prod"),
            (
                "outputs",
                "- path: app.conf\n  template: |\n    key {{ KEY }}\n- {path: app.env, format: env}\n",
            ),
            ("objects", "- {path: db/password, reference: 'local/db#password', mode: '0440'}\n"),
            ("mode", "0444"),
        ]);
        let volume = volume.expect("good");
        let environment = volume.environment.expect("an environment");
        assert_eq!((environment.name.as_str(), environment.outputs.len()), ("shop/prod", 2));
        assert!(
            matches!(&environment.outputs[0].content, Content::Inline(text) if text == "key {{ KEY }}\n")
        );
        assert_eq!(environment.outputs[1].mode, 0o444);
        assert_eq!((volume.objects[0].path.as_str(), volume.objects[0].mode), ("db/password", 0o440));
    }

    #[test]
    fn what_is_wrong_is_told_by_parameter_and_entry() {
        let object = |entry: &str| read(&[("objects", entry)]).map(drop);
        let output = |entry: &str| read(&[("environment", "e"), ("outputs", entry)]).map(drop);
        let path = "`path` is a relative path without `.`, empty parts, and parts that begin with `..`";
        let long = format!("- {{path: {}, reference: a/b}}", "x".repeat(256));
        let cases = [
            (read(&[]).map(drop), "neither `environment` nor `objects` says what to mount"),
            (read(&[("outputs", "- {path: a, format: env}")]).map(drop), "`outputs` are made of"),
            (read(&[("environment", "e"), ("mode", "0666")]).map(drop), "`mode`: `0666` is no mode"),
            (object("- {path: a}"), "`objects`, entry 1: `reference` is required"),
            (object("- {reference: a/b}"), "`objects`, entry 1: `path` is required"),
            (object("- {path: ../a, reference: a/b}"), path),
            (object("- {path: /a, reference: a/b}"), path),
            (object("- {path: a//b, reference: a/b}"), path),
            (object(&long), path),
            (object("- {path: a, reference: a/b, refrence: c}"), "`refrence` is not a key here"),
            (object("- {path: a, reference: [a]}"), "`reference` is a text"),
            (object("a/b"), "`objects`: line 1: is no list"),
            (output("- {path: a}"), "needs a `template` or a `format`"),
            (output("- {path: a, format: toml}"), "`format` is `env`, `json`"),
            (output("- {path: a, format: pem}"), "`variables` is required for `pem`"),
            (output("- {path: a, template: b, variables: [A]}"), "`variables` goes with a `format`"),
            (output("- {path: a, format: env, variables: A}"), "`variables` is a list"),
        ];
        for (read, fault) in cases {
            let refused = read.expect_err(fault);
            assert!(refused.contains(fault), "{refused}");
        }
        let many: String =
            (0..300).map(|number| format!("- {{path: p{number}, reference: a/b}}\n")).collect();
        assert!(object(&many).expect_err("too many").contains("more than 256 entries"));
    }
}
