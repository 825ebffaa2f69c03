//! An answer that arrives in pieces and may hold secrets.

use zeroize::Zeroizing;

/// Bytes as they arrive, at most a limit; wiped, and so are the smaller buffers that they outgrew.
#[expect(missing_debug_implementations, reason = "holds secrets")]
pub struct Gathered {
    bytes: Zeroizing<Vec<u8>>,
    limit: usize,
}

impl Gathered {
    /// Nothing yet, and never more than `limit`.
    pub fn up_to(limit: usize) -> Self {
        Self { bytes: Zeroizing::default(), limit }
    }

    /// Adds what arrived; false when it is too much.
    #[must_use]
    pub fn push(&mut self, piece: &[u8]) -> bool {
        let needed = self.bytes.len() + piece.len();
        if needed > self.limit {
            return false;
        }
        if needed > self.bytes.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity(needed.next_power_of_two()));
            larger.extend_from_slice(&self.bytes);
            self.bytes = larger;
        }
        self.bytes.extend_from_slice(piece);
        true
    }

    /// What has arrived.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What has arrived, still wiped when it is dropped.
    pub fn into_bytes(self) -> Zeroizing<Vec<u8>> {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_gathered_up_to_the_limit() {
        let mut gathered = Gathered::up_to(400);
        assert_eq!([(); 5].map(|()| gathered.push(&[b'x'; 100])), [true, true, true, true, false]);
        assert_eq!(gathered.bytes().len(), 400);
    }
}
