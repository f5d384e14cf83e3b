//! Takes the DWARF debug information out of an object: nine tenths of its size, of no use to the
//! kernel. BTF and BTF.ext stay, they are what the kernel reads. Symbols lose what depends on the
//! folder of the build.
//!
//! Must not: depend on an installed llvm-objcopy. Each version of one writes other bytes.

use anyhow::{Context, Result};
use object::build::elf::{Builder, SectionData};
use object::elf::SHT_STRTAB;

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
    for symbol in &mut builder.symbols {
        if let Some(name) = std::str::from_utf8(&symbol.name).ok().and_then(without_crate_hash) {
            symbol.name = name.into_bytes().into();
        }
    }
    // LLVM keeps the names of sections and symbols in one table; the writer wants two.
    let has_names = |data: &SectionData<'_>| matches!(data, SectionData::SectionString);
    if !builder.sections.iter().any(|section| has_names(&section.data)) {
        let names = builder.sections.add();
        names.name = b".shstrtab"[..].into();
        names.sh_type = SHT_STRTAB;
        names.sh_addralign = 1;
        names.data = SectionData::SectionString;
    }
    let mut stripped = Vec::new();
    builder.write(&mut stripped).context("cannot write the stripped object")?;
    Ok(stripped)
}

fn is_debug(name: &[u8]) -> bool {
    name.starts_with(b".debug_") || name.starts_with(b".rel.debug_")
}

/// A mangled name without its crate's hash, or `None` for a name that has none. Cargo makes the
/// hash from the folder of `holmes-common`; nothing reads it, but it would make the object another
/// one in each clone.
fn without_crate_hash(name: &str) -> Option<String> {
    let name = name.strip_prefix("_R")?;
    // v0 mangling, RFC 2603: a crate is `C`, its hash `s` + base 62 + `_`, and its name.
    let mut out = String::from("_R");
    let mut parts = name.split("Cs");
    out.push_str(parts.next()?);
    for part in parts {
        let digits = part.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(part.len());
        match part[digits..].strip_prefix('_') {
            Some(rest) => out.extend(["C", rest]),
            None => out.extend(["Cs", part]),
        }
    }
    Some(out)
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
    fn names_do_not_depend_on_the_folder() {
        for hash in ["aeSn3CYWyHq", "gffGINJI0Sr"] {
            let name = format!("_RNvNtCs{hash}_13holmes_probes6filter5climb");
            let stable = "_RNvNtC13holmes_probes6filter5climb";
            assert_eq!(without_crate_hash(&name).as_deref(), Some(stable));
        }
        assert_eq!(without_crate_hash("_RNvC1a5Cs").as_deref(), Some("_RNvC1a5Cs"));
        assert_eq!(without_crate_hash("RECORDS"), None);
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(strip_debug(b"not an object").is_err());
    }
}
