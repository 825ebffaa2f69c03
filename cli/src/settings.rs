//! Where to connect, and as whom: options, then the environment, then the file, then the agent's socket.

mod issuer;
mod offline;
mod words;

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use bursar_core::settings::{self, Section};
use bursar_sdk::Address;
use clap::Args;

use self::issuer::IssuerInFile;
pub(crate) use self::issuer::{IssuerArguments, IssuerSettings, Use, address};
pub(crate) use self::offline::OfflineArguments;
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
    /// A command that writes a token to present instead of a certificate, such as `bursar token`; no shell reads it
    #[arg(long, global = true, env = "BURSAR_TOKEN_COMMAND", value_name = "COMMAND", hide_env_values = true, help_heading = HEADING)]
    token_command: Option<String>,
}

/// Where to connect, and as whom: decided and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) address: Address,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) identity: Option<IdentityFiles>,
    pub(crate) token: Option<TokenPlace>,
    /// The file that was read, if there is one.
    pub(crate) file: Option<PathBuf>,
}

/// Where the token comes from that is presented instead of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TokenPlace {
    File(PathBuf),
    /// Run as it is, by no shell.
    Command {
        program: String,
        arguments: Vec<String>,
    },
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
    /// `$XDG_CACHE_HOME`, or `$HOME/.cache`.
    cache: Option<PathBuf>,
}

impl Settings {
    /// Decides.
    ///
    /// # Errors
    /// [`Error::Configuration`] with every fault of the file, [`Error::Address`], [`Error::HalfAnIdentity`],
    /// [`Error::TwoTokens`], [`Error::Usage`] for a command that is none.
    pub(crate) fn decide(arguments: ConnectionArguments, folders: &Folders) -> Result<Self, Error> {
        let (in_file, file) = InFile::of(folders)?;
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
        let command =
            filled(arguments.token_command).map(|command| words::split(&command).and_then(TokenPlace::run));
        let command =
            command.transpose().map_err(|what| Error::Usage(format!("the token command {what}")))?;
        // As with a certificate: what is typed stands for all that the file says.
        let token = match (filled_path(arguments.token_file), command) {
            (Some(_), Some(_)) => return Err(Error::TwoTokens),
            (Some(file), None) => Some(TokenPlace::File(file)),
            (None, Some(command)) => Some(command),
            (None, None) => in_file.token,
        };
        Ok(Self { address, ca: filled_path(arguments.ca).or(in_file.ca), identity, token, file })
    }
}

impl TokenPlace {
    /// The first word is the program.
    fn run(words: Vec<String>) -> Result<Self, &'static str> {
        let mut words = words.into_iter();
        let program = words.next().filter(|program| !program.is_empty()).ok_or("names no program")?;
        Ok(Self::Command { program, arguments: words.collect() })
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
            cache: folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache"))),
        }
    }

    /// The folder for what a user has while logged in, if there is one.
    pub(crate) fn runtime(&self) -> Option<&Path> {
        self.runtime.as_deref()
    }

    /// The folder for what could be made anew, if there is one.
    pub(crate) fn cache(&self) -> Option<&Path> {
        self.cache.as_deref()
    }
}

/// What a file says.
#[derive(Debug, Default)]
struct InFile {
    address: Option<Address>,
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    token: Option<TokenPlace>,
    issuer: IssuerInFile,
    offline_identity: Option<PathBuf>,
}

impl InFile {
    /// What the file says, and which it is, if there is one.
    fn of(folders: &Folders) -> Result<(Self, Option<PathBuf>), Error> {
        let path = folders.config.as_ref().map(|folder| folder.join("bursar").join("config.toml"));
        match path.as_deref().map(read).transpose()?.flatten() {
            Some(in_file) => Ok((in_file, path)),
            None => Ok((Self::default(), None)),
        }
    }
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
        let (token_file, token_command) = (inside(root.path("token_file")), root.texts("token_command"));
        if cert.is_some() != key.is_some() {
            root.fault::<()>("cert", "and `key` have to be given together".to_owned());
        }
        if token_file.is_some() && !token_command.is_empty() {
            root.fault::<()>("token_file", "and `token_command` exclude each other".to_owned());
        }
        let command = (!token_command.is_empty()).then(|| TokenPlace::run(token_command)).transpose();
        let command = command.unwrap_or_else(|what| root.fault("token_command", what.to_owned()));
        let token = token_file.map(TokenPlace::File).or(command);
        let issuer = root.section("token", |section| IssuerInFile::read(section, folder));
        let offline_identity = inside(root.path("offline_identity"));
        let (ca, cert, key) = (inside(ca), inside(cert), inside(key));
        Some(InFile { address, ca, cert, key, token, issuer, offline_identity })
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
            Settings::decide(arguments, &Folders { config: folder.clone(), runtime: folder, cache: None })
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
    fn a_token_is_for_a_broker_or_an_agent() {
        let home = Home::new("token_file = 'token'\n");
        let settings = home.decide(typed("https://broker")).expect("settings");
        assert_eq!(settings.token, Some(TokenPlace::File(home.place.path().join("bursar").join("token"))));
        let settings = home.decide(ConnectionArguments::default()).expect("settings");
        assert!(settings.token.is_some() && settings.address.socket().is_some());
    }

    #[test]
    fn a_token_command_is_words_in_an_option_and_a_list_in_the_file() {
        let home = Home::new("token_command = ['bursar', 'token']\n");
        let command = |words: &[&str]| TokenPlace::run(words.iter().map(ToString::to_string).collect()).ok();
        assert_eq!(
            home.decide(typed("https://broker")).expect("settings").token,
            command(&["bursar", "token"])
        );
        let option =
            ConnectionArguments { token_command: Some("mine 'a b'".to_owned()), ..typed("https://broker") };
        assert_eq!(home.decide(option).expect("settings").token, command(&["mine", "a b"]));
        let file = ConnectionArguments { token_file: Some("t".into()), ..typed("https://broker") };
        assert_eq!(home.decide(file.clone()).expect("settings").token, Some(TokenPlace::File("t".into())));
        let both = ConnectionArguments { token_command: Some("mine".to_owned()), ..file };
        assert!(matches!(home.decide(both), Err(Error::TwoTokens)));
        let open =
            ConnectionArguments { token_command: Some("mine 'a".to_owned()), ..typed("https://broker") };
        assert!(matches!(home.decide(open), Err(Error::Usage(_))));
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
