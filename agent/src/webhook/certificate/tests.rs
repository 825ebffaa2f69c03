use std::time::Duration;

use jiff::Timestamp;

use super::course::{OVERLAP, next};
use super::kept::Kept;
use super::made::{Life, Pair};
use super::*;
use crate::config::{SelfMade, Serving, WebhookConfig};

const BEGINNING: Timestamp = Timestamp::constant(1_800_000_000, 0);

fn settings() -> SelfMade {
    let text = "image = 'b'\nbroker = 'https://b'\nca_file = 'ca'\n[self_made]\nnamespace = 'bursar'\nservice = 'hook'\nconfiguration = 'hook'\n";
    match WebhookConfig::parse(text).expect("good").serving {
        Serving::SelfMade(own) => *own,
        Serving::Files { .. } => panic!("self-made"),
    }
}

fn after(hours: i64) -> Timestamp {
    BEGINNING + jiff::SignedDuration::from_hours(hours)
}

/// Does what the leader does until there is nothing more to do at `now`.
fn settle(mut kept: Option<Kept>, trusted: &mut String, now: Timestamp) -> (Kept, Vec<&'static str>) {
    let mut done = Vec::new();
    for _ in 0..5 {
        let (now_kept, what) = next(kept, trusted, now, &settings()).expect("made");
        *trusted = now_kept.bundle();
        assert!(vouches(trusted, &now_kept.server, now), "what is served is trusted, at {now}");
        match what {
            Some(what) => done.push(what),
            None => return (now_kept, done),
        }
        kept = Some(now_kept);
    }
    panic!("it comes to no end: {done:?}")
}

/// Whether the API server takes `server`, as rustls judges it.
fn vouches(trusted: &str, server: &Pair, now: Timestamp) -> bool {
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier as _;
    let mut roots = rustls::RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(trusted.as_bytes()) {
        roots.add(root.expect("a certificate")).expect("a root");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().expect("a verifier");
    let leaf = CertificateDer::from_pem_slice(server.certificate.as_bytes()).expect("a certificate");
    let at =
        rustls::pki_types::UnixTime::since_unix_epoch(Duration::from_secs(now.as_second().cast_unsigned()));
    let name = "hook.bursar.svc".try_into().expect("a name");
    verifier.verify_server_cert(&leaf, &[], &name, &[], at).is_ok()
}

#[test]
fn a_certificate_is_made_for_the_service_and_stays_while_it_is_good() {
    let mut trusted = String::new();
    let (kept, done) = settle(None, &mut trusted, BEGINNING);
    assert_eq!(done, ["authority"]);
    let certificate = kept.server.certificate.clone();
    let (kept, done) = settle(Some(kept), &mut trusted, after(24 * 19));
    assert!(done.is_empty() && kept.server.certificate == certificate);
    let (kept, done) = settle(Some(kept), &mut trusted, after(24 * 20));
    assert!(done == ["issued"] && kept.server.certificate != certificate, "{done:?}");
}

#[test]
fn an_authority_is_replaced_with_overlap_on_both_sides() {
    let mut trusted = String::new();
    let (mut kept, _) = settle(None, &mut trusted, BEGINNING);
    let first = kept.authority.certificate.clone();
    let (mut was_next, mut replaced_at) = (None, None);
    for hours in (0..24 * 300).step_by(6) {
        let now = after(hours);
        let replicas = kept.server.certificate.clone();
        let (settled, done) = settle(Some(kept), &mut trusted, now);
        kept = settled;
        // A replica that has not looked yet serves what was there before.
        let stale = Pair { certificate: replicas, key: Secret::new(Vec::new()) };
        assert!(vouches(&trusted, &stale, now), "at {now}: {done:?}");
        if let (None, Some(next)) = (&was_next, &kept.next) {
            was_next = Some(next.certificate.clone());
            assert!(trusted.contains(&first) && trusted.contains(&next.certificate), "both are trusted");
        }
        if replaced_at.is_none() && kept.authority.certificate != first {
            replaced_at = Some(hours);
            assert_eq!(Some(&kept.authority.certificate), was_next.as_ref());
        }
    }
    let share = replaced_at.expect("replaced") * 3;
    assert!((24 * 365 * 2..24 * 365 * 3).contains(&share), "{share}");
    assert!(!trusted.contains(&first), "it is forgotten in the end");
}

#[test]
fn no_authority_signs_before_it_was_trusted_for_long_enough() {
    let mut trusted = String::new();
    let (kept, _) = settle(None, &mut trusted, BEGINNING);
    let (kept, _) = settle(Some(kept), &mut trusted, after(24 * 244));
    assert!(kept.next.is_some());
    let soon = after(24 * 244) + jiff::SignedDuration::from_secs(OVERLAP.as_secs().cast_signed() - 1);
    let (kept, done) = settle(Some(kept), &mut trusted, soon);
    assert!(done.is_empty() && kept.next.is_some());
    // Somebody put the configuration back as it was.
    let mut without = kept.authority.certificate.clone();
    let (kept, what) = next(Some(kept), &without, after(24 * 245), &settings()).expect("made");
    assert!(what.is_none() && kept.next.is_some(), "{what:?}");
    let (kept, done) = settle(Some(kept), &mut without, after(24 * 245));
    assert!(done.is_empty() || done == ["issued"], "{done:?}");
    let (kept, done) = settle(Some(kept), &mut kept_bundle(&without), after(24 * 246));
    assert!(kept.next.is_none() && done.contains(&"issued"), "{done:?}");
}

fn kept_bundle(bundle: &str) -> String {
    bundle.to_owned()
}

#[test]
fn what_somebody_deleted_or_broke_is_made_anew_beside_what_replicas_still_serve() {
    let mut trusted = String::new();
    let (before, _) = settle(None, &mut trusted, BEGINNING);
    let (kept, done) = settle(None, &mut trusted, after(1));
    assert_eq!(done, ["authority"]);
    assert!(vouches(&trusted, &before.server, after(1)) && vouches(&trusted, &kept.server, after(1)));
    let (_, done) = settle(Some(kept), &mut trusted, after(2));
    assert_eq!(done, ["forgotten"]);
    assert!(!vouches(&trusted, &before.server, after(2)), "a key that was seen is good for nothing any more");

    let mut data = before.write();
    data.remove("tls.key");
    assert!(Kept::read(&mut data).is_none());
    let stranger = Pair::authority(BEGINNING, Duration::from_secs(3600)).expect("made").certificate;
    let mut foreign = stranger.replace("CERTIFICATE", "GARBAGE");
    let (kept, _) = settle(None, &mut foreign, BEGINNING);
    assert_eq!(kept.bundle(), kept.authority.certificate, "what is no authority of ours is not trusted on");
}

#[test]
fn what_is_kept_is_read_as_it_was_written_and_its_keys_are_taken_out() {
    let (mut kept, _) = settle(None, &mut String::new(), BEGINNING);
    kept.next = Some(Pair::authority(BEGINNING, Duration::from_secs(7200)).expect("made"));
    kept.before = Some("before".to_owned());
    let mut data = kept.write();
    let read = Kept::read(&mut data).expect("whole");
    assert!(data.is_empty() && read.bundle() == kept.bundle());
    assert_eq!(read.server.life(), Life::of(&kept.server.certificate));
    assert!(!format!("{read:?}").contains("BEGIN"));
}

#[test]
fn only_what_belongs_together_is_served() {
    let (kept, _) = settle(None, &mut String::new(), BEGINNING);
    let served = Served::new(Metrics::register(&mut prometheus_client::registry::Registry::default()));
    let good = served.replace(kept.server.certificate.as_bytes(), &kept.server.key);
    assert!(good.is_ok() && served.subscribe().borrow().is_some());
    let bad = [
        (b"".as_slice(), &kept.server.key),
        (b"-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n", &kept.server.key),
        (kept.server.certificate.as_bytes(), &kept.authority.key),
    ];
    for (chain, key) in bad {
        assert!(served.replace(chain, key).is_err());
    }
    assert!(served.subscribe().borrow().is_some(), "what was served stays");
}
