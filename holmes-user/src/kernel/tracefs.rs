//! Where tracepoints keep their values: the format files of tracefs.
//!
//! Format: <https://docs.kernel.org/trace/events.html#event-formats>.

use std::fs;
use std::path::{Path, PathBuf};

use holmes_common::globals::SyscallLayout;

/// Where tracefs is mounted: its own place, then the one from before it had one.
pub(super) const MOUNTS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// The mounted tracefs, or what to do about it.
pub(super) fn find() -> Result<PathBuf, String> {
    MOUNTS
        .iter()
        .map(PathBuf::from)
        .find(|mount| mount.join("events/syscalls").is_dir())
        .ok_or_else(|| {
            let [mount, _] = MOUNTS;
            if Path::new(mount).join("events").is_dir() {
                "the kernel has no system-call tracepoints (CONFIG_FTRACE_SYSCALLS)".to_owned()
            } else {
                format!("tracefs is not mounted: `mount -t tracefs nodev {mount}`")
            }
        })
}

/// The layout of system-call events on this kernel.
pub(super) fn syscall_layout() -> Result<SyscallLayout, String> {
    let events = find()?.join("events/syscalls");
    let read = |event: &str, field: &str| {
        let path = events.join(event).join("format");
        let text =
            fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        field_offset(&text, field).ok_or_else(|| format!("{} has no field {field}", path.display()))
    };
    Ok(SyscallLayout {
        arguments: read("sys_enter_mmap", "addr")?,
        result: read("sys_exit_mmap", "ret")?,
    })
}

/// The offset of a field, from a line like
/// `field:unsigned long addr; offset:16; size:8; signed:0;` (with tabs behind the semicolons).
fn field_offset(format: &str, field: &str) -> Option<u32> {
    format.lines().find_map(|line| {
        let mut parts = line.trim().strip_prefix("field:")?.split(';').map(str::trim);
        let name = parts.next()?.rsplit([' ', '*']).next()?;
        if name != field {
            return None;
        }
        parts.find_map(|part| part.strip_prefix("offset:"))?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: &str = "name: sys_enter_mmap\nID: 100\nformat:\n\
        \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
        \tfield:int __syscall_nr;\toffset:8;\tsize:4;\tsigned:1;\n\
        \tfield:unsigned long addr;\toffset:16;\tsize:8;\tsigned:0;\n\
        \tfield:const char *name;\toffset:24;\tsize:8;\tsigned:0;\n";

    #[test]
    fn offsets_by_name() {
        assert_eq!(field_offset(FORMAT, "addr"), Some(16));
        assert_eq!(field_offset(FORMAT, "__syscall_nr"), Some(8));
        assert_eq!(field_offset(FORMAT, "name"), Some(24));
        assert_eq!(field_offset(FORMAT, "len"), None);
        assert_eq!(field_offset("field:;;;\nfield:x;offset:many;", "x"), None);
    }
}
