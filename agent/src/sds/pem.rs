//! The blocks of a PEM text (RFC 7468), whatever stands between them.

/// One block.
#[derive(Clone, Copy)]
pub(super) struct Block<'a> {
    label: &'a str,
    /// From its first line to its last, without a line end.
    pub(super) text: &'a str,
}

impl Block<'_> {
    pub(super) fn is_key(&self) -> bool {
        self.label.ends_with("PRIVATE KEY")
    }

    pub(super) fn is_certificate(&self) -> bool {
        self.label == "CERTIFICATE"
    }
}

/// The blocks in their order. What has no end is none.
pub(super) fn blocks(text: &str) -> impl Iterator<Item = Block<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            let (_, begun) = rest.split_at_checked(rest.find(BEGIN)?)?;
            let (_, after) = begun.split_at_checked(BEGIN.len())?;
            rest = after;
            let Some((label, body)) =
                after.split_once(DASHES).filter(|(label, _)| !label.contains(['\n', '\r']))
            else {
                continue;
            };
            let end = format!("-----END {label}{DASHES}");
            let inside =
                |at: &usize| body.split_at_checked(*at).is_some_and(|(inside, _)| !inside.contains(BEGIN));
            let Some(at) = body.find(&end).filter(inside) else { continue };
            let length = BEGIN.len() + label.len() + DASHES.len() + at + end.len();
            let (text, after) = begun.split_at_checked(length)?;
            rest = after;
            return Some(Block { label, text });
        }
    })
}

const BEGIN: &str = "-----BEGIN ";
const DASHES: &str = "-----";

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(&str, &str)> {
        blocks(text).map(|block| (block.label, block.text)).collect()
    }

    #[test]
    fn blocks_are_found_whatever_stands_between_them() {
        let one = "-----BEGIN A-----\nx\n-----END A-----";
        let other = "-----BEGIN B C-----\r\ny\r\n-----END B C-----";
        assert_eq!(found(&format!("note\n{one}\n\n{other}end")), [("A", one), ("B C", other)]);
    }

    #[test]
    fn what_is_no_block_is_passed_over() {
        let one = "-----BEGIN A-----\nx\n-----END A-----";
        for text in ["", "-----BEGIN ", "-----BEGIN A-----", "-----BEGIN A\n-----x-----END A\n-----", "é"] {
            assert_eq!(found(text), [], "{text}");
            assert_eq!(found(&format!("{text} {one}")), [("A", one)], "{text}");
        }
    }
}
