use super::*;
use crate::config::Allowed;
use crate::webhook::testing::injection;

fn read_all(texts: &[(&str, &str)], injection: &Injection) -> Result<Plan, Vec<String>> {
    let annotations =
        texts.iter().map(|(name, text)| (format!("bursar.io/{name}"), (*text).to_owned())).collect();
    read(&annotations, &NamespaceDefaults::default(), injection)
}

fn faults(texts: &[(&str, &str)]) -> Vec<String> {
    read_all(texts, &injection()).expect_err("faulty")
}

#[test]
fn an_environment_is_all_that_a_pod_has_to_say() {
    let plan = read_all(&[("environment", "shop/prod")], &injection()).expect("good");
    let Way::Exec(exec) = &plan.way else { panic!("{plan:?}") };
    assert_eq!(
        (exec.environment.as_str(), exec.mask, &exec.ttl, &plan.containers),
        ("shop/prod", false, &None, &None)
    );
    assert_eq!(
        faults(&[]),
        ["`bursar.io/environment` is required: the name of the environment whose secrets the pod gets"]
    );
}

#[test]
fn what_the_namespace_says_is_what_a_pod_leaves_out() {
    let defaults =
        NamespaceDefaults { shape: Some(Shape::Sidecar), environment: Some("shop/base".to_owned()) };
    let annotations = BTreeMap::from([("bursar.io/directory".to_owned(), "/secrets".to_owned())]);
    let plan = read(&annotations, &defaults, &injection()).expect("good");
    let Way::Sidecar(sidecar) = plan.way else { panic!("{plan:?}") };
    assert_eq!(
        (sidecar.source, sidecar.directory.as_str()),
        (Source::Environment("shop/base".to_owned()), "/secrets")
    );
}

#[test]
fn every_fault_is_told_at_once() {
    let faults = faults(&[
        ("environment", "Shop"),
        ("enviroment", "shop"),
        ("output.", "env"),
        ("signal", "KILL"),
        ("mask", "yes"),
        ("ttl", "soon"),
        ("directory", "/x"),
        ("containers", "a,,b"),
        ("inject", "true"),
        ("ключ", "1"),
    ]);
    let text = faults.join("\n");
    for part in [
        "`bursar.io/environment` is the name of an environment",
        "`bursar.io/enviroment` is no annotation; the nearest is `bursar.io/environment`",
        "`bursar.io/output.` is no annotation; the nearest is `bursar.io/output.*`",
        "`bursar.io/signal` is one of",
        "`bursar.io/signal` goes with",
        "`bursar.io/mask` is `true` or `false`, not `yes`",
        "`bursar.io/ttl`",
        "`bursar.io/directory` means nothing for the shape `exec`; it is for `sidecar`",
        "`bursar.io/containers` is a list of names",
        "`bursar.io/inject` is a label",
        r"`bursar.io/\u{43a}\u{43b}\u{44e}\u{447}` is no annotation",
    ] {
        assert!(text.contains(part), "no `{part}` in\n{text}");
    }
    assert_eq!(faults.len(), 11, "{text}");
}

#[test]
fn an_administrator_says_which_annotations_and_shapes_there_are() {
    let narrow = Injection {
        allow: Allowed::Some(vec!["environment", "shape"]),
        shapes: vec![Shape::Exec],
        ..injection()
    };
    let faults = read_all(&[("environment", "shop"), ("mask", "true"), ("shape", "node")], &narrow)
        .expect_err("faulty");
    assert_eq!(
        faults,
        [
            "`bursar.io/mask` may not be set here: the webhook's `allow` does not have it",
            "`bursar.io/shape` may not be `node` here: the webhook's `shapes` are `exec`",
        ]
    );
}

#[test]
fn no_annotation_leads_elsewhere_or_weakens_what_leads_there() {
    for name in [
        "broker",
        "address",
        "image",
        "ca",
        "audience",
        "tls-skip-verify",
        "user",
        "privileged",
        "token-file",
    ] {
        assert_eq!(faults(&[("environment", "shop"), (name, "x")]).len(), 1, "{name}");
    }
}

#[test]
fn files_are_named_by_paths_that_stay_where_they_are() {
    let sidecar = |more: &[(&str, &str)]| {
        let all = [&[("shape", "sidecar"), ("environment", "shop")], more].concat();
        read_all(&all, &injection())
    };
    let plan = sidecar(&[
        ("output.app.env", "env"),
        ("output.site.pem", "pem:KEY,CERT"),
        ("template.a.conf", "{{ A }}"),
        ("mode", "440"),
    ]);
    let Way::Sidecar(files) = plan.expect("good").way else { panic!("a sidecar") };
    assert_eq!(
        (files.outputs.len(), files.templates["a.conf"].as_str(), files.mode.as_deref()),
        (2, "{{ A }}", Some("0440"))
    );
    for (name, text) in [
        ("output...", "env"),
        ("output...data", "env"),
        ("output.a", "toml"),
        ("output.a", "pem"),
        ("output.a", "pem:A,,B"),
        ("mode", "0644"),
        ("mode", "+444"),
        ("hook-url", "http://example.org/"),
        ("hook-url", "https://127.0.0.1/"),
        ("signal-process", ""),
        ("signal-process", "/usr/bin/nginx"),
        ("signal-process", "longer-than-a-name"),
        ("signal", "HUP"),
        ("directory", "relative"),
        ("directory", "/a/../b"),
        ("directory", "/$(HOME)"),
    ] {
        assert_eq!(sidecar(&[(name, text)]).expect_err("faulty").len(), 1, "{name}: {text}");
    }
    let both = sidecar(&[("output.a", "env"), ("template.a", "x")]).expect_err("faulty");
    assert_eq!(both, ["`bursar.io/template.a` is a file that there is an output for already"]);
    let heard =
        sidecar(&[("signal-process", "nginx"), ("hook-url", "http://127.0.0.1:1/")]).expect_err("faulty");
    assert_eq!(
        heard,
        ["`bursar.io/signal-process` is not needed beside `bursar.io/hook-url`: a program hears once"]
    );
}
