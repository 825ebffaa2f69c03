//! `bursar doctor`: each thing that a connection needs, in the order in which it is needed, up to the first that is
//! missing. What follows it could not be told apart.

use bursar_core::Explained;
use bursar_proto::Reason;
use bursar_proto::v1::SystemStatusRequest;
use bursar_sdk::Client;

use super::Session;
use crate::connection;
use crate::error::Error;
use crate::hint;
use crate::settings::Settings;
use crate::view::{self, CheckView, StatusView};

pub(super) async fn carry_out(session: &Session) -> Result<(), Error> {
    let mut checks = Vec::new();
    examine(session, &mut checks).await;
    session.output.list(&checks, "")?;
    let failed = checks.iter().filter(|check| !check.ok).count();
    if failed == 0 { Ok(()) } else { Err(Error::Doctor { failed, checks: checks.len() }) }
}

/// Ends with the first check that fails; the list says why.
async fn examine(session: &Session, checks: &mut Vec<CheckView>) {
    let Some(settings) = noted(checks, "settings", session.settings(), |settings| match &settings.file {
        Some(file) => format!("read from `{}`", file.display()),
        None => "no file; options, environment and defaults".to_owned(),
    }) else {
        return;
    };
    let identity = connection::tls(&settings);
    if noted(checks, "identity", identity, |tls| match tls {
        Some(tls) if tls.identity.is_some() => "certificate, key and authority are readable".to_owned(),
        Some(_) if settings.token.is_some() => "a token is given, and the authority is readable".to_owned(),
        Some(_) => "no certificate or token is given; the broker will answer nothing".to_owned(),
        None if settings.token.is_some() => "a token, by the agent's socket".to_owned(),
        None => "by the agent's socket, which knows its callers".to_owned(),
    })
    .is_none()
    {
        return;
    }
    let connected = connect(&settings).await;
    let Some(client) = noted(checks, "connection", connected, |client| format!("to `{}`", client.address()))
    else {
        return;
    };
    let status = status(&client).await;
    let Some(Some(status)) = noted(checks, "answer", status, |status| match status {
        Some(_) => "the caller is known and may see the broker's state".to_owned(),
        None => "the caller is known and may not see the broker's state".to_owned(),
    }) else {
        return;
    };
    let message =
        if status.is_ready() { None } else { Some("`bursar status` says what is wrong".to_owned()) };
    checks.push(CheckView { name: "ready".to_owned(), ok: status.is_ready(), message });
}

async fn connect(settings: &Settings) -> Result<Client, Error> {
    let tls = connection::tls(settings)?;
    Ok(connection::presenting(settings, Client::connect(&settings.address, tls.as_ref()).await?))
}

/// The broker's state; nothing when it is not told. Most callers may not see it, which says that they are known.
async fn status(client: &Client) -> Result<Option<StatusView>, Error> {
    let status = client.repeatable(SystemStatusRequest {}, |client, request| async move {
        client.system().status(request).await
    });
    match status.await {
        Ok(status) => view::read(client, status).map(Some),
        Err(error) if matches!(error.reason(), Some(Reason::AccessDenied)) => Ok(None),
        Err(other) => Err(other.into()),
    }
}

/// Notes what came of one check, and hands on what it found.
fn noted<T>(
    checks: &mut Vec<CheckView>,
    name: &str,
    result: Result<T, Error>,
    words: impl FnOnce(&T) -> String,
) -> Option<T> {
    let (ok, message) = match &result {
        Ok(found) => (true, words(found)),
        Err(error) => (false, fault(error)),
    };
    checks.push(CheckView { name: name.to_owned(), ok, message: Some(message) });
    result.ok()
}

/// The error, its causes and the hint, on one line.
fn fault(error: &Error) -> String {
    let mut text = Explained(error).to_string();
    if let Some(hint) = hint::of(error) {
        text.push_str(&format!("; {hint}"));
    }
    text
}
