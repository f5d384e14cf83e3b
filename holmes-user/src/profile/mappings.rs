//! Where a profile says that objects are mapped.
//!
//! The processes of a host map one library at many addresses, and different programs at the same
//! one. A profile has one address space, so every object gets a place of its own in it, always the
//! same for one object number: no two overlap, locations of different processes in one library are
//! one location, and the base profile of an incident agrees with the whole one. What readers do
//! with addresses (`address - memory_start + file_offset` is an offset in the file) stays true.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::process::{Image, Object, ObjectKind};
use crate::symbolize::Place;
use crate::window::Cut;

/// What perf calls the kernel's mapping, and every reader knows.
pub(super) const KERNEL: &str = "[kernel.kallsyms]";

/// The kernel's half of the address space on every 64-bit machine.
const KERNEL_START: u64 = 1 << 63;
/// Address space for each object: 1 TiB, beyond any executable.
const OBJECT_BITS: u32 = 40;
const OBJECT_MASK: u64 = (1 << OBJECT_BITS) - 1;
/// Objects with higher numbers would be in the kernel's half.
const MAX_NUMBER: u64 = (KERNEL_START >> OBJECT_BITS) - 2;
const PAGE: u64 = 4096;

/// What is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Mapped {
    /// The kernel.
    Kernel,
    /// An object, by its number.
    Object(u32),
}

/// One mapping of the profile, `limit` exclusive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ProfileMapping {
    pub(super) what: Mapped,
    pub(super) start: u64,
    pub(super) limit: u64,
    pub(super) file_offset: u64,
    pub(super) path: String,
    pub(super) build_id: String,
}

/// All mappings of a profile, the hottest main program first.
#[derive(Debug, Default)]
pub(super) struct Mappings {
    list: Vec<ProfileMapping>,
    index: FxHashMap<Mapped, usize>,
    /// Objects whose offsets are a process's addresses: these do not fit into an object's space, so
    /// their upper bits are left out.
    anonymous: FxHashSet<u32>,
}

impl Mappings {
    /// The mappings of everything that the places of a cut lie in.
    pub(super) fn of(cut: &Cut, places: impl Iterator<Item = Place>) -> Self {
        let ranges = ranges(cut);
        let mut mappings = Self::default();
        if let Some(number) = hottest_program(cut) {
            mappings.add_object(number, &ranges);
        }
        for place in places {
            match place {
                Place::Kernel(address) if (KERNEL_START..u64::MAX).contains(&address) => {
                    mappings.add_kernel();
                }
                Place::Object { object, .. } => mappings.add_object(object, &ranges),
                Place::Kernel(_) | Place::Unmapped(_) => {}
            }
        }
        mappings
    }

    /// The mappings, in the order of their ids.
    pub(super) fn list(&self) -> &[ProfileMapping] {
        &self.list
    }

    /// The id of the mapping a place lies in (0: none), and its address in the profile.
    pub(super) fn locate(&self, place: Place) -> (u64, u64) {
        let (what, address) = match place {
            Place::Kernel(address) => (Mapped::Kernel, address),
            Place::Object { object, offset } => match self.address(object, offset) {
                Some(address) => (Mapped::Object(object), address),
                None => return (0, offset),
            },
            Place::Unmapped(address) => return (0, address),
        };
        let found = self.index.get(&what).filter(|&&index| {
            let mapping = &self.list[index];
            (mapping.start..mapping.limit).contains(&address)
        });
        (found.map_or(0, |&index| index as u64 + 1), address)
    }

    fn address(&self, number: u32, offset: u64) -> Option<u64> {
        let offset = if self.anonymous.contains(&number) { offset & OBJECT_MASK } else { offset };
        address(number, offset)
    }

    fn add(&mut self, mapping: ProfileMapping) {
        self.index.insert(mapping.what, self.list.len());
        self.list.push(mapping);
    }

    fn add_kernel(&mut self) {
        if !self.index.contains_key(&Mapped::Kernel) {
            self.add(ProfileMapping {
                what: Mapped::Kernel,
                start: KERNEL_START,
                limit: u64::MAX,
                file_offset: 0,
                path: KERNEL.to_owned(),
                build_id: String::new(),
            });
        }
    }

    fn add_object(&mut self, number: u32, ranges: &FxHashMap<u32, Range<'_>>) {
        let what = Mapped::Object(number);
        let Some(range) = ranges.get(&number).filter(|_| !self.index.contains_key(&what)) else {
            return;
        };
        let mut first = range.first & !(PAGE - 1);
        let mut last = range.limit.saturating_sub(1);
        if range.object.kind == ObjectKind::Anonymous {
            self.anonymous.insert(number);
            if first >> OBJECT_BITS != last >> OBJECT_BITS {
                (first, last) = (0, OBJECT_MASK);
            }
        }
        let last = self.address(number, last);
        if let (Some(start), Some(last)) = (self.address(number, first), last) {
            self.add(ProfileMapping {
                what,
                start,
                limit: (last + 1).next_multiple_of(PAGE),
                file_offset: first,
                path: range.object.path.clone(),
                build_id: range.object.build_id.clone(),
            });
        }
    }
}

/// The address of an offset in an object; `None` where there is no room for it.
fn address(number: u32, offset: u64) -> Option<u64> {
    let number = u64::from(number);
    (number <= MAX_NUMBER && offset < 1 << OBJECT_BITS)
        .then(|| ((number + 1) << OBJECT_BITS) + offset)
}

/// The part of an object that is mapped executable, by any process of the cut.
struct Range<'a> {
    object: &'a Object,
    first: u64,
    limit: u64,
}

fn images(cut: &Cut) -> impl Iterator<Item = (&Image, i64)> {
    cut.samples.iter().filter_map(|sample| {
        sample.owner.image.as_deref().map(|image| (image, sample.values[0].max(0)))
    })
}

fn ranges(cut: &Cut) -> FxHashMap<u32, Range<'_>> {
    let mut seen = FxHashMap::default();
    let mut ranges: FxHashMap<u32, Range<'_>> = FxHashMap::default();
    for (image, _) in images(cut) {
        if seen.insert(image.number, ()).is_some() {
            continue;
        }
        for mapping in &image.mappings {
            let first = mapping.offset;
            let limit = first.saturating_add(mapping.end.saturating_sub(mapping.start));
            ranges
                .entry(mapping.object.number)
                .and_modify(|range| {
                    range.first = range.first.min(first);
                    range.limit = range.limit.max(limit);
                })
                .or_insert(Range { object: &mapping.object, first, limit });
        }
    }
    ranges
}

/// The object of the program that most samples were taken in.
fn hottest_program(cut: &Cut) -> Option<u32> {
    let mut weights: FxHashMap<u32, i64> = FxHashMap::default();
    let mut programs: FxHashMap<u32, Option<u32>> = FxHashMap::default();
    for (image, weight) in images(cut) {
        let program = programs.entry(image.number).or_insert_with(|| {
            let mut own = image.mappings.iter().filter(|mapping| mapping.object.path == image.exe);
            own.next().map(|mapping| mapping.object.number)
        });
        if let Some(program) = program {
            let sum = weights.entry(*program).or_default();
            *sum = sum.saturating_add(weight);
        }
    }
    // Of equally hot ones, the lowest number: the same cut gives the same profile.
    weights
        .into_iter()
        .max_by_key(|&(number, weight)| (weight, std::cmp::Reverse(number)))
        .map(|(number, _)| number)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::collect::{Comm, Nanos, Stack};
    use crate::process::{Cgroup, Mapping};
    use crate::symbolize::frames;
    use crate::window::{CutSample, Detail, Owner, ProfileKind, pair};

    /// A process with JIT code in these mappings, seen near the first address of the last.
    fn sample(number: u32, mappings: &[(u64, u64)]) -> CutSample {
        let object = Arc::new(Object {
            number,
            kind: ObjectKind::Anonymous,
            path: "[anon]".to_owned(),
            build_id: String::new(),
            file: None,
        });
        let mapping = |&(start, end): &(u64, u64)| Mapping {
            start,
            end,
            offset: start,
            object: Arc::clone(&object),
        };
        let mappings: Vec<Mapping> = mappings.iter().map(mapping).collect();
        let user = [mappings[mappings.len() - 1].start + 5].into();
        let exe = "/usr/bin/node".to_owned();
        let image = Image { number, tgid: number, start_time: 1, exe, mappings };
        let cgroup = Cgroup { id: Default::default(), path: "/".to_owned(), container: None };
        let owner = Owner {
            tgid: number,
            comm: Comm::from("node".to_owned()),
            cgroup: Arc::new(cgroup),
            image: Some(Arc::new(image)),
            recorder: false,
        };
        let stack = Stack { user, kernel: [].into() };
        CutSample {
            owner: Arc::new(owner),
            stack: Arc::new(stack),
            detail: Detail::None,
            labels: Vec::new(),
            values: pair([1, 1]),
        }
    }

    #[test]
    fn the_same_address_in_two_processes_is_two_places() {
        const CODE: (u64, u64) = (0x7f12_3456_7000, 0x7f12_3456_9000);
        let samples = vec![
            sample(5, &[CODE]),
            sample(6, &[CODE]),
            sample(7, &[(0x5555_0000_0000, 0x5555_0000_1000), CODE]),
        ];
        let cut = Cut { kind: ProfileKind::Cpu, from: Nanos(0), to: Nanos(1), samples };
        let places: Vec<Place> =
            cut.samples.iter().flat_map(frames).map(|frame| frame.place).collect();
        let mappings = Mappings::of(&cut, places.iter().copied());
        let located: Vec<(u64, u64)> = places.iter().map(|&place| mappings.locate(place)).collect();
        assert_eq!(located.iter().map(|&(id, _)| id).collect::<Vec<_>>(), [1, 2, 3]);
        for &(id, address) in &located[..2] {
            let mapping = &mappings.list()[id as usize - 1];
            assert_eq!(address - mapping.start + mapping.file_offset, CODE.0 + 5);
        }
        assert_eq!(located[0].1 + (1 << OBJECT_BITS), located[1].1);
    }
}
