//! What is known of each process's address space: what it had when a probe met it last. So what a call
//! has changed is known when it ends, without a probe where it begins.
//!
//! A process is met when it is made, when it becomes another program, and at each of its memory calls;
//! those that were there before the probes are visited once.

use aya_ebpf::{cty::c_void, helpers::bpf_probe_read_kernel};
use holmes_common::{globals::NO_OFFSET, limits::PAGE_SHIFT};

use crate::{
    globals::{PLAIN_COUNTS, offset},
    maps::SPACES,
    task::{current_mm, follow, id_at, read},
};

/// `BPF_ANY` and `BPF_NOEXIST`, for the map's updates.
const ANY: u64 = 0;
const NOEXIST: u64 = 1;

/// What a process had.
///
/// Words that are read and written one by one. Two threads whose calls end at the same moment may make
/// each other's numbers smaller, never larger than what was asked for.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Space {
    /// Anonymous pages, when the fault probe met it last; 0 where they cannot be read.
    pub anon_pages: u64,
    /// Mapped pages, without stacks that grow by themselves.
    mapped_pages: u64,
    /// Pages that were gone when another thread's call ended: their own call is about to end.
    vanished_pages: u64,
    /// Where the heap ends.
    heap_end: u64,
}

impl Space {
    /// What the process has whose `mm` this is, which `next` goes on from.
    #[inline(always)]
    fn of(mm: u64, next: impl Fn(u64, u32) -> u64 + Copy) -> Self {
        Self {
            anon_pages: read(mm, offset!(mm_anon_pages)),
            mapped_pages: mapped_pages(mm, next),
            vanished_pages: 0,
            heap_end: next(mm, offset!(mm_brk)),
        }
    }

    /// A call has ended that mapped `pages`. Those that are missing nevertheless have been unmapped by
    /// another thread meanwhile, unless the call itself replaced something (`is_fresh` is false).
    #[inline(always)]
    pub fn mapped(&mut self, mm: u64, pages: u64, is_fresh: bool) {
        let now = mapped_pages(mm, follow);
        let expected = self.mapped_pages.wrapping_add(pages);
        self.vanished_pages = if is_fresh { expected.saturating_sub(now) } else { 0 };
        self.mapped_pages = now;
    }

    /// A call has ended that unmapped `pages` at most: how many of them there were.
    #[inline(always)]
    pub fn unmapped(&mut self, mm: u64, pages: u64) -> u64 {
        let now = mapped_pages(mm, follow);
        let gone = self.mapped_pages.saturating_sub(now);
        let all = gone.wrapping_add(self.vanished_pages);
        let own = if pages < all { pages } else { all };
        let rest = all.wrapping_sub(own);
        // What vanished before the last call ended is nobody's any more.
        self.vanished_pages = if rest < gone { rest } else { gone };
        self.mapped_pages = now;
        own
    }

    /// A call has ended that put pages in place by itself: they are not what the next fault brings.
    #[inline(always)]
    pub fn populated(&mut self, mm: u64) {
        self.anon_pages = current_anon_pages(mm);
    }

    /// The heap ends somewhere now: by how many bytes that is further up than before.
    #[inline(always)]
    pub fn heap_moved(&mut self, mm: u64, end: u64) -> i64 {
        let by = end.wrapping_sub(self.heap_end) as i64;
        self.heap_end = end;
        self.mapped_pages = mapped_pages(mm, follow);
        by
    }
}

/// What is known of a process. The entry may be taken out of the map meanwhile, and then is nobody's.
#[inline(always)]
pub fn known(tgid: u32) -> Option<&'static mut Space> {
    let space = SPACES.get_ptr_mut(tgid)?;
    // SAFETY: the verifier knows a map's value, which lives as long as the program runs. Others may
    // write its words meanwhile, see `Space`.
    Some(unsafe { &mut *space })
}

/// Takes what the current process has now for what is known of it, whatever that was.
#[inline(always)]
pub fn renew(tgid: u32) {
    if let Some(mm) = current_mm().filter(|mm| *mm != 0) {
        // Where there is no room the least recently met process makes some; a failure under contention
        // is made up for by the next call.
        let _ = SPACES.insert(tgid, Space::of(mm, follow), ANY);
    }
}

/// The same for a process that is just being made.
#[inline(always)]
pub fn begin(tgid: u32, task: u64) {
    let mm = read(task, offset!(task_mm));
    if mm != 0 {
        // As above.
        let _ = SPACES.insert(tgid, Space::of(mm, read), ANY);
    }
}

/// The process has ended: whoever has its number next begins anew.
#[inline(always)]
pub fn forget(tgid: u32) {
    // Not known is not an error.
    let _ = SPACES.remove(tgid);
}

/// Whether mapped pages can be read on this kernel.
#[inline(always)]
pub fn are_readable() -> bool {
    offset!(task_mm) != NO_OFFSET && offset!(mm_total_vm) != NO_OFFSET
}

/// The anonymous pages of the current process, whose `mm` this is; 0 where they cannot be read.
#[inline(always)]
pub fn current_anon_pages(mm: u64) -> u64 {
    word_of_counts(mm, offset!(mm_anon_pages))
}

/// [`follow`], where verifiers know their way to the counts of pages.
#[inline(always)]
fn word_of_counts(mm: u64, offset: u32) -> u64 {
    if PLAIN_COUNTS.load() != 0 { follow(mm, offset) } else { read(mm, offset) }
}

/// A stack grows without a call. `MAP_GROWSDOWN` makes one, too: such mappings count for nothing here.
#[inline(always)]
fn mapped_pages(mm: u64, next: impl Fn(u64, u32) -> u64) -> u64 {
    next(mm, offset!(mm_total_vm)).wrapping_sub(next(mm, offset!(mm_stack_vm)))
}

/// `struct bpf_iter__task`: what the kernel gives an iterator's program.
#[repr(C)]
pub struct VisitedTask {
    /// A `struct bpf_iter_meta`.
    pub meta: u64,
    /// Null after the last one.
    pub task: u64,
}

/// Called for each task of the host when user space asks, once, after the probes are attached.
// The crate of the probes has no macro for iterators.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
pub extern "C" fn visit_space(ctx: *mut c_void) -> u32 {
    // As memory, not as the pointer that it is to the verifier: it is only read through helpers.
    // SAFETY: the helper checks the address itself.
    let visited = unsafe { bpf_probe_read_kernel(ctx.cast_const().cast::<VisitedTask>()) };
    let task = visited.map_or(0, |visited| visited.task);
    if task == 0 {
        return 0;
    }
    let tgid = id_at(task, offset!(task_tgid));
    let mm = read(task, offset!(task_mm));
    // A process is its first thread here. Kernel threads have no address space.
    if tgid != 0 && tgid == id_at(task, offset!(task_pid)) && mm != 0 {
        // What its own calls have told meanwhile is newer.
        let _ = SPACES.insert(tgid, Space::of(mm, read), NOEXIST);
    }
    0
}

/// Whole pages that so many bytes take.
#[inline(always)]
pub fn pages(bytes: u64) -> u64 {
    bytes.wrapping_add((1 << PAGE_SHIFT) - 1) >> PAGE_SHIFT
}
