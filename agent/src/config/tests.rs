use super::*;

#[test]
fn a_good_file_is_read_whole() {
    let config = Config::parse(include_str!("../testdata/good.toml")).expect("good");
    assert_eq!(config.broker.to_string(), "https://broker.example.org:8443");
    assert_eq!(config.socket_mode, 0o660);
    assert_eq!(config.cache.on_outage, OnOutage::Fail);
    assert_eq!(config.limits.connections_per_user, 64);
    assert!(matches!(config.join, Some(Join::Token(SecretSource::Credential(_)))));
    let [set] = &config.files[..] else { panic!("one set of files") };
    assert_eq!((set.name.as_str(), set.environment.as_str(), set.on_disk), ("web", "shop/prod", false));
    assert_eq!(set.owner, Some(Account::Name("www-data".to_owned())));
    assert_eq!(set.group, Some(Account::Number(33)));
    let outputs: Vec<_> = set.outputs.iter().map(|output| (output.path.as_str(), output.mode)).collect();
    assert_eq!(outputs, [("app.env", 0o400), ("nginx.conf", 0o400), ("tls/site.pem", 0o440)]);
    assert!(matches!(&set.outputs[2].content, Content::Pem { variables } if variables.len() == 2));
    let hook = set.hook.as_ref().expect("a hook");
    assert_eq!((hook.timeout.as_secs(), hook.every.as_secs()), (60, 10));
    let HookAction::Command { program, arguments } = &hook.action else { panic!("a command") };
    assert_eq!(
        (program.to_str(), &arguments[..]),
        (Some("/usr/bin/systemctl"), &["reload".into(), "nginx".into()][..])
    );
    assert_eq!(config.csi.map(|csi| csi.refresh.as_secs()), Some(120));
    assert!(config.systemd.is_some_and(|systemd| systemd.unit("web@1.service").is_some()));
}

#[test]
fn there_are_no_more_places_than_files_to_open_whatever_is_configured() {
    let places = |more: &str, files| {
        let least = "broker = 'https://b'\nca_file = 'ca'\nnode = 'n'\ndata_dir = 'd'\n";
        let limits = Config::parse(&format!("{least}{more}")).expect("good").within(files).limits;
        (limits.connections, limits.connections_per_user)
    };
    assert_eq!(places("", 524_288), (1024, 256));
    assert_eq!(places("", 1024), (384, 96));
    assert_eq!(places("[csi]\nsocket = '/run/c.sock'\n", 1024), (192, 48));
    assert_eq!(
        places("[limits]\nconnections = 100000\nconnections_per_user = 99000\n", 20_000),
        (7500, 7425)
    );
    assert_eq!(places("", 0), (1, 1));
}

#[test]
fn a_program_that_is_kept_running_is_read_with_its_defaults() {
    let config = Config::parse(include_str!("../testdata/good.toml")).expect("good");
    assert_eq!(config.cli.as_deref(), Some(Path::new("/opt/bursar/bin/bursar")));
    let [run] = &config.runs[..] else { panic!("one program") };
    assert_eq!((run.name.as_str(), run.command.len(), run.environment.as_str()), ("worker", 3, "shop/prod"));
    assert_eq!((run.restart, run.way, run.mask, run.umask), (Restart::OnFailure, "files", true, 0o077));
    assert_eq!((run.on_change, run.signal, run.hook.len()), ("hook", Some("USR2"), 2));
    assert_eq!((run.splay.as_secs(), run.stop_timeout.as_secs()), (30, 60));

    let least = "broker = 'https://b'\nca_file = 'ca'\nnode = 'n'\ndata_dir = 'd'\n\
                 [run.web]\ncommand = ['/bin/web']\nenvironment = 'shop'\n";
    let config = Config::parse(least).expect("good");
    let [run] = &config.runs[..] else { panic!("one program") };
    assert_eq!((run.restart, run.way, run.mask, run.umask), (Restart::Always, "env", false, 0o022));
    assert_eq!((run.on_change, run.directory.to_str()), ("restart", Some("/")));
    assert!(config.cli.is_none() && run.user.is_none() && run.stop_timeout.as_secs() == 10);
}

#[test]
fn the_least_file_gets_defaults_and_no_http_port() {
    let text = "broker = 'https://b'\nca_file = 'ca'\nnode = 'n'\ndata_dir = 'd'\n";
    let config = Config::parse(text).expect("good");
    assert_eq!((config.socket.to_str(), config.socket_mode), (Some("/run/bursar/agent.sock"), 0o666));
    assert!(config.http.is_none() && config.join.is_none() && config.state.is_none());
}

#[test]
fn what_is_kept_is_beside_the_data_and_as_much_as_is_in_memory() {
    let least = "broker = 'https://b'\nca_file = 'ca'\nnode = 'n'\ndata_dir = '/d'\n";
    let state = Config::parse(&format!("{least}[state]\n")).expect("good").state.expect("state");
    assert_eq!((state.directory.to_str(), state.bytes), (Some("/d/state"), 32 * 1024 * 1024));
    assert!(state.key.is_none());
    let forbidden = "[state]\n[cache]\non_outage = 'fail'\n";
    assert_eq!(
        faults(&format!("{least}{forbidden}")),
        ["state: is for bridging outages, which `cache.on_outage = \"fail\"` forbids; leave one of them out"]
    );
}

#[test]
fn what_says_which_node_it_is_needs_no_name() {
    let least = "broker = 'https://b'\nca_file = 'ca'\ndata_dir = 'd'\n";
    let kubernetes = format!("{least}join_kubernetes = {{ token_file = '/t' }}\n");
    let config = Config::parse(&kubernetes).expect("good");
    assert!(config.node.is_none() && matches!(config.join, Some(Join::Kubernetes { .. })));
    let certificate = format!("{least}join_certificate = {{ cert = 'c', key = 'k' }}\n");
    assert!(matches!(Config::parse(&certificate).expect("good").join, Some(Join::Certificate { .. })));
    let token = format!("{least}join_token = {{ env = 'T' }}\n");
    assert_eq!(faults(&token), ["node: is required"]);
}

#[test]
fn a_machine_joins_in_one_way() {
    let least = "broker = 'https://b'\nca_file = 'ca'\ndata_dir = 'd'\nnode = 'n'\n";
    let (token, kubernetes, certificate) = (
        "join_token = { env = 'T' }\n",
        "join_kubernetes = { token_file = '/t' }\n",
        "join_certificate = { cert = 'c', key = 'k' }\n",
    );
    let one = "is one of several things that let this machine in; give one";
    assert_eq!(faults(&format!("{least}{token}{kubernetes}")), [format!("join_kubernetes: {one}")]);
    assert_eq!(faults(&format!("{least}{kubernetes}{certificate}")), [format!("join_certificate: {one}")]);
    assert_eq!(faults(&format!("{least}{token}{certificate}")), [format!("join_certificate: {one}")]);
    let halves = format!("{least}join_certificate = {{ cert = 'c' }}\n");
    assert_eq!(faults(&halves), ["join_certificate.key: is required"]);
    assert_eq!(
        faults(&format!("{least}join_kubernetes = {{}}\n")),
        ["join_kubernetes.token_file: is required"]
    );
}

fn faults(text: &str) -> Vec<String> {
    Config::parse(text).expect_err("faulty").iter().map(ToString::to_string).collect()
}

#[test]
fn every_fault_of_a_bad_file_is_reported_and_no_value_is_shown() {
    let faults = Config::parse(include_str!("../testdata/faulty.toml")).expect_err("faulty");
    let text: String = faults.iter().map(|fault| format!("{fault}\n")).collect();
    assert_eq!(
        text,
        include_str!("../testdata/faulty.txt"),
        "update testdata/faulty.txt if this is intended"
    );
    assert!(!text.contains("b25lLXRpbWUtdG9rZW4"));
}

#[test]
fn a_name_that_would_change_the_path_of_a_spiffe_id_is_refused() {
    for name in ["", ".", "..", "a/b", "a b", "ä"] {
        assert!(node_name(name).is_err(), "{name}");
    }
}

#[test]
fn a_socket_that_its_owner_could_not_use_is_refused() {
    for text in ["0", "0066", "666x", "1666", "-1", ""] {
        assert!(socket_mode(text).is_err(), "{text}");
    }
}

#[test]
fn envoy_has_a_socket_of_its_own() {
    let least = "broker = 'https://b'\nca_file = 'ca'\nnode = 'n'\ndata_dir = 'd'\n";
    assert!(Config::parse(least).expect("good").sds.is_none());
    let good = Config::parse(&format!("{least}[sds]\nsocket = '/run/bursar/sds.sock'\n")).expect("good");
    let sds = good.sds.expect("configured");
    assert_eq!((sds.socket.to_str(), sds.socket_mode), (Some("/run/bursar/sds.sock"), 0o666));
    assert_eq!(faults(&format!("{least}[sds]\n")), ["sds.socket: is required"]);
}

#[test]
fn no_two_sockets_have_one_path() {
    let least = "broker = 'https://b'\nca_file = 'ca'\nnode = 'n'\ndata_dir = 'd'\n";
    let own = "[sds]\nsocket = '/run/bursar/agent.sock'\n";
    let same = "[csi]\nsocket = '/run/one.sock'\n[systemd]\nsocket = '/run/one.sock'\n";
    assert_eq!(
        faults(&format!("{least}{own}{same}")),
        [
            "sds.socket: is `socket` too; give it a path of its own",
            "systemd.socket: is `csi.socket` too; give it a path of its own",
        ]
    );
}

#[test]
fn a_hook_does_one_thing_on_this_machine() {
    let hook = |lines: &str| {
        let set = "[files.web]\ndirectory = '/run/web'\nenvironment = 'shop'\n[files.web.hook]\n";
        let text = format!("broker = 'https://b'\nca_file = 'ca'\nnode = 'n'\ndata_dir = 'd'\n{set}{lines}");
        Config::parse(&text).map(|config| config.files.into_iter().find_map(|set| set.hook).expect("a hook"))
    };
    let good = hook("signal = 'SIGHUP'\npid_file = '/run/nginx.pid'").expect("good");
    assert!(matches!(good.action, HookAction::Signal { .. }));
    for url in ["http://127.0.0.1:9000/reload", "http://[::1]/", "http://127.3.2.1"] {
        assert!(matches!(hook(&format!("http = '{url}'")).expect("good").action, HookAction::Http { .. }));
    }
    for url in ["https://127.0.0.1/", "http://localhost/", "http://10.0.0.1/", "/reload", ""] {
        let faults = hook(&format!("http = '{url}'")).expect_err("faulty");
        assert!(faults[0].to_string().starts_with("files.web.hook.http: is a URL like"), "{url}");
    }
    let one = "files.web.hook: needs one of `command`, `signal` with `pid_file`, and `http`";
    let cases = [
        ("", one),
        ("command = ['/bin/true']\nhttp = 'http://127.0.0.1/'", one),
        ("pid_file = '/run/nginx.pid'", one),
        ("command = ['true']", "files.web.hook.command: begins with the absolute path of a program"),
        (
            "signal = 'HUP'",
            "files.web.hook.pid_file: is required with `signal`: it says which process gets it",
        ),
        ("command = ['/bin/true']\nevery = '0s'", "files.web.hook.every: must be from 1s to 10m"),
    ];
    for (lines, fault) in cases {
        let faults = hook(lines).expect_err("faulty");
        assert_eq!(faults.iter().map(ToString::to_string).next().as_deref(), Some(fault), "{lines}");
    }
    let faults = hook("signal = 'KILL'\npid_file = '/run/nginx.pid'").expect_err("faulty");
    assert!(faults[0].to_string().starts_with("files.web.hook.signal: is one of `HUP`, `USR1`"));
}
