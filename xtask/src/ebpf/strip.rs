//! Takes the DWARF debug information out of an object: nine tenths of its size, of no use to the
//! kernel. BTF and BTF.ext stay, they are what the kernel reads.
//!
//! Must not: depend on an installed llvm-objcopy. Each version of one writes other bytes.

use anyhow::{Context, Result};
use object::build::elf::Builder;

/// The object without its `.debug_*` sections and what refers to them.
///
/// # Errors
/// When the bytes are no ELF object.
pub fn strip_debug(object: &[u8]) -> Result<Vec<u8>> {
    let mut builder = Builder::read(object).context("the linker's output is no ELF object")?;
    for section in &mut builder.sections {
        if is_debug(&section.name) {
            section.delete = true;
        }
    }
    builder.delete_orphans();
    let mut stripped = Vec::new();
    builder.write(&mut stripped).context("cannot write the stripped object")?;
    Ok(stripped)
}

fn is_debug(name: &[u8]) -> bool {
    name.starts_with(b".debug_") || name.starts_with(b".rel.debug_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_dwarf_goes() {
        for name in [&b".debug_info"[..], b".rel.debug_line"] {
            assert!(is_debug(name));
        }
        for name in [&b".BTF"[..], b".BTF.ext", b".rel.BTF.ext", b"perf_event", b".maps", b".text"]
        {
            assert!(!is_debug(name));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(strip_debug(b"not an object").is_err());
    }
}
