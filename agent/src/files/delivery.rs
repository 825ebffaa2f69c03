//! What is done for one set: reading, rendering and writing it as a whole, and removing it. When, is [`course`]'s.
//!
//! Whatever fails leaves the files as they were, and is tried again under the one retry policy; the other sets go on.

mod course;

use std::sync::Arc;

use bursar_core::Clock;
use bursar_proto::v1::{EnvironmentsResolveRequest, EnvironmentsResolveResponse};
use http::HeaderMap;

use super::board::Place;
use super::directory::{Delivered, Directory, Expected};
use super::hook::Bell;
use super::put::{DeliveryError, put};
use super::record::Record;
use super::render::render;
use crate::answer::{Answers, Call};
use crate::attest::Workload;
use crate::cache::Cache;
use crate::config::FileSet;
use crate::telemetry::Metrics;
use crate::upstream::Upstream;
use course::{Answer, Course};

/// Delivers one set.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) set: FileSet,
    pub(super) directory: Directory,
    pub(super) record: Record,
    pub(super) reader: Arc<Workload>,
    pub(super) answers: Arc<Answers>,
    pub(super) cache: Arc<Cache>,
    pub(super) upstream: Arc<Upstream>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Metrics,
    pub(super) place: Place,
    pub(super) bell: Bell,
}

impl Delivery {
    /// Never ends.
    pub(super) async fn run(&self) {
        Course::of(self).run().await;
    }

    async fn read(&self, anew: bool) -> Answer {
        let call = Call::new(Arc::clone(&self.reader), &HeaderMap::new());
        let name = self.set.environment.clone();
        let request = EnvironmentsResolveRequest { name, reason: REASON.to_owned(), ..Default::default() };
        self.answers.resolve_to_stand(&call, request, anew).await
    }

    async fn deliver(
        &self,
        environment: EnvironmentsResolveResponse,
    ) -> Result<(Delivered, Expected), DeliveryError> {
        let outputs = self.set.outputs.clone();
        put(self.directory.clone(), Arc::clone(&self.clock), move || render(&outputs, environment)).await
    }

    async fn has_drifted(&self, expected: &Expected) -> bool {
        let (directory, expected) = (self.directory.clone(), expected.clone());
        let looked = tokio::task::spawn_blocking(move || directory.drift(&expected)).await;
        // A directory that will not do is found out again, and told, by the delivery that follows.
        !matches!(looked, Ok(Ok(None)))
    }

    /// Removes the files. Answers whether there were any.
    async fn clear(&self) -> Result<bool, DeliveryError> {
        let (directory, record) = (self.directory.clone(), self.record.clone());
        let work = move || {
            let had = directory.clear()?;
            if let Err(error) = record.remove() {
                tracing::warn!(%error, "it could not be written down that a set has no files");
            }
            Ok(had)
        };
        tokio::task::spawn_blocking(work).await.unwrap_or(Err(DeliveryError::Panicked))
    }
}

/// In the audit record.
const REASON: &str = "delivery as files";

#[cfg(test)]
mod tests;
