//! Names of kernel addresses from the text of `/proc/kallsyms`.
//!
//! Format: `ADDRESS TYPE NAME [MODULE]` per line (proc(5), and nm(1) for the
//! types); addresses are zero where the kernel hides them. The text is read once per
//! naming and nothing of it is kept: a table of all 200,000 symbols would be the largest thing in
//! the recorder's memory.

use std::io::{self, BufRead};

use thiserror::Error;

use super::demangle::demangle;

/// A symbol further below an address than this does not name it, in bytes: no kernel function is
/// that long, so the address lies behind the last one of a module or of the kernel.
const MAX_DISTANCE: u64 = 1 << 20;
/// A line is at most this long, in bytes: `KSYM_NAME_LEN` is 512, module names are below 64.
const MAX_LINE: u64 = 4096;

/// Why no kernel address can be named.
#[derive(Debug, Error)]
pub(super) enum KallsymsError {
    /// It cannot be read.
    #[error("cannot read /proc/kallsyms: mount /proc, or run on a kernel with CONFIG_KALLSYMS")]
    Read(#[source] io::Error),
    /// All addresses are zero.
    #[error(
        "the kernel hides the addresses of its symbols: give the recorder CAP_SYSLOG, or run \
         `sysctl kernel.kptr_restrict=0` (1 is enough with the capability)"
    )]
    Hidden,
}

/// A kernel symbol.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct KernelSymbol {
    start: u64,
    global: bool,
    /// Demangled name.
    pub(super) name: String,
    /// The module; empty for the kernel proper.
    pub(super) module: String,
}

/// The symbol of each address, in the order of `addresses`, which must be sorted.
pub(super) fn find(
    mut kallsyms: impl BufRead,
    addresses: &[u64],
) -> Result<Vec<Option<KernelSymbol>>, KallsymsError> {
    // The closest symbol below addresses[i] and not below addresses[i - 1].
    let mut closest: Vec<Option<KernelSymbol>> = vec![None; addresses.len()];
    let mut any_visible = false;
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = io::Read::take(&mut kallsyms, MAX_LINE).read_until(b'\n', &mut line);
        if read.map_err(KallsymsError::Read)? == 0 {
            break;
        }
        let Some((start, kind, name, module)) = std::str::from_utf8(&line).ok().and_then(parse)
        else {
            continue;
        };
        any_visible |= start != 0;
        let index = addresses.partition_point(|&address| address < start);
        if start == 0 || index == addresses.len() || !is_code(kind) {
            continue;
        }
        let global = kind.is_ascii_uppercase();
        let better = closest[index].as_ref().is_none_or(|old| {
            (start, global, !name.starts_with('_'))
                > (old.start, old.global, !old.name.starts_with('_'))
        });
        if better {
            // Written in place: most lines of the file come by here once.
            let symbol = closest[index].get_or_insert_default();
            (symbol.start, symbol.global) = (start, global);
            symbol.name.clear();
            symbol.name.push_str(name);
            symbol.module.clear();
            symbol.module.push_str(module);
        }
    }
    if !any_visible {
        return Err(KallsymsError::Hidden);
    }
    let mut below: Option<KernelSymbol> = None;
    for (symbol, &address) in closest.iter_mut().zip(addresses) {
        if let Some(mut found) = symbol.take() {
            found.name = demangle(&found.name);
            below = Some(found);
        }
        *symbol = below.clone().filter(|below| address - below.start < MAX_DISTANCE);
    }
    Ok(closest)
}

fn parse(line: &str) -> Option<(u64, char, &str, &str)> {
    let mut words = line.split_ascii_whitespace();
    let start = u64::from_str_radix(words.next()?, 16).ok()?;
    let kind = words.next()?.chars().next()?;
    let name = words.next()?;
    let module = words.next().unwrap_or_default().trim_matches(['[', ']']);
    Some((start, kind, name, module))
}

/// Text and weak symbols, as nm(1) marks them.
fn is_code(kind: char) -> bool {
    matches!(kind, 't' | 'T' | 'w' | 'W')
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
ffffffff81000000 t __pfx_start
ffffffff81000010 t start_local
ffffffff81000010 T start
ffffffff81000010 T __start_alias
ffffffff81000100 D data
ffffffff81000200 T _RNvCs5EzU7Qr1Ab_4demo4spin
not a line
ffffffffc0000000 t helper\t[ext4]
ffffffff81000300 T after
";

    fn names(addresses: &[u64]) -> Vec<Option<(String, String)>> {
        let found = find(TEXT.as_bytes(), addresses).unwrap();
        found.into_iter().map(|symbol| symbol.map(|symbol| (symbol.name, symbol.module))).collect()
    }

    #[test]
    fn the_closest_code_symbol_below_names_an_address() {
        let cases: [(u64, Option<(&str, &str)>); 8] = [
            (0xffff_ffff_80ff_ffff, None),
            (0xffff_ffff_8100_000f, Some(("__pfx_start", ""))),
            (0xffff_ffff_8100_0010, Some(("start", ""))),
            // Data does not name code.
            (0xffff_ffff_8100_0150, Some(("start", ""))),
            (0xffff_ffff_8100_0200, Some(("demo::spin", ""))),
            (0xffff_ffff_8100_0301, Some(("after", ""))),
            (0xffff_ffff_8300_0000, None),
            (0xffff_ffff_c000_0fff, Some(("helper", "ext4"))),
        ];
        let addresses: Vec<u64> = cases.iter().map(|&(address, _)| address).collect();
        let expected: Vec<_> = cases
            .iter()
            .map(|(_, name)| name.map(|(name, module)| (name.to_owned(), module.to_owned())))
            .collect();
        assert_eq!(names(&addresses), expected);
        // One by one it is the same: no answer depends on its neighbours.
        for (&address, expected) in addresses.iter().zip(&expected) {
            assert_eq!(&names(&[address])[0], expected);
        }
    }

    #[test]
    fn bpf_programs_are_named_with_their_tag() {
        // As the kernel writes them with net.core.bpf_jit_kallsyms=1, behind the modules'.
        let text = "\
ffffffffc0000000 t helper\t[ext4]
ffffffffc0201000 t bpf_prog_6deef7357e7b4530_sd_fw_egress\t[bpf]
ffffffffc0201200 t bpf_trampoline_6442549714\t[bpf]
";
        let found = find(text.as_bytes(), &[0xffff_ffff_c020_1040, 0xffff_ffff_c020_1234]).unwrap();
        let names: Vec<_> =
            found.iter().flatten().map(|symbol| (&*symbol.name, &*symbol.module)).collect();
        assert_eq!(
            names,
            [
                ("bpf_prog_6deef7357e7b4530_sd_fw_egress", "bpf"),
                ("bpf_trampoline_6442549714", "bpf")
            ]
        );
    }

    #[test]
    fn hidden_addresses_are_an_error_that_says_what_to_do() {
        let hidden = "0000000000000000 T start\n0000000000000000 T end\n";
        let error = find(hidden.as_bytes(), &[1]).unwrap_err();
        assert!(error.to_string().contains("CAP_SYSLOG"), "{error}");
    }

    #[test]
    fn the_running_kernel_names_its_own_symbol() {
        let text = std::fs::read_to_string("/proc/kallsyms").unwrap();
        let symbol = text.lines().filter_map(parse).find(|symbol| symbol.2 == "schedule");
        let Some((start, ..)) = symbol.filter(|symbol| symbol.0 != 0) else {
            eprintln!("not tested: this kernel hides its symbols from this user");
            return;
        };
        let found = find(text.as_bytes(), &[start + 1]).unwrap();
        assert_eq!(found[0].as_ref().unwrap().name, "schedule");
    }
}
