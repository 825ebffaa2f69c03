//! `Secrets.Watch`: what happens to that which the caller got here.
//!
//! The broker tells a node of everything that its workloads hold. A stream to the broker for each of them would tell it
//! the same again, a moment before or after the cache here knows; and whoever then asked again could get the old value.

use bursar_proto::v1::secrets_watch_response::Event;
use bursar_proto::v1::{LeaseRevoked, Resync, SecretsWatchResponse, VersionChanged};
use futures_util::StreamExt;
use tokio_stream::Stream;
use tokio_stream::wrappers::BroadcastStream;
use tonic::Status;

use super::{Answers, Call};
use crate::cache::{What, Word};

impl Answers {
    /// Events from now on. They begin with a resync, since nothing is known of before, and so does what follows after the
    /// caller fell behind. Ends with the process.
    pub fn watch(&self, call: &Call) -> impl Stream<Item = Result<SecretsWatchResponse, Status>> + use<> {
        let identity = call.caller.identity();
        let words = BroadcastStream::new(self.cache.hear()).filter_map(move |word| {
            let event = match word {
                Ok(word) => word.is_for(identity).then(|| event(word)),
                Err(_) => Some(Event::Resync(Resync {})),
            };
            std::future::ready(event)
        });
        let first = futures_util::stream::iter([Event::Resync(Resync {})]);
        let stop = self.tasks.clone();
        let events = first.chain(words).take_until(async move { stop.stopping().await });
        Box::pin(
            events.map(|event| Ok(SecretsWatchResponse { position: None, time: None, event: Some(event) })),
        )
    }
}

fn event(word: Word) -> Event {
    match word.what {
        What::Changed { secret } => {
            Event::VersionChanged(VersionChanged { reference: secret.to_string(), version: String::new() })
        }
        What::Ended { lease_id, secret } => Event::LeaseRevoked(LeaseRevoked {
            lease_id: lease_id.to_string(),
            reference: secret.to_string(),
            reason: String::new(),
        }),
        What::Missed => Event::Resync(Resync {}),
    }
}
