//! Things of the API as results: what a table shows of each, and the names of their JSON fields, which are an interface.
//!
//! The wire's messages are not printed as they are: enums are numbers there and absent strings are empty. A message
//! that a later release fills with something unknown is an error here, not a wrong word in a table.

mod approval;
mod copy;
mod environment;
mod lease;
mod node;
mod policy;
mod record;
mod revocation;
mod store;
mod system;

pub(crate) use approval::ApprovalView;
pub(crate) use copy::CopyView;
pub(crate) use environment::{ChangeView, DifferenceView, EnvironmentView, FindingView, ResolvedView};
pub(crate) use lease::{HolderView, LeaseView};
pub(crate) use node::NodeView;
pub(crate) use policy::{DecisionView, DiagnosticView};
pub(crate) use record::RecordView;
pub(crate) use revocation::RevocationView;
pub(crate) use store::{NameView, SecretView, VersionView};
pub(crate) use system::{BackendView, CheckView, StatusView};

use bursar_proto::convert::{WireError, timestamp_from_wire};
use jiff::Timestamp;

use crate::error::Error;

/// A time that may be absent.
fn time(field: &'static str, time: Option<prost_types::Timestamp>) -> Result<Option<Timestamp>, WireError> {
    time.map(|time| timestamp_from_wire(field, Some(time))).transpose()
}

/// A string that is empty on the wire when there is none.
fn filled(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// Reads what a server sent into what is shown.
///
/// # Errors
/// [`Error::Call`], when the answer breaks the rules of the API.
pub(crate) fn read<M, V: TryFrom<M, Error = WireError>>(
    client: &bursar_sdk::Client,
    message: M,
) -> Result<V, Error> {
    V::try_from(message).map_err(|source| malformed(client, source))
}

/// As [`read`], for every message of a list.
///
/// # Errors
/// As those of [`read`].
pub(crate) fn read_all<M, V: TryFrom<M, Error = WireError>>(
    client: &bursar_sdk::Client,
    messages: Vec<M>,
) -> Result<Vec<V>, Error> {
    messages.into_iter().map(|message| read(client, message)).collect()
}

/// As [`read`], for a message that has to be there.
///
/// # Errors
/// As those of [`read`].
pub(crate) fn read_required<M, V: TryFrom<M, Error = WireError>>(
    client: &bursar_sdk::Client,
    field: &'static str,
    message: Option<M>,
) -> Result<V, Error> {
    let message = message.ok_or_else(|| missing(client, field))?;
    read(client, message)
}

/// What a server left out although its API promises it.
pub(crate) fn missing(client: &bursar_sdk::Client, field: &'static str) -> Error {
    malformed(client, WireError::Missing { field })
}

/// What a server sent against the rules of its API.
pub(crate) fn malformed(client: &bursar_sdk::Client, source: WireError) -> Error {
    Error::Call(bursar_sdk::Error::Malformed { address: client.address().clone(), source })
}
