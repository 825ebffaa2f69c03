use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bursar_core::audit::{Action, Actor};
use bursar_core::backend::PutTerms;
use bursar_core::{SpiffeId, SystemClock};
use tempfile::TempDir;

use super::*;
use crate::call::own_record;
use crate::config::Config;
use crate::init;
use crate::keys::Keys;
use crate::ledger::{Change, Entry, Ledger, LedgerConfig, ObjectKind, Page, Quotas};
use crate::seal::Seal;
use crate::source;
use crate::start::origin;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_restores_to_a_log_that_holds() {
    let site = Site::new().await;
    let ledger = site.open(&site.config).await;
    site.put_secret("before").await;
    let going = Arc::new(AtomicBool::new(true));
    let writer = write_until_told(ledger.clone(), Arc::clone(&going));
    let writer = bursar_core::tasks::Tasks::new().finish(writer);
    let mut appended = ledger.appended();
    appended.wait_for(|size| *size > 200).await.expect("records");

    let made = site.take("backup").expect("backup");
    going.store(false, Ordering::Relaxed);
    let written = writer.await.expect("writer");
    assert!(made.log_size > 200 && made.log_size <= written, "{} of {written}", made.log_size);
    ledger.close().await;

    let config = site.elsewhere();
    let clock: Arc<dyn bursar_core::Clock> = Arc::new(SystemClock);
    assert_eq!(restore(&config, &site.seal(), &clock, &site.path("backup")).expect("restored"), made);
    let again = site.open(&config).await;
    assert_eq!(again.checkpoint().expect("head").size, made.log_size);
    assert!(made.checkpoint.is_some(), "the newest that the ledger had stored");
    // State and records of one entry are in the copy together.
    let objects = again.objects(ObjectKind::Node, Page::first(1)).await.expect("objects").items;
    let last = objects.first().expect("object").revision;
    assert_eq!(made.log_size, last + FIRST_RECORDS, "a record for each revision");
    again.close().await;
    let found =
        crate::verify::verify(&config, crate::verify::Trusted::Own(&site.seal())).expect("inspection");
    assert_eq!(found.findings, Vec::<String>::new());
}

#[tokio::test]
async fn a_backup_has_the_stores_and_nothing_that_others_may_read() {
    let site = Site::new().await;
    site.put_secret("value").await;
    let made = site.take("backup").expect("backup");
    let names: Vec<_> = made.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["local.store.db", "ledger.db"]);
    let mode = |path: PathBuf| fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
    assert_eq!(mode(site.path("backup")), 0o700);
    let mut entries: Vec<_> = fs::read_dir(site.path("backup"))
        .expect("folder")
        .map(|entry| entry.expect("entry").path())
        .collect();
    entries.sort();
    assert_eq!(entries.len(), 3, "{entries:?}");
    assert!(entries.into_iter().all(|path| mode(path) == 0o600));
    let seal = fs::read(site.path("seal.key")).expect("seal");
    for file in ["ledger.db", "local.store.db", "manifest.json"] {
        let bytes = fs::read(site.path("backup").join(file)).expect("file");
        assert!(!bytes.windows(seal.len()).any(|part| part == seal), "the seal key is in `{file}`");
    }
}

#[tokio::test]
async fn a_restored_ledger_hands_out_no_credential_of_before() {
    let site = Site::new().await;
    let count = |config: &Config| -> i64 {
        let ledger = rusqlite::Connection::open(config.ledger_path()).expect("ledger");
        ledger.query_row("SELECT count(*) FROM credentials", [], |row| row.get(0)).expect("count")
    };
    let ledger = rusqlite::Connection::open(site.config.ledger_path()).expect("ledger");
    ledger.execute_batch("INSERT INTO credentials VALUES (x'01', x'02', x'03')").expect("a credential");
    drop(ledger);
    site.take("backup").expect("backup");
    site.restore().expect("restored");
    assert_eq!((count(&site.config), count(&site.elsewhere())), (1, 0));
}

#[tokio::test]
async fn nothing_is_written_over() {
    let site = Site::new().await;
    site.take("backup").expect("backup");
    assert!(matches!(site.take("backup"), Err(BackupError::Exists { .. })));
    let clock: Arc<dyn bursar_core::Clock> = Arc::new(SystemClock);
    let refused = restore(&site.config, &site.seal(), &clock, &site.path("backup"));
    assert!(matches!(refused, Err(BackupError::Exists { .. })), "{refused:?}");
    fs::create_dir(site.path("elsewhere.partial")).expect("left behind");
    let refused = restore(&site.elsewhere(), &site.seal(), &clock, &site.path("backup"));
    assert!(matches!(refused, Err(BackupError::Exists { .. })), "{refused:?}");
}

#[tokio::test]
async fn whatever_is_wrong_with_a_backup_is_named_and_leaves_nothing() {
    let site = Site::new().await;
    site.put_secret("value").await;
    site.take("backup").expect("backup");
    let ledger = site.path("backup").join("ledger.db");
    let store = site.path("backup").join("local.store.db");
    let manifest = site.path("backup").join("manifest.json");
    let text = fs::read_to_string(&manifest).expect("manifest");
    let whole = fs::read(&ledger).expect("ledger");
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    let cases: Vec<(PathBuf, Vec<u8>, &str)> = vec![
        (ledger.clone(), flipped(5000), "its hash is another"),
        (ledger.clone(), whole[..whole.len() - 4096].to_vec(), "its length is another"),
        (store.clone(), Vec::new(), "its length is another"),
        (manifest.clone(), b"{}".to_vec(), "cannot be read"),
        (manifest.clone(), text.replace("\"form\": 1", "\"form\": 2").into(), "made by a newer broker"),
        (manifest.clone(), text.replace("local.store.db", "../x.store.db").into(), "it has a file `../x"),
        (manifest.clone(), text.replace("example.org", "example.com").into(), "check `trust_domain`"),
        (manifest, text.replace("\"log_size\": 1", "\"log_size\": 2").into(), "the manifest says 2"),
    ];
    for (path, content, expected) in cases {
        let good = fs::read(&path).expect("file");
        fs::write(&path, content).expect("damage");
        let refused = site.restore().expect_err(expected);
        assert!(refused.contains(expected), "{refused}");
        fs::write(&path, good).expect("mended");
    }
    for path in [ledger, store] {
        let good = fs::read(&path).expect("file");
        fs::remove_file(&path).expect("removed");
        let refused = site.restore().expect_err("a missing file");
        assert!(refused.contains("it cannot be read"), "{refused}");
        fs::write(&path, good).expect("mended");
    }
    site.restore().expect("mended");
}

#[tokio::test]
async fn another_seal_a_newer_schema_and_an_unknown_store_are_refused() {
    let site = Site::new().await;
    site.put_secret("value").await;
    site.take("backup").expect("backup");
    let seal = fs::read(site.path("seal.key")).expect("seal");
    let other = Seal::generate_key(&ring::rand::SystemRandom::new()).expect("key");
    fs::write(site.path("seal.key"), other.expose()).expect("seal");
    let refused = site.restore().expect_err("another seal");
    assert!(refused.contains("it is the key of another broker"), "{refused}");
    fs::write(site.path("seal.key"), seal).expect("seal");

    let config = Config { backends: Vec::new(), ..site.elsewhere() };
    let clock: Arc<dyn bursar_core::Clock> = Arc::new(SystemClock);
    let refused = restore(&config, &site.seal(), &clock, &site.path("backup"));
    assert!(matches!(refused, Err(BackupError::UnknownStore(_))), "{refused:?}");

    let ledger = rusqlite::Connection::open(site.config.ledger_path()).expect("ledger");
    ledger.execute_batch("PRAGMA user_version = 99").expect("version");
    drop(ledger);
    site.take("newer").expect("backup");
    let refused =
        restore(&site.elsewhere(), &site.seal(), &clock, &site.path("newer")).expect_err("newer").to_string();
    assert!(refused.contains("has schema 99"), "{refused}");
    assert!(!site.path("elsewhere").exists() && !site.path("elsewhere.partial").exists());
}

/// A data directory that `init` made, with a local store.
struct Site {
    folder: TempDir,
    config: Config,
}

impl Site {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let text = format!(
            "trust_domain = 'example.org'\ndata_dir = '{0}/data'\n[seal]\nkey = {{ file = '{0}/seal.key' }}\n\
             [backends.local]\nkind = 'local'\n",
            folder.path().display()
        );
        let config = Config::parse(&text).expect("config");
        init::init(&config, Arc::new(SystemClock)).await.expect("initialised");
        Self { folder, config }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The same configuration with another data directory.
    fn elsewhere(&self) -> Config {
        let text = format!(
            "trust_domain = 'example.org'\ndata_dir = '{0}/elsewhere'\n[seal]\nkey = {{ file = '{0}/seal.key' }}\n\
             [backends.local]\nkind = 'local'\n",
            self.folder.path().display()
        );
        Config::parse(&text).expect("config")
    }

    fn take(&self, name: &str) -> Result<Manifest, BackupError> {
        take(&self.config, &SystemClock, &self.path(name))
    }

    fn restore(&self) -> Result<(), String> {
        let clock: Arc<dyn bursar_core::Clock> = Arc::new(SystemClock);
        let restored = restore(&self.elsewhere(), &self.seal(), &clock, &self.path("backup"));
        let left = self.path("elsewhere.partial").exists() || self.path("elsewhere").exists();
        assert_eq!(left, restored.is_ok(), "something was left behind");
        restored.map(drop).map_err(|error| error.to_string())
    }

    fn seal(&self) -> Seal {
        Seal::from_key(&source::fetch(&self.config.seal.key.source).expect("key")).expect("seal")
    }

    async fn open(&self, config: &Config) -> Ledger {
        let clock: Arc<dyn bursar_core::Clock> = Arc::new(SystemClock);
        let ledger = LedgerConfig {
            place: crate::ledger::LedgerPlace::sqlite(config.ledger_path()),
            origin: origin(config),
            queue: 64,
            quotas: Quotas::default(),
        };
        let ledger = Ledger::open(ledger, Arc::clone(&clock)).expect("ledger");
        let (seal, origin, by) = (self.seal(), origin(config), config.identity());
        let keys = Keys::open(&ledger, &seal, &config.trust_domain, &origin, &by, &clock);
        let (keys, _) = keys.await.expect("keys").expect("keys");
        ledger.start_signing(keys.signer).expect("signing");
        ledger
    }

    async fn put_secret(&self, value: &str) {
        let seal = self.seal();
        let clock: Arc<dyn bursar_core::Clock> = Arc::new(SystemClock);
        let backend = self.config.backends.first().expect("backend");
        let ground = crate::backends::Ground {
            data_dir: &self.config.data_dir,
            seal: &seal,
            clock: &clock,
            origin: &origin(&self.config),
            opened: &Default::default(),
        };
        let store = crate::backends::open(backend, &ground).expect("store");
        let writing = store.backend.writing().expect("writing");
        let path = bursar_core::SecretPath::from_store("a/b").expect("path");
        let value =
            bursar_core::secret::SecretData::Opaque(bursar_core::Secret::from(value.to_owned()).into());
        writing.put(&path, value, PutTerms::default()).await.expect("put");
    }
}

/// One object revision and one record in each entry; answers the size of the log at the end.
async fn write_until_told(ledger: Ledger, going: Arc<AtomicBool>) -> u64 {
    let by = SpiffeId::parse("spiffe://example.org/user/ada").expect("id");
    let at = jiff::Timestamp::UNIX_EPOCH;
    while going.load(Ordering::Relaxed) {
        let actor = Actor {
            principal: by.to_string(),
            method: "mtls".to_owned(),
            credential: None,
            node: None,
            selectors: Vec::new(),
            peer: None,
        };
        let record = own_record(actor, at, "load".to_owned(), Action::Read, "x".repeat(2000));
        let change = Change::PutObject {
            kind: ObjectKind::Node,
            name: "n".to_owned(),
            body: Vec::new(),
            expected: None,
            by: by.clone(),
            at,
        };
        ledger.commit(Entry { changes: vec![change], records: vec![record] }).await.expect("entry");
    }
    *ledger.appended().borrow()
}

/// What `init` records.
const FIRST_RECORDS: u64 = 1;
