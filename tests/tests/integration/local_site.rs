//! A broker with a local store that its administrator may use, for tests that are not about stores.

use std::path::Path;
use std::process::Output;

use anyhow::{Context, Result, ensure};
use bursar_proto::v1::local_store_put_request::Data;
use bursar_proto::v1::policies_apply_response::Result as Applied;
use bursar_proto::v1::{LocalStorePutRequest, PoliciesApplyRequest, PolicyFile};
use bursar_sdk::{Address, Client, Identity, Leased, ReadOptions, Reference, Secret, Tls};
use bursar_tests::{Broker, Canary, binary};
use tokio::runtime::Runtime;

pub(crate) struct LocalSite {
    pub(crate) broker: Broker,
    pub(crate) client: Client,
    pub(crate) runtime: Runtime,
    /// The value of `local/app/key`.
    pub(crate) key: Canary,
}

impl LocalSite {
    /// `more` is what the configuration says besides.
    pub(crate) fn start(more: &str) -> Result<Self> {
        Self::of(Broker::start(&sections(more))?)
    }

    /// With the broker's data in `data`.
    pub(crate) fn start_on(data: &Path, more: &str) -> Result<Self> {
        Self::of(Broker::start_on(data, &sections(more))?)
    }

    fn of(broker: Broker) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let client = runtime.block_on(administrator(&broker))?;
        let site = Self { broker, client, runtime, key: Canary::random("app key") };
        let files = vec![PolicyFile { name: "test.cedar".to_owned(), text: POLICIES.to_owned() }];
        let request = PoliciesApplyRequest { files, expected_revision: None, dry_run: false };
        let answer = site.run(async { site.client.policies().apply(request).await })?;
        ensure!(
            matches!(answer.into_inner().result, Some(Applied::Accepted(_))),
            "the policies were refused"
        );
        site.put("local/app/key", site.key.value())?;
        Ok(site)
    }

    pub(crate) fn connect(&mut self) -> Result<()> {
        self.client = self.runtime.block_on(administrator(&self.broker))?;
        Ok(())
    }

    pub(crate) fn put(&self, reference: &str, value: &str) -> Result<()> {
        let request = LocalStorePutRequest {
            reference: reference.to_owned(),
            data: Some(Data::Value(value.as_bytes().to_vec())),
            expected_version: None,
            expires_at: None,
        };
        self.run(async { self.client.local_store().put(request).await })?;
        Ok(())
    }

    /// Reads `local/app/key` as another instance each time, so that each read is another lease.
    pub(crate) fn read(&self, instance: usize) -> Result<Leased> {
        let reference: Reference = "local/app/key".parse()?;
        let options = ReadOptions { instance: format!("i{instance}"), ..ReadOptions::default() };
        self.run(self.client.read(&reference, &options))
    }

    /// Runs the command line as the administrator.
    pub(crate) fn bursar(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = std::process::Command::new(binary("bursar")?);
        command.env_clear().env("BURSAR_ADDRESS", self.broker.address());
        let files = [("BURSAR_CA", "ca.pem"), ("BURSAR_CERT", "admin.crt"), ("BURSAR_KEY", "admin.key")];
        command.envs(files.map(|(name, file)| (name, self.broker.bootstrap(file))));
        command.args(arguments).output().context("`bursar` cannot be run")
    }

    /// What a command that has to succeed printed.
    pub(crate) fn done(&self, arguments: &[&str]) -> Result<String> {
        said(&self.bursar(arguments)?)
    }

    /// The body of `GET path` on the HTTP port, whatever its status.
    pub(crate) fn http(&self, path: &str) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.broker.http(path)?.body).into_owned())
    }

    pub(crate) fn run<T, E: Into<anyhow::Error>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T> {
        self.runtime.block_on(work).map_err(Into::into)
    }
}

/// The standard output of a program that has to have succeeded.
pub(crate) fn said(output: &Output) -> Result<String> {
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "it failed ({}): {errors}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn sections(more: &str) -> String {
    format!("[backends.local]\nkind = 'local'\n{more}")
}

/// A client with the certificate that `init` made.
pub(crate) async fn administrator(broker: &Broker) -> Result<Client> {
    let read = |name| std::fs::read(broker.bootstrap(name));
    let identity = Identity { cert_pem: read("admin.crt")?, key_pem: Secret::new(read("admin.key")?) };
    let tls = Tls { ca_pem: read("ca.pem")?, identity: Some(identity), server_name: None };
    let address: Address = broker.address().parse()?;
    Ok(Client::connect(&address, Some(&tls)).await?)
}

const POLICIES: &str = r#"
@id("administration")
permit (principal == Bursar::Principal::"spiffe://example.org/user/admin",
        action in Bursar::Action::"administer", resource);
@id("use")
permit (principal == Bursar::Principal::"spiffe://example.org/user/admin",
        action in Bursar::Action::"use", resource in Bursar::Backend::"local");
@id("write")
permit (principal == Bursar::Principal::"spiffe://example.org/user/admin",
        action == Bursar::Action::"write", resource in Bursar::Backend::"local");
"#;
