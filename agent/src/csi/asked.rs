//! What a driver asks for, as read: which pod, the token that speaks for it, and the files.
//!
//! The driver lays what kubelet says of the pod over the parameters of the SecretProviderClass, so a parameter cannot pass
//! for it. The token is looked at for one thing alone: that it is this pod's, so that a mistake of whoever calls does not
//! put one pod's secrets into the volume of another. Whether it counts is for the broker.

use std::collections::BTreeMap;
use std::sync::Arc;

use bursar_core::reference::FieldName;
use bursar_core::secret::{Secret, SecretData, json};
use bursar_proto::csi::MountRequest;
use data_encoding::BASE64URL_NOPAD;
use tonic::Status;
use zeroize::Zeroizing;

use super::volume::Volume;
use crate::attest::Bearer;

/// A volume of a pod.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) pod: Pod,
    pub(super) bearer: Bearer,
    pub(super) volume: Volume,
}

/// A pod, as kubelet names it.
#[derive(Debug)]
pub(super) struct Pod {
    /// `NAMESPACE/NAME`, for people.
    pub(super) name: String,
    pub(super) uid: String,
}

impl Asked {
    /// Reads a request. The token is the one for `audience`.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub(super) fn read(mut message: MountRequest, audience: &str) -> Result<Self, Status> {
        let default_mode = default_mode(&message.permission)?;
        let (attributes, secrets) = message.take_texts();
        let mut attributes = Texts::of("attributes", &attributes)?;
        let mut secrets = Texts::of("secrets", &secrets)?;
        let in_attributes = attributes.take(TOKENS);
        let tokens = secrets.take(TOKENS).or(in_attributes);
        let pod = Pod::take(&mut attributes)?;
        let bearer = token_of(&pod, tokens.as_ref(), audience)?;
        let invalid = |fault| {
            Status::invalid_argument(format!("the SecretProviderClass of pod `{}`: {fault}", pod.name))
        };
        let volume = Volume::read(|name| attributes.text(name), default_mode).map_err(invalid)?;
        attributes.nothing_else().map_err(invalid)?;
        Ok(Self { pod, bearer, volume })
    }
}

impl Pod {
    fn take(attributes: &mut Texts) -> Result<Self, Status> {
        let mut text = |key: &str| {
            let found = attributes.text(key).map_err(Status::invalid_argument)?.filter(|text| is_name(text));
            found.ok_or_else(|| {
                let advice = "the CSIDriver object has to say `podInfoOnMount: true`";
                Status::failed_precondition(format!("the request does not say `{key}`; {advice}"))
            })
        };
        let (namespace, name) =
            (text("csi.storage.k8s.io/pod.namespace")?, text("csi.storage.k8s.io/pod.name")?);
        Ok(Self { name: format!("{namespace}/{name}"), uid: text("csi.storage.k8s.io/pod.uid")? })
    }
}

/// As Kubernetes names things, which a selector and a log can take too.
fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    (1..=253).contains(&text.len()) && text.bytes().all(allowed)
}

/// A JSON object of tokens by their audiences.
fn token_of(pod: &Pod, tokens: Option<&Secret>, audience: &str) -> Result<Bearer, Status> {
    let missing = || {
        Status::failed_precondition(format!(
            "there is no token of pod `{}` for the audience `{audience}`; list it in the CSIDriver object: `tokenRequests: \
             [{{audience: {audience}}}]`",
            pod.name
        ))
    };
    let mut all = Texts::object(tokens.ok_or_else(missing)?).ok_or_else(missing)?;
    let mut entry = Texts::object(&all.take(audience).ok_or_else(missing)?).ok_or_else(missing)?;
    let token = entry.take("token").ok_or_else(missing)?;
    if !pod_of(&token).is_some_and(|uid| uid.ct_eq(pod.uid.as_bytes())) {
        let message =
            format!("the token in the request is not bound to pod `{}`, whose volume it is", pod.name);
        return Err(Status::permission_denied(message));
    }
    Bearer::of(token).map_err(|_| {
        Status::invalid_argument(format!("the token of pod `{}` is no token of at most 16 KiB", pod.name))
    })
}

/// The uid of the pod that a token says it is bound to.
fn pod_of(token: &Secret) -> Option<Secret> {
    let mut parts = token.expose().split(|byte| *byte == b'.');
    let (_header, claims, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    let mut decoded = Zeroizing::new(vec![0; BASE64URL_NOPAD.decode_len(claims.len()).ok()?]);
    let length = BASE64URL_NOPAD.decode_mut(claims, &mut decoded).ok()?;
    let mut claims = Texts::bytes(decoded.get(..length)?)?;
    let mut bound = Texts::object(&claims.take("kubernetes.io")?)?;
    Texts::object(&bound.take("pod")?)?.take("uid")
}

/// A JSON number, decimal, or nothing.
fn default_mode(permission: &str) -> Result<u32, Status> {
    let mode = if permission.is_empty() { Some(DEFAULT_MODE) } else { permission.parse().ok() };
    let mode = mode.filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| Status::invalid_argument("`permission` is no number from 0 to 511"))
}

/// The members of a JSON object. Some are secrets, so all of them are kept as such.
struct Texts(BTreeMap<FieldName, Arc<Secret>>);

impl Texts {
    fn of(field: &str, text: &Secret) -> Result<Self, Status> {
        if text.is_empty() || text.ct_eq(b"null") {
            return Ok(Self(BTreeMap::new()));
        }
        let no_object = || Status::invalid_argument(format!("`{field}` is no JSON object of texts"));
        Self::object(text).ok_or_else(no_object)
    }

    fn object(text: &Secret) -> Option<Self> {
        Self::bytes(text.expose())
    }

    fn bytes(text: &[u8]) -> Option<Self> {
        match json::object(text)? {
            SecretData::Fields(fields) => Some(Self(fields)),
            SecretData::Opaque(_) => None,
        }
    }

    fn take(&mut self, key: &str) -> Option<Secret> {
        Arc::into_inner(self.0.remove(&FieldName::parse(key).ok()?)?)
    }

    /// One that is no secret.
    fn text(&mut self, key: &str) -> Result<Option<String>, String> {
        let Some(text) = self.take(key) else { return Ok(None) };
        let text = std::str::from_utf8(text.expose()).map_err(|_| format!("`{key}` is not UTF-8"))?;
        Ok(Some(text.to_owned()))
    }

    /// What is left is kubelet's and the driver's, or a mistake.
    fn nothing_else(&self) -> Result<(), String> {
        let others = |name: &str| name.starts_with("csi.storage.k8s.io/") || name == "secretProviderClass";
        let odd = self.0.keys().map(FieldName::as_str).find(|name| !others(name));
        match odd {
            None => Ok(()),
            Some(name) => {
                let name = name.escape_default();
                Err(format!("`{name}` is not a parameter here; the parameters are {PARAMETERS}"))
            }
        }
    }
}

const TOKENS: &str = "csi.storage.k8s.io/serviceAccount.tokens";
const PARAMETERS: &str = "`environment`, `outputs`, `objects`, `mode`";
/// The driver's own.
const DEFAULT_MODE: u32 = 0o644;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn token(claims: &Value) -> String {
        format!("e30.{}.c2ln", BASE64URL_NOPAD.encode(claims.to_string().as_bytes()))
    }

    fn of_pod(uid: &str) -> Value {
        let token =
            token(&json!({ "aud": ["bursar"], "kubernetes.io": { "pod": { "name": "web-0", "uid": uid } } }));
        json!({ "bursar": { "token": token, "expirationTimestamp": "2026-01-01T00:00:00Z" } })
    }

    fn attributes(more: Value) -> Value {
        let mut all = json!({
            "environment": "shop/prod",
            "secretProviderClass": "web",
            "csi.storage.k8s.io/ephemeral": "true",
            "csi.storage.k8s.io/pod.name": "web-0",
            "csi.storage.k8s.io/pod.namespace": "shop",
            "csi.storage.k8s.io/pod.uid": "uid-1",
            "csi.storage.k8s.io/serviceAccount.name": "web",
        });
        for (key, value) in more.as_object().expect("an object") {
            all[key] = value.clone();
        }
        all
    }

    fn read(attributes: &str, secrets: &str) -> Result<Asked, Status> {
        let message = MountRequest {
            attributes: attributes.to_owned(),
            secrets: secrets.to_owned(),
            target_path: "/var/lib/kubelet/pods/uid-1/volumes".to_owned(),
            permission: "420".to_owned(),
            current_object_version: Vec::new(),
        };
        Asked::read(message, "bursar")
    }

    #[test]
    fn a_token_is_found_among_the_attributes_and_first_among_the_secrets() {
        let of = |uid: &str| of_pod(uid).to_string();
        let in_attributes = attributes(json!({ TOKENS: of("uid-1") })).to_string();
        let asked = read(&in_attributes, "").expect("good");
        assert_eq!((asked.pod.name.as_str(), asked.pod.uid.as_str()), ("shop/web-0", "uid-1"));
        assert_eq!(asked.volume.mode, 0o644);
        assert!(!format!("{asked:?}").contains("e30."));
        let other = attributes(json!({ TOKENS: of("uid-2") })).to_string();
        let secrets = json!({ TOKENS: of("uid-1") }).to_string();
        assert!(read(&other, &secrets).is_ok() && read(&other, "{}").is_err());
    }

    #[test]
    fn without_a_token_for_the_audience_it_is_said_what_to_do() {
        let others = json!({ "vault": { "token": "x.y.z" } }).to_string();
        for tokens in [json!({}), json!({ TOKENS: others }), json!({ TOKENS: "" }), json!({ TOKENS: "[]" })] {
            let refused = read(&attributes(tokens).to_string(), "null").expect_err("refused");
            assert!(refused.message().contains("`tokenRequests: [{audience: bursar}]`"), "{refused}");
            assert!(refused.message().contains("`shop/web-0`"));
        }
    }

    #[test]
    fn a_token_of_another_pod_or_of_none_is_refused() {
        let unbound = |claims: Value| json!({ "bursar": { "token": token(&claims) } });
        let cases = [
            of_pod("uid-2"),
            unbound(json!({})),
            unbound(json!({ "kubernetes.io": { "secret": { "name": "s" } } })),
            unbound(json!({ "kubernetes.io": { "pod": "uid-1" } })),
            json!({ "bursar": { "token": "uid-1" } }),
            json!({ "bursar": { "token": "a.%%.c" } }),
        ];
        for tokens in cases {
            let refused = read(&attributes(json!({ TOKENS: tokens.to_string() })).to_string(), "{}");
            assert_eq!(refused.expect_err("refused").code(), tonic::Code::PermissionDenied);
        }
    }

    #[test]
    fn what_is_not_known_is_refused_by_name_and_what_kubelet_says_is_not() {
        let tokens = of_pod("uid-1").to_string();
        let refused = read(&attributes(json!({ TOKENS: tokens, "obejcts": "x" })).to_string(), "{}");
        assert!(refused.expect_err("refused").message().contains("`obejcts` is not a parameter here"));
        let nobody = json!({ TOKENS: tokens, "csi.storage.k8s.io/pod.uid": "a b" });
        let refused = read(&attributes(nobody).to_string(), "{}").expect_err("refused");
        assert!(refused.message().contains("`podInfoOnMount: true`"), "{refused}");
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for text in ["", "{", "[]", "5", "\"x\"", "{\"a\\nb\":\"1\"}"] {
            assert!(read(text, "{}").is_err(), "{text}");
        }
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(read(&deep, &deep).is_err());
        assert!(default_mode("0x1").is_err() && default_mode("512").is_err() && default_mode("-1").is_err());
    }
}
