//! People: who gets a token from a login by the device grant, and presents it by a file or a command.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use bursar_core::Clock;
use bursar_core::clock::SystemClock;
use bursar_tests::{
    Broker, Canary, Cli, DeviceAnswer, IssuerDoor, Said, TokenIssuer, binary, scan, scan_bytes, text,
};
use serde_json::{Value, json};
use tempfile::TempDir;

#[test]
fn a_person_approves_once_and_is_known_by_every_command() -> Result<()> {
    let site = Site::start()?;
    let token = site.issuer.token(&site.ada(600))?;
    let (code, refresh) = (Canary::alphanumeric("device code"), Canary::alphanumeric("refresh token"));
    let given = json!({ "id_token": token, "access_token": "opaque", "refresh_token": refresh.value() });
    site.grant(&code, vec![DeviceAnswer::error("authorization_pending"), DeviceAnswer::Json(200, given)]);

    let ada = site.person()?;
    let first = ada.run(&["token", "--scope", "openid groups", "--audience", "urn:a&b"])?;
    ensure!(first.code == Some(0), "{}", first.stderr);
    ensure!(first.stdout == format!("{token}\n").as_bytes(), "something else was written");
    let enter = format!("{}/enter", site.door.url());
    for shown in [&enter, "WDJB-MJHT", &format!("{enter}?code=WDJB-MJHT")] {
        ensure!(first.stderr.contains(shown), "`{shown}` is not shown: {}", first.stderr);
    }
    let codes = site.door.asked_for_codes();
    ensure!(codes == ["client_id=bursar&scope=openid%20groups&audience=urn%3Aa%26b"], "{codes:?}");
    let tokens = site.door.asked_for_tokens();
    let wanted = format!(
        "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code&client_id=bursar&device_code={}",
        code.value()
    );
    ensure!(tokens == [wanted.clone(), wanted], "{} questions", tokens.len());

    // The command asks nobody again, and is who it was.
    let same =
        ["--scope", "openid groups", "--audience", "urn:a&b"].map(|word| format!("'{word}'")).join(" ");
    let command = format!("'{}' token {same}", binary("bursar")?.display());
    let read = ada.run(&["get", "--token-command", &command, "local/db#password"])?;
    ensure!(read.code == Some(0) && read.stdout == b"hunter2-of-ada", "{}", read.stderr);
    ensure!(site.door.asked_for_codes().len() == 1, "somebody was asked again");
    let records = site.admin.audit(&["--principal", "spiffe://example.org/user/ada"])?;
    let record = records.first().context("no record")?;
    ensure!(text(record, "/actor/method") == "oidc", "{record}");

    // What is said and where the token is.
    let kept = ada.json(&["token", "--scope", "openid groups", "--audience", "urn:a&b"])?;
    let file = PathBuf::from(text(&kept, "/file"));
    ensure!(file.starts_with(site.runtime.path()) && text(&kept, "/expires_at").ends_with('Z'), "{kept}");
    ensure!(mode(&file)? == 0o600 && std::fs::read(&file)? == token.as_bytes(), "it is kept otherwise");
    ada.done(&["--token-file", &text(&kept, "/file"), "get", "local/db#password"])?;

    let secrets = [Canary::known("token", &token)?, code, refresh];
    let secrets: Vec<&Canary> = secrets.iter().collect();
    let said = [first.stderr, read.stderr].concat();
    let mut found = scan_bytes("what was said", said.as_bytes(), &secrets)?;
    found.extend(scan(site.broker.directory(), &secrets)?);
    ensure!(std::fs::read_dir(ada.path(""))?.next().is_none(), "something is left where the commands ran");
    std::fs::remove_file(&file)?;
    found.extend(scan(site.runtime.path(), &secrets)?);
    ensure!(found.is_empty(), "{found:?}");
    Ok(())
}

#[test]
fn commands_that_start_together_ask_a_person_once() -> Result<()> {
    let site = Site::start()?;
    let given = json!({ "id_token": site.issuer.token(&site.ada(600))? });
    site.grant(&Canary::alphanumeric("device code"), vec![DeviceAnswer::Json(200, given)]);
    let ada = site.person()?;
    let command = format!("'{}' token", binary("bursar")?.display());
    let start = || {
        let mut get = ada.command()?;
        get.args(["get", "--token-command", &command, "local/db#password"]);
        anyhow::Ok(get.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
    };
    for child in [start()?, start()?, start()?] {
        let output = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success() && output.stdout == b"hunter2-of-ada", "{said}");
    }
    ensure!(site.door.asked_for_codes().len() == 1, "{} codes", site.door.asked_for_codes().len());
    Ok(())
}

#[test]
fn a_token_that_ends_soon_is_asked_for_again_and_so_is_one_that_is_not_wanted() -> Result<()> {
    let site = Site::start()?;
    let given = |life| {
        anyhow::Ok(DeviceAnswer::Json(200, json!({ "id_token": site.issuer.token(&site.ada(life))? })))
    };
    site.grant(&Canary::alphanumeric("device code"), vec![given(50)?, given(600)?, given(700)?]);
    let ada = site.person()?;
    let tokens = [vec!["token"], vec!["token"], vec!["token"], vec!["token", "--new"]];
    let tokens = tokens.iter().map(|words| ada.done(words)).collect::<Result<Vec<_>>>()?;
    ensure!(
        tokens.first() != tokens.get(1) && tokens.get(1) == tokens.get(2),
        "one is kept too long or too briefly"
    );
    ensure!(tokens.get(2) != tokens.get(3) && site.door.asked_for_codes().len() == 3, "`--new` got none");
    Ok(())
}

#[test]
fn without_a_folder_in_memory_a_token_goes_where_it_is_told_and_nowhere_else() -> Result<()> {
    let site = Site::start()?;
    let token = site.issuer.token(&site.ada(600))?;
    let given = || DeviceAnswer::Json(200, json!({ "id_token": "opaque", "access_token": token }));
    site.grant(&Canary::alphanumeric("device code"), vec![given(), given()]);
    let mut ada = site.person()?;
    std::fs::set_permissions(site.runtime.path(), PermissionsExt::from_mode(0o755))?;
    for runtime in [site.runtime.path().to_owned(), ada.path("nowhere"), PathBuf::new()] {
        ada.set("XDG_RUNTIME_DIR", &runtime.display().to_string());
        let nowhere = ada.run(&["token", "--use", "access_token", "--output", "json"])?;
        nowhere.refused(78, &["there is nowhere to put the token", "--out FILE"])?;
    }
    ensure!(site.door.asked_for_codes().is_empty(), "somebody was asked for nothing");
    ada.done(&["token", "--use", "access_token", "--out", "mine"])?;
    let said = ada.run(&["token", "--use", "access_token"])?;
    ensure!(said.code == Some(0) && said.stderr.contains("the token is not kept"), "{}", said.stderr);
    ensure!(mode(&ada.path("mine"))? == 0o600 && std::fs::read(ada.path("mine"))? == token.as_bytes());
    ada.done(&["get", "--token-file", "mine", "local/db#password"])?;
    ensure!(std::fs::read_dir(site.runtime.path())?.next().is_none(), "something is kept all the same");
    Ok(())
}

#[test]
fn whatever_an_issuer_does_is_told_and_its_words_are_not() -> Result<()> {
    type Answers = fn(&str) -> (DeviceAnswer, DeviceAnswer);
    let cases: [(Answers, i32, &str); 14] = [
        (|url| (offer(url), DeviceAnswer::error("access_denied")), 77, "somebody declined"),
        (
            |url| (offer(url), DeviceAnswer::error("expired_token")),
            1,
            "nobody approved before the code ended",
        ),
        (
            |url| (DeviceAnswer::offer(url, "d", 2), DeviceAnswer::error("authorization_pending")),
            1,
            "nobody approved",
        ),
        (|url| (DeviceAnswer::offer(url, "d", 2), DeviceAnswer::Silence), 1, "nobody approved"),
        (|url| (offer(url), DeviceAnswer::error("words of the issuer")), 78, "a token has status 400"),
        (
            |url| (offer(url), DeviceAnswer::Page("<html>words of the issuer</html>")),
            78,
            "a token cannot be read",
        ),
        (
            |url| (offer(url), DeviceAnswer::Page("{\"id_token\": \"words of the")),
            78,
            "a token cannot be read",
        ),
        (
            |url| (offer(url), DeviceAnswer::Json(200, json!({ "access_token": "a" }))),
            78,
            "it gave no ID token",
        ),
        (
            |url| (offer(url), DeviceAnswer::Json(200, json!({ "id_token": "opaque" }))),
            78,
            "no JSON Web Token",
        ),
        (|url| (offer(url), DeviceAnswer::Redirect(format!("{url}/keys"))), 78, "a token has status 302"),
        (
            |_| (DeviceAnswer::error("invalid_client"), DeviceAnswer::Silence),
            78,
            "it refused: invalid_client",
        ),
        (|_| (DeviceAnswer::Huge(300_000), DeviceAnswer::Silence), 78, "it answered more than 262144 bytes"),
        (|_| (DeviceAnswer::Page("<html>"), DeviceAnswer::Silence), 78, "a code cannot be read"),
        (
            |_| (DeviceAnswer::offer("http://evil", "d", 9), DeviceAnswer::Silence),
            78,
            "a code cannot be read",
        ),
    ];
    let site = Site::start()?;
    // Each waits at least a second between two questions: all at once.
    let outcomes = thread::scope(|scope| {
        let trial = |(answers, code, words): &(Answers, i32, &str)| {
            let door = IssuerDoor::start()?;
            let (offer, token) = answers(door.url());
            door.grant(offer, vec![token]);
            let said = site.person_of(&door)?.run(&["token"])?;
            told(&said, *code, &[words, "no token came from"])
        };
        let trials: Vec<_> = cases.iter().map(|case| scope.spawn(move || trial(case))).collect();
        trials
            .into_iter()
            .map(|trial| trial.join().map_err(|_| anyhow!("a trial panicked"))?)
            .collect::<Vec<_>>()
    });
    outcomes.into_iter().collect()
}

#[test]
fn an_issuer_that_is_not_itself_or_offers_nothing_is_told_apart() -> Result<()> {
    let site = Site::start()?;
    let ada = site.person()?;
    told(&ada.run(&["token"])?, 78, &["it offers no device grant"])?;
    site.grant(&Canary::alphanumeric("device code"), vec![DeviceAnswer::Silence]);
    let other = IssuerDoor::start()?;
    let wrong = other.ca().display().to_string();
    told(&ada.run(&["token", "--issuer-ca", &wrong])?, 78, &["its certificate is not accepted"])?;
    let slash = format!("{}/", site.door.url());
    told(&ada.run(&["token", "--issuer", &slash])?, 78, &["that of another issuer", "to the last slash"])?;
    site.door.be_away(true);
    told(&ada.run(&["token"])?, 69, &["it is not reached"])?;
    let plain = site.door.url().replace("https", "http");
    told(&ada.run(&["token", "--issuer", &plain])?, 78, &["the issuer is no address such as"])?;
    ensure!(
        site.door.asked_for_codes().is_empty() && other.asked_for_codes().is_empty(),
        "a code was asked for"
    );
    Ok(())
}

#[test]
fn a_token_command_that_fails_says_how_it_ended_and_nothing_that_it_wrote() -> Result<()> {
    let site = Site::start()?;
    let ada = site.person()?;
    let token = Canary::alphanumeric("token");
    for (script, words) in [
        (format!("echo {}; exit 3", token.value()), "it ended with exit status: 3"),
        (format!("echo {0} {0}", token.value()), "something other than one token"),
        ("kill -9 $$".to_owned(), "it ended with signal: 9"),
    ] {
        let command = format!("sh -c \"echo words for a person >&2; {script}\"");
        let said = ada.run(&["get", "--token-command", &command, "local/db#password"])?;
        said.refused(78, &["the token command `sh` gave no token", words, "words for a person"])?;
        ensure!(scan_bytes("what was said", said.stderr.as_bytes(), &[&token])?.is_empty(), "it is quoted");
    }
    let missing = ada.run(&["get", "--token-command", "/nowhere/login", "local/db#password"])?;
    missing.refused(78, &["the token command `/nowhere/login` gave no token", "it cannot be started"])?;
    // A command that asks for a token by the configuration that names it.
    let itself = binary("bursar")?;
    let itself = format!("token_command = ['{}', 'get', 'local/db#password']\n", itself.display());
    ada.write("config/bursar/config.toml", itself)?;
    let said = ada.run(&["get", "local/db#password"])?;
    said.refused(78, &["this program is run by a token command", "it ended with exit status: 78"])?;
    let expired = format!("echo {}", site.issuer.token(&site.ada(-120))?);
    let said = ada.run(&["get", "--token-command", &expired, "local/db#password"])?;
    said.refused(77, &["the token has expired", "`bursar token --new`"])
}

/// A broker that takes the tokens of one issuer for people.
struct Site {
    door: IssuerDoor,
    issuer: TokenIssuer,
    broker: Broker,
    admin: Cli,
    /// What logind would make for a person, in memory.
    runtime: TempDir,
}

impl Site {
    fn start() -> Result<Self> {
        let (door, issuer) = (IssuerDoor::start()?, TokenIssuer::new()?);
        door.publish(&[&issuer]);
        let broker = Broker::start(&format!(
            "[identity.issuers.acme]\nkind = 'oidc'\nissuer = '{}'\naudience = 'bursar'\nca_file = '{}'\n\
             [[identity.issuers.acme.rules]]\nmatch = {{ preferred_username = '*', groups = 'eng-*' }}\n\
             principal = '/user/{{preferred_username}}'\ngroups = ['{{groups}}']\n\
             [backends.local]\nkind = 'local'\n",
            door.url(),
            door.ca().display()
        ))?;
        let admin = Cli::administering(&broker)?;
        admin.apply_policies(POLICIES, "")?;
        admin.done_with(&["secret", "put", "local/db", "--field", "password"], b"hunter2-of-ada")?;
        let mut builder = tempfile::Builder::new();
        builder.prefix("bursar-person-").permissions(PermissionsExt::from_mode(0o700));
        let runtime = builder.tempdir_in("/dev/shm");
        let runtime = runtime.context("/dev/shm is needed, a tmpfs")?;
        Ok(Self { door, issuer, broker, admin, runtime })
    }

    fn grant(&self, code: &Canary, tokens: Vec<DeviceAnswer>) {
        self.door.grant(DeviceAnswer::offer(self.door.url(), code.value(), 60), tokens);
    }

    /// What the token of a person says that ends in `life` seconds.
    fn ada(&self, life: i64) -> Value {
        let now = SystemClock.now().as_second();
        json!({
            "iss": self.door.url(), "aud": "bursar", "sub": "17", "iat": now - 300, "exp": now + life,
            "preferred_username": "ada", "groups": ["eng-payments", "staff"],
        })
    }

    /// Somebody at a terminal, who knows the issuer.
    fn person(&self) -> Result<Cli> {
        self.person_of(&self.door)
    }

    fn person_of(&self, door: &IssuerDoor) -> Result<Cli> {
        let mut cli = Cli::nobody(&self.broker)?;
        cli.set("BURSAR_ISSUER", door.url());
        cli.set("BURSAR_ISSUER_CA", &door.ca().display().to_string());
        cli.set("BURSAR_CLIENT_ID", "bursar");
        cli.set("XDG_RUNTIME_DIR", &self.runtime.path().display().to_string());
        Ok(cli)
    }
}

fn offer(url: &str) -> DeviceAnswer {
    DeviceAnswer::offer(url, "d", 60)
}

/// Whether a refusal has these words, and none of the issuer's.
fn told(said: &Said, code: i32, parts: &[&str]) -> Result<()> {
    said.refused(code, parts)?;
    ensure!(!said.stderr.contains("words of the issuer"), "the issuer is quoted: {}", said.stderr);
    Ok(())
}

fn mode(path: &Path) -> Result<u32> {
    Ok(path.metadata()?.permissions().mode() & 0o777)
}

const POLICIES: &str = r#"
@id("everything")
permit (principal == Bursar::Principal::"spiffe://example.org/user/admin", action, resource);
@id("engineers")
permit (principal in Bursar::Group::"eng-payments", action in Bursar::Action::"use",
        resource in Bursar::Backend::"local")
when { principal.method == "oidc" };
"#;
