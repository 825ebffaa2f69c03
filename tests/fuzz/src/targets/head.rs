//! Requests of HTTP as a parser of HTTP hands them on: `METHOD URI`, lines of `NAME: VALUE`, an empty line, the body.

use http::Request;
use http::request::Parts;

/// Reads one, if HTTP has it.
pub(super) fn read(input: &[u8]) -> Option<(Parts, &[u8])> {
    let end = input.windows(2).position(|pair| pair == b"\n\n");
    let (head, body) = match end.and_then(|end| input.split_at_checked(end)) {
        Some((head, body)) => (head, body.get(2..).unwrap_or_default()),
        None => (input, &[][..]),
    };
    let mut lines = head.split(|byte| *byte == b'\n');
    let (method, uri) = std::str::from_utf8(lines.next()?).ok()?.split_once(' ')?;
    let mut request = Request::builder().method(method).uri(uri);
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = line.split_at_checked(colon)?;
        request = request.header(name, value.get(1..)?.trim_ascii());
    }
    Some((request.body(()).ok()?.into_parts().0, body))
}
