use proptest::prelude::*;

use super::*;

fn parse(text: &str, purpose: Purpose) -> Result<Statements, Vec<StatementFault>> {
    Statements::parse(&[text.to_owned()], purpose)
}

fn faults(text: &str, purpose: Purpose) -> Vec<String> {
    parse(text, purpose).err().unwrap_or_default().iter().map(ToString::to_string).collect()
}

fn written(text: &str) -> String {
    let values =
        Values { name: "bur\"sar", password: "SCRAM-SHA-256$4096:c2'x", expiration: "2026-01-01T00:00:00Z" };
    let statements = parse(text, Purpose::Creation).expect("statements");
    statements.written(values).collect::<Vec<_>>().join("; ")
}

#[test]
fn each_placeholder_is_quoted_as_what_it_is() {
    assert_eq!(
        written("CREATE ROLE {{name}} LOGIN PASSWORD {{password}} VALID UNTIL {{expiration}};"),
        "CREATE ROLE \"bur\"\"sar\" LOGIN PASSWORD 'SCRAM-SHA-256$4096:c2''x' VALID UNTIL '2026-01-01T00:00:00Z'"
    );
}

#[test]
fn quotes_of_the_operator_are_left_as_they_are() {
    let more = "{{name}} {{password}} {{expiration}}";
    for text in [
        r#"GRANT SELECT ON "a;b""c" TO"#,
        "SELECT 'it''s; -- no comment'",
        r"SELECT E'it\'s;'",
        "DO $x$ BEGIN; END $$ $x$",
        "SELECT $1",
        "SELECT 'größe', größe",
    ] {
        let text = format!("{text} {more}");
        assert!(written(&text).starts_with(text.split(" {{").next().expect("text")), "{text}");
    }
}

#[test]
fn a_placeholder_within_quotes_is_refused_with_what_to_write() {
    for text in [
        r#"CREATE ROLE "{{name}}""#,
        "CREATE ROLE x PASSWORD '{{password}}'",
        "DO $$ CREATE ROLE {{name}} $$",
        "DO $a$ CREATE ROLE {{name}} $a$",
        r"SELECT E'\'{{name}}'",
    ] {
        let faults = faults(text, Purpose::Creation);
        let told =
            faults.iter().any(|fault| fault.contains("within quotes; write it bare, it is quoted for you"));
        assert!(told && faults.len() == 1, "`{text}`: {faults:?}");
    }
}

#[test]
fn what_is_no_single_statement_with_known_placeholders_is_refused() {
    for (text, told) in [
        ("", "statement 1 is empty"),
        (" ; ", "statement 1 is empty"),
        ("DROP ROLE {{name}}; SELECT 1", "statement 1 is more than one; write each as a text of its own"),
        ("DROP ROLE {{name}} -- gone", "statement 1 has a comment; leave it out"),
        ("DROP ROLE /* x */ {{name}}", "statement 1 has a comment; leave it out"),
        ("DROP ROLE {{name", "statement 1 has a `{{` without its `}}`"),
        ("DROP ROLE 'x", "statement 1 has a quote that does not end"),
        ("DROP ROLE \"x\"\"", "statement 1 has a quote that does not end"),
        ("DO $a$ x $b$", "statement 1 has a quote that does not end"),
        ("DROP ROLE {{nmae}}", "statement 1 has `{{nmae}}`, which means nothing here; there are `{{name}}`"),
        (
            "DROP ROLE {{password}}",
            "statement 1 has `{{password}}`, which means nothing here; there are `{{name}}`",
        ),
        (
            "commit",
            "statement 1 begins with `COMMIT`; leave it out, all statements are one transaction already",
        ),
        (
            "SET ROLE owner",
            "statement 1 begins with `SET`, which would outlast it; write `SET LOCAL` or leave it out",
        ),
        (
            "ALTER ROLE {{name}} NOLOGIN",
            "needs the statement `DROP ROLE {{name}}`: what is revoked has to be gone",
        ),
        ("DROP ROLE other", "needs `{{name}}` in one of its statements"),
    ] {
        let faults = faults(text, Purpose::Revocation);
        assert_eq!(faults.first().map(String::as_str), Some(told), "`{text}`: {faults:?}");
    }
}

#[test]
fn a_role_that_would_not_end_by_itself_is_refused() {
    assert_eq!(
        faults("CREATE ROLE {{name}} LOGIN PASSWORD {{password}}", Purpose::Creation),
        ["needs `{{expiration}}` in one of its statements"]
    );
}

#[test]
fn every_fault_has_the_number_of_its_statement() {
    let texts = ["DROP ROLE '{{name}}'", "DROP ROLE {{name}}", "BEGIN"].map(str::to_owned);
    let faults = Statements::parse(&texts, Purpose::Revocation).err().unwrap_or_default();
    assert_eq!(faults.iter().map(|fault| fault.number).collect::<Vec<_>>(), [Some(1), Some(3)]);
}

#[test]
fn only_statements_about_one_role_are_made_side_by_side() {
    let more = "{{name}} {{password}} {{expiration}}";
    for (text, shared) in [
        ("CREATE ROLE", false),
        ("create user", false),
        ("GRANT readers TO", false),
        ("GRANT \"ON\" TO", false),
        ("GRANT SELECT ON orders TO", true),
        ("ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO", true),
        ("SELECT prepare_user(", true),
    ] {
        let statements = parse(&format!("{text} {more}"), Purpose::Creation).expect("statements");
        assert_eq!(statements.change_what_is_shared(), shared, "{text}");
    }
}

#[test]
fn what_there_is_by_default_is_as_good_as_what_is_written() {
    for purpose in [Purpose::Renewal, Purpose::Revocation] {
        assert!(Statements::default_for(purpose).is_some(), "{purpose:?}");
    }
}

proptest! {
    /// Whatever an operator writes is read or refused, and what is read has its values as whole tokens.
    #[test]
    fn any_text_is_read_or_refused(text in "([ -~ä\n]|\\{\\{name\\}\\}|[$'\"]|E'|DROP ROLE |;|--|/\\*){0,40}") {
        if let Ok(statements) = parse(&text, Purpose::Revocation) {
            let values = Values { name: "n\"; DROP TABLE t; --", password: "", expiration: "" };
            let written: Vec<_> = statements.written(values).collect();
            prop_assert_eq!(written.len(), 1);
            prop_assert!(written.iter().all(|written| written.contains("\"n\"\"; DROP TABLE t; --\"")));
        }
    }
}
