//! A real Envoy, whose certificate, authorities and token come from the agent and follow what happens to them.

mod site;

use std::time::Duration;

use anyhow::{Result, ensure};
use bursar_tests::{Canary, scan, scan_bytes, wait_until};

use self::site::Site;
use crate::policies::{self, ADMINISTRATION};

#[test]
fn envoy_has_its_secrets_follows_them_and_loses_them() -> Result<()> {
    let token = Canary::alphanumeric("first token");
    let mut site = Site::start(&token, &policies::for_workloads())?;
    let pid = site.envoy.process().pid();

    wait_until(LIMIT, "the certificate", || site.certificate().is_ok())?;
    let first = site.certificate()?;
    site.until_token(&token)?;
    ensure!(site.reaches_itself()?, "the authority of the store does not vouch for its certificate");

    let next = Canary::alphanumeric("next token");
    site.put(&next)?;
    site.until_token(&next)?;

    site.revoke("vault/pki/issue/web")?;
    wait_until(LIMIT, "another certificate, without a restart", || {
        site.certificate().is_ok_and(|now| now != first)
    })?;
    let second = site.certificate()?;
    ensure!(site.reaches_itself()?, "Envoy does not trust the certificate that it got");

    // Nobody may read any more what Envoy was given.
    site.apply(ADMINISTRATION)?;
    site.revoke("vault/pki/issue/web")?;
    site.revoke("local/shop/api")?;
    wait_until(LIMIT, "a certificate that nobody trusts", || site.certificate().is_err())?;
    wait_until(LIMIT, "a token that is none", || {
        site.sent().is_ok_and(|sent| !sent.contains(next.value()) && !sent.starts_with("Bearer "))
    })?;
    wait_until(LIMIT, "authorities that vouch for nobody", || site.reaches_itself().is_ok_and(|it| !it))?;

    // And what is allowed again comes back.
    site.apply(&policies::for_workloads())?;
    site.until_token(&next)?;
    wait_until(LIMIT, "a certificate again", || site.certificate().is_ok_and(|now| now != second))?;

    // An agent that starts again is found again.
    site.agent.kill_and_restart()?;
    let last = Canary::alphanumeric("last token");
    site.put(&last)?;
    site.until_token(&last)?;
    ensure!(site.envoy.process().pid() == pid, "Envoy was started anew");

    site.is_quiet(&[&token, &next, &last])
}

#[test]
fn a_listener_waits_for_its_certificate() -> Result<()> {
    let token = Canary::alphanumeric("token");
    let site = Site::start(&token, ADMINISTRATION)?;
    site.agent_says("a secret cannot be given to Envoy")?;
    ensure!(site.certificate().is_err(), "a listener answers without a certificate");
    site.apply(&policies::for_workloads())?;
    wait_until(LIMIT, "the certificate", || site.certificate().is_ok())?;
    site.is_quiet(&[&token])
}

impl Site {
    /// No value is in what anybody wrote, and none in what Envoy tells of its configuration.
    fn is_quiet(&self, values: &[&Canary]) -> Result<()> {
        let mut found = scan(self.agent.directory(), values)?;
        found.extend(scan(self.envoy.directory(), values)?);
        let metrics = String::from_utf8_lossy(&self.agent.http("/metrics")?.body).into_owned();
        ensure!(!metrics.contains("{outcome=\"rejected\"}"), "Envoy rejected what it was given: {metrics}");
        let dump = self.envoy.admin("/config_dump?include_eds")?;
        ensure!(dump.contains("dynamic_active_secrets"), "there is no secret in what Envoy tells: {dump}");
        found.extend(scan_bytes("what Envoy tells", dump.as_bytes(), values)?);
        ensure!(found.is_empty(), "values were found: {found:?}");
        for place in
            [self.agent.directory().join("agent.stderr"), self.envoy.directory().join("envoy.stderr")]
        {
            let log = std::fs::read_to_string(&place)?;
            ensure!(!log.contains("PRIVATE KEY"), "a key is in `{}`", place.display());
        }
        ensure!(!dump.contains("PRIVATE KEY"), "a key is in what Envoy tells");
        Ok(())
    }
}

/// Within a second is what is promised; the machine that tests may be busy.
const LIMIT: Duration = Duration::from_secs(30);
