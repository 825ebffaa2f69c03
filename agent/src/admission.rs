//! Places for connections, in all and for each user, so that no user can take those of the others. The socket, Envoy's
//! and the port for users of AWS share them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Counts connections.
#[derive(Debug)]
pub struct Admission {
    limit: usize,
    limit_per_user: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    /// Only users with a connection are here.
    users: HashMap<u32, User>,
}

#[derive(Debug)]
struct User {
    connections: usize,
    /// Attestations under way. They read files that may be of the user's own making and never answer, so each user waits
    /// for himself alone.
    attesting: Arc<Semaphore>,
}

impl Admission {
    /// With so many places.
    pub fn new(limit: usize, limit_per_user: usize) -> Arc<Self> {
        Arc::new(Self { limit, limit_per_user, taken: Mutex::default() })
    }

    /// A place for a connection of `uid`, if there is one.
    pub(crate) fn admit(self: &Arc<Self>, uid: u32) -> Option<Place> {
        let mut taken = self.taken();
        if taken.total >= self.limit {
            return None;
        }
        let new = || User { connections: 0, attesting: Arc::new(Semaphore::new(ATTESTING)) };
        let user = taken.users.entry(uid).or_insert_with(new);
        if user.connections >= self.limit_per_user {
            return None;
        }
        user.connections += 1;
        let attesting = Arc::clone(&user.attesting);
        taken.total += 1;
        Some(Place { admission: Arc::clone(self), uid, attesting })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place. It is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    admission: Arc<Admission>,
    uid: u32,
    attesting: Arc<Semaphore>,
}

impl Place {
    /// Waits for this user's turn at being attested.
    pub(crate) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.attesting).acquire_owned().await.ok()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.admission.taken();
        taken.total -= 1;
        if let Some(user) = taken.users.get_mut(&self.uid) {
            user.connections -= 1;
            if user.connections == 0 {
                taken.users.remove(&self.uid);
            }
        }
    }
}

const ATTESTING: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_cannot_take_the_places_of_another() {
        let admission = Admission::new(4, 2);
        let first: Vec<_> = (0..3).filter_map(|_| admission.admit(1)).collect();
        assert_eq!(first.len(), 2);
        assert!(admission.admit(2).is_some());
    }

    #[test]
    fn the_total_holds_over_all_users() {
        let admission = Admission::new(2, 2);
        let places: Vec<_> = (1..4).filter_map(|uid| admission.admit(uid)).collect();
        assert_eq!(places.len(), 2);
    }

    #[test]
    fn a_place_is_given_back_and_its_user_forgotten() {
        let admission = Admission::new(1, 1);
        drop(admission.admit(1).expect("place"));
        assert!(admission.taken().users.is_empty());
        assert!(admission.admit(2).is_some());
    }
}
