//! Pages of lists, as every list has them.

use bursar_proto::limits;

use crate::failure::Failure;
use crate::ledger::Page;

/// The page that a request asks for; 0 entries means the default.
pub(super) fn read(size: u32, token: String) -> Result<Page, Failure> {
    if size > limits::PAGE {
        return Err(Failure::Invalid { field: "page_size", message: format!("is at most {}", limits::PAGE) });
    }
    let size = if size == 0 { limits::PAGE_DEFAULT } else { size };
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    Ok(Page { size, token: (!token.is_empty()).then_some(token) })
}

/// A text of at most `limit` bytes.
pub(super) fn text(field: &'static str, text: String, limit: usize) -> Result<String, Failure> {
    if text.len() > limit {
        return Err(Failure::Invalid { field, message: format!("is at most {limit} bytes long") });
    }
    Ok(text)
}
