//! References and environments: what users write, and what a caller asks for.

use bursar_core::Reference;

use crate::Target;

pub(super) const TARGET: Target = Target { name: "references", seeds, run, rounds: 50_000 };

fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(reference) = Reference::parse(text) else { return };
    let again = reference.to_string();
    assert_eq!(Reference::parse(&again).as_ref(), Ok(&reference), "what is shown means the same");
    assert!(!text.chars().any(char::is_control), "a record that names it is one line");
    let mut segments = reference.path.segments();
    assert!(segments.all(|segment| !matches!(segment, "" | "." | "..")), "no path leads out of its folder");
    assert!(reference.path.folders().all(|folder| reference.path.as_str().starts_with(folder)));
    assert_eq!(reference.without_field().field, None);
}

fn seeds() -> Vec<Vec<u8>> {
    [
        "vault/payments/db#password@3",
        "local/a",
        "aws-prod/team/Stripe Key#api.key@AWSCURRENT",
        "gcp/a-b_c@latest",
        "vault/a/../b",
        "local/ü#feld",
        "pg/payments#username",
        "local//a",
        "local/a#b#c@1@2",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
