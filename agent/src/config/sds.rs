//! `[sds]`: the socket at which Envoy asks for its secrets.

use std::path::PathBuf;

use bursar_core::settings::Section;

/// Where Envoy asks.
#[derive(Debug, Clone)]
pub struct Sds {
    pub socket: PathBuf,
    /// Permission bits of the socket. Everybody may connect unless told otherwise: who calls is attested.
    pub socket_mode: u32,
}

pub(super) fn sds(sds: &mut Section<'_>) -> Option<Sds> {
    let socket = sds.parsed("socket", super::files::absolute);
    let socket = sds.required("socket", socket);
    let socket_mode = sds.parsed("socket_mode", super::socket_mode).unwrap_or(0o666);
    Some(Sds { socket: socket?, socket_mode })
}
