//! What the provider itself decides. With a real control group, in the integration tests.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream as StdStream};

use bursar_proto::v1::{ResolvedFile, ResolvedVariable};
use tokio::io::AsyncReadExt;

use super::*;
use crate::config::Unit;
use crate::socket;
use crate::testing::{LIMIT, Rig};

fn environment(variables: &[&str], files: &[&str]) -> EnvironmentsResolveResponse {
    let variable = |name: &&str| ResolvedVariable {
        name: (*name).to_owned(),
        value: format!("variable {name}").into_bytes(),
        secret: true,
        lease_ids: Vec::new(),
        on_change: 0,
        max_stale: None,
        age: None,
    };
    let file = |path: &&str| ResolvedFile {
        path: (*path).to_owned(),
        mode: 0o400,
        contents: format!("file {path}").into_bytes(),
        secret: true,
        lease_ids: Vec::new(),
        on_change: 0,
        max_stale: None,
        age: None,
    };
    EnvironmentsResolveResponse {
        variables: variables.iter().map(variable).collect(),
        files: files.iter().map(file).collect(),
        ..EnvironmentsResolveResponse::default()
    }
}

#[test]
fn a_credential_is_the_variable_or_the_file_of_its_name_and_never_one_of_two() {
    let of = |id: &str| pick(environment(&["A", "both"], &["key.pem", "tls/key.pem", "both"]), id, "shop");
    assert!(of("A").expect("a variable").ct_eq(b"variable A"));
    assert!(of("key.pem").expect("a file").ct_eq(b"file key.pem"));
    assert!(matches!(of("both"), Err(Refused::Two { .. })));
    for none in ["B", "a", "tls", ""] {
        let refused = of(none).err().expect("refused").to_string();
        assert!(refused.contains("the environment `shop` has no variable"), "{refused}");
    }
}

/// How many bytes somebody reads who connects under `name` in the control group of this test, which is no unit's; and how
/// often the broker was asked.
async fn read_as(name: &str) -> (usize, usize) {
    let rig = Rig::new().await;
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("systemd.sock");
    let (listener, _bound) = socket::bind(&path, 0o600).await.expect("bound");
    let units = vec![Unit { name: "web.service".to_owned(), environment: "app".to_owned() }];
    let credentials = Credentials {
        config: Systemd { socket: path.clone(), units },
        answers: Arc::clone(&rig.answers),
        attestor: Arc::new(Attestor::new().expect("attestor")),
        metrics: rig.metrics.clone(),
    };
    let limits =
        Limits { connections: 4, connections_per_user: 4, streams: 1, deadline: Duration::from_secs(10) };
    rig.tasks.run("systemd", serve(listener, credentials, limits, rig.tasks.clone()));
    let stream = if name.is_empty() {
        StdStream::connect(&path)
    } else {
        let address = SocketAddr::from_abstract_name(name).expect("a name");
        let socket =
            rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::STREAM, None);
        let socket = socket.expect("a socket");
        let own =
            rustix::net::SocketAddrUnix::new_abstract_name(address.as_abstract_name().expect("abstract"));
        rustix::net::bind(&socket, &own.expect("a name")).expect("bound");
        let there = rustix::net::SocketAddrUnix::new(&path).expect("a path");
        rustix::net::connect(&socket, &there).map(|()| StdStream::from(socket)).map_err(Into::into)
    };
    let stream = stream.expect("connected");
    stream.set_nonblocking(true).expect("set");
    let mut stream = UnixStream::from_std(stream).expect("a stream");
    let mut read = Vec::new();
    tokio::time::timeout(LIMIT, stream.read_to_end(&mut read)).await.expect("soon").expect("read");
    assert!(read.iter().all(|byte| *byte == 0), "something was given");
    (read.len(), rig.broker.script.calls("resolve"))
}

#[tokio::test]
async fn a_name_alone_is_not_believed_and_what_is_read_is_too_long_for_a_credential() {
    if !rustix::process::geteuid().is_root() {
        // Whoever is not root is closed without a word, which the integration tests see too.
        assert_eq!(read_as("adf9/unit/web.service/PASSWORD").await, (0, 0));
        return;
    }
    let enough = 4 * give::LONGEST;
    assert_eq!(read_as("adf9/unit/web.service/PASSWORD").await, (enough, 0));
    assert_eq!(read_as("adf9/unit/other.service/PASSWORD").await, (enough, 0));
}

#[tokio::test]
async fn who_does_not_ask_as_systemd_does_is_told_nothing() {
    for name in ["", "x", "adf9/user/web.service/PASSWORD"] {
        assert_eq!(read_as(name).await, (0, 0), "{name}");
    }
}
