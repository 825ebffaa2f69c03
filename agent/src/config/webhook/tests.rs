use super::*;

const LEAST: &str = "image = 'bursar:1'\nbroker = 'https://b'\nca_file = 'ca.pem'\n";
const OWN: &str = "[self_made]\nnamespace = 'bursar'\nservice = 'hook'\nconfiguration = 'hook'\n";

fn faults(text: &str) -> Vec<String> {
    let faults = WebhookConfig::parse(text).expect_err("faulty");
    faults.iter().map(ToString::to_string).collect()
}

#[test]
fn the_least_file_gets_the_defaults_of_the_documentation() {
    let config = WebhookConfig::parse(&format!("{LEAST}{OWN}")).expect("good");
    let injection = &config.injection;
    assert_eq!(
        (config.listen.to_string().as_str(), config.http, injection.audience.as_str()),
        ("0.0.0.0:8443", None, "bursar")
    );
    assert_eq!(
        (injection.shapes.len(), injection.default_shape, &injection.allow),
        (3, Shape::Exec, &Allowed::All)
    );
    assert_eq!((injection.user, injection.group, injection.leave_out.len()), (65_532, 65_532, 2));
    assert_eq!((config.limits.connections, config.limits.reviews), (256, 64));
    let Serving::SelfMade(own) = config.serving else { panic!("self-made") };
    assert_eq!(
        (own.secret.as_str(), own.lease.as_str(), own.life.as_secs()),
        ("bursar-webhook", "bursar-webhook", 2_592_000)
    );
    assert_eq!((own.api.host.as_str(), own.api.port), ("kubernetes.default.svc", 443));
}

#[test]
fn every_fault_is_told_at_once_with_its_key() {
    let text = "broker = 'http://b'\nlisten = 'x'\nshapes = ['exec', 'pod']\ndefault_shape = 'node'\nallow = ['environment', 'broker']\n\
                startup = '1s'\nuser = 0\nimag = 'x'\n[resources]\nmemory_limit = 'much'\n[namespaces.Shop]\n[namespaces.bursar]\n\
                environment = 'A'\n[vault]\n[self_made]\nnamespace = 'bursar'\nservice = 'A.b'\nca_life = '1h'\n[api]\nserver = 'http://x'\n";
    let faults = faults(text);
    for key in [
        "broker: ",
        "listen: ",
        "shapes: is `exec`",
        "allow: `broker` is no annotation",
        "startup: ",
        "user: ",
        "image: ",
        "imag: ",
        "ca_file: ",
        "resources.memory_limit: ",
        "namespaces.Shop: ",
        "namespaces.bursar.environment: ",
        "vault.backend: ",
        "self_made.service: ",
        "self_made.configuration: ",
        "self_made.ca_life: ",
        "api.server: ",
        "shapes: has not `node`",
    ] {
        assert!(faults.iter().any(|fault| fault.starts_with(key)), "no `{key}` in {faults:#?}");
    }
}

#[test]
fn the_port_has_one_certificate_and_the_webhook_does_not_wait_for_itself() {
    let files = "[certificate]\ncert = 'a'\nkey = 'b'\n";
    assert!(WebhookConfig::parse(&format!("{LEAST}{files}")).is_ok());
    for (more, key) in [
        ("".to_owned(), "self_made: or `certificate` is required"),
        (format!("{files}{OWN}"), "self_made: goes without `certificate`"),
        (format!("{OWN}[namespaces.bursar]\n"), "namespaces.bursar: is where the webhook runs"),
    ] {
        let faults = faults(&format!("{LEAST}{more}"));
        assert!(faults.len() == 1 && faults[0].starts_with(key), "{faults:?}");
    }
}
