//! Where a process's allocator is: which of the files that it maps define its functions.
//!
//! All of them count, not only the one that the dynamic linker chose: functions that are not called
//! cost nothing, a library that hides another's functions calls them in the end, and what one calls
//! of the other is seen to be one call.
//!
//! Must not: trust a path. The files are those that the image holds open.

use std::fs::File;

use super::image::{Image, Object, ObjectKind};
use crate::binary::{BinaryError, Bytes, SymbolTableKind, functions};
use crate::kernel::{ALLOCATOR_NAMES, AllocatorFunction};

/// Functions that are probed at the most. An allocator has ten; a process has one, or two.
const MAX_FUNCTIONS: usize = 128;

/// C++'s `operator new(unsigned long)`, and functions by which the allocators are known that have one
/// of their own: jemalloc, mimalloc, tcmalloc. The C++ library's calls `malloc`.
///
/// Theirs is not probed: it may end with an exception, which does not find its way past a frame
/// whose return is probed, so that the process would end.
const OPERATOR_NEW: &str = "_Znwm";
const HAVE_THEIR_OWN: [&str; 4] = [OPERATOR_NEW, "mallocx", "mi_malloc", "tc_malloc"];

/// Why there is nothing to probe.
#[derive(Debug, thiserror::Error)]
pub enum AllocatorError {
    /// It is a 32-bit program, or none at all.
    #[error(
        "cannot use the program {exe} ({source}): allocations are recorded of 64-bit programs; \
         `record` without --allocations samples any"
    )]
    Program {
        /// Its path.
        exe: String,
        /// What is wrong with it.
        source: BinaryError,
    },
    /// No file that it maps defines the functions.
    #[error(
        "no allocator found in {exe}: neither it nor a library that it maps has a function malloc \
         with a name (was it linked statically and stripped?){go}"
    )]
    NotFound {
        /// The program's path.
        exe: String,
        /// What to do instead, if it is written in Go.
        go: &'static str,
    },
}

/// The functions of an allocator, and the files that define them.
#[derive(Debug, Default)]
pub struct Allocator<'a> {
    /// The functions, each at a place of its own.
    pub functions: Vec<AllocatorFunction<'a>>,
    /// Paths of the files, as the process sees them.
    pub files: Vec<&'a str>,
    /// Those of them whose `operator new` is not seen.
    pub unseen_new: Vec<&'a str>,
}

/// Finds the allocator of a process.
///
/// # Errors
/// It has none that can be found.
pub fn find_allocator(image: &Image) -> Result<Allocator<'_>, AllocatorError> {
    let mut found = Allocator::default();
    let mut seen = Vec::new();
    let mut is_go = false;
    for (object, file) in image.mappings.iter().filter_map(|mapping| file(&mapping.object)) {
        if seen.contains(&object.number) {
            continue;
        }
        seen.push(object.number);
        let is_program = object.path == image.exe;
        let places = match defined(file, is_program) {
            Ok(places) => places,
            Err(source) if is_program => {
                return Err(AllocatorError::Program { exe: image.exe.clone(), source });
            }
            // A library that is none has no functions.
            Err(_) => continue,
        };
        is_go |= is_program && has_go_table(file);
        // Without the one or the other it is something else that is called so.
        let has = |name| places.iter().any(|&(index, _)| ALLOCATOR_NAMES.get(index) == Some(&name));
        if !has("malloc") || !has("free") {
            continue;
        }
        let room = MAX_FUNCTIONS.saturating_sub(found.functions.len());
        let functions = places.into_iter().take(room);
        found.functions.extend(functions.map(|(name, offset)| AllocatorFunction {
            name,
            file,
            offset,
        }));
        found.files.push(&object.path);
        if has_own_new(file) {
            found.unseen_new.push(&object.path);
        }
    }
    if found.functions.is_empty() {
        let go = if is_go { "; for a program in Go use its own /debug/pprof/heap" } else { "" };
        return Err(AllocatorError::NotFound { exe: image.exe.clone(), go });
    }
    Ok(found)
}

fn file(object: &Object) -> Option<(&Object, &File)> {
    let file = object.file.as_ref().filter(|_| object.kind == ObjectKind::File)?;
    Some((object, file))
}

/// The functions that a file defines, one at each place.
fn defined(file: &File, is_program: bool) -> Result<Vec<(usize, u64)>, BinaryError> {
    let bytes = Bytes::File(file);
    let mut found = functions(bytes, SymbolTableKind::Dynamic, &ALLOCATOR_NAMES)?;
    if is_program && found.is_empty() {
        // One that is linked statically has no dynamic symbols.
        found = functions(bytes, SymbolTableKind::Full, &ALLOCATOR_NAMES)?;
    }
    let mut places = Vec::new();
    // Of several names for one place the first does: what they mean is the same.
    found.retain(|&(_, offset)| {
        let is_new = !places.contains(&offset);
        places.push(offset);
        is_new
    });
    Ok(found)
}

fn has_own_new(file: &File) -> bool {
    let table = SymbolTableKind::Dynamic;
    let found = functions(Bytes::File(file), table, &HAVE_THEIR_OWN).unwrap_or_default();
    let has = |name: usize| found.iter().any(|&(index, _)| index == name);
    has(0) && (1..HAVE_THEIR_OWN.len()).any(has)
}

fn has_go_table(file: &File) -> bool {
    let elf = crate::binary::Elf::read(Bytes::File(file));
    elf.is_ok_and(|elf| elf.section(".gopclntab").is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::Nanos;
    use crate::process::ProcessTable;

    #[test]
    fn the_allocator_of_this_process() {
        let mut table = ProcessTable::new("/proc".as_ref());
        let image = table.prepare(std::process::id(), Nanos(1)).unwrap();
        let found = find_allocator(&image).unwrap();
        let names: Vec<&str> =
            found.functions.iter().map(|function| ALLOCATOR_NAMES[function.name]).collect();
        for name in ["malloc", "calloc", "realloc", "free", "posix_memalign"] {
            assert_eq!(names.iter().filter(|found| **found == name).count(), 1, "{names:?}");
        }
        assert!(found.files[0].contains("libc"), "{:?}", found.files);
    }

    #[test]
    fn a_program_without_an_allocator_is_told_apart() {
        let mut table = ProcessTable::new("/proc".as_ref());
        let image = table.prepare(std::process::id(), Nanos(1)).unwrap();
        let own = image.mappings.iter().filter(|mapping| mapping.object.path == image.exe);
        let alone = Image { mappings: own.cloned().collect(), exe: image.exe.clone(), ..*image };
        let error = find_allocator(&alone).unwrap_err();
        assert!(matches!(error, AllocatorError::NotFound { .. }), "{error}");
    }
}
