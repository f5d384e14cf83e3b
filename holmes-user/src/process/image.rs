//! What a process has mapped executable: enough to name an address after the process is gone.

use std::fs::File;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// What is behind a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectKind {
    /// A file: an executable or a shared library.
    File,
    /// The kernel's vDSO.
    Vdso,
    /// The memory without a file of one process, mapped executable: a JIT compiler's. Offsets in
    /// it are the process's addresses.
    Anonymous,
}

/// An executable file (or what stands for one), shared by all images that map it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Object {
    /// Unique within one run of the recorder. The key of the symbol table.
    pub number: u32,
    /// What it is.
    pub kind: ObjectKind,
    /// Path as the process sees it, `[vdso]`, or `[anon]`. Hostile: the target chose it.
    pub path: String,
    /// GNU build-id in lower-case hexadecimal; empty where the file has none.
    pub build_id: String,
    /// The open file, so that it can be read after it is deleted or its mount is gone. `None` for
    /// what is no file, when too many are open, and in a replay. Of memory without a file, the
    /// perf-map file that was there when the process was read: see [`super::perf_map`].
    #[serde(skip)]
    pub file: Option<File>,
}

/// One executable mapping.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// The address behind the last.
    pub end: u64,
    /// Offset in the object of the first address, in bytes.
    pub offset: u64,
    /// What is mapped.
    pub object: Arc<Object>,
}

/// The executable mappings of one process at one time. A process gets a new image when it executes
/// a program or is seen at an address outside its last one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Image {
    /// Unique within one run of the recorder.
    pub number: u32,
    /// The process.
    pub tgid: u32,
    /// When the process started, in clock ticks since boot: tells two users of one pid apart.
    pub start_time: u64,
    /// Path of the program, as `/proc/PID/exe` gave it.
    pub exe: String,
    /// Sorted by address, without overlap. The program's own mapping need not be the first.
    pub mappings: Vec<Mapping>,
}

impl Image {
    /// The mapping an address lies in.
    pub fn find(&self, address: u64) -> Option<&Mapping> {
        let after = self.mappings.partition_point(|mapping| mapping.start <= address);
        let mapping = self.mappings.get(after.checked_sub(1)?)?;
        (address < mapping.end).then_some(mapping)
    }

    /// The object behind an address and the offset in it, in bytes.
    pub fn locate(&self, address: u64) -> Option<(&Arc<Object>, u64)> {
        let mapping = self.find(address)?;
        Some((&mapping.object, (address - mapping.start).wrapping_add(mapping.offset)))
    }
}
