use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use bursar_core::secret::SecretData;
use bursar_core::{FieldName, Reference, Secret};
use bursar_proto::v1::LocalStorePutRequest;
use bursar_proto::v1::local_store_put_request::Data;
use clap::Args;
use serde::Serialize;

use super::{Deadline, Session, whole};
use crate::error::Error;
use crate::input;

/// Write a new version of a secret
///
/// The value is read from --from-file as it is, else from standard input, of which one line end at the end is
/// dropped, else from a prompt without echo. With --field or --field-file the secret has named fields; they
/// replace all that it had.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The secret: `BACKEND/PATH`
    reference: Reference,
    /// Read the value from this file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["field", "field_file"])]
    from_file: Option<PathBuf>,
    /// Read this field from standard input or a prompt; may be given several times where there is a prompt
    #[arg(long, value_name = "NAME", value_parser = FieldName::parse)]
    field: Vec<FieldName>,
    /// Read a field from a file; may be given several times
    #[arg(long, value_name = "NAME=FILE")]
    field_file: Vec<FieldFile>,
    /// Refuse when another version is the newest; 0 when there is any
    #[arg(long, value_name = "NUMBER")]
    expected_version: Option<u64>,
    /// When this version can no longer be read: in so long, like `30d`, or at a time like `2027-01-31T12:00:00Z`
    #[arg(long, value_name = "TIME")]
    expires: Option<Deadline>,
}

#[derive(Debug, Clone)]
struct FieldFile {
    name: FieldName,
    file: PathBuf,
}

impl FromStr for FieldFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, file) = text.split_once('=').ok_or("it does not read NAME=FILE")?;
        let name = FieldName::parse(name).map_err(|error| error.to_string())?;
        Ok(Self { name, file: PathBuf::from(file) })
    }
}

#[derive(Serialize)]
struct Written {
    reference: String,
    version: u64,
}

impl Arguments {
    pub(super) async fn carry_out(self, session: &Session) -> Result<(), Error> {
        let reference = whole(&self.reference)?;
        // Before the value is asked for: what cannot be sent need not be typed.
        let client = session.client()?;
        let data = self.data()?;
        let message = LocalStorePutRequest {
            reference: reference.clone(),
            data: Some(Data::from(&data)),
            expected_version: self.expected_version,
            expires_at: self.expires.map(Deadline::to_wire),
        };
        drop(data);
        // Sent once: a repeated write would make another version.
        let put =
            client.once(message, |client, request| async move { client.local_store().put(request).await });
        let version = put.await?.version;
        let words = format!("version {version} of `{reference}` is written");
        session.output.done(&Written { reference, version }, &words)
    }

    fn data(&self) -> Result<SecretData, Error> {
        if self.field.is_empty() && self.field_file.is_empty() {
            let value = input::secret(self.from_file.as_deref(), "value")?;
            return Ok(SecretData::Opaque(Arc::new(value)));
        }
        if self.field.len() > 1 && !input::can_prompt() {
            return Err(Error::Usage("standard input can carry one field; use --field-file".to_owned()));
        }
        let mut fields = BTreeMap::new();
        for name in &self.field {
            insert(&mut fields, name, input::secret(None, &format!("field `{name}`"))?)?;
        }
        for FieldFile { name, file } in &self.field_file {
            insert(&mut fields, name, input::secret(Some(file), &format!("field `{name}`"))?)?;
        }
        Ok(SecretData::Fields(fields))
    }
}

fn insert(
    fields: &mut BTreeMap<FieldName, Arc<Secret>>,
    name: &FieldName,
    value: Secret,
) -> Result<(), Error> {
    match fields.insert(name.clone(), Arc::new(value)) {
        None => Ok(()),
        Some(_) => Err(Error::Usage(format!("field `{name}` is given twice"))),
    }
}

const EXAMPLES: &str = "\
Examples:
  bursar secret put local/stripe                      # asks, without echo
  openssl rand -hex 32 | bursar secret put local/session-key
  bursar secret put local/tls/api --field-file cert=api.crt --field-file key=api.key
  pwgen 32 1 | bursar secret put local/payments/db --field password";

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Typed {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn typed(arguments: &[&str]) -> Result<Arguments, clap::Error> {
        let all = ["put", "local/db"].iter().chain(arguments);
        Typed::try_parse_from(all).map(|typed| typed.arguments)
    }

    #[test]
    fn a_value_cannot_be_an_argument() {
        assert!(typed(&["hunter2"]).is_err());
        assert!(typed(&["--field-file", "password"]).is_err());
    }

    #[test]
    fn fields_come_from_their_files() {
        let place = tempfile::tempdir().expect("directory");
        let file = place.path().join("password");
        std::fs::write(&file, "hunter2\n").expect("file");
        let argument = format!("password={}", file.display());
        let data = typed(&["--field-file", &argument]).expect("arguments").data();
        let Ok(SecretData::Fields(fields)) = data else { panic!("instead of fields") };
        assert!(fields.values().all(|value| value.ct_eq(b"hunter2\n")));
    }

    #[test]
    fn a_field_is_given_once() {
        let place = tempfile::tempdir().expect("directory");
        let file = place.path().join("password");
        std::fs::write(&file, "hunter2").expect("file");
        let argument = format!("password={}", file.display());
        let data = typed(&["--field-file", &argument, "--field-file", &argument]).expect("arguments").data();
        assert!(matches!(data, Err(Error::Usage(_))));
    }

    #[test]
    fn a_field_or_version_in_the_reference_is_refused() {
        assert!(whole(&"local/db#password".parse().expect("reference")).is_err());
        assert!(whole(&"local/db@1".parse().expect("reference")).is_err());
        assert!(whole(&"local/db".parse().expect("reference")).is_ok());
    }
}
