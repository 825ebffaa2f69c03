//! `[identity.issuers.NAME]`: whose tokens say who is asking.

mod nodes;
mod rule;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bursar_backend_http::{Plaintext, address};
use bursar_core::SpiffeId;
use bursar_core::settings::{SecretSource, Section};
use bursar_core::spiffe::TrustDomain;
use reqwest::Url;

pub(super) use nodes::nodes;
pub use nodes::{HostPattern, NodeProof, NodeRule};
pub use rule::{Matched, Rule};

use super::OnOutage;

/// Somebody who signs tokens.
#[derive(Debug)]
pub struct IssuerSettings {
    pub name: String,
    /// What `iss` says, to the letter.
    pub issuer: String,
    pub audiences: Vec<String>,
    pub keys: KeysPlace,
    /// Who vouches for the issuer's own servers; the system's authorities when not given.
    pub ca_file: Option<PathBuf>,
    pub clock_skew: Duration,
    /// How often the keys are fetched anew.
    pub refresh: Duration,
    /// For so long the keys count when they cannot be fetched anew.
    pub max_stale: Duration,
    pub kind: IssuerKind,
}

/// Where the keys of an issuer are.
#[derive(Debug)]
pub enum KeysPlace {
    /// A server that says so itself, below this address; `token` is shown to it.
    Discovery { base: Url, token: Option<SecretSource> },
    /// A file with the key set.
    File(PathBuf),
}

/// What tokens say, and whom they make of their bearers.
#[derive(Debug)]
pub enum IssuerKind {
    /// A cluster: service accounts, below these segments.
    Kubernetes { path: Vec<String>, review: Option<ReviewSettings> },
    /// Anybody else: whoever the first rule that fits says.
    Oidc { rules: Arc<[Rule]> },
}

/// How a cluster is asked whether a token still counts.
#[derive(Debug)]
pub struct ReviewSettings {
    pub server: Url,
    pub ca_file: Option<PathBuf>,
    /// The broker's own token there.
    pub token: SecretSource,
    pub on_outage: OnOutage,
}

impl IssuerSettings {
    /// Whether both are clusters whose accounts have the same names.
    fn shares_names_with(&self, other: &Self) -> bool {
        match (&self.kind, &other.kind) {
            (IssuerKind::Kubernetes { path, .. }, IssuerKind::Kubernetes { path: taken, .. }) => {
                path == taken
            }
            _ => false,
        }
    }
}

pub(super) fn issuers(identity: &mut Section<'_>, domain: Option<&TrustDomain>) -> Vec<IssuerSettings> {
    let mut read: Vec<IssuerSettings> = Vec::new();
    identity.each("issuers", |name, section| {
        let issuer = issuer(name, section, domain)?;
        if let Some(other) = read.iter().find(|other| other.issuer == issuer.issuer) {
            let message = format!("is that of `{}` too; a token has to be of one", other.name);
            return section.fault("issuer", message);
        }
        if let Some(other) = read.iter().find(|other| other.shares_names_with(&issuer)) {
            let message = format!(
                "is that of `{}` too: accounts of one cluster would pass for those of the other; give each a \
                 path",
                other.name
            );
            return section.fault("path", message);
        }
        read.push(issuer);
        None::<()>
    });
    read
}

fn issuer(name: &str, section: &mut Section<'_>, domain: Option<&TrustDomain>) -> Option<IssuerSettings> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || name.len() > 63 || !name.bytes().all(allowed) {
        section.fault::<()>("", "an issuer's name has 1 to 63 of a-z, 0-9 and `-`".to_owned());
    }
    let issuer = section.parsed("issuer", |text| https(text).map(|url| (text.to_owned(), url)));
    let issuer = section.required("issuer", issuer);
    let audiences = section.one_or_more("audience");
    let audiences = section.required("audience", audiences).and_then(|audiences| {
        match audiences.iter().any(|audience| audience.trim().is_empty()) {
            true => section.fault("audience", "must not be empty".to_owned()),
            false => Some(audiences),
        }
    });
    let keys = keys(section, issuer.as_ref().map(|(_, url)| url));
    let ca_file = section.path("ca_file");
    let mut within = |key, default, least: Duration, most: Duration, form: &str| {
        let given = section.duration(key).unwrap_or(default);
        match (least..=most).contains(&given) {
            true => Some(given),
            false => section.fault(key, format!("is {form}")),
        }
    };
    let clock_skew = within("clock_skew", MINUTE, Duration::ZERO, 5 * MINUTE, "at most 5m");
    let refresh = within("refresh", 5 * MINUTE, MINUTE, 60 * MINUTE, "1m to 1h");
    let max_stale = within("max_stale", DAY, 60 * MINUTE, 7 * DAY, "1h to 7d");
    let kind = section.text("kind");
    let kind = match section.required("kind", kind).as_deref() {
        Some("kubernetes") => kubernetes(section),
        Some("oidc") => oidc(section, domain),
        Some(other) => section.fault(
            "kind",
            format!("there is no kind of issuer `{other}`; there are `kubernetes` and `oidc`"),
        ),
        None => None,
    };
    Some(IssuerSettings {
        name: name.to_owned(),
        issuer: issuer?.0,
        audiences: audiences?,
        keys: keys?,
        ca_file,
        clock_skew: clock_skew?,
        refresh: refresh?,
        max_stale: max_stale?,
        kind: kind?,
    })
}

fn keys(section: &mut Section<'_>, issuer: Option<&Url>) -> Option<KeysPlace> {
    let discovery = section.parsed("discovery", https);
    let file = section.path("jwks_file");
    let token = section.secret_source("discovery_token");
    match (discovery, file) {
        (Some(_), Some(_)) => {
            section.fault("jwks_file", "and `discovery` are two places for one key set; give one".to_owned())
        }
        (None, Some(_)) if token.is_some() => {
            section.fault("discovery_token", "is shown to nobody, since `jwks_file` is given".to_owned())
        }
        (None, Some(file)) => Some(KeysPlace::File(file)),
        (Some(base), None) => Some(KeysPlace::Discovery { base, token }),
        (None, None) => Some(KeysPlace::Discovery { base: issuer?.clone(), token }),
    }
}

fn kubernetes(section: &mut Section<'_>) -> Option<IssuerKind> {
    let path = match section.text("path") {
        None => Some(Vec::new()),
        Some(text) => match path(&text) {
            Some(path) => Some(path),
            None => section.fault(
                "path",
                "is what stands before `/ns/NAMESPACE/sa/ACCOUNT`, such as `east` or `clusters/east`; it does not \
                 begin with `broker`, `node`, `ns`, `user` or `workload`"
                    .to_owned(),
            ),
        },
    };
    let review = section.section_if_given("token_review", |review| {
        let server = review.parsed("server", https);
        let server = review.required("server", server);
        let ca_file = review.path("ca_file");
        let token = review.secret_source("token");
        let token = review.required("token", token);
        let on_outage = review.parsed("on_outage", |text| match text {
            "fail" => Ok(OnOutage::Fail),
            "offline" => Ok(OnOutage::Serve),
            other => Err(format!("is `fail` or `offline`, not `{other}`")),
        });
        let on_outage = on_outage.unwrap_or(OnOutage::Fail);
        Some(ReviewSettings { server: server?, ca_file, token: token?, on_outage })
    });
    let review = match review {
        None => None,
        Some(read) => Some(read?),
    };
    Some(IssuerKind::Kubernetes { path: path?, review })
}

fn oidc(section: &mut Section<'_>, domain: Option<&TrustDomain>) -> Option<IssuerKind> {
    // The faults of rules are told even where that of the trust domain is.
    let stand_in = TrustDomain::parse("example.org").ok()?;
    let mut count = 0;
    let rules = section.tables("rules", |section| {
        count += 1;
        rule::read(section, domain.unwrap_or(&stand_in))
    });
    if count == 0 {
        return section.fault("rules", "are required: a token that no rule fits names nobody".to_owned());
    }
    Some(IssuerKind::Oidc { rules: rules.into() })
}

fn https(text: &str) -> Result<Url, &'static str> {
    let form = "must be a URL that starts with `https://`, without user, query and fragment";
    address(text, Plaintext::Refused).map_err(|_| form)
}

fn path(text: &str) -> Option<Vec<String>> {
    let segments: Vec<String> = text.trim_start_matches('/').split('/').map(str::to_owned).collect();
    let first = segments.first()?;
    let domain = TrustDomain::parse("d").ok()?;
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    SpiffeId::from_segments(&domain, &parts).ok()?;
    (!["broker", "node", "ns", "user", "workload"].contains(&first.as_str())).then_some(segments)
}

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);
