//! The checksum that Google keeps with each payload: CRC-32C, of Castagnoli's polynomial (RFC 3720, appendix B.4).

/// The checksum of `bytes`.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        let mut crc = crc ^ u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (POLYNOMIAL & (crc & 1).wrapping_neg());
        }
        crc
    };
    !bytes.iter().fold(!0, step)
}

/// Reversed, as the bits of each byte come in.
const POLYNOMIAL: u32 = 0x82F6_3B78;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_specification_come_out() {
        let ascending: Vec<u8> = (0..32).collect();
        let examples: [(&[u8], u32); 5] = [
            (b"", 0),
            (&[0; 32], 0x8A91_36AA),
            (&[0xFF; 32], 0x62A8_AB43),
            (&ascending, 0x46DD_794E),
            (b"123456789", 0xE306_9283),
        ];
        for (bytes, crc) in examples {
            assert_eq!(crc32c(bytes), crc, "{bytes:?}");
        }
    }
}
