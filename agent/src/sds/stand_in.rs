//! What Envoy gets in place of a secret that it may not use any more.
//!
//! Envoy keeps what it has for as long as nothing else comes under the same name: it takes no notice of a secret that is
//! left out of a response, and ignores a removal. So a secret is taken back by one that is good for nothing and that nobody
//! knows: a certificate that was over long ago, which every client refuses; an authority that vouches for nobody; random
//! text in place of a token. An empty value would be the worse choice: an empty key of a signature is one that everybody
//! knows.

use bursar_proto::sds::secret::Type;
use bursar_proto::sds::{self, CertificateValidationContext, DataSource, GenericSecret, TlsCertificate};
use data_encoding::HEXLOWER;
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::name::{Form, Name};

/// A secret in place of `name`.
///
/// # Errors
/// [`NoStandIn`].
pub(super) fn stand_in(name: &Name) -> Result<sds::Secret, NoStandIn> {
    let source = |inline_bytes| Some(DataSource { inline_bytes });
    let content = match name.form {
        Form::Generic => Type::GenericSecret(GenericSecret { secret: source(random()?) }),
        Form::Tls => {
            let (certificate, key) = certificate()?;
            let (certificate_chain, private_key) = (source(certificate), source(key));
            Type::TlsCertificate(TlsCertificate { certificate_chain, private_key })
        }
        Form::Ca => {
            let (certificate, _) = certificate()?;
            Type::ValidationContext(CertificateValidationContext { trusted_ca: source(certificate) })
        }
    };
    Ok(sds::Secret { name: name.text.clone(), r#type: Some(content) })
}

/// The digest of a key that nobody has: printable, since it may be made a header of.
fn random() -> Result<Vec<u8>, NoStandIn> {
    let key = Zeroizing::new(KeyPair::generate().map_err(|_| NoStandIn)?.serialize_der());
    Ok(HEXLOWER.encode(&Sha256::digest(&*key)).into_bytes())
}

/// A certificate that vouches for itself and was over in 2000, and its key, which nobody else has.
fn certificate() -> Result<(Vec<u8>, Vec<u8>), NoStandIn> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "withdrawn by bursar");
    params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    params.not_after = rcgen::date_time_ymd(2000, 1, 2);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().map_err(|_| NoStandIn)?;
    let certificate = params.self_signed(&key).map_err(|_| NoStandIn)?;
    Ok((certificate.pem().into_bytes(), key.serialize_pem().into_bytes()))
}

/// No key could be made.
#[derive(Debug, thiserror::Error)]
#[error("nothing could be made to stand in for a secret that is over; Envoy still has it")]
pub(super) struct NoStandIn;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_has_one_and_no_two_are_the_same() {
        for name in ["local/web#token", "tls:local/web", "ca:local/web"] {
            let name = Name::parse(name).expect("a name");
            let (one, other) = (stand_in(&name).expect("made"), stand_in(&name).expect("made"));
            assert_eq!(one.name, name.text);
            assert!(one.r#type != other.r#type, "{}", name.text);
        }
    }

    #[test]
    fn a_certificate_that_stands_in_is_over() {
        let (certificate, _) = certificate().expect("made");
        let (_, pem) = x509_parser::pem::parse_x509_pem(&certificate).expect("PEM");
        assert!(!pem.parse_x509().expect("a certificate").validity().is_valid());
    }
}
