//! How places were named, and why others were not. Every place looked up is counted once.

/// Who knew the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NamedBy {
    /// Debug information: function, inlined functions, file and line.
    Dwarf,
    /// An ELF symbol table: the function.
    Elf,
    /// The kernel's symbol table.
    Kernel,
    /// The vDSO's symbol table.
    Vdso,
    /// A recording.
    Recorded,
    /// The function table of a Go program: function, inlined functions, file and line.
    Gopclntab,
    /// A perf-map file, which a JIT compiler wrote: the function.
    PerfMap,
}

impl NamedBy {
    /// Every value.
    pub const ALL: [Self; 7] = [
        Self::Dwarf,
        Self::Elf,
        Self::Kernel,
        Self::Vdso,
        Self::Recorded,
        Self::Gopclntab,
        Self::PerfMap,
    ];

    /// The label in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dwarf => "dwarf",
            Self::Elf => "elf",
            Self::Kernel => "kernel",
            Self::Vdso => "vdso",
            Self::Recorded => "recorded",
            Self::Gopclntab => "gopclntab",
            Self::PerfMap => "perf_map",
        }
    }
}

/// Why a place has no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unnamed {
    /// The process's mappings were not known, or the address is outside all of them.
    Unmapped,
    /// Memory without a file: a JIT compiler's code.
    Anonymous,
    /// The file is not open: too many were, or it was gone.
    NotOpen,
    /// The file could not be read.
    Unreadable,
    /// The file is not a 64-bit little-endian ELF file, or contradicts itself.
    NotElf,
    /// Its symbol tables are larger than the bound, or it has none.
    NoSymbols,
    /// Its symbol tables say nothing about the place.
    NoSymbol,
    /// The parser gave up on the file.
    Broken,
    /// The parser ran into a bug of its own.
    Panicked,
    /// The naming process broke down over the file, or could not be started again.
    Crashed,
    /// The names of the incident take all the memory they may.
    NamesFull,
    /// The time for naming was used up.
    OutOfTime,
    /// The kernel hides its symbols from the recorder.
    KernelHidden,
    /// A recording does not have it.
    NotRecorded,
}

impl Unnamed {
    /// Every value.
    pub const ALL: [Self; 14] = [
        Self::Unmapped,
        Self::Anonymous,
        Self::NotOpen,
        Self::Unreadable,
        Self::NotElf,
        Self::NoSymbols,
        Self::NoSymbol,
        Self::Broken,
        Self::Panicked,
        Self::Crashed,
        Self::NamesFull,
        Self::OutOfTime,
        Self::KernelHidden,
        Self::NotRecorded,
    ];

    /// The label in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unmapped => "unmapped",
            Self::Anonymous => "anonymous",
            Self::NotOpen => "not_open",
            Self::Unreadable => "unreadable",
            Self::NotElf => "not_elf",
            Self::NoSymbols => "no_symbols",
            Self::NoSymbol => "no_symbol",
            Self::Broken => "broken",
            Self::Panicked => "panicked",
            Self::Crashed => "crashed",
            Self::NamesFull => "names_full",
            Self::OutOfTime => "out_of_time",
            Self::KernelHidden => "kernel_hidden",
            Self::NotRecorded => "not_recorded",
        }
    }
}

/// Why the debug information of a file was not used: its places are named by ELF symbols then,
/// without inlined functions and lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DebugSkipped {
    /// Larger than the bound.
    TooLarge,
    /// A compressed section is not what its header promises, or larger than the bound.
    Compressed,
    /// The parser gave up on it.
    Broken,
    /// The parser ran into a bug of its own.
    Panicked,
    /// The naming process broke down over it: memory, recursion, or a file cut short.
    Crashed,
    /// There is a separate debug file, and it is of another build.
    Mismatched,
    /// A separate debug file cannot be read.
    Unreadable,
    /// Half of the time for naming was used up.
    OutOfTime,
}

impl DebugSkipped {
    /// Every value.
    pub const ALL: [Self; 8] = [
        Self::TooLarge,
        Self::Compressed,
        Self::Broken,
        Self::Panicked,
        Self::Crashed,
        Self::Mismatched,
        Self::Unreadable,
        Self::OutOfTime,
    ];

    /// The label in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::Compressed => "compressed",
            Self::Broken => "broken",
            Self::Panicked => "panicked",
            Self::Crashed => "crashed",
            Self::Mismatched => "mismatched",
            Self::Unreadable => "unreadable",
            Self::OutOfTime => "out_of_time",
        }
    }
}

/// The counts of one naming. The places looked up are the sum of `named` and `unnamed`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameStats {
    named: [u64; NamedBy::ALL.len()],
    unnamed: [u64; Unnamed::ALL.len()],
    debug_skipped: [u64; DebugSkipped::ALL.len()],
}

impl NameStats {
    /// Places named, by who knew the name.
    pub fn named(&self, by: NamedBy) -> u64 {
        self.named[by as usize]
    }

    /// Places without a name, by cause.
    pub fn unnamed(&self, cause: Unnamed) -> u64 {
        self.unnamed[cause as usize]
    }

    /// Files whose debug information was not used, by cause.
    pub fn debug_skipped(&self, cause: DebugSkipped) -> u64 {
        self.debug_skipped[cause as usize]
    }

    /// Places without a name: `holmes_frames_total{named_by="none"}`.
    pub fn none(&self) -> u64 {
        self.unnamed.iter().sum()
    }

    /// Places looked up.
    pub fn places(&self) -> u64 {
        self.named.iter().sum::<u64>() + self.none()
    }

    /// Adds the counts of another naming.
    pub fn merge(&mut self, other: &Self) {
        let add = |to: &mut [u64], from: &[u64]| {
            to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
        };
        add(&mut self.named, &other.named);
        add(&mut self.unnamed, &other.unnamed);
        add(&mut self.debug_skipped, &other.debug_skipped);
    }

    pub(super) fn add_named(&mut self, by: NamedBy) {
        self.named[by as usize] += 1;
    }

    pub(super) fn add_unnamed(&mut self, cause: Unnamed, places: usize) {
        self.unnamed[cause as usize] += places as u64;
    }

    pub(super) fn add_debug_skipped(&mut self, cause: DebugSkipped) {
        self.debug_skipped[cause as usize] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_indexed_by_position() {
        assert!(NamedBy::ALL.iter().enumerate().all(|(index, &by)| by as usize == index));
        assert!(Unnamed::ALL.iter().enumerate().all(|(index, &cause)| cause as usize == index));
        assert!(
            DebugSkipped::ALL.iter().enumerate().all(|(index, &cause)| cause as usize == index)
        );
    }

    #[test]
    fn places_are_the_named_and_the_unnamed() {
        let mut stats = NameStats::default();
        stats.add_named(NamedBy::Elf);
        stats.add_unnamed(Unnamed::Broken, 3);
        stats.add_debug_skipped(DebugSkipped::TooLarge);
        let mut sum = stats.clone();
        sum.merge(&stats);
        assert_eq!((sum.places(), sum.none(), sum.named(NamedBy::Elf)), (8, 6, 2));
        assert_eq!(sum.debug_skipped(DebugSkipped::TooLarge), 2);
    }
}
