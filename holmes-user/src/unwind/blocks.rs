//! A range of addresses as blocks that a longest-prefix trie can hold: each as long as a power of
//! two, and beginning at a multiple of its length.
//!
//! Must not: know what is mapped there.

/// Addresses of user space end here, those of five-level page tables too.
const MAX_ADDRESS: u64 = 1 << 56;

/// A block: its first address, and how many bits of an address say that it lies in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) address: u64,
    pub(super) prefix_bits: u32,
}

/// The blocks of `start..end`, in order. At most 112, as each end takes one of each length; pages of
/// 4 KiB in 47 bits of addresses take 70. Real mappings take one to eight.
pub(super) fn blocks(start: u64, end: u64) -> impl Iterator<Item = Block> {
    let end = end.min(MAX_ADDRESS);
    let mut at = start;
    std::iter::from_fn(move || {
        let left = end.checked_sub(at).filter(|left| *left > 0)?;
        // At address 0 every length is aligned.
        let aligned = at.trailing_zeros().min(63);
        let bits = aligned.min(left.ilog2());
        let block = Block { address: at, prefix_bits: 64 - bits };
        at += 1 << bits;
        Some(block)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(start: u64, end: u64) -> usize {
        let mut at = start;
        let mut count = 0;
        for block in blocks(start, end) {
            let len = 1_u64 << (64 - block.prefix_bits);
            assert_eq!((block.address, block.address % len), (at, 0));
            at += len;
            count += 1;
        }
        assert_eq!(at, end.min(MAX_ADDRESS).max(start));
        count
    }

    #[test]
    fn some_ranges() {
        assert_eq!(check(0x1000, 0x2000), 1);
        assert_eq!(check(0x1000, 0x4000), 2);
        assert_eq!(check(0, 0x3000), 2, "from address 0");
        assert_eq!(check(0, u64::MAX), 1);
        assert_eq!(check(5, 5), 0);
        assert_eq!(check(9, 5), 0);
    }

    proptest! {
        #[test]
        fn blocks_cover_the_range_and_nothing_else(one in 0..1_u64 << 35, other in 0..1_u64 << 35) {
            let (start, end) = (one.min(other) << 12, one.max(other) << 12);
            prop_assert!(check(start, end) <= 70);
        }
    }
}
