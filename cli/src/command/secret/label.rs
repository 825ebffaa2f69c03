use std::collections::BTreeMap;
use std::str::FromStr;

use bursar_core::Reference;
use bursar_proto::v1::LocalStoreLabelRequest;
use clap::Args;
use serde::Serialize;

use super::{Session, whole};
use crate::error::{Error, counted};

/// Write labels on a secret, such as its owner, or take them off
///
/// Labels are shown by `bursar secret get-metadata`, to whoever may list the secret. They are no place for secrets.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The secret: `BACKEND/PATH`
    reference: Reference,
    /// `NAME=VALUE` to write, `NAME-` to take off
    #[arg(required = true, value_name = "LABEL")]
    labels: Vec<Label>,
}

#[derive(Debug, Clone)]
enum Label {
    Set(String, String),
    Remove(String),
}

impl FromStr for Label {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match (text.split_once('='), text.strip_suffix('-')) {
            (Some(("", _)), _) | (None, None | Some("")) => Err("write NAME=VALUE, or NAME- to take it off"),
            (Some((name, value)), _) => Ok(Self::Set(name.to_owned(), value.to_owned())),
            (None, Some(name)) => Ok(Self::Remove(name.to_owned())),
        }
    }
}

#[derive(Serialize)]
struct Labelled {
    reference: String,
    labels: BTreeMap<String, String>,
}

impl Arguments {
    pub(super) async fn carry_out(self, session: &Session) -> Result<(), Error> {
        let reference = whole(&self.reference)?;
        let client = session.client()?;
        let (mut set, mut remove) = (BTreeMap::new(), Vec::new());
        for label in self.labels {
            match label {
                Label::Set(name, value) => drop(set.insert(name, value)),
                Label::Remove(name) => remove.push(name),
            }
        }
        let message = LocalStoreLabelRequest { reference: reference.clone(), set, remove };
        let labelled = client
            .repeatable(message, |client, request| async move { client.local_store().label(request).await })
            .await?;
        let labels = labelled.labels;
        let words = match labels.len() {
            0 => format!("`{reference}` has no labels"),
            count => format!("`{reference}` has {}", counted(count, "label")),
        };
        session.output.done(&Labelled { reference, labels }, &words)
    }
}

const EXAMPLES: &str = "\
Examples:
  bursar secret label local/stripe owner=payments 'rotate=every quarter'
  bursar secret label local/stripe owner-";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_written_or_taken_off() {
        assert!(matches!("a=b=c-".parse(), Ok(Label::Set(name, value)) if name == "a" && value == "b=c-"));
        assert!(matches!("a-b-".parse(), Ok(Label::Remove(name)) if name == "a-b"));
        assert!(matches!("a=".parse(), Ok(Label::Set(_, value)) if value.is_empty()));
        for bad in ["", "-", "a", "=b"] {
            assert!(bad.parse::<Label>().is_err(), "`{bad}`");
        }
    }
}
