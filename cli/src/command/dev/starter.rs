//! What a development setup begins with: the agent's token, and then policies, secrets and an environment.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use bursar_core::secret::SecretData;
use bursar_core::{FieldName, Secret};
use bursar_proto::v1::local_store_put_request::Data;
use bursar_proto::v1::policies_apply_response::Result as Applied;
use bursar_proto::v1::{
    EnvironmentsApplyRequest, LocalStorePutRequest, NodesCreateJoinTokenRequest, PoliciesApplyRequest,
    PolicyFile,
};
use bursar_sdk::Client;
use data_encoding::HEXLOWER;
use zeroize::Zeroizing;

use super::place::Place;
use crate::disclose;
use crate::error::Error;

/// Makes a token, with which the agent joins where it has not.
pub(super) async fn join_token(place: &Place, administrator: &Client) -> Result<(), Error> {
    let message = NodesCreateJoinTokenRequest { node: "dev".to_owned(), ttl: None, address: String::new() };
    let call = administrator
        .once(message, |client, request| async move { client.nodes().create_join_token(request).await });
    let token = call.await?.take_token();
    let path = place.join_token();
    if path.exists() {
        std::fs::remove_file(&path)?;
    }
    disclose::to_file(disclose::private_file(&path)?, &path, &token)
}

/// Puts in what there is to play with.
pub(super) async fn furnish(place: &Place, administrator: &Client) -> Result<(), Error> {
    policies(administrator).await?;
    put(
        administrator,
        "local/dev/db",
        [("username", Secret::from("app".to_owned())), ("password", random()?)],
    )
    .await?;
    put(administrator, "local/dev/api", [("key", random()?)]).await?;
    let message = EnvironmentsApplyRequest {
        document: ENVIRONMENT.to_owned(),
        expected_revision: None,
        dry_run: false,
        ttl: None,
    };
    administrator
        .repeatable(message, |client, request| async move { client.environments().apply(request).await })
        .await?;
    let path = place.directory().join("environment.toml");
    std::fs::write(&path, ENVIRONMENT).map_err(|source| Error::Unwritable { path, source })
}

async fn policies(administrator: &Client) -> Result<(), Error> {
    let user = rustix::process::getuid().as_raw().to_string();
    let file = |name: &str, text: String| PolicyFile { name: name.to_owned(), text };
    let files = vec![
        file("dev.cedar", POLICIES.to_owned()),
        file("registrations.toml", REGISTRATIONS.replace("UID", &user)),
    ];
    let message = PoliciesApplyRequest { files, expected_revision: None, dry_run: false };
    let applied = administrator
        .repeatable(message, |client, request| async move { client.policies().apply(request).await })
        .await?;
    match applied.result {
        Some(Applied::Rejected(rejected)) => Err(Error::Policies { faults: rejected.faults.len() }),
        _ => Ok(()),
    }
}

async fn put<const N: usize>(
    administrator: &Client,
    reference: &str,
    fields: [(&str, Secret); N],
) -> Result<(), Error> {
    let named = |(name, value): (&str, Secret)| Some((FieldName::parse(name).ok()?, Arc::new(value)));
    let data = SecretData::Fields(fields.into_iter().filter_map(named).collect());
    let message = LocalStorePutRequest {
        reference: reference.to_owned(),
        data: Some(Data::from(&data)),
        expected_version: None,
        expires_at: None,
    };
    administrator
        .once(message, |client, request| async move { client.local_store().put(request).await })
        .await?;
    Ok(())
}

/// 192 random bits in hexadecimal digits, from the kernel.
fn random() -> Result<Secret, Error> {
    let mut bytes = Zeroizing::new([0; 24]);
    File::open("/dev/urandom")?.read_exact(&mut *bytes)?;
    Ok(Secret::from(HEXLOWER.encode(&*bytes)))
}

const POLICIES: &str = r#"// The administrator runs the broker and cannot read what it keeps.
@id("administration")
permit (
  principal == Bursar::Principal::"spiffe://dev.test/user/admin",
  action in Bursar::Action::"administer",
  resource
);

// Programs of this user may use the secrets under `local/dev` and the environments under `dev`.
@id("dev-uses-its-folder")
permit (
  principal == Bursar::Principal::"spiffe://dev.test/workload/dev",
  action in Bursar::Action::"use",
  resource in Bursar::Folder::"local/dev"
);
@id("dev-resolves-its-environments")
permit (
  principal == Bursar::Principal::"spiffe://dev.test/workload/dev",
  action == Bursar::Action::"resolve",
  resource in Bursar::EnvironmentFolder::"dev"
);

// Without this an agent does not hear of revocations.
@id("watch")
permit (
  principal,
  action == Bursar::Action::"watch",
  resource == Bursar::System::"broker"
);
"#;

const REGISTRATIONS: &str = r#"[[registration]]
principal = "spiffe://dev.test/workload/dev"
node = "dev"
selectors = ["unix:uid:UID"]
"#;

const ENVIRONMENT: &str = r#"[environment."dev/app".vars]
LOG_LEVEL = "debug"
API_KEY = { from = "local/dev/api#key" }
DATABASE_URL = { compose = "postgres://${local/dev/db#username}:${local/dev/db#password}@localhost/app" }
"#;
