//! A version of Go that is newer than the tables, or between two: where things are by the program's own debug
//! information, and the reasons of waiting by the runtime's own texts.
//!
//! Places may differ, meanings may not: what is read in one way for all versions has to be as in the newest
//! that is known.
//!
//! Must not: guess. Where one fact is missing or another one, there is no layout.

use super::build_info::GoVersion;
use super::layout::{Layout, NEWEST, SCHED_PC, SCHED_SP, SudogLayout};
use crate::binary::{BinaryError, Bytes, DebugFacts, Elf, StructFacts, u64_at, variables};

/// The packages that the facts are of. The runtime's holds the types of all.
const UNITS: [&str; 3] = ["runtime", "internal/abi", "internal/cpu"];

/// A goroutine's record, and an entry of those who wait: their fields are looked for.
const GOROUTINE: &str = "runtime.g";
const SUDOG: &str = "runtime.sudog";
/// What an entry says is waited for: a pointer twice, of which the collector may clear the first.
const WAITED_FOR: &str = "runtime.maybeTraceablePtr";
/// The labels of a goroutine, and one of them. Programs that give none need not have these types.
const LABELS: &str = "internal/runtime/pprof/label.Set";
const LABEL: &str = "internal/runtime/pprof/label.Label";
/// A set of counts of a heap profile, which may count bytes.
const COUNTS: &str = "runtime.memRecordCycle";
/// All sets of a bucket.
const RECORD: &str = "runtime.memRecord";
/// The runtime's texts.
const REASONS: &str = "runtime.waitReasonStrings";
/// The number of functions that the compiler made up.
const WRAPPER: &str = "internal/abi.FuncIDWrapper";

/// Fields that have to be where they are.
const FIELDS: [(&str, &[(&str, u64)]); 15] = [
    (GOROUTINE, &[("stack", 0), ("sched", SCHED_SP as u64)]),
    ("runtime.stack", &[("lo", 0), ("hi", 8)]),
    ("runtime.gobuf", &[("sp", 0), ("pc", (SCHED_PC - SCHED_SP) as u64)]),
    (SUDOG, &[("g", 0), ("next", 8), ("prev", 16)]),
    (WAITED_FOR, &[("vp", 0), ("vu", 8)]),
    ("runtime.semaRoot", &[("treap", 8)]),
    ("runtime.bucket", &[("allnext", 8), ("typ", 16), ("hash", 24), ("size", 32), ("nstk", 40)]),
    (RECORD, &[("active", 0)]),
    (COUNTS, &[("allocs", 0), ("frees", 8)]),
    (LABELS, &[("List", 0)]),
    (LABEL, &[("Key", 0), ("Value", 16)]),
    ("runtime.inlinedCall", &[("nameOff", 4), ("parentPc", 8)]),
    (
        "runtime._func",
        &[
            ("nameOff", 4),
            ("pcsp", 16),
            ("pcfile", 20),
            ("pcln", 24),
            ("npcdata", 28),
            ("cuOffset", 32),
            ("funcID", 40),
            ("flag", 41),
            ("nfuncdata", 43),
        ],
    ),
    (
        "runtime.pcHeader",
        &[
            ("magic", 0),
            ("nfunc", 8),
            ("funcnameOffset", 32),
            ("cuOffset", 40),
            ("filetabOffset", 48),
            ("pctabOffset", 56),
            ("pclnOffset", 64),
        ],
    ),
    (
        "runtime.moduledata",
        &[
            ("pcHeader", 0),
            ("minpc", 160),
            ("maxpc", 168),
            ("text", 176),
            ("types", 296),
            ("gofunc", 344),
        ],
    ),
];

/// Types that have to be as large as they are, where they stand in rows or something is behind them.
const SIZES: [(&str, u64); 5] = [
    (WAITED_FOR, 16),
    ("runtime.bucket", 48),
    (LABEL, 32),
    ("runtime.inlinedCall", 16),
    ("runtime._func", 44),
];

/// Numbers that have to be what they are.
const NUMBERS: [(&str, i64); 17] = [
    ("runtime._Gidle", 0),
    ("runtime._Grunnable", 1),
    ("runtime._Grunning", 2),
    ("runtime._Gsyscall", 3),
    ("runtime._Gwaiting", 4),
    ("runtime._Gdead", 6),
    ("runtime._Gcopystack", 8),
    ("runtime._Gpreempted", 9),
    ("runtime._Gleaked", 10),
    ("runtime._Gdeadextra", 11),
    ("runtime._Gscan", 0x1000),
    ("runtime.memProfile", 1),
    ("runtime.semTabSize", 251),
    ("internal/cpu.CacheLinePadSize", 64),
    ("internal/abi.PCDATA_InlTreeIndex", 2),
    ("internal/abi.FUNCDATA_InlTree", 3),
    ("internal/abi.FuncFlagTopFrame", 1),
];

/// Bytes up to the last field of a goroutine's record; it has about 450.
const MAX_RECORD: usize = 4096;
/// Reasons, whose numbers are bytes; there are 47.
const MAX_REASONS: u64 = 256;
/// Bytes of a reason's text; the longest has 28.
const MAX_TEXT: u64 = 64;
/// Bytes of a string: where it is, and its length.
const STRING: usize = 16;

/// What the tables do not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OwnLayout {
    pub(super) goroutine: Layout,
    pub(super) sudog: SudogLayout,
    /// Whether the counts of a heap profile are of bytes, too.
    pub(super) counts_bytes: bool,
    pub(super) wrapper_id: u8,
    /// Whether the types of labels are there, and as they are known.
    pub(super) has_labels: bool,
    /// The texts of why a goroutine waits.
    pub(super) reasons: Box<[Box<str>]>,
}

impl OwnLayout {
    /// Of a program's file; `None` where its debug information does not tell it, or tells that more has
    /// changed than places.
    pub(super) fn find(
        bytes: Bytes<'_>,
        elf: &Elf,
        version: &GoVersion,
    ) -> Result<Option<Self>, BinaryError> {
        if version.minor < NEWEST {
            return Ok(None);
        }
        let mut names: Vec<&str> = vec![REASONS, WRAPPER];
        names.extend(FIELDS.iter().map(|(name, _)| name));
        names.extend(NUMBERS.iter().map(|(name, _)| name));
        let Some(facts) = DebugFacts::find(bytes, elf, &UNITS, &names)? else { return Ok(None) };
        if !is_as_known(&facts) {
            return Ok(None);
        }
        let reasons = reasons(bytes, elf, &facts)?;
        Ok(reasons.and_then(|reasons| Self::of(&facts, reasons)))
    }

    fn of(facts: &DebugFacts, reasons: Box<[Box<str>]>) -> Option<Self> {
        let [goroutine, sudog, counts, record] =
            [GOROUTINE, SUDOG, COUNTS, RECORD].map(|name| facts.structs.get(name));
        let goroutine = goroutine_layout(goroutine?)?;
        let sudog = sudog_layout(sudog?)?;
        let counts_bytes = match counts?.size {
            16 => false,
            32 if at(counts?, "alloc_bytes") == Some(16)
                && at(counts?, "free_bytes") == Some(24) =>
            {
                true
            }
            _ => return None,
        };
        let is_known =
            record?.size == 4 * counts?.size && at(record?, "future") == Some(counts?.size);
        let wrapper_id = u8::try_from(*facts.constants.get(WRAPPER)?).ok()?;
        let has_labels = [LABELS, LABEL].iter().all(|name| facts.structs.contains_key(*name));
        let own = Self { goroutine, sudog, counts_bytes, wrapper_id, has_labels, reasons };
        is_known.then_some(own)
    }
}

/// Whether what is read in one way for all versions is as in the newest that is known.
fn is_as_known(facts: &DebugFacts) -> bool {
    let has = |name: &str, is_as_known: &dyn Fn(&StructFacts) -> bool| {
        facts.structs.get(name).map_or(name == LABELS || name == LABEL, is_as_known)
    };
    let has_fields = |name: &str, fields: &[(&str, u64)]| {
        has(name, &|found| fields.iter().all(|&(field, offset)| at(found, field) == Some(offset)))
    };
    FIELDS.iter().all(|&(name, fields)| has_fields(name, fields))
        && SIZES.iter().all(|&(name, size)| has(name, &|found| found.size == size))
        && NUMBERS.iter().all(|&(name, number)| facts.constants.get(name) == Some(&number))
}

fn at(found: &StructFacts, field: &str) -> Option<u64> {
    found.members.get(field).copied()
}

/// Where a field of eight bytes is.
fn word(found: &StructFacts, field: &str) -> Option<usize> {
    field_of(found, field, 8)
}

/// Where a field of so many bytes is, in what is read of a record.
fn field_of(found: &StructFacts, field: &str, bytes: u64) -> Option<usize> {
    let at = at(found, field)?;
    let is_inside = at.is_multiple_of(bytes) && at.checked_add(bytes)? <= found.size;
    usize::try_from(at).ok().filter(|at| is_inside && *at <= MAX_RECORD)
}

fn goroutine_layout(found: &StructFacts) -> Option<Layout> {
    let syscall_sp = word(found, "syscallsp")?;
    Some(Layout {
        syscall_sp: Some(syscall_sp).filter(|at| word(found, "syscallpc") == Some(at + 8))?,
        status: field_of(found, "atomicstatus", 4)?,
        goid: word(found, "goid")?,
        wait_since: word(found, "waitsince")?,
        wait_reason: field_of(found, "waitreason", 1)?,
        stops: field_of(found, "trackingSeq", 1)?,
        locked_to: word(found, "lockedm")?,
        parent: Some(word(found, "parentGoid")?),
        go_statement: word(found, "gopc")?,
        start: word(found, "startpc")?,
        labels: word(found, "labels")?,
    })
}

fn sudog_layout(found: &StructFacts) -> Option<SudogLayout> {
    let elem = word(found, "elem")?;
    // Both words are its own.
    let is_alone = |at: &u64| *at <= elem as u64 || *at >= elem as u64 + 16;
    let is_known = found.members.values().all(is_alone);
    is_known.then_some(SudogLayout { elem: elem + 8, waitlink: word(found, "waitlink")? })
}

/// The runtime's texts, by number; the first one has none.
fn reasons(
    bytes: Bytes<'_>,
    elf: &Elf,
    facts: &DebugFacts,
) -> Result<Option<Box<[Box<str>]>>, BinaryError> {
    let count = facts.lengths.get(REASONS).copied().filter(|count| *count <= MAX_REASONS);
    let table = variables(bytes, &[REASONS])?.first().and_then(|&(_, at)| elf.offset_of(at));
    let (Some(count), Some(table)) = (count, table) else { return Ok(None) };
    let strings = bytes.read(table, count as usize * STRING)?;
    let mut texts = Vec::new();
    for string in strings.chunks_exact(STRING) {
        let (at, len) = (u64_at(string, 0), u64_at(string, 8));
        let place = if len == 0 { Some(0) } else { elf.offset_of(at) };
        let Some(place) = place.filter(|_| len <= MAX_TEXT && (len == 0) == texts.is_empty())
        else {
            return Ok(None);
        };
        let text = bytes.read(place, len as usize)?;
        let is_text = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
        match String::from_utf8(text) {
            Ok(text) if text.as_bytes().iter().all(is_text) => texts.push(text.into_boxed_str()),
            _ => return Ok(None),
        }
    }
    // Without one that all programs know they are something else.
    let are_reasons = texts.iter().any(|text| &**text == "chan receive");
    Ok(are_reasons.then(|| texts.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The facts of a program in which all is as in the newest version, but for what may differ.
    fn facts() -> DebugFacts {
        let mut facts = DebugFacts::default();
        for (name, fields) in FIELDS {
            let members = fields.iter().map(|&(field, at)| (field.to_owned(), at));
            let size = SIZES.iter().find(|(sized, _)| *sized == name).map_or(0, |&(_, size)| size);
            facts.structs.insert(name.to_owned(), StructFacts { size, members: members.collect() });
        }
        facts.constants = NUMBERS.iter().map(|&(name, number)| (name.to_owned(), number)).collect();
        facts.constants.insert(WRAPPER.to_owned(), 24);
        let mut add = |name: &str, size: u64, fields: &[(&str, u64)]| {
            let found = facts.structs.get_mut(name).unwrap();
            found.size = size;
            found.members.extend(fields.iter().map(|&(field, at)| (field.to_owned(), at)));
        };
        let words =
            ["syscallsp", "syscallpc", "goid", "waitsince", "lockedm", "parentGoid", "gopc"];
        let words = words.iter().chain(&["startpc", "labels"]);
        let words: Vec<(&str, u64)> = words.zip(100..).map(|(name, at)| (*name, at * 8)).collect();
        add(GOROUTINE, 1000, &words);
        add(GOROUTINE, 1000, &[("atomicstatus", 900), ("waitreason", 951), ("trackingSeq", 953)]);
        add(SUDOG, 120, &[("elem", 40), ("ticket", 56), ("waitlink", 80)]);
        add(COUNTS, 16, &[]);
        add(RECORD, 64, &[("future", 16)]);
        facts
    }

    fn of(facts: &DebugFacts) -> Option<OwnLayout> {
        is_as_known(facts).then(|| OwnLayout::of(facts, Box::default())).flatten()
    }

    #[test]
    fn places_may_differ() {
        let own = of(&facts()).unwrap();
        let goroutine = own.goroutine;
        assert_eq!((goroutine.syscall_sp, goroutine.labels, goroutine.stops), (800, 864, 953));
        assert_eq!(goroutine.bytes(), 961);
        assert_eq!((own.sudog.elem, own.sudog.waitlink), (48, 80));
        assert_eq!((own.counts_bytes, own.wrapper_id, own.has_labels), (false, 24, true));
    }

    #[test]
    fn nothing_else_may() {
        let good = facts();
        for (name, found) in &good.structs {
            for field in found.members.keys().filter(|field| *field != "ticket") {
                let mut facts = good.clone();
                facts.structs.get_mut(name).unwrap().members.remove(field);
                assert_eq!(of(&facts), None, "without {name}.{field}");
            }
        }
        for name in good.structs.keys() {
            let mut facts = good.clone();
            facts.structs.remove(name);
            let labels = of(&facts).map(|own| own.has_labels);
            let without = [LABELS, LABEL].contains(&&**name).then_some(false);
            assert_eq!(labels, without, "without {name}");
        }
        for (name, number) in &good.constants {
            let mut facts = good.clone();
            facts.constants.insert(name.clone(), number + 1000);
            assert_eq!(of(&facts), None, "{name} is another one");
        }
        for (name, size) in SIZES.iter().chain(&[(COUNTS, 16), (RECORD, 64)]) {
            let mut facts = good.clone();
            facts.structs.get_mut(*name).unwrap().size = size + 8;
            assert_eq!(of(&facts), None, "{name} is larger");
        }
        let mut one_word = good.clone();
        one_word.structs.get_mut(SUDOG).unwrap().members.insert("ticket".to_owned(), 48);
        assert_eq!(of(&one_word), None, "what is waited for is there but once");
        for (field, at) in [("atomicstatus", 902), ("goid", 812), ("labels", 1000)] {
            let mut facts = good.clone();
            let members = &mut facts.structs.get_mut(GOROUTINE).unwrap().members;
            members.insert(field.to_owned(), at);
            assert_eq!(of(&facts), None, "{field} at {at}");
        }
    }
}
