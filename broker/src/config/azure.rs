//! `kind = "azure"`: the secrets of one Key Vault.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use bursar_core::settings::{SecretSource, Section};

/// How a vault is reached, and as whom.
#[derive(Debug)]
pub struct AzureSettings {
    pub vault: String,
    pub resource: Option<String>,
    pub ca_file: Option<PathBuf>,
    pub timeout: Duration,
    pub prefix: String,
    pub separator: Option<String>,
    pub credentials: AzureCredentials,
}

/// As whom the broker works.
#[derive(Debug)]
pub enum AzureCredentials {
    /// What a cluster put into the environment, else the machine's identity.
    Surroundings,
    Application {
        authority: Option<String>,
        tenant: String,
        client_id: String,
        proof: AzureProof,
    },
    ManagedIdentity {
        client_id: Option<String>,
        endpoint: Option<String>,
    },
}

/// What shows that the broker is an application.
#[derive(Debug)]
pub enum AzureProof {
    ClientSecret(SecretSource),
    Certificate(SecretSource),
    FederatedToken(SecretSource),
}

pub(super) fn azure(section: &mut Section<'_>) -> Option<AzureSettings> {
    let vault = section.parsed("vault", vault);
    let vault = section.required("vault", vault);
    let resource = section.parsed("resource", resource);
    if resource.is_none() && vault.as_deref().is_some_and(|vault| !names_its_cloud(vault)) {
        section.fault::<()>(
            "resource",
            "is required where the vault's host does not end in the name of its cloud; it is `https://vault.azure.net` but for other clouds"
                .to_owned(),
        );
    }
    let ca_file = section.path("ca_file");
    let timeout = section.duration("timeout").unwrap_or(Duration::from_secs(5));
    let prefix = section.parsed("prefix", |text| part_of_name(text, 0..=100)).unwrap_or_default();
    let separator = section.parsed("separator", |text| part_of_name(text, 1..=8));
    let credentials = section.section("credentials", credentials);
    Some(AzureSettings {
        vault: vault?,
        resource,
        ca_file,
        timeout,
        prefix,
        separator,
        credentials: credentials?,
    })
}

/// Without any key: what the broker finds around it. With one of a form, all that the form needs, and nothing of the
/// other.
fn credentials(section: &mut Section<'_>) -> Option<AzureCredentials> {
    let managed = section.flag("managed_identity").unwrap_or(false);
    let tenant = section.parsed("tenant", tenant);
    let client_id = section.parsed("client_id", client_id);
    let secret = section.secret_source("client_secret");
    let certificate = section.secret_source("client_certificate");
    let token = section.secret_source("federated_token");
    let authority = section.parsed("authority", authority);
    let endpoint = section.parsed("endpoint", endpoint);
    let proofs = [
        secret.map(AzureProof::ClientSecret),
        certificate.map(AzureProof::Certificate),
        token.map(AzureProof::FederatedToken),
    ];
    let mut proofs = proofs.into_iter().flatten();
    let (proof, more) = (proofs.next(), proofs.next().is_some());
    let of_application = tenant.is_some() || proof.is_some() || authority.is_some();
    match (managed, of_application || client_id.is_some()) {
        (true, _) if of_application => section.fault(
            "",
            "are an application (`tenant`, `client_id` and `client_secret`, `client_certificate` or `federated_token`) or a managed identity, not both"
                .to_owned(),
        ),
        (true, _) => Some(AzureCredentials::ManagedIdentity { client_id, endpoint }),
        (false, _) if endpoint.is_some() => {
            section.fault("endpoint", "is where a managed identity is; set `managed_identity = true`".to_owned())
        }
        (false, false) => Some(AzureCredentials::Surroundings),
        (false, true) => {
            let tenant = section.required("tenant", tenant);
            let client_id = section.required("client_id", client_id);
            let proof = match proof {
                Some(proof) if !more => Some(proof),
                Some(_) => section.fault(
                    "",
                    "have more than one of `client_secret`, `client_certificate` and `federated_token`; give one"
                        .to_owned(),
                ),
                None => section.fault(
                    "client_secret",
                    "is required, or `client_certificate`, or `federated_token`".to_owned(),
                ),
            };
            Some(AzureCredentials::Application {
                authority,
                tenant: tenant?,
                client_id: client_id?,
                proof: proof?,
            })
        }
    }
}

fn vault(text: &str) -> Result<String, String> {
    https(text).ok_or_else(|| "is the address of a vault, such as `https://NAME.vault.azure.net`".to_owned())
}

fn resource(text: &str) -> Result<String, String> {
    https(text).ok_or_else(|| "is what tokens are for, such as `https://vault.azure.net`".to_owned())
}

fn authority(text: &str) -> Result<String, String> {
    https(text).ok_or_else(|| {
        "is where Entra ID is, such as `https://login.microsoftonline.com`, without the directory".to_owned()
    })
}

fn endpoint(text: &str) -> Result<String, String> {
    let of_the_machine = |host: &str| {
        let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
        host.parse().is_ok_and(|host: Ipv4Addr| host.is_loopback() || host.is_link_local())
    };
    let plain = text.strip_prefix("http://").filter(|rest| is_host(rest) && of_the_machine(rest));
    match plain {
        Some(_) => Ok(text.to_owned()),
        None => https(text).ok_or_else(|| {
            "is `https://HOST[:PORT]`, or `http://` at an address of the machine's own such as `127.0.0.1`".to_owned()
        }),
    }
}

/// `https://HOST[:PORT]`, without the `/` that may end it.
fn https(text: &str) -> Option<String> {
    let host = text.strip_prefix("https://")?;
    let host = host.strip_suffix('/').unwrap_or(host);
    is_host(host).then(|| format!("https://{host}"))
}

fn is_host(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-:".contains(&byte);
    let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
    let has_name = host.bytes().any(|byte| byte.is_ascii_alphanumeric());
    has_name && text.bytes().all(allowed) && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

/// Whether the name of a host says of which cloud it is: `NAME.vault.azure.net` is of `vault.azure.net`.
fn names_its_cloud(vault: &str) -> bool {
    let host = vault.trim_start_matches("https://").split(':').next().unwrap_or_default();
    host.parse::<Ipv4Addr>().is_err() && host.split('.').filter(|label| !label.is_empty()).count() > 2
}

fn part_of_name(text: &str, length: RangeInclusive<usize>) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if !length.contains(&text.len()) || !text.bytes().all(allowed) {
        let (least, most) = (length.start(), length.end());
        return Err(format!("is part of a secret's name: {least} to {most} small letters, digits and `-`"));
    }
    Ok(text.to_owned())
}

fn tenant(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
    if text.is_empty() || text.starts_with('.') || text.len() > 253 || !text.bytes().all(allowed) {
        return Err(
            "is the id of a directory, or a domain of it such as `contoso.onmicrosoft.com`".to_owned()
        );
    }
    Ok(text.to_owned())
}

fn client_id(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if text.is_empty() || text.len() > 64 || !text.bytes().all(allowed) {
        return Err("is the id of an application or identity: letters, digits and `-`".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BackendKind, Config};

    fn read(keys: &str) -> Result<Box<AzureSettings>, Vec<String>> {
        let least = "trust_domain = 'example.org'\ndata_dir = 'd'\n[seal]\nkey = { env = 'K' }\n";
        let text = format!("{least}[backends.azure]\nkind = 'azure'\n{keys}\n");
        let config = Config::parse(&text)
            .map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        match config.backends.into_iter().next().map(|backend| backend.kind) {
            Some(BackendKind::Azure(settings)) => Ok(settings),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_vault_is_all_that_is_needed() {
        let least = read("vault = 'https://v.vault.usgovcloudapi.net/'").expect("good");
        assert_eq!(least.vault, "https://v.vault.usgovcloudapi.net");
        assert!(matches!(least.credentials, AzureCredentials::Surroundings));
        assert_eq!((least.timeout, least.prefix.as_str()), (Duration::from_secs(5), ""));
    }

    #[test]
    fn each_form_of_credentials_is_read() {
        let credentials = |keys: &str| {
            let vault = "vault = 'https://v.vault.azure.net'\ncredentials =";
            format!("{:?}", read(&format!("{vault} {{ {keys} }}")).expect("good").credentials)
        };
        let of_application = "tenant = 'contoso.example', client_id = '0-1'";
        let secret = credentials(&format!("{of_application}, client_secret = {{ env = 'S' }}"));
        assert!(secret.contains("ClientSecret") && secret.contains("authority: None"), "{secret}");
        let certificate = credentials(&format!("{of_application}, client_certificate = {{ file = '/c' }}"));
        assert!(certificate.contains("Certificate(File(\"/c\"))"), "{certificate}");
        let federated = credentials(&format!(
            "{of_application}, federated_token = {{ file = '/t' }}, authority = 'https://login.example/'"
        ));
        assert!(
            federated.contains("FederatedToken") && federated.contains("https://login.example"),
            "{federated}"
        );
        let identity = credentials("managed_identity = true");
        assert!(identity.contains("ManagedIdentity { client_id: None"), "{identity}");
        let named = credentials("managed_identity = true, client_id = '2', endpoint = 'http://127.0.0.1:4'");
        assert!(named.contains("Some(\"2\")") && named.contains("127.0.0.1:4"), "{named}");
    }

    #[test]
    fn a_host_that_names_no_cloud_needs_a_resource() {
        for host in ["127.0.0.1:8443", "localhost", "vault.internal"] {
            let vault = format!("vault = 'https://{host}'");
            let faults = read(&vault).expect_err("no resource");
            assert!(faults.iter().all(|fault| fault.starts_with("backends.azure.resource: ")), "{faults:?}");
            assert!(read(&format!("{vault}\nresource = 'https://vault.azure.net'")).is_ok(), "{host}");
        }
    }
}
