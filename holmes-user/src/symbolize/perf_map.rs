//! Names of addresses that a JIT compiler has written into a perf-map file.
//!
//! Format: `START SIZE NAME` on each line, both numbers hexadecimal, the name up to the line's end
//! (`tools/perf/Documentation/jit-interface.txt` of Linux). Compilers only ever append: where lines
//! overlap, the last one tells what is there now.
//!
//! Must not: keep the file's text: of each line that names an address only the name is kept.

use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::time::Instant;

use super::demangle::demangle;
use super::stats::Unnamed;

/// Bytes read of a file. A large JVM writes 5 MB; of longer files the end is read, which is newer.
const MAX_BYTES: u64 = 64 << 20;
/// Bytes of a line; what is longer is passed over.
const MAX_LINE: u64 = 16 << 10;
/// Bytes read at once.
const BUFFER: usize = 64 << 10;
/// Lines between two looks at the time. A line may cover all addresses of a cut.
const LINES_AT_ONCE: u32 = 256;

/// The name of each address, in the order of `addresses`, which must be sorted.
///
/// # Errors
/// [`Unnamed::Unreadable`], or [`Unnamed::OutOfTime`]: names from a part of the file could be those
/// of code that is gone.
pub(super) fn find(
    mut file: impl Read + Seek,
    addresses: &[u64],
    deadline: Instant,
) -> Result<Vec<Option<Arc<str>>>, Unnamed> {
    // In the middle of a file the first line is not whole.
    let mut in_line = begin(&mut file).map_err(|_| Unnamed::Unreadable)?;
    let mut reader = BufReader::with_capacity(BUFFER, file.take(MAX_BYTES));
    let mut names: Vec<Option<Arc<str>>> = vec![None; addresses.len()];
    let mut line = Vec::new();
    let mut until_look = 0;
    loop {
        if until_look == 0 {
            if Instant::now() >= deadline {
                return Err(Unnamed::OutOfTime);
            }
            until_look = LINES_AT_ONCE;
        }
        until_look -= 1;
        line.clear();
        let read = Read::take(&mut reader, MAX_LINE).read_until(b'\n', &mut line);
        if read.map_err(|_| Unnamed::Unreadable)? == 0 {
            return Ok(names);
        }
        let is_end = line.ends_with(b"\n");
        // The last line may be one that is just being written: without its end it is left out.
        if is_end
            && !in_line
            && let Some((start, end, name)) = parse(&line)
        {
            let first = addresses.partition_point(|&address| address < start);
            let last = addresses.partition_point(|&address| address < end);
            if let Some(named) = names.get_mut(first..last).filter(|named| !named.is_empty()) {
                named.fill(Some(demangle(&String::from_utf8_lossy(name)).into()));
            }
        }
        in_line = !is_end;
    }
}

/// Goes to where reading begins; whether something was left out.
fn begin(file: &mut impl Seek) -> io::Result<bool> {
    let left_out = file.seek(SeekFrom::End(0))?.saturating_sub(MAX_BYTES);
    file.seek(SeekFrom::Start(left_out))?;
    Ok(left_out > 0)
}

/// The first address, the one behind the last, and the name.
fn parse(line: &[u8]) -> Option<(u64, u64, &[u8])> {
    let mut fields = line.trim_ascii_end().splitn(3, |&byte| byte == b' ');
    let mut number = || {
        let digits = std::str::from_utf8(fields.next()?).ok()?;
        u64::from_str_radix(digits.strip_prefix("0x").unwrap_or(digits), 16).ok()
    };
    let (start, size) = (number()?, number()?);
    let name = fields.next()?.trim_ascii_start();
    (!name.is_empty()).then_some((start, start.checked_add(size)?, name))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(300)
    }

    fn names(text: &[u8], addresses: &[u64]) -> Vec<Option<String>> {
        let found = find(Cursor::new(text), addresses, later()).unwrap();
        found.into_iter().map(|name| name.map(|name| name.to_string())).collect()
    }

    #[test]
    fn the_last_line_for_an_address_names_it() {
        let text = b"\
1000 100 JS:*first /srv/a b.js:1:2
0x1100 0x10 java.util.HashMap::get
not a line
1080 8 py::inner:/srv/a.py
ffffffffffffff00 200 beyond
1200 0 nothing
1300 10 _RNvCs5EzU7Qr1Ab_4demo4spin
1400 10 \n1500 10 unfinished";
        let cases = [
            (0xfff, None),
            (0x1000, Some("JS:*first /srv/a b.js:1:2")),
            (0x107f, Some("JS:*first /srv/a b.js:1:2")),
            (0x1080, Some("py::inner:/srv/a.py")),
            (0x1087, Some("py::inner:/srv/a.py")),
            (0x1088, Some("JS:*first /srv/a b.js:1:2")),
            (0x1100, Some("java.util.HashMap::get")),
            (0x1110, None),
            (0x1200, None),
            (0x1300, Some("demo::spin")),
            (0x1400, None),
            (0x1500, None),
            (u64::MAX, None),
        ];
        let addresses: Vec<u64> = cases.iter().map(|&(address, _)| address).collect();
        let expected: Vec<_> = cases.iter().map(|(_, name)| name.map(str::to_owned)).collect();
        assert_eq!(names(text, &addresses), expected);
    }

    #[test]
    fn a_line_without_end_is_passed_over() {
        let mut text = b"1000 10 ".to_vec();
        text.resize(text.len() + 3 * MAX_LINE as usize, b'x');
        // Were it cut, this would begin a line of its own somewhere.
        text.extend(b"\n2000 10 f\n");
        assert_eq!(names(&text, &[0x1000, 0x2000]), [None, Some("f".to_owned())]);
    }

    #[test]
    fn of_a_long_file_the_end_is_read() {
        let mut text = b"1000 10 old\n".to_vec();
        let filling = b"5000 10 filling\n".repeat(MAX_BYTES as usize / 16);
        text.extend(filling);
        text.extend(b"1000 10 new\n3000 10 g\n");
        let deadline = later();
        let found = find(Cursor::new(text), &[0x1000, 0x3000], deadline).unwrap();
        assert_eq!(found, [Some("new".into()), Some("g".into())]);
    }

    #[test]
    fn no_names_of_a_part_are_given_when_the_time_is_up() {
        let found = find(Cursor::new(b"1000 10 f\n"), &[0x1000], Instant::now());
        assert_eq!(found, Err(Unnamed::OutOfTime));
    }

    proptest! {
        #[test]
        fn any_bytes_do_no_harm(
            text in "([0-9a-fx]{0,18} {0,2}){0,3}[ -~\n]{0,40}",
            addresses in proptest::collection::btree_set(any::<u64>(), 0..20),
        ) {
            let addresses: Vec<u64> = addresses.into_iter().collect();
            let found = find(Cursor::new(text.as_bytes()), &addresses, later()).unwrap();
            prop_assert_eq!(found.len(), addresses.len());
        }
    }
}
