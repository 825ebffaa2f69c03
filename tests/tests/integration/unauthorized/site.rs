//! What the calls of the table are made at.

use anyhow::{Context, Result, ensure};
use bursar_proto::v1;
use bursar_proto::v1::nodes_join_request::Credential;
use bursar_tests::{Broker, Cli, ClientAuthority, text};
use serde_json::Value;
use tonic::Code;

use super::table::{ADA, Things};
use crate::raw::{Caller, Ended, join, signing_request};

/// A broker with something of everything, whose administrator may all of it.
pub(super) struct Site {
    pub(super) broker: Broker,
    pub(super) authority: ClientAuthority,
    pub(super) admin: Cli,
    pub(super) things: Things,
    /// What a registration knows, on the node `web-1` alone.
    pub(super) workload: v1::WorkloadContext,
    state: String,
    _bundle: tempfile::NamedTempFile,
}

impl Site {
    pub(super) fn start() -> Result<Self> {
        Self::with("")
    }

    pub(super) fn with(sections: &str) -> Result<Self> {
        let authority = ClientAuthority::new()?;
        let bundle = tempfile::NamedTempFile::new()?;
        let trusted = authority.trusted(bundle.path())?;
        let broker = Broker::start(&format!("{trusted}{sections}[backends.local]\nkind = 'local'\n"))?;
        let admin = Cli::administering(&broker)?;
        admin.apply_policies(POLICIES, REGISTRATIONS)?;
        admin.done_with(&["secret", "put", "local/plain"], b"value")?;
        admin.done_with(&["secret", "put", "local/db", "--field", "password"], b"value")?;
        admin.write("shop.toml", "[environment.\"shop\".vars]\nA = { from = \"local/plain\" }\n")?;
        admin.done(&["env", "apply", "shop.toml"])?;
        let lease =
            |reference: &str| Ok::<_, anyhow::Error>(text(&admin.json(&["get", reference])?, "/lease_id"));
        let things = Things {
            kept_lease: lease("local/plain")?,
            taken_lease: lease("local/db#password")?,
            served_lease: lease("local/plain")?,
            csr: signing_request(&rcgen::KeyPair::generate()?)?,
            approval: text(
                &admin.json(&["policy", "approve", ADA, "read", "local/plain", "--reason", "a test"])?,
                "/id",
            ),
        };
        let selectors = vec!["unix:uid:4711".to_owned()];
        let workload = v1::WorkloadContext { selectors, instance: "1:2@3".to_owned(), pid: 1 };
        let state = state(&admin)?;
        Ok(Self { broker, authority, admin, things, workload, state, _bundle: bundle })
    }

    /// Lets a node in by a token, as an agent would join.
    pub(super) fn join(&self, name: &str) -> Result<Caller> {
        let token = self.admin.done(&["node", "token", name])?;
        let key = rcgen::KeyPair::generate()?;
        let credential = Credential::Token(token.trim().as_bytes().to_vec());
        let joined = join(&Caller::connect(&self.broker, None)?, credential, &key)?;
        ensure!(joined.code == Code::Ok, "{joined:?}");
        let record = self.records_of(&joined)?.pop().context("joining left no record")?;
        ensure!(text(&record, "/action") == "join" && text(&record, "/outcome") == "ok", "{record}");
        Caller::presenting(&self.broker, &joined.certificate(&key)?)
    }

    /// How many records there are.
    pub(super) fn records(&self) -> Result<usize> {
        Ok(self.admin.audit(&[])?.len())
    }

    pub(super) fn records_of(&self, ended: &Ended) -> Result<Vec<Value>> {
        self.admin.audit(&["--request", &ended.request_id])
    }

    /// The newest record of a request.
    pub(super) fn record(&self, ended: &Ended) -> Result<Value> {
        self.records_of(ended)?.into_iter().next().context("there is no record")
    }

    /// Nothing that anybody could change is another than at the start.
    pub(super) fn unchanged(&self) -> Result<()> {
        let now = state(&self.admin)?;
        ensure!(now == self.state, "something was changed:\n{}\n{now}", self.state);
        Ok(())
    }
}

fn state(admin: &Cli) -> Result<String> {
    let asked: [&[&str]; 7] = [
        &["env", "list"],
        &["policy", "get"],
        &["policy", "approvals"],
        &["node", "list"],
        &["lease", "list"],
        &["secret", "history", "local/plain"],
        &["secret", "list", "local"],
    ];
    asked.iter().map(|asked| Ok(format!("{}\n", admin.json(asked)?))).collect()
}

pub(super) const POLICIES: &str = r#"
@id("everything")
permit (principal == Bursar::Principal::"spiffe://example.org/user/admin", action, resource);
@id("workloads")
permit (principal == Bursar::Principal::"spiffe://example.org/workload/shop",
        action == Bursar::Action::"read", resource);
"#;

const REGISTRATIONS: &str = r#"
[[registration]]
principal = "spiffe://example.org/workload/shop"
node = "web-1"
selectors = ["unix:uid:4711"]
"#;
