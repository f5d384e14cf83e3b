//! The whole of the running kernel's types, which programs that belong to its functions are loaded with, and
//! those that go through its tasks.
//!
//! Must not: be kept. They are some megabytes; what the probes are told of them is read in `btf`.

use aya::Btf;

use super::attach::chain;

/// Reads them: to be handed to [`let_go`].
///
/// # Errors
/// The kernel does not tell them: why, in one line.
pub(super) fn read() -> Result<Btf, String> {
    Btf::from_sys_fs().map_err(|error| chain(&error))
}

/// Drops them, and has the allocator give them back: it would keep the megabytes for ever.
pub(super) fn let_go<T>(types: T) {
    drop(types);
    // SAFETY: no pointer, and any thread may call it at any time.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}
