use super::*;

fn faults(given: &[(&str, &str)]) -> Vec<String> {
    try_compile(given).err().unwrap_or_default().iter().map(ToString::to_string).collect()
}

fn warnings(given: &[(&str, &str)]) -> Vec<String> {
    let policies = try_compile(given).unwrap_or_else(|faults| panic!("the set has faults: {faults:#?}"));
    policies.warnings().iter().map(ToString::to_string).collect()
}

#[test]
fn every_fault_of_every_file_is_found_with_its_place() {
    let found = faults(&[
        ("teams/payments.cedar", include_str!("../testdata/faulty.cedar")),
        ("broken.cedar", "permit (principal, action, resource)\nwhen { principal.kind = \"user\" };\n"),
        ("registrations.toml", include_str!("../testdata/faulty-registrations.toml")),
        ("notes.txt", "hello"),
    ]);
    assert_eq!(found.join("\n"), include_str!("../testdata/faulty.golden").trim_end());
}

#[test]
fn a_column_counts_characters() {
    let found =
        faults(&[("p.cedar", "permit (principal, action, resource) when { \"日本\" == principal.knd };")]);
    assert!(found.iter().all(|fault| fault.starts_with("p.cedar:1:53: ")) && !found.is_empty(), "{found:?}");
}

#[test]
fn file_names_outside_the_rules_are_refused() {
    let good = "permit (principal, action, resource);";
    let long = format!("{}.cedar", "a".repeat(250));
    let bad = [
        "",
        ".cedar",
        "a",
        "a.txt",
        "/a.cedar",
        "a//b.cedar",
        "../a.cedar",
        "a/./b.cedar",
        "a b.cedar",
        "é.cedar",
        "a.cedar/",
        "(built in)",
        "x/registrations.toml",
        long.as_str(),
    ];
    let accepted: Vec<_> = bad.iter().filter(|name| faults(&[(name, good)]).is_empty()).collect();
    assert!(accepted.is_empty(), "these must be refused: {accepted:?}");
}

#[test]
fn a_file_given_twice_is_refused() {
    assert_eq!(faults(&[("a.cedar", ""), ("a.cedar", "")]), ["a.cedar: the file is given twice"]);
}

#[test]
fn an_id_is_what_is_written_or_where_the_policy_stands() {
    let policies = try_compile(&[(
        "a/b.cedar",
        "permit (principal, action, resource);\n@id(\"named\")\npermit (principal, action, resource);\n\
         permit (principal, action, resource);",
    )])
    .expect("a good set");
    assert_eq!(names(&reads(&policies, &facts("user/ada"), "v/a")), ["a/b.cedar#1", "a/b.cedar#3", "named"]);
}

#[test]
fn an_id_is_given_once_in_the_whole_set() {
    let text = "@id(\"x\") permit (principal, action, resource);";
    assert_eq!(
        faults(&[("a.cedar", text), ("b.cedar", &format!("\n  {text}"))]),
        ["b.cedar:2:3: the id `x` is given twice; the first is in a.cedar line 1"]
    );
}

#[test]
fn ids_outside_the_rules_are_refused() {
    for bad in ["", "a b", "a#1", "bursar.nodes-never-govern", "é", &"x".repeat(129)] {
        let found = faults(&[("a.cedar", &format!("@id(\"{bad}\") permit (principal, action, resource);"))]);
        assert_eq!(found.len(), 1, "`{bad}` must be refused: {found:?}");
    }
}

#[test]
fn a_policy_that_never_applies_is_a_warning() {
    let found = warnings(&[(
        "a.cedar",
        "permit (principal, action == Bursar::Action::\"read\", resource) when { resource is Bursar::Node };",
    )]);
    assert!(
        found.len() == 1 && found.iter().all(|warning| warning.starts_with("a.cedar:1:1: ")),
        "{found:?}"
    );
}

#[test]
fn thousands_of_faults_make_a_short_answer() {
    let text = "permit (principal, action, resource) when { principal.x };\n".repeat(500);
    let found = faults(&[("a.cedar", &text)]);
    assert_eq!(found.len(), 101);
    assert!(found.last().is_some_and(|last| last.contains("more")), "{:?}", found.last());
}

#[test]
fn absurd_nesting_is_a_fault_and_not_the_end_of_the_process() {
    for (open, close) in
        [("(", ")"), ("[", "]"), ("{a:", "}"), ("!", ""), ("true && ", ""), ("1 + ", ""), ("a.", "")]
    {
        let deep = format!("{}true{}", open.repeat(20_000), close.repeat(20_000));
        let found =
            faults(&[("a.cedar", &format!("permit (principal, action, resource) when {{ {deep} }};"))]);
        assert!(
            found.len() == 1 && found.iter().all(|fault| fault.contains("nests too deeply")),
            "`{open}`: {found:?}"
        );
    }
}

#[test]
fn the_deepest_policy_that_is_let_through_is_read() {
    let brackets = |inner: &str| format!("{}{inner}{}", "(".repeat(30), ")".repeat(30));
    for inner in [
        format!("true{}", " && true".repeat(230)),
        format!("1{} > 0", " + 1".repeat(460)),
        format!("{}true{}", "if true then ".repeat(460), " else false".repeat(460)),
    ] {
        let policies =
            compile(&format!("permit (principal, action, resource) when {{ {} }};", brackets(&inner)));
        assert!(may_read(&policies, &facts("user/ada"), "vault/a"));
    }
}

#[test]
fn what_is_asked_conforms_to_the_schema() {
    use crate::policy::vocabulary::Vocabulary;
    let vocabulary = Vocabulary::new().expect("schema");
    let (secret, bare) = (reference("vault/a/b/c@3"), reference("vault/a"));
    let asked = [
        (spoken_for("workload/w", &["unix:uid:1"], &["g"]), Action::Read, Resource::secret(&secret)),
        (facts("ns/shop/sa/web"), Action::Read, Resource::secret(&bare)),
        (facts("node/n"), Action::List, Resource::Folder { backend: &secret.backend, path: &secret.path }),
        (facts("user/ada"), Action::List, Resource::Backend(&secret.backend)),
        (facts("a/b/c"), Action::Resolve, Resource::Environment("payments/eu/prod")),
        (facts("user/ada"), Action::EvictNode, Resource::Node("web-1")),
        (facts("user/ada"), Action::Watch, Resource::System),
    ];
    let approved_by = [id("user/bob")];
    for (principal, action, resource) in &asked {
        let context = Context { time: WEDNESDAY_TEN, reason: "INC-7", approved_by: &approved_by };
        let request = Request { context, ..ask(principal, *action, *resource) };
        let (translated, entities) = vocabulary.translate(&request).expect("a request");
        let schema = Some(&vocabulary.schema);
        let part = |part: Option<&cedar_policy::EntityUid>| part.expect("known").clone();
        let context = translated.context().expect("context").clone();
        cedar_policy::Request::new(
            part(translated.principal()),
            part(translated.action()),
            part(translated.resource()),
            context,
            schema,
        )
        .expect("the request conforms");
        cedar_policy::Entities::from_entities(entities, schema).expect("the entities conform");
    }
}
