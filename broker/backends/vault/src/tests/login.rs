//! The broker's own token.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bursar_core::Secret;
use bursar_core::backend::{Backend, ErrorKind, Leasing, Operation};

use super::fake::{Call, Fake, Reply, SECRET_ID, TOKEN, backend, config, granted, json, lease, path, plain};
use crate::{Auth, SecretReader, VaultConfig};

const LOGIN: &str = "/auth/approle/login";
const AT_JWT: &str = "/auth/gitlab/login";
const LOOKUP: &str = "/auth/token/lookup-self";
const RENEW: &str = "/auth/token/renew-self";
const ENTRY: &str = r#"{"data":{"data":{"a":"b"},"metadata":{"version":1}}}"#;

/// A fake whose logins grant `t1`, `t2`…, each for `seconds`, and which knows only the tokens that `good` names.
async fn rotating(seconds: u64, good: &'static [&'static str]) -> Fake {
    let logins = AtomicUsize::new(0);
    Fake::start(move |call: &Call| {
        let known = call.headers.get("x-vault-token").is_some_and(|token| good.contains(&token.as_str()));
        match call.target.as_str() {
            LOGIN => granted(&format!("t{}", logins.fetch_add(1, Ordering::Relaxed) + 1), seconds, true),
            LOOKUP if known => json(200, r#"{"data":{"ttl":60}}"#),
            "/kv/data/forbidden" => json(403, "{}"),
            "/sys/health" => None,
            _ if known => json(200, ENTRY),
            _ => json(403, "{}"),
        }
    })
    .await
}

/// Runs `backend.keep_alive()` until `done`.
async fn kept_alive(fake: &Fake, backend: &crate::VaultBackend, done: impl Fn(&Fake) -> bool) {
    let condition = async {
        while !done(fake) {
            tokio::task::yield_now().await;
        }
    };
    let limit = Duration::from_secs(30);
    tokio::select! {
        () = backend.keep_alive() => {}
        ended = tokio::time::timeout(limit, condition) => ended.expect("the condition came true"),
    }
}

#[tokio::test]
async fn the_first_call_logs_in_and_the_next_uses_its_token() {
    let fake = rotating(3600, &["t1"]).await;
    let backend = fake.backend();
    for _ in 0..2 {
        assert!(backend.read(&path("kv/a"), None).await.is_ok());
    }
    let first = fake.calls().remove(0);
    assert_eq!((first.method.as_str(), first.target.as_str()), ("PUT", LOGIN));
    assert_eq!(first.body, format!(r#"{{"role_id":"role","secret_id":"{SECRET_ID}"}}"#));
    assert_eq!((fake.count(LOGIN), fake.count("/kv/data/a")), (1, 2));
}

#[tokio::test]
async fn a_token_that_somebody_else_signed_is_read_anew_at_each_login() {
    let logins = AtomicUsize::new(0);
    let fake = Fake::start(move |call: &Call| {
        let known = call.headers.get("x-vault-token").is_some_and(|token| token == "t2");
        match call.target.as_str() {
            AT_JWT => granted(&format!("t{}", logins.fetch_add(1, Ordering::Relaxed) + 1), 60, true),
            _ if known => json(200, ENTRY),
            _ => json(403, "{}"),
        }
    })
    .await;
    let reads = AtomicUsize::new(0);
    let jwt = SecretReader::new("a test", move || {
        Ok(format!("jwt-{}\n", reads.fetch_add(1, Ordering::Relaxed)).into())
    });
    let auth = Auth::Jwt { mount: "gitlab".to_owned(), role: "bursar".to_owned(), jwt };
    let backend = backend(VaultConfig { auth, ..config(&fake.address) });
    assert!(backend.read(&path("kv/a"), None).await.is_ok());
    let calls = fake.calls().into_iter().filter(|call| call.target == AT_JWT);
    let bodies: Vec<_> = calls.map(|call| call.body).collect();
    assert_eq!(bodies, [r#"{"role":"bursar","jwt":"jwt-0"}"#, r#"{"role":"bursar","jwt":"jwt-1"}"#]);
}

#[tokio::test]
async fn callers_at_once_share_one_login() {
    let fake = rotating(3600, &["t1"]).await;
    let backend = fake.backend();
    let (a, b) = (path("kv/a"), path("kv/b"));
    let (one, two, three) = tokio::join!(backend.read(&a, None), backend.read(&b, None), backend.health());
    assert!(one.is_ok() && two.is_ok() && three.is_ok());
    assert_eq!(fake.count(LOGIN), 1);
}

#[tokio::test]
async fn a_dead_token_is_replaced_and_the_call_repeated() {
    let fake = rotating(3600, &["t2"]).await;
    assert!(fake.backend().read(&path("kv/a"), None).await.is_ok());
    assert_eq!((fake.count(LOGIN), fake.count("/kv/data/a")), (2, 2));
}

#[tokio::test]
async fn an_issue_that_a_dead_token_could_not_make_is_made_with_the_next() {
    let fake = rotating(3600, &["t2"]).await;
    let error = fake.backend().issue(&path("db/creds/ro"), lease(), Duration::from_secs(60)).await.err();
    assert_eq!(error.map(|error| error.kind), Some(ErrorKind::Malformed), "the entry is no lease");
    assert_eq!((fake.count(LOGIN), fake.count("/db/creds/ro")), (2, 2));
}

#[tokio::test]
async fn a_forbidden_path_does_not_cost_a_login() {
    let fake = rotating(3600, &["t1"]).await;
    let backend = fake.backend();
    for _ in 0..10 {
        let error = backend.read(&path("kv/forbidden"), None).await.err().expect("forbidden");
        assert_eq!((error.kind, error.operation), (ErrorKind::Denied, Operation::Read));
    }
    assert_eq!((fake.count(LOGIN), fake.count("/kv/data/forbidden")), (1, 10));
}

#[tokio::test]
async fn tokens_that_never_work_do_not_become_a_storm_of_logins() {
    let fake = rotating(3600, &[]).await;
    let backend = fake.backend();
    for _ in 0..100 {
        let error = backend.read(&path("kv/a"), None).await.err().expect("no token works");
        assert_eq!(error.kind, ErrorKind::Denied);
    }
    assert!(fake.count(LOGIN) <= 8, "{} logins", fake.count(LOGIN));
}

#[tokio::test]
async fn neither_do_logins_that_fail() {
    let fake = Fake::start(|call| (call.target == LOGIN).then(|| json(400, "{}")).flatten()).await;
    let backend = fake.backend();
    for _ in 0..100 {
        let error = backend.read(&path("kv/a"), None).await.err().expect("no login");
        assert_eq!((error.kind, error.operation), (ErrorKind::Denied, Operation::Login));
    }
    assert!(fake.count(LOGIN) <= 6, "{} logins", fake.count(LOGIN));
    assert_eq!(fake.count("/kv/data/a"), 0);
}

#[tokio::test]
async fn a_token_is_renewed_before_it_ends_and_again_before_that_ends() {
    let fake = Fake::start(|call| match call.target.as_str() {
        LOGIN | RENEW => granted(TOKEN, 2, true),
        "/kv/data/a" => json(200, ENTRY),
        _ => None,
    })
    .await;
    let backend = fake.backend();
    assert!(backend.read(&path("kv/a"), None).await.is_ok());
    kept_alive(&fake, &backend, |fake| fake.count(RENEW) == 2).await;
    assert_eq!(fake.count(LOGIN), 1);
}

#[tokio::test]
async fn a_token_that_cannot_be_renewed_is_followed_by_another() {
    let fake = Fake::start(|call| match call.target.as_str() {
        LOGIN => granted(TOKEN, 2, false),
        "/kv/data/a" => json(200, ENTRY),
        _ => None,
    })
    .await;
    let backend = fake.backend();
    assert!(backend.read(&path("kv/a"), None).await.is_ok());
    kept_alive(&fake, &backend, |fake| fake.count(LOGIN) == 2).await;
    assert_eq!(fake.count(RENEW), 0);
}

#[tokio::test]
async fn a_credential_does_not_outlive_a_token_that_cannot_be_renewed() {
    let body = r#"{"lease_id":"db/creds/ro/1","lease_duration":7200,"renewable":true,"data":{"u":"v"}}"#;
    let fake = Fake::start(|call| match call.target.as_str() {
        LOGIN => granted(TOKEN, 600, false),
        "/db/creds/ro" => json(200, body),
        _ => None,
    })
    .await;
    let issued = fake.backend().issue(&path("db/creds/ro"), lease(), Duration::from_secs(60)).await.ok();
    let ttl = issued.expect("a credential").ttl;
    assert!((Duration::from_secs(500)..=Duration::from_secs(600)).contains(&ttl), "{ttl:?}");
}

#[tokio::test]
async fn a_token_file_is_read_again_once_its_token_is_dead() {
    let dir = tempfile::tempdir().expect("directory");
    let file = dir.path().join("token");
    let alive = Arc::new(AtomicUsize::new(1));
    let knows = Arc::clone(&alive);
    let fake = Fake::start(move |call| {
        let token = call.headers.get("x-vault-token").map(String::as_str);
        let known = token == Some(format!("t{}", knows.load(Ordering::Relaxed)).as_str());
        match call.target.as_str() {
            LOOKUP if known => json(200, r#"{"data":{"ttl":60}}"#),
            "/kv/data/a" if known => json(200, ENTRY),
            "/kv/data/a" => json(403, "{}"),
            _ => None,
        }
    })
    .await;
    let mut config = config(&fake.address);
    config.auth = Auth::Token(plain(from_file(file.clone())));
    let backend = backend(config);
    for (token, content) in [(1, "t1\n"), (2, "t2")] {
        std::fs::write(&file, content).expect("written");
        alive.store(token, Ordering::Relaxed);
        assert!(backend.read(&path("kv/a"), None).await.is_ok(), "with the token t{token}");
    }
    assert_eq!(fake.count(LOGIN), 0);
}

#[tokio::test]
async fn a_credential_that_cannot_be_read_is_a_fault_of_the_configuration() {
    let dir = tempfile::tempdir().expect("directory");
    let empty = dir.path().join("empty");
    std::fs::write(&empty, "\n").expect("written");
    let fake = Fake::start(|_| None).await;
    for file in [empty, dir.path().join("absent")] {
        let shown = file.display().to_string();
        let mut config = config(&fake.address);
        config.auth = Auth::Token(plain(from_file(file)));
        let error = backend(config).health().await.expect_err("no token");
        assert_eq!((error.kind, error.operation), (ErrorKind::Misconfigured, Operation::Login), "{shown}");
    }
}

#[tokio::test]
async fn a_caller_that_hangs_up_halfway_leaves_the_login_to_the_next() {
    let hang = Arc::new(AtomicUsize::new(1));
    let hanging = Arc::clone(&hang);
    let fake = Fake::start(move |call| match call.target.as_str() {
        LOGIN if hanging.swap(0, Ordering::Relaxed) == 1 => Some(Reply::Silence),
        "/kv/data/a" => json(200, ENTRY),
        _ => None,
    })
    .await;
    let backend = fake.backend();
    let entry = path("kv/a");
    hang_up_after(backend.read(&entry, None), || fake.count(LOGIN) == 1).await;
    let recovered = async {
        while backend.read(&entry, None).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), recovered).await.expect("the next caller logs in");
    assert_eq!(fake.count(LOGIN), 2);
}

/// Drops `call` once `done`.
async fn hang_up_after(call: impl Future, done: impl Fn() -> bool) {
    let condition = async {
        while !done() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = call => panic!("the call was meant to hang"),
        () = condition => {}
    }
}

fn from_file(path: PathBuf) -> SecretReader {
    SecretReader::new("a file", move || std::fs::read(&path).map(Secret::new))
}
