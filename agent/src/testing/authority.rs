//! The fake broker's certificate authority.

use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};

/// Issues certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) root: Vec<u8>,
    pub(crate) root_pem: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().expect("key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let root = params.self_signed(&key).expect("root");
        let issuer = Issuer::from_ca_cert_der(root.der(), key).expect("issuer");
        Self { root: root.der().to_vec(), root_pem: root.pem(), issuer }
    }

    /// Certificate and key for `localhost`, in PEM.
    pub(crate) fn server(&self) -> (String, String) {
        let key = KeyPair::generate().expect("key");
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("name");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        (params.signed_by(&key, &self.issuer).expect("certificate").pem(), key.serialize_pem())
    }

    /// A node's certificate in DER, from `before` ago until `after` from now.
    pub(crate) fn node(
        &self,
        name: &str,
        csr: &[u8],
        now: Timestamp,
        (before, after): (Duration, Duration),
    ) -> Vec<u8> {
        let request = CertificateSigningRequestParams::from_der(&csr.into()).expect("request");
        let mut params = CertificateParams::default();
        let uri = format!("spiffe://example.org/node/{name}").try_into().expect("uri");
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let now = Duration::from_secs(u64::try_from(now.as_second()).expect("after 1970"));
        params.not_before = date_time_ymd(1970, 1, 1) + (now - before);
        params.not_after = date_time_ymd(1970, 1, 1) + (now + after);
        params.signed_by(&request.public_key, &self.issuer).expect("certificate").der().to_vec()
    }
}
