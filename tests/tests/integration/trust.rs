//! Several authorities beside the broker's own: each vouches for its trust domain and its principals, and for nobody else;
//! and what they say may change while the broker runs.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bursar_proto::Reason;
use bursar_proto::v1::{self, SecretsReadRequest, WorkloadContext};
use bursar_tests::{Broker, Cli, ClientAuthority, ClientCertificate, wait_until};
use prost::Message;
use tonic::Code;

use crate::raw::{Caller, Ended};

#[test]
fn two_trust_domains_are_served_side_by_side_each_by_its_policies() -> Result<()> {
    let site = Site::start()?;
    site.admin.done_with(&["secret", "put", "local/shop/db"], b"value")?;
    site.admin.done_with(&["secret", "put", "local/own"], b"value")?;
    let web = site.partner.issue(WEB)?;
    let read = |caller: &ClientCertificate, secret: &str| {
        Caller::presenting(&site.broker, caller)?.call(READ, reference(secret))
    };
    ensure!(read(&web, "local/shop/db")?.code == Code::Ok);
    ensure!(read(&web, "local/own")?.reason == Some(Reason::AccessDenied));
    let ada = site.people.issue(ADA)?;
    ensure!(read(&ada, "local/own")?.code == Code::Ok);
    ensure!(read(&ada, "local/shop/db")?.reason == Some(Reason::AccessDenied));
    // Everything that the ledger can tell of a principal, it can tell of one from elsewhere.
    ensure!(site.admin.audit(&["--principal", WEB])?.len() == 2);
    let leases = site.admin.json(&["lease", "list", "--principal", WEB])?;
    ensure!(leases.as_array().is_some_and(|leases| leases.len() == 1), "{leases}");
    Ok(())
}

#[test]
fn an_authority_that_names_somebody_of_another_domain_is_refused_and_leaves_no_record() -> Result<()> {
    let site = Site::start()?;
    let before = site.admin.audit(&[])?.len();
    for (name, certificate, said) in [
        (
            "a partner's administrator here",
            site.partner.issue("spiffe://example.org/user/admin")?,
            "no authority",
        ),
        ("a person of a partner", site.people.issue(WEB)?, "no authority"),
        (
            "somebody of nowhere",
            site.partner.issue("spiffe://nowhere.example/user/ada")?,
            "knows no authority",
        ),
    ] {
        site.is_refused(&certificate, said).context(name)?;
    }
    ensure!(site.admin.audit(&[])?.len() == before + 1, "somebody who was refused has a record");
    Ok(())
}

#[test]
fn an_authority_for_people_names_no_node_and_no_workload() -> Result<()> {
    let site = Site::start()?;
    for id in ["node/web-1", "broker/broker", "workload/shop", "ns/shop/sa/web", "user/ada/x"] {
        let certificate = site.people.issue(&format!("spiffe://example.org/{id}"))?;
        site.is_refused(&certificate, "`[identity.trust.people]`").with_context(|| id.to_owned())?;
    }
    Ok(())
}

#[test]
fn a_node_of_another_domain_is_no_node_here() -> Result<()> {
    let site = Site::start()?;
    let node = site.partner.issue("spiffe://partner.example/node/web-1")?;
    let node = Caller::presenting(&site.broker, &node)?;
    let workload =
        WorkloadContext { selectors: vec!["unix:uid:4711".to_owned()], instance: String::new(), pid: 1 };
    let spoke = node.call_for(READ, reference("local/own"), Some(&workload))?;
    ensure!(spoke.reason == Some(Reason::RegistrationMissing), "{spoke:?}");
    // A node of its name is here, and this one would else be given its certificate.
    site.admin.done(&["node", "token", "web-1"])?;
    let csr = rcgen::CertificateParams::default().serialize_request(&rcgen::KeyPair::generate()?)?;
    let request = v1::NodesRenewCertificateRequest { csr: csr.der().to_vec() };
    let renewed = node.call("/bursar.v1.Nodes/RenewCertificate", request.encode_to_vec())?;
    ensure!(renewed.reason == Some(Reason::AccessDenied), "{renewed:?}");
    Ok(())
}

#[test]
fn a_bundle_is_replaced_while_the_broker_runs_and_what_is_connected_follows() -> Result<()> {
    let site = Site::start()?;
    let (connected, successor) =
        (Caller::presenting(&site.broker, &site.people.issue(ADA)?)?, ClientAuthority::new()?);
    ensure!(is_known(&connected.call(READ, reference("local/own"))?));

    // Each authority needs its list of what it revoked: one without is not believed.
    site.write("people.crl", &[successor.revoked(&[])?, site.people.revoked(&[])?].concat())?;
    site.write("people.pem", successor.pem())?;
    let refused = || connected.call(READ, reference("local/own")).is_ok_and(|ended| is_refused(&ended));
    wait_until(SOON, "the connection of the authority that is gone to be refused", refused)?;
    let new = Caller::presenting(&site.broker, &successor.issue(ADA)?)?;
    ensure!(is_known(&new.call(READ, reference("local/own"))?));
    let old = Cli::presenting(&site.people.issue(ADA)?, &site.broker)?;
    old.run(&["get", "local/own"])?.refused(77, &["cannot connect to", "hint: "])?;

    site.write("people.pem", site.people.pem())?;
    let back = || connected.call(READ, reference("local/own")).is_ok_and(|ended| is_known(&ended));
    wait_until(SOON, "the connection to be believed again", back)
}

#[test]
fn a_bundle_that_cannot_be_read_is_shown_and_the_old_one_stays() -> Result<()> {
    let site = Site::start()?;
    let connected = Caller::presenting(&site.broker, &site.people.issue(ADA)?)?;
    let ready = || Ok::<_, anyhow::Error>(String::from_utf8(site.broker.http("/readyz")?.body)?);
    let metric = || Ok::<_, anyhow::Error>(String::from_utf8(site.broker.http("/metrics")?.body)?);
    ensure!(metric()?.contains("bursar_trust_stale{bundle=\"people\"} 0"));

    site.write("people.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")?;
    let shown = |what: &'static str| move |text: Result<String>| text.is_ok_and(|text| text.contains(what));
    let degraded = shown("degraded: trust people: ");
    wait_until(SOON, "the broker to be degraded", || degraded(ready()))?;
    ensure!(ready()?.starts_with("ready\n") && metric()?.contains("bursar_trust_stale{bundle=\"people\"} 1"));
    ensure!(is_known(&connected.call(READ, reference("local/own"))?));
    let status = site.admin.json(&["status"])?;
    ensure!(status.to_string().contains("trust people"), "{status}");

    site.write("people.pem", site.people.pem())?;
    wait_until(SOON, "the broker to be well", || ready().is_ok_and(|text| text == "ready\n"))
}

#[test]
fn a_certificate_that_its_authority_revokes_is_refused_at_the_next_call() -> Result<()> {
    let site = Site::start()?;
    let (ada, bob) = (site.people.issue(ADA)?, site.people.issue("spiffe://example.org/user/bob")?);
    let (gone, stays) = (Caller::presenting(&site.broker, &ada)?, Caller::presenting(&site.broker, &bob)?);
    ensure!(is_known(&gone.call(READ, reference("local/own"))?));

    site.write("people.crl", &site.people.revoked(&[&ada])?)?;
    let refused = || gone.call(READ, reference("local/own")).is_ok_and(|ended| is_refused(&ended));
    wait_until(SOON, "the revoked certificate to be refused", refused)?;
    let ended = gone.call(READ, reference("local/own"))?;
    ensure!(ended.message.contains("was revoked by its authority"), "{ended:?}");
    let again = Cli::presenting(&ada, &site.broker)?.run(&["get", "local/own"])?;
    again.refused(77, &["cannot connect to", "hint: "])?;
    ensure!(is_known(&stays.call(READ, reference("local/own"))?));
    Ok(())
}

#[test]
fn a_bundle_that_is_not_there_keeps_the_broker_from_starting() -> Result<()> {
    let mut site = Site::start()?;
    site.broker.process().stop()?;
    std::fs::remove_file(site.files.path().join("partner.pem"))?;
    let (code, said) = site.broker.refuse_to_start()?;
    ensure!(code == Some(1) && said.contains("`identity.trust.partner` cannot be used"), "{code:?}: {said}");
    ensure!(said.contains("partner.pem"), "{said}");
    Ok(())
}

/// A broker that takes the word of one authority for people, with a list of whom it revoked, and of a partner's.
struct Site {
    broker: Broker,
    people: ClientAuthority,
    partner: ClientAuthority,
    admin: Cli,
    files: tempfile::TempDir,
}

impl Site {
    fn start() -> Result<Self> {
        let (people, partner) = (ClientAuthority::new()?, ClientAuthority::new()?);
        let files = tempfile::tempdir()?;
        std::fs::write(files.path().join("people.pem"), people.pem())?;
        std::fs::write(files.path().join("people.crl"), people.revoked(&[])?)?;
        std::fs::write(files.path().join("partner.pem"), partner.pem())?;
        let broker = Broker::start(&format!(
            "[identity.trust.people]\ntrust_domain = 'example.org'\nbundle = '{folder}/people.pem'\n\
             crl = '{folder}/people.crl'\nprincipals = ['/user/*']\n\
             [identity.trust.partner]\ntrust_domain = 'partner.example'\nbundle = '{folder}/partner.pem'\n\
             [backends.local]\nkind = 'local'\n",
            folder = files.path().display()
        ))?;
        let admin = Cli::administering(&broker)?;
        admin.apply_policies(POLICIES, REGISTRATIONS)?;
        Ok(Self { broker, people, partner, admin, files })
    }

    /// Puts a file in another's place whole, as whoever distributes bundles does.
    fn write(&self, name: &str, content: &str) -> Result<()> {
        let new = self.files.path().join("new");
        std::fs::write(&new, content)?;
        Ok(std::fs::rename(new, self.files.path().join(name))?)
    }

    fn is_refused(&self, certificate: &ClientCertificate, said: &str) -> Result<()> {
        let ended = Caller::presenting(&self.broker, certificate)?.call(READ, reference("local/own"))?;
        ensure!(is_refused(&ended), "{ended:?}");
        ensure!(ended.message.contains(said), "`{said}` is not in `{}`", ended.message);
        Ok(())
    }
}

fn is_refused(ended: &Ended) -> bool {
    (ended.code, ended.reason) == (Code::Unauthenticated, Some(Reason::CertificateInvalid))
}

/// Whoever is known may read, or is told that there is no such secret.
fn is_known(ended: &Ended) -> bool {
    ended.code == Code::Ok
        || ended.reason == Some(Reason::SecretNotFound)
        || ended.reason == Some(Reason::AccessDenied)
}

fn reference(secret: &str) -> Vec<u8> {
    SecretsReadRequest { reference: secret.to_owned(), ..Default::default() }.encode_to_vec()
}

const SOON: Duration = Duration::from_secs(30);
const READ: &str = "/bursar.v1.Secrets/Read";
const WEB: &str = "spiffe://partner.example/ns/shop/sa/web";
const ADA: &str = "spiffe://example.org/user/ada";

const POLICIES: &str = r#"
@id("administrator")
permit (principal == Bursar::Principal::"spiffe://example.org/user/admin", action, resource);
@id("partner")
permit (principal in Bursar::Group::"spiffe://partner.example/ns/shop", action in Bursar::Action::"use",
        resource in Bursar::Folder::"local/shop");
@id("people")
permit (principal == Bursar::Principal::"spiffe://example.org/user/ada", action == Bursar::Action::"read",
        resource == Bursar::Secret::"local/own");
"#;

const REGISTRATIONS: &str = r#"
[[registration]]
principal = "spiffe://example.org/workload/shop"
node = "web-1"
selectors = ["unix:uid:4711"]
"#;
