//! What the probes are told before they are loaded: whom to look at, and what this kernel is like.
//!
//! Must not: load anything.

use std::process;

use aya::util::online_cpus;
use aya::{EbpfLoader, Pod};
use holmes_common::globals::{NO_OFFSET, Offsets, TargetMode, UNIFIED_HIERARCHY};
use holmes_common::limits::{WAIT_CPU_BURST, WAIT_CPU_EARNED_NS, WAIT_CPUS};
use tracing::warn;

use super::btf::{KernelTypes, VMLINUX};
use super::error::KernelError;
use super::{ProbePlan, TargetFilter};

/// The values of the probes' read-only globals, as they are named there.
#[derive(Clone, Debug)]
pub(super) struct Globals {
    target_mode: u32,
    cgroup_subsys: u32,
    recorder_tgid: u32,
    offsets: OffsetsPod,
    count_noise: u32,
    fault_interval: u64,
    has_task_pt_regs: u32,
    plain_loads: u32,
    plain_counts: u32,
    copy_stacks: u32,
    pointer_code_mask: u64,
    allocation_interval: u64,
    wait_burst: u64,
    wait_earned_ns: u64,
    log_level: u8,
}

/// `Offsets` may be copied into a map as bytes.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
struct OffsetsPod(Offsets);

// SAFETY: `u32`s without padding (asserted beside its definition); every byte is initialised.
unsafe impl Pod for OffsetsPod {}

impl Globals {
    /// What to tell for this plan on the running kernel.
    ///
    /// # Errors
    /// The plan needs what the kernel does not tell of itself.
    pub(super) fn of(plan: &ProbePlan) -> Result<Self, KernelError> {
        let types = KernelTypes::read();
        let offsets = match &types {
            Ok(types) => types.offsets(),
            Err(error) => {
                warn!("{VMLINUX} cannot be read ({error}): no cgroup filter");
                Offsets::UNKNOWN
            }
        };
        let has_helper = u32::from(types.as_ref().is_ok_and(|it| it.has_helper("task_pt_regs")));
        let plain_counts = u32::from(types.as_ref().is_ok_and(KernelTypes::has_counter_structs));
        let cgroup_subsys = match (&plan.controller, &types) {
            (None, _) => UNIFIED_HIERARCHY,
            (Some(controller), Ok(types)) => types
                .controller_index(controller)
                .ok_or_else(|| KernelError::NoController(controller.clone()))?,
            (Some(_), Err(_)) => UNIFIED_HIERARCHY,
        };
        if let (TargetFilter::Cgroups(_), Err(source)) = (&plan.target, types) {
            return Err(KernelError::NoBtf { path: VMLINUX, source });
        }
        let target_mode = match plan.target {
            TargetFilter::Host => TargetMode::Host,
            TargetFilter::Cgroups(_) => TargetMode::Cgroups,
            TargetFilter::Processes(_) => TargetMode::Processes,
        };
        let sharers = sharers();
        Ok(Self {
            target_mode: target_mode as u32,
            cgroup_subsys,
            recorder_tgid: process::id(),
            offsets: OffsetsPod(offsets),
            count_noise: count_noise(),
            fault_interval: plan.fault_interval,
            has_task_pt_regs: has_helper,
            plain_loads: has_helper,
            plain_counts,
            copy_stacks: u32::from(plan.copy_stacks),
            pointer_code_mask: pointer_code_mask(),
            allocation_interval: plan.allocation_interval.unwrap_or(0),
            wait_burst: WAIT_CPU_BURST / sharers,
            wait_earned_ns: WAIT_CPU_EARNED_NS * sharers,
            log_level: if plan.probe_log { aya_log::Level::Debug as u8 } else { 0 },
        })
    }

    /// Whether the probes find out what a task is and whether it waits.
    pub(super) fn know_tasks(&self) -> bool {
        let Offsets { task_pid, task_mm, task_state, .. } = self.offsets.0;
        ![task_pid, task_mm, task_state].contains(&NO_OFFSET)
    }

    /// Whether the probes read what they can by plain loads. Verifiers differ in which types they know
    /// their way through.
    pub(super) fn allow_plain_loads(&self) -> bool {
        self.plain_loads != 0
    }

    /// Has the probes read everything through helpers: slower, and no kernel refuses it.
    pub(super) fn forbid_plain_loads(&mut self) {
        self.plain_loads = 0;
    }

    /// Writes them into the object that is about to be loaded.
    pub(super) fn tell<'a>(&'a self, loader: &mut EbpfLoader<'a>) {
        loader
            .override_global("TARGET_MODE", &self.target_mode, true)
            .override_global("CGROUP_SUBSYS", &self.cgroup_subsys, true)
            .override_global("RECORDER_TGID", &self.recorder_tgid, true)
            .override_global("OFFSETS", &self.offsets, true)
            .override_global("COUNT_NOISE", &self.count_noise, true)
            .override_global("FAULT_INTERVAL", &self.fault_interval, true)
            .override_global("HAS_TASK_PT_REGS", &self.has_task_pt_regs, true)
            .override_global("PLAIN_LOADS", &self.plain_loads, true)
            .override_global("PLAIN_COUNTS", &self.plain_counts, true)
            .override_global("COPY_STACKS", &self.copy_stacks, true)
            .override_global("POINTER_CODE_MASK", &self.pointer_code_mask, true)
            .override_global("ALLOCATION_INTERVAL", &self.allocation_interval, true)
            .override_global("WAIT_BURST_OF_CPU", &self.wait_burst, true)
            .override_global("WAIT_EARNED_NS_OF_CPU", &self.wait_earned_ns, true)
            .override_global(aya_log::LEVEL, &self.log_level, false);
    }
}

/// Pages by which the kernel's count of a process's pages may jump at once without a huge page: it adds up
/// what each CPU has counted in batches of `max(32, 2 * CPUs)` (lib/percpu_counter.c, since 6.2), and
/// before that each task's 64 (mm/memory.c). Half a huge page at the least.
fn count_noise() -> u32 {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let batch = u32::try_from(cpus).unwrap_or(u32::MAX).saturating_mul(2).max(64);
    (batch + batch / 2).max(256)
}

/// How many CPUs share what one may record of waits.
fn sharers() -> u64 {
    let cpus = online_cpus().map_or(1, |cpus| cpus.len());
    (cpus as u64).div_ceil(WAIT_CPUS).clamp(1, WAIT_CPU_BURST)
}

/// Bits of a user address that hold its authentication code on arm64: all above the 48 of an address
/// and below the one that tells user from kernel. Where a processor has no such codes the bits are
/// zero in every address, so taking them off does no harm.
fn pointer_code_mask() -> u64 {
    if cfg!(target_arch = "aarch64") { 0x007f_0000_0000_0000 } else { 0 }
}
