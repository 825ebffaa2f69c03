//! From a value to what Envoy takes: a `generic_secret`, a `tls_certificate`, a `validation_context`.
//!
//! Keys and certificates are found in what a secret holds, so that nothing has to be configured for one: its fields by the
//! names that stores give them, or the blocks of one text by their labels. Key and certificate come out of one value, which
//! was read at once: no key is ever sent with the certificate of another.

use bursar_core::secret::{SecretData, json};
use bursar_core::{FieldName, Secret};
use bursar_proto::convert::wire_bytes;
use bursar_proto::sds::secret::Type;
use bursar_proto::sds::{self, CertificateValidationContext, DataSource, GenericSecret, TlsCertificate};

use super::name::{Form, Name};
use super::pem::{self, Block};

/// What Envoy is given under `name`, which has `value`.
///
/// # Errors
/// [`ContentError`], which says nothing of the value.
pub(super) fn content(name: &Name, value: &Secret) -> Result<sds::Secret, ContentError> {
    let content = match name.form {
        Form::Generic => {
            let secret = Some(DataSource { inline_bytes: wire_bytes(value) });
            Type::GenericSecret(GenericSecret { secret })
        }
        Form::Tls => Type::TlsCertificate(tls(value)?),
        Form::Ca => Type::ValidationContext(authorities(value)?),
    };
    Ok(sds::Secret { name: name.text.clone(), r#type: Some(content) })
}

fn tls(value: &Secret) -> Result<TlsCertificate, ContentError> {
    let fields = json::object(value.expose());
    let texts = texts(value, fields.as_ref(), &[KEYS, CERTIFICATES, CHAINS].concat())?;
    let blocks: Vec<_> = texts.iter().flat_map(|text| pem::blocks(text)).collect();
    let key = blocks.iter().find(|block| block.is_key()).ok_or(ContentError::KeyMissing)?;
    let private_key = Some(DataSource { inline_bytes: key.text.as_bytes().to_vec() });
    let certificate_chain = Some(certificates(&blocks).ok_or(ContentError::CertificateMissing)?);
    Ok(TlsCertificate { certificate_chain, private_key })
}

fn authorities(value: &Secret) -> Result<CertificateValidationContext, ContentError> {
    let fields = json::object(value.expose());
    let texts = texts(value, fields.as_ref(), AUTHORITIES)?;
    let blocks: Vec<_> = texts.iter().flat_map(|text| pem::blocks(text)).collect();
    let trusted_ca = Some(certificates(&blocks).ok_or(ContentError::AuthorityMissing)?);
    Ok(CertificateValidationContext { trusted_ca })
}

/// Those of the fields that are there, in this order; or the value, where it has no fields.
fn texts<'a>(
    value: &'a Secret,
    fields: Option<&'a SecretData>,
    names: &[&str],
) -> Result<Vec<&'a str>, ContentError> {
    let text = |secret: &'a Secret| std::str::from_utf8(secret.expose()).map_err(|_| ContentError::Binary);
    match fields {
        None => Ok(vec![text(value)?]),
        Some(SecretData::Fields(fields)) => {
            let named = names.iter().filter_map(|name| fields.get(&FieldName::parse(name).ok()?));
            named.map(|secret| text(secret)).collect()
        }
        Some(SecretData::Opaque(_)) => Ok(Vec::new()),
    }
}

/// All certificates, each once: what stores call a chain begins with the certificate, or after it.
fn certificates(blocks: &[Block<'_>]) -> Option<DataSource> {
    let mut all: Vec<&str> = Vec::new();
    for block in blocks.iter().filter(|block| block.is_certificate()) {
        if !all.contains(&block.text) {
            all.push(block.text);
        }
    }
    let mut inline_bytes = Vec::with_capacity(all.iter().map(|text| text.len() + 1).sum());
    for text in &all {
        inline_bytes.extend_from_slice(text.as_bytes());
        inline_bytes.push(b'\n');
    }
    (!all.is_empty()).then_some(DataSource { inline_bytes })
}

/// Why a secret cannot be what it was asked for as.
#[derive(Debug, thiserror::Error)]
pub(super) enum ContentError {
    #[error(
        "it holds no private key: `tls:` takes one in PEM, from a field `private_key`, `key` or `tls.key`, or from a value \
         without fields"
    )]
    KeyMissing,
    #[error(
        "it holds no certificate: `tls:` takes them in PEM, from the fields `certificate`, `cert` or `tls.crt` and \
         `ca_chain` or `chain`, or from a value without fields"
    )]
    CertificateMissing,
    #[error(
        "it holds no certificate of an authority: `ca:` takes them in PEM, from the fields `ca`, `ca.crt`, `ca_chain` or \
         `issuing_ca`, or from a value without fields"
    )]
    AuthorityMissing,
    #[error("it is no text, as PEM is")]
    Binary,
}

const KEYS: &[&str] = &["private_key", "key", "tls.key"];
const CERTIFICATES: &[&str] = &["certificate", "cert", "tls.crt"];
const CHAINS: &[&str] = &["ca_chain", "chain"];
const AUTHORITIES: &[&str] = &["ca", "ca.crt", "ca_chain", "issuing_ca"];

#[cfg(test)]
mod tests {
    use super::*;

    fn made(name: &str, value: &str) -> Result<Type, ContentError> {
        let name = Name::parse(name).expect("a name");
        let made = content(&name, &Secret::new(value.as_bytes().to_vec()))?;
        assert_eq!(made.name, name.text);
        Ok(made.r#type.expect("something"))
    }

    fn tls_of(value: &str) -> Result<(String, String), ContentError> {
        let made = made("tls:local/web", value)?;
        let Type::TlsCertificate(tls) = made else { panic!("it is {made:?}") };
        let text = |source: Option<DataSource>| {
            String::from_utf8(source.expect("a source").inline_bytes.clone()).expect("text")
        };
        Ok((text(tls.certificate_chain), text(tls.private_key)))
    }

    fn ca_of(value: &str) -> Result<String, ContentError> {
        let made = made("ca:local/web", value)?;
        let Type::ValidationContext(context) = made else { panic!("it is {made:?}") };
        let source = context.trusted_ca.expect("a source");
        Ok(String::from_utf8(source.inline_bytes.clone()).expect("text"))
    }

    fn certificate(name: &str) -> String {
        format!("-----BEGIN CERTIFICATE-----\n{name}\n-----END CERTIFICATE-----")
    }

    const KEY: &str = "-----BEGIN EC PRIVATE KEY-----\nk\n-----END EC PRIVATE KEY-----";

    #[test]
    fn a_generic_secret_is_the_value_to_the_byte() {
        let made = made("local/web#token", " a\n").expect("made");
        let Type::GenericSecret(generic) = made else { panic!("it is {made:?}") };
        assert_eq!(generic.secret.expect("a source").inline_bytes, b" a\n");
    }

    #[test]
    fn fields_are_found_by_the_names_that_stores_give_them() {
        let (leaf, inner, root) = (certificate("leaf"), certificate("inner"), certificate("root"));
        let vault = serde_json::json!({
            "private_key": KEY, "private_key_type": "ec", "certificate": leaf, "issuing_ca": inner,
            "ca_chain": format!("{inner}\n{root}"), "expiration": 5,
        });
        let (chain, key) = tls_of(&vault.to_string()).expect("made");
        assert_eq!((chain, key), (format!("{leaf}\n{inner}\n{root}\n"), KEY.to_owned()));
        assert_eq!(ca_of(&vault.to_string()).expect("made"), format!("{inner}\n{root}\n"));
        let kubernetes = serde_json::json!({ "tls.key": KEY, "tls.crt": leaf, "ca.crt": root });
        assert_eq!(tls_of(&kubernetes.to_string()).expect("made").0, format!("{leaf}\n"));
        assert_eq!(ca_of(&kubernetes.to_string()).expect("made"), format!("{root}\n"));
    }

    #[test]
    fn a_value_without_fields_is_its_blocks_in_their_order() {
        let (leaf, inner) = (certificate("leaf"), certificate("inner"));
        let (chain, key) = tls_of(&format!("{leaf}\n{KEY}\nnote\n{inner}\n{leaf}")).expect("made");
        assert_eq!((chain, key), (format!("{leaf}\n{inner}\n"), KEY.to_owned()));
    }

    #[test]
    fn what_is_missing_is_named_and_no_value_is() {
        let (leaf, secret) = (certificate("leaf"), "cAnArY");
        let none = serde_json::json!({ "password": secret }).to_string();
        assert!(matches!(tls_of(&leaf), Err(ContentError::KeyMissing)));
        assert!(matches!(tls_of(KEY), Err(ContentError::CertificateMissing)));
        for value in [secret, none.as_str(), "", "{}", KEY] {
            assert!(matches!(ca_of(value), Err(ContentError::AuthorityMissing)));
            let shown = tls_of(value).map(drop).expect_err("nothing").to_string();
            assert!(!shown.contains(secret), "{shown}");
        }
        let name = Name::parse("tls:local/web").expect("a name");
        assert!(matches!(content(&name, &Secret::new(vec![0xff])), Err(ContentError::Binary)));
    }
}
