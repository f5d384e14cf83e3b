//! A running Go process: its program, and where that was loaded.
//!
//! Must not: follow a path that the process chose. Its program is opened through the kernel's own link.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::GoError;
use super::locate::ListPlace;
use super::memory::ProcessMemory;
use super::program::{FileKey, GoProgram};
use super::target::Target;
use crate::process::start_time;

/// Bytes read of `/proc/PID/auxv`; it has about 350.
const MAX_AUXV_BYTES: u64 = 4096;
/// The program's first instruction, in `auxv` (`elf.h`).
const AT_ENTRY: u64 = 9;

/// A Go process.
#[derive(Clone, Debug)]
pub struct GoProcess {
    /// Its number.
    pub pid: u32,
    /// Its program.
    pub program: Arc<GoProgram>,
    /// Added to addresses as they were linked.
    pub(super) bias: u64,
    folder: PathBuf,
    key: FileKey,
    start_time: u64,
}

impl GoProcess {
    /// Looks at a process.
    ///
    /// # Errors
    /// It does not exist, may not be read, or is no Go program's.
    pub fn open(proc_root: &Path, pid: u32) -> Result<Self, GoError> {
        let (key, file) = program_file(proc_root, pid)?;
        let program = Arc::new(GoProgram::read(file)?);
        Self::of(proc_root, pid, key, program)
    }

    /// A process of a program that is known.
    pub(super) fn of(
        proc_root: &Path,
        pid: u32,
        key: FileKey,
        program: Arc<GoProgram>,
    ) -> Result<Self, GoError> {
        let folder = proc_root.join(pid.to_string());
        let start_time = start_time(&folder).map_err(|error| GoError::of(pid, error))?;
        let entry = entry(&folder).map_err(|error| GoError::of(pid, error))?;
        let bias = entry.ok_or(GoError::Gone { pid })?.wrapping_sub(program.entry());
        Ok(Self { pid, program, bias, folder, key, start_time })
    }

    /// Whether it is still the same process with the same program.
    ///
    /// # Errors
    /// It is not.
    pub(super) fn check_same(&self) -> Result<(), GoError> {
        let of = |error| GoError::of(self.pid, error);
        let exe = File::open(self.folder.join("exe")).map_err(of)?;
        let same = start_time(&self.folder).map_err(of)? == self.start_time
            && FileKey::of(&exe).map_err(of)? == self.key;
        if same { Ok(()) } else { Err(GoError::Changed { pid: self.pid }) }
    }

    pub(super) fn target(&self) -> Target {
        let program = &self.program;
        let list = ListPlace {
            length: program.list.length.wrapping_add(self.bias),
            pointer: program.list.pointer.wrapping_add(self.bias),
        };
        let (version, layout) = (program.version.clone(), program.layout);
        Target { pid: self.pid, version, layout, list }
    }

    /// Where the table of those that wait for locks is, if it can be found.
    pub(super) fn lock_table(&self) -> Result<Option<u64>, GoError> {
        Ok(self.program.lock_table()?.map(|table| table.wrapping_add(self.bias)))
    }

    pub(super) fn memory(&self) -> ProcessMemory {
        ProcessMemory(libc::pid_t::try_from(self.pid).unwrap_or(-1))
    }
}

/// Opens the file that a process executes.
pub(super) fn program_file(proc_root: &Path, pid: u32) -> Result<(FileKey, File), GoError> {
    let of = |error| GoError::of(pid, error);
    let file = File::open(proc_root.join(pid.to_string()).join("exe")).map_err(of)?;
    Ok((FileKey::of(&file).map_err(of)?, file))
}

/// The address of the program's first instruction; `None` if the process has no memory any more.
fn entry(folder: &Path) -> io::Result<Option<u64>> {
    let mut auxv = Vec::new();
    File::open(folder.join("auxv"))?.take(MAX_AUXV_BYTES).read_to_end(&mut auxv)?;
    Ok(entry_of(&auxv))
}

fn entry_of(auxv: &[u8]) -> Option<u64> {
    let (words, _) = auxv.as_chunks::<8>();
    let (pairs, _) = words.as_chunks::<2>();
    let found = pairs.iter().find(|[key, _]| u64::from_ne_bytes(*key) == AT_ENTRY);
    found.map(|[_, value]| u64::from_ne_bytes(*value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_no_go_process() {
        let own = std::process::id();
        let error = GoProcess::open(Path::new("/proc"), own).unwrap_err();
        assert!(matches!(error, GoError::NotGo), "{error}");
        let folder = PathBuf::from(format!("/proc/{own}"));
        assert!(entry(&folder).unwrap().is_some());
        let error = GoProcess::open(Path::new("/proc"), u32::MAX).unwrap_err();
        assert!(matches!(error, GoError::Gone { .. }), "{error}");
    }

    #[test]
    fn the_entry_in_an_auxiliary_vector() {
        let words = [6, 4096, AT_ENTRY, 0x40_1000, 0, 0];
        let bytes: Vec<u8> = words.iter().flat_map(|word: &u64| word.to_ne_bytes()).collect();
        assert_eq!(entry_of(&bytes), Some(0x40_1000));
        assert_eq!(entry_of(&bytes[..31]), None);
        assert_eq!(entry_of(&[]), None);
    }
}
