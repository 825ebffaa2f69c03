//! What is left of a node once it is evicted: no certificate, no stream, no lease; and nothing of that comes back with it.

use std::time::Duration;

use anyhow::{Result, ensure};
use bursar_proto::v1::nodes_join_request::Credential;
use bursar_proto::{Reason, v1};
use bursar_tests::{Broker, Cli, ClientCertificate};
use prost::Message;
use tonic::Code;

use crate::raw::{Caller, Ended, join};

#[test]
fn its_open_streams_end_and_say_why() -> Result<()> {
    let site = Site::start()?;
    let (web, other) = (site.join("web-1")?, site.join("web-2")?);
    let (web, other) = (Caller::presenting(&site.broker, &web)?, Caller::presenting(&site.broker, &other)?);
    let stream = web.listen(WATCH, v1::SecretsWatchRequest::default().encode_to_vec())?;
    let stays = other.listen(WATCH, v1::SecretsWatchRequest::default().encode_to_vec())?;
    site.evict("web-1")?;
    let ended = stream.end(SOON)?;
    ensure!(is_evicted(&ended), "{ended:?}");
    ensure!(stays.end(Duration::from_secs(1)).is_err(), "the stream of another node ended");
    Ok(())
}

#[test]
fn what_it_holds_for_itself_goes_with_what_it_asked_for_others() -> Result<()> {
    let site = Site::start()?;
    let web = Caller::presenting(&site.broker, &site.join("web-1")?)?;
    let workload = v1::WorkloadContext {
        selectors: vec!["unix:uid:4711".to_owned()],
        instance: "1:2@3".to_owned(),
        pid: 1,
    };
    ensure!(web.call(READ, read())?.code == Code::Ok);
    ensure!(web.call_for(READ, read(), Some(&workload))?.code == Code::Ok);
    ensure!(site.leases()? == 2);
    let said = site.evict("web-1")?;
    ensure!(said.contains("2 leases revoked"), "{said}");
    ensure!(site.leases()? == 0, "a lease of the node is left");
    Ok(())
}

#[test]
fn a_node_that_comes_back_counts_at_once_and_its_old_certificate_never_again() -> Result<()> {
    let mut site = Site::start()?;
    let old = site.join("web-1")?;
    site.evict("web-1")?;
    let new = site.join("web-1")?;
    site.is_refused(&old)?;
    ensure!(Caller::presenting(&site.broker, &new)?.call(READ, read())?.code == Code::Ok, "the new one is");
    // What the broker knows of evictions is in memory; what it learns from the ledger has to be the same.
    site.broker.process().stop()?;
    site.broker.start_again()?;
    site.is_refused(&old)?;
    ensure!(Caller::presenting(&site.broker, &new)?.call(READ, read())?.code == Code::Ok, "the new one is");
    Ok(())
}

struct Site {
    broker: Broker,
    admin: Cli,
}

impl Site {
    fn start() -> Result<Self> {
        let broker = Broker::start("[backends.local]\nkind = 'local'\n")?;
        let admin = Cli::administering(&broker)?;
        admin.apply_policies(POLICIES, REGISTRATIONS)?;
        admin.done_with(&["secret", "put", "local/a"], b"value")?;
        Ok(Self { broker, admin })
    }

    fn join(&self, name: &str) -> Result<ClientCertificate> {
        let token = self.admin.done(&["node", "token", name])?;
        let key = rcgen::KeyPair::generate()?;
        let credential = Credential::Token(token.trim().as_bytes().to_vec());
        join(&Caller::connect(&self.broker, None)?, credential, &key)?.certificate(&key)
    }

    /// Answers what was said.
    fn evict(&self, name: &str) -> Result<String> {
        let run = self.admin.run(&["node", "evict", name, "--reason", "a test", "--yes"])?;
        ensure!(run.code == Some(0), "{}", run.stderr);
        Ok(format!("{}{}", String::from_utf8_lossy(&run.stdout), run.stderr))
    }

    fn leases(&self) -> Result<usize> {
        let leases = self.admin.json(&["lease", "list"])?;
        Ok(leases.as_array().map_or(0, Vec::len))
    }

    fn is_refused(&self, certificate: &ClientCertificate) -> Result<()> {
        let ended = Caller::presenting(&self.broker, certificate)?.call(READ, read())?;
        ensure!(is_evicted(&ended), "{ended:?}");
        Ok(())
    }
}

fn is_evicted(ended: &Ended) -> bool {
    ended.reason == Some(Reason::CertificateInvalid) && ended.message.contains("was evicted")
}

fn read() -> Vec<u8> {
    v1::SecretsReadRequest { reference: "local/a".to_owned(), ..Default::default() }.encode_to_vec()
}

const READ: &str = "/bursar.v1.Secrets/Read";
const WATCH: &str = "/bursar.v1.Secrets/Watch";
const SOON: Duration = Duration::from_secs(20);

const POLICIES: &str = r#"
@id("everything")
permit (principal == Bursar::Principal::"spiffe://example.org/user/admin", action, resource);
@id("everybody")
permit (principal, action in [Bursar::Action::"read", Bursar::Action::"watch"], resource);
"#;

const REGISTRATIONS: &str = r#"
[[registration]]
principal = "spiffe://example.org/workload/shop"
node = "web-1"
selectors = ["unix:uid:4711"]
"#;
