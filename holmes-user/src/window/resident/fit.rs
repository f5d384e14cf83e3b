//! A process's pages against what the kernel says is resident.
//!
//! Must not: add anything.

use super::page::Page;
use super::{Process, Residents};
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
            let of_kind = |page: &Page| (page.memory == Memory::File) == files;
            let is_old = |page: &Page| of_kind(page) && page.touched <= forked;
            let all = sum(process, of_kind);
            if all <= resident.saturating_add(resident / SLACK_SHARE).saturating_add(SLACK_BYTES) {
                continue;
            }
            // What was copied since a fork stands twice, and the older one is not its own any more. All of
            // it goes before any of the rest.
            let excess = all - resident;
            let old = sum(process, is_old);
            scale(process, is_old, old.saturating_sub(excess), old);
            if excess > old {
                scale(process, of_kind, resident, all - old);
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

/// Bytes of some of a process's pages.
fn sum(process: &Process, some: impl Fn(&Page) -> bool) -> u64 {
    let pages = process.pages.values().filter(|page| some(page));
    pages.fold(0, |sum, page| sum.saturating_add(page.bytes))
}

/// Has some of a process's pages stand for `to` bytes instead of `from`.
fn scale(process: &mut Process, some: impl Fn(&Page) -> bool, to: u64, from: u64) {
    for page in process.pages.values_mut().filter(|page| some(page)) {
        let scaled = u128::from(page.bytes) * u128::from(to) / u128::from(from.max(1));
        page.bytes = u64::try_from(scaled).unwrap_or(u64::MAX);
    }
}
