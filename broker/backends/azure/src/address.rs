//! The addresses of one vault: those that are made here, and those that the vault names.
//!
//! <https://learn.microsoft.com/en-us/rest/api/keyvault/secrets/operation-groups>

use std::net::{IpAddr, Ipv4Addr};

use bursar_backend_http::{Plaintext, address};
use reqwest::Url;

use crate::config::ConfigError;

/// One vault.
#[derive(Debug)]
pub(crate) struct Vault {
    base: Url,
}

impl Vault {
    /// # Errors
    /// [`ConfigError`].
    pub(crate) fn new(text: &str) -> Result<Self, ConfigError> {
        Ok(Self { base: host(text, "vault")? })
    }

    /// The newest version of a secret, or one.
    pub(crate) fn secret(&self, name: &str, version: Option<&str>) -> Url {
        match version {
            Some(version) => self.at(&format!("/secrets/{name}/{version}"), None),
            None => self.at(&format!("/secrets/{name}"), None),
        }
    }

    /// The versions of a secret, first page.
    pub(crate) fn versions(&self, name: &str) -> Url {
        self.at(&format!("/secrets/{name}/versions"), Some(LONGEST_PAGE))
    }

    /// All secrets, first page.
    pub(crate) fn secrets(&self, page: usize) -> Url {
        self.at("/secrets", Some(page.min(LONGEST_PAGE)))
    }

    /// The page after one of `of`, as the vault names it. None where that is not of the same list of the same vault:
    /// the broker's token goes along.
    pub(crate) fn following(&self, link: &str, of: &Url) -> Option<Url> {
        let next = Url::parse(link).ok()?;
        let bare = next.username().is_empty() && next.password().is_none();
        // It may write a name as whoever made the secret did.
        let same_list = next.path().eq_ignore_ascii_case(of.path());
        (bare && same_list && next.origin() == self.base.origin()).then_some(next)
    }

    /// What tokens for this vault are for. All vaults of a cloud share one, which is the end of their host names.
    pub(crate) fn resource(&self) -> Option<String> {
        let (_, cloud) = self.base.domain()?.split_once('.')?;
        cloud.contains('.').then(|| format!("https://{cloud}"))
    }

    /// Where the Entra ID of the vault's cloud is.
    pub(crate) fn authority(&self) -> &'static str {
        let host = self.base.host_str().unwrap_or_default();
        let cloud = AUTHORITIES.iter().find(|(cloud, _)| host.ends_with(cloud));
        cloud.map_or(AUTHORITY, |(_, authority)| authority)
    }

    fn at(&self, path: &str, page: Option<usize>) -> Url {
        let mut url = self.base.clone();
        url.set_path(path);
        let mut query = url.query_pairs_mut();
        query.append_pair("api-version", API);
        if let Some(page) = page {
            query.append_pair("maxresults", &page.to_string());
        }
        drop(query);
        url
    }
}

/// Where tokens are made for a directory.
///
/// # Errors
/// [`ConfigError`].
pub(crate) fn token_endpoint(authority: &str, tenant: &str) -> Result<Url, ConfigError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
    if tenant.is_empty() || tenant.starts_with('.') || !tenant.bytes().all(allowed) {
        return Err(ConfigError::Tenant { tenant: tenant.to_owned() });
    }
    let mut url = host(authority, "credentials.authority")?;
    url.set_path(&format!("/{tenant}/oauth2/v2.0/token"));
    Ok(url)
}

/// Where the platform of an app gives tokens for `resource`.
///
/// # Errors
/// [`ConfigError`].
pub(crate) fn app_endpoint(
    endpoint: &str,
    resource: &str,
    client_id: Option<&str>,
) -> Result<Url, ConfigError> {
    let url = address(endpoint, Plaintext::Allowed);
    let mut url = url.map_err(|source| ConfigError::AppIdentity { source })?;
    // Some platforms say it so, and a name is not asked for by plain text.
    if url.host_str() == Some("localhost") && url.set_ip_host(Ipv4Addr::LOCALHOST.into()).is_err() {
        return Err(ConfigError::PlaintextIdentity);
    }
    if url.scheme() != "https" && !is_of_the_machine(&url) {
        return Err(ConfigError::PlaintextIdentity);
    }
    ask_for(&mut url, APP_API, resource, client_id);
    Ok(url)
}

/// Where the machine's service gives tokens for `resource`.
///
/// # Errors
/// [`ConfigError`].
pub(crate) fn identity_endpoint(
    endpoint: Option<&str>,
    resource: &str,
    client_id: Option<&str>,
) -> Result<Url, ConfigError> {
    let key = "credentials.endpoint";
    let text = endpoint.unwrap_or(IDENTITY);
    let mut url = address(text, Plaintext::Allowed).map_err(|source| ConfigError::Address { key, source })?;
    if url.path() != "/" {
        return Err(ConfigError::Path { key });
    }
    if url.scheme() != "https" && !is_of_the_machine(&url) {
        return Err(ConfigError::PlaintextIdentity);
    }
    url.set_path("/metadata/identity/oauth2/token");
    ask_for(&mut url, IDENTITY_API, resource, client_id);
    Ok(url)
}

fn ask_for(url: &mut Url, api: &str, resource: &str, client_id: Option<&str>) {
    let mut query = url.query_pairs_mut();
    query.append_pair("api-version", api).append_pair("resource", resource);
    if let Some(client_id) = client_id {
        query.append_pair("client_id", client_id);
    }
}

fn host(text: &str, key: &'static str) -> Result<Url, ConfigError> {
    let url = address(text, Plaintext::Refused).map_err(|source| ConfigError::Address { key, source })?;
    if url.path() == "/" { Ok(url) } else { Err(ConfigError::Path { key }) }
}

/// Whether what is sent there does not leave the machine, or the host that it runs on.
fn is_of_the_machine(url: &Url) -> bool {
    match url.host_str().and_then(|host| host.parse().ok()) {
        Some(IpAddr::V4(address)) => address.is_loopback() || address.is_link_local(),
        Some(IpAddr::V6(_)) | None => false,
    }
}

/// In every cloud for years, and not yet at the end of its support.
const API: &str = "7.4";
/// Key Vault gives no more at once.
pub(crate) const LONGEST_PAGE: usize = 25;
const AUTHORITY: &str = "https://login.microsoftonline.com";
const AUTHORITIES: [(&str, &str); 2] = [
    (".vault.azure.cn", "https://login.chinacloudapi.cn"),
    (".vault.usgovcloudapi.net", "https://login.microsoftonline.us"),
];
/// <https://learn.microsoft.com/en-us/entra/identity/managed-identities-azure-resources/how-to-use-vm-token>
const IDENTITY: &str = "http://169.254.169.254";
const IDENTITY_API: &str = "2018-02-01";
const APP_API: &str = "2019-08-01";

#[cfg(test)]
mod tests {
    use super::*;

    fn vault() -> Vault {
        Vault::new("https://My-Vault.vault.azure.net/").expect("vault")
    }

    #[test]
    fn what_tokens_are_for_and_where_they_are_made_follows_from_the_cloud() {
        let cloud = |address: &str| {
            let vault = Vault::new(address).expect("vault");
            (vault.resource(), vault.authority())
        };
        for (address, resource, authority) in [
            ("https://v.vault.azure.net", "https://vault.azure.net", "https://login.microsoftonline.com"),
            ("https://v.vault.azure.cn", "https://vault.azure.cn", "https://login.chinacloudapi.cn"),
            (
                "https://v.vault.usgovcloudapi.net",
                "https://vault.usgovcloudapi.net",
                "https://login.microsoftonline.us",
            ),
            ("https://v.vault.azure.net.evil.example", "https://vault.azure.net.evil.example", AUTHORITY),
        ] {
            assert_eq!(cloud(address), (Some(resource.to_owned()), authority), "{address}");
        }
        for unsaid in ["https://127.0.0.1:8443", "https://[::1]", "https://localhost", "https://a.example"] {
            assert_eq!(cloud(unsaid).0, None, "{unsaid}");
        }
    }

    #[test]
    fn a_list_goes_on_in_the_same_list_of_the_same_vault() {
        let versions = vault().versions("db");
        let follows = |link: &str| vault().following(link, &versions).is_some();
        assert!(follows(
            "https://my-vault.vault.azure.net:443/secrets/DB/versions?api-version=7.4&$skiptoken=x"
        ));
        for elsewhere in [
            "",
            "/secrets/db/versions?$skiptoken=x",
            "http://my-vault.vault.azure.net/secrets/db/versions",
            "https://my-vault.vault.azure.net:8443/secrets/db/versions",
            "https://other.vault.azure.net/secrets/db/versions",
            "https://my-vault.vault.azure.net.evil.example/secrets/db/versions",
            "https://my-vault.vault.azure.net@evil.example/secrets/db/versions",
            "https://u:p@my-vault.vault.azure.net/secrets/db/versions",
            "https://my-vault.vault.azure.net/secrets/other/versions",
            "https://my-vault.vault.azure.net/secrets/db/../../keys",
            "http://169.254.169.254/secrets/db/versions",
        ] {
            assert!(!follows(elsewhere), "`{elsewhere}`");
        }
    }

    #[test]
    fn a_vault_is_a_host() {
        for path in ["https://v.vault.azure.net/secrets", "https://v.vault.azure.net/secrets/db"] {
            assert!(matches!(Vault::new(path), Err(ConfigError::Path { key: "vault" })), "{path}");
        }
        for bad in ["", "v", "http://v.vault.azure.net", "https://u:pw@v.vault.azure.net"] {
            let error = Vault::new(bad).expect_err("no vault");
            assert!(matches!(error, ConfigError::Address { key: "vault", .. }), "`{bad}`");
            assert!(!format!("{error} {error:?}").contains("pw"));
        }
    }

    #[test]
    fn a_directory_is_an_id_or_a_domain() {
        let at = |tenant: &str| token_endpoint(AUTHORITY, tenant).map(|url| url.to_string());
        assert_eq!(
            at("contoso.onmicrosoft.com").expect("address"),
            "https://login.microsoftonline.com/contoso.onmicrosoft.com/oauth2/v2.0/token"
        );
        for bad in ["", "..", "a/b", "a?b", "a#b", "a b", "a%2fb"] {
            assert!(matches!(at(bad), Err(ConfigError::Tenant { .. })), "`{bad}`");
        }
    }

    #[test]
    fn plain_text_stays_on_the_machine() {
        let at = |endpoint| identity_endpoint(endpoint, "https://vault.azure.net", Some("a b"));
        assert_eq!(
            at(None).expect("address").as_str(),
            "http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01\
             &resource=https%3A%2F%2Fvault.azure.net&client_id=a+b"
        );
        for good in ["http://127.0.0.1:8080", "https://identity.example"] {
            assert!(at(Some(good)).is_ok(), "{good}");
        }
        for bad in ["http://identity.example", "http://10.0.0.1", "http://localhost", "http://[::1]"] {
            assert!(matches!(at(Some(bad)), Err(ConfigError::PlaintextIdentity)), "{bad}");
        }
    }

    #[test]
    fn the_platform_of_an_app_says_where_its_tokens_are() {
        let at = |endpoint| app_endpoint(endpoint, "https://vault.azure.net", None);
        let query = "?api-version=2019-08-01&resource=https%3A%2F%2Fvault.azure.net";
        for (said, asked) in [
            ("http://169.254.129.5:8081/msi/token", "http://169.254.129.5:8081/msi/token"),
            ("http://localhost:42356/msi/token/", "http://127.0.0.1:42356/msi/token/"),
        ] {
            assert_eq!(at(said).expect("address").as_str(), format!("{asked}{query}"));
        }
        for bad in ["http://identity.example/msi/token", "http://10.0.0.1/msi/token"] {
            assert!(matches!(at(bad), Err(ConfigError::PlaintextIdentity)), "{bad}");
        }
        assert!(matches!(at("msi/token"), Err(ConfigError::AppIdentity { .. })));
    }
}
