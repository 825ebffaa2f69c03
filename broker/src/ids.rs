//! Ids of leases and requests: the time and eighty random bits, so they sort by time, and no two brokers make the same.
//!
//! An id opens nothing (promise 5), so that its bits are not secret, only unlike any other's. They are taken from the
//! operating system for many ids at once: asking it costs more than all the rest of an id.

use std::sync::{Mutex, PoisonError};

use bursar_core::LeaseId;
use jiff::Timestamp;
use ring::rand::{SecureRandom, SystemRandom};

use crate::failure::Failure;

/// Where ids come from.
#[derive(Debug)]
pub struct Ids {
    system: SystemRandom,
    stock: Mutex<Stock>,
}

#[derive(Debug)]
struct Stock {
    bits: [[u8; RANDOM]; STOCK],
    left: usize,
}

impl Default for Ids {
    fn default() -> Self {
        let stock = Stock { bits: [[0; RANDOM]; STOCK], left: 0 };
        Self { system: SystemRandom::new(), stock: Mutex::new(stock) }
    }
}

impl Ids {
    /// The next one.
    ///
    /// # Errors
    /// [`Failure::Stopping`] when the operating system gives no randomness: nothing can go on without.
    pub fn next(&self, now: Timestamp) -> Result<LeaseId, Failure> {
        let mut stock = self.stock.lock().unwrap_or_else(PoisonError::into_inner);
        if stock.left == 0 {
            self.system.fill(stock.bits.as_flattened_mut()).map_err(|_| Failure::Stopping)?;
            stock.left = STOCK;
        }
        stock.left -= 1;
        let left = stock.left;
        stock.bits.get(left).map(|bits| LeaseId::new(now, *bits)).ok_or(Failure::Stopping)
    }
}

const RANDOM: usize = 10;
const STOCK: usize = 256;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn none_is_given_twice() {
        let ids = Ids::default();
        let given = (0..3 * STOCK).map(|_| ids.next(Timestamp::UNIX_EPOCH).expect("id"));
        assert_eq!(given.collect::<HashSet<_>>().len(), 3 * STOCK);
    }
}
