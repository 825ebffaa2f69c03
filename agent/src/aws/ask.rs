//! One question for one secret: read from a URL, and what of it the broker is asked.

use bursar_core::reference::{Reference, Version};
use bursar_proto::v1::SecretsReadRequest;
use http::Uri;
use percent_encoding::percent_decode_str;

use super::fault::Fault;
use super::names::Named;

/// Which secret, and which version of it. Names in errors are those of the parameters of a URL.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) secret_id: String,
    pub(super) version_id: Option<String>,
    pub(super) version_stage: Option<String>,
    /// Whether the store has to be asked, however young the value in a cache is.
    pub(super) refresh: bool,
}

impl Ask {
    /// Reads `/secretsmanager/get?secretId=…`.
    pub(super) fn in_query(uri: &Uri) -> Result<Self, Fault> {
        let (mut ask, mut id) = (Self::default(), None);
        for (name, value) in parameters(uri)? {
            match name.as_str() {
                "secretId" => once(&mut id, "secretId", value)?,
                _ => ask.parameter(&name, value)?,
            }
        }
        ask.secret_id = id.ok_or_else(|| Fault::parameter("`secretId` is missing"))?;
        Ok(ask)
    }

    /// Reads `PREFIX` and the id of the secret behind it.
    pub(super) fn in_path(uri: &Uri, id: &str) -> Result<Self, Fault> {
        let mut ask = Self { secret_id: decoded(id)?, ..Self::default() };
        for (name, value) in parameters(uri)? {
            ask.parameter(&name, value)?;
        }
        Ok(ask)
    }

    fn parameter(&mut self, name: &str, value: String) -> Result<(), Fault> {
        match name {
            "versionId" => once(&mut self.version_id, "versionId", value),
            "versionStage" => once(&mut self.version_stage, "versionStage", value),
            "refreshNow" => {
                self.refresh = match value.as_str() {
                    "true" | "1" => true,
                    "false" | "0" => false,
                    _ => return Err(Fault::parameter("`refreshNow` is `true`, `1`, `false` or `0`")),
                };
                Ok(())
            }
            "roleArn" => Err(Fault::parameter(
                "`roleArn` is not taken: who reads is who asks, and Bursar's policy decides what that is",
            )),
            other => Err(Fault::parameter(format!(
                "`{}` is no parameter; they are `secretId`, `versionId`, `versionStage` and `refreshNow`",
                other.escape_default()
            ))),
        }
    }

    /// What the broker is asked for it.
    pub(super) fn request(&self, named: &Named) -> Result<SecretsReadRequest, Fault> {
        let asked = match (&self.version_stage, &self.version_id) {
            (Some(stage), _) if stage == CURRENT => None,
            (Some(version), _) | (None, Some(version)) => Some(version),
            (None, None) => None,
        };
        let version = match (asked, &named.reference.version) {
            (None, fixed) => fixed.clone(),
            (Some(_), Some(_)) => {
                let message = "the agent's configuration fixes the version of this secret; ask for none";
                return Err(Fault::parameter(message));
            }
            (Some(version), None) => {
                let version = Version::from_store(unfilled(version));
                Some(version.map_err(|error| Fault::parameter(error.to_string()))?)
            }
        };
        Ok(SecretsReadRequest {
            reference: Reference { version, ..named.reference.clone() }.to_string(),
            reason: REASON.to_owned(),
            max_age: self.refresh.then(prost_types::Duration::default),
            ..SecretsReadRequest::default()
        })
    }

    /// That what was read is what was asked for, where that has a version by two names.
    pub(super) fn accept(&self, version: &str) -> Result<(), Fault> {
        match (&self.version_stage, &self.version_id) {
            (Some(stage), Some(id)) if unfilled(id) != version => {
                Err(Fault::not_found(format!("version `{id}` of the secret is not `{stage}`")))
            }
            _ => Ok(()),
        }
    }

    /// The stages that the version has for certain.
    pub(super) fn stages(&self) -> Vec<&str> {
        match (&self.version_stage, &self.version_id) {
            (Some(stage), _) => vec![stage],
            (None, None) => vec![CURRENT],
            (None, Some(_)) => Vec::new(),
        }
    }
}

/// A version as SDKs take one back: they refuse to ask for one of less than 32 characters. No version has a `=` in it.
pub(super) fn filled(version: &str) -> String {
    format!("{version:=>32}")
}

fn unfilled(version: &str) -> &str {
    version.trim_start_matches('=')
}

fn parameters(uri: &Uri) -> Result<Vec<(String, String)>, Fault> {
    let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        // As forms write a blank.
        Ok((decoded(&name.replace('+', " "))?, decoded(&value.replace('+', " "))?))
    };
    pairs.map(pair).collect()
}

fn decoded(text: &str) -> Result<String, Fault> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| Fault::parameter("the URL is not UTF-8 once decoded"))
}

fn once(parameter: &mut Option<String>, name: &str, value: String) -> Result<(), Fault> {
    if value.is_empty() || parameter.is_some() {
        return Err(Fault::parameter(format!("`{name}` is given once, and not empty")));
    }
    *parameter = Some(value);
    Ok(())
}

/// The stage of the newest version, in the words of AWS.
const CURRENT: &str = "AWSCURRENT";
/// In the audit record.
const REASON: &str = "read as from AWS Secrets Manager";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn query(text: &str) -> Result<Ask, Fault> {
        Ask::in_query(&format!("/secretsmanager/get?{text}").parse().expect("a URI"))
    }

    proptest! {
        #[test]
        fn no_url_breaks_it_and_what_is_asked_is_a_reference(id in "[!-~]{0,60}", query in "[!-~]{0,80}") {
            let Ok(uri) = format!("/v1/{id}?{query}").parse::<Uri>() else { return Ok(()) };
            drop(Ask::in_query(&uri));
            if let Ok(request) = Ask::in_path(&uri, &id).and_then(|ask| ask.request(&named("local/a"))) {
                prop_assert!(Reference::parse(&request.reference).is_ok());
            }
        }
    }

    fn named(reference: &str) -> Named {
        let reference = Reference::parse(reference).expect("a reference");
        Named { name: "n".to_owned(), arn: "a".to_owned(), reference }
    }

    fn asked(text: &str, reference: &str) -> Result<String, &'static str> {
        let request = query(text).and_then(|ask| ask.request(&named(reference)));
        request.map(|request| request.reference).map_err(|fault| fault.kind)
    }

    #[test]
    fn parameters_are_decoded_and_each_stands_once() {
        let ask = query("secretId=shop%2Fdb+1&versionId=7&refreshNow=true").expect("good");
        let expected = Ask {
            secret_id: "shop/db 1".to_owned(),
            version_id: Some("7".to_owned()),
            version_stage: None,
            refresh: true,
        };
        assert_eq!(ask, expected);
        let uri: Uri = "/v1/shop%2fdb?versionStage=AWSPREVIOUS".parse().expect("a URI");
        let ask = Ask::in_path(&uri, "shop%2fdb").expect("good");
        assert_eq!((ask.secret_id.as_str(), ask.version_stage.as_deref()), ("shop/db", Some("AWSPREVIOUS")));
        for bad in [
            "",
            "secretId=",
            "secretId=a&secretId=b",
            "secretId=%ff",
            "secretId=a&refreshNow=yes",
            "secretId=a&versionID=1",
            "secretId=a&roleArn=arn:aws:iam::1:role/x",
        ] {
            assert_eq!(query(bad).expect_err("refused").kind, "InvalidParameterException", "{bad}");
        }
    }

    #[test]
    fn stages_and_ids_are_versions_of_the_store() {
        for (text, reference) in [
            ("secretId=a", "local/a"),
            ("secretId=a&versionStage=AWSCURRENT", "local/a"),
            ("secretId=a&versionStage=AWSCURRENT&versionId=7", "local/a"),
            ("secretId=a&versionStage=AWSPREVIOUS", "local/a@AWSPREVIOUS"),
            ("secretId=a&versionId=7", "local/a@7"),
            (&format!("secretId=a&versionId={}", filled("7")), "local/a@7"),
        ] {
            assert_eq!(asked(text, "local/a").as_deref(), Ok(reference), "{text}");
        }
        assert_eq!(asked("secretId=a", "local/a#b@3").as_deref(), Ok("local/a#b@3"));
        let bad = "InvalidParameterException";
        assert_eq!(asked("secretId=a&versionId=7", "local/a@3"), Err(bad));
        assert_eq!(asked("secretId=a&versionId=7/8", "local/a"), Err(bad));
    }

    #[test]
    fn a_version_by_two_names_is_one_or_is_not_found() {
        let ask = query("secretId=a&versionStage=AWSCURRENT&versionId=7").expect("good");
        assert!(ask.accept("7").is_ok() && filled("7").len() == 32 && unfilled(&filled("7")) == "7");
        assert_eq!(ask.accept("8").expect_err("refused").kind, "ResourceNotFoundException");
        assert!(query("secretId=a&versionId=7").expect("good").accept("8").is_ok());
    }
}
