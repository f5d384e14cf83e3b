//! The tables that the probes unwind stacks with: made by user space, read by the probes.
//!
//! An address is looked up in three steps. `MAPPINGS`, a longest-prefix trie by process and
//! address, says in which executable it lies and how far that was moved. `EXES`, an array by
//! executable, says where its pages are in `PAGES`, an array with an entry for each 64 KiB of
//! addresses. A page says where its [`Row`]s are in `ROWS`; they are sorted by address, and the last
//! one that begins at or before the address holds.

/// Bits of an address that a row keeps: a page covers 64 KiB.
pub const PAGE_BITS: u32 = 16;

/// Bytes that offsets from the stack pointer and the frame pointer register to the CFA are multiples
/// of: so that frames of up to half a megabyte fit a row.
pub const CFA_UNIT: u64 = 8;

/// How the canonical frame address (CFA, the stack pointer before the call) is computed. The value
/// of [`Row::cfa_kind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum CfaKind {
    /// No table covers this code: walk by frame pointer.
    FramePointer = 0,
    /// Stack pointer + [`Row::cfa_offset`] times [`CFA_UNIT`].
    StackPointer = 1,
    /// Frame pointer register + [`Row::cfa_offset`] times [`CFA_UNIT`].
    BasePointer = 2,
    /// A procedure linkage table's entry of 16 bytes, which pushes a word in its middle: stack
    /// pointer + 8, and 8 more from byte [`Row::cfa_offset`] of the entry on.
    Plt = 3,
    /// The word at stack pointer + `cfa_offset` (signed).
    DerefStackPointer = 4,
    /// The word at stack pointer + `cfa_offset` (signed), + 8: hand-written assembly that has
    /// aligned its stack and kept the old pointer.
    DerefStackPointerPlus8 = 5,
    /// The word at frame pointer register + `cfa_offset` (signed): functions that align their stack.
    DerefBasePointer = 6,
    /// The frame of a signal: all registers are in the context that the stack pointer points at.
    Signal = 7,
    /// The outermost frame: nothing called it.
    Stop = 8,
    /// A rule that cannot be written as a row.
    Unsupported = 9,
    /// By frame pointer, which may lead to another stack: Go's functions that switch stacks.
    FramePointerElsewhere = 10,
    /// Another register + an offset: hand-written assembly that keeps its old stack pointer there.
    /// Only the leaf's registers are known. [`Row::cfa_offset`] holds both, see
    /// [`leaf_register`].
    LeafRegister = 11,
}

/// A DWARF register number below 16, and an offset in units of [`CFA_UNIT`] below 4,096, as
/// [`CfaKind::LeafRegister`] keeps them: the number in the lowest four bits.
pub const fn leaf_register(register: u16, units: u16) -> u16 {
    units << LEAF_REGISTER_BITS | register
}

/// Registers that [`CfaKind::LeafRegister`] can name, by DWARF number.
pub const LEAF_REGISTERS: usize = 1 << LEAF_REGISTER_BITS;

/// Bits of [`Row::cfa_offset`] that [`CfaKind::LeafRegister`] keeps the register's number in.
pub const LEAF_REGISTER_BITS: u32 = 4;

/// Where the caller's frame pointer register is. The value of [`Row::bp_kind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum BpKind {
    /// It is unchanged.
    Same = 0,
    /// In the word at CFA + [`Row::bp_offset`].
    AtCfa = 1,
    /// In the word at the current frame pointer register + [`Row::bp_offset`].
    AtBasePointer = 2,
    /// It is lost, or its rule cannot be written as a row: what needs it further up fails.
    Lost = 3,
}

/// From its address on, up to the next row's, how to get from a frame to its caller's.
///
/// On x86-64 the return address is always the word below the CFA, but for signals. On arm64 it is
/// the word behind the saved frame pointer (the two are stored as a pair), and in the link register
/// where the frame pointer is [`BpKind::Same`], in a leaf or a prologue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Row {
    /// The low [`PAGE_BITS`] of the address.
    pub pc_low: u16,
    /// A [`CfaKind`].
    pub cfa_kind: u8,
    /// A [`BpKind`].
    pub bp_kind: u8,
    /// What for and in which unit is told by `cfa_kind`, and whether it is signed.
    pub cfa_offset: u16,
    /// In bytes; what for is told by `bp_kind`.
    pub bp_offset: i16,
}

/// The rows of one page of an executable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Page {
    /// Index into `ROWS`.
    pub first_row: u32,
    /// Rows. The first one begins at the page's first address. 0: no code that a table covers.
    pub rows: u32,
}

/// An executable: an entry of `EXES`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Exe {
    /// Index into `PAGES`.
    pub first_page: u32,
    /// Pages, one after the other from [`Self::base_page`] on. 0: there is no table now; written
    /// last when a table is published, and first when it is withdrawn.
    pub pages: u32,
    /// The number of the first page: an address as linked, shifted by [`PAGE_BITS`].
    pub base_page: u32,
    /// An [`exe_state`].
    pub state: u32,
    /// When the probes used it last, `CLOCK_MONOTONIC` in units of 2^30 ns (about a second).
    /// Written by the probes.
    pub last_used: u32,
    /// Keeps the size a power of two.
    pub reserved: [u32; 3],
}

/// Values of [`Exe::state`].
pub mod exe_state {
    /// Nobody has asked for a table, or it was withdrawn: the probes ask for it.
    pub const ABSENT: u32 = 0;
    /// The table is there.
    pub const PRESENT: u32 = 1;
    /// There is nothing to make a table of, or it is too large: walk by frame pointer.
    pub const NONE: u32 = 2;
}

/// Number of [`Mapping::exe`] for memory that no executable file is behind: a JIT compiler's, walked
/// by frame pointer. The first entry of `EXES` is never used.
pub const NO_EXE: u32 = 0;

/// Key of `MAPPINGS` after the prefix length; big-endian, as the trie compares from the first bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, packed)]
pub struct MappingKey {
    /// Process id, big-endian.
    pub tgid: u32,
    /// Address, big-endian.
    pub address: u64,
}

/// An executable mapping of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// The address behind the last.
    pub end: u64,
    /// What is added to the address it was linked for, modulo 2^64.
    pub bias: u64,
    /// Index into `EXES`, or [`NO_EXE`].
    pub exe: u32,
    /// Keeps the size a multiple of eight.
    pub reserved: u32,
}

/// How a walk of a user stack ended. The value of `RecordHeader::walk_end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u16)]
pub enum WalkEnd {
    /// No user stack was asked for, or the task has none.
    NotWalked = 0,
    /// At the outermost frame: the stack is whole.
    Outermost = 1,
    /// Nothing was known of the process yet: the kernel walked by frame pointers, as far as that
    /// goes.
    UnknownProcess = 2,
    /// At an address outside all known executable mappings, see `RecordHeader::stopped_at`.
    Unmapped = 3,
    /// In an executable whose table is not there yet, or was evicted, and frame pointers led nowhere.
    NoTable = 4,
    /// In code without a table (a JIT compiler's, or a gap), and frame pointers led nowhere.
    NoFramePointer = 5,
    /// At a rule that cannot be written as a row.
    UnsupportedRule = 6,
    /// At a rule that needs a frame pointer register which was lost on the way.
    LostBasePointer = 7,
    /// The next frame would not lie above this one: tables and stack contradict each other.
    NotAbove = 8,
    /// Memory of the stack could not be read: it is paged out, or the pointer is wrong.
    Unreadable = 9,
    /// At the frame limit.
    FrameLimit = 10,
    /// The registers of the process could not be found.
    NoRegisters = 11,
    /// The process is a 32-bit one: the kernel walked by frame pointers.
    Compat = 12,
}

impl WalkEnd {
    /// Every value, in the order of the numbers.
    pub const ALL: [Self; 13] = [
        Self::NotWalked,
        Self::Outermost,
        Self::UnknownProcess,
        Self::Unmapped,
        Self::NoTable,
        Self::NoFramePointer,
        Self::UnsupportedRule,
        Self::LostBasePointer,
        Self::NotAbove,
        Self::Unreadable,
        Self::FrameLimit,
        Self::NoRegisters,
        Self::Compat,
    ];

    /// The value with this number.
    pub fn from_raw(raw: u16) -> Option<Self> {
        Self::ALL.get(usize::from(raw)).copied()
    }

    /// The name used in metrics and incidents.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotWalked => "not_walked",
            Self::Outermost => "outermost",
            Self::UnknownProcess => "unknown_process",
            Self::Unmapped => "unmapped",
            Self::NoTable => "no_table",
            Self::NoFramePointer => "no_frame_pointer",
            Self::UnsupportedRule => "unsupported_rule",
            Self::LostBasePointer => "lost_base_pointer",
            Self::NotAbove => "not_above",
            Self::Unreadable => "unreadable",
            Self::FrameLimit => "frame_limit",
            Self::NoRegisters => "no_registers",
            Self::Compat => "compat",
        }
    }
}

const _: () = assert!(size_of::<Row>() == 8, "Row has padding");
const _: () = assert!(size_of::<Page>() == 8, "Page has padding");
const _: () = assert!(size_of::<Exe>() == 32, "Exe has padding");
const _: () = assert!(size_of::<MappingKey>() == 12, "MappingKey has padding");
const _: () = assert!(size_of::<Mapping>() == 32, "Mapping has padding");
