//! What is in the Secret.

use std::collections::BTreeMap;

use bursar_core::Secret;
use k8s_openapi::ByteString;

use super::made::Pair;
use crate::webhook::api::taken;

/// The authorities and the certificate that all replicas share.
#[derive(Debug)]
pub(super) struct Kept {
    /// Signs certificates.
    pub(super) authority: Pair,
    /// Will sign them, once it was trusted for long enough.
    pub(super) next: Option<Pair>,
    /// Certificates of those that signed before, PEM: some replica may still serve one of theirs.
    pub(super) before: Option<String>,
    /// What is served.
    pub(super) server: Pair,
}

impl Kept {
    /// Reads the Secret's data, and leaves no key in it. Nothing where it is not whole: somebody changed it by hand.
    pub(super) fn read(data: &mut BTreeMap<String, ByteString>) -> Option<Self> {
        let authority = pair(data, AUTHORITY);
        let next = pair(data, NEXT);
        let server = pair(data, SERVER);
        let before = data.remove(BEFORE).and_then(|text| String::from_utf8(text.0).ok());
        Some(Self { authority: authority?, next, before, server: server? })
    }

    /// As [`Kept::read`] reads it.
    pub(super) fn write(&self) -> BTreeMap<String, ByteString> {
        let mut data = BTreeMap::new();
        let mut put = |(certificate, key): (&str, &str), pair: &Pair| {
            data.insert(certificate.to_owned(), ByteString(pair.certificate.clone().into_bytes()));
            data.insert(key.to_owned(), ByteString(pair.key.expose().to_vec()));
        };
        put(AUTHORITY, &self.authority);
        put(SERVER, &self.server);
        self.next.iter().for_each(|next| put(NEXT, next));
        if let Some(before) = &self.before {
            data.insert(BEFORE.to_owned(), ByteString(before.clone().into_bytes()));
        }
        data
    }

    /// Those that the API server is to trust, PEM.
    pub(super) fn bundle(&self) -> String {
        let next = self.next.as_ref().map(|next| next.certificate.as_str());
        [Some(self.authority.certificate.as_str()), next, self.before.as_deref()]
            .into_iter()
            .flatten()
            .collect()
    }
}

fn pair(data: &mut BTreeMap<String, ByteString>, (certificate, key): (&str, &str)) -> Option<Pair> {
    let certificate = data.remove(certificate).and_then(|text| String::from_utf8(text.0).ok());
    let key: Option<Secret> = taken(data, key);
    Some(Pair { certificate: certificate?, key: key? })
}

const AUTHORITY: (&str, &str) = ("ca.crt", "ca.key");
const NEXT: (&str, &str) = ("next-ca.crt", "next-ca.key");
const SERVER: (&str, &str) = ("tls.crt", "tls.key");
const BEFORE: &str = "previous-ca.crt";
