//! The kernel probes of holmes-ebpf.
//!
//! # Layout
//! - [`globals`]: what user space set before loading;
//! - [`maps`]: every map, with who writes it, who reads it and what bounds it;
//! - [`stats`]: counters by cause and the totals of each cgroup;
//! - [`task`]: what the kernel keeps of tasks;
//! - [`filter`]: whether the current task is the target's, decided before any stack is walked;
//! - [`system_call`]: which system call ends, and with which arguments, by architecture;
//! - [`spaces`]: what each process's address space was when it was met last;
//! - [`record`]: one record from header to ring buffer;
//! - [`unwind`]: the user and the kernel stack, in a chain of programs;
//! - [`call_shares`]: which memory calls are recorded with their stacks;
//! - one file per probe family: [`sample`], [`faults`], [`memory`], [`releases`], [`threads`],
//!   [`waits`], [`blocked`], [`lifecycle`], [`oom`], [`allocations`].
//!
//! Each program attaches on its own; none relies on another being there.
#![no_std]
#![no_main]
// Inline assembly of this target is needed for one instruction, see `stats::add`.
#![feature(asm_experimental_arch)]

mod allocations;
mod blocked;
mod call_shares;
mod faults;
mod filter;
mod globals;
mod lifecycle;
mod maps;
mod memory;
mod oom;
mod record;
mod releases;
mod sample;
mod spaces;
mod stats;
#[cfg_attr(bpf_target_arch = "aarch64", path = "system_call_aarch64.rs")]
#[cfg_attr(not(bpf_target_arch = "aarch64"), path = "system_call_x86_64.rs")]
mod system_call;
mod task;
mod threads;
mod unwind;
mod wait_shares;
mod waits;

/// The kernel accepts helpers that are "GPL only" (`bpf_get_stack`, `bpf_probe_read_kernel`) from
/// programs that declare a compatible licence.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Never reached: the verifier refuses programs that could panic.
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
