//! The port for programs made for AWS: whatever a program of the machine sends, and what the kernel answers about it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::LazyLock;

use bursar_agent::aws::{connected, references};
use bursar_agent::config::{Aws, Config};

use super::head;
use crate::Target;

pub(super) const REQUESTS: Target =
    Target { name: "aws-requests", seeds: request_seeds, run: run_request, rounds: 20_000 };
pub(super) const SOCKETS: Target =
    Target { name: "sockets", seeds: socket_seeds, run: run_socket, rounds: 20_000 };

static CONFIG: LazyLock<Aws> = LazyLock::new(|| {
    let text = "broker = 'https://b'\nca_file = 'c'\nnode = 'n'\ndata_dir = 'd'\n\
                [aws]\nlisten = '127.0.0.1:0'\nmount = 'local/folder'\n[aws.secrets]\n'shop/db' = 'vault/db#password'\n";
    Config::parse(text).ok().and_then(|config| config.aws).expect("a configuration with the port")
});

fn run_request(input: &[u8]) {
    let Some((parts, body)) = head::read(input) else { return };
    match references(&CONFIG, parts, body.to_vec().into()) {
        Ok(references) => {
            for reference in references {
                // The one that is configured, or below the mount: a name leads nowhere else.
                let (backend, path) = (reference.backend.as_str(), reference.path.as_str());
                let configured = backend == "vault" && path == "db";
                assert!(configured || (backend == "local" && path.starts_with("folder/")), "{reference}");
            }
        }
        Err(status) => assert!(matches!(status, 400 | 403 | 404 | 405), "{status}"),
    }
}

/// An answer about the connection from port 1 to port 2 of this machine.
fn run_socket(input: &[u8]) {
    let Some(held) = connected(input, PEER, LOCAL) else { return };
    assert!(held.inode != 0, "a socket that no file stands for is somebody's");
    // Where linux/inet_diag.h has them: ports behind family, state and two more bytes, and the header of netlink before.
    let port = |at: usize| input.get(at..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes));
    assert_eq!((port(20), port(22)), (Some(1), Some(2)), "another connection is taken for this one");
}

fn request_seeds() -> Vec<Vec<u8>> {
    let sdk = |target: &str, body: &str| {
        format!(
            "POST /\nhost: localhost:2773\ncontent-type: application/x-amz-json-1.1\n\
             x-amz-target: secretsmanager.{target}\nx-amz-security-token: a.b.c\n\n{body}"
        )
    };
    let get = |uri: &str| format!("GET {uri}\nhost: 127.0.0.1\nx-aws-parameters-secrets-token: peer\n\n");
    [
        get("/secretsmanager/get?secretId=shop%2Fdb&versionStage=AWSCURRENT&refreshNow=true"),
        get("/v1/shop/api?versionId=7"),
        get("/v1/arn:aws:secretsmanager:eu-west-1:123456789012:secret:shop/db-Ab12Cd"),
        get("/ping"),
        get("/v1/..%2f..%2fvault/db"),
        sdk("GetSecretValue", r#"{"SecretId":"shop/db","VersionId":"===============================7"}"#),
        sdk("BatchGetSecretValue", r#"{"SecretIdList":["shop/db","a@b#c%d"]}"#),
        sdk("DescribeSecret", r#"{"SecretId":"a","More":[null]}"#),
        sdk("PutSecretValue", r#"{"SecretId":"a"}"#),
        "GET http://evil.example/v1/a\nx-forwarded-for: 10.0.0.1\n\n".to_owned(),
    ]
    .map(String::into_bytes)
    .to_vec()
}

fn socket_seeds() -> Vec<Vec<u8>> {
    let header = |kind: u16| [&88_u32.to_ne_bytes()[..], &kind.to_ne_bytes(), &[0; 10]].concat();
    let answer = |family: u8, peer: u16, local: u16, inode: u32| {
        let address: &[u8] = match family {
            INET => &[127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            _ => &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1],
        };
        let ports = [peer.to_be_bytes(), local.to_be_bytes()].concat();
        let owner = [1000_u32.to_ne_bytes(), inode.to_ne_bytes()].concat();
        [&header(ANSWER), &[family, 1, 0, 0][..], &ports, address, address, &[0; 24], &owner].concat()
    };
    let unknown = [header(ERROR), (-2_i32).to_ne_bytes().to_vec()].concat();
    vec![
        answer(INET, 1, 2, 4711),
        answer(INET6, 1, 2, 4711),
        answer(INET, 2, 1, 4711),
        answer(INET, 1, 2, 0),
        unknown,
        // An error without a number.
        [header(ERROR), vec![0; 60]].concat(),
        Vec::new(),
    ]
}

const ANSWER: u16 = 20;
const ERROR: u16 = 2;
const INET: u8 = 2;
const INET6: u8 = 10;
const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);
const LOCAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2);

#[cfg(test)]
mod tests {
    use super::*;

    /// Else what is tried would be no more than that everything is refused.
    #[test]
    fn what_is_good_is_read() {
        let read = |seed: &Vec<u8>| {
            let (parts, body) = head::read(seed)?;
            references(&CONFIG, parts, body.to_vec().into()).ok().map(|references| references.len())
        };
        let asked: Vec<_> = request_seeds().iter().map(read).collect();
        let (one, two) = (Some(1), Some(2));
        assert_eq!(asked, [one, one, one, Some(0), None, one, two, one, None, None]);
        let known: Vec<_> =
            socket_seeds().iter().map(|seed| connected(seed, PEER, LOCAL).map(|held| held.uid)).collect();
        assert_eq!(known, [Some(1000), Some(1000), None, None, None, None, None]);
    }
}
