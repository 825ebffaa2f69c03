//! The secrets of a vault, by the REST interface of version 7.4.
//! <https://learn.microsoft.com/en-us/rest/api/keyvault/secrets/operation-groups>

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::LONGEST_VALUE;
use super::serve::{Request, Response};

/// By name in small letters: Key Vault takes every spelling of a name for one.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    kept: BTreeMap<String, Secret>,
    /// Those that can be recovered.
    deleted: BTreeMap<String, Secret>,
}

#[derive(Debug, Clone)]
struct Secret {
    /// As whoever made it spelt it.
    name: String,
    /// Oldest first; never empty.
    versions: Vec<Version>,
}

#[derive(Debug, Clone)]
struct Version {
    id: String,
    value: String,
    content_type: Value,
    tags: Value,
    enabled: bool,
    times: Map<String, Value>,
    created: u64,
}

impl Secrets {
    pub(super) fn answer(&mut self, request: &Request) -> Response {
        let parts: Vec<_> = request.path.split('/').filter(|part| !part.is_empty()).collect();
        match (request.method.as_str(), parts.as_slice()) {
            ("GET", ["secrets"]) => self.list(request),
            ("GET", ["secrets", name, "versions"]) => self.versions(name, request),
            ("GET", ["secrets", name]) => self.read(name, None, request),
            ("GET", ["secrets", name, version]) => self.read(name, Some(version), request),
            ("PUT", ["secrets", name]) => self.put(name, request),
            ("PATCH", ["secrets", name, version]) => self.change(name, version, request),
            ("DELETE", ["secrets", name]) => self.delete(name, request),
            ("GET", ["deletedsecrets", name]) => match self.deleted.get(&name.to_lowercase()) {
                Some(secret) => Response::json(200, &secret.gone(request)),
                None => not_found(),
            },
            _ => Response::fault(400, "BadParameter", None),
        }
    }

    fn read(&self, name: &str, version: Option<&str>, request: &Request) -> Response {
        let Some((secret, version)) = self.find(name, version) else { return not_found() };
        if !version.enabled {
            return Response::fault(403, "Forbidden", Some("SecretDisabled"));
        }
        let mut bundle = secret.about(version, request);
        bundle.insert("value".to_owned(), Value::from(version.value.as_str()));
        Response::json(200, &Value::Object(bundle))
    }

    fn list(&self, request: &Request) -> Response {
        let about = |secret: &Secret| {
            let mut about = secret.about(secret.versions.last()?, request);
            about.insert("id".to_owned(), secret.id(None, request));
            Some(Value::Object(about))
        };
        page(self.kept.values().filter_map(about).collect(), request)
    }

    /// Of a secret that is not there it has none, and says no more.
    fn versions(&self, name: &str, request: &Request) -> Response {
        let secret = self.kept.get(&name.to_lowercase());
        let about = |secret: &Secret| -> Vec<_> {
            secret.versions.iter().map(|version| Value::Object(secret.about(version, request))).collect()
        };
        page(secret.map(about).unwrap_or_default(), request)
    }

    fn put(&mut self, name: &str, request: &Request) -> Response {
        let body: Value = serde_json::from_str(&request.body).unwrap_or_default();
        let value = body.get("value").and_then(Value::as_str).filter(|value| value.len() <= LONGEST_VALUE);
        let named =
            name.len() <= 127 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let (Some(value), true) = (value, named) else { return Response::fault(400, "BadParameter", None) };
        if self.deleted.contains_key(&name.to_lowercase()) {
            return Response::fault(409, "Conflict", Some("ObjectIsDeletedButRecoverable"));
        }
        let mut version = Version {
            id: std::iter::repeat_with(|| char::from_digit(fastrand::u32(..16), 16))
                .flatten()
                .take(32)
                .collect(),
            value: value.to_owned(),
            content_type: body.get("contentType").cloned().unwrap_or_default(),
            tags: body.get("tags").cloned().unwrap_or_default(),
            enabled: true,
            times: Map::new(),
            created: now(),
        };
        version.take(body.get("attributes"));
        let new = || Secret { name: name.to_owned(), versions: Vec::new() };
        let secret = self.kept.entry(name.to_lowercase()).or_insert_with(new);
        let mut bundle = secret.about(&version, request);
        bundle.insert("value".to_owned(), Value::from(value));
        secret.versions.push(version);
        Response::json(200, &Value::Object(bundle))
    }

    fn change(&mut self, name: &str, version: &str, request: &Request) -> Response {
        let body: Value = serde_json::from_str(&request.body).unwrap_or_default();
        let Some(secret) = self.kept.get_mut(&name.to_lowercase()) else { return not_found() };
        let Some(changed) = secret.versions.iter_mut().find(|one| one.id == version) else {
            return not_found();
        };
        changed.take(body.get("attributes"));
        let changed = changed.clone();
        Response::json(200, &Value::Object(secret.about(&changed, request)))
    }

    fn delete(&mut self, name: &str, request: &Request) -> Response {
        let Some(secret) = self.kept.remove(&name.to_lowercase()) else { return not_found() };
        let gone = secret.gone(request);
        self.deleted.insert(name.to_lowercase(), secret);
        Response::json(200, &gone)
    }

    fn find(&self, name: &str, version: Option<&str>) -> Option<(&Secret, &Version)> {
        let secret = self.kept.get(&name.to_lowercase())?;
        let version = match version {
            Some(version) => secret.versions.iter().find(|one| one.id == version),
            None => secret.versions.last(),
        };
        Some((secret, version?))
    }
}

impl Secret {
    fn id(&self, version: Option<&str>, request: &Request) -> Value {
        let id = format!("https://{}/secrets/{}", request.host(), self.name);
        Value::from(version.map_or(id.clone(), |version| format!("{id}/{version}")))
    }

    /// All of a version but its value.
    fn about(&self, version: &Version, request: &Request) -> Map<String, Value> {
        let mut attributes = version.times.clone();
        for (name, value) in [
            ("enabled", Value::from(version.enabled)),
            ("created", Value::from(version.created)),
            ("updated", Value::from(version.created)),
            ("recoveryLevel", Value::from("Recoverable+Purgeable")),
            ("recoverableDays", Value::from(90)),
        ] {
            attributes.insert(name.to_owned(), value);
        }
        let members = [
            ("id", self.id(Some(&version.id), request)),
            ("attributes", Value::Object(attributes)),
            ("contentType", version.content_type.clone()),
            ("tags", version.tags.clone()),
        ];
        let given = members.into_iter().filter(|(_, value)| !value.is_null());
        given.map(|(name, value)| (name.to_owned(), value)).collect()
    }

    fn gone(&self, request: &Request) -> Value {
        let mut about = self.versions.last().map(|last| self.about(last, request)).unwrap_or_default();
        let recovery = format!("https://{}/deletedsecrets/{}", request.host(), self.name);
        about.insert("recoveryId".to_owned(), Value::from(recovery));
        about.insert("deletedDate".to_owned(), Value::from(now()));
        about.insert("scheduledPurgeDate".to_owned(), Value::from(now() + 90 * 24 * 3600));
        Value::Object(about)
    }
}

impl Version {
    fn take(&mut self, attributes: Option<&Value>) {
        let Some(attributes) = attributes.and_then(Value::as_object) else { return };
        self.enabled = attributes.get("enabled").and_then(Value::as_bool).unwrap_or(self.enabled);
        for time in ["nbf", "exp"] {
            if let Some(value) = attributes.get(time).filter(|value| !value.is_null()) {
                self.times.insert(time.to_owned(), value.clone());
            }
        }
    }
}

/// A part of a list, and where the next is.
fn page(mut items: Vec<Value>, request: &Request) -> Response {
    let number = |name: &str| request.parameter(name).and_then(|text| text.parse().ok());
    let (skipped, most) = (number("$skiptoken").unwrap_or(0), number("maxresults").unwrap_or(25).min(25));
    let left = items.split_off(skipped.min(items.len()));
    let next = (left.len() > most).then(|| {
        let (host, path) = (request.host(), &request.path);
        format!("https://{host}{path}?api-version=7.4&$skiptoken={}&maxresults={most}", skipped + most)
    });
    let items: Vec<_> = left.into_iter().take(most).collect();
    Response::json(200, &json!({ "value": items, "nextLink": next }))
}

fn not_found() -> Response {
    Response::fault(404, "SecretNotFound", None)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
