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
}

#[test]
fn the_least_file_gets_defaults_and_no_http_port() {
    let text = "broker = 'https://b'\nca_file = 'ca'\nnode = 'n'\ndata_dir = 'd'\n";
    let config = Config::parse(text).expect("good");
    assert_eq!((config.socket.to_str(), config.socket_mode), (Some("/run/bursar/agent.sock"), 0o666));
    assert!(config.http.is_none() && config.join.is_none());
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
        assert!(mode(text).is_err(), "{text}");
    }
}
