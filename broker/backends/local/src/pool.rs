//! Connections that calls take turns on.
//!
//! SQLite blocks, so a call runs as a closure on tokio's blocking threads. It waits for its turn before it takes such
//! a thread, so a slow disk costs as many threads as there are connections, however many calls wait. The turn ends
//! with the closure and not with the caller: a caller that goes away leaves no half-used connection.

use std::sync::Arc;

use rusqlite::Connection;
use tokio::sync::{Mutex, Semaphore};

use crate::error::Fault;

/// Some connections to one store, all alike.
#[derive(Debug)]
pub(crate) struct Pool {
    turns: Arc<Semaphore>,
    connections: Vec<Arc<Mutex<Connection>>>,
}

impl Pool {
    pub(crate) fn new(connections: Vec<Connection>) -> Self {
        Self {
            turns: Arc::new(Semaphore::new(connections.len())),
            connections: connections.into_iter().map(|one| Arc::new(Mutex::new(one))).collect(),
        }
    }

    /// Runs `work` with a connection of its own, in order of asking.
    pub(crate) async fn run<T, F>(&self, work: F) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> Result<T, Fault> + Send + 'static,
    {
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| Fault::Stopped)?;
        // There are as many turns as connections, and a connection is free before its turn is, so one is free.
        let free = self.connections.iter().find_map(|one| Arc::clone(one).try_lock_owned().ok());
        let free = free.ok_or(Fault::Stopped)?;
        let task = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let mut connection = free;
            work(&mut connection)
        });
        task.await.map_err(|_| Fault::Stopped)?
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::task::JoinSet;
    use tokio::time::timeout;

    use super::*;

    fn pool(size: usize) -> Arc<Pool> {
        let open = |_| Connection::open_in_memory().expect("database");
        Arc::new(Pool::new((0..size).map(open).collect()))
    }

    fn one(connection: &mut Connection) -> Result<i64, Fault> {
        Ok(connection.query_row("SELECT 1", [], |row| row.get(0))?)
    }

    #[tokio::test]
    async fn more_calls_than_connections_are_all_served() {
        let pool = pool(2);
        let mut calls = JoinSet::new();
        for _ in 0..64 {
            let pool = Arc::clone(&pool);
            calls.spawn(async move { pool.run(one).await });
        }
        let answers = timeout(Duration::from_secs(30), calls.join_all()).await.expect("in time");
        assert!(answers.iter().all(|answer| matches!(answer, Ok(1))));
    }

    #[tokio::test]
    async fn a_panic_gives_the_connection_back() {
        let pool = pool(1);
        let failed = pool.run(|_| -> Result<(), Fault> { panic!("on purpose") }).await;
        assert!(matches!(failed, Err(Fault::Stopped)));
        let answer = timeout(Duration::from_secs(30), pool.run(one)).await.expect("in time");
        assert!(matches!(answer, Ok(1)));
    }
}
