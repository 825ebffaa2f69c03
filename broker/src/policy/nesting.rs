//! How deep a policy may nest.
//!
//! Cedar reads, checks and frees expressions by recursion, and text that nests far enough ends the process with its
//! stack: measured with a 2 MiB stack, somewhere between 50 and 200 brackets, or 1,000 and 5,000 operators in a row. So
//! the text is measured before Cedar sees it. The measure is of characters and not of grammar: it may refuse a policy
//! that Cedar could have read, and lets none through that is deeper than the limits.

/// Where `text` first goes beyond the limits, in bytes.
pub(super) fn too_deep(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut operators = 0_usize;
    let mut within = Within::Code;
    let mut before = b' ';
    for (at, byte) in text.bytes().enumerate() {
        within = match (within, byte) {
            (Within::Text, b'\\') => Within::Escape,
            (Within::Text, b'"') | (Within::Comment, b'\n') => Within::Code,
            (Within::Escape, _) => Within::Text,
            (Within::Text | Within::Comment, _) => within,
            (Within::Code, b'"') => Within::Text,
            (Within::Code, b'/') if before == b'/' => Within::Comment,
            (Within::Code, _) => {
                match byte {
                    b'(' | b'[' | b'{' => depth += 1,
                    b')' | b']' | b'}' => depth = depth.saturating_sub(1),
                    b';' => operators = 0,
                    _ => {}
                }
                // `if` is the one operator that is a word.
                if OPERATORS.contains(&byte) || (before == b'i' && byte == b'f') {
                    operators += 1;
                }
                Within::Code
            }
        };
        if depth > MAX_DEPTH || operators > MAX_OPERATORS {
            return Some(at);
        }
        before = byte;
    }
    None
}

#[derive(Clone, Copy)]
enum Within {
    Code,
    /// Between quotes.
    Text,
    /// After a backslash between quotes.
    Escape,
    Comment,
}

const OPERATORS: &[u8] = b"([{.&|+-*/%!<>=";
const MAX_DEPTH: usize = 32;
/// Of one policy, counted in characters.
const MAX_OPERATORS: usize = 500;
pub(super) const ADVICE: &str = "a policy may nest brackets 32 deep and have 500 characters of operators; write a set \
                                 with `contains` or `in` for a long list, or several policies";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_are_counted_in_depth_and_operators_in_number() {
        assert_eq!(too_deep(&format!("{}{}", "(".repeat(32), ")".repeat(32))), None);
        assert_eq!(too_deep(&"(".repeat(33)), Some(32));
        assert_eq!(too_deep(&"a.".repeat(501)), Some(1001));
        assert_eq!(too_deep(&"if ".repeat(501)), Some(1501));
    }

    #[test]
    fn every_policy_counts_for_itself() {
        assert_eq!(
            too_deep(&"permit (principal, action, resource) when { a.b == c.d };\n".repeat(1000)),
            None
        );
    }

    #[test]
    fn quotes_and_comments_do_not_count() {
        let brackets = "(".repeat(100);
        assert_eq!(too_deep(&format!("\"{brackets}\\\"{brackets}\" // {brackets}\n")), None);
        assert_eq!(too_deep(&format!("\"a\\\\\"{brackets}")), Some(5 + 32));
    }
}
