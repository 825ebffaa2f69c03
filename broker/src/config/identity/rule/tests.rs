use bursar_core::settings;
use serde_json::json;

use super::*;

fn read_rule(text: &str) -> Result<Rule, Vec<String>> {
    let domain = TrustDomain::parse("example.org").expect("domain");
    let read = settings::read(text, |section| read(section, &domain));
    read.map_err(|faults| faults.iter().map(ToString::to_string).collect())
}

fn given(rule: &str, claims: &Value) -> Option<Matched> {
    read_rule(rule).expect("a rule").apply(claims.as_object().expect("claims"))
}

fn id(rule: &str, claims: &Value) -> Option<String> {
    given(rule, claims)?.id.map(|id| id.to_string())
}

#[test]
fn a_star_stands_for_anything() {
    let fits = |pattern: &str, text: &str| Pattern(pattern.to_owned()).fits(text);
    for (pattern, text) in [
        ("a", "a"),
        ("*", ""),
        ("a*", "a"),
        ("*b", "aab"),
        ("a*b*c", "a-b-b-c"),
        ("refs/heads/*", "refs/heads/x/y"),
        ("a*a", "aa"),
        ("**", "x"),
    ] {
        assert!(fits(pattern, text), "`{pattern}` has to fit `{text}`");
    }
    for (pattern, text) in
        [("a", "A"), ("a", "ab"), ("a*a", "a"), ("*b", "ba"), ("a*b*c", "a-c"), ("a*b*b", "ab"), ("", "x")]
    {
        assert!(!fits(pattern, text), "`{pattern}` must not fit `{text}`");
    }
}

#[test]
fn every_claim_of_a_rule_has_to_fit() {
    let rule =
        "match = { repository = 'acme/shop', ref = 'refs/heads/*' }\nprincipal = '/workload/shop-deploy'\n";
    let claims = json!({ "repository": "acme/shop", "ref": "refs/heads/main" });
    assert_eq!(id(rule, &claims).as_deref(), Some("spiffe://example.org/workload/shop-deploy"));
    for other in [
        json!({ "repository": "acme/shop", "ref": "refs/tags/v1" }),
        json!({ "repository": "evil/acme/shop", "ref": "refs/heads/main" }),
        json!({ "ref": "refs/heads/main" }),
        json!({ "repository": { "x": "acme/shop" }, "ref": "refs/heads/main" }),
    ] {
        assert_eq!(given(rule, &other), None, "{other}");
    }
}

#[test]
fn a_claim_is_one_segment_of_the_name() {
    let rule = "match = { name = '*' }\nprincipal = '/user/{name}'\n";
    let of = |name: Value| id(rule, &json!({ "name": name }));
    assert_eq!(of(json!("ada")).as_deref(), Some("spiffe://example.org/user/ada"));
    for hostile in ["a/b", "..", "", "a b", "ada@example.org", "a/ns/x/sa/y", "%61", "a\u{0}"] {
        assert_eq!(of(json!(hostile)), None, "`{}`", hostile.escape_debug());
    }
    assert_eq!(of(json!(["ada", "bob"])), None, "of two names none is the name");
}

#[test]
fn no_claim_makes_an_administrator() {
    let rule = "match = { name = '*' }\nprincipal = '/user/{name}'\n";
    assert_eq!(id(rule, &json!({ "name": "admin" })), None);
    assert_eq!(id(rule, &json!({ "name": "break-glass" })), None);
    let written = "match = { sub = '00u1' }\nprincipal = '/user/admin'\n";
    assert!(id(written, &json!({ "sub": "00u1" })).is_some(), "who writes the name means it");
}

#[test]
fn claims_are_found_in_objects_and_by_whole_names() {
    let rule = "match = { 'realm.roles' = 'dev*', 'https://x.example/team' = 'a' }\nprincipal = '/user/x'\n";
    let claims = json!({ "realm": { "roles": ["ops", "dev-1"] }, "https://x.example/team": "a" });
    let given = given(rule, &claims).expect("it fits");
    let said = [("https://x.example/team", "a"), ("realm.roles", "dev-1")];
    assert_eq!(given.claims, said.map(|(claim, text)| (claim.to_owned(), text.to_owned())));
}

#[test]
fn groups_are_those_of_the_claim_that_fit_and_can_be_names() {
    let rule = "match = { sub = '*', groups = '*' }\nprincipal = '/user/{sub}'\ngroups = ['people', '{groups}', 'x/{sub}']\n";
    let claims = json!({ "sub": "ada", "groups": ["ops", "All Staff", "spiffe://example.org/ns/shop"] });
    let groups: Vec<_> =
        given(rule, &claims).expect("it fits").groups.iter().map(ToString::to_string).collect();
    assert_eq!(groups, ["people", "ops", "x/ada"]);
}

#[test]
fn more_groups_than_anybody_has_are_refused() {
    let rule = "match = { groups = '*' }\nprincipal = '/user/x'\n";
    let many: Vec<_> = (0..65).map(|number| format!("g{number}")).collect();
    assert_eq!(given(rule, &json!({ "groups": many })), None);
}

#[test]
fn a_rule_that_could_name_anybody_is_a_fault() {
    let fault = |text: &str| read_rule(text).expect_err(text).join("\n");
    for (text, part) in [
        ("principal = '/user/x'", "match: is required"),
        ("match = { a = '*' }", "principal: is required"),
        ("match = { a = '*' }\nprincipal = '/user/{b}'", "`{b}`, which `match` does not have"),
        ("match = { a = '*' }\nprincipal = '/user/break-glass'", "the broker's own authority alone vouches"),
        ("match = { a = '*' }\nprincipal = '/user/x'\ngroups = ['{b}']", "groups: uses `{b}`"),
        ("match = { a = '*' }\nprincipal = '/user/x'\ngroups = ['a b']", "groups: `a b` is no group"),
        ("match = { a = '*' }\nprincipal = '/{a}'", "must begin with a segment without claims"),
        ("match = { a = '*' }\nprincipal = '/user{a}/x'", "must begin with a segment without claims"),
        ("match = { a = '*' }\nprincipal = '/node/{a}'", "must not begin with `/node`"),
        ("match = { a = '*' }\nprincipal = '/broker/x'", "must not begin with `/node` or `/broker`"),
        ("match = { a = '*' }\nprincipal = 'user/x'", "principal: is a path such as"),
        ("match = { a = '*' }\nprincipal = '/user/{a'", "principal: has a `{`"),
        ("match = { a = '*' }\nprincipal = '/user/a}'", "principal: has a `}`"),
        ("match = { a = '*' }\nprincipal = '/user/{}'", "principal: has braces"),
        ("match = { a = 1 }\nprincipal = '/user/x'", "match.a: must be a text"),
    ] {
        assert!(fault(text).contains(part), "no `{part}` in: {}", fault(text));
    }
}
