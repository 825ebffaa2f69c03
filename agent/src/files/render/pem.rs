//! A key, a certificate and its chain in one file, as most servers take them.

use std::io::Write;

use bursar_core::Secret;

use super::formats::text;
use super::{Buffer, RenderError, Variable};
use crate::config::Output;

/// Writes the blocks of `variables` in their order, each on lines of its own.
pub(super) fn write(output: &Output, variables: Vec<(&str, &Variable)>) -> Result<Secret, RenderError> {
    let too_long = |_| RenderError::TooLong { path: output.path.clone() };
    let mut out = Buffer::new();
    for (name, variable) in variables {
        let blocks = text(output, name, variable)?.trim();
        if !is_pem(blocks) {
            return Err(RenderError::NotPem { path: output.path.clone(), variable: name.to_owned() });
        }
        out.write_all(blocks.as_bytes()).and_then(|()| out.write_all(b"\n")).map_err(too_long)?;
    }
    Ok(out.finish())
}

/// Blocks from `BEGIN` to the `END` of the same label (RFC 7468), at least one, none inside another.
fn is_pem(text: &str) -> bool {
    let mut open = None;
    let mut blocks = 0;
    for line in text.lines().map(str::trim) {
        let label = |mark: &str| line.strip_prefix(mark)?.strip_suffix("-----");
        match (label("-----BEGIN "), label("-----END "), open) {
            (Some(begun), _, None) => open = Some(begun),
            (None, Some(ended), Some(begun)) if ended == begun => {
                open = None;
                blocks += 1;
            }
            (Some(_), ..) | (_, Some(_), _) => return false,
            (None, None, _) => {}
        }
    }
    blocks > 0 && open.is_none()
}
