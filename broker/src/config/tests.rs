use std::num::NonZeroU32;
use std::time::Duration;

use bursar_core::settings::SecretSource;

use super::vault::POD_TOKEN;
use super::*;

#[test]
fn a_good_file_is_read_whole() {
    let config = Config::parse(include_str!("../testdata/good.toml")).expect("good");
    assert_eq!(config.name, "broker-1");
    assert_eq!(config.limits.streams, 128);
    assert_eq!(config.limits.rates.per_principal.map(NonZeroU32::get), Some(1000));
    assert_eq!(config.backends.len(), 5);
    let kinds: Vec<_> = config.audit.sinks.iter().map(|sink| sink.kind.as_str()).collect();
    assert_eq!(kinds, ["file", "otlp", "stdout", "syslog"]);
    assert!(matches!(config.seal.key.source, SecretSource::Credential(_)));
    assert_eq!(config.leases.keep_gone, Duration::from_secs(24 * 3600));
    let revocation =
        |name| config.backends.iter().find(|one| one.name.as_str() == name).map(|one| one.revocation);
    let of = |concurrency, per_second, attempts| {
        let per_second = NonZeroU32::new(per_second).expect("not 0");
        Some(RevocationLimits { concurrency, per_second, attempts })
    };
    assert_eq!(revocation("vault"), of(4, 20, 6));
    assert_eq!(revocation("local"), of(8, 100, 12));
    let quota = |live, rate| Quota { live: NonZeroU64::new(live), issued_per_minute: NonZeroU32::new(rate) };
    assert_eq!(config.leases.quota, quota(5000, 600));
    assert_eq!(
        config.backends.iter().map(|one| one.quota).collect::<Vec<_>>(),
        [quota(0, 0), quota(0, 0), quota(0, 0), quota(0, 0), quota(800, 0)]
    );
}

#[test]
fn aws_is_read_whole_and_needs_a_region_only() {
    let aws = |text: &str, name: &str| {
        let backends = Config::parse(text).expect("good").backends;
        match backends.into_iter().find(|backend| backend.name.as_str() == name).map(|backend| backend.kind) {
            Some(BackendKind::Aws(settings)) => settings,
            other => panic!("{other:?}"),
        }
    };
    let whole = aws(include_str!("../testdata/good.toml"), "aws-prod");
    assert!(matches!(whole.credentials, AwsCredentials::WebIdentity { .. }));
    assert_eq!((whole.prefix.as_str(), whole.timeout), ("prod/", Duration::from_secs(4)));
    let role = whole.roles.get("deploy").expect("a role");
    assert_eq!((role.ttl, role.session_tags.len(), role.deny), (Duration::from_secs(1800), 1, true));

    let least = aws(&[LEAST, "[backends.aws]\nkind = 'aws'\nregion = 'us-gov-west-1'\n"].concat(), "aws");
    assert!(matches!(least.credentials, AwsCredentials::Chain));
    assert!(least.roles.is_empty() && least.endpoint.is_none() && !least.allow_plaintext);
}

#[test]
fn gcp_is_read_whole_and_needs_a_project_only() {
    let gcp = |text: &str, name: &str| {
        let backends = Config::parse(text).expect("good").backends;
        match backends.into_iter().find(|backend| backend.name.as_str() == name).map(|backend| backend.kind) {
            Some(BackendKind::Gcp(settings)) => settings,
            other => panic!("{other:?}"),
        }
    };
    let whole = gcp(include_str!("../testdata/good.toml"), "gcp-prod");
    assert!(matches!(whole.credentials, GcpCredentials::Json(_)));
    assert_eq!((whole.prefix.as_str(), whole.separator.as_deref()), ("prod-", Some("--")));
    assert_eq!((whole.location.as_deref(), whole.timeout), (Some("europe-west3"), Duration::from_secs(4)));

    let least = gcp(&[LEAST, "[backends.gcp]\nkind = 'gcp'\nproject = '123456789012'\n"].concat(), "gcp");
    assert!(matches!(least.credentials, GcpCredentials::Machine));
    assert!(least.separator.is_none() && least.endpoint.is_none() && !least.allow_plaintext);
}

#[test]
fn addresses_are_paced_unless_it_is_switched_off_and_principals_are_not() {
    let rates = |more: &str| {
        let rates = Config::parse(&[LEAST, more].concat()).expect("good").limits.rates;
        (rates.per_address.map(NonZeroU32::get), rates.per_principal.map(NonZeroU32::get))
    };
    assert_eq!(rates(""), (Some(200), None));
    assert_eq!(rates("[limits.rate]\nper_address = 0\nper_principal = 50\n"), (None, Some(50)));
}

#[test]
fn there_are_no_more_places_than_files_to_open_whatever_is_configured() {
    let places = |more: &str, files| {
        Config::parse(&[LEAST, more].concat()).expect("good").within(files).limits.connections
    };
    assert_eq!((places("", 524_288), places("", 1024), places("", 0)), (4096, 768, 1));
    assert_eq!(places("[listen]\nhttps = '127.0.0.1:8443'\n", 1024), 384);
}

#[test]
fn an_issuer_is_read_whole_and_needs_its_name_and_audience_only() {
    let config = Config::parse(include_str!("../testdata/good.toml")).expect("good");
    let [east, github] = config.issuers.as_slice() else { panic!("{:?}", config.issuers) };
    let IssuerKind::Kubernetes { path, review: Some(review) } = &east.kind else { panic!("{east:?}") };
    assert_eq!((path.as_slice(), review.on_outage), (["east".to_owned()].as_slice(), OnOutage::Serve));
    assert_eq!((east.clock_skew, east.refresh), (Duration::from_secs(30), Duration::from_secs(600)));
    assert!(matches!(&github.kind, IssuerKind::Oidc { rules } if rules.len() == 1));

    let least = "[identity.issuers.c]\nkind = 'kubernetes'\nissuer = 'https://c'\naudience = 'bursar'\n";
    let config = Config::parse(&[LEAST, least].concat()).expect("good");
    let issuer = config.issuers.first().expect("an issuer");
    assert!(
        matches!(&issuer.keys, KeysPlace::Discovery { base, token: None } if base.as_str() == "https://c/")
    );
    assert_eq!(
        (issuer.clock_skew, issuer.max_stale),
        (Duration::from_secs(60), Duration::from_secs(24 * 3600))
    );
}

#[test]
fn principals_have_a_quota_unless_it_is_switched_off() {
    let live = |more: &str| Config::parse(&[LEAST, more].concat()).expect("good").leases.quota.live;
    assert_eq!(live("").map(NonZeroU64::get), Some(100_000));
    assert_eq!(live("[leases.quota]\nlive = 0\n"), None);
}

#[test]
fn a_broker_in_a_pod_logs_in_to_a_vault_by_its_service_account() {
    let auth = |auth: &str| {
        let backend = format!("kind = 'vault'\naddress = 'https://v'\nauth = {{ {auth} }}\n");
        let config = Config::parse(&format!("{LEAST}[backends.v]\n{backend}")).expect("good");
        match config
            .backends
            .into_iter()
            .find(|backend| backend.name.as_str() == "v")
            .map(|backend| backend.kind)
        {
            Some(BackendKind::Vault(settings)) => format!("{:?}", settings.auth),
            other => panic!("{other:?}"),
        }
    };
    let pod = auth("method = 'kubernetes', role = 'bursar'");
    assert!(pod.contains("\"kubernetes\"") && pod.contains(POD_TOKEN), "{pod}");
    let other = auth("method = 'jwt', mount = 'gitlab', role = 'bursar', jwt = { env = 'ID_TOKEN' }");
    assert!(other.contains("\"gitlab\"") && other.contains("ID_TOKEN"), "{other}");
    let text =
        format!("{LEAST}[backends.v]\nkind = 'vault'\naddress = 'https://v'\nauth = {{ method = 'jwt' }}\n");
    let faults = Config::parse(&text).expect_err("faulty");
    let keys: Vec<_> = faults.iter().map(ToString::to_string).collect();
    assert!(keys.iter().any(|fault| fault.starts_with("backends.v.auth.role")), "{keys:?}");
    assert!(keys.iter().any(|fault| fault.starts_with("backends.v.auth.jwt")), "{keys:?}");
}

#[test]
#[cfg(feature = "postgres")]
fn the_least_postgres_gets_tls_and_statements_that_lose_nothing() {
    let backend = "[backends.pg]\nkind = 'postgres'\nhost = 'db'\ndatabase = 'app'\nuser = 'bursar'\n\
                   password = { env = 'PG' }\n[backends.pg.roles.app]\n\
                   creation = ['CREATE ROLE {{name}} LOGIN PASSWORD {{password}} VALID UNTIL {{expiration}}']\n";
    let config = Config::parse(&format!("{LEAST}{backend}")).expect("good");
    let kind = config.backends.into_iter().next().map(|backend| backend.kind);
    let Some(BackendKind::Postgres(settings)) = kind else { panic!("{kind:?}") };
    assert_eq!(settings.transport, bursar_backend_postgres::Transport::Tls { ca_file: None });
    assert_eq!((settings.port, settings.connections), (5432, 8));
    let told = format!("{:?}", settings.roles);
    assert!(told.contains("REASSIGN OWNED BY ") && told.contains("VALID UNTIL "), "{told}");
}

#[test]
#[cfg(feature = "postgres")]
fn a_creation_that_could_come_into_effect_after_the_last_search_for_it_is_refused() {
    let backend = "[backends.pg]\nkind = 'postgres'\nhost = 'db'\ndatabase = 'app'\nuser = 'bursar'\n\
                   password = { env = 'PG' }\ntimeout = '50s'\n[backends.pg.roles.app]\n\
                   creation = ['CREATE ROLE {{name}} LOGIN PASSWORD {{password}} VALID UNTIL {{expiration}}']\n";
    let faults = Config::parse(&format!("{LEAST}{backend}")).expect_err("a fault");
    let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
    let told = "backends.pg.roles.app.creation: a creation may go on for 100s after the broker is gone";
    assert!(faults.len() == 1 && faults.iter().all(|fault| fault.starts_with(told)), "{faults:?}");
    let longer = backend.replace("[backends.pg]", "[leases]\nsettle_after = '2m'\n[backends.pg]");
    assert!(Config::parse(&format!("{LEAST}{longer}")).is_ok());
}

#[test]
fn the_least_file_gets_defaults_that_listen_on_loopback_only() {
    let config = Config::parse(LEAST).expect("good");
    assert!(config.listen.grpc.ip().is_loopback() && config.listen.http.ip().is_loopback());
}

#[test]
fn every_fault_of_a_bad_file_is_reported_and_no_value_is_shown() {
    let faults = Config::parse(include_str!("../testdata/faulty.toml")).expect_err("faulty");
    let text: String = faults.iter().map(|fault| format!("{fault}\n")).collect();
    assert_eq!(
        text,
        include_str!("../testdata/faulty.txt"),
        "update testdata/faulty.txt if this is intended"
    );
    assert!(!text.contains("c2VjcmV0") && !text.contains("hunter2"));
}

#[test]
fn a_sink_whose_file_is_a_directory_is_refused_when_the_file_is_read() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("broker.toml");
    let sink = format!("[audit.sinks.archive]\nkind = 'file'\npath = '{}'\n", folder.path().display());
    std::fs::write(&path, [LEAST, &sink].concat()).expect("file");
    let refused = Config::load(&path).expect_err("a directory").to_string();
    let expected =
        format!("audit.sinks.archive.path: `{}` is a directory; name a file in it", folder.path().display());
    assert!(refused.contains(&expected), "{refused}");
}

const LEAST: &str = "trust_domain = 'example.org'\ndata_dir = 'd'\n[seal]\nkey = { env = 'K' }\n";

#[test]
fn the_seal_key_is_wrapped_by_a_store_that_has_keys() {
    let config = |wrapped_by: &str, backends: &str| {
        format!(
            "trust_domain = 'example.org'\ndata_dir = '/d'\n[seal]\nkey = {{ env = 'KEY' }}\n\
             [seal.previous]\nkey = {{ env = 'OLD' }}\nwrapped_by = '{wrapped_by}'\n{backends}"
        )
    };
    let local = "[backends.local]\nkind = 'local'\n";
    let vault = "[backends.v]\nkind = 'vault'\naddress = 'https://v'\n\
                 auth = { method = 'token', token = { env = 'T' } }\n";
    let parsed = Config::parse(&config("v/team/transit/bursar", vault)).expect("good");
    let place = parsed.seal.previous.and_then(|key| key.wrapped_by).expect("a place");
    assert_eq!((place.backend.as_str(), place.key.as_str()), ("v", "team/transit/bursar"));
    for (wrapped_by, backends, said) in [
        ("local/key", local, "backends of kind `aws` and `vault` do"),
        ("nowhere/key", local, "there is no backend `nowhere`"),
        ("v/key", vault, "it is `v/MOUNT/KEY`"),
    ] {
        let faults = Config::parse(&config(wrapped_by, backends)).expect_err("refused");
        let told = |fault: &Fault| fault.key == "seal.previous.wrapped_by" && fault.message.contains(said);
        assert!(faults.len() == 1 && faults.iter().all(told), "{faults:?}");
    }
}
