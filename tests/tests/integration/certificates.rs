//! Client certificates that say nothing, or the wrong thing: each is refused with its reason, and nothing is done.

use anyhow::{Context, Result, ensure};
use bursar_proto::Reason;
use bursar_tests::{Broker, Cli, ClientAuthority, ClientCertificate};
use prost::Message;
use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType, date_time_ymd};
use tonic::Code;

use crate::raw::Caller;

#[test]
fn a_certificate_that_is_no_svid_of_the_trust_domain_is_refused_by_name() -> Result<()> {
    let site = Site::start()?;
    let authority = &site.authority;
    let odd = |uris: &[&str]| authority.issue_odd(uris, |_| ());
    let cases = [
        ("no URI", odd(&[])?, "has no URI name"),
        ("two URIs", odd(&[EVE, "spiffe://example.org/user/admin"])?, "has several URI names"),
        ("a foreign domain", odd(&["spiffe://example.net/user/admin"])?, "knows no authority"),
        ("no SPIFFE ID", odd(&["https://example.org/user/admin"])?, "spiffe://"),
        ("a SPIFFE ID out of form", odd(&["spiffe://example.org/user/../admin"])?, "`.`"),
        ("the trust domain itself", odd(&["spiffe://example.org"])?, "client certificate"),
        ("a DNS name only", authority.issue_odd(&[], dns_name)?, "has no URI name"),
        (
            "signing powers",
            authority.issue_odd(&[EVE], |params| params.key_usages = vec![KeyUsagePurpose::CrlSign])?,
            "key usage",
        ),
    ];
    for (name, certificate, said) in cases {
        site.is_refused(&certificate, said).with_context(|| format!("a certificate with {name}"))?;
    }
    site.nothing_was_done()
}

#[test]
fn a_certificate_that_does_not_hold_fails_the_handshake_and_says_why() -> Result<()> {
    let site = Site::start()?;
    let expired = site.authority.issue_odd(&[EVE], |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    })?;
    site.fails_the_handshake(&expired, &["the client certificate has expired"])?;
    let not_yet = site.authority.issue_odd(&[EVE], |params| params.not_before = date_time_ymd(4000, 1, 1))?;
    site.fails_the_handshake(&not_yet, &["client certificate"])?;
    let unknown = ClientAuthority::new()?.issue(EVE)?;
    site.fails_the_handshake(&unknown, &["by an authority that this broker does not know"])?;
    let for_servers = site.authority.issue_odd(&[EVE], |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    })?;
    site.fails_the_handshake(&for_servers, &["client certificate"])?;
    let authority = site.authority.issue_odd(&[EVE], |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    })?;
    site.fails_the_handshake(&authority, &["client certificate"])?;
    site.nothing_was_done()
}

#[test]
fn a_caller_without_a_certificate_is_told_to_bring_one_and_leaves_no_record() -> Result<()> {
    let site = Site::start()?;
    let ended = Caller::connect(&site.broker, None)?.call(READ, request())?;
    ensure!(
        (ended.code, ended.reason) == (Code::Unauthenticated, Some(Reason::Unauthenticated)),
        "{ended:?}"
    );
    site.nothing_was_done()
}

#[test]
fn a_proper_certificate_of_another_authority_is_somebody() -> Result<()> {
    let site = Site::start()?;
    let said = Cli::presenting(&site.authority.issue(EVE)?, &site.broker)?.run(&["get", "local/a"])?;
    said.refused(77, &["policy does not allow this", "hint: "])?;
    let records = site.admin.audit(&["--principal", EVE])?;
    ensure!(records.len() == 1, "{} records", records.len());
    Ok(())
}

/// A broker that takes the word of an authority of the test's own.
struct Site {
    broker: Broker,
    authority: ClientAuthority,
    admin: Cli,
    // Holds the file that the configuration names.
    _bundle: tempfile::NamedTempFile,
}

impl Site {
    fn start() -> Result<Self> {
        let authority = ClientAuthority::new()?;
        let bundle = tempfile::NamedTempFile::new()?;
        let trusted = authority.trusted(bundle.path())?;
        let broker = Broker::start(&format!("{trusted}[backends.local]\nkind = 'local'\n"))?;
        let admin = Cli::administering(&broker)?;
        Ok(Self { broker, authority, admin, _bundle: bundle })
    }

    /// The handshake is let through, since the chain holds, and the call is refused: by the reason for programs, and in
    /// words for people, with a hint.
    fn is_refused(&self, certificate: &ClientCertificate, said: &str) -> Result<()> {
        let ended = Caller::presenting(&self.broker, certificate)?.call(READ, request())?;
        let expected = (Code::Unauthenticated, Some(Reason::CertificateInvalid));
        ensure!((ended.code, ended.reason) == expected, "{ended:?}");
        ensure!(ended.message.contains(said), "`{said}` is not in `{}`", ended.message);
        let typed = Cli::presenting(certificate, &self.broker)?.run(&["get", "local/a"])?;
        typed.refused(77, &[said, "hint: get a new client certificate", "request id: "])
    }

    fn fails_the_handshake(&self, certificate: &ClientCertificate, said: &[&str]) -> Result<()> {
        let typed = Cli::presenting(certificate, &self.broker)?.run(&["get", "local/a"])?;
        typed.refused(77, &[&["cannot connect to", "hint: "], said].concat())
    }

    /// Nobody but the administrator is in the ledger, and nobody was given anything.
    fn nothing_was_done(&self) -> Result<()> {
        let records = self.admin.audit(&[])?;
        let strangers = records.iter().filter(|record| {
            let principal = record.pointer("/actor/principal").and_then(|principal| principal.as_str());
            principal != Some("spiffe://example.org/user/admin")
        });
        ensure!(strangers.count() == 0, "somebody who was refused has a record");
        ensure!(
            self.admin.json(&["lease", "list"])?.as_array().is_some_and(Vec::is_empty),
            "a lease was granted"
        );
        Ok(())
    }
}

fn dns_name(params: &mut rcgen::CertificateParams) {
    if let Ok(name) = "example.org".try_into() {
        params.subject_alt_names.push(SanType::DnsName(name));
    }
}

fn request() -> Vec<u8> {
    let reference = "local/a".to_owned();
    bursar_proto::v1::SecretsReadRequest { reference, ..Default::default() }.encode_to_vec()
}

const READ: &str = "/bursar.v1.Secrets/Read";
const EVE: &str = "spiffe://example.org/user/eve";
