//! Which authorities vouch for callers beside the broker's own, and for whom.

use std::fmt;
use std::path::PathBuf;

use bursar_core::SpiffeId;
use bursar_core::settings::Section;
use bursar_core::spiffe::TrustDomain;

/// An authority, or several that are trusted alike.
#[derive(Debug, Clone)]
pub struct TrustSettings {
    pub name: String,
    /// The only trust domain that it vouches for.
    pub domain: TrustDomain,
    /// Its roots, in PEM.
    pub bundle: PathBuf,
    /// What it has revoked.
    pub crl: Option<PathBuf>,
    pub principals: PrincipalPatterns,
}

/// Whom an authority may vouch for, by the paths of SPIFFE IDs.
///
/// Of the broker's own trust domain, nodes and brokers have powers that nobody else has. They are covered by a pattern
/// that names them in its first segment, and by no wildcard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrincipalPatterns(Vec<Pattern>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    segments: Vec<Segment>,
    /// Whether it goes on with whatever is below.
    open: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Exact(String),
    Any,
}

impl PrincipalPatterns {
    /// Everybody, as far as wildcards go.
    pub fn everybody() -> Self {
        Self(vec![Pattern { segments: Vec::new(), open: true }])
    }

    /// Reads patterns such as `/user/*`, `/ns/shop/sa/*` and `/ns/**`.
    ///
    /// # Errors
    /// What is wrong with the first bad one.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        texts.into_iter().map(Pattern::parse).collect::<Result<_, _>>().map(Self)
    }

    /// Whether `id` is among them; `own` says that it is of the broker's own trust domain.
    pub fn cover(&self, id: &SpiffeId, own: bool) -> bool {
        let reserved = own && id.segments().next().is_some_and(|first| RESERVED.contains(&first));
        let fits = |pattern: &&Pattern| pattern.fits(id);
        let mut fitting = self.0.iter().filter(fits);
        fitting.any(|pattern| !reserved || matches!(pattern.segments.first(), Some(Segment::Exact(_))))
    }
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, String> {
        let fault = || format!("`{}` is no pattern; {FORM}", text.escape_default());
        let path = text.strip_prefix('/').ok_or_else(fault)?;
        let (path, open) = match path.strip_suffix("**") {
            Some("") => return Ok(Self { segments: Vec::new(), open: true }),
            Some(above) => (above.strip_suffix('/').ok_or_else(fault)?, true),
            None => (path, false),
        };
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let segment = |segment: &str| match segment {
            "*" => Ok(Segment::Any),
            "" | "." | ".." => Err(fault()),
            exact if exact.bytes().all(allowed) => Ok(Segment::Exact(exact.to_owned())),
            _ => Err(fault()),
        };
        Ok(Self { segments: path.split('/').map(segment).collect::<Result<_, _>>()?, open })
    }

    fn fits(&self, id: &SpiffeId) -> bool {
        let mut rest = id.segments();
        let begins = self.segments.iter().all(|wanted| {
            rest.next().is_some_and(|segment| match wanted {
                Segment::Exact(exact) => exact == segment,
                Segment::Any => true,
            })
        });
        begins && (rest.next().is_some() == self.open)
    }
}

impl fmt::Display for TrustSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "identity.trust.{}", self.name)
    }
}

/// Reads the tables `trust.NAME`.
pub(super) fn trust(identity: &mut Section<'_>) -> Vec<TrustSettings> {
    identity.each("trust", |name, section| {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if name.is_empty() || name.len() > 63 || !name.bytes().all(allowed) {
            section.fault::<()>("", "the name of a bundle has 1 to 63 of a-z, 0-9 and `-`".to_owned());
        }
        let domain = section.parsed("trust_domain", TrustDomain::parse);
        let domain = section.required("trust_domain", domain);
        let bundle = section.path("bundle");
        let bundle = section.required("bundle", bundle);
        let crl = section.path("crl");
        let principals = match section.one_or_more("principals") {
            None => Some(PrincipalPatterns::everybody()),
            Some(texts) => match PrincipalPatterns::parse(texts.iter().map(String::as_str)) {
                Ok(patterns) => Some(patterns),
                Err(error) => section.fault("principals", error),
            },
        };
        Some(TrustSettings {
            name: name.to_owned(),
            domain: domain?,
            bundle: bundle?,
            crl,
            principals: principals?,
        })
    })
}

const RESERVED: [&str; 2] = ["node", "broker"];
const FORM: &str = "write the path of a SPIFFE ID, with `*` for any one segment and `**` at the end for all that is \
                    below, such as `/user/*` or `/ns/**`";

#[cfg(test)]
mod tests {
    use super::*;

    fn covered(patterns: &[&str], path: &str, own: bool) -> bool {
        let id = SpiffeId::parse(&format!("spiffe://example.org{path}")).expect("id");
        PrincipalPatterns::parse(patterns.iter().copied()).expect("patterns").cover(&id, own)
    }

    #[test]
    fn a_pattern_covers_whole_segments_and_nothing_above_or_beside() {
        assert!(covered(&["/user/*"], "/user/ada", true));
        assert!(!covered(&["/user/*"], "/user", true));
        assert!(!covered(&["/user/*"], "/user/ada/x", true));
        assert!(!covered(&["/user/*"], "/users/ada", true));
        assert!(covered(&["/ns/shop/**"], "/ns/shop/sa/web", true));
        assert!(!covered(&["/ns/shop/**"], "/ns/shop", true));
        assert!(!covered(&["/ns/shop/**"], "/ns/shopping/sa/web", true));
        assert!(covered(&["/user/ada", "/ns/*/sa/web"], "/ns/shop/sa/web", true));
        assert!(!covered(&["/ns/*/sa/web"], "/ns/a/b/sa/web", true));
    }

    #[test]
    fn no_wildcard_covers_nodes_and_brokers_of_the_own_domain() {
        for (path, named) in [("/node/web-1", "/node/*"), ("/broker/b", "/broker/**")] {
            assert!(!covered(&["/**", "/*/*"], path, true), "{path}");
            assert!(covered(&[named], path, true), "{path}");
            assert!(covered(&["/**"], path, false), "elsewhere {path} has no powers");
        }
        let everybody = PrincipalPatterns::everybody();
        let id = |text| SpiffeId::parse(text).expect("id");
        assert!(everybody.cover(&id("spiffe://example.org/user/ada"), true));
        assert!(!everybody.cover(&id("spiffe://example.org/node/web-1"), true));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for bad in
            ["", "user/*", "/", "//", "/user/", "/user/a*", "/**/x", "/us er", "/user**", "/../x", "/a/./b"]
        {
            assert!(PrincipalPatterns::parse([bad]).is_err(), "`{bad}`");
        }
    }
}
