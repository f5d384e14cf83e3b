//! What crosses the border between the kernel probes (`holmes-ebpf`) and the recorder
//! (`holmes-user`), and nothing else.
//!
//! # Layout
//! - [`record`]: the bytes of one ring-buffer record;
//! - [`globals`]: what user space tells the probes before they are loaded;
//! - [`counter`]: everything that is counted in the kernel, by cause;
//! - [`unwind`]: the tables that stacks are unwound with;
//! - [`walk`]: the rules by which stacks are walked with them;
//! - [`limits`]: the bounds both sides rely on.
//!
//! Must not: allocate, depend on anything, or know aya. Sizes and offsets are asserted at compile
//! time, so that the two sides cannot drift apart.
#![no_std]

pub mod counter;
pub mod globals;
pub mod limits;
pub mod record;
pub mod unwind;
pub mod walk;
