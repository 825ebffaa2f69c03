//! Rules of an OIDC issuer: which tokens make whom of their bearers.
//!
//! What a claim says comes from outside: a person chooses a user name, a repository its name. So a name is made only of
//! claims that the rule itself has matched, one segment of the path each; and what comes from a claim never makes a
//! node, the broker or its administrator.

use std::collections::BTreeMap;

use bursar_core::SpiffeId;
use bursar_core::settings::Section;
use bursar_core::spiffe::{PrincipalKind, TrustDomain};
use serde_json::{Map, Value};

use crate::config::{administrator, break_glass};
use crate::policy::GroupName;

/// Whom a token makes of its bearer, if it fits.
#[derive(Debug)]
pub struct Rule {
    /// All have to fit.
    matches: BTreeMap<String, Pattern>,
    domain: TrustDomain,
    /// Whom no claim makes.
    reserved: [SpiffeId; 2],
    principal: Template,
    groups: Vec<Template>,
}

/// Whom a rule made.
#[derive(Debug, PartialEq, Eq)]
pub struct Matched {
    /// None when the claims make no name that the rule may give.
    pub id: Option<SpiffeId>,
    pub groups: Vec<GroupName>,
    /// The claims that fitted, with what they said.
    pub claims: Vec<(String, String)>,
}

impl Rule {
    /// Whom the rule makes of a token with these claims; nothing when it does not fit.
    pub fn apply(&self, claims: &Map<String, Value>) -> Option<Matched> {
        let mut fitting = BTreeMap::new();
        for (claim, pattern) in &self.matches {
            let mut said = texts(find(claims, claim)?);
            said.retain(|text| pattern.fits(text));
            if said.is_empty() || said.len() > MAX_VALUES {
                return None;
            }
            fitting.insert(claim.as_str(), said);
        }
        // Of several values none is the name.
        let path = match self.principal.fill(&fitting).as_slice() {
            [path] => Some(format!("spiffe://{}{path}", self.domain)),
            _ => None,
        };
        let id = path.and_then(|path| SpiffeId::parse(&path).ok()).filter(|id| self.may_give(id));
        let groups = self.groups.iter().flat_map(|group| group.fill(&fitting));
        let groups = groups.filter_map(|name| GroupName::parse(&name).ok()).collect();
        let pairs = fitting
            .into_iter()
            .flat_map(|(claim, said)| said.into_iter().map(move |text| (claim.to_owned(), text)));
        Some(Matched { id, groups, claims: pairs.collect() })
    }

    fn may_give(&self, id: &SpiffeId) -> bool {
        let as_written = id.segments().count() == self.principal.segments();
        let never = matches!(id.kind(), PrincipalKind::Node { .. }) || id.segments().next() == Some("broker");
        as_written && !never && (self.principal.is_fixed() || !self.reserved.contains(id))
    }
}

pub(super) fn read(section: &mut Section<'_>, domain: &TrustDomain) -> Option<Rule> {
    let pairs = section.pairs("match");
    if pairs.is_empty() {
        section.fault::<()>("match", "is required: a rule without it would fit every token".to_owned());
    }
    let matches: BTreeMap<String, Pattern> =
        pairs.into_iter().map(|(claim, pattern)| (claim, Pattern(pattern))).collect();
    let known = |template: &Template| {
        template.claims().find(|claim| !matches.contains_key(*claim)).map(|claim| {
            format!(
                "uses `{{{claim}}}`, which `match` does not have; only claims that were matched make names"
            )
        })
    };
    let principal = section.parsed("principal", |text| {
        let template = Template::parse(text)?;
        match known(&template) {
            Some(fault) => Err(fault),
            None => path(template, domain),
        }
    });
    let principal = section.required("principal", principal);
    let mut groups = Vec::new();
    for text in section.texts("groups") {
        let read = Template::parse(&text).and_then(|template| match known(&template) {
            Some(fault) => Err(fault),
            None if template.is_fixed() && GroupName::parse(&text).is_err() => {
                Err(format!("`{text}` is no group; write letters, digits, `.`, `_`, `-` and `/`"))
            }
            None => Ok(template),
        });
        match read {
            Ok(template) => groups.push(template),
            Err(fault) => drop(section.fault::<()>("groups", fault)),
        }
    }
    let reserved = [administrator(domain), break_glass(domain)];
    Some(Rule { matches, domain: domain.clone(), reserved, principal: principal?, groups })
}

/// Tries a path with a harmless word for every claim.
fn path(template: Template, domain: &TrustDomain) -> Result<Template, String> {
    let form = "is a path such as `/user/{preferred_username}` or `/workload/deploy`";
    let words: BTreeMap<&str, Vec<String>> =
        template.claims().map(|claim| (claim, vec!["x".to_owned()])).collect();
    let filled = template.fill(&words);
    let tried = filled.first().filter(|path| path.starts_with('/')).ok_or(form)?;
    let id = SpiffeId::parse(&format!("spiffe://{domain}{tried}")).map_err(|_| form.to_owned())?;
    let first_is_fixed = matches!(template.0.first(), Some(Part::Text(text)) if text.len() > 1);
    if !first_is_fixed || !template.begins_with_a_whole_segment() {
        return Err("must begin with a segment without claims, such as `/user/`".to_owned());
    }
    if template.is_fixed() && id == break_glass(domain) {
        return Err(format!("makes nobody `{id}`, for whom the broker's own authority alone vouches"));
    }
    if matches!(id.segments().next(), Some("node" | "broker")) {
        return Err("must not begin with `/node` or `/broker`: nodes join, and no token makes one".to_owned());
    }
    Ok(template)
}

/// A claim by name, or by the names of the objects around it: `a.b`.
fn find<'claims>(claims: &'claims Map<String, Value>, name: &str) -> Option<&'claims Value> {
    if let Some(value) = claims.get(name) {
        return Some(value);
    }
    name.match_indices('.').find_map(|(at, _)| {
        let (outer, inner) = (name.get(..at)?, name.get(at + 1..)?);
        find(claims.get(outer)?.as_object()?, inner)
    })
}

fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Bool(flag) => vec![flag.to_string()],
        Value::Number(number) if !number.is_f64() => vec![number.to_string()],
        Value::Array(items) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

/// A text in which `*` stands for anything, nothing included.
#[derive(Debug)]
struct Pattern(String);

impl Pattern {
    fn fits(&self, text: &str) -> bool {
        let Some((first, rest)) = self.0.split_once('*') else { return self.0 == text };
        let Some(mut left) = text.strip_prefix(first) else { return false };
        let (middle, last) =
            rest.rsplit_once('*').map_or((None, rest), |(middle, last)| (Some(middle), last));
        // The earliest place of each piece leaves the most to the pieces after it.
        for piece in middle.into_iter().flat_map(|middle| middle.split('*')) {
            match left.split_once(piece) {
                Some((_, after)) => left = after,
                None => return false,
            }
        }
        left.ends_with(last)
    }
}

/// A text with `{CLAIM}` in it.
#[derive(Debug)]
struct Template(Vec<Part>);

#[derive(Debug)]
enum Part {
    Text(String),
    Claim(String),
}

impl Template {
    fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut left = text;
        while let Some((before, after)) = left.split_once('{') {
            let (claim, rest) = after.split_once('}').ok_or("has a `{` without its `}`")?;
            if claim.is_empty() || before.contains('}') || claim.contains('{') {
                return Err("has braces that hold no claim".to_owned());
            }
            parts.extend((!before.is_empty()).then(|| Part::Text(before.to_owned())));
            parts.push(Part::Claim(claim.to_owned()));
            left = rest;
        }
        if left.contains('}') {
            return Err("has a `}` without its `{`".to_owned());
        }
        parts.extend((!left.is_empty()).then(|| Part::Text(left.to_owned())));
        Ok(Self(parts))
    }

    fn claims(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Claim(claim) => Some(claim.as_str()),
            Part::Text(_) => None,
        })
    }

    fn is_fixed(&self) -> bool {
        self.claims().next().is_none()
    }

    fn begins_with_a_whole_segment(&self) -> bool {
        match self.0.as_slice() {
            [Part::Text(_)] => true,
            [Part::Text(text), ..] => text.get(1..).is_some_and(|text| text.contains('/')),
            _ => false,
        }
    }

    /// How many segments the path has, whatever the claims say.
    fn segments(&self) -> usize {
        let slashes = |part: &Part| match part {
            Part::Text(text) => text.matches('/').count(),
            Part::Claim(_) => 0,
        };
        self.0.iter().map(slashes).sum()
    }

    /// Every text that it makes of the values of its claims.
    fn fill(&self, values: &BTreeMap<&str, Vec<String>>) -> Vec<String> {
        let mut filled = vec![String::new()];
        for part in &self.0 {
            let texts = match part {
                Part::Text(text) => std::slice::from_ref(text),
                Part::Claim(claim) => values.get(claim.as_str()).map(Vec::as_slice).unwrap_or_default(),
            };
            let each =
                |before: &String| texts.iter().map(move |text| format!("{before}{text}")).collect::<Vec<_>>();
            filled = filled.iter().flat_map(each).take(MAX_VALUES).collect();
        }
        filled
    }
}

/// Of one claim, and of what they make together.
const MAX_VALUES: usize = 64;

#[cfg(test)]
mod tests;
