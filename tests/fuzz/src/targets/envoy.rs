//! Names of secrets in Envoy's configuration.

use bursar_agent::sds::named;

use crate::Target;

pub(super) const TARGET: Target = Target { name: "envoy-names", seeds, run, rounds: 50_000 };

fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match named(text) {
        Ok(Some(reference)) => {
            assert!(
                text.ends_with(&reference.to_string()) || text.contains('%'),
                "`{text}` means `{reference}`"
            );
        }
        Ok(None) => assert!(text.contains("env:") && text.contains('#'), "`{text}` means a variable"),
        // It goes into a log and to Envoy.
        Err(told) => assert!(!told.chars().any(char::is_control) && told.len() < 1024, "{told:?}"),
    }
}

fn seeds() -> Vec<Vec<u8>> {
    [
        "local/web#token",
        "generic:local/web#token@3",
        "tls:vault/pki/issue/web/a.b",
        "ca:local/tls:b",
        "env:shop/prod#TOKEN",
        "tls:env:shop/prod#TOKEN",
        "spiffe://example.org/web",
        "tls:ca:local/web",
        "env:#",
        "local/../web",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
