//! A pod's volume: its token and what that gets, through the socket of the driver.

use anyhow::{Context, Result, ensure};
use bursar_core::Clock;
use bursar_core::clock::SystemClock;
use bursar_tests::{IssuerDoor, TokenIssuer};
use serde_json::{Value, json};

use super::Site;
use crate::csi::Driver;

/// The cluster, as the broker knows it.
pub(super) fn issuer(cluster: &IssuerDoor) -> String {
    format!(
        "[identity.issuers.cluster]\nkind = 'kubernetes'\nissuer = '{}'\naudience = 'bursar'\nca_file = '{}'\n",
        cluster.url(),
        cluster.ca().display(),
    )
}

/// The token of a pod.
pub(super) fn token(cluster: &IssuerDoor, issuer: &TokenIssuer) -> Result<String> {
    let now = SystemClock.now().as_second();
    issuer.token(&json!({
        "iss": cluster.url(), "aud": ["bursar"], "sub": "system:serviceaccount:shop:web",
        "iat": now - 10, "nbf": now - 10, "exp": now + 3600,
        "kubernetes.io": {
            "namespace": "shop",
            "serviceaccount": { "name": "web", "uid": "sa" },
            "pod": { "name": "web-0", "uid": "pod-shop" },
        },
    }))
}

impl Site {
    /// Every form, twice, so that the second is out of the cache; and what fails, on a value and on a token.
    pub(super) fn mount(&self) -> Result<()> {
        let driver = Driver::at(self.delivered.path().join("bursar.sock"))?;
        let token = self.values.pod_token.value();
        let good = json!({
            "environment": "app",
            "outputs": "- {path: app.env, format: env}\n- {path: app.conf, template: '{{ KEY | tojson }} {{ URL | shell }}'}\n",
            "objects": "- {path: key, reference: 'vault/secret/api#key'}\n- {path: aws, reference: 'aws/app#p'}\n",
        });
        for _ in 0..2 {
            let answer = driver.mount("shop", token, &good)?.context("the volume was refused")?;
            let held = answer.files.iter().any(|file| file.contents == self.values.kv.value().as_bytes());
            ensure!(held, "the volume has no value, so nothing would be looked at");
        }
        let refusals: [(&str, Value); 5] = [
            ("shop", json!({ "environment": "app", "outputs": "- {path: x, template: '{{ KEY | int }}'}" })),
            ("shop", json!({ "environment": "broken" })),
            ("shop", json!({ "objects": "- {path: x, reference: odd/kv/fails}" })),
            ("shop", json!({ "objects": "no list" })),
            ("other", json!({ "environment": "app" })),
        ];
        for (pod, parameters) in refusals {
            let refused = driver.mount(pod, token, &parameters)?.err().context("it was mounted")?;
            self.said.borrow_mut().push_str(&format!("{refused:?}"));
        }
        let forged = format!("{token}x");
        let refused = driver.mount("shop", &forged, &good)?.err().context("a forged token was believed")?;
        self.said.borrow_mut().push_str(&format!("{refused:?}"));
        Ok(())
    }
}
