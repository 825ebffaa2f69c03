use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bursar_core::audit::AuditRecord;

use super::{Site, eventually, file, sink};
use crate::config::{FileSink, SinkKind};

#[tokio::test]
async fn every_record_arrives_once_and_in_order_over_a_restart() {
    let site = Site::new();
    let path = site.path("audit.jsonl");
    site.record(0..700).await;
    site.start(vec![file(path.clone())]);
    arrived(&path, 0..700).await;
    assert_eq!(fs::metadata(&path).expect("file").permissions().mode() & 0o777, 0o600);
    at(&site, 700).await;
    let site = site.restart().await;
    site.record(700..710).await;
    site.start(vec![file(path.clone())]);
    arrived(&path, 0..710).await;
    // Byte for byte the leaves of the log.
    let lines = site.ground.ledger.audit_lines(0, 1000).await.expect("lines");
    let file = fs::read(&path).expect("file");
    assert_eq!(file, lines.iter().flat_map(|line| [line.as_slice(), b"\n"].concat()).collect::<Vec<u8>>());
}

#[tokio::test]
async fn a_file_that_was_moved_or_removed_is_made_anew() {
    let site = Site::new();
    let path = site.path("audit.jsonl");
    site.start(vec![file(path.clone())]);
    site.record(0..3).await;
    arrived(&path, 0..3).await;
    at(&site, 3).await;
    fs::rename(&path, site.path("moved")).expect("moved");
    site.record(3..5).await;
    arrived(&path, 3..5).await;
    at(&site, 5).await;
    fs::remove_file(&path).expect("removed");
    site.record(5..6).await;
    arrived(&path, 5..6).await;
    assert_eq!(numbers(&site.path("moved")), [0, 1, 2]);
}

#[tokio::test]
async fn a_file_that_is_full_is_put_aside_and_so_many_are_kept() {
    let site = Site::new();
    let path = site.path("audit.jsonl");
    let settings = FileSink { path: path.clone(), rotate_bytes: 2000, keep: 2 };
    site.start(vec![sink("file", SinkKind::File(settings))]);
    for number in 0..40 {
        site.record(number..number + 1).await;
        at(&site, number + 1).await;
    }
    let kept = ["audit.jsonl.2", "audit.jsonl.1", "audit.jsonl"].map(|name| numbers(&site.path(name)));
    let kept = kept.concat();
    assert_eq!(kept.last(), Some(&39));
    assert!(kept.windows(2).all(|pair| pair[1] == pair[0] + 1), "{kept:?}");
    assert!(!site.path("audit.jsonl.3").exists());
    assert!(fs::metadata(site.path("audit.jsonl.1")).expect("file").len() <= 2000);
}

#[tokio::test]
async fn a_line_that_a_crash_tore_does_not_run_into_the_next() {
    let site = Site::new();
    let path = site.path("audit.jsonl");
    fs::write(&path, "{\"seq\":0,\"ti").expect("file");
    site.start(vec![file(path.clone())]);
    site.record(0..1).await;
    at(&site, 1).await;
    let text = fs::read_to_string(&path).expect("file");
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 2);
    assert!(AuditRecord::from_line(lines[1].as_bytes()).is_ok());
}

#[tokio::test]
async fn what_is_no_file_is_named_and_left_alone_and_taken_up_once_it_is_mended() {
    let folder: fn(&Path) = |path| fs::create_dir(path).expect("folder");
    // One that nobody reads would hang whoever opens it to write.
    let pipe: fn(&Path) = |path| {
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, path, kind, 0o600.into(), 0).expect("pipe");
    };
    for make in [folder, pipe] {
        let site = Site::new();
        let path = site.path("audit.jsonl");
        make(&path);
        let shipping = site.start(vec![file(path.clone())]);
        site.record(0..2).await;
        let fault = || async { shipping.findings().swap_remove(0).1 };
        let fault = eventually("the fault", fault).await;
        assert!(fault.contains("audit.jsonl` is no regular file"), "{fault}");
        assert_eq!(shipping.lags().first().map(|lag| lag.records), Some(2));

        let gone = fs::remove_dir(&path).or_else(|_| fs::remove_file(&path));
        gone.expect("removed");
        arrived(&path, 0..2).await;
        eventually("no lag", || async { (shipping.lags()[0].records == 0).then_some(()) }).await;
        assert_eq!(shipping.findings(), [("file".to_owned(), None)]);
    }
}

async fn at(site: &Site, position: u64) {
    let there = || async { (site.position("file").await == position).then_some(()) };
    eventually("the position in the ledger", there).await;
}

async fn arrived(path: &Path, expected: std::ops::Range<u64>) {
    let expected: Vec<u64> = expected.collect();
    eventually("the records", || async { (numbers(path) == expected).then_some(()) }).await;
}

fn numbers(path: &Path) -> Vec<u64> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let number = |line: &str| AuditRecord::from_line(line.as_bytes()).ok()?.resource.parse().ok();
    text.lines().filter_map(number).collect()
}
