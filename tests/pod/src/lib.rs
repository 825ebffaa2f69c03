//! What a test and its pod have to agree on.

/// What stands for a value in a pod's output, which a container runtime writes to disk: FNV-1a, 64 bits, in hex.
pub fn digest(value: &[u8]) -> String {
    let digest = value.iter().fold(0xcbf2_9ce4_8422_2325_u64, |digest, byte| {
        (digest ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{digest:016x}")
}

/// What stands for a variable or file that is not there.
pub const ABSENT: &str = "absent";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_that_of_the_published_vectors() {
        assert_eq!(digest(b""), "cbf29ce484222325");
        assert_eq!(digest(b"foobar"), "85944171f73967e8");
    }
}
