//! Azure as far as a reader of secrets meets it: one Key Vault, the Entra ID that gives tokens for it, and the identity
//! service of a machine, behind one port, by TLS.
//!
//! A fake, since no real one can be had: Microsoft gives none out, and no registry that the tests may use has anybody
//! else's ([decision 32](../../docs/decisions/0032-azure-client.md)). So that it does not merely agree with whoever wrote
//! it, Microsoft's own client is put to it, by the test `microsofts_own_client_takes_the_fake_for_a_vault`.

mod login;
mod secrets;
mod serve;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::canary::Canary;
use crate::certificate::ServerFiles;
use crate::place;

use login::Logins;
use secrets::Secrets;
use serve::{Request, Response, Server};

/// A running vault. Stopped, and everything forgotten, on drop.
#[derive(Debug)]
pub struct KeyVault {
    // Dropped first, so that nobody is served while its directory goes.
    server: Server,
    directory: TempDir,
    files: ServerFiles,
    state: Arc<Mutex<State>>,
}

/// What it knows and does.
#[derive(Debug)]
struct State {
    logins: Logins,
    secrets: Secrets,
    /// Whether tokens give the right to anything.
    allowed: bool,
    /// What every call to the vault is answered with instead.
    instead: Option<Response>,
    /// Whether calls are taken and never answered.
    hung: bool,
    calls: Vec<String>,
}

impl KeyVault {
    /// Starts an empty vault.
    ///
    /// # Errors
    /// No port or certificate can be had.
    pub fn start() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("bursar-key-vault-").tempdir()?;
        let files = ServerFiles::make(directory.path())?;
        let state = State {
            logins: Logins::new(),
            secrets: Secrets::default(),
            allowed: true,
            instead: None,
            hung: false,
            calls: Vec::new(),
        };
        let state = Arc::new(Mutex::new(state));
        let answering = Arc::clone(&state);
        let server = Server::start(&files, move |request| lock(&answering).answer(request))?;
        Ok(Self { server, directory, files, state })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Its address as a vault, and as whoever gives tokens.
    pub fn url(&self) -> String {
        format!("https://{}", self.address())
    }

    /// The certificate of the authority that vouches for it.
    pub fn ca_file(&self) -> &Path {
        &self.files.authority
    }

    /// The directory of everything that is written for it.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Makes a secret, or another version of it; answers the version. `members` are further ones of the request, such as
    /// `attributes`.
    ///
    /// # Errors
    /// It refuses.
    pub fn put(&self, name: &str, value: &str, members: &Value) -> Result<String> {
        let mut body = json!({ "value": value });
        if let (Some(body), Some(members)) = (body.as_object_mut(), members.as_object()) {
            body.extend(members.clone());
        }
        let made = self.ask("PUT", &format!("/secrets/{name}"), &body)?;
        let id = made.get("id").and_then(Value::as_str).context("a secret without an id")?;
        Ok(id.rsplit('/').next().unwrap_or_default().to_owned())
    }

    /// Changes the attributes of a version.
    ///
    /// # Errors
    /// It refuses.
    pub fn change(&self, name: &str, version: &str, attributes: &Value) -> Result<()> {
        let body = json!({ "attributes": attributes });
        self.ask("PATCH", &format!("/secrets/{name}/{version}"), &body).map(drop)
    }

    /// Deletes a secret, so that it can be recovered.
    ///
    /// # Errors
    /// It refuses.
    pub fn delete(&self, name: &str) -> Result<()> {
        self.ask("DELETE", &format!("/secrets/{name}"), &Value::Null).map(drop)
    }

    /// The secret of the application that may log in.
    pub fn client_secret(&self) -> Canary {
        self.state().logins.client_secret.clone()
    }

    /// Has the application shown what is signed for it by somebody else: this.
    pub fn trust_assertion(&self, assertion: &Canary) {
        self.state().logins.assertion = Some(assertion.clone());
    }

    /// Every token that was given out.
    pub fn tokens(&self) -> Vec<Canary> {
        self.state().logins.tokens()
    }

    /// Takes no token any more that was given out until now.
    pub fn end_tokens(&self) {
        self.state().logins.end();
    }

    /// Gives or takes the right to read.
    pub fn allow(&self, allowed: bool) {
        self.state().allowed = allowed;
    }

    /// Answers every call to the vault with this from now on; `header` is one line.
    pub fn answer(&self, status: u16, header: &str, body: &str) {
        let instead = Response { status, headers: vec![header.to_owned()], body: body.to_owned() };
        self.state().instead = Some(instead);
    }

    /// Takes calls and answers none from now on.
    pub fn hang(&self) {
        self.state().hung = true;
    }

    /// Answers as it should again.
    pub fn mend(&self) {
        let mut state = self.state();
        (state.instead, state.hung) = (None, false);
    }

    /// Every call until now, oldest first, as method and path without its query.
    pub fn calls(&self) -> Vec<String> {
        self.state().calls.clone()
    }

    /// The section of a broker's configuration in which this vault is the backend `name`, read by the application. `more`
    /// are further keys.
    ///
    /// # Errors
    /// The application's secret cannot be written down.
    pub fn backend(&self, name: &str, more: &str) -> Result<String> {
        let file = self.secret_file();
        fs::write(&file, self.client_secret().value())?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
        let proof = format!("client_secret = {{ file = '{}' }}", file.display());
        Ok(self.backend_as(name, &self.application(&proof), more))
    }

    /// The same with other credentials.
    pub fn backend_as(&self, name: &str, credentials: &str, more: &str) -> String {
        let (url, ca) = (self.url(), self.ca_file().display());
        format!(
            "[backends.{name}]\nkind = 'azure'\nvault = '{url}'\nresource = '{RESOURCE}'\nca_file = '{ca}'\n{more}\n\
             credentials = {{ {credentials} }}\n"
        )
    }

    /// The keys by which the application is configured, with what it shows.
    pub fn application(&self, proof: &str) -> String {
        format!("tenant = '{TENANT}', client_id = '{CLIENT_ID}', authority = '{}', {proof}", self.url())
    }

    /// Where the broker reads the application's secret.
    pub fn secret_file(&self) -> PathBuf {
        self.directory.path().join("client-secret")
    }

    /// Has Microsoft's own client write, read, list and delete here.
    ///
    /// # Errors
    /// The two do not understand each other; with what the client wrote.
    pub fn try_microsofts_client(&self) -> Result<()> {
        let said = Command::new(place::venv("python")?)
            .env_clear()
            .envs([("VAULT", self.url()), ("TENANT", TENANT.to_owned()), ("CLIENT_ID", CLIENT_ID.to_owned())])
            .env("CLIENT_SECRET", self.client_secret().value())
            .env("CA", self.ca_file())
            .args(["-c", include_str!("key_vault/client.py")])
            .output()?;
        let wrote = String::from_utf8_lossy(&said.stderr);
        ensure!(said.status.success() && said.stdout == b"understood\n", "{wrote}");
        Ok(())
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let mut request = Request { method: method.to_owned(), path: path.to_owned(), ..Request::default() };
        request.headers.insert("host".to_owned(), self.address().to_string());
        if !body.is_null() {
            request.body = body.to_string();
        }
        let response = self.state().secrets.answer(&request);
        ensure!(response.status == 200, "the vault answered {} to `{method} {path}`", response.status);
        Ok(serde_json::from_str(&response.body)?)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    /// None for a call that is never answered.
    fn answer(&mut self, request: &Request) -> Option<Response> {
        self.calls.push(format!("{} {}", request.method, request.path));
        if self.hung {
            return None;
        }
        if let Some(response) = self.logins.answer(request) {
            return Some(response);
        }
        if let Some(instead) = &self.instead {
            return Some(instead.clone());
        }
        if !self.logins.knows(request) {
            return Some(unauthorized(request));
        }
        if !self.allowed {
            return Some(Response::fault(403, "Forbidden", Some("ForbiddenByRbac")));
        }
        if request.parameter("api-version").is_none() {
            return Some(Response::fault(400, "BadParameter", None));
        }
        Some(self.secrets.answer(request))
    }
}

/// Says to whom a client has to go for a token, and what it has to be for.
fn unauthorized(request: &Request) -> Response {
    let authority = format!("https://{}/{TENANT}", request.host());
    let challenge =
        format!("WWW-Authenticate: Bearer authorization=\"{authority}\", resource=\"{RESOURCE}\"");
    let mut response = Response::fault(401, "Unauthorized", None);
    response.headers.push(challenge);
    response
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The directory that the application is of.
pub const TENANT: &str = "contoso.onmicrosoft.com";
/// The application that may log in.
pub const CLIENT_ID: &str = "7e6d4f1c-52f1-4bb8-b4d7-0a30f1b6e1a9";
/// What tokens are for.
pub const RESOURCE: &str = "https://vault.azure.net";
/// The longest value in bytes.
pub const LONGEST_VALUE: usize = 25_600;
