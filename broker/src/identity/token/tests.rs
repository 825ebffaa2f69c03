//! Tokens that were made up, one for each way to make one up, and those that are good.

use bursar_core::clock::SystemClock;
use data_encoding::{BASE64, BASE64URL, BASE64URL_NOPAD};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::json;

use super::*;
use crate::config::Config;

const NOW: i64 = 1_700_000_000;
const ISSUER: &str = "https://cluster.example.org";

/// A cluster that signs by ES256.
struct Cluster {
    key: EcdsaKeyPair,
    _set: tempfile::NamedTempFile,
    tokens: Tokens,
}

impl Cluster {
    async fn new() -> Self {
        Self::with("kind = 'kubernetes'").await
    }

    async fn with(kind: &str) -> Self {
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        let document = document.expect("a key");
        let key = EcdsaKeyPair::from_pkcs8(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            document.as_ref(),
            &SystemRandom::new(),
        )
        .expect("a key");
        let (x, y) = key.public_key().as_ref()[1..].split_at(32);
        let (x, y) = (BASE64URL_NOPAD.encode(x), BASE64URL_NOPAD.encode(y));
        let jwk = json!({ "kty": "EC", "crv": "P-256", "kid": "one", "x": x, "y": y });
        let set = tempfile::NamedTempFile::new().expect("file");
        std::fs::write(set.path(), json!({ "keys": [jwk] }).to_string()).expect("written");
        let config = format!(
            "trust_domain = 'example.org'\ndata_dir = '/x'\n[seal]\nkey = {{ env = 'K' }}\n\
             [identity.issuers.east]\nissuer = '{ISSUER}'\naudience = ['bursar', 'other']\n\
             jwks_file = '{}'\n{kind}\n",
            set.path().display()
        );
        let config = Config::parse(&config).expect("good");
        let metrics = Metrics::register(&mut prometheus_client::registry::Registry::default());
        let tokens = Tokens::new(&config.issuers, config.trust_domain, metrics).expect("tokens");
        Self { key, _set: set, tokens }
    }

    fn sign(&self, header: &[u8], claims: &[u8]) -> String {
        let signed = format!("{}.{}", BASE64URL_NOPAD.encode(header), BASE64URL_NOPAD.encode(claims));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).expect("signed");
        format!("{signed}.{}", BASE64URL_NOPAD.encode(signature.as_ref()))
    }

    fn token(&self, claims: &Value) -> String {
        self.sign(br#"{"alg":"ES256","kid":"one"}"#, claims.to_string().as_bytes())
    }

    /// Whom a token names, with a moment for the keys to be fetched.
    async fn known(&self, token: &str) -> Result<Arc<Caller>, Refused> {
        let header = HeaderValue::from_str(&format!("Bearer {token}")).expect("a header");
        self.known_by(&header).await
    }

    async fn known_by(&self, header: &HeaderValue) -> Result<Arc<Caller>, Refused> {
        let now = Timestamp::from_second(NOW).expect("time");
        let issuer = self.tokens.issuers.get(ISSUER).expect("issuer");
        let keep =
            issuer.keys.keep(|| issuer.source.keys(), Arc::new(SystemClock), self.tokens.metrics.clone());
        tokio::select! {
            biased;
            known = self.tokens.caller(header, SocketAddr::from(([127, 0, 0, 1], 1)), now) => known,
            () = keep => unreachable!("it does not end"),
        }
    }

    async fn refused(&self, token: &str) -> Refused {
        self.known(token).await.expect_err("it must be refused")
    }
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": ["bursar"], "sub": "system:serviceaccount:shop:web",
        "iat": NOW - 10, "nbf": NOW - 10, "exp": NOW + 600,
        "kubernetes.io": {
            "namespace": "shop",
            "serviceaccount": { "name": "web", "uid": "sa-1" },
            "pod": { "name": "web-0", "uid": "pod-1" },
            "node": { "name": "n1", "uid": "node-1" },
        },
    })
}

fn claims_with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn claims_without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().expect("object").remove(name);
    claims
}

fn encoded(value: &Value) -> String {
    BASE64URL_NOPAD.encode(value.to_string().as_bytes())
}

#[tokio::test]
async fn a_pod_is_its_service_account() {
    let cluster = Cluster::new().await;
    let token = cluster.token(&claims());
    let caller = cluster.known(&token).await.expect("known");
    assert_eq!(caller.id().as_str(), "spiffe://example.org/ns/shop/sa/web");
    assert_eq!((caller.facts.method.as_str(), caller.instance.as_deref()), ("kubernetes", Some("pod-1")));
    assert_eq!(caller.credential, data_encoding::HEXLOWER.encode(&Sha256::digest(token.as_bytes())));
    assert_eq!(caller.credential_expires.as_second(), NOW + 600 + 60);
    let selectors: Vec<_> = caller.facts.selectors.iter().map(ToString::to_string).collect();
    assert_eq!(
        selectors,
        [
            "k8s:cluster:east",
            "k8s:node-name:n1",
            "k8s:ns:shop",
            "k8s:pod-name:web-0",
            "k8s:pod-uid:pod-1",
            "k8s:sa:web"
        ]
    );
}

#[tokio::test]
async fn accounts_of_a_cluster_with_a_path_are_below_it() {
    let cluster = Cluster::with("kind = 'kubernetes'\npath = 'clusters/east'").await;
    let caller = cluster.known(&cluster.token(&claims())).await.expect("known");
    assert_eq!(caller.id().as_str(), "spiffe://example.org/clusters/east/ns/shop/sa/web");
}

#[tokio::test]
async fn what_is_not_of_every_cluster_may_be_missing() {
    let cluster = Cluster::new().await;
    for missing in ["nbf"] {
        assert!(cluster.known(&cluster.token(&claims_without(missing))).await.is_ok(), "{missing}");
    }
    let bare = json!({ "namespace": "shop", "serviceaccount": { "name": "web", "uid": "sa-1" } });
    let caller = cluster.known(&cluster.token(&claims_with("kubernetes.io", bare))).await.expect("known");
    assert_eq!(caller.instance, None);
    let one = cluster.token(&claims_with("aud", json!("other")));
    assert!(cluster.known(&one).await.is_ok(), "an audience may stand alone");
}

#[tokio::test]
async fn a_header_that_is_not_by_the_book_is_refused() {
    let cluster = Cluster::new().await;
    let body = claims().to_string();
    for (header, wanted) in [
        (r#"{"alg":"none","kid":"one"}"#, Refused::Algorithm),
        (r#"{"alg":"None","kid":"one"}"#, Refused::Algorithm),
        (r#"{"alg":"HS256","kid":"one"}"#, Refused::Algorithm),
        (r#"{"alg":"es256","kid":"one"}"#, Refused::Algorithm),
        (r#"{"alg":["ES256"],"kid":"one"}"#, Refused::Algorithm),
        (r#"{"kid":"one"}"#, Refused::Algorithm),
        (r#"{"alg":"RS256","kid":"one"}"#, Refused::KeyOther),
        (r#"{"alg":"PS256","kid":"one"}"#, Refused::KeyOther),
        (r#"{"alg":"ES384","kid":"one"}"#, Refused::KeyOther),
        (r#"{"alg":"EdDSA","kid":"one"}"#, Refused::KeyOther),
        (r#"{"alg":"ES256"}"#, Refused::KeyUnnamed),
        (r#"{"alg":"ES256","kid":""}"#, Refused::KeyUnnamed),
        (r#"{"alg":"ES256","kid":1}"#, Refused::KeyUnnamed),
        (r#"{"alg":"ES256","kid":"two"}"#, Refused::KeyUnknown),
        (r#"{"alg":"ES256","kid":"two","jwk":{"kty":"EC"},"jku":"https://evil"}"#, Refused::KeyUnknown),
        (r#"{"alg":"ES256","kid":"one","crit":["exp"]}"#, Refused::Critical),
        (r#"{"alg":"ES256","kid":"one","crit":[]}"#, Refused::Critical),
        (r#"{"alg":"ES256","kid":"one","b64":false}"#, Refused::Critical),
        (r#"{"alg":"ES256","kid":"one","typ":"JWE"}"#, Refused::Type),
        (r#"{"alg":"ES256","kid":"one","typ":1}"#, Refused::Type),
        (r#"{"alg":"ES256","kid":"one","cty":"JWT"}"#, Refused::Type),
        (r#"{"alg":"ES256","alg":"ES256","kid":"one"}"#, Refused::Header),
        (r#"{"alg":"ES256","kid":"one"} "#, Refused::Signature),
        (r#"["ES256"]"#, Refused::Header),
        ("", Refused::Header),
    ] {
        let token = match wanted {
            Refused::Signature => {
                let good = cluster.sign(br#"{"alg":"ES256","kid":"one"}"#, body.as_bytes());
                let (_, rest) = good.split_once('.').expect("a token");
                format!("{}.{rest}", BASE64URL_NOPAD.encode(header.as_bytes()))
            }
            _ => cluster.sign(header.as_bytes(), body.as_bytes()),
        };
        assert_eq!(cluster.refused(&token).await, wanted, "{header}");
    }
    for typ in ["JWT", "jwt", "at+jwt"] {
        let header = json!({ "alg": "ES256", "kid": "one", "typ": typ }).to_string();
        assert!(cluster.known(&cluster.sign(header.as_bytes(), body.as_bytes())).await.is_ok(), "{typ}");
    }
}

#[tokio::test]
async fn claims_that_do_not_hold_are_refused() {
    let cluster = Cluster::new().await;
    let account = |bound: Value| claims_with("kubernetes.io", bound);
    for (claims, wanted) in [
        (claims_with("iss", json!("https://cluster.example.org/")), Refused::IssuerUnknown),
        (claims_with("iss", json!("https://evil.example.org")), Refused::IssuerUnknown),
        (claims_with("iss", json!([ISSUER])), Refused::Claim("iss")),
        (claims_without("iss"), Refused::Claim("iss")),
        (claims_with("aud", json!("vault")), Refused::Audience),
        (claims_with("aud", json!(["vault", "bursar2"])), Refused::Audience),
        (claims_with("aud", json!([])), Refused::Audience),
        (claims_with("aud", json!(["bursar", 1])), Refused::Claim("aud")),
        (claims_with("aud", json!({ "bursar": 1 })), Refused::Claim("aud")),
        (claims_without("aud"), Refused::Claim("aud")),
        (claims_with("exp", json!(NOW - 60)), Refused::Expired),
        (claims_with("exp", json!(0)), Refused::Expired),
        (claims_with("exp", json!((NOW + 600).to_string())), Refused::Claim("exp")),
        (claims_with("exp", json!(1_700_000_600.5)), Refused::Claim("exp")),
        (claims_with("exp", json!(u64::MAX)), Refused::Claim("exp")),
        (claims_with("exp", json!(i64::MAX)), Refused::Claim("exp")),
        (claims_with("exp", json!(-1)), Refused::Claim("exp")),
        (claims_with("exp", Value::Null), Refused::Claim("exp")),
        (claims_without("exp"), Refused::Claim("exp")),
        (claims_with("nbf", json!(NOW + 61)), Refused::NotYet),
        (claims_with("nbf", json!("now")), Refused::Claim("nbf")),
        (claims_with("iat", json!(NOW + 61)), Refused::NotYet),
        (claims_without("iat"), Refused::Claim("iat")),
        (claims_with("sub", json!("system:serviceaccount:shop:admin")), Refused::Claim("sub")),
        (claims_without("sub"), Refused::Claim("sub")),
        (claims_without("kubernetes.io"), Refused::Claim("kubernetes.io")),
        (account(json!({ "namespace": "shop" })), Refused::Claim("kubernetes.io.serviceaccount.name")),
        (account(json!("shop")), Refused::Claim("kubernetes.io.namespace")),
        (
            account(
                json!({ "namespace": "shop", "serviceaccount": { "name": "web", "uid": "1" }, "pod": {} }),
            ),
            Refused::Claim("kubernetes.io.pod"),
        ),
    ] {
        assert_eq!(cluster.refused(&cluster.token(&claims)).await, wanted, "{claims}");
    }
    for within_the_skew in [("exp", NOW - 59), ("nbf", NOW + 60), ("iat", NOW + 60)] {
        let token = cluster.token(&claims_with(within_the_skew.0, json!(within_the_skew.1)));
        assert!(cluster.known(&token).await.is_ok(), "{within_the_skew:?}");
    }
}

#[tokio::test]
async fn a_token_of_the_old_kind_is_refused() {
    let cluster = Cluster::new().await;
    let old = json!({
        "iss": ISSUER, "aud": "bursar", "sub": "system:serviceaccount:shop:web", "iat": NOW,
        "kubernetes.io/serviceaccount/namespace": "shop",
        "kubernetes.io/serviceaccount/service-account.name": "web",
    });
    assert_eq!(cluster.refused(&cluster.token(&old)).await, Refused::Claim("exp"));
}

#[tokio::test]
async fn what_is_no_token_is_refused() {
    let cluster = Cluster::new().await;
    let good = cluster.token(&claims());
    let parts: Vec<&str> = good.split('.').collect();
    let [header, body, signature] = parts.as_slice() else { panic!("three parts") };
    let raw = BASE64URL_NOPAD.decode(signature.as_bytes()).expect("base64");
    let long = "x".repeat(16 * 1024 + 1);
    let twice = claims().to_string().replacen('{', r#"{"sub":"system:serviceaccount:kube-system:root","#, 1);
    let deep = format!("{{\"iss\":\"{ISSUER}\",\"a\":{}{}}}", "[".repeat(4000), "]".repeat(4000));
    let other = claims_with("sub", json!("system:serviceaccount:shop:root"));
    for (token, wanted) in [
        (String::from("x"), Refused::Form),
        (String::from(".."), Refused::Header),
        (format!("{header}.{body}"), Refused::Form),
        (format!("{header}.{body}.{signature}."), Refused::Form),
        (format!("{header}.{body}.{signature}.{signature}.{signature}"), Refused::Form),
        (format!("{header}.{body}.{}", BASE64URL.encode(&raw)), Refused::Form),
        (format!("{header}.{body}.{}", BASE64.encode(&[0xfb; 64])), Refused::Form),
        (format!("{header}=.{body}.{signature}"), Refused::Form),
        (format!("{header}.{body}\u{7f}.{signature}"), Refused::Form),
        (format!("{header}.{body}."), Refused::Signature),
        (format!("{header}.{body}.{}", BASE64URL_NOPAD.encode(&[0; 64])), Refused::Signature),
        (format!("{header}.{body}.{}", BASE64URL_NOPAD.encode(&raw[..63])), Refused::Signature),
        (format!("{header}.{}.{signature}", encoded(&other)), Refused::Signature),
        (format!("{header}.{}.{signature}", BASE64URL_NOPAD.encode(b"[]")), Refused::Claims),
        (cluster.sign(br#"{"alg":"ES256","kid":"one"}"#, twice.as_bytes()), Refused::Claims),
        (cluster.sign(br#"{"alg":"ES256","kid":"one"}"#, deep.as_bytes()), Refused::Claims),
        (long, Refused::TooLong),
    ] {
        let Ok(header) = HeaderValue::from_bytes(format!("Bearer {token}").as_bytes()) else { continue };
        let refused = cluster.known_by(&header).await.expect_err("it must be refused");
        assert_eq!(refused, wanted, "{token}");
    }
}

#[tokio::test]
async fn a_signature_in_another_form_is_not_the_same_signature() {
    let cluster = Cluster::new().await;
    // The last character of 64 bytes in base64url has four bits that say nothing.
    let good = cluster.token(&claims());
    let last = good.chars().last().expect("a token");
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let place = alphabet.find(last).expect("base64url");
    let odd = alphabet.chars().nth(place ^ 1).expect("base64url");
    let rest = good.strip_suffix(last).expect("its end");
    assert_eq!(cluster.refused(&format!("{rest}{odd}")).await, Refused::Form);
}

#[tokio::test]
async fn a_token_of_which_any_character_is_changed_is_refused() {
    let cluster = Cluster::new().await;
    let good = cluster.token(&claims());
    cluster.known(&good).await.expect("known");
    for place in 0..good.len() {
        let mut changed = good.clone().into_bytes();
        changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).expect("ASCII");
        assert!(cluster.known(&changed).await.is_err(), "character {place}");
    }
}

proptest::proptest! {
    #[test]
    fn nothing_that_arrives_makes_the_parser_fail(bytes: Vec<u8>, parts: [Vec<u8>; 3]) {
        drop(Jws::parse(&bytes));
        let encoded = parts.map(|part| BASE64URL_NOPAD.encode(&part)).join(".");
        drop(Jws::parse(encoded.as_bytes()));
        drop(keys::KeySet::parse(&bytes));
    }
}

#[tokio::test]
async fn a_key_of_another_cluster_signs_nothing_here() {
    let (cluster, other) = (Cluster::new().await, Cluster::new().await);
    assert_eq!(cluster.refused(&other.token(&claims())).await, Refused::Signature);
}

#[tokio::test]
async fn a_public_key_is_no_shared_secret() {
    let cluster = Cluster::new().await;
    let signed = format!("{}.{}", encoded(&json!({ "alg": "HS256", "kid": "one" })), encoded(&claims()));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, cluster.key.public_key().as_ref());
    let tag = ring::hmac::sign(&key, signed.as_bytes());
    let token = format!("{signed}.{}", BASE64URL_NOPAD.encode(tag.as_ref()));
    assert_eq!(cluster.refused(&token).await, Refused::Algorithm);
}

#[tokio::test]
async fn another_scheme_is_no_token() {
    let cluster = Cluster::new().await;
    for header in ["Basic YTpi", "Bearer", "Bearer ", "bearer", "Token x", ""] {
        let header = HeaderValue::from_str(header).expect("a header");
        assert_eq!(cluster.known_by(&header).await.expect_err("refused"), Refused::Scheme, "{header:?}");
    }
    let lower = HeaderValue::from_str(&format!("bearer {}", cluster.token(&claims()))).expect("a header");
    assert!(cluster.known_by(&lower).await.is_ok());
}

#[test]
fn a_token_is_taken_out_of_the_call_and_two_are_none() {
    let mut headers = HeaderMap::new();
    assert_eq!(take(&mut headers), Ok(None));
    headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer canary"));
    let taken = take(&mut headers).expect("one").expect("a header");
    assert!(taken.is_sensitive() && !format!("{taken:?}").contains("canary"));
    assert!(headers.is_empty());
    headers.append(AUTHORIZATION, HeaderValue::from_static("Bearer a"));
    headers.append(AUTHORIZATION, HeaderValue::from_static("Bearer b"));
    assert_eq!(take(&mut headers), Err(Refused::Scheme));
    assert!(headers.is_empty());
}

#[tokio::test]
async fn rules_say_who_the_bearer_of_another_token_is() {
    let kind = "kind = 'oidc'\n\
         rules = [\n\
         { match = { repository = 'acme/shop', ref = 'refs/heads/main' }, principal = '/workload/shop-deploy', groups = 'ci' },\n\
         { match = { preferred_username = '*', groups = 'team-*' }, principal = '/user/{preferred_username}', groups = '{groups}' },\n\
         ]\n"
        .replace("groups = 'ci'", "groups = ['ci']")
        .replace("groups = '{groups}'", "groups = ['{groups}']");
    let issuer = Cluster::with(&kind).await;
    let token = |more: Value| {
        let mut claims = json!({ "iss": ISSUER, "aud": "bursar", "iat": NOW, "exp": NOW + 300, "sub": "x" });
        claims.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
        issuer.token(&claims)
    };
    let ci = token(json!({ "repository": "acme/shop", "ref": "refs/heads/main" }));
    let ci = issuer.known(&ci).await.expect("known");
    assert_eq!(
        (ci.id().as_str(), ci.facts.method.as_str()),
        ("spiffe://example.org/workload/shop-deploy", "oidc")
    );
    let selectors: Vec<_> = ci.facts.selectors.iter().map(ToString::to_string).collect();
    assert_eq!(selectors, ["oidc:issuer:east", "oidc:ref:refs/heads/main", "oidc:repository:acme/shop"]);
    let ada = token(json!({ "preferred_username": "ada", "groups": ["team-a", "staff"] }));
    let ada = issuer.known(&ada).await.expect("known");
    let groups: Vec<_> = ada.facts.groups.iter().map(ToString::to_string).collect();
    assert_eq!(
        (ada.id().as_str(), groups.as_slice()),
        ("spiffe://example.org/user/ada", ["team-a".to_owned()].as_slice())
    );
    for (more, wanted) in [
        (json!({ "repository": "acme/shop", "ref": "refs/pull/1/merge" }), Refused::NoRule),
        (json!({ "preferred_username": "admin", "groups": ["team-a"] }), Refused::Principal),
        (json!({ "preferred_username": "a/b", "groups": ["team-a"] }), Refused::Principal),
    ] {
        assert_eq!(issuer.refused(&token(more.clone())).await, wanted, "{more}");
    }
}

#[tokio::test]
async fn a_known_token_is_not_verified_again_until_its_time_is_up() {
    let cluster = Cluster::new().await;
    let token = cluster.token(&claims());
    cluster.known(&token).await.expect("known");
    assert_eq!(cluster.tokens.verified.len(), 1);
    cluster.known(&token).await.expect("known");
    let late = Timestamp::from_second(NOW + 660).expect("time");
    let header = HeaderValue::from_str(&format!("Bearer {token}")).expect("a header");
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    assert_eq!(cluster.tokens.caller(&header, peer, late).await.expect_err("refused"), Refused::Expired);
    assert_eq!(cluster.tokens.verified.len(), 0, "what has ended is forgotten");
}

#[tokio::test]
async fn refused_tokens_are_not_remembered() {
    let cluster = Cluster::new().await;
    for number in 0..100 {
        cluster.refused(&cluster.token(&claims_with("aud", json!(number.to_string())))).await;
    }
    assert_eq!(cluster.tokens.verified.len(), 0);
}
