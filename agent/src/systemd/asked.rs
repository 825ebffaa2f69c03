//! What systemd asks for, by the name that its end of the connection has.

/// A credential of a unit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) unit: String,
    /// What the unit calls it.
    pub(super) id: String,
}

impl Asked {
    /// Reads an abstract name, `RANDOM/unit/UNIT/ID` (systemd.exec(5), `LoadCredential=`). Nothing for any other.
    pub(super) fn read(name: &[u8]) -> Option<Self> {
        let (random, rest) = std::str::from_utf8(name).ok()?.split_once("/unit/")?;
        let (unit, id) = rest.split_once('/')?;
        let is_random =
            (1..=16).contains(&random.len()) && random.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_name = |text: &str| {
            (1..=255).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/')
        };
        (is_random && is_name(unit) && is_name(id)).then(|| Self { unit: unit.to_owned(), id: id.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_as_systemd_makes_it_says_unit_and_credential() {
        let asked = Asked::read(b"adf9d86b6eda275e/unit/web@1.service/db-password").expect("systemd's");
        assert_eq!((asked.unit.as_str(), asked.id.as_str()), ("web@1.service", "db-password"));
    }

    #[test]
    fn every_other_name_says_nothing() {
        let others = [
            &b""[..],
            b"adf9/unit/web.service",
            b"adf9/unit//x",
            b"adf9/unit/web.service/",
            b"adf9/unit/web.service/a/b",
            b"/unit/web.service/x",
            b"xyz/unit/web.service/x",
            b"0123456789abcdef0/unit/web.service/x",
            b"adf9/unit/web .service/x",
            b"adf9/unit/web.service/\xff",
            b"adf9/user/web.service/x",
        ];
        for name in others {
            assert_eq!(Asked::read(name), None, "{}", name.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn no_name_breaks_it(name in prop::collection::vec(any::<u8>(), 0..108)) {
            drop(Asked::read(&name));
        }
    }
}
