use std::time::Duration;

use bursar_core::audit::Action;

use super::super::retention::{prune, run};
use super::{Site, eventually};
use crate::ledger::{AuditQuery, Change, Entry, Page};

#[tokio::test]
async fn only_what_is_old_and_at_every_sink_is_pruned_and_the_log_says_so() {
    let site = Site::new();
    site.record(0..600).await;
    site.clock.advance(2 * HOUR);
    site.record(600..1200).await;
    let sinks = ["one".to_owned(), "other".to_owned()];
    assert_eq!(prune(&site.ground, &sinks, HOUR).await.expect("pruned"), 0, "no sink has anything");
    shipped(&site, "one", 1200).await;
    shipped(&site, "other", 300).await;
    assert_eq!(prune(&site.ground, &sinks, HOUR).await.expect("pruned"), 256);
    shipped(&site, "other", 1200).await;
    assert_eq!(prune(&site.ground, &sinks, HOUR).await.expect("pruned"), 256, "600 to 1199 are young");
    assert_eq!(prune(&site.ground, &sinks, HOUR).await.expect("pruned"), 0);
    assert_eq!(site.ground.ledger.first_kept().await.expect("first"), 512);

    let query = AuditQuery { actions: vec![Action::Prune], ..AuditQuery::default() };
    let found = site.ground.ledger.audit(query, Page::first(10)).await.expect("records");
    let told: Vec<_> = found.items.iter().map(|record| record.resource.as_str()).collect();
    assert_eq!(told, ["records 256 to 511", "records 0 to 255"]);
}

#[tokio::test]
async fn without_sinks_age_alone_decides() {
    let site = Site::new();
    site.record(0..600).await;
    site.clock.advance(2 * HOUR);
    assert_eq!(prune(&site.ground, &[], HOUR).await.expect("pruned"), 512);
}

#[tokio::test]
async fn damage_stops_the_pruning_and_not_the_broker() {
    let site = Site::new();
    site.record(0..600).await;
    site.clock.advance(2 * HOUR);
    let ledger = rusqlite::Connection::open(site.path("ledger.db")).expect("ledger");
    ledger.execute_batch("UPDATE audit SET line = zeroblob(9) WHERE seq = 3").expect("damage");
    drop(ledger);
    site.ground.tasks.run("audit retention", run(site.ground.clone(), Vec::new(), HOUR));
    let told = || async {
        let query = AuditQuery { actions: vec![Action::Prune], ..AuditQuery::default() };
        let since = AuditQuery { since: Some(site.ground.clock.now()), ..query };
        site.ground.ledger.audit(since, Page::first(10)).await.ok().filter(|found| !found.items.is_empty())
    };
    eventually("the attempt", told).await;
    // From here on time moves by hand, past many rounds; the ledger's answers let the task run in between.
    tokio::time::pause();
    for number in 600..620 {
        tokio::time::advance(HOUR).await;
        site.record(number..number + 1).await;
    }
    assert_eq!(told().await.map(|found| found.items.len()), Some(1));
    assert_eq!(site.ground.ledger.first_kept().await.expect("first"), 0);
    assert!(site.ground.tasks.drain(HOUR).await);
}

async fn shipped(site: &Site, sink: &str, position: u64) {
    let change = Change::Shipped { sink: sink.to_owned(), position };
    site.ground.ledger.commit(Entry { changes: vec![change], records: Vec::new() }).await.expect("shipped");
}

const HOUR: Duration = Duration::from_secs(3600);
