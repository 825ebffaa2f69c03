//! Certificates: of a server that is to be reached by TLS, and of callers, by an authority that a broker is told to trust.

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, date_time_ymd,
};

/// PEM files of one TLS server on this machine.
#[derive(Debug, Clone)]
pub(crate) struct ServerFiles {
    /// The certificate of the authority, which clients are to trust.
    pub(crate) authority: PathBuf,
    /// The server's certificate, for `localhost` and 127.0.0.1.
    pub(crate) certificate: PathBuf,
    /// The server's private key.
    pub(crate) key: PathBuf,
}

impl ServerFiles {
    /// Makes all three in `directory`.
    pub(crate) fn make(directory: &Path) -> Result<Self> {
        let files = Self {
            authority: directory.join("ca.pem"),
            certificate: directory.join("server.pem"),
            key: directory.join("server.key"),
        };
        let mut authority = CertificateParams::new([])?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        // OpenSSL takes a certificate that names its issuer as itself for one that nobody vouches for.
        authority.distinguished_name.push(DnType::CommonName, "authority of Bursar's tests");
        let authority_key = KeyPair::generate()?;
        write(&files.authority, &authority.self_signed(&authority_key)?.pem())?;

        let mut server = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
        server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let certificate = server.signed_by(&key, &Issuer::new(authority, authority_key))?;
        write(&files.certificate, &certificate.pem())?;
        write(&files.key, &key.serialize_pem())?;
        Ok(files)
    }
}

/// An authority that vouches for callers. A broker takes its word by [`ClientAuthority::trusted`], or another table of
/// its configuration that names a file with [`ClientAuthority::pem`].
pub struct ClientAuthority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl ClientAuthority {
    /// Makes a new one.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn new() -> Result<Self> {
        let mut params = CertificateParams::new([])?;
        // A list of what was revoked finds its authority by this name.
        params.distinguished_name.push(DnType::CommonName, format!("test {:016x}", fastrand::u64(..)));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), pem })
    }

    /// Its certificate.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The table that makes a broker of `example.org` take its word for people, nodes and workloads. Its certificate is
    /// put into `bundle`.
    ///
    /// # Errors
    /// `bundle` cannot be written.
    pub fn trusted(&self, bundle: &Path) -> Result<String> {
        write(bundle, &self.pem)?;
        Ok(format!(
            "[identity.trust.test]\ntrust_domain = 'example.org'\nbundle = '{}'\n\
             principals = ['/user/*', '/node/*', '/workload/*']\n",
            bundle.display()
        ))
    }

    /// A list in PEM that says that it revoked `certificates`.
    ///
    /// # Errors
    /// It cannot be signed.
    pub fn revoked(&self, certificates: &[&ClientCertificate]) -> Result<String> {
        let revoked = |certificate: &&ClientCertificate| RevokedCertParams {
            serial_number: certificate.serial.into(),
            revocation_time: date_time_ymd(2010, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2010, 1, 1),
            next_update: date_time_ymd(4000, 1, 1),
            crl_number: 1_u64.into(),
            issuing_distribution_point: None,
            revoked_certs: certificates.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(params.signed_by(&self.issuer)?.pem()?)
    }

    /// A proper certificate for `id`, a SPIFFE ID.
    ///
    /// # Errors
    /// `id` is no URI.
    pub fn issue(&self, id: &str) -> Result<ClientCertificate> {
        self.issue_odd(&[id], |_| ())
    }

    /// A certificate with these URI names that `odd` makes differ from a proper one.
    ///
    /// # Errors
    /// A name is no URI, or nobody can issue what `odd` made of it.
    pub fn issue_odd(
        &self,
        uris: &[&str],
        odd: impl FnOnce(&mut CertificateParams),
    ) -> Result<ClientCertificate> {
        let mut params = CertificateParams::new([])?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        for uri in uris {
            params.subject_alt_names.push(SanType::URI((*uri).try_into()?));
        }
        let serial = fastrand::u64(1..);
        params.serial_number = Some(serial.into());
        odd(&mut params);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(ClientCertificate { certificate, key: key.serialize_pem(), serial })
    }
}

impl fmt::Debug for ClientAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientAuthority").finish_non_exhaustive()
    }
}

/// What a caller presents, in PEM.
pub struct ClientCertificate {
    /// The certificate alone.
    pub certificate: String,
    /// Its private key.
    pub key: String,
    /// Its serial number; 0 where it is not known.
    pub serial: u64,
}

impl ClientCertificate {
    /// Writes `NAME.crt` and `NAME.key`, the latter for this user alone, and answers their paths.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn write(&self, directory: &Path, name: &str) -> Result<(PathBuf, PathBuf)> {
        let (certificate, key) =
            (directory.join(format!("{name}.crt")), directory.join(format!("{name}.key")));
        write(&certificate, &self.certificate)?;
        write(&key, &self.key)?;
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
        Ok((certificate, key))
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate").finish_non_exhaustive()
    }
}

fn write(path: &Path, pem: &str) -> Result<()> {
    fs::write(path, pem).with_context(|| format!("`{}` cannot be written", path.display()))
}
