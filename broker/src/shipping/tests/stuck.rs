//! Sinks that hang, and what does not wait for them.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use tokio::net::TcpListener;

use super::super::syslog::Syslog;
use super::super::threaded::{Blocking, Threaded};
use super::super::worker::Worker;
use super::super::{Line, Sink, SinkError, Standing};
use super::{Site, eventually, file, sink};
use crate::config::{SinkKind, SyslogPlace};

/// Blocks in each delivery until it is let go, as a pipe does that nobody reads.
struct Hanging {
    taken: Sender<Vec<u64>>,
    go: Receiver<()>,
}

impl Blocking for Hanging {
    fn deliver(&mut self, lines: &[Line]) -> Result<(), SinkError> {
        drop(self.taken.send(lines.iter().map(|line| line.seq).collect()));
        let _gone = self.go.recv();
        Ok(())
    }
}

#[tokio::test]
async fn a_sink_that_hangs_shows_as_degraded_and_gets_its_batch_once() {
    let site = Site::new();
    let ((taken, batches), (go, going)) = (channel(), channel());
    let config = sink("hanging", SinkKind::Stdout);
    let standing = Arc::new(Standing::new(&config));
    let hanging = Threaded::new(Hanging { taken, go: going }, "hanging");
    let mut worker = Worker::new(Arc::clone(&standing), Box::new(hanging), site.ground.clone());
    worker.limit = Duration::from_millis(20);
    site.ground.tasks.run("audit sink", worker.run());

    site.record(0..2).await;
    let fault = eventually("the fault", || async { standing.fault() }).await;
    assert!(fault.contains("no answer within 20ms"), "{fault}");
    // Commits go on, and so do other sinks.
    site.start(vec![file(site.path("audit.jsonl"))]);
    site.record(2..600).await;
    eventually("the other sink", || async { (site.position("file").await == 600).then_some(()) }).await;
    assert_eq!(site.position("hanging").await, 0);

    drop(go);
    eventually("the sink", || async { (site.position("hanging").await == 600).then_some(()) }).await;
    let batches: Vec<u64> = batches.try_iter().flatten().collect();
    assert_eq!(batches, (0..600).collect::<Vec<u64>>());
    assert_eq!(standing.fault(), None);
}

#[tokio::test]
async fn a_broker_stops_although_a_sink_hangs() {
    let site = Site::new();
    let ((taken, batches), (go, going)) = (channel(), channel());
    let standing = Arc::new(Standing::new(&sink("hanging", SinkKind::Stdout)));
    let hanging = Threaded::new(Hanging { taken, go: going }, "hanging");
    let worker = Worker::new(standing, Box::new(hanging), site.ground.clone());
    site.ground.tasks.run("audit sink", worker.run());
    site.record(0..1).await;
    eventually("the sink to hang", || async { batches.try_recv().ok() }).await;
    assert!(site.ground.tasks.drain(Duration::from_secs(30)).await, "the sink holds up the stop");
    drop(go);
}

#[tokio::test]
async fn a_peer_that_takes_nothing_is_given_up_on_and_commits_go_on() {
    let site = Site::new();
    // Accepts by its backlog and never reads.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listener");
    let place = SyslogPlace::Tcp(listener.local_addr().expect("address").to_string());
    let standing = Arc::new(Standing::new(&sink("silent", SinkKind::Syslog(place.clone()))));
    let silent = Box::new(Syslog::new(place));
    let mut worker = Worker::new(Arc::clone(&standing), silent, site.ground.clone());
    worker.limit = Duration::from_millis(200);
    let long = "x".repeat(4000);
    for _ in 0..20 {
        site.records((0..500).map(|_| site.plain(&long)).collect()).await;
    }
    site.ground.tasks.run("audit sink", worker.run());
    let fault = eventually("the fault", || async { standing.fault() }).await;
    assert!(fault.contains("no answer"), "{fault}");
    site.record(0..1).await;
    assert!(site.position("silent").await < 10_000);
}

#[tokio::test]
async fn what_a_dropped_delivery_left_with_the_thread_is_waited_for_and_not_sent_twice() {
    let ((taken, batches), (go, going)) = (channel(), channel());
    let mut sink = Threaded::new(Hanging { taken, go: going }, "hanging");
    let lines: Arc<[Line]> = [Line { seq: 7, bytes: b"{}".to_vec() }].into();
    let gave_up = tokio::time::timeout(Duration::from_millis(1), sink.deliver(&lines)).await;
    assert!(gave_up.is_err());
    go.send(()).expect("go");
    sink.deliver(&lines).await.expect("delivered");
    drop(go);
    assert_eq!(batches.try_iter().collect::<Vec<_>>(), [vec![7]]);
}
