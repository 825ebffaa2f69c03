//! Who gives people their tokens, for `bursar token`: options, then the environment, then `[token]` of the file.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use bursar_core::settings::Section;
use clap::{Args, ValueEnum};
use reqwest::Url;

use super::{Folders, InFile, filled, filled_path};
use crate::error::Error;

/// Options of whoever gets a token.
#[derive(Debug, Default, Args)]
pub(crate) struct IssuerArguments {
    /// Who gives the token, to the letter as its `iss` says: `https://HOST[/PATH]`
    #[arg(long, env = "BURSAR_ISSUER", value_name = "URL", hide_env_values = true)]
    issuer: Option<String>,
    /// What Bursar is called there: a public client to which the device grant is allowed
    #[arg(long, env = "BURSAR_CLIENT_ID", value_name = "ID", hide_env_values = true)]
    client_id: Option<String>,
    /// What to ask for, such as `openid groups`; `openid` when not given
    #[arg(long, value_name = "WORDS")]
    scope: Option<String>,
    /// Whom the token is for, at issuers that take it as `audience`
    #[arg(long, value_name = "TEXT")]
    audience: Option<String>,
    /// Which of the tokens that are given speaks to the broker
    #[arg(long = "use", value_enum, value_name = "WHICH")]
    which: Option<Use>,
    /// The certificate authority of the issuer, in PEM; the system's when not given
    #[arg(long, env = "BURSAR_ISSUER_CA", value_name = "FILE", hide_env_values = true)]
    issuer_ca: Option<OsString>,
}

/// One of the tokens that an issuer gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Use {
    /// Says to the client who signed in
    #[default]
    IdToken,
    /// Is for others than the client; has to be a JSON Web Token
    AccessToken,
}

/// Who gives a token, and what to ask for: decided and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IssuerSettings {
    /// As it was written: what the issuer says of itself has to be the same.
    pub(crate) issuer: String,
    pub(crate) url: Url,
    pub(crate) client_id: String,
    pub(crate) scope: String,
    pub(crate) audience: Option<String>,
    pub(crate) which: Use,
    pub(crate) ca: Option<PathBuf>,
}

/// What the file says.
#[derive(Debug, Default)]
pub(super) struct IssuerInFile {
    issuer: Option<String>,
    client_id: Option<String>,
    scope: Option<String>,
    audience: Option<String>,
    which: Option<Use>,
    ca: Option<PathBuf>,
}

impl IssuerSettings {
    /// Decides.
    ///
    /// # Errors
    /// [`Error::Configuration`], [`Error::NoIssuer`], [`Error::IssuerAddress`].
    pub(crate) fn decide(arguments: IssuerArguments, folders: &Folders) -> Result<Self, Error> {
        let (InFile { issuer: in_file, .. }, _) = InFile::of(folders)?;
        let issuer = filled(arguments.issuer).or(in_file.issuer).ok_or(Error::NoIssuer("an issuer"))?;
        let client_id = filled(arguments.client_id).or(in_file.client_id);
        Ok(Self {
            url: address(&issuer).ok_or(Error::IssuerAddress)?,
            issuer,
            client_id: client_id.ok_or(Error::NoIssuer("a client id"))?,
            scope: filled(arguments.scope).or(in_file.scope).unwrap_or_else(|| SCOPE.to_owned()),
            audience: filled(arguments.audience).or(in_file.audience),
            which: arguments.which.or(in_file.which).unwrap_or_default(),
            ca: filled_path(arguments.issuer_ca).or(in_file.ca),
        })
    }
}

impl IssuerInFile {
    pub(super) fn read(section: &mut Section<'_>, folder: &Path) -> Self {
        let which =
            |text: &str| Use::from_str(text, false).map_err(|_| "must be `id_token` or `access_token`");
        Self {
            issuer: section.text("issuer"),
            client_id: section.text("client_id"),
            scope: section.text("scope"),
            audience: section.text("audience"),
            which: section.parsed("use", which),
            ca: section.path("ca").map(|ca| folder.join(ca)),
        }
    }
}

/// An address that credentials may be sent to and come from.
pub(crate) fn address(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok().filter(|url| url.scheme() == "https" && url.host().is_some())?;
    let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    plain.then_some(url)
}

const SCOPE: &str = "openid";

#[cfg(test)]
mod tests {
    use super::*;

    fn folders(config: &str) -> (tempfile::TempDir, Folders) {
        let place = tempfile::tempdir().expect("directory");
        let folder = place.path().join("bursar");
        std::fs::create_dir(&folder).expect("folder");
        std::fs::write(folder.join("config.toml"), config).expect("file");
        let folders = Folders { config: Some(place.path().to_owned()), ..Folders::default() };
        (place, folders)
    }

    #[test]
    fn options_win_over_the_file_and_paths_in_it_are_seen_from_it() {
        let (place, folders) = folders(
            "[token]\nissuer = 'https://login.example.org/realms/acme'\nclient_id = 'bursar'\n\
             scope = 'openid groups'\nuse = 'access_token'\nca = 'ca.pem'\n",
        );
        let arguments = IssuerArguments { client_id: Some("other".to_owned()), ..Default::default() };
        let settings = IssuerSettings::decide(arguments, &folders).expect("settings");
        assert_eq!((settings.client_id.as_str(), settings.scope.as_str()), ("other", "openid groups"));
        assert_eq!((settings.which, settings.audience), (Use::AccessToken, None));
        assert_eq!(settings.ca, Some(place.path().join("bursar").join("ca.pem")));
    }

    #[test]
    fn an_issuer_is_needed_and_speaks_tls() {
        let (_place, folders) = folders("");
        let decide = |issuer: &str| {
            let issuer = Some(issuer.to_owned());
            let arguments = IssuerArguments { issuer, client_id: Some("b".to_owned()), ..Default::default() };
            IssuerSettings::decide(arguments, &folders)
        };
        assert!(decide("https://login.example.org").is_ok());
        assert!(matches!(decide(""), Err(Error::NoIssuer("an issuer"))));
        for bad in ["http://login.example.org", "login", "https://", "https://u:p@login", "https://login#x"] {
            assert!(matches!(decide(bad), Err(Error::IssuerAddress)), "{bad}");
        }
    }

    #[test]
    fn a_kind_of_token_that_is_none_is_a_fault_of_the_file() {
        let (_place, folders) = folders("[token]\nuse = 'refresh_token'\n");
        let fault = IssuerSettings::decide(IssuerArguments::default(), &folders).expect_err("a fault");
        assert!(fault.to_string().contains("token.use: must be `id_token` or `access_token`"), "{fault}");
    }
}
