use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;

use super::*;

async fn race(backends: &[Arc<LocalBackend>], writers: usize) -> Vec<Result<Version, ErrorKind>> {
    let mut calls = JoinSet::new();
    for (_, backend) in (0..writers).zip(backends.iter().cycle()) {
        let backend = Arc::clone(backend);
        calls.spawn(async move {
            backend.put(&path("a"), opaque(b"value"), PutTerms::over(0)).await.map_err(kind)
        });
    }
    timeout(LIMIT, calls.join_all()).await.expect("in time")
}

fn winners(results: &[Result<Version, ErrorKind>]) -> (usize, usize) {
    let count = |wanted: &Result<_, _>| results.iter().filter(|result| *result == wanted).count();
    (count(&Ok(Version::number(1))), count(&Err(ErrorKind::Conflict)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_parallel_check_and_sets_exactly_one_wins() {
    let directory = tempfile::tempdir().expect("directory");
    let backend = Arc::new(open(&directory.path().join("store.db"), KEY).expect("open"));
    assert_eq!(winners(&race(&[backend], 32).await), (1, 31));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_openings_of_one_store_exactly_one_wins() {
    let directory = tempfile::tempdir().expect("directory");
    let open = || Arc::new(open(&directory.path().join("store.db"), KEY).expect("open"));
    assert_eq!(winners(&race(&[open(), open()], 8).await), (1, 7));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parallel_writes_without_a_check_all_get_a_number_of_their_own() {
    let store = Arc::new(Store::new());
    let mut calls = JoinSet::new();
    for _ in 0..10 {
        let store = Arc::clone(&store);
        calls.spawn(async move { store.put("a", "value").await });
    }
    let mut numbers = timeout(LIMIT, calls.join_all()).await.expect("in time");
    numbers.sort_by_key(|number| number.as_str().parse::<u64>().expect("number"));
    assert_eq!(numbers, (1..=10).map(Version::number).collect::<Vec<_>>());
}

/// Whoever comes first makes the store; the others wait for it and open the same one.
#[test]
fn a_store_that_several_make_at_once_is_one_store() {
    let directory = tempfile::tempdir().expect("directory");
    let file = directory.path().join("store.db");
    let opened: Vec<_> = std::thread::scope(|scope| {
        let opening: Vec<_> = (0..8).map(|_| scope.spawn(|| open(&file, KEY).map(drop))).collect();
        opening.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    assert!(opened.iter().all(Result::is_ok), "{opened:?}");
    open(&file, KEY).expect("reopened");
}

/// A version is whole before it is the newest: readers meet the old value or the new, and no error.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_see_whole_versions_while_a_writer_writes() {
    let store = Arc::new(Store::new());
    store.put("a", "value").await;
    let mut calls = JoinSet::new();
    for index in 0..40 {
        let store = Arc::clone(&store);
        calls.spawn(async move {
            if index % 4 == 0 {
                store.put("a", "value").await;
            }
            is(&store.read("a").await, b"value")
        });
    }
    let answers = timeout(LIMIT, calls.join_all()).await.expect("in time");
    assert!(answers.into_iter().all(|whole| whole));
}

const LIMIT: Duration = Duration::from_secs(60);
