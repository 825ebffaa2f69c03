//! Which file systems are in memory: those on which a secret may be put into a file.

/// Whether a file system of this kind, `f_type` of statfs(2), writes to no disk, but for swap.
pub fn is_in_memory(kind: impl Into<i128>) -> bool {
    IN_MEMORY.contains(&kind.into())
}

/// `TMPFS_MAGIC` and `RAMFS_MAGIC` of Linux's `magic.h`.
const IN_MEMORY: [i128; 2] = [0x0102_1994, 0x8584_58f6];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tmpfs_and_ramfs_are_and_a_disk_is_not() {
        let (tmpfs, ramfs, ext4) = (0x0102_1994_u32, 0x8584_58f6_i64, 0xef53_i64);
        assert!(is_in_memory(tmpfs) && is_in_memory(ramfs) && !is_in_memory(ext4));
    }
}
