use bursar_core::reference::BackendName;

use super::*;
use crate::webhook::testing::injection;

fn store() -> VaultStore {
    let backend = BackendName::parse("vault").expect("a name");
    VaultStore { backend, kv2_mounts: vec!["secret".to_owned()] }
}

fn translated(texts: &[(&str, &str)]) -> Result<(Sidecar, Vec<String>), Vec<String>> {
    let said = texts.iter().map(|(name, text)| (format!("{PREFIX}{name}"), (*text).to_owned())).collect();
    let (plan, warnings) = read(&said, &store(), &injection())?;
    match plan.way {
        Way::Sidecar(sidecar) => Ok((sidecar, warnings)),
        other => panic!("{other:?}"),
    }
}

const USUAL: &str = "{{- with secret \"secret/data/payments/db\" -}}\nexport PASSWORD=\"{{ .Data.data.password }}\"\n{{- end }}\n";

#[test]
fn the_usual_template_is_kept() {
    let texts = [
        ("agent-inject", "true"),
        ("role", "web"),
        ("agent-inject-secret-db.env", "x"),
        ("agent-inject-template-db.env", USUAL),
    ];
    let (sidecar, warnings) = translated(&texts).expect("translated");
    assert_eq!(sidecar.templates["db.env"], "export PASSWORD=\"{{ SECRET_1 }}\"\n");
    let reference = "vault/secret/payments/db#password".to_owned();
    assert_eq!(sidecar.source, Source::Secrets(BTreeMap::from([("SECRET_1".to_owned(), reference)])));
    assert_eq!(sidecar.directory, "/vault/secrets");
    assert_eq!(
        warnings,
        ["vault.hashicorp.com/role is not kept: identity, broker and trust are the administrator's"]
    );
}

#[test]
fn a_secret_without_a_template_is_json_with_a_warning() {
    let texts = [
        ("agent-inject-secret-db", "database/creds/web"),
        ("agent-inject-file-db", "creds/db.json"),
        ("agent-inject-perms-db", "0640"),
    ];
    let (sidecar, warnings) = translated(&texts).expect("translated");
    assert_eq!(sidecar.templates["creds/db.json"], "{{ SECRET_1 }}");
    assert_eq!(sidecar.modes["creds/db.json"], "0440");
    assert_eq!(
        sidecar.source,
        Source::Secrets(BTreeMap::from([("SECRET_1".to_owned(), "vault/database/creds/web".to_owned())]))
    );
    assert_eq!(warnings.len(), 1);
}

#[test]
fn a_field_that_is_used_twice_is_leased_once_and_texts_stay_as_they_are() {
    let text = "{ \"a\": { {{ with secret `database/creds/web` }}{{ .Data.password }}{{ index .Data \"password\" }}{{ end }}} {%x%} {# y";
    let (sidecar, _) =
        translated(&[("agent-inject-secret-a", "x"), ("agent-inject-template-a", text)]).expect("translated");
    let Source::Secrets(secrets) = &sidecar.source else { panic!("secrets") };
    assert_eq!(secrets.len(), 1);
    let template = minijinja::Environment::new();
    let made = template
        .render_str(&sidecar.templates["a"], minijinja::context! { SECRET_1 => "s" })
        .expect("a template");
    assert_eq!(made, "{ \"a\": { ss} {%x%} {# y");
}

#[test]
fn what_would_make_another_file_is_refused_by_name() {
    for template in [
        "{{ with secret \"secret/data/a\" \"ttl=1h\" }}{{ end }}",
        "{{ with secret \"secret/data/a\" }}{{ range $k, $v := .Data.data }}{{ $k }}{{ end }}{{ end }}",
        "{{ with secret \"secret/data/a\" }}{{ .Data.metadata }}{{ end }}",
        "{{ with secret \"database/creds/a\" }}{{ .Data.data.password }}{{ end }}",
        "{{ with secret \"secret/data/a\" }}{{ .Data.data.a | toJSON }}{{ end }}",
        "{{ with secret \"secret/data/a\" }}",
        "{{ end }}",
        "{{ .Data.a }}",
        "{{ env \"HOME\" }}",
        "{{ with secret \"\" }}{{ end }}",
        "{{",
    ] {
        let faults = translated(&[("agent-inject-secret-a", "x"), ("agent-inject-template-a", template)]);
        let faults = faults.expect_err(template);
        assert!(
            faults.len() == 1 && faults[0].starts_with("`vault.hashicorp.com/agent-inject-template-a` "),
            "{faults:?}"
        );
    }
}

#[test]
fn neither_trust_nor_commands_are_taken_from_it() {
    let base = ("agent-inject-secret-a", "secret/data/a");
    let (_, warnings) =
        translated(&[base, ("tls-skip-verify", "true"), ("service", "http://evil"), ("ca-cert", "/x")])
            .expect("kept");
    assert_eq!(warnings.len(), 4);
    for (name, text) in [
        ("agent-inject-command-a", "kill -HUP 1"),
        ("agent-pre-populate-only", "true"),
        ("agent-inject-file-a", "../../etc/passwd"),
        ("agent-inject-file-b", "b"),
        ("agent-inject-perms-a", "rw"),
        ("secret-volume-path", "secrets"),
        ("agent-copy-volume-mounts", "web"),
    ] {
        assert_eq!(translated(&[base, (name, text)]).expect_err("refused").len(), 1, "{name}");
    }
    assert_eq!(translated(&[("agent-inject", "true")]).expect_err("nothing").len(), 1);
}
