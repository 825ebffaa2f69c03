use bursar_core::SpiffeId;
use bursar_core::spiffe::TrustDomain;

use super::*;
use crate::policy::diagnostic::Source;

fn domain() -> TrustDomain {
    TrustDomain::parse("example.org").expect("domain")
}

fn id(path: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://example.org/{path}")).expect("id")
}

/// The registrations, the faults and the warnings of a file.
fn read_all(text: &str) -> (Registrations, Vec<String>, Vec<String>) {
    let (mut faults, mut warnings) = (Vec::new(), Vec::new());
    let read = read(&Source::new(FILE, text), &domain(), &id("workload/admin"), &mut faults, &mut warnings);
    let text =
        |diagnostics: Vec<crate::policy::Diagnostic>| diagnostics.iter().map(ToString::to_string).collect();
    (Registrations::new(domain(), read), text(faults), text(warnings))
}

/// One registration a row: principal, node, selectors.
fn registered(rows: &[(&str, &str, &[&str])]) -> Registrations {
    let mut text = String::new();
    for (principal, node, selectors) in rows {
        text.push_str(&format!(
            "[[registration]]\nprincipal = \"spiffe://example.org/{principal}\"\nnode = \"{node}\"\nselectors = {selectors:?}\n"
        ));
    }
    let (registrations, faults, _) = read_all(&text);
    assert!(faults.is_empty(), "{faults:?}");
    registrations
}

/// Whom `node` speaks for, or the error.
fn found(registrations: &Registrations, node: &str, selectors: &[&str]) -> String {
    let selectors: Vec<Selector> =
        selectors.iter().map(|text| Selector::parse(text).expect("selector")).collect();
    match registrations.find(&id(node), &selectors) {
        Ok(registration) => registration.principal.segments().last().expect("segment").to_owned(),
        Err(Unregistered::NoMatch { .. }) => "nobody".to_owned(),
        Err(tie @ Unregistered::Tie { .. }) => tie.to_string(),
    }
}

#[test]
fn all_selectors_must_be_attested() {
    let registrations = registered(&[("workload/pay", "web-1", &["unix:uid:1", "unix:exe:/pay"])]);
    assert_eq!(found(&registrations, "node/web-1", &["unix:uid:1", "unix:exe:/pay", "unix:gid:7"]), "pay");
    assert_eq!(found(&registrations, "node/web-1", &["unix:uid:1"]), "nobody");
    assert_eq!(found(&registrations, "node/web-1", &["unix:exe:/pay"]), "nobody");
    assert_eq!(found(&registrations, "node/web-1", &[]), "nobody");
}

#[test]
fn only_nodes_that_the_pattern_fits_speak() {
    let registrations = registered(&[
        ("workload/exact", "web-1", &["unix:uid:1"]),
        ("workload/prefix", "db-*", &["unix:uid:1"]),
    ]);
    let by = |node| found(&registrations, node, &["unix:uid:1"]);
    assert_eq!([by("node/web-1"), by("node/db-1"), by("node/db-")], ["exact", "prefix", "prefix"]);
    assert_eq!([by("node/web-10"), by("node/web"), by("node/db")], ["nobody", "nobody", "nobody"]);
}

#[test]
fn who_is_no_node_of_this_domain_speaks_for_nobody() {
    let registrations = registered(&[("workload/pay", "*", &["unix:uid:1"])]);
    assert_eq!(found(&registrations, "node/web-1", &["unix:uid:1"]), "pay");
    assert_eq!(found(&registrations, "workload/web-1", &["unix:uid:1"]), "nobody");
    let foreign = SpiffeId::parse("spiffe://elsewhere.org/node/web-1").expect("id");
    let selector = Selector::parse("unix:uid:1").expect("selector");
    assert!(registrations.find(&foreign, &[selector]).is_err());
}

#[test]
fn the_most_selectors_win() {
    let registrations = registered(&[
        ("workload/any", "web-*", &["unix:uid:1"]),
        ("workload/pay", "web-*", &["unix:uid:1", "unix:exe:/pay"]),
    ]);
    assert_eq!(found(&registrations, "node/web-1", &["unix:uid:1", "unix:exe:/pay"]), "pay");
    assert_eq!(found(&registrations, "node/web-1", &["unix:uid:1"]), "any");
}

#[test]
fn a_tie_names_both() {
    let registrations =
        registered(&[("workload/a", "web-1", &["unix:uid:1"]), ("workload/b", "web-*", &["unix:gid:1"])]);
    assert_eq!(
        found(&registrations, "node/web-1", &["unix:uid:1", "unix:gid:1"]),
        "on `spiffe://example.org/node/web-1` the registrations for `spiffe://example.org/workload/a` (line 1) and \
         `spiffe://example.org/workload/b` (line 5) fit equally well; give one of them another selector"
    );
}

#[test]
fn a_tie_below_the_best_does_not_matter() {
    let registrations = registered(&[
        ("workload/a", "web-1", &["unix:uid:1"]),
        ("workload/b", "web-1", &["unix:gid:1"]),
        ("workload/c", "web-1", &["unix:uid:1", "unix:gid:1"]),
    ]);
    assert_eq!(found(&registrations, "node/web-1", &["unix:uid:1", "unix:gid:1"]), "c");
}

#[test]
fn two_that_say_the_same_are_no_tie_and_two_that_differ_in_groups_are() {
    let same =
        registered(&[("workload/a", "web-1", &["unix:uid:1"]), ("workload/a", "web-*", &["unix:uid:1"])]);
    assert_eq!(found(&same, "node/web-1", &["unix:uid:1", "unix:uid:1"]), "a");
    let (differing, faults, _) = read_all(
        "[[registration]]\nprincipal = \"spiffe://example.org/workload/a\"\nnode = \"web-1\"\nselectors = [\"u:1\"]\n\
         [[registration]]\nprincipal = \"spiffe://example.org/workload/a\"\nnode = \"web-*\"\nselectors = [\"u:1\"]\n\
         groups = [\"more\"]\n",
    );
    assert!(faults.is_empty(), "{faults:?}");
    assert!(found(&differing, "node/web-1", &["u:1"]).contains("fit equally well"));
}

#[test]
fn groups_and_ttl_are_read() {
    let (registrations, faults, warnings) = read_all(
        "[[registration]]\nprincipal = \"spiffe://example.org/ns/shop/sa/web\"\nnode = \"k8s-*\"\n\
         selectors = [\"k8s:ns:shop\", \"k8s:sa:web\"]\ngroups = [\"shop\", \"eu/shop\"]\nttl = \"1h 30m\"\n",
    );
    assert!(faults.is_empty() && warnings.is_empty(), "{faults:?} {warnings:?}");
    let selectors = ["k8s:ns:shop", "k8s:sa:web"].map(|text| Selector::parse(text).expect("selector"));
    let registration = registrations.find(&id("node/k8s-1"), &selectors).expect("registered");
    assert_eq!(registration.groups.iter().map(GroupName::as_str).collect::<Vec<_>>(), ["eu/shop", "shop"]);
    assert_eq!(registration.ttl, Some(Duration::from_secs(5400)));
    assert_eq!(registrations.len(), 1);
}

#[test]
fn principals_that_no_node_may_speak_for_are_refused() {
    for bad in [
        "spiffe://example.org/node/web-2",
        "spiffe://example.org/user/ada",
        "spiffe://example.org/workload/admin",
        "spiffe://example.org/broker/b1",
        "spiffe://example.org/ns/shop",
        "spiffe://example.org.evil/workload/pay",
        "workload/pay",
        "",
    ] {
        let (_, faults, _) = read_all(&format!(
            "[[registration]]\nprincipal = \"{bad}\"\nnode = \"web-1\"\nselectors = [\"unix:uid:1\"]\n"
        ));
        assert!(
            faults.len() == 1 && faults.iter().all(|fault| fault.contains(":2:13: ")),
            "`{bad}`: {faults:?}"
        );
    }
}

#[test]
fn nodes_outside_the_rules_are_refused() {
    for bad in ["", "web-*-1", "*web", "a/b", "a b", "spiffe://example.org/node/web-1", "web-**"] {
        let (_, faults, _) = read_all(&format!(
            "[[registration]]\nprincipal = \"spiffe://example.org/workload/a\"\nnode = \"{bad}\"\nselectors = [\"u:1\"]\n"
        ));
        assert!(
            faults.len() == 1 && faults.iter().all(|fault| fault.contains(":3:8: ")),
            "`{bad}`: {faults:?}"
        );
    }
}

#[test]
fn one_that_fits_every_process_is_refused_and_one_for_every_node_is_a_warning() {
    let of = |node: &str, selectors: &str| {
        read_all(&format!(
            "[[registration]]\nprincipal = \"spiffe://example.org/workload/a\"\nnode = \"{node}\"\nselectors = {selectors}\n"
        ))
    };
    let (_, faults, _) = of("*", "[]");
    assert_eq!(
        faults,
        ["registrations.toml:4:13: there are no selectors, which would fit every process; give at least one"]
    );
    let (_, faults, warnings) = of("*", "[\"u:1\"]");
    assert!(faults.is_empty() && warnings.len() == 1, "{faults:?} {warnings:?}");
}

#[test]
fn twins_are_refused_where_they_stand() {
    let one = |name: &str, selectors: &str| {
        format!(
            "[[registration]]\nprincipal = \"spiffe://example.org/workload/{name}\"\nnode = \"n\"\nselectors = {selectors}\n"
        )
    };
    let (_, faults, _) = read_all(&(one("a", "[\"u:1\", \"g:1\"]") + &one("b", "[\"g:1\", \"u:1\"]")));
    assert_eq!(
        faults,
        [
            "registrations.toml:5:1: the node and the selectors are those of line 1, so neither is more specific"
        ]
    );
}

#[test]
fn unknown_keys_and_missing_ones_are_refused_with_their_place() {
    let (_, faults, _) =
        read_all("[[registration]]\nprincipal = \"spiffe://example.org/workload/a\"\nnod = \"n\"\n");
    assert!(
        faults.len() == 1 && faults.iter().all(|fault| fault.contains(":3:1: unknown field `nod`")),
        "{faults:?}"
    );
    let (_, faults, _) = read_all("[[registration]]\nprincipal = \"spiffe://example.org/workload/a\"\n");
    assert!(faults.len() == 1 && faults.iter().all(|fault| fault.contains("missing field")), "{faults:?}");
    let (_, faults, _) = read_all("[registrations]\n");
    assert_eq!(faults.len(), 1, "{faults:?}");
    let (_, faults, _) = read_all("[[registration]\n");
    assert!(
        faults.len() == 1 && faults.iter().all(|fault| fault.starts_with("registrations.toml:1:")),
        "{faults:?}"
    );
}

#[test]
fn an_empty_file_registers_nobody() {
    let (registrations, faults, _) = read_all("# nobody yet\n");
    assert!(faults.is_empty() && registrations.is_empty());
}

#[test]
fn absurd_nesting_is_a_fault() {
    let (_, faults, _) = read_all(&format!("registration = {}", "[".repeat(100_000)));
    assert_eq!(faults.len(), 1, "{faults:?}");
}
