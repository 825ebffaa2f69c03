use std::path::Path;

use bursar_core::clock::TestClock;
use bursar_core::{SpiffeId, SystemClock};
use prometheus_client::registry::Registry;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType,
    date_time_ymd,
};

use super::*;
use crate::config::Config;
use crate::identity::Authority;

#[test]
fn an_authority_vouches_for_its_own_trust_domain_and_no_other() {
    let site = Site::new();
    let (here, there) = (Root::new("here"), Root::new("there"));
    let trust = site.open(&[("here", OURS, &here, ""), ("there", THEIRS, &there, "")]);
    assert_eq!(judged(&trust, &here, "spiffe://example.org/user/ada"), Ok(()));
    assert_eq!(judged(&trust, &there, "spiffe://partner.example/ns/shop/sa/web"), Ok(()));
    for (root, id) in [
        (&there, "spiffe://example.org/user/ada"),
        (&here, "spiffe://partner.example/ns/shop/sa/web"),
        (&there, "spiffe://example.org/node/web-1"),
    ] {
        let fault = judged(&trust, root, id).expect_err(id);
        assert!(matches!(fault, CertificateFault::NotVouchedFor { .. }), "{id}: {fault:?}");
    }
    let fault = judged(&trust, &here, "spiffe://nowhere.example/user/ada").expect_err("unknown");
    assert!(matches!(fault, CertificateFault::UnknownDomain { .. }), "{fault:?}");
}

#[test]
fn an_authority_names_nobody_but_the_principals_of_its_table() {
    let site = Site::new();
    let (people, pods) = (Root::new("people"), Root::new("pods"));
    let trust = site.open(&[
        ("people", OURS, &people, "principals = ['/user/*']"),
        ("pods", OURS, &pods, "principals = '/ns/**'"),
    ]);
    assert_eq!(judged(&trust, &people, "spiffe://example.org/user/ada"), Ok(()));
    assert_eq!(judged(&trust, &pods, "spiffe://example.org/ns/shop/sa/web"), Ok(()));
    for (root, name, id) in [
        (&people, "people", "spiffe://example.org/node/web-1"),
        (&people, "people", "spiffe://example.org/ns/shop/sa/web"),
        (&pods, "pods", "spiffe://example.org/user/ada"),
        (&pods, "pods", "spiffe://example.org/broker/broker"),
    ] {
        let id = SpiffeId::parse(id).expect("id");
        let fault = CertificateFault::NotItsPrincipal { id: id.clone(), bundle: name.to_owned() };
        assert_eq!(judged(&trust, root, id.as_str()), Err(fault));
    }
}

#[test]
fn nodes_come_from_the_brokers_own_authority_unless_a_table_names_them() {
    let site = Site::new();
    let root = Root::new("any");
    let node = "spiffe://example.org/node/web-1";
    let trust = site.open(&[("any", OURS, &root, "")]);
    assert!(judged(&trust, &root, node).is_err());
    let trust = site.open(&[("any", OURS, &root, "principals = ['/node/*']")]);
    assert_eq!(judged(&trust, &root, node), Ok(()));
}

#[test]
fn a_certificate_in_the_shape_of_spires_is_somebody() {
    let site = Site::new();
    let root = Root::new("spire");
    let trust = site.open(&[("spire", THEIRS, &root, "")]);
    // As `spire-server` signs them: a subject that names nobody, or none and then a critical name; usages for both sides.
    for subject in [vec![(DnType::CountryName, "US"), (DnType::OrganizationName, "SPIRE")], Vec::new()] {
        let chain = root.leaf("spiffe://partner.example/ns/shop/sa/web", |params| {
            params.distinguished_name = DistinguishedName::new();
            for (kind, value) in subject {
                params.distinguished_name.push(kind, value);
            }
            params.key_usages = vec![
                KeyUsagePurpose::DigitalSignature,
                KeyUsagePurpose::KeyEncipherment,
                KeyUsagePurpose::KeyAgreement,
            ];
            params.extended_key_usages =
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
            params.use_authority_key_identifier_extension = true;
        });
        assert!(handshake(&trust, &chain).is_ok());
        assert_eq!(trust.judge(&chain, SystemClock.now()).map(drop), Ok(()));
    }
}

#[test]
fn a_bundle_that_changes_is_believed_by_what_is_connected_too() {
    let site = Site::new();
    let (old, new) = (Root::new("old"), Root::new("new"));
    let trust = site.open(&[("people", OURS, &old, "")]);
    let connected = present(&trust, &old).expect("somebody");
    assert!(handshake(&trust, &new.leaf(ADA, |_| ())).is_err(), "nobody knows that root yet");

    site.write("people.pem", &[old.pem(), new.pem()].concat());
    trust.look_again();
    assert_eq!(trust.stands(&connected), Ok(()), "both vouch while one takes the other's place");
    assert!(handshake(&trust, &new.leaf(ADA, |_| ())).is_ok());

    site.write("people.pem", &new.pem());
    trust.look_again();
    assert!(matches!(trust.stands(&connected), Err(CertificateFault::NotVouchedFor { .. })));
    assert!(handshake(&trust, &old.leaf(ADA, |_| ())).is_err());
}

#[test]
fn a_bad_file_leaves_the_old_bundle_in_force_and_is_shown_until_it_is_mended() {
    let site = Site::new();
    let root = Root::new("people");
    let trust = site.open(&[("people", OURS, &root, "")]);
    let connected = present(&trust, &root).expect("somebody");
    let half = root.pem().chars().take(200).collect::<String>();
    for bad in ["", "no certificate", half.as_str()] {
        site.write("people.pem", bad);
        trust.look_again();
        assert_eq!(trust.stands(&connected), Ok(()), "`{bad}`");
        let findings = trust.findings();
        assert!(matches!(findings.as_slice(), [(name, Some(_))] if name == "trust people"), "{findings:?}");
    }
    std::fs::remove_file(site.0.path().join("people.pem")).expect("there");
    trust.look_again();
    let faults: Vec<_> = trust.findings().into_iter().filter_map(|(_, fault)| fault).collect();
    assert!(faults.iter().all(|fault| fault.contains("cannot read")) && faults.len() == 1, "{faults:?}");

    site.write("people.pem", &root.pem());
    trust.look_again();
    assert_eq!(trust.findings(), [("trust people".to_owned(), None)]);
}

#[test]
fn what_an_authority_revoked_is_refused_although_another_table_has_its_root() {
    let site = Site::new();
    let root = Root::new("people");
    site.write("people.crl", &root.revoked(&[], 4000));
    let crl = format!("crl = '{}'", site.0.path().join("people.crl").display());
    let trust = site.open(&[("also", OURS, &root, ""), ("people", OURS, &root, &crl)]);
    let (ada, bob) =
        (root.leaf(ADA, |params| params.serial_number = Some(7_u64.into())), present(&trust, &root));
    let ada = trust.present(ada, ADDRESS.into()).expect("not revoked yet");

    site.write("people.crl", &root.revoked(&[7], 4000));
    trust.look_again();
    assert_eq!(trust.stands(&ada), Err(CertificateFault::Revoked));
    assert_eq!(trust.stands(&bob.expect("somebody")), Ok(()));
}

#[test]
fn a_list_of_revoked_certificates_that_is_out_of_date_lets_nobody_in() {
    let site = Site::new();
    let (root, other) = (Root::new("people"), Root::new("other"));
    let crl = format!("crl = '{}'", site.0.path().join("people.crl").display());
    for list in [root.revoked(&[], 2020), other.revoked(&[], 4000)] {
        site.write("people.crl", &list);
        let trust = site.open(&[("people", OURS, &root, &crl)]);
        assert!(handshake(&trust, &root.leaf(ADA, |_| ())).is_err());
        assert!(judged(&trust, &root, ADA).is_err());
    }
}

#[test]
fn a_root_that_cannot_be_what_its_table_says_keeps_the_broker_from_starting() {
    let site = Site::new();
    let root = Root::new("people");
    let refused = |tables: &[(&str, &str, &Root, &str)]| {
        let error = site.try_open(tables).expect_err("refused");
        format!("{error}: {}", error.source)
    };
    let both = refused(&[("a", OURS, &root, ""), ("b", THEIRS, &root, "")]);
    assert!(both.starts_with("`identity.trust.b` ") && both.contains("`example.org` too"), "{both}");
    let spire = Root::with("spire", |params| {
        params.subject_alt_names = vec![SanType::URI("spiffe://partner.example".try_into().expect("uri"))];
    });
    let foreign = refused(&[("a", OURS, &spire, "")]);
    assert!(foreign.contains("the authority of another trust domain"), "{foreign}");
    assert!(site.try_open(&[("a", THEIRS, &spire, "")]).is_ok());
    let leaf = Root::with("leaf", |params| params.is_ca = IsCa::ExplicitNoCa);
    let no_authority = refused(&[("a", OURS, &leaf, "")]);
    assert!(no_authority.contains("not that of an authority"), "{no_authority}");
    site.write("empty.crl", "");
    let crl = format!("crl = '{}'", site.0.path().join("empty.crl").display());
    let empty = refused(&[("a", OURS, &root, &crl)]);
    assert!(empty.contains("no list of revoked certificates"), "{empty}");
}

#[test]
fn a_chain_without_end_is_not_looked_at() {
    let site = Site::new();
    let root = Root::new("people");
    let trust = site.open(&[("people", OURS, &root, "")]);
    let mut chain = root.leaf(ADA, |_| ());
    let link = chain.first().cloned().expect("a leaf");
    chain.extend(std::iter::repeat_n(link, MAX_INTERMEDIATES));
    assert!(handshake(&trust, &chain).is_ok());
    chain.extend(chain.first().cloned());
    assert!(handshake(&trust, &chain).is_err());
    let large = CertificateDer::from(vec![0x30; MAX_CHAIN_BYTES]);
    let chain = [root.leaf(ADA, |_| ()), vec![large]].concat();
    assert!(handshake(&trust, &chain).is_err());
}

#[test]
fn whoever_is_connected_is_refused_once_the_list_of_the_revoked_is_out_of_date() {
    let site = Site::new();
    let root = Root::new("people");
    let clock = Arc::new(TestClock::new());
    let year = i32::from(jiff::tz::TimeZone::UTC.to_datetime(clock.now()).year());
    site.write("people.crl", &root.revoked(&[], year + 1));
    let crl = format!("crl = '{}'", site.0.path().join("people.crl").display());
    let trust = site.open_at(&clock, &[("people", OURS, &root, &crl)]).expect("good bundles");
    let connected = present(&trust, &root).expect("somebody");
    trust.look_again();
    assert_eq!(
        (trust.stands(&connected), trust.findings()),
        (Ok(()), vec![("trust people".to_owned(), None)])
    );

    clock.advance(Duration::from_secs(366 * 24 * 3600));
    trust.look_again();
    assert!(matches!(trust.stands(&connected), Err(CertificateFault::NotVouchedFor { .. })));
    let faults: Vec<_> = trust.findings().into_iter().filter_map(|(_, fault)| fault).collect();
    assert!(matches!(faults.as_slice(), [fault] if fault.contains("is out of date since")), "{faults:?}");

    site.write("people.crl", &root.revoked(&[], year + 2));
    trust.look_again();
    assert_eq!(
        (trust.stands(&connected), trust.findings()),
        (Ok(()), vec![("trust people".to_owned(), None)])
    );
}

#[test]
fn break_glass_is_let_in_by_the_brokers_own_authority_as_long_as_the_configuration_says_and_with_a_reason() {
    let (trust, authority) = with_own_authority("[identity.break_glass]\nlife = '1h'\n");
    let glass = SpiffeId::parse("spiffe://example.org/user/break-glass").expect("id");
    let made = |reason: &str, minutes: u64| {
        let life = Duration::from_secs(60 * minutes);
        let made = authority.break_glass(&glass, reason, life).expect("a certificate");
        trust.present(vec![made.certificate.der], ADDRESS.into())
    };
    let presented = made("the issuer is down", 60).expect("it is let in");
    assert_eq!(presented.caller.facts.method, "break-glass");
    assert_eq!(presented.broken.as_ref().map(|broken| &*broken.reason), Some("the issuer is down"));
    let why = |presented: Result<Presented, CertificateFault>| presented.expect_err("it is not").to_string();
    assert!(why(made("the issuer is down", 61)).contains("longer"));
    let unexplained = authority.user(&glass).expect("a certificate").certificate.der;
    assert!(why(trust.present(vec![unexplained], ADDRESS.into())).contains("longer than `life`"));
    assert!(why(made("", 10)).contains("why it was made"));
    // A reason makes nobody else of whoever is called otherwise.
    let ada = SpiffeId::parse(ADA).expect("id");
    let ada = authority.break_glass(&ada, "x", Duration::from_secs(60)).expect("a certificate");
    let ada = trust.present(vec![ada.certificate.der], ADDRESS.into()).expect("it is let in");
    assert_eq!(ada.caller.facts.method, "mtls");

    let (trust, authority) = with_own_authority("");
    let made = authority.break_glass(&glass, "x", Duration::from_secs(60)).expect("a certificate");
    assert!(why(trust.present(vec![made.certificate.der], ADDRESS.into())).contains("no such table"));
}

#[test]
fn no_bundle_vouches_for_break_glass_whatever_its_table_says() {
    let (site, root) = (Site::new(), Root::new("people"));
    for principals in ["", "principals = ['/user/*']", "principals = ['/user/break-glass']"] {
        let tables = format!("{principals}\n[identity.break_glass]\n");
        let trust = site.open(&[("people", OURS, &root, &tables)]);
        let fault = judged(&trust, &root, "spiffe://example.org/user/break-glass").expect_err(principals);
        assert!(matches!(fault, CertificateFault::NotVouchedFor { .. }), "{principals}: {fault:?}");
    }
}

/// A folder for files of bundles.
struct Site(tempfile::TempDir);

impl Site {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("folder"))
    }

    fn write(&self, name: &str, content: &str) {
        std::fs::write(self.0.path().join(name), content).expect("written");
    }

    /// Tables of the configuration: name, trust domain, root, and what else they say.
    fn open(&self, tables: &[(&str, &str, &Root, &str)]) -> Trust {
        self.try_open(tables).expect("good bundles")
    }

    fn try_open(&self, tables: &[(&str, &str, &Root, &str)]) -> Result<Trust, TrustError> {
        self.open_at(&Arc::new(SystemClock), tables)
    }

    fn open_at<C: Clock + 'static>(
        &self,
        clock: &Arc<C>,
        tables: &[(&str, &str, &Root, &str)],
    ) -> Result<Trust, TrustError> {
        let mut config =
            "trust_domain = 'example.org'\ndata_dir = 'd'\n[seal]\nkey = { env = 'K' }\n".to_owned();
        for (name, domain, root, more) in tables {
            let file = format!("{name}.pem");
            self.write(&file, &root.pem());
            let path = self.0.path().join(file);
            config.push_str(&table(name, domain, &path, more));
        }
        let config = Config::parse(&config).expect("a configuration");
        let (own, glass) = (Root::new("the broker's own").certificate, config.break_glass());
        let metrics = Metrics::register(&mut Registry::default());
        let settings = config.identity.trust;
        Trust::open(config.trust_domain, own, settings, glass, Arc::clone(clock) as _, metrics)
    }
}

fn table(name: &str, domain: &str, path: &Path, more: &str) -> String {
    let path = path.display();
    format!("[identity.trust.{name}]\ntrust_domain = '{domain}'\nbundle = '{path}'\n{more}\n")
}

/// An authority outside the broker.
struct Root {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

impl Root {
    fn new(name: &str) -> Self {
        Self::with(name, |_| ())
    }

    fn with(name: &str, shape: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        shape(&mut params);
        let key = KeyPair::generate().expect("key");
        let certificate = params.self_signed(&key).expect("root");
        let (certificate, pem) = (certificate.der().clone(), certificate.pem());
        Self { issuer: Issuer::new(params, key), certificate, pem }
    }

    fn pem(&self) -> String {
        self.pem.clone()
    }

    fn leaf(&self, id: &str, shape: impl FnOnce(&mut CertificateParams)) -> Vec<CertificateDer<'static>> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.subject_alt_names = vec![SanType::URI(id.try_into().expect("uri"))];
        shape(&mut params);
        let key = KeyPair::generate().expect("key");
        vec![params.signed_by(&key, &self.issuer).expect("leaf").der().clone()]
    }

    /// A list of revoked serial numbers that is good until the year `until`.
    fn revoked(&self, serials: &[u64], until: i32) -> String {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: (*serial).into(),
            revocation_time: date_time_ymd(2010, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2010, 1, 1),
            next_update: date_time_ymd(until, 1, 1),
            crl_number: 1_u64.into(),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).expect("list").pem().expect("pem")
    }
}

/// A broker's trust without bundles, beside the authority that it has of its own.
fn with_own_authority(tables: &str) -> (Trust, Authority) {
    let config =
        format!("trust_domain = 'example.org'\ndata_dir = 'd'\n{tables}[seal]\nkey = {{ env = 'K' }}\n");
    let config = Config::parse(&config).expect("a configuration");
    let clock = Arc::new(SystemClock) as Arc<dyn Clock>;
    let (authority, _) =
        Authority::create(config.trust_domain.clone(), Arc::clone(&clock)).expect("an authority");
    let metrics = Metrics::register(&mut Registry::default());
    let (root, glass) = (authority.root().clone(), config.break_glass());
    let trust = Trust::open(config.trust_domain, root, Vec::new(), glass, clock, metrics);
    (trust.expect("trust"), authority)
}

fn judged(trust: &Trust, root: &Root, id: &str) -> Result<(), CertificateFault> {
    trust.judge(&root.leaf(id, |_| ()), SystemClock.now()).map(drop)
}

fn present(trust: &Trust, root: &Root) -> Result<Presented, CertificateFault> {
    trust.present(root.leaf(ADA, |_| ()), ADDRESS.into())
}

fn handshake(trust: &Trust, chain: &[CertificateDer<'static>]) -> Result<(), rustls::Error> {
    let (leaf, intermediates) = chain.split_first().expect("a leaf");
    trust.verify_client_cert(leaf, intermediates, unix(SystemClock.now())).map(drop)
}

const OURS: &str = "example.org";
const THEIRS: &str = "partner.example";
const ADA: &str = "spiffe://example.org/user/ada";
const ADDRESS: ([u8; 4], u16) = ([127, 0, 0, 1], 1);
