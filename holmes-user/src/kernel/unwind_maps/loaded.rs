//! The unwinder's maps of the loaded probes.

use aya::Pod;
use aya::maps::lpm_trie::Key;
use aya::maps::{HashMap, LpmTrie, Map, MapData, MapError};
use holmes_common::unwind::{Exe, Mapping, Page, Row, exe_state};
use tracing::warn;

use super::array::ArrayMemory;
use super::{UnwindMaps, UnwindRoom};
use crate::kernel::error::KernelError;
use crate::kernel::probes::Probes;

const MAPPINGS: &str = "MAPPINGS";
const PROCESSES: &str = "PROCESSES";

/// Bits of a key before the address's: the process id.
const TGID_BITS: u32 = 32;

/// `Mapping` may be copied into a map as bytes.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct MappingPod(Mapping);

// SAFETY: integers without padding (asserted beside its definition); every byte is initialised.
unsafe impl Pod for MappingPod {}

/// A `MappingKey` as bytes.
type KeyBytes = [u8; 12];

/// The maps themselves.
pub struct LoadedUnwindMaps {
    rows: ArrayMemory<Row>,
    pages: ArrayMemory<Page>,
    exes: ArrayMemory<Exe>,
    mappings: LpmTrie<MapData, KeyBytes, MappingPod>,
    processes: HashMap<MapData, u32, u8>,
    /// Whether it was said that writing fails.
    warned: bool,
}

impl Probes {
    /// Takes the unwinder's maps out. Works once.
    ///
    /// # Errors
    /// The object has no such maps, or they were taken before.
    pub fn take_unwind_maps(&mut self) -> Result<LoadedUnwindMaps, KernelError> {
        let mut take = |name| self.ebpf.take_map(name).ok_or(KernelError::NoMap(name));
        let (mappings, processes) = (take(MAPPINGS)?, take(PROCESSES)?);
        let map = |name| move |source| KernelError::Map { name, source };
        Ok(LoadedUnwindMaps {
            rows: array("ROWS", take("ROWS")?)?,
            pages: array("PAGES", take("PAGES")?)?,
            exes: array("EXES", take("EXES")?)?,
            mappings: LpmTrie::try_from(mappings).map_err(map(MAPPINGS))?,
            processes: HashMap::try_from(processes).map_err(map(PROCESSES))?,
            warned: false,
        })
    }
}

fn array<T: Copy>(name: &'static str, map: Map) -> Result<ArrayMemory<T>, KernelError> {
    match map {
        Map::Array(data) => ArrayMemory::new(data).ok_or(KernelError::NoMap(name)),
        _ => Err(KernelError::NoMap(name)),
    }
}

impl LoadedUnwindMaps {
    /// Without its tables an executable is walked by frame pointers: worth one line, not an end.
    fn warn(&mut self, what: &str, written: std::io::Result<()>) {
        if let Err(error) = written
            && !std::mem::replace(&mut self.warned, true)
        {
            warn!("cannot write the unwinder's {what}: {error}; stacks may be cut short");
        }
    }
}

impl UnwindMaps for LoadedUnwindMaps {
    fn room(&self) -> UnwindRoom {
        UnwindRoom { rows: self.rows.len(), pages: self.pages.len(), exes: self.exes.len() }
    }

    fn write_rows(&mut self, first: u32, rows: &[Row]) {
        let written = self.rows.write(first, rows);
        self.warn("rows", written);
    }

    fn write_pages(&mut self, first: u32, pages: &[Page]) {
        let written = self.pages.write(first, pages);
        self.warn("pages", written);
    }

    fn write_exe(&mut self, number: u32, exe: Exe) {
        // One that was in use a moment ago must not look as if it never was.
        let last_used = self.exes.read(number).map_or(0, |exe| exe.last_used);
        let exe = Exe { last_used, ..exe };
        // Twice: the first has no pages that a walk could take for the others' place.
        let hidden = Exe { pages: 0, state: exe_state::ABSENT, ..exe };
        let written = [hidden, exe].into_iter().try_for_each(|exe| self.exes.write(number, &[exe]));
        self.warn("executables", written);
    }

    fn read_exe(&self, number: u32) -> Exe {
        self.exes.read(number).unwrap_or_default()
    }

    fn read_page_rows(&self, page: u32) -> Vec<Row> {
        let Page { first_row, rows } = self.pages.read(page).unwrap_or_default();
        self.rows.read_many(first_row, rows)
    }

    fn insert_mapping(
        &mut self,
        tgid: u32,
        address: u64,
        prefix_bits: u32,
        mapping: Mapping,
    ) -> Result<(), KernelError> {
        self.mappings
            .insert(&key(tgid, address, prefix_bits), MappingPod(mapping), 0)
            .map_err(|source| KernelError::Map { name: MAPPINGS, source })
    }

    fn remove_mapping(&mut self, tgid: u32, address: u64, prefix_bits: u32) {
        // It is gone, or was never there: either way it is not there now.
        let _ = self.mappings.remove(&key(tgid, address, prefix_bits));
    }

    fn set_process(&mut self, tgid: u32, known: bool) -> Result<(), KernelError> {
        let set = if known {
            self.processes.insert(tgid, 1, 0)
        } else {
            match self.processes.remove(&tgid) {
                Err(MapError::KeyNotFound) => Ok(()),
                other => other,
            }
        };
        set.map_err(|source| KernelError::Map { name: PROCESSES, source })
    }
}

/// The trie compares from the first bit on: both parts are big-endian.
fn key(tgid: u32, address: u64, prefix_bits: u32) -> Key<KeyBytes> {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&tgid.to_be_bytes());
    bytes[4..].copy_from_slice(&address.to_be_bytes());
    Key::new(TGID_BITS + prefix_bits.min(u64::BITS), bytes)
}
