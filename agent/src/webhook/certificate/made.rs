//! Making authorities and certificates.

use std::time::Duration;

use bursar_core::Secret;
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer, X509Certificate};

/// A certificate with its key, both PEM.
pub(super) struct Pair {
    pub(super) certificate: String,
    pub(super) key: Secret,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair").finish_non_exhaustive()
    }
}

impl Pair {
    /// An authority that may vouch for servers and nobody else.
    pub(super) fn authority(now: Timestamp, life: Duration) -> Result<Self, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        // Two of one name would be taken for each other where a chain is built.
        let name = format!("{AUTHORITY} {}", now.as_second());
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        valid_for(&mut params, now, life);
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self { certificate, key: Secret::from(key.serialize_pem()) })
    }

    /// A server's certificate by this authority.
    pub(super) fn sign(
        &self,
        names: &[String],
        now: Timestamp,
        life: Duration,
    ) -> Result<Self, rcgen::Error> {
        let text = std::str::from_utf8(self.key.expose()).map_err(|_| rcgen::Error::CouldNotParseKeyPair)?;
        let issuer = Issuer::from_ca_cert_pem(&self.certificate, KeyPair::from_pem(text)?)?;
        let mut params = CertificateParams::new(names.to_vec())?;
        params.distinguished_name = DistinguishedName::new();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        valid_for(&mut params, now, life);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &issuer)?.pem();
        Ok(Self { certificate, key: Secret::from(key.serialize_pem()) })
    }

    /// When it was made and when it ends.
    pub(super) fn life(&self) -> Option<Life> {
        Life::of(&self.certificate)
    }
}

/// The time that a certificate has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) made: Timestamp,
    pub(super) ends: Timestamp,
}

impl Life {
    /// Of the first certificate in `pem`.
    pub(super) fn of(pem: &str) -> Option<Self> {
        let pem = Pem::iter_from_buffer(pem.as_bytes()).next()?.ok()?;
        let (_, read) = X509Certificate::from_der(&pem.contents).ok()?;
        let validity = read.validity();
        let made =
            Timestamp::from_second(validity.not_before.timestamp() + SKEW.as_secs().cast_signed()).ok()?;
        Some(Self { made, ends: Timestamp::from_second(validity.not_after.timestamp()).ok()? })
    }

    /// Whether two thirds of it are over.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        let whole = self.ends.duration_since(self.made);
        now.duration_since(self.made) >= whole * 2 / 3
    }

    /// Whether so much time passed since it was made.
    pub(super) fn is_older_than(&self, age: Duration, now: Timestamp) -> bool {
        now.duration_since(self.made).as_secs() >= age.as_secs().cast_signed()
    }
}

fn valid_for(params: &mut CertificateParams, now: Timestamp, life: Duration) {
    let epoch = date_time_ymd(1970, 1, 1);
    let made = u64::try_from(now.as_second()).unwrap_or_default();
    params.not_before = epoch + Duration::from_secs(made.saturating_sub(SKEW.as_secs()));
    params.not_after = epoch + Duration::from_secs(made) + life;
}

/// What an authority of ours is called, before the moment that it was made at.
pub(super) const AUTHORITY: &str = "Bursar webhook";
/// So much earlier than it was made a certificate is good: several API servers have several clocks.
const SKEW: Duration = Duration::from_secs(300);
