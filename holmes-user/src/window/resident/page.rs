//! A page of the residency ledger.
//!
//! Must not: know processes.

use crate::collect::{Memory, Nanos};
use crate::window::sites::Site;

/// A page that a sampled fault put in place.
#[derive(Clone, Debug)]
pub(super) struct Page {
    pub(super) touched: Nanos,
    /// Where that was: it may have been moved since.
    pub(super) touched_at: u64,
    pub(super) site: Site,
    /// Bytes that it stands for.
    pub(super) bytes: u64,
    pub(super) memory: Memory,
    /// How often half of its like have gone.
    pub(super) level: u8,
}

impl Page {
    /// The same in every process that has this page.
    pub(super) fn identity(&self) -> (Nanos, u64) {
        (self.touched, self.touched_at)
    }

    /// Whether the page is one of those that are left when half have gone so many times: then it stands
    /// for the others.
    pub(super) fn rise(&mut self, level: u8) -> bool {
        // The finalizer of SplitMix64 (Steele, Lea, Flood 2014): pages lie, and are touched, in
        // patterns.
        let mut lot = self.touched.0.wrapping_add(self.touched_at.rotate_left(32));
        lot = (lot ^ lot >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        lot = (lot ^ lot >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        let stays = (lot ^ lot >> 31).trailing_zeros() >= u32::from(level);
        if stays && level > self.level {
            let times = 1_u64.checked_shl(u32::from(level - self.level)).unwrap_or(u64::MAX);
            self.bytes = self.bytes.saturating_mul(times);
            self.level = level;
        }
        stays
    }
}
