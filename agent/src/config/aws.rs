//! `[aws]`: a port that speaks to programs as AWS's Secrets Manager and its agent do.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bursar_core::reference::{BackendName, Reference, SecretPath};
use bursar_core::settings::Section;

/// Where such programs connect, who they are, and what their secrets are called here.
#[derive(Debug, Clone)]
pub struct Aws {
    /// Always of this machine itself.
    pub listen: SocketAddr,
    pub callers: Callers,
    /// Where a name leads that is not in `secrets`.
    pub mount: Option<Mount>,
    /// Names, or ARNs, and what they mean.
    pub secrets: BTreeMap<String, Reference>,
}

/// What has to be known of a caller without a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Callers {
    /// Its process, as on the socket.
    Process,
    /// Its user, and nothing else is attested.
    User,
}

/// A store, or a folder in one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    pub backend: BackendName,
    pub folder: Option<SecretPath>,
}

pub(super) fn aws(aws: &mut Section<'_>) -> Option<Aws> {
    let listen = aws.parsed("listen", loopback);
    let listen = aws.required("listen", listen);
    let callers = aws.parsed("callers", callers).unwrap_or(Callers::Process);
    let mount = aws.parsed("mount", mount);
    let pairs = aws.pairs("secrets");
    let leads_nowhere = pairs.is_empty();
    let mut secrets = BTreeMap::new();
    for (name, reference) in pairs {
        match Reference::parse(&reference) {
            Ok(reference) => drop(secrets.insert(name, reference)),
            Err(error) => drop(aws.fault::<()>(&format!("secrets.{name}"), error.to_string())),
        }
    }
    // Asked for last, so that a mount with a fault is not missed as well.
    if leads_nowhere && mount.is_none() {
        aws.required("mount", mount.as_ref());
    }
    Some(Aws { listen: listen?, callers, mount, secrets })
}

/// There is no TLS, so nothing may come from elsewhere.
fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address = super::address(text)?;
    if address.ip().is_loopback() {
        return Ok(address);
    }
    Err(format!(
        "is on a loopback address, like `127.0.0.1:{}`: values go over it in the clear",
        address.port()
    ))
}

fn callers(text: &str) -> Result<Callers, String> {
    match text {
        "process" => Ok(Callers::Process),
        "user" => Ok(Callers::User),
        other => Err(format!("is `process` or `user`, not `{}`", other.escape_default())),
    }
}

fn mount(text: &str) -> Result<Mount, String> {
    let (backend, folder) = match text.split_once('/') {
        Some((backend, folder)) => (backend, Some(folder)),
        None => (text, None),
    };
    let backend = BackendName::parse(backend).map_err(|error| error.to_string())?;
    let folder = folder.map(SecretPath::from_store).transpose().map_err(|error| error.to_string())?;
    Ok(Mount { backend, folder })
}
