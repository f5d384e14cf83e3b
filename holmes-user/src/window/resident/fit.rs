//! A process's pages against what the kernel says is resident.
//!
//! Must not: add anything.

use super::Residents;
use crate::collect::Memory;
use crate::window::sites::Unused;

/// Bytes by which a process's pages may exceed what is resident before they are scaled: eight samples;
/// and beside that one part in so many.
const SLACK_BYTES: u64 = 4 << 20;
const SLACK_SHARE: u64 = 32;

impl Residents {
    /// The kernel says that so many bytes of a process are resident: anonymous ones, and those of files
    /// and of shared memory.
    pub(in crate::window) fn fit(&mut self, tgid: u32, resident: [u64; 2], unused: &mut Unused) {
        let Some(process) = self.processes.get_mut(&tgid) else { return };
        let forked = process.forked.unwrap_or_default();
        for (files, resident) in [(false, resident[0]), (true, resident[1])] {
            let sum = |only_old: bool| {
                let pages = process.pages.values().filter(|page| {
                    (page.memory == Memory::File) == files && (!only_old || page.touched <= forked)
                });
                pages.fold(0_u64, |sum, page| sum.saturating_add(page.bytes))
            };
            let (all, old) = (sum(false), sum(true));
            if all <= resident.saturating_add(resident / SLACK_SHARE).saturating_add(SLACK_BYTES) {
                continue;
            }
            let excess = all - resident;
            // What was copied since a fork stands twice, and the older one is not its own any more.
            let only_old = old >= excess;
            let before = if only_old { old } else { all };
            for page in process.pages.values_mut().filter(|page| {
                (page.memory == Memory::File) == files && (!only_old || page.touched <= forked)
            }) {
                let scaled = u128::from(page.bytes) * u128::from(before - excess);
                page.bytes = u64::try_from(scaled / u128::from(before)).unwrap_or(u64::MAX);
            }
        }
        let before = process.pages.len();
        process.pages.retain(|_, page| {
            let some = page.bytes > 0;
            if !some {
                self.sites.remove(page.site.clone(), unused);
            }
            some
        });
        self.pages -= before - process.pages.len();
    }
}
