//! Reads by HTTPS: what whoever reaches the broker's port can ask for.

use bursar_broker::https::reference;
use bursar_core::Reference;

use super::head;
use crate::Target;

pub(super) const TARGET: Target = Target { name: "https-requests", seeds, run, rounds: 20_000 };

fn run(input: &[u8]) {
    let Some((parts, _)) = head::read(input) else { return };
    match reference(&parts) {
        Ok(reference) => assert_eq!(Reference::parse(&reference.to_string()), Ok(reference)),
        // 404 would have the operator delete what it made of a secret.
        Err(status) => assert!(matches!(status, 400 | 405), "{status}"),
    }
}

fn seeds() -> Vec<Vec<u8>> {
    [
        "GET /v1/secret?path=vault%2Fpayments%2Fdb&property=pass+word%23&version=3",
        "GET /v1/secret?path=local/a%23b%407&reason=a+test&encoding=base64",
        "GET /v1/secret?path=vault%2Fteam+a%2F%2540&property=&version=",
        "POST /v1/secret?path=local/a",
        "GET /v1/secret?path=local/a%23b&property=c",
        "GET /v1/secret?path=local/%ff",
        "GET /metrics",
    ]
    .map(|text| format!("{text}\nhost: broker\nauthorization: Bearer a.b.c\n\n").into_bytes())
    .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Else what is tried would be no more than that everything is refused.
    #[test]
    fn what_is_good_is_read() {
        let read = |seed: &Vec<u8>| Some(reference(&head::read(seed)?.0).ok()?.to_string());
        let asked: Vec<_> = seeds().iter().take(3).filter_map(read).collect();
        assert_eq!(asked, ["vault/payments/db#pass word%23@3", "local/a#b@7", "vault/team a/%40"]);
    }
}
