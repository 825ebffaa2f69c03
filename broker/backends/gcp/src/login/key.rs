//! Google's JSON for credentials, read.
//! Forms: <https://google.aip.dev/auth/4112> (service accounts), <https://google.aip.dev/auth/4113> (users),
//! <https://google.aip.dev/auth/4117> (external accounts).

use std::path::PathBuf;
use std::str;
use std::sync::Arc;

use bursar_backend_http::Plaintext;
use bursar_core::secret::{SecretData, json};
use bursar_core::{FieldName, Secret};
use http::HeaderValue;
use reqwest::Url;

/// A credential that a token can be had with.
pub(super) enum Key {
    ServiceAccount(ServiceAccount),
    User(User),
    External(Box<External>),
}

/// A service account, proven by a key of its own.
pub(super) struct ServiceAccount {
    pub(super) email: String,
    /// PKCS #8 in PEM.
    pub(super) private_key: Arc<Secret>,
    pub(super) key_id: Option<String>,
    pub(super) token_uri: Url,
}

/// A person who has logged in.
pub(super) struct User {
    pub(super) client_id: String,
    pub(super) client_secret: Arc<Secret>,
    pub(super) refresh_token: Arc<Secret>,
    pub(super) token_uri: Url,
    pub(super) quota_project: Option<HeaderValue>,
}

/// Somebody whom another identity provider knows: workload identity federation.
pub(super) struct External {
    pub(super) audience: String,
    pub(super) subject_token_type: String,
    pub(super) token_url: Url,
    pub(super) source: Subject,
    /// Where a token of the service account is to be had that this identity may act as.
    pub(super) impersonation: Option<Url>,
    pub(super) quota_project: Option<HeaderValue>,
}

/// Where the other provider's token is.
pub(super) struct Subject {
    pub(super) place: Place,
    /// The member of a JSON object that it is; none where it is all there is.
    pub(super) member: Option<String>,
}

pub(super) enum Place {
    File(PathBuf),
    /// With the headers that it is asked for with.
    Url(Url, Vec<(String, Arc<Secret>)>),
}

/// Why a credential cannot be used. It never quotes it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    NotAnObject,
    Absent(&'static str),
    NotUsable(&'static str),
    Form,
    Source,
}

impl Unfit {
    pub(super) fn cause(&self) -> String {
        match self {
            Self::NotAnObject => "it is no JSON object".to_owned(),
            Self::Absent(member) => format!("it has no text `{member}`"),
            Self::NotUsable(member) => format!("its `{member}` cannot be used"),
            Self::Form => {
                "its `type` is none of `service_account`, `authorized_user` and `external_account`".to_owned()
            }
            Self::Source => "its `credential_source` is neither a `file` nor a `url`".to_owned(),
        }
    }
}

impl Key {
    /// Reads a credential.
    pub(super) fn read(json: &Secret, plaintext: Plaintext) -> Result<Self, Unfit> {
        let members = Members::of(json).ok_or(Unfit::NotAnObject)?;
        match members.text("type")?.as_str() {
            "service_account" => members.service_account(plaintext).map(Self::ServiceAccount),
            "authorized_user" => members.user(plaintext).map(Self::User),
            "external_account" => members.external(plaintext).map(Box::new).map(Self::External),
            _ => Err(Unfit::Form),
        }
    }
}

/// The members of a JSON object, those that are public and those that are not.
struct Members(SecretData);

impl Members {
    fn of(json: &Secret) -> Option<Self> {
        json::object(json.expose()).map(Self)
    }

    fn service_account(&self, plaintext: Plaintext) -> Result<ServiceAccount, Unfit> {
        Ok(ServiceAccount {
            email: self.text("client_email")?,
            private_key: self.secret("private_key")?,
            key_id: self.text("private_key_id").ok(),
            token_uri: self.address("token_uri", plaintext)?,
        })
    }

    fn user(&self, plaintext: Plaintext) -> Result<User, Unfit> {
        let token_uri = match self.address("token_uri", plaintext) {
            // `gcloud` does not write it.
            Err(Unfit::Absent(_)) => Url::parse(TOKEN_URI).map_err(|_| Unfit::NotUsable("token_uri")),
            other => other,
        };
        Ok(User {
            client_id: self.text("client_id")?,
            client_secret: self.secret("client_secret")?,
            refresh_token: self.secret("refresh_token")?,
            token_uri: token_uri?,
            quota_project: self.quota_project(),
        })
    }

    fn external(&self, plaintext: Plaintext) -> Result<External, Unfit> {
        let impersonation = match self.address("service_account_impersonation_url", plaintext) {
            Err(Unfit::Absent(_)) => Ok(None),
            other => other.map(Some),
        };
        let source = self.object("credential_source").ok_or(Unfit::Absent("credential_source"))?;
        Ok(External {
            audience: self.text("audience")?,
            subject_token_type: self.text("subject_token_type")?,
            token_url: self.address("token_url", plaintext)?,
            source: source.subject()?,
            impersonation: impersonation?,
            quota_project: self.quota_project(),
        })
    }

    fn subject(&self) -> Result<Subject, Unfit> {
        // Either would need more than to read: a program to be run, or requests to be signed.
        let foreign = ["executable", "environment_id", "certificate"];
        if foreign.iter().any(|member| self.secret(member).is_ok()) {
            return Err(Unfit::Source);
        }
        let place = match (self.text("file"), self.text("url")) {
            (Ok(file), Err(_)) => Place::File(file.into()),
            (Err(_), Ok(url)) => {
                let url = Url::parse(&url).map_err(|_| Unfit::NotUsable("url"))?;
                let headers = self.object("headers").map(|headers| headers.entries()).unwrap_or_default();
                Place::Url(url, headers)
            }
            _ => return Err(Unfit::Source),
        };
        let member = match self.object("format") {
            Some(format) if format.text("type").is_ok_and(|form| form == "json") => {
                Some(format.text("subject_token_field_name")?)
            }
            _ => None,
        };
        Ok(Subject { place, member })
    }

    fn quota_project(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.text("quota_project_id").ok()?).ok()
    }

    fn address(&self, member: &'static str, plaintext: Plaintext) -> Result<Url, Unfit> {
        bursar_backend_http::address(&self.text(member)?, plaintext).map_err(|_| Unfit::NotUsable(member))
    }

    /// A member that is public.
    fn text(&self, member: &'static str) -> Result<String, Unfit> {
        let value = self.secret(member)?;
        str::from_utf8(value.expose()).map(str::to_owned).map_err(|_| Unfit::NotUsable(member))
    }

    fn secret(&self, member: &'static str) -> Result<Arc<Secret>, Unfit> {
        let name = FieldName::parse(member).map_err(|_| Unfit::Absent(member))?;
        let value = self.0.select(Some(&name)).map_err(|_| Unfit::Absent(member))?;
        // `null` comes as its JSON text.
        let absent = value.is_empty() || value.ct_eq(b"null");
        if absent { Err(Unfit::Absent(member)) } else { Ok(value) }
    }

    fn object(&self, member: &'static str) -> Option<Self> {
        self.secret(member).ok().and_then(|value| Self::of(&value))
    }

    fn entries(&self) -> Vec<(String, Arc<Secret>)> {
        let entry = |name: &FieldName| Some((name.as_str().to_owned(), self.0.select(Some(name)).ok()?));
        self.0.field_names().filter_map(entry).collect()
    }
}

const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn unfit(json: &Value) -> Option<Unfit> {
        Key::read(&Secret::from(json.to_string()), Plaintext::Refused).err()
    }

    fn external(source: &Value) -> Value {
        json!({
            "type": "external_account", "audience": "a", "subject_token_type": "t",
            "token_url": "https://sts.example/v1/token", "credential_source": source,
        })
    }

    #[test]
    fn a_credential_says_what_it_lacks() {
        let account = json!({ "type": "service_account", "client_email": "e", "private_key": "k" });
        assert_eq!(unfit(&account), Some(Unfit::Absent("token_uri")));
        for (lacking, member) in [("client_email", "client_email"), ("private_key", "private_key")] {
            let mut account = account.clone();
            account[lacking] = json!("");
            assert_eq!(unfit(&account), Some(Unfit::Absent(member)));
        }
        let user = json!({ "type": "authorized_user", "client_id": "c", "client_secret": "s" });
        assert_eq!(unfit(&user), Some(Unfit::Absent("refresh_token")));
        assert_eq!(unfit(&json!([])), Some(Unfit::NotAnObject));
        assert_eq!(unfit(&json!({})), Some(Unfit::Absent("type")));
        assert_eq!(unfit(&json!({ "type": "gdch_service_account" })), Some(Unfit::Form));
    }

    #[test]
    fn it_is_sent_in_the_clear_only_where_that_was_asked_for() {
        let mut account = json!({ "type": "service_account", "client_email": "e", "private_key": "k" });
        account["token_uri"] = json!("http://oauth2.example/token");
        assert_eq!(unfit(&account), Some(Unfit::NotUsable("token_uri")));
        let read = Key::read(&Secret::from(account.to_string()), Plaintext::Allowed);
        assert!(read.is_ok());
    }

    #[test]
    fn the_token_of_another_provider_is_in_a_file_or_at_a_url() {
        assert_eq!(unfit(&external(&json!({ "file": "/run/token" }))), None);
        let query = "http://169.254.169.254/identity?api-version=1&resource=r";
        assert_eq!(unfit(&external(&json!({ "url": query, "headers": { "Metadata": "True" } }))), None);
        for source in [
            json!({}),
            json!({ "file": "/a", "url": "http://b" }),
            json!({ "executable": { "command": "/bin/token" } }),
            json!({ "environment_id": "aws1", "url": "http://169.254.169.254" }),
        ] {
            assert_eq!(unfit(&external(&source)), Some(Unfit::Source), "{source}");
        }
        let unnamed = json!({ "file": "/a", "format": { "type": "json" } });
        assert_eq!(unfit(&external(&unnamed)), Some(Unfit::Absent("subject_token_field_name")));
    }
}
