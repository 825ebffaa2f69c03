use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bursar_core::secret::SecretData;
use bursar_core::{FieldName, Reference, SecretPath};
use bursar_proto::v1::LocalStorePutRequest;
use bursar_proto::v1::local_store_put_request::Data;
use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use super::{Deadline, Session, whole as bare};
use crate::error::Error;
use crate::import::{Entry, Format, Named};
use crate::input;
use crate::output::Row;
use crate::table::{Cell, Column, cut, whole};

/// Write the secrets of a .env, JSON or YAML file
///
/// All entries become the fields of one secret; with --each, every entry becomes a secret of its own below the
/// reference, and one that is an object or mapping has its members as fields. Values are taken as they stand: nothing
/// is put in for `$NAME`, and numbers keep their digits. When one cannot be written, those before it are.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The file; `-` for standard input
    file: PathBuf,
    /// Where: `BACKEND/PATH`
    reference: Reference,
    /// A secret for each entry, below the reference
    #[arg(long)]
    each: bool,
    /// What the file is; else its name says
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<Format>,
    /// Refuse where there is a secret
    #[arg(long)]
    only_new: bool,
    /// When what is written can no longer be read: in so long, like `30d`, or at a time like `2027-01-31T12:00:00Z`
    #[arg(long, value_name = "TIME")]
    expires: Option<Deadline>,
    /// Show the names of what would be written, and write nothing
    #[arg(long)]
    dry_run: bool,
}

/// What was written, or would be. Names alone.
#[derive(Serialize)]
struct Imported {
    reference: String,
    /// None where nothing was written.
    version: Option<u64>,
    fields: Vec<String>,
}

impl Arguments {
    pub(super) async fn carry_out(self, session: &Session) -> Result<(), Error> {
        let secrets = self.secrets()?;
        if self.dry_run {
            let would = secrets.iter().map(|(reference, data)| Imported::of(reference, data, None));
            return session.output.list(&would.collect::<Vec<_>>(), NOTHING);
        }
        let client = session.client()?;
        let mut written = Vec::new();
        let mut failed = Ok(());
        for (reference, data) in secrets {
            let message = LocalStorePutRequest {
                reference: reference.clone(),
                data: Some(Data::from(&data)),
                expected_version: self.only_new.then_some(0),
                expires_at: self.expires.map(Deadline::to_wire),
            };
            // Sent once: a repeated write would make another version.
            let put = client
                .once(message, |client, request| async move { client.local_store().put(request).await });
            match put.await {
                Ok(put) => written.push(Imported::of(&reference, &data, Some(put.version))),
                Err(error) => {
                    failed = Err(Error::from(error));
                    break;
                }
            }
        }
        session.output.list(&written, NOTHING)?;
        failed
    }

    /// What is to be written, by reference.
    fn secrets(&self) -> Result<Vec<(String, SecretData)>, Error> {
        let reference = bare(&self.reference)?;
        let format = self.format.or_else(|| Format::of(&self.file));
        let format = format.ok_or_else(|| {
            Error::Usage(format!(
                "the name of `{}` does not say what it is; give --format",
                self.file.display()
            ))
        })?;
        let text = input::private_document(&self.file, LONGEST)?;
        let faulty = |what: String| Error::Import { path: self.file.clone(), what };
        let entries = format.read(&text).map_err(|fault| faulty(fault.to_string()))?;
        match self.each {
            true => entries.into_iter().map(|entry| below(&reference, entry).map_err(faulty)).collect(),
            false => Ok(vec![(reference, one(entries).map_err(faulty)?)]),
        }
    }
}

impl Row for Imported {
    const COLUMNS: &'static [Column] = &[whole("SECRET"), whole("VERSION"), cut("FIELDS")];

    fn cells(&self, _: Timestamp) -> Vec<Cell> {
        let version = self.version.map_or_else(|| "-".to_owned(), |version| version.to_string());
        let fields = if self.fields.is_empty() { "-".to_owned() } else { self.fields.join(",") };
        vec![Cell::new(&self.reference), Cell::new(version), Cell::new(fields)]
    }
}

impl Imported {
    fn of(reference: &str, data: &SecretData, version: Option<u64>) -> Self {
        let fields = data.field_names().map(ToString::to_string).collect();
        Self { reference: reference.to_owned(), version, fields }
    }
}

/// All entries as the fields of one secret.
fn one(entries: Vec<Named<Entry>>) -> Result<SecretData, String> {
    let mut fields = BTreeMap::new();
    for (name, entry) in entries {
        let Entry::Value(value) = entry else {
            return Err(format!("`{name}` has fields of its own; give --each to make a secret of it"));
        };
        let name = FieldName::parse(&name).map_err(|error| error.to_string())?;
        fields.insert(name, Arc::new(value));
    }
    Ok(SecretData::Fields(fields))
}

/// One entry as a secret of its own.
fn below(reference: &str, (name, entry): Named<Entry>) -> Result<(String, SecretData), String> {
    // A `/` in a name would put it elsewhere.
    let path = SecretPath::from_store(&name).ok().filter(|path| !path.as_str().contains('/'));
    let path = path.ok_or_else(|| format!("`{name}` cannot be the last part of a path"))?;
    let place = Reference::parse(reference).map_err(|error| error.to_string())?;
    let path = SecretPath::from_store(&format!("{}/{}", place.path.as_str(), path.as_str()));
    let place = Reference { path: path.map_err(|error| error.to_string())?, ..place };
    let data = match entry {
        Entry::Value(value) => SecretData::Opaque(Arc::new(value)),
        Entry::Fields(fields) => {
            one(fields.into_iter().map(|(name, value)| (name, Entry::Value(value))).collect())?
        }
    };
    Ok((place.to_string(), data))
}

/// As much as a request can carry for one secret, and several secrets of that.
const LONGEST: usize = 16 * 1024 * 1024;

const NOTHING: &str = "nothing was written";

const EXAMPLES: &str = "\
Examples:
  bursar secret import .env local/app                  # one secret, a field for each variable
  bursar secret import prod.yaml local/prod --each     # a secret for each entry
  sops -d prod.json | bursar secret import - local/prod --format json --each";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, each: bool) -> Result<Vec<String>, String> {
        let entries = Format::Json.read(text).map_err(|fault| fault.to_string())?;
        let shown = |(reference, data): &(String, SecretData)| {
            let names: Vec<_> = data.field_names().map(ToString::to_string).collect();
            format!("{reference} {}", names.join(","))
        };
        let secrets = match each {
            true => entries.into_iter().map(|entry| below("local/app", entry)).collect::<Result<_, _>>()?,
            false => vec![("local/app".to_owned(), one(entries)?)],
        };
        Ok(secrets.iter().map(shown).collect())
    }

    #[test]
    fn entries_are_fields_of_one_secret_or_secrets_of_their_own() {
        let text = r#"{"a b":"1","c":"2"}"#;
        assert_eq!(read(text, false).expect("one"), ["local/app a b,c"]);
        assert_eq!(read(text, true).expect("each"), ["local/app/a b ", "local/app/c "]);
        let text = r#"{"db":{"user":"u","password":"p"}}"#;
        assert_eq!(read(text, true).expect("each"), ["local/app/db password,user"]);
        assert!(read(text, false).expect_err("fields").contains("--each"));
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_refused() {
        for name in ["a/b", "..", ".", "", "/a"] {
            let text = format!(r#"{{"{name}":"v"}}"#);
            assert!(read(&text, true).is_err(), "`{name}`");
        }
    }
}
