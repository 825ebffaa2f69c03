//! For those who try what can be done to the parsers by whoever writes a SecretProviderClass.

use std::path::PathBuf;

use bursar_proto::csi::MountRequest;

use super::asked::Asked;
use super::listing;

/// What a request for a volume came to.
#[derive(Debug)]
pub struct Asking {
    /// `NAMESPACE/NAME`
    pub pod: String,
    /// Of files that have none of their own.
    pub mode: u32,
    pub environment: Option<String>,
    /// Where in the volume, and with which mode.
    pub files: Vec<(PathBuf, u32)>,
}

/// Reads a request for a volume, with the pod's token for `audience`.
///
/// # Errors
/// What the driver is told.
pub fn asking(message: MountRequest, audience: &str) -> Result<Asking, String> {
    let Asked { pod, bearer: _, volume } =
        Asked::read(message, audience).map_err(|status| status.message().to_owned())?;
    let outputs = volume.environment.iter().flat_map(|environment| &environment.outputs);
    let outputs = outputs.map(|output| (PathBuf::from(&output.path), output.mode));
    let objects = volume.objects.iter().map(|object| (PathBuf::from(&object.path), object.mode));
    Ok(Asking {
        pod: pod.name,
        mode: volume.mode,
        files: outputs.chain(objects).collect(),
        environment: volume.environment.map(|environment| environment.name),
    })
}

/// How many entries a list of a SecretProviderClass has.
///
/// # Errors
/// What is wrong with it.
pub fn listed(text: &str) -> Result<usize, String> {
    Ok(listing::entries(text)?.len())
}
