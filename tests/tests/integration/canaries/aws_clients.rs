//! Programs made for AWS, at their port of the agent.

use anyhow::{Result, ensure};
use bursar_tests::{http, scan_bytes};

use super::Site;

impl Site {
    /// In the way of AWS's agent and in that of an SDK, and what is refused there.
    pub(super) fn speak_to_aws_clients(&self) -> Result<()> {
        let peer = [("X-Aws-Parameters-Secrets-Token", "peer")];
        let get = |query: &str, headers: &[(&str, &str)]| {
            http::request(self.port, "GET", &format!("/secretsmanager/get?{query}"), headers, &[])
        };
        let post = |target: &str, body: &str| {
            let target = format!("secretsmanager.{target}");
            let headers = [("Content-Type", "application/x-amz-json-1.1"), ("X-Amz-Target", target.as_str())];
            http::request(self.port, "POST", "/", &headers, body.as_bytes())
        };
        let answered = [
            (get("secretId=local", &peer)?, &self.values.local),
            (get("secretId=local&refreshNow=true", &peer)?, &self.values.local),
            (get("secretId=kv", &peer)?, &self.values.kv),
            (post("GetSecretValue", r#"{"SecretId":"aws"}"#)?, &self.values.aws),
            (post("BatchGetSecretValue", r#"{"SecretIdList":["aws","absent","odd"]}"#)?, &self.values.aws),
        ];
        for (reply, value) in answered {
            let found = scan_bytes("an answer", &reply.body, &[value])?;
            ensure!(reply.status == 200 && !found.is_empty(), "{}: another value was read", reply.status);
        }
        ensure!(get("secretId=a", &peer)?.status == 200, "a secret with fields was not read");
        let refused = [
            get("secretId=a", &[("X-Vault-Token", self.values.odd.value())])?,
            get("secretId=absent", &peer)?,
            get("secretId=odd", &peer)?,
            get("secretId=a&versionId=9", &peer)?,
            post("DescribeSecret", r#"{"SecretId":"odd"}"#)?,
            post("GetSecretValue", &format!("{{\"SecretId\":\"{}", self.values.kv.value()))?,
        ];
        for reply in refused {
            ensure!(reply.status >= 400, "it was answered with {}", reply.status);
            self.said.borrow_mut().push_str(&String::from_utf8_lossy(&reply.body));
        }
        Ok(())
    }
}

/// What they ask for, in the agent's configuration.
pub(super) const NAMES: &str = "[aws.secrets]\nlocal = 'local/a#p'\nkv = 'vault/secret/api#key'\naws = 'aws/app#p'\nodd = 'odd/kv/fails#p'\n";
