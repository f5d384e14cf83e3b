//! The labels that a program has given its goroutines (`runtime/pprof.Do`, `SetGoroutineLabels`).
//!
//! Format: `labelMap` of `runtime/pprof`: a slice of pairs of strings, sorted, since Go 1.24; before, a map of
//! them (`runtime/map.go`), whose buckets of eight may be moving to a larger table. A set never changes once
//! it was given to a goroutine.
//!
//! Must not: believe a set that does not make sense: its memory may be in use for something else by now.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use super::error::GoError;
use super::memory::Memory;
use super::pages::Pages;
use super::target::Target;
use crate::binary::u64_at;

/// Different sets of one process. A set is made for each request, say, that is under way.
const MAX_SETS: usize = 1 << 16;
/// Labels of a set. Programs have a few.
const MAX_LABELS: usize = 256;
/// Bytes of a name or a value.
pub(super) const MAX_TEXT: usize = 4096;
/// Bytes of all of them together.
const MAX_BYTES: usize = 16 << 20;

/// Pieces of memory that are read for all of them together, a second's work at the worst. A set takes some
/// ten.
const MAX_READS: usize = 1 << 20;

/// The version since which they are a slice.
const SLICE_SINCE: u32 = 24;

/// Entries in a bucket of a map, and bytes of a bucket: a byte for each entry, keys, values, and the next
/// bucket.
const ENTRIES: usize = 8;
const KEYS: usize = 8;
const VALUES: usize = KEYS + ENTRIES * STRING;
const NEXT: usize = VALUES + ENTRIES * STRING;
const BUCKET: usize = NEXT + 8;
/// Bytes of a map's header: how many buckets as a power of two, where they are, and where they were.
const MAP: usize = 48;
const POWER: usize = 9;
const BUCKETS: usize = 16;
const OLD_BUCKETS: usize = 24;
/// Set while a map moves to a table of the same size.
const FLAGS: usize = 8;
const SAME_SIZE: u8 = 8;
/// From this byte on an entry is in use; those between the two say of a bucket's first that it has moved.
const IN_USE: u8 = 5;
const EMPTY_ONE: u8 = 1;

/// Bytes of a string: where it is, and its length.
const STRING: usize = 16;

/// A name or a value, which need not be UTF-8.
type Text = Box<[u8]>;

/// The labels of a goroutine, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LabelSet(Box<[(Text, Text)]>);

impl LabelSet {
    /// Names and values, where they are no UTF-8 with a sign for what is not.
    pub fn texts(&self) -> impl Iterator<Item = (String, String)> {
        let text = |bytes: &Text| String::from_utf8_lossy(bytes).into_owned();
        self.0.iter().map(move |(name, value)| (text(name), text(value)))
    }

    /// Names and values, in their order.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// As Go's own profiles print it: `{"name":"value", "other":"value"}`.
    pub(super) fn quoted(&self) -> String {
        let pairs =
            self.0.iter().map(|(name, value)| format!("{}:{}", quoted(name), quoted(value)));
        let mut pairs: Vec<String> = pairs.collect();
        pairs.sort_unstable();
        format!("{{{}}}", pairs.join(", "))
    }
}

/// A text as Go's `%q` prints it (`strconv.Quote`).
fn quoted(text: &[u8]) -> String {
    let mut quoted = "\"".to_owned();
    for chunk in text.utf8_chunks() {
        for letter in chunk.valid().chars() {
            // Writing to a string does not fail.
            let _ = match letter {
                '"' | '\\' => write!(quoted, "\\{letter}"),
                '\x07' => write!(quoted, "\\a"),
                '\x08' => write!(quoted, "\\b"),
                '\x0c' => write!(quoted, "\\f"),
                '\n' => write!(quoted, "\\n"),
                '\r' => write!(quoted, "\\r"),
                '\t' => write!(quoted, "\\t"),
                '\x0b' => write!(quoted, "\\v"),
                ' '..='~' => write!(quoted, "{letter}"),
                '\0'..'\x20' | '\x7f' => write!(quoted, "\\x{:02x}", u32::from(letter)),
                _ if is_shown(letter) => write!(quoted, "{letter}"),
                '\0'..='\u{ffff}' => write!(quoted, "\\u{:04x}", u32::from(letter)),
                _ => write!(quoted, "\\U{:08x}", u32::from(letter)),
            };
        }
        for byte in chunk.invalid() {
            let _ = write!(quoted, "\\x{byte:02x}");
        }
    }
    quoted.push('"');
    quoted
}

/// Whether a letter is printed as it is. Behind another one, marks that change it are.
fn is_shown(letter: char) -> bool {
    let mut buffer = ['x'; 2];
    buffer[1] = letter;
    let text: String = buffer.iter().collect();
    text.escape_debug().eq(text.chars())
}

/// Reads sets of labels of one process.
pub(super) struct LabelReader<'a, M> {
    pages: Pages<'a, M>,
    minor: u32,
    /// Whether it is known what they look like.
    are_known: bool,
    /// By address; `None` where it makes no sense. The target chooses them: not by a fast hash.
    known: HashMap<u64, Option<Arc<LabelSet>>>,
    bytes: usize,
    reads: usize,
}

impl<'a, M: Memory> LabelReader<'a, M> {
    pub(super) fn new(target: &'a Target, memory: &'a M) -> Self {
        let pages = Pages::new(target, memory);
        let minor = target.version.minor;
        let are_known = target.version.own.as_ref().is_none_or(|own| own.has_labels);
        Self { pages, minor, are_known, known: HashMap::new(), bytes: 0, reads: 0 }
    }

    /// The labels at an address; `None` where they make no sense, or where there are too many already.
    pub(super) fn read(&mut self, address: u64) -> Result<Option<Arc<LabelSet>>, GoError> {
        if let Some(known) = self.known.get(&address) {
            return Ok(known.clone());
        }
        if !self.are_known || self.known.len() >= MAX_SETS || self.bytes >= MAX_BYTES {
            return Ok(None);
        }
        let pairs =
            if self.minor >= SLICE_SINCE { self.slice(address)? } else { self.map(address)? };
        let set = match pairs {
            Some(pairs) => self.texts(&pairs)?.map(Arc::new),
            None => None,
        };
        self.known.insert(address, set.clone());
        Ok(set)
    }

    /// The strings of a slice of pairs: where they are, and their lengths.
    fn slice(&mut self, address: u64) -> Result<Option<Vec<[u64; 4]>>, GoError> {
        let Some(header) = self.bytes(address, 24)? else { return Ok(None) };
        let (first, count) = (u64_at(&header, 0), u64_at(&header, 8));
        if count == 0 {
            return Ok(Some(Vec::new()));
        }
        let Some(count) = usize::try_from(count).ok().filter(|count| *count <= MAX_LABELS) else {
            return Ok(None);
        };
        let Some(pairs) = self.bytes(first, count * 2 * STRING)? else { return Ok(None) };
        let pairs = pairs.chunks_exact(2 * STRING);
        Ok(Some(pairs.map(|pair| [0, 8, 16, 24].map(|at| u64_at(pair, at))).collect()))
    }

    /// The same of a map.
    fn map(&mut self, address: u64) -> Result<Option<Vec<[u64; 4]>>, GoError> {
        let Some(map) = self.bytes(address, 8)? else { return Ok(None) };
        let map = u64_at(&map, 0);
        if map == 0 {
            return Ok(Some(Vec::new()));
        }
        let Some(header) = self.bytes(map, MAP)? else { return Ok(None) };
        let count = u64_at(&header, 0);
        let power = header.get(POWER).copied().map_or(u32::MAX, u32::from);
        let (buckets, old) = (u64_at(&header, BUCKETS), u64_at(&header, OLD_BUCKETS));
        if count > MAX_LABELS as u64 || (1 << power.min(63)) > MAX_LABELS as u64 {
            return Ok(None);
        }
        let mut pairs = Vec::new();
        if count > 0 {
            let is_same_size = header.get(FLAGS).is_some_and(|flags| flags & SAME_SIZE != 0);
            let old_power = if is_same_size { power } else { power.saturating_sub(1) };
            let is_whole = self.table(buckets, power, false, &mut pairs)?
                && (old == 0 || self.table(old, old_power, true, &mut pairs)?);
            if !is_whole || pairs.len() as u64 != count {
                return Ok(None);
            }
        }
        Ok(Some(pairs))
    }

    /// Adds the entries of a map's table: of an old one of those buckets that have not moved yet. `false`
    /// if it makes no sense.
    fn table(
        &mut self,
        first: u64,
        power: u32,
        is_old: bool,
        pairs: &mut Vec<[u64; 4]>,
    ) -> Result<bool, GoError> {
        for number in 0..1u64 << power {
            let mut at = first.wrapping_add(number * BUCKET as u64);
            while at != 0 {
                let Some(bucket) = self.bytes(at, BUCKET)? else { return Ok(false) };
                let states = bucket.get(..ENTRIES).unwrap_or_default();
                let has_moved = |state: &u8| *state > EMPTY_ONE && *state < IN_USE;
                if is_old && states.first().is_some_and(has_moved) {
                    break;
                }
                let used = states.iter().enumerate().filter(|(_, state)| **state >= IN_USE);
                pairs.extend(used.map(|(entry, _)| {
                    let (key, value) = (KEYS + entry * STRING, VALUES + entry * STRING);
                    [key, key + 8, value, value + 8].map(|at| u64_at(&bucket, at))
                }));
                if pairs.len() > MAX_LABELS {
                    return Ok(false);
                }
                let next = u64_at(&bucket, NEXT);
                // Only full buckets have another one behind them: a list without an end has too many.
                if next != 0 && states.iter().all(|state| *state < IN_USE) {
                    return Ok(false);
                }
                at = next;
            }
        }
        Ok(true)
    }

    /// The texts of a set.
    fn texts(&mut self, pairs: &[[u64; 4]]) -> Result<Option<LabelSet>, GoError> {
        let mut set = Vec::with_capacity(pairs.len());
        for &[name, name_len, value, value_len] in pairs {
            let (Some(name), Some(value)) =
                (self.text(name, name_len)?, self.text(value, value_len)?)
            else {
                return Ok(None);
            };
            self.bytes += name.len() + value.len();
            set.push((name, value));
        }
        set.sort_unstable();
        Ok(Some(LabelSet(set.into())))
    }

    fn text(&mut self, address: u64, len: u64) -> Result<Option<Text>, GoError> {
        match usize::try_from(len) {
            Ok(0) => Ok(Some(Text::default())),
            Ok(len) if len <= MAX_TEXT => Ok(self.bytes(address, len)?.map(Vec::into_boxed_slice)),
            _ => Ok(None),
        }
    }

    fn bytes(&mut self, address: u64, len: usize) -> Result<Option<Vec<u8>>, GoError> {
        self.reads += 1;
        if self.reads > MAX_READS {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        Ok(self.pages.copy(address, len, &mut bytes)?.then_some(bytes))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::fuzzing::{AnyMemory, BASE, target};
    use super::*;

    fn put(memory: &mut [u8], at: u64, words: &[u64]) {
        for (place, word) in words.iter().enumerate() {
            let at = (at - BASE) as usize + place * 8;
            memory[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
    }

    fn read(minor: u32, memory: &[u8]) -> Option<String> {
        let (target, memory) = (target(minor).unwrap(), AnyMemory(memory));
        let set = LabelReader::new(&target, &memory).read(BASE).unwrap();
        set.map(|set| set.quoted())
    }

    #[test]
    fn a_slice() {
        let mut memory = vec![0; 0x1000];
        memory[0x100..0x104].copy_from_slice(b"name");
        put(&mut memory, BASE, &[BASE + 0x40, 2, 2]);
        let name = BASE + 0x100;
        put(&mut memory, BASE + 0x40, &[name, 4, name, 2, name, 1, 0, 0]);
        assert_eq!(read(26, &memory).unwrap(), r#"{"n":"", "name":"na"}"#);
        put(&mut memory, BASE, &[BASE + 0x40, 1 << 40]);
        assert_eq!(read(26, &memory), None, "too many");
        put(&mut memory, BASE, &[0, 0]);
        assert_eq!(read(26, &memory).unwrap(), "{}");
    }

    #[test]
    fn a_map_that_moves() {
        let mut memory = vec![0; 0x1000];
        memory[0x800..0x804].copy_from_slice(b"name");
        let name = BASE + 0x800;
        put(&mut memory, BASE, &[BASE + 8, 2, 1 << 8, BASE + 0x100, BASE + 0x400]);
        let bucket = |memory: &mut [u8], at: u64, state: u64, len: u64| {
            put(memory, at, &[state, name, len]);
            put(memory, at + 8 + 128, &[name, 4]);
        };
        // One entry in the new table, one in the bucket that has not moved.
        bucket(&mut memory, BASE + 0x100 + BUCKET as u64, 9, 4);
        bucket(&mut memory, BASE + 0x400, 7, 2);
        assert_eq!(read(23, &memory).unwrap(), r#"{"na":"name", "name":"name"}"#);
        bucket(&mut memory, BASE + 0x400, 2, 2);
        assert_eq!(read(23, &memory), None, "one is missing");
        put(&mut memory, BASE, &[0]);
        assert_eq!(read(23, &memory).unwrap(), "{}");
        // A list that leads back to itself.
        put(&mut memory, BASE, &[BASE + 8, 2, 0, BASE + 0x100]);
        put(&mut memory, BASE + 0x100, &[9]);
        put(&mut memory, BASE + 0x100 + NEXT as u64, &[BASE + 0x100]);
        assert_eq!(read(23, &memory), None);
    }

    proptest! {
        #[test]
        fn no_memory_panics(
            changes in proptest::collection::vec((0usize..0x600, any::<u8>()), 0..20),
            minor in 18u32..28,
        ) {
            let mut memory = vec![0; 0x1000];
            let table = BASE + 0x100;
            put(&mut memory, BASE, &[BASE + 8, 2, 1 << 8, table, BASE + 0x400]);
            put(&mut memory, table, &[0x0909, table, 4, table, 2]);
            for (at, value) in changes {
                memory[at] = value;
            }
            // Any answer is right; not panicking, and coming to an end, is the point.
            let _ = read(minor, &memory);
        }
    }

    #[test]
    fn texts_as_go_quotes_them() {
        for (text, expected) in [
            (&b"plain"[..], r#""plain""#),
            (b"a\"b\\c\n\t\x01\x7f", r#""a\"b\\c\n\t\x01\x7f""#),
            ("é\u{301}\u{a0}\u{200b}".as_bytes(), "\"é\u{301}\\u00a0\\u200b\""),
            (b"\xff\xc3", r#""\xff\xc3""#),
            ("\u{e0001}".as_bytes(), r#""\U000e0001""#),
        ] {
            assert_eq!(quoted(text), expected);
        }
    }
}
