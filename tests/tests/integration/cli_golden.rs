//! What `bursar` says, word for word: its help, its errors with hint and exit code, and the names of its JSON fields,
//! which programs rely on.
//!
//! The texts are files beside this one. When a text changes on purpose, remove its file: the next run writes it anew and
//! fails once, so that somebody reads it.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use bursar_tests::{Broker, binary};
use tempfile::TempDir;

#[test]
fn help_is_as_it_was() -> Result<()> {
    let place = Place::new()?;
    // Options of every command, in the two forms that they are shown in; the first help text has them.
    let shared = [shared_options(&place, "get")?, shared_options(&place, "version")?];
    let mut said = String::new();
    let mut waiting = vec![String::new()];
    while let Some(command) = waiting.pop() {
        let words: Vec<&str> = command.split(' ').filter(|word| !word.is_empty()).collect();
        let output = place.bursar(&[&words, ["--help"].as_slice()].concat())?;
        let help = text(&output.stdout);
        ensure!(output.status.success(), "`bursar{command} --help` failed");
        let inner = subcommands(&help).map(|name| format!("{command} {name}"));
        waiting.extend(inner.collect::<Vec<_>>().into_iter().rev());
        let mut shown = help;
        for shared in shared.iter().filter(|_| !words.is_empty()) {
            shown = shown.replace(shared, "  (and those of every command)");
        }
        writeln!(said, "$ bursar{command} --help\n{shown}")?;
    }
    golden("help", &said)
}

#[test]
fn errors_before_any_connection_are_as_they_were() -> Result<()> {
    let place = Place::new()?;
    place.write("open.key", "key")?;
    place.write("me.crt", "certificate")?;
    place.write("ca.pem", "certificate")?;
    place.write("export.jsonl", "{\"seq\":0}\n{\"seq\":1}\n")?;
    place.write("policies/README.md", "no policy")?;
    let cases: &[&[&str]] = &[
        &["get", "local/db", "--output", "json"],
        &["get", "local"],
        &["get", "local/db#a#b"],
        &["--address", "http://broker:8443", "status"],
        &["--address", "https://127.0.0.1:1", "status"],
        &["--address", "https://127.0.0.1:1", "--ca", "ca.pem", "status"],
        &["--address", "https://127.0.0.1:1", "--ca", "nowhere.pem", "status"],
        &["--address", "https://127.0.0.1:1", "--ca", "ca.pem", "--cert", "me.crt", "status"],
        &[
            "--address",
            "https://127.0.0.1:1",
            "--ca",
            "ca.pem",
            "--cert",
            "me.crt",
            "--key",
            "open.key",
            "status",
        ],
        &["--address", "https://127.0.0.1:1", "--token-file", "token", "--token-command", "mine", "status"],
        &["--address", "https://127.0.0.1:1", "--token-command", "mine 'a", "status"],
        &["--token-command", "mine", "status"],
        &["token"],
        &["token", "--issuer", "http://login", "--client-id", "bursar"],
        &["token", "--issuer", "https://127.0.0.1:1", "--client-id", "bursar", "--issuer-ca", "nowhere.pem"],
        &["token", "--issuer", "https://127.0.0.1:1", "--client-id", "bursar"],
        &["token", "--issuer", "https://127.0.0.1:1", "--client-id", "bursar", "--output", "json"],
        &["run", "--env", "shop"],
        &["run", "--env", "shop", "--ttl", "soon", "--", "true"],
        &["run", "--env", "shop", "--", "true"],
        &["run", "--env", "shop", "--offline", "--", "true"],
        &["run", "--env", "shop", "--offline", "--on-change", "restart", "--", "true"],
        &["offline", "keep", "shop"],
        &["offline", "list"],
        &["offline", "forget"],
        &["secret", "put", "local/db", "hunter2"],
        &["secret", "put", "local/db#field"],
        &["secret", "put", "local/db", "--from-file", "nowhere"],
        &["lease", "show", "17"],
        &["lease", "revoke-many", "--reason", "x"],
        &["lease", "revoke-many", "--reason", "x", "--path", ""],
        &["env", "apply", "nowhere.toml"],
        &["policy", "apply", "policies"],
        &["audit", "query", "--action", "raed"],
        &["audit", "query", "--since", "yesterday"],
        &["audit", "verify", "nowhere.jsonl"],
        &["audit", "verify", "export.jsonl"],
        &["audit", "verify", "export.jsonl", "--verifier-key", "nonsense"],
    ];
    golden("errors", &place.said(cases)?)
}

#[test]
fn a_faulty_configuration_names_every_fault_and_keeps_nobody_from_working_offline() -> Result<()> {
    let place = Place::new()?;
    place.write("config/bursar/config.toml", "adress = 'x'\naddress = 'http://broker'\ncert = 'me.crt'\n")?;
    place.write("export.jsonl", "{\"seq\":0}\n")?;
    golden("configuration", &place.said(&[&["status"], &["audit", "verify", "export.jsonl"], &["version"]])?)
}

#[test]
fn refusals_of_a_broker_are_as_they_were() -> Result<()> {
    let broker = Broker::start(LOCAL)?;
    let place = Place::new()?.administering(&broker);
    place.write("bad.toml", "[environment.\"shop\".vars]\nA = 1\nB = { from = \"local\" }\n")?;
    place.write("shop.toml", "[environment.\"shop\".vars]\nA = { from = \"local/a\" }\n")?;
    place.write("policies/bad.cedar", "permit (principal, action == Bursar::Action::\"raed\", resource);")?;
    let cases: &[&[&str]] = &[
        &["get", "local/db"],
        &["lease", "show", "01ARZ3NDEKTSV4RRFFQ69G5FAV"],
        &["lease", "renew", "01ARZ3NDEKTSV4RRFFQ69G5FAV"],
        &["lease", "revoke", "01ARZ3NDEKTSV4RRFFQ69G5FAV"],
        &["lease", "revoke-many", "--path", "local", "--reason", "x"],
        &["env", "apply", "bad.toml"],
        &["env", "apply", "shop.toml"],
        &["env", "check", "shop"],
        &["run", "--env", "shop", "--", "true"],
        &["env", "get", "nowhere"],
        &["policy", "apply", "policies"],
        &["policy", "approve", "spiffe://example.org/user/admin", "read", "local/a", "--reason", "x"],
        &["policy", "approve", "spiffe://example.org/user/ada", "expire", "local/a", "--reason", "x"],
        &["policy", "approve", "spiffe://example.org/user/ada", "read", "local", "--reason", "x"],
        &["policy", "withdraw", "01ARZ3NDEKTSV4RRFFQ69G5FAV"],
        &["policy", "withdraw", "first"],
        &["node", "evict", "nowhere", "--reason", "x", "--yes"],
        &["secret", "list", "nowhere"],
    ];
    golden("refusals", &place.said(cases)?)
}

#[test]
fn a_broker_that_is_not_trusted_or_does_not_trust_is_told_apart() -> Result<()> {
    let (broker, other) = (Broker::start(LOCAL)?, Broker::start(LOCAL)?);
    let mut said = String::new();
    let mut place = Place::new()?.administering(&broker);
    place.set("BURSAR_CA", &other.bootstrap("ca.pem").display().to_string());
    writeln!(said, "# another broker's authority\n{}", place.said(&[&["status"]])?)?;
    let mut place = Place::new()?.administering(&broker);
    place.set("BURSAR_CERT", &other.bootstrap("admin.crt").display().to_string());
    place.set("BURSAR_KEY", &other.bootstrap("admin.key").display().to_string());
    writeln!(said, "# another broker's certificate\n{}", place.said(&[&["status"]])?)?;
    let mut place = Place::new()?.administering(&broker);
    place.set("BURSAR_CERT", "");
    place.set("BURSAR_KEY", "");
    writeln!(said, "# no certificate\n{}", place.said(&[&["status"]])?)?;
    golden("trust", &said)
}

#[test]
fn the_names_of_json_fields_are_as_they_were() -> Result<()> {
    let broker = Broker::start(LOCAL)?;
    let place = Place::new()?.administering(&broker);
    place.write("shop.toml", "[environment.\"shop\".vars]\nA = \"b\"\n")?;
    let mut names = String::new();
    for arguments in [
        ["status"].as_slice(),
        &["backend", "list"],
        &["env", "apply", "shop.toml"],
        &["env", "list"],
        &["policy", "get"],
        &["policy", "check", "--principal", "spiffe://example.org/user/ada", "--action", "read", "local/a"],
        &["policy", "approve", "spiffe://example.org/user/ada", "read", "local/a", "--reason", "x"],
        &["policy", "approvals"],
        &["audit", "query", "--limit", "1"],
        &["audit", "checkpoint"],
        &["audit", "verify"],
        &["lease", "revoke-many", "--path", "local", "--reason", "x", "--dry-run"],
        &["version"],
    ] {
        let output = place.bursar(&[arguments, &["--output", "json"]].concat())?;
        let json = serde_json::from_slice::<serde_json::Value>(&output.stdout);
        let json = json.with_context(|| format!("`bursar {}` wrote no JSON", arguments.join(" ")))?;
        let thing = json.as_array().and_then(|list| list.first()).unwrap_or(&json);
        let fields: Vec<_> = thing.as_object().context("no object")?.keys().cloned().collect();
        writeln!(names, "{}: {}", arguments.join(" "), fields.join(", "))?;
    }
    golden("json", &names)
}

/// A directory to type commands in, without anything of the surroundings.
struct Place {
    directory: TempDir,
    variables: Vec<(String, String)>,
}

impl Place {
    fn new() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("bursar-cli-").tempdir()?;
        let folder = |name: &str| directory.path().join(name).display().to_string();
        let variables = vec![
            ("XDG_CONFIG_HOME".to_owned(), folder("config")),
            ("XDG_CACHE_HOME".to_owned(), folder("cache")),
            ("PATH".to_owned(), "/usr/bin:/bin".to_owned()),
            ("BURSAR_ADDRESS".to_owned(), format!("unix://{}/agent.sock", directory.path().display())),
        ];
        Ok(Self { directory, variables })
    }

    /// As the administrator of `broker`.
    fn administering(mut self, broker: &Broker) -> Self {
        let file = |name| broker.bootstrap(name).display().to_string();
        self.set("BURSAR_ADDRESS", &broker.address());
        self.set("BURSAR_CA", &file("ca.pem"));
        self.set("BURSAR_CERT", &file("admin.crt"));
        self.set("BURSAR_KEY", &file("admin.key"));
        self
    }

    fn set(&mut self, name: &str, value: &str) {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    fn write(&self, name: &str, content: &str) -> Result<()> {
        let path = self.directory.path().join(name);
        fs::create_dir_all(path.parent().context("no folder")?)?;
        fs::write(&path, content)?;
        // The mode that a careless umask leaves: what is to be private has to say so.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        Ok(fs::set_permissions(&path, open)?)
    }

    fn bursar(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(binary("bursar")?);
        command.env_clear().envs(self.variables.iter().cloned()).current_dir(self.directory.path());
        command.args(arguments).stdin(Stdio::null());
        Ok(command.output()?)
    }

    /// Each command, what it says, and its exit code, without what differs from run to run.
    fn said(&self, cases: &[&[&str]]) -> Result<String> {
        let mut said = String::new();
        for arguments in cases {
            let output = self.bursar(arguments)?;
            let words: Vec<_> = arguments.iter().map(|word| quoted(word)).collect();
            writeln!(said, "$ bursar {}", words.join(" "))?;
            write!(said, "{}{}", text(&output.stdout), text(&output.stderr))?;
            writeln!(said, "exit code {}\n", output.status.code().context("ended by a signal")?)?;
        }
        Ok(self.steady(&said))
    }

    /// Replaces directories, ports and request ids.
    fn steady(&self, said: &str) -> String {
        let said = said.replace(&self.directory.path().display().to_string(), "DIRECTORY");
        let address = self.variables.iter().find(|(name, _)| name == "BURSAR_ADDRESS");
        let address =
            address.map(|(_, address)| address.as_str()).filter(|text| text.starts_with("https://"));
        let said = address.map_or(said.clone(), |address| said.replace(address, "https://BROKER"));
        let lines = said.lines().map(|line| match line.strip_prefix("request id: ") {
            Some(_) => "request id: ID",
            None => line,
        });
        lines.map(|line| format!("{}\n", line.trim_end())).collect()
    }
}

/// Compares `said` with the file of that name.
fn golden(name: &str, said: &str) -> Result<()> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(GOLDEN).join(format!("{name}.txt"));
    let shown = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap_or(&path).display().to_string();
    if !path.exists() {
        fs::write(&path, said)?;
        anyhow::bail!("`{shown}` was not there and is written now: read it, and run the test again");
    }
    let wanted = fs::read_to_string(&path)?;
    let differing = wanted.lines().zip(said.lines()).position(|(wanted, said)| wanted != said);
    let place = differing.unwrap_or(wanted.lines().count().min(said.lines().count()));
    let line = |text: &str| text.lines().nth(place).unwrap_or("(the end)").to_owned();
    ensure!(
        wanted == said,
        "`{shown}` has another line {}:\n  there: {}\n  now:   {}\nif that is meant, remove the file and run again",
        place + 1,
        line(&wanted),
        line(said)
    );
    Ok(())
}

/// What the help of `command` says of options that every command has.
fn shared_options(place: &Place, command: &str) -> Result<String> {
    let help = text(&place.bursar(&[command, "--help"])?.stdout);
    let from = help.find("  -o, --output").context("no shared options")?;
    let shared = help.get(from..).unwrap_or_default();
    let end = shared.find("\n\nExamples").unwrap_or(shared.trim_end().len());
    Ok(shared.get(..end).unwrap_or_default().to_owned())
}

/// The commands that a help text lists.
fn subcommands(help: &str) -> impl Iterator<Item = &str> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| !line.is_empty());
    let names = listed.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn quoted(word: &str) -> String {
    if word.is_empty() || word.contains(' ') { format!("'{word}'") } else { word.to_owned() }
}

/// From the directory of this crate.
const GOLDEN: &str = "tests/integration/cli_golden";
const LOCAL: &str = "[backends.local]\nkind = 'local'\n";
