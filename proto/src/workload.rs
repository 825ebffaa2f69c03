//! How a [`WorkloadContext`] travels: encoded, under a binary metadata key.

use prost::Message;
use tonic::metadata::{MetadataMap, MetadataValue};

use crate::convert::WireError;
use crate::v1::WorkloadContext;
use crate::{WORKLOAD_CONTEXT_METADATA_KEY, limits};

impl WorkloadContext {
    /// Puts it into the metadata of a call, in place of one that is there.
    ///
    /// # Errors
    /// [`WireError::TooLarge`] when it breaks a limit of [`limits`]; the broker would refuse the call.
    pub fn attach(&self, metadata: &mut MetadataMap) -> Result<(), WireError> {
        self.check()?;
        let value = MetadataValue::from_bytes(&self.encode_to_vec());
        metadata.insert_bin(WORKLOAD_CONTEXT_METADATA_KEY, value);
        Ok(())
    }

    /// Reads it from the metadata of a call; none when the caller speaks for itself.
    ///
    /// # Errors
    /// [`WireError`] when the key is there and its value is not exactly one context within the limits: an agent that
    /// cannot be understood must not pass for a node that asks for itself.
    pub fn of(metadata: &MetadataMap) -> Result<Option<Self>, WireError> {
        let mut values = metadata.get_all_bin(WORKLOAD_CONTEXT_METADATA_KEY).iter();
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(WireError::Repeated { field: WORKLOAD_CONTEXT_METADATA_KEY });
        }
        let malformed = |_| WireError::Undecodable { field: WORKLOAD_CONTEXT_METADATA_KEY };
        let bytes = value.to_bytes().map_err(malformed)?;
        if bytes.len() > limits::WORKLOAD_CONTEXT {
            return Err(WireError::TooLarge { field: WORKLOAD_CONTEXT_METADATA_KEY });
        }
        let context = Self::decode(bytes)
            .map_err(|_| WireError::Undecodable { field: WORKLOAD_CONTEXT_METADATA_KEY })?;
        context.check()?;
        Ok(Some(context))
    }

    fn check(&self) -> Result<(), WireError> {
        let too_large = |field| Err(WireError::TooLarge { field });
        if self.selectors.len() > limits::SELECTORS {
            return too_large("selectors");
        }
        if self.selectors.iter().any(|selector| selector.len() > limits::SELECTOR) {
            return too_large("selectors");
        }
        if self.instance.len() > limits::INSTANCE {
            return too_large("instance");
        }
        if self.encoded_len() > limits::WORKLOAD_CONTEXT {
            return too_large(WORKLOAD_CONTEXT_METADATA_KEY);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context() -> WorkloadContext {
        WorkloadContext { selectors: vec!["unix:uid:1001".to_owned()], instance: "web-0".to_owned(), pid: 42 }
    }

    fn metadata_of(value: &[u8]) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        metadata.insert_bin(WORKLOAD_CONTEXT_METADATA_KEY, MetadataValue::from_bytes(value));
        metadata
    }

    #[test]
    fn it_reads_back_as_it_was_attached() {
        let mut metadata = MetadataMap::new();
        context().attach(&mut metadata).expect("attach");
        assert_eq!(WorkloadContext::of(&metadata).expect("read"), Some(context()));
    }

    #[test]
    fn without_the_key_there_is_none() {
        assert!(WorkloadContext::of(&MetadataMap::new()).is_ok_and(|context| context.is_none()));
    }

    #[test]
    fn attaching_replaces_what_was_there() {
        let mut metadata = metadata_of(b"");
        context().attach(&mut metadata).expect("attach");
        assert_eq!(WorkloadContext::of(&metadata).expect("read"), Some(context()));
    }

    #[test]
    fn two_contexts_are_refused() {
        let mut metadata = metadata_of(b"");
        metadata.append_bin(WORKLOAD_CONTEXT_METADATA_KEY, MetadataValue::from_bytes(b""));
        assert!(matches!(WorkloadContext::of(&metadata), Err(WireError::Repeated { .. })));
    }

    #[test]
    fn bytes_that_are_no_context_are_refused() {
        let refused = WorkloadContext::of(&metadata_of(&[0xff; 9]));
        assert!(matches!(refused, Err(WireError::Undecodable { .. })));
    }

    #[test]
    fn limits_hold_on_both_sides() {
        let large = |selectors, instance| WorkloadContext { selectors, instance, pid: 0 };
        let cases = [
            large(vec![String::new(); limits::SELECTORS + 1], String::new()),
            large(vec!["s".repeat(limits::SELECTOR + 1)], String::new()),
            large(Vec::new(), "i".repeat(limits::INSTANCE + 1)),
            large(vec!["s".repeat(limits::SELECTOR); limits::SELECTORS], String::new()),
        ];
        for context in cases {
            let sent = context.attach(&mut MetadataMap::new());
            assert!(matches!(sent, Err(WireError::TooLarge { .. })));
            let read = WorkloadContext::of(&metadata_of(&context.encode_to_vec()));
            assert!(matches!(read, Err(WireError::TooLarge { .. })));
        }
    }
}
