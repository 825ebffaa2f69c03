//! What is in the Secret.

use std::collections::BTreeMap;

use bursar_core::Secret;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret as Object;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

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

/// The Secret of Kubernetes. Kube's type keeps values like any others, so they are wiped when it is dropped.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Holder(Object);

impl Holder {
    /// One that is not there yet.
    pub(super) fn named(name: &str) -> Self {
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        Self(Object { metadata, type_: Some("Opaque".to_owned()), ..Object::default() })
    }

    /// What is in it from now on, and nothing else.
    pub(super) fn fill(&mut self, kept: &Kept) {
        self.wipe();
        self.0.data = Some(kept.write());
    }

    fn wipe(&mut self) {
        self.0.data.iter_mut().flatten().for_each(|(_, value)| value.0.zeroize());
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.wipe();
    }
}

impl Kept {
    /// Reads what a Secret holds, and leaves no key in it. Nothing where it is not whole: somebody changed it by hand.
    pub(super) fn of(holder: &mut Holder) -> Option<Self> {
        Self::read(holder.0.data.as_mut()?)
    }

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
