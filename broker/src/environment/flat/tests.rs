use super::*;
use crate::environment::document;

/// Flattens the environment `name` of a document.
fn flat_of(name: &str, document: &str) -> Result<Flat, FlattenError> {
    let definitions = document::parse(document).expect("document");
    let find = |name: &str| definitions.iter().find(|one| one.name.as_str() == name).cloned().map(Arc::new);
    flatten(name, find)
}

fn flat(document: &str) -> Flat {
    flat_of("top", document).expect("flat")
}

fn error(document: &str) -> String {
    flat_of("top", document).expect_err("refused").to_string()
}

/// `NAME=ORIGIN` of each variable.
fn origins(flat: &Flat) -> Vec<String> {
    flat.vars().iter().map(|(name, entry)| format!("{name}={}", entry.origin)).collect()
}

fn lineage_of(flat: &Flat) -> Vec<&str> {
    flat.lineage().iter().map(EnvironmentName::as_str).collect()
}

/// `environment.NAME.extends = [..]` for each pair.
fn family(extends: &[(&str, &[&str])]) -> String {
    extends.iter().map(|(name, parents)| format!("environment.{name}.extends = {parents:?}\n")).collect()
}

#[test]
fn own_entries_win_over_later_parents_and_those_over_earlier_ones() {
    let document = "[environment.top]\nextends = ['one', 'two']\nvars.A = ''\n\
                    [environment.one]\nvars = { A = '', B = '', C = '' }\n\
                    [environment.two]\nvars = { A = '', B = '', D = '' }\n";
    assert_eq!(origins(&flat(document)), ["A=top", "B=two", "C=one", "D=two"]);
}

#[test]
fn an_entry_is_replaced_whole() {
    let document = "[environment.top]\nextends = ['base']\nvars.A = { from = 'v/b' }\n\
                    [environment.base]\nvars.A = { from = 'v/a', max_stale = '1m', on_change = 'none' }\n";
    let flat = flat(document);
    let contracts: Vec<_> = flat.vars().values().map(|entry| entry.definition.contract).collect();
    assert_eq!(contracts, [crate::environment::Contract::default()]);
}

#[test]
fn whether_a_copy_may_be_kept_is_said_by_an_environment_itself_and_not_inherited() {
    let base = "[environment.base]\noffline = '8h'\n";
    let inheriting = format!("[environment.top]\nextends = ['base']\n{base}");
    assert_eq!(flat(&inheriting).offline(), None);
    let own = format!("[environment.top]\nextends = ['base']\noffline = '1h'\n{base}");
    assert_eq!(flat(&own).offline(), Some(Duration::from_secs(3_600)));
}

#[test]
fn a_shared_base_does_not_undo_what_was_laid_over_it() {
    let document = "[environment.top]\nextends = ['left', 'right']\n\
                    [environment.left]\nextends = ['base']\nvars.A = 'left'\n\
                    [environment.right]\nextends = ['base']\n\
                    [environment.base]\nvars.A = 'base'\n";
    let flat = flat(document);
    assert_eq!(lineage_of(&flat), ["base", "left", "right", "top"]);
    assert_eq!(origins(&flat), ["A=left"]);
}

#[test]
fn every_list_keeps_its_order() {
    let document = family(&[("top", &["x", "y"]), ("x", &["q"]), ("y", &["p", "q"]), ("p", &[]), ("q", &[])]);
    assert_eq!(lineage_of(&flat(&document)), ["p", "q", "x", "y", "top"]);
}

#[test]
fn lists_that_contradict_each_other_are_refused() {
    let document =
        family(&[("top", &["x", "y"]), ("x", &["p", "q"]), ("y", &["q", "p"]), ("p", &[]), ("q", &[])]);
    let expected = "environment `top` cannot bring what it extends into one order: `q` has to come before `p` and \
                    after it; list them the same way round everywhere";
    assert_eq!(error(&document), expected);
}

#[test]
fn a_parent_listed_before_its_own_base_is_refused() {
    let document = family(&[("top", &["mid", "base"]), ("mid", &["base"]), ("base", &[])]);
    assert!(error(&document).contains("has to come before"), "{}", error(&document));
}

#[test]
fn a_circle_is_named_with_its_whole_chain() {
    let document = family(&[("top", &["a"]), ("a", &["b"]), ("b", &["c"]), ("c", &["a"])]);
    let expected = "environments extend each other in a circle: a -> b -> c -> a; take one of them out";
    assert_eq!(error(&document), expected);
}

#[test]
fn an_environment_that_extends_itself_is_a_circle() {
    assert!(error(&family(&[("top", &["top"])])).contains("circle: top -> top;"));
}

#[test]
fn a_missing_parent_is_named_with_who_extends_it() {
    let expected = "environment `a` extends `gone`, which does not exist; apply it first or mend the name";
    assert_eq!(error(&family(&[("top", &["a"]), ("a", &["gone"])])), expected);
}

#[test]
fn an_unknown_environment_is_shown_on_one_line() {
    let error = flatten("no\nsuch", |_| None).expect_err("refused").to_string();
    assert!(error.starts_with(r"there is no environment `no\nsuch`"), "{error}");
}

#[test]
fn inheritance_is_limited_in_depth() {
    let chain = |length: usize| {
        let link = |n: usize| format!("environment.e{n}.extends = ['e{}']\n", n + 1);
        format!("{}environment.e{length} = {{}}\n", (0..length).map(link).collect::<String>())
    };
    assert_eq!(flat_of("e0", &chain(16)).expect("flat").lineage().len(), 17);
    let error = flat_of("e0", &chain(17)).expect_err("refused").to_string();
    assert_eq!(error, "environment `e0` extends others more than 16 deep; flatten some of them");
}

#[test]
fn depth_counts_the_longest_way_not_the_first() {
    let link = |n: usize| format!("environment.e{n}.extends = ['e{}']\n", n + 1);
    let chain: String = (1..17).map(link).collect();
    // By way of `e9`, the lower half is known before the walk comes to it by way of `f`.
    let document = format!(
        "environment.top.extends = ['e9', 'f']\nenvironment.f.extends = ['e1']\n{chain}environment.e17 = {{}}\n"
    );
    assert!(matches!(flat_of("top", &document), Err(FlattenError::TooDeep { .. })));
}

#[test]
fn inheritance_is_limited_in_breadth() {
    let names: Vec<_> = (0..80).map(|n| format!("e{n}")).collect();
    let groups: Vec<String> = (0..5).map(|n| format!("g{n}")).collect();
    let mut document = format!("environment.top.extends = {groups:?}\n");
    for (group, members) in groups.iter().zip(names.chunks(16)) {
        document += &format!("environment.{group}.extends = {members:?}\n");
        document.extend(members.iter().map(|member| format!("environment.{member} = {{}}\n")));
    }
    assert!(matches!(flat_of("top", &document), Err(FlattenError::TooManyParents { .. })));
}

#[test]
fn many_ways_to_one_base_take_no_time() {
    let layer = |n: usize| {
        let below: Vec<_> = ["l", "r"].iter().map(|side| format!("{side}{}", n + 1)).collect();
        ["l", "r"].map(|side| format!("environment.{side}{n}.extends = {below:?}\n")).concat()
    };
    let layers: String = (0..15).map(layer).collect();
    let document =
        format!("{layers}environment.l15 = {{}}\nenvironment.r15 = {{}}\nenvironment.top.extends = ['l0']\n");
    assert_eq!(flat(&document).lineage().len(), 32);
}

#[test]
fn inherited_entries_are_limited_in_number() {
    let vars = |prefix: &str| (0..600).map(|n| format!("vars.{prefix}{n} = ''\n")).collect::<String>();
    let document = format!("[environment.top]\nextends = ['a']\n{}[environment.a]\n{}", vars("X"), vars("Y"));
    let expected = "the environment has 1200 variables with those it inherits; at most 1000 are allowed";
    assert_eq!(error(&document), expected);
}

#[test]
fn a_path_cannot_be_a_file_and_a_folder() {
    let document = "[environment.top]\nextends = ['base']\nfiles.\"tls/a/key\" = { content = '' }\n\
                    [environment.base]\nfiles.\"tls\" = { content = '' }\nfiles.\"tls-a\" = { content = '' }\n";
    let expected = "file `tls/a/key` of environment `top` needs a folder where environment `base` has file `tls`; move \
                    one of them";
    assert_eq!(error(document), expected);
}

#[test]
fn a_circle_of_variables_is_named_with_its_whole_chain() {
    let document = "[environment.top.vars]\nA = { compose = '${B}' }\nB = { compose = '${C}' }\nC = { compose = '${B}' }\n";
    let expected = "variables are composed of each other in a circle: B -> C -> B; make one of them a value";
    assert_eq!(error(document), expected);
}

#[test]
fn a_variable_composed_of_itself_does_not_mean_the_inherited_one() {
    let document = "[environment.top]\nextends = ['base']\nvars.A = { compose = 'x${A}' }\n\
                    [environment.base]\nvars.A = 'a'\n";
    assert!(error(document).contains("circle: A -> A;"));
}

#[test]
fn an_unknown_variable_is_named_with_who_uses_it() {
    let document =
        "[environment.top]\nextends = ['base']\n[environment.base]\nvars.A = { compose = '${GONE}' }\n";
    let expected =
        "variable `A` of environment `base` is composed of variable `GONE`, which does not exist; define it";
    assert_eq!(error(document), expected);
    let document = "[environment.top]\nfiles.f = { compose = '${GONE}' }\n";
    assert!(error(document).starts_with("file `f` of environment `top`"));
}

#[test]
fn a_base_may_be_composed_of_what_its_heirs_define() {
    let document = "[environment.top]\nextends = ['base']\nvars.HOST = 'db'\n\
                    [environment.base]\nvars.URL = { compose = 'pg://${HOST}' }\n";
    assert_eq!(origins(&flat(document)), ["HOST=top", "URL=base"]);
}

#[test]
fn compositions_are_limited_in_depth() {
    // Named so that the walk comes to the deepest first in one and last in the other.
    let up = |length: usize| {
        let link = |n: usize| format!("vars.V{n:02} = {{ compose = '${{V{:02}}}' }}\n", n + 1);
        format!("[environment.top]\nvars.V{length:02} = ''\n{}", (0..length).map(link).collect::<String>())
    };
    let down = |length: usize| {
        let link = |n: usize| format!("vars.V{n:02} = {{ compose = '${{V{:02}}}' }}\n", n - 1);
        format!("[environment.top]\nvars.V00 = ''\n{}", (1..=length).map(link).collect::<String>())
    };
    for chain in [up(16), down(16)] {
        assert_eq!(flat(&chain).vars().len(), 17);
    }
    for chain in [up(17), down(17)] {
        assert!(matches!(flat_of("top", &chain), Err(FlattenError::TooNested { .. })));
    }
}

#[test]
fn references_are_grouped_by_secret() {
    let document = "[environment.top]\nvars.A = { from = 'v/a#x' }\nvars.B = { compose = '${v/a#y} ${v/a#x} ${v/b@2}' }\n\
                    vars.C = { from = 'v/b' }\nfiles.f = { from = 'v/a#z' }\n";
    let found = flat(document).references();
    let shown: Vec<_> = found
        .iter()
        .map(|(secret, references)| {
            let references: Vec<_> = references.iter().map(ToString::to_string).collect();
            format!("{secret}: {}", references.join(" "))
        })
        .collect();
    assert_eq!(shown, ["v/a: v/a#x v/a#y v/a#z", "v/b: v/b", "v/b@2: v/b@2"]);
}

#[test]
fn a_value_stands_on_all_that_is_below_it() {
    let document = "[environment.top.vars]\nUSER = { from = 'v/a#user', max_stale = '5m' }\n\
                    PAIR = { compose = '${USER}:${v/a#password}', max_stale = '10m' }\n\
                    URL = { compose = '${PAIR}@${HOST}' }\nHOST = 'db'\n";
    let flat = flat(document);
    let basis = |name: &str| {
        let name = VariableName::parse(name).expect("name");
        flat.basis(&flat.vars()[&name].definition)
    };
    let references: Vec<_> = basis("URL").references.iter().map(ToString::to_string).collect();
    assert_eq!(references, ["v/a#password", "v/a#user"]);
    assert_eq!(basis("URL").max_stale, Some(Duration::from_secs(300)));
    assert_eq!(basis("HOST"), Basis { references: BTreeSet::new(), max_stale: None });
}

#[test]
fn a_literal_is_not_shown_by_debug() {
    let document = "[environment.top]\nvars.A = 'canary'\nvars.B = { compose = 'canary' }\nfiles.f = { content = 'canary' }\n";
    assert!(!format!("{:?}", flat(document)).contains("canary"));
}

#[test]
fn the_strictest_limit_on_a_secret_counts() {
    let document = "[environment.top]\nvars.A = { from = 'v/a#p', max_stale = '10m' }\n\
                    vars.B = { from = 'v/a#q', max_stale = '5s' }\nvars.C = { from = 'v/c' }\n\
                    vars.D = { compose = 'x${C}', max_stale = '1m' }\n\
                    files.f = { from = 'v/f', max_stale = '2s' }\nvars.E = { from = 'v/e' }\n";
    let ages = flat(document).max_ages();
    let ages: Vec<_> = ages.iter().map(|(secret, age)| (secret.to_string(), age.as_secs())).collect();
    assert_eq!(ages, [("v/a".to_owned(), 5), ("v/c".to_owned(), 60), ("v/f".to_owned(), 2)]);
}
