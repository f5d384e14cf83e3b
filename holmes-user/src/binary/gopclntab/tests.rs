//! Tables as each layout has them, made by hand, and tables that lie. What real programs say is
//! compared with their own runtime in `tests/integration/go_names.rs`.

use proptest::prelude::*;

use super::*;

/// Where the text is linked, and where the file has it.
const TEXT: u64 = 0x40_1000;
/// Where the table is in the file.
const TABLE: usize = 0x2000;
/// Where the description of the program is.
const MODULE: usize = 0x3000;
const SIZE: usize = 0x4000;

fn put(bytes: &mut [u8], at: usize, values: &[u64], width: usize) {
    for (index, value) in values.iter().enumerate() {
        let at = at + index * width;
        bytes[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
    }
}

/// A file with a segment of code, one of data, and no sections: the table is searched for.
fn elf_file() -> Vec<u8> {
    let mut bytes = vec![0; SIZE];
    bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
    put(&mut bytes, 32, &[64], 8);
    put(&mut bytes, 54, &[56, 2], 2);
    for (index, (flags, offset, len)) in
        [(5, 0x1000, 0x1000), (6, 0x2000, 0x2000)].iter().enumerate()
    {
        let at = 64 + 56 * index;
        put(&mut bytes, at, &[1, *flags], 4);
        put(&mut bytes, at + 8, &[*offset, 0x40_0000 + offset, 0, *len, *len], 8);
    }
    bytes
}

/// Two functions: `main.outer` of 32 bytes, with a call of `main.inner` inlined in its second half,
/// and `main.last[int]` of 16.
fn file(version: Version) -> Vec<u8> {
    let mut bytes = elf_file();
    let magic = match version {
        Version::Go12 => 0xffff_fffb,
        Version::Go116 => 0xffff_fffa,
        Version::Go118 => 0xffff_fff0,
        Version::Go120 => 0xffff_fff1_u64,
    };
    put(&mut bytes, TABLE, &[magic], 4);
    bytes[TABLE + 6..TABLE + 8].copy_from_slice(&[1, 8]);
    // Parts, as offsets from the header.
    let (names, units, files, values, sorted) = (0x100, 0x180, 0x200, 0x280, 0x300);
    let words: &[u64] = match version {
        Version::Go12 => &[2],
        Version::Go116 => &[2, 1, names, units, files, values, sorted],
        _ => &[2, 1, 0, names, units, files, values, sorted],
    };
    put(&mut bytes, TABLE + 8, words, 8);
    let text = |bytes: &mut Vec<u8>, at: u64, text: &[u8]| {
        bytes[TABLE + at as usize..][..text.len()].copy_from_slice(text);
    };
    text(&mut bytes, names, b"\0main.outer\0main.inner\0main.last[int]\0");
    text(&mut bytes, files, b"/a.go\0");
    // Values: (change, zigzag; length). One file, which the first layout counts from 1; lines 10 and 20; nothing inlined, then call 0;
    // the stack pointer at 0, 16 and 0.
    let file = if version == Version::Go12 { 4 } else { 2 };
    text(&mut bytes, values, &[0, file, 32, 0]);
    text(&mut bytes, values + 8, &[22, 16, 20, 16, 0]);
    text(&mut bytes, values + 16, &[0, 16, 2, 16, 0]);
    text(&mut bytes, values + 24, &[2, 4, 32, 24, 31, 4, 0]);
    let old = version == Version::Go12;
    // Before Go 1.16 all offsets are from the header.
    let (name, value) = if old { (names, values) } else { (0, 0) };
    let wide = version < Version::Go118;
    let (width, first) = if wide { (8, TEXT) } else { (4, 0) };
    let array = TABLE + if old { 16 } else { sorted as usize };
    let base = if old { 0 } else { sorted };
    let records = [0x340, 0x3a0_u64];
    let entries = [first, records[0] - base, first + 32, records[1] - base, first + 48];
    put(&mut bytes, array, &entries, width);
    if old {
        // File names: their number, then their offsets.
        put(&mut bytes, array + 5 * 8, &[units], 4);
        put(&mut bytes, TABLE + units as usize, &[1, files], 4);
    }
    for (record, entry, own) in [(records[0], first, 1), (records[1], first + 32, 23)] {
        let at = TABLE + record as usize;
        put(&mut bytes, at, &[entry], width);
        let mut fields = vec![name + own, 0, 0, value + 24, value + 1, value + 8, 3];
        if !old {
            fields.push(0);
        }
        if version == Version::Go120 {
            fields.push(1);
        }
        // Flags, and the number of data; the second function is the outermost of its stack.
        let top = u64::from(record == records[1] && !old) << 8;
        fields.push(top | 4 << 24);
        // Tables: none, none, what is inlined. Data: none but the tree.
        let none = u64::from(u32::MAX);
        fields.extend([0, 0, if record == records[0] { value + 16 } else { 0 }]);
        fields.extend([none, none, none, 0x40]);
        put(&mut bytes, at + width, &fields, 4);
    }
    // An unused file number stands before the first.
    if !old {
        put(&mut bytes, TABLE + units as usize, &[0], 4);
    }
    put(&mut bytes, MODULE, &[0x40_2000], 8);
    put(&mut bytes, MODULE + 20 * 8, &[TEXT, TEXT + 48, TEXT, TEXT + 48], 8);
    let data = if version == Version::Go120 { 40 } else { 38 };
    put(&mut bytes, MODULE + data * 8, &[0x40_3800], 8);
    // The call of `main.inner`, made at offset 4.
    let call: &[u64] = match version {
        Version::Go118 => &[0, 0, 0, 12, 4],
        _ => &[0, 12, 4, 1],
    };
    put(&mut bytes, 0x3840, call, 4);
    bytes
}

fn table(bytes: &[u8]) -> Result<Option<GoTable<'_>>, BinaryError> {
    let bytes = Bytes::Memory(bytes);
    GoTable::find(bytes, &Elf::read(bytes)?)
}

/// Everything that can be asked.
fn ask_all(bytes: &[u8]) {
    let Ok(Some(mut table)) = table(bytes) else { return };
    for address in (TEXT - 8..TEXT + 64).step_by(4).chain([0, u64::MAX]) {
        if let Ok(Some(function)) = table.function_at(address) {
            // Either answer is right; coming back is the point.
            let _ = table.lines(&function, address);
        }
    }
    let _ = table.frame_rows(1000, |_| ());
}

/// Found by fuzzing: going to the next multiple of eight from there was an overflow.
#[test]
fn a_segment_at_the_end_of_all_offsets_does_no_harm() {
    let mut bytes = file(Version::Go120);
    let code = 64 + 8;
    put(&mut bytes, code, &[u64::MAX - 3, TEXT, 0, 1], 8);
    // Not executable, so that it is searched.
    put(&mut bytes, 64 + 4, &[4], 4);
    ask_all(&bytes);
    assert!(table(&bytes).is_err(), "the table is found, and its text is no code");
}

#[test]
fn each_layout_is_read() {
    for version in [Version::Go12, Version::Go116, Version::Go118, Version::Go120] {
        let bytes = file(version);
        let mut table = table(&bytes).unwrap().unwrap();
        let function = table.function_at(TEXT + 20).unwrap().unwrap();
        assert_eq!((function.entry, function.end), (TEXT, TEXT + 32), "{version:?}");
        let lines = table.lines(&function, TEXT + 20).unwrap();
        let lines: Vec<_> =
            lines.iter().map(|line| (&*line.function, &*line.file, line.line)).collect();
        if version >= Version::Go118 {
            let inlined = [("main.inner", "/a.go", 20), ("main.outer", "/a.go", 10)];
            assert_eq!(lines, inlined, "{version:?}");
        } else {
            assert_eq!(lines, [("main.outer", "/a.go", 20)], "{version:?}");
        }
        let last = table.function_at(TEXT + 47).unwrap().unwrap();
        assert_eq!(table.name(&last).unwrap(), "main.last[...]");
        assert_eq!(last.is_top, version != Version::Go12);
        assert_eq!(table.function_at(TEXT + 48).unwrap(), None);
        assert_eq!(table.function_at(TEXT - 1).unwrap(), None);
    }
}

/// Go 1.27's description has three more fields before the one that says where the calls are.
#[test]
fn calls_are_found_where_go_1_27_says() {
    let mut bytes = file(Version::Go120);
    put(&mut bytes, MODULE + 37 * 8, &[0x40_2800, 0x100, 0x40_2900, 0x80, 0x40], 8);
    put(&mut bytes, MODULE + 42 * 8, &[0x40_2000, 0x40_3800], 8);
    let mut table = table(&bytes).unwrap().unwrap();
    let function = table.function_at(TEXT + 20).unwrap().unwrap();
    let lines = table.lines(&function, TEXT + 20).unwrap();
    let names: Vec<&str> = lines.iter().map(|line| &*line.function).collect();
    assert_eq!(names, ["main.inner", "main.outer"]);
}

#[test]
fn rows_follow_the_stack_pointer_and_stop_at_the_outermost() {
    let bytes = file(Version::Go120);
    let mut rows = Vec::new();
    let mut table = table(&bytes).unwrap().unwrap();
    let counts = table.frame_rows(1000, |row| rows.push((row.address - TEXT, row.rule))).unwrap();
    let sp = |cfa, saves_frame_pointer| FrameRule::StackPointer { cfa, saves_frame_pointer };
    assert_eq!(
        rows,
        [
            (0, sp(8, false)),
            (4, sp(24, true)),
            (28, sp(8, false)),
            (32, FrameRule::Stop),
            (48, FrameRule::Outside)
        ]
    );
    assert_eq!(counts, FrameCounts { rows: 5, malformed: 0, left_out: 0 });
    rows.clear();
    let counts = table.frame_rows(4, |row| rows.push((row.address - TEXT, row.rule))).unwrap();
    assert_eq!((counts.rows, counts.left_out), (rows.len(), 1));
    assert_eq!(rows.last(), Some(&(32, FrameRule::Outside)));
}

#[test]
fn a_description_of_another_program_is_not_used() {
    let bytes = file(Version::Go120);
    for (field, value) in [(0, 0x40_2008), (20, TEXT + 1), (21, TEXT + 49), (22, TEXT + 1)] {
        let mut bytes = bytes.clone();
        put(&mut bytes, MODULE + field * 8, &[value], 8);
        assert!(table(&bytes).is_err(), "{field}");
    }
}

#[test]
fn calls_inlined_into_each_other_without_end_are_cut() {
    let mut bytes = file(Version::Go120);
    // It was made where it is inlined itself.
    put(&mut bytes, 0x3840 + 8, &[20], 4);
    let mut table = table(&bytes).unwrap().unwrap();
    let function = table.function_at(TEXT + 20).unwrap().unwrap();
    let lines = table.lines(&function, TEXT + 20).unwrap();
    assert!(lines.len() < 100);
    assert_eq!(lines.last().unwrap().function, "main.outer");
}

#[test]
fn a_table_of_values_without_end_is_given_up() {
    let mut bytes = file(Version::Go120);
    // Steps of length 0, in all the rest of the file.
    bytes.extend([2, 0].repeat(4 << 20));
    let len = bytes.len() as u64;
    put(&mut bytes, 64 + 56 + 8 + 24, &[len - 0x2000], 8);
    put(&mut bytes, TABLE + 0x340 + 4 + 20, &[SIZE as u64 - TABLE as u64 - 0x280], 4);
    let mut table = table(&bytes).unwrap().unwrap();
    let function = table.function_at(TEXT + 4).unwrap().unwrap();
    assert_eq!(table.lines(&function, TEXT + 4).unwrap()[0].line, 0);
    assert!((1 << 18..1 << 20).contains(&table.steps), "{} steps", table.steps);
}

proptest! {
    #[test]
    fn lies_do_no_harm(
        version in 0..4usize,
        changes in proptest::collection::vec(
            (prop_oneof![0..0x100usize, TABLE..TABLE + 0x420, MODULE..SIZE], any::<u8>()), 1..20),
        len in prop_oneof![Just(SIZE), 0..SIZE],
    ) {
        let versions = [Version::Go12, Version::Go116, Version::Go118, Version::Go120];
        let mut bytes = file(versions[version]);
        for (at, value) in changes {
            bytes[at] = value;
        }
        bytes.truncate(len);
        ask_all(&bytes);
    }
}
