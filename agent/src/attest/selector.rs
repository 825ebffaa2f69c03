//! Selectors as the broker takes them: `KIND:VALUE`, printable ASCII without spaces, few and short.

use std::fmt::Display;

use bursar_proto::limits;

/// The selectors of one process. What breaks a limit is left out: it can then not be matched on, which refuses rather
/// than grants.
#[derive(Debug, Default)]
pub(super) struct Selectors(Vec<String>);

impl Selectors {
    pub(super) fn add(&mut self, kind: &str, value: impl Display) {
        self.push(format!("{kind}:{value}"));
    }

    /// A value of any bytes: what is not printable, and `%`, becomes `%XX`.
    pub(super) fn add_bytes(&mut self, kind: &str, value: Option<&[u8]>) {
        let Some(value) = value.filter(|value| !value.is_empty()) else { return };
        let mut text = format!("{kind}:");
        for byte in value {
            match byte {
                b'%' => text.push_str("%25"),
                byte if byte.is_ascii_graphic() => text.push(char::from(*byte)),
                byte => text.push_str(&format!("%{byte:02X}")),
            }
        }
        self.push(text);
    }

    pub(super) fn into_sorted(mut self) -> Vec<String> {
        self.0.sort_unstable();
        self.0.dedup();
        self.0
    }

    fn push(&mut self, selector: String) {
        if selector.len() <= limits::SELECTOR && self.0.len() < limits::SELECTORS {
            self.0.push(selector);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(path: &[u8]) -> Vec<String> {
        let mut selectors = Selectors::default();
        selectors.add_bytes("unix:exe", Some(path));
        selectors.into_sorted()
    }

    #[test]
    fn what_is_not_printable_is_percent_encoded() {
        assert_eq!(encoded(b"/opt/a b/%\n\xff"), ["unix:exe:/opt/a%20b/%25%0A%FF"]);
    }

    #[test]
    fn one_that_is_too_long_is_left_out() {
        assert_eq!(encoded(&[b'a'; 300]), Vec::<String>::new());
    }

    #[test]
    fn there_are_never_more_than_the_limit() {
        let mut selectors = Selectors::default();
        for group in 0..1000 {
            selectors.add("unix:group", group);
        }
        assert_eq!(selectors.into_sorted().len(), limits::SELECTORS);
    }

    proptest! {
        /// The broker refuses a whole call for one selector that it cannot read.
        #[test]
        fn every_selector_is_one_that_the_broker_takes(value in prop::collection::vec(any::<u8>(), 0..400)) {
            for selector in encoded(&value) {
                prop_assert!(selector.len() <= limits::SELECTOR);
                prop_assert!(selector.bytes().all(|byte| byte.is_ascii_graphic()));
            }
        }
    }
}
