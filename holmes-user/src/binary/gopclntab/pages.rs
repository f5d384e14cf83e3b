//! A part of a file read page by page, each page once, so that a look-up in a table of 100 MB reads
//! what it needs.
//!
//! Must not: hold more than its bound, or read outside the part.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::bytes::{BinaryError, Bytes};

/// Bytes read at once. The look-ups of one function touch a few places that lie close together.
const PAGE_BYTES: u64 = 4096;
/// Pages held: 16 MiB. The tables of a program of 100,000 functions have 40 to 60 MB, of which the
/// functions of one profile need a small part. When it is full, all pages are let go: a walk over
/// the whole table does not come back to them.
const MAX_PAGES: usize = 4096;
/// Bytes of a string: longer ones are cut. Names of generic functions reach a few hundred.
const MAX_STRING_BYTES: u64 = 8192;

const OUTSIDE: BinaryError = BinaryError::Malformed("Go's function table points outside itself");

/// Positioned reads of little-endian numbers and strings in a part of a file.
#[derive(Debug)]
pub(super) struct Pages<'a> {
    bytes: Bytes<'a>,
    /// The offset behind the last byte of the file.
    end: u64,
    held: BTreeMap<u64, Arc<[u8]>>,
    /// The page of the last read: most reads follow each other.
    last: (u64, Arc<[u8]>),
}

impl<'a> Pages<'a> {
    /// Of a whole file.
    pub(super) fn new(bytes: Bytes<'a>) -> Result<Self, BinaryError> {
        let end = bytes.size()?;
        Ok(Self { bytes, end, held: BTreeMap::new(), last: (u64::MAX, Arc::from([])) })
    }

    /// The byte at an offset in the file.
    pub(super) fn u8(&mut self, at: u64) -> Result<u8, BinaryError> {
        self.page(at / PAGE_BYTES)?;
        self.last.1.get((at % PAGE_BYTES) as usize).copied().ok_or(OUTSIDE)
    }

    /// The number at an offset in the file.
    pub(super) fn u32(&mut self, at: u64) -> Result<u32, BinaryError> {
        self.number(at).map(u32::from_le_bytes)
    }

    /// The number at an offset in the file.
    pub(super) fn u64(&mut self, at: u64) -> Result<u64, BinaryError> {
        self.number(at).map(u64::from_le_bytes)
    }

    /// The text from `at` to the next NUL, before `end`; cut at a bound.
    pub(super) fn text(&mut self, at: u64, end: u64) -> Result<String, BinaryError> {
        let end = end.min(at.saturating_add(MAX_STRING_BYTES));
        let mut text = Vec::new();
        let mut at = at;
        while at < end {
            self.page(at / PAGE_BYTES)?;
            let from = (at % PAGE_BYTES) as usize;
            let rest = self.last.1.get(from..).filter(|rest| !rest.is_empty()).ok_or(OUTSIDE)?;
            let rest = &rest[..rest.len().min((end - at) as usize)];
            if let Some(len) = rest.iter().position(|&byte| byte == 0) {
                text.extend_from_slice(&rest[..len]);
                break;
            }
            text.extend_from_slice(rest);
            at += rest.len() as u64;
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    fn number<const BYTES: usize>(&mut self, at: u64) -> Result<[u8; BYTES], BinaryError> {
        self.page(at / PAGE_BYTES)?;
        let from = (at % PAGE_BYTES) as usize;
        if let Some(number) = self.last.1.get(from..).and_then(|rest| rest.first_chunk()) {
            return Ok(*number);
        }
        // It lies across two pages, or behind the end.
        let mut number = [0; BYTES];
        for (step, byte) in number.iter_mut().enumerate() {
            *byte = self.u8(at.checked_add(step as u64).ok_or(OUTSIDE)?)?;
        }
        Ok(number)
    }

    /// Makes a page the last one.
    fn page(&mut self, number: u64) -> Result<(), BinaryError> {
        if self.last.0 == number {
            return Ok(());
        }
        if let Some(page) = self.held.get(&number) {
            self.last = (number, Arc::clone(page));
            return Ok(());
        }
        // Offsets come from the file: `number` is at most u64::MAX / PAGE_BYTES.
        let start = number * PAGE_BYTES;
        let len = self.end.saturating_sub(start).min(PAGE_BYTES);
        if len == 0 {
            return Err(OUTSIDE);
        }
        let page: Arc<[u8]> = self.bytes.read(start, len as usize)?.into();
        if self.held.len() >= MAX_PAGES {
            self.held.clear();
        }
        self.held.insert(number, Arc::clone(&page));
        self.last = (number, page);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_text_across_pages() {
        let mut bytes: Vec<u8> = (0..3 * PAGE_BYTES).map(|at| (at % 251 + 1) as u8).collect();
        bytes[5000] = 0;
        let mut pages = Pages::new(Bytes::Memory(&bytes)).unwrap();
        for at in [0, 7, PAGE_BYTES - 1, PAGE_BYTES - 7, 2 * PAGE_BYTES - 3, 3 * PAGE_BYTES - 8] {
            let expected = bytes[at as usize..].first_chunk().unwrap();
            assert_eq!(pages.u64(at).unwrap(), u64::from_le_bytes(*expected));
        }
        assert_eq!(pages.text(4000, u64::MAX).unwrap().len(), {
            String::from_utf8_lossy(&bytes[4000..5000]).len()
        });
        assert_eq!(pages.text(10, 12).unwrap().as_bytes(), &bytes[10..12]);
        for outside in [3 * PAGE_BYTES - 3, 3 * PAGE_BYTES, u64::MAX - 3, u64::MAX] {
            assert!(pages.u32(outside).is_err(), "{outside}");
        }
    }

    #[test]
    fn what_is_held_is_bounded() {
        let bytes = vec![1; (MAX_PAGES + 10) * PAGE_BYTES as usize];
        let mut pages = Pages::new(Bytes::Memory(&bytes)).unwrap();
        for page in 0..(MAX_PAGES + 10) as u64 {
            pages.u8(page * PAGE_BYTES).unwrap();
        }
        assert!(pages.held.len() <= MAX_PAGES);
    }
}
