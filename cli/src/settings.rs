//! Where to connect, and as whom: options, then the environment, then the file, then the agent's socket.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use bursar_core::settings::{self, Section};
use bursar_sdk::Address;
use clap::Args;

use crate::error::Error;

/// Options that every command takes. Environment variables are read by clap, where an option is not given. Paths are
/// taken as plain text, since clap would refuse an empty one, and a variable set to nothing counts as not set.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ConnectionArguments {
    /// Where to connect: `https://HOST:PORT` of a broker or `unix:///PATH` of an agent
    #[arg(long, global = true, env = "BURSAR_ADDRESS", hide_env_values = true, help_heading = HEADING)]
    address: Option<String>,
    /// The certificate authority of the broker, in PEM
    #[arg(long, global = true, env = "BURSAR_CA", value_name = "FILE", hide_env_values = true, help_heading = HEADING)]
    ca: Option<OsString>,
    /// Your certificate, in PEM
    #[arg(long, global = true, env = "BURSAR_CERT", value_name = "FILE", hide_env_values = true, help_heading = HEADING)]
    cert: Option<OsString>,
    /// The key of your certificate, in PEM
    #[arg(long, global = true, env = "BURSAR_KEY", value_name = "FILE", hide_env_values = true, help_heading = HEADING)]
    key: Option<OsString>,
    /// A token to present instead of a certificate, read anew for each call
    #[arg(long, global = true, env = "BURSAR_TOKEN_FILE", value_name = "FILE", hide_env_values = true, help_heading = HEADING)]
    token_file: Option<OsString>,
}

/// Where to connect, and as whom: decided and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) address: Address,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) identity: Option<IdentityFiles>,
    pub(crate) token_file: Option<PathBuf>,
    /// The file that was read, if there is one.
    pub(crate) file: Option<PathBuf>,
}

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IdentityFiles {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

/// The folders that the environment names.
#[derive(Debug, Default)]
pub(crate) struct Folders {
    /// `$XDG_CONFIG_HOME`, or `$HOME/.config`.
    config: Option<PathBuf>,
    /// `$XDG_RUNTIME_DIR`.
    runtime: Option<PathBuf>,
}

impl Settings {
    /// Decides.
    ///
    /// # Errors
    /// [`Error::Configuration`] with every fault of the file, [`Error::Address`], [`Error::HalfAnIdentity`],
    /// [`Error::TokenForAgent`].
    pub(crate) fn decide(arguments: ConnectionArguments, folders: &Folders) -> Result<Self, Error> {
        let path = folders.config.as_ref().map(|folder| folder.join("bursar").join("config.toml"));
        let (in_file, file) = match path {
            Some(path) => match read(&path)? {
                Some(in_file) => (in_file, Some(path)),
                None => (InFile::default(), None),
            },
            None => (InFile::default(), None),
        };
        let address = match filled(arguments.address) {
            Some(text) => Address::parse(&text)?,
            None => in_file.address.unwrap_or_else(|| Address::unix(agent_socket(folders))),
        };
        // A certificate and a key belong together, so they come from one place.
        let typed = (filled_path(arguments.cert), filled_path(arguments.key));
        let identity = match typed {
            (None, None) => (in_file.cert, in_file.key),
            typed => typed,
        };
        let identity = match identity {
            (Some(cert), Some(key)) => Some(IdentityFiles { cert, key }),
            (None, None) => None,
            _ => return Err(Error::HalfAnIdentity),
        };
        let token_file = filled_path(arguments.token_file).or(in_file.token_file);
        // An agent would not look at it, and answer as to whoever it sees.
        if token_file.is_some() && address.socket().is_some() {
            return Err(Error::TokenForAgent);
        }
        Ok(Self { address, ca: filled_path(arguments.ca).or(in_file.ca), identity, token_file, file })
    }
}

impl Folders {
    /// As the environment has them.
    #[expect(clippy::disallowed_methods, reason = "this is where the command line's configuration is read")]
    pub(crate) fn of_environment() -> Self {
        let folder = |name| std::env::var_os(name).map(PathBuf::from).filter(|folder| folder.is_absolute());
        Self {
            config: folder("XDG_CONFIG_HOME").or_else(|| Some(folder("HOME")?.join(".config"))),
            runtime: folder("XDG_RUNTIME_DIR"),
        }
    }
}

/// What a file says.
#[derive(Debug, Default)]
struct InFile {
    address: Option<Address>,
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    token_file: Option<PathBuf>,
}

fn read(path: &Path) -> Result<Option<InFile>, Error> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::Unreadable { path: path.to_owned(), source }),
    };
    let folder = path.parent().unwrap_or(Path::new("/"));
    // A path in a file is seen from where the file is.
    let inside = |file: Option<PathBuf>| file.map(|file| folder.join(file));
    let content = |root: &mut Section<'_>| {
        let address = root.parsed("address", Address::parse);
        let (ca, cert, key) = (root.path("ca"), root.path("cert"), root.path("key"));
        let token_file = inside(root.path("token_file"));
        if cert.is_some() != key.is_some() {
            root.fault::<()>("cert", "and `key` have to be given together".to_owned());
        }
        Some(InFile { address, ca: inside(ca), cert: inside(cert), key: inside(key), token_file })
    };
    let read = settings::read(&text, content);
    read.map(Some).map_err(|faults| Error::Configuration { path: path.to_owned(), faults })
}

/// The user's own agent where one runs, else the machine's.
fn agent_socket(folders: &Folders) -> PathBuf {
    let own = folders.runtime.as_ref().map(|folder| folder.join("bursar").join("agent.sock"));
    own.filter(|path| path.exists()).unwrap_or_else(|| PathBuf::from(AGENT_SOCKET))
}

fn filled(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn filled_path(path: Option<OsString>) -> Option<PathBuf> {
    path.filter(|path| !path.is_empty()).map(PathBuf::from)
}

const AGENT_SOCKET: &str = "/run/bursar/agent.sock";
const HEADING: &str = "Connection";

#[cfg(test)]
mod tests {
    use super::*;

    struct Home {
        place: tempfile::TempDir,
    }

    impl Home {
        fn new(config: &str) -> Self {
            let place = tempfile::tempdir().expect("directory");
            let folder = place.path().join("bursar");
            std::fs::create_dir(&folder).expect("folder");
            if !config.is_empty() {
                std::fs::write(folder.join("config.toml"), config).expect("file");
            }
            Self { place }
        }

        fn decide(&self, arguments: ConnectionArguments) -> Result<Settings, Error> {
            let folder = Some(self.place.path().to_owned());
            Settings::decide(arguments, &Folders { config: folder.clone(), runtime: folder })
        }
    }

    fn typed(address: &str) -> ConnectionArguments {
        ConnectionArguments { address: Some(address.to_owned()), ..Default::default() }
    }

    #[test]
    fn an_option_wins_over_the_file() {
        let home = Home::new("address = 'https://file:1'\n");
        let settings = home.decide(typed("https://option:1")).expect("settings");
        assert_eq!(settings.address.to_string(), "https://option:1");
    }

    #[test]
    fn an_empty_variable_counts_as_not_set() {
        let home = Home::new("address = 'https://file:1'\n");
        let nothing = ConnectionArguments { ca: Some(OsString::new()), ..typed("") };
        let settings = home.decide(nothing).expect("settings");
        assert_eq!((settings.address.to_string().as_str(), settings.ca), ("https://file:1", None));
    }

    #[test]
    fn without_anything_it_is_the_agent() {
        let settings = Home::new("").decide(ConnectionArguments::default()).expect("settings");
        assert_eq!(settings.address.to_string(), "unix:///run/bursar/agent.sock");
        assert_eq!(settings.file, None);
    }

    #[test]
    fn the_users_own_agent_comes_before_the_machines() {
        let home = Home::new("");
        let socket = home.place.path().join("bursar").join("agent.sock");
        std::fs::write(&socket, "").expect("file");
        let settings = home.decide(ConnectionArguments::default()).expect("settings");
        assert_eq!(settings.address, Address::unix(socket));
    }

    #[test]
    fn paths_in_the_file_are_seen_from_the_file() {
        let home = Home::new("ca = 'ca.pem'\ncert = 'me.crt'\nkey = '/etc/me.key'\n");
        let settings = home.decide(ConnectionArguments::default()).expect("settings");
        let folder = home.place.path().join("bursar");
        assert_eq!(settings.ca, Some(folder.join("ca.pem")));
        let identity = IdentityFiles { cert: folder.join("me.crt"), key: PathBuf::from("/etc/me.key") };
        assert_eq!(settings.identity, Some(identity));
    }

    #[test]
    fn a_typed_certificate_does_not_meet_the_key_of_the_file() {
        let home = Home::new("cert = 'me.crt'\nkey = 'me.key'\n");
        let arguments = ConnectionArguments { cert: Some("other.crt".into()), ..Default::default() };
        assert!(matches!(home.decide(arguments), Err(Error::HalfAnIdentity)));
    }

    #[test]
    fn a_token_is_for_a_broker() {
        let home = Home::new("token_file = 'token'\n");
        let settings = home.decide(typed("https://broker")).expect("settings");
        assert_eq!(settings.token_file, Some(home.place.path().join("bursar").join("token")));
        assert!(matches!(home.decide(ConnectionArguments::default()), Err(Error::TokenForAgent)));
    }

    #[test]
    fn every_fault_of_the_file_is_named() {
        let error = Home::new("adress = 'x'\naddress = 'http://broker'\ncert = 'c'\n")
            .decide(ConnectionArguments::default())
            .expect_err("faults")
            .to_string();
        for part in ["3 faults", "adress: ", "address: ", "cert: "] {
            assert!(error.contains(part), "no `{part}` in {error}");
        }
    }
}
