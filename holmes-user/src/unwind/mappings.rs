//! What the probes know of each process: its executable mappings.
//!
//! Must not: read a process. What it has mapped is told by its image.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use holmes_common::limits::{MAX_MAPPING_ENTRIES, MAX_PROCESSES};
use holmes_common::unwind::{Mapping, NO_EXE};
use rustc_hash::FxHashMap;

use super::blocks::blocks;
use super::executables::Executables;
use crate::collect::Nanos;
use crate::kernel::{KernelError, UnwindMaps};
use crate::process::Image;

/// How long the mappings of an ended process are kept: of the process only the first thread may
/// have ended.
const KEEP_ENDED: Duration = Duration::from_secs(5);

/// Entries of one process: an eighth of what there is. Browsers and JVMs map a thousand pieces of code,
/// and one that maps without end must not take the others' place.
const MAX_ENTRIES_OF_ONE: usize = MAX_MAPPING_ENTRIES as usize / 8;

/// A process that found no room is tried again after this.
const RETRY: Duration = Duration::from_secs(10);

/// Where room is short, a process that was not seen for so long is forgotten: it is installed again
/// when it is.
const UNSEEN: Duration = Duration::from_secs(60);

/// So many of them at a time, the longest unseen first, so that all are looked through seldom.
const UNSEEN_AT_ONCE: usize = 64;

/// A mapping as the probes have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Installed {
    mapping: Mapping,
    /// Offset in the file of its first address.
    offset: u64,
}

impl Installed {
    fn entries(&self) -> usize {
        blocks(self.mapping.start, self.mapping.end).count()
    }
}

struct Known {
    image: u32,
    start_time: u64,
    seen_at: Nanos,
    /// Sorted by address, without overlap.
    installed: Vec<Installed>,
    ended_at: Option<Nanos>,
    /// It found no room then.
    refused_at: Option<Nanos>,
}

/// The processes that the probes know.
pub(super) struct Mappings {
    processes: FxHashMap<u32, Known>,
    /// The earliest first.
    ended: VecDeque<(Nanos, u32)>,
    entries: usize,
    pub(super) refused: u64,
}

impl Mappings {
    pub(super) fn new() -> Self {
        Self { processes: FxHashMap::default(), ended: VecDeque::new(), entries: 0, refused: 0 }
    }

    /// In the trie.
    pub(super) fn entries(&self) -> usize {
        self.entries
    }

    /// Those whose mappings are there.
    pub(super) fn processes(&self) -> usize {
        self.processes.values().filter(|known| known.refused_at.is_none()).count()
    }

    /// Whether there is nothing to do for this image. Takes note that its process was seen.
    pub(super) fn has(&mut self, tgid: u32, image: &Image, now: Nanos) -> bool {
        let Some(known) = self.processes.get_mut(&tgid) else { return false };
        known.seen_at = now;
        known.image == image.number
            && known.refused_at.is_none_or(|refused| now.since(refused) < RETRY)
    }

    /// Whether the mappings of a process are there.
    pub(super) fn knows(&self, tgid: u32) -> bool {
        self.processes.get(&tgid).is_some_and(|known| known.refused_at.is_none())
    }

    /// The executable that is mapped at an address.
    pub(super) fn exe_at(&self, tgid: u32, address: u64) -> Option<u32> {
        let exe = self.mapping_at(tgid, address)?.exe;
        (exe != NO_EXE).then_some(exe)
    }

    /// The mapping that an address lies in.
    pub(super) fn mapping_at(&self, tgid: u32, address: u64) -> Option<Mapping> {
        let installed = &self.processes.get(&tgid)?.installed;
        let after = installed.partition_point(|other| other.mapping.start <= address);
        let mapping = installed.get(after.checked_sub(1)?)?.mapping;
        (address < mapping.end).then_some(mapping)
    }

    /// Makes what the probes know of a process what its image says. Returns the executables that
    /// were not mapped before.
    pub(super) fn install(
        &mut self,
        tgid: u32,
        image: &Image,
        now: Nanos,
        executables: &mut Executables,
        maps: &mut dyn UnwindMaps,
    ) -> Vec<u32> {
        if self.processes.get(&tgid).is_some_and(|known| known.start_time != image.start_time) {
            // Another process with the same number: not one of its mappings is meant.
            self.remove(tgid, now, executables, maps);
        }
        let wanted = wanted(image, now, executables, maps);
        let old = self.processes.remove(&tgid).map_or_else(Vec::new, |known| known.installed);
        let has = |installed: &[Installed], one: &Installed| {
            let at = |other: &Installed| other.mapping.start.cmp(&one.mapping.start);
            installed.binary_search_by(at).is_ok_and(|index| installed.get(index) == Some(one))
        };
        for gone in old.iter().filter(|one| !has(&wanted, one)) {
            self.take_out(tgid, gone, maps);
        }
        let added = || wanted.iter().filter(|one| !has(&old, one));
        let needed = added().map(Installed::entries).sum();
        let all: usize = wanted.iter().map(Installed::entries).sum();
        let has_room = all <= MAX_ENTRIES_OF_ONE && self.make_room(needed, now, executables, maps);
        let full = self.entries + needed;
        let fits = has_room
            && added().try_for_each(|one| self.put_in(tgid, one, maps)).is_ok()
            && maps.set_process(tgid, true).is_ok();
        // Where it stopped half-way, all are taken out again, those that were not put in too.
        self.entries = full;
        let exes = |list: &[Installed]| {
            let files = list.iter().map(|one| one.mapping.exe).filter(|exe| *exe != NO_EXE);
            let mut exes: Vec<u32> = files.collect();
            exes.sort_unstable();
            exes
        };
        let (before, mut new) = (exes(&old), exes(&wanted));
        for exe in &before {
            executables.release(*exe, now);
        }
        new.dedup();
        new.retain(|exe| before.binary_search(exe).is_err());
        let known = Known {
            image: image.number,
            start_time: image.start_time,
            seen_at: now,
            installed: wanted,
            ended_at: None,
            refused_at: None,
        };
        self.processes.insert(tgid, known);
        if !fits {
            self.refuse(tgid, now, executables, maps);
            return Vec::new();
        }
        new
    }

    /// Writes the bias of all mappings of an executable, now that it is known where its bytes are
    /// in memory.
    pub(super) fn set_bias(
        &mut self,
        exe: u32,
        now: Nanos,
        executables: &mut Executables,
        maps: &mut dyn UnwindMaps,
    ) {
        let mut failed = Vec::new();
        for (&tgid, known) in &mut self.processes {
            for one in known.installed.iter_mut().filter(|one| one.mapping.exe == exe) {
                let mapping = &mut one.mapping;
                let layout = executables.layout(exe);
                match layout.and_then(|layout| layout.bias(mapping.start, one.offset)) {
                    Some(bias) => mapping.bias = bias,
                    None => {
                        mapping.exe = NO_EXE;
                        executables.release(exe, now);
                    }
                }
                for block in blocks(mapping.start, mapping.end) {
                    let written =
                        maps.insert_mapping(tgid, block.address, block.prefix_bits, *mapping);
                    if written.is_err() {
                        failed.push(tgid);
                    }
                }
            }
        }
        for tgid in failed {
            self.refuse(tgid, now, executables, maps);
        }
    }

    /// A process's first thread has ended.
    pub(super) fn exited(&mut self, tgid: u32, now: Nanos) {
        if let Some(known) = self.processes.get_mut(&tgid)
            && known.ended_at.is_none()
        {
            known.ended_at = Some(now);
            self.ended.push_back((now, tgid));
        }
    }

    /// Forgets processes a while after they ended.
    pub(super) fn forget_ended(
        &mut self,
        now: Nanos,
        executables: &mut Executables,
        maps: &mut dyn UnwindMaps,
    ) {
        while let Some(&(ended_at, _)) = self.ended.front()
            && now.since(ended_at) >= KEEP_ENDED
        {
            self.forget_first_ended(now, executables, maps);
        }
    }

    /// Forgets a process.
    pub(super) fn remove(
        &mut self,
        tgid: u32,
        now: Nanos,
        executables: &mut Executables,
        maps: &mut dyn UnwindMaps,
    ) {
        let Some(known) = self.processes.remove(&tgid) else { return };
        // To take it out of the map of processes needs no room there.
        let _ = maps.set_process(tgid, false);
        if known.refused_at.is_some() {
            return;
        }
        for one in &known.installed {
            self.take_out(tgid, one, maps);
            if one.mapping.exe != NO_EXE {
                executables.release(one.mapping.exe, now);
            }
        }
    }

    /// Whether so many entries fit, and one more process; ended ones make room.
    fn make_room(
        &mut self,
        entries: usize,
        now: Nanos,
        executables: &mut Executables,
        maps: &mut dyn UnwindMaps,
    ) -> bool {
        loop {
            if self.entries + entries <= MAX_MAPPING_ENTRIES as usize
                && self.processes.len() < MAX_PROCESSES as usize
            {
                return true;
            }
            if !self.forget_first_ended(now, executables, maps)
                && !self.forget_unseen(now, executables, maps)
            {
                return false;
            }
        }
    }

    /// Whether there was one.
    fn forget_first_ended(
        &mut self,
        now: Nanos,
        executables: &mut Executables,
        maps: &mut dyn UnwindMaps,
    ) -> bool {
        let Some((ended_at, tgid)) = self.ended.pop_front() else { return false };
        // Unless the number has a new owner, or the process a new program.
        if self.processes.get(&tgid).is_some_and(|known| known.ended_at == Some(ended_at)) {
            self.remove(tgid, now, executables, maps);
        }
        true
    }

    /// Forgets some processes that were not seen for long: they are idle, or their end was missed.
    /// Whether there were any.
    fn forget_unseen(
        &mut self,
        now: Nanos,
        executables: &mut Executables,
        maps: &mut dyn UnwindMaps,
    ) -> bool {
        let unseen = |known: &Known| now.since(known.seen_at) >= UNSEEN;
        let mut unseen: Vec<(Nanos, u32)> = (self.processes.iter())
            .filter(|(_, known)| unseen(known))
            .map(|(tgid, known)| (known.seen_at, *tgid))
            .collect();
        unseen.sort_unstable();
        unseen.truncate(UNSEEN_AT_ONCE);
        for (_, tgid) in &unseen {
            self.remove(*tgid, now, executables, maps);
        }
        !unseen.is_empty()
    }

    /// Leaves a process out: half of its mappings would end its walks in the wrong places. It stays
    /// known, without mappings, so that it is not tried again at once.
    fn refuse(
        &mut self,
        tgid: u32,
        now: Nanos,
        executables: &mut Executables,
        maps: &mut dyn UnwindMaps,
    ) {
        let Some(known) = self.processes.get(&tgid) else { return };
        let (image, start_time) = (known.image, known.start_time);
        self.remove(tgid, now, executables, maps);
        self.refused += 1;
        if self.processes.len() < MAX_PROCESSES as usize {
            let known = Known {
                image,
                start_time,
                seen_at: now,
                installed: Vec::new(),
                ended_at: None,
                refused_at: Some(now),
            };
            self.processes.insert(tgid, known);
        }
    }

    fn put_in(
        &mut self,
        tgid: u32,
        one: &Installed,
        maps: &mut dyn UnwindMaps,
    ) -> Result<(), KernelError> {
        for block in blocks(one.mapping.start, one.mapping.end) {
            maps.insert_mapping(tgid, block.address, block.prefix_bits, one.mapping)?;
            self.entries += 1;
        }
        Ok(())
    }

    fn take_out(&mut self, tgid: u32, one: &Installed, maps: &mut dyn UnwindMaps) {
        for block in blocks(one.mapping.start, one.mapping.end) {
            maps.remove_mapping(tgid, block.address, block.prefix_bits);
            self.entries = self.entries.saturating_sub(1);
        }
    }
}

/// What an image wants to have installed; each mapping counts as a reference to its executable.
fn wanted(
    image: &Image,
    now: Nanos,
    executables: &mut Executables,
    maps: &mut dyn UnwindMaps,
) -> Vec<Installed> {
    let mut wanted = Vec::with_capacity(image.mappings.len());
    for mapping in &image.mappings {
        let (start, end, offset) = (mapping.start, mapping.end, mapping.offset);
        let mut exe = executables.acquire(&Arc::clone(&mapping.object), now, maps);
        let mut bias = 0;
        if let Some(layout) = executables.layout(exe) {
            match layout.bias(start, offset) {
                Some(known) => bias = known,
                None => {
                    // No segment has bytes there: nothing in its table is meant.
                    executables.release(exe, now);
                    exe = NO_EXE;
                }
            }
        }
        let mapping = Mapping { start, end, bias, exe, reserved: 0 };
        wanted.push(Installed { mapping, offset });
    }
    wanted
}
