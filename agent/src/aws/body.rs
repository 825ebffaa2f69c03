//! What was read, as Secrets Manager writes it down. Each buffer has its final size before a value is in it, and is wiped
//! when the answer has been sent.

use axum::body::Body;
use bursar_core::Secret;
use bursar_core::secret::json::{QUOTED, write_base64, write_text};
use serde_json::{Map, Value, json};
use tonic::codegen::Bytes;
use zeroize::Zeroizing;

use super::ask::{Ask, filled};
use super::names::Named;

/// One secret, for whoever asked.
pub(super) struct Given {
    about: Map<String, Value>,
    value: Secret,
}

impl Given {
    /// `version` is empty for a store without any. When a version was made is not known here, so `CreatedDate` is missing.
    pub(super) fn new(named: Named, ask: &Ask, version: &str, value: Secret) -> Self {
        let mut about = Map::new();
        about.insert("ARN".to_owned(), named.arn.into());
        about.insert("Name".to_owned(), named.name.into());
        if !version.is_empty() {
            about.insert("VersionId".to_owned(), filled(version).into());
        }
        about.insert("VersionStages".to_owned(), json!(ask.stages()));
        Self { about, value }
    }

    /// `{"ARN":…,"SecretString":…}`, or `SecretBinary` in Base64 where it is not text.
    pub(super) fn write(&self) -> Zeroizing<Vec<u8>> {
        let about = Value::Object(self.about.clone()).to_string();
        let mut out = Zeroizing::new(Vec::with_capacity(about.len() + NAMES + QUOTED * self.value.len()));
        out.extend_from_slice(about.strip_suffix('}').unwrap_or(&about).as_bytes());
        match std::str::from_utf8(self.value.expose()) {
            Ok(text) => {
                out.extend_from_slice(b",\"SecretString\":");
                write_text(&mut out, text);
            }
            Err(_) => {
                out.extend_from_slice(b",\"SecretBinary\":");
                write_base64(&mut out, self.value.expose());
            }
        }
        out.push(b'}');
        out
    }

    /// What `DescribeSecret` tells, without the value.
    pub(super) fn describe(mut self) -> Value {
        let stages = self.about.remove("VersionStages").unwrap_or_default();
        if let Some(Value::String(version)) = self.about.remove("VersionId") {
            self.about.insert("VersionIdsToStages".to_owned(), json!({ version: stages }));
        }
        Value::Object(self.about)
    }
}

/// `{"SecretValues":[…],"Errors":[…]}`.
pub(super) fn batch(given: &[Zeroizing<Vec<u8>>], errors: &[Value]) -> Zeroizing<Vec<u8>> {
    let errors = json!(errors).to_string();
    let values = given.iter().map(|one| one.len() + 1).sum::<usize>();
    let mut out = Zeroizing::new(Vec::with_capacity(values + errors.len() + NAMES));
    out.extend_from_slice(b"{\"SecretValues\":[");
    for (place, one) in given.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        out.extend_from_slice(one);
    }
    out.extend_from_slice(b"],\"Errors\":");
    out.extend_from_slice(errors.as_bytes());
    out.push(b'}');
    out
}

/// The bytes themselves go to the socket, and are wiped when they have been written.
pub(super) fn body(bytes: Zeroizing<Vec<u8>>) -> Body {
    Body::from(Bytes::from_owner(bytes))
}

/// Room for the names of the members and what is around them.
const NAMES: usize = 64;

#[cfg(test)]
mod tests {
    use bursar_core::reference::Reference;

    use super::*;

    fn given(value: &[u8], version: &str) -> Given {
        let reference = Reference::parse("local/a").expect("a reference");
        let named = Named { name: "shop/\"db\"".to_owned(), arn: "arn:x".to_owned(), reference };
        Given::new(named, &Ask::default(), version, Secret::new(value.to_vec()))
    }

    fn read(bytes: &[u8]) -> Value {
        serde_json::from_slice(bytes).expect("JSON")
    }

    #[test]
    fn text_is_a_string_and_anything_else_is_base64() {
        let about = json!({ "ARN": "arn:x", "Name": "shop/\"db\"", "VersionId": filled("7"), "VersionStages": ["AWSCURRENT"] });
        let with = |name: &str, value: &str| {
            let mut all = about.clone();
            all.as_object_mut().expect("object").insert(name.to_owned(), value.into());
            all
        };
        let text = "{\"a\":\"\u{1}}}\\n\"}";
        let written = given(text.as_bytes(), "7").write();
        assert_eq!(read(&written), with("SecretString", text));
        assert_eq!(read(&given(b"\xff\x00\x01", "7").write()), with("SecretBinary", "/wAB"));
    }

    #[test]
    fn no_buffer_grows() {
        for value in [vec![1; 1000], vec![0xff; 1000], Vec::new(), b"plain".to_vec()] {
            let given = given(&value, "7");
            let about = Value::Object(given.about.clone()).to_string();
            let written = given.write();
            assert!(written.len() <= about.len() + NAMES + QUOTED * value.len());
            let both = batch(&[written.clone(), written.clone()], &[]);
            assert!(both.len() <= 2 * (written.len() + 1) + 2 + NAMES);
            assert_eq!(read(&both).pointer("/SecretValues").and_then(Value::as_array).map(Vec::len), Some(2));
        }
    }

    #[test]
    fn a_store_without_versions_describes_none() {
        assert_eq!(given(b"x", "").describe(), json!({ "ARN": "arn:x", "Name": "shop/\"db\"" }));
        let described = given(b"x", "7").describe();
        assert_eq!(
            described.pointer(&format!("/VersionIdsToStages/{}", filled("7"))),
            Some(&json!(["AWSCURRENT"]))
        );
    }
}
