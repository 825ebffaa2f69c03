//! The protocol's part of a stream: what is subscribed to, which response is answered, what it is called.
//!
//! A request answers the response whose nonce it has. One with the nonce of an earlier response was under way while the
//! newer one was sent, and another follows it, so it is passed over. Versions and nonces are counts of the stream's
//! responses: neither says anything of a value.

use std::collections::BTreeSet;

use bursar_proto::limits;
use bursar_proto::sds::{self, DiscoveryRequest, DiscoveryResponse, Resource};
use prost::Message;
use tonic::Status;

use super::name::Name;

/// Where a stream stands.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    /// Responses so far.
    sent: u64,
}

/// What a request says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// It is out of date.
    Stale,
    /// Everything that is wanted from now on, and what became of the last response.
    Wanted { names: Vec<Name>, verdict: Verdict },
}

/// What became of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// There was none.
    None,
    /// There was none on this stream, and something that a stream before it gave is in use.
    Resumed,
    Accepted,
    /// With the code that was given. The words that come with it may quote what was refused, and are not kept.
    Rejected {
        code: i32,
    },
}

impl Exchange {
    /// Takes a request in.
    ///
    /// # Errors
    /// What the caller is told, whose stream ends with it.
    pub(super) fn hear(&self, request: &DiscoveryRequest) -> Result<Heard, Status> {
        if request.response_nonce != self.nonce() {
            return Ok(Heard::Stale);
        }
        let names = wanted(request)?;
        let verdict = match &request.error_detail {
            Some(error) => Verdict::Rejected { code: error.code },
            None if self.sent == 0 && request.version_info.is_empty() => Verdict::None,
            None if self.sent == 0 => Verdict::Resumed,
            None => Verdict::Accepted,
        };
        Ok(Heard::Wanted { names, verdict })
    }

    /// The next response, with as many of `ready` as one message holds; what it has is taken out.
    pub(super) fn next(&mut self, ready: &mut Vec<sds::Secret>) -> DiscoveryResponse {
        let mut room = limits::MESSAGE - FRAME;
        let fitting = ready.iter().position(|secret| {
            let size = secret.encoded_len() + FRAME;
            room = room.saturating_sub(size);
            room == 0
        });
        // One that is too large for any message is left to the transport to refuse.
        let rest = ready.split_off(fitting.unwrap_or(ready.len()).max(1).min(ready.len()));
        self.sent = self.sent.saturating_add(1);
        let response = response(ready, &self.nonce());
        *ready = rest;
        response
    }

    /// That of the last response.
    fn nonce(&self) -> String {
        if self.sent == 0 { String::new() } else { self.sent.to_string() }
    }
}

/// What `request` names, each once.
///
/// # Errors
/// What the caller is told.
pub(super) fn wanted(request: &DiscoveryRequest) -> Result<Vec<Name>, Status> {
    if !matches!(request.type_url.as_str(), SECRET | "") {
        return Err(Status::invalid_argument(format!("only resources of type `{SECRET}` are served here")));
    }
    let names: BTreeSet<_> = request.resource_names.iter().collect();
    if names.len() > NAMES {
        return Err(Status::resource_exhausted(format!(
            "one stream has at most {NAMES} names of secrets, and {} are asked for",
            names.len()
        )));
    }
    let parsed = names.into_iter().map(|name| Name::parse(name));
    parsed.collect::<Result<_, _>>().map_err(|fault| Status::invalid_argument(fault.line()))
}

/// A response with `secrets`.
pub(super) fn response(secrets: &[sds::Secret], version: &str) -> DiscoveryResponse {
    let resource =
        |secret: &sds::Secret| Resource { type_url: SECRET.to_owned(), value: secret.encode_to_vec() };
    DiscoveryResponse {
        version_info: version.to_owned(),
        resources: secrets.iter().map(resource).collect(),
        type_url: SECRET.to_owned(),
        nonce: version.to_owned(),
    }
}

/// What a resource is.
pub(super) const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
/// Most names of one stream. Envoy opens one for each secret of its configuration.
pub(super) const NAMES: usize = 64;
/// What a message has around a secret, at most. In bytes.
const FRAME: usize = 256;

#[cfg(test)]
mod tests {
    use bursar_proto::sds::secret::Type;
    use bursar_proto::sds::{DataSource, GenericSecret};

    use super::*;

    fn request(names: &[&str], nonce: &str) -> DiscoveryRequest {
        DiscoveryRequest {
            resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
            response_nonce: nonce.to_owned(),
            type_url: SECRET.to_owned(),
            ..DiscoveryRequest::default()
        }
    }

    fn secret(size: usize) -> sds::Secret {
        let secret = Some(DataSource { inline_bytes: vec![b'x'; size] });
        sds::Secret {
            name: "local/web".to_owned(),
            r#type: Some(Type::GenericSecret(GenericSecret { secret })),
        }
    }

    fn names(heard: &Heard) -> Vec<&str> {
        let Heard::Wanted { names, .. } = heard else { panic!("it is {heard:?}") };
        names.iter().map(|name| name.text.as_str()).collect()
    }

    #[test]
    fn a_request_answers_the_last_response_or_is_passed_over() {
        let mut exchange = Exchange::default();
        let first = exchange.hear(&request(&["local/b", "local/a", "local/a"], "")).expect("heard");
        assert_eq!(names(&first), ["local/a", "local/b"]);
        assert!(matches!(first, Heard::Wanted { verdict: Verdict::None, .. }));
        assert_eq!(exchange.hear(&request(&["local/a"], "1")).expect("heard"), Heard::Stale);
        let again = DiscoveryRequest { version_info: "7".to_owned(), ..request(&["local/a"], "") };
        let again = exchange.hear(&again).expect("heard");
        assert!(matches!(again, Heard::Wanted { verdict: Verdict::Resumed, .. }));

        let (one, other) = (exchange.next(&mut vec![secret(1)]), exchange.next(&mut vec![secret(1)]));
        assert!(one.nonce != other.nonce && one.version_info != other.version_info);
        for stale in ["", one.nonce.as_str(), "x"] {
            assert_eq!(exchange.hear(&request(&[], stale)).expect("heard"), Heard::Stale, "{stale}");
        }
        let accepted = exchange.hear(&request(&[], &other.nonce)).expect("heard");
        assert!(matches!(accepted, Heard::Wanted { verdict: Verdict::Accepted, .. }));
        let refused = DiscoveryRequest {
            error_detail: Some(sds::Status { code: 3, message: "quoting a value".to_owned() }),
            ..request(&["local/a"], &other.nonce)
        };
        let heard = exchange.hear(&refused).expect("heard");
        assert!(matches!(heard, Heard::Wanted { verdict: Verdict::Rejected { code: 3 }, .. }));
        assert!(!format!("{heard:?}").contains("quoting"));
    }

    #[test]
    fn what_cannot_be_wanted_is_refused() {
        let hear = |request: &DiscoveryRequest| Exchange::default().hear(request).expect_err("refused");
        let other = DiscoveryRequest { type_url: "type.googleapis.com/x".to_owned(), ..request(&[], "") };
        assert!(hear(&other).message().contains("only resources of type"));
        assert!(hear(&request(&["local/a", "default"], "")).message().contains("`default` is no name"));
        let many: Vec<_> = (0..=NAMES).map(|count| format!("local/{count}")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        assert!(hear(&request(&many, "")).message().contains("at most 64 names"));
    }

    #[test]
    fn what_does_not_fit_into_one_message_comes_with_the_next() {
        let mut exchange = Exchange::default();
        let mut ready: Vec<_> = (0..6).map(|_| secret(limits::VALUE)).collect();
        let mut counts = Vec::new();
        while !ready.is_empty() {
            let response = exchange.next(&mut ready);
            assert!(response.encoded_len() <= limits::MESSAGE);
            counts.push(response.resources.len());
        }
        assert_eq!(counts, [3, 3]);
        let mut huge = vec![secret(limits::MESSAGE)];
        assert_eq!((exchange.next(&mut huge).resources.len(), huge.len()), (1, 0));
    }
}
