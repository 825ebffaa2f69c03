use bursar_core::audit::UnknownAction;
use bursar_core::lease::LeaseIdError;
use bursar_core::reference::ReferenceError;
use bursar_core::spiffe::SpiffeIdError;

/// A message that cannot be read. `field` is the path of the field inside its message, or a metadata key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    #[error("`{field}` is missing")]
    Missing { field: &'static str },
    #[error("`{field}` is there more than once")]
    Repeated { field: &'static str },
    #[error("`{field}` is larger than the limits allow")]
    TooLarge { field: &'static str },
    #[error("`{field}` cannot be decoded")]
    Undecodable { field: &'static str },
    #[error("`{field}` is {value}, which this release does not know")]
    UnknownValue { field: &'static str, value: i32 },
    #[error("`{field}` is out of range for a time or duration")]
    OutOfRange { field: &'static str },
    #[error("`{field}` is no reference or part of one")]
    Reference {
        field: &'static str,
        #[source]
        source: ReferenceError,
    },
    #[error("`{field}` is no SPIFFE ID")]
    SpiffeId {
        field: &'static str,
        #[source]
        source: SpiffeIdError,
    },
    #[error("`{field}` is no lease id")]
    LeaseId {
        field: &'static str,
        #[source]
        source: LeaseIdError,
    },
    #[error("`{field}` is no action")]
    Action {
        field: &'static str,
        #[source]
        source: UnknownAction,
    },
}
