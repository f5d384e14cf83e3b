//! The tables of real files say what gimli says, and broken files do no harm.

use std::fs::File;
use std::time::Instant;

use gimli::{
    BaseAddresses, CfaRule, CieOrFde, EhFrame, LittleEndian, Register, RegisterRule, UnwindContext,
    UnwindSection,
};
use holmes_common::unwind::{BpKind, CfaKind};
use proptest::prelude::*;

use super::*;
use crate::binary::vdso;

/// A pc for each function and as many between; the next number of a xorshift.
fn next(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

fn table_of(bytes: Bytes<'_>) -> Table {
    match compile(bytes, Limits::default()).outcome {
        Outcome::Table(table) => table,
        Outcome::None(reason) => panic!("{reason:?}"),
    }
}

/// Compares each function's table with what gimli's own lookup says at its first and last address
/// and at random ones between; returns how many places were compared.
fn compare(bytes: Bytes<'_>, table: &Table, mut seed: u64) -> usize {
    println!("seed {seed}");
    let elf = Elf::read(bytes).unwrap();
    let found = frames::section(bytes, &elf).unwrap();
    assert!(!found.is_debug_frame);
    let address = |name: &str| elf.section(name).map_or(0, |section| section.address);
    let bases = BaseAddresses::default()
        .set_eh_frame(address(".eh_frame"))
        .set_text(address(".text"))
        .set_got(address(".got"));
    let section = EhFrame::new(&found.data, LittleEndian);
    let mut context = UnwindContext::new();
    let mut entries = section.entries(&bases);
    let mut compared = 0;
    while let Some(entry) = entries.next().unwrap() {
        let CieOrFde::Fde(partial) = entry else { continue };
        let frame = partial.parse(EhFrame::cie_from_offset).unwrap();
        let (begin, end) = (frame.initial_address(), frame.end_address());
        if begin == 0 || end <= begin {
            continue;
        }
        for pc in [begin, end - 1, begin + next(&mut seed) % (end - begin)] {
            let row = table.find(pc).unwrap_or_else(|| panic!("nothing at {pc:#x}"));
            if frame.is_signal_trampoline() {
                assert_eq!(row.cfa_kind, CfaKind::Signal as u8);
                continue;
            }
            let said = frame.unwind_info_for_address(&section, &bases, &mut context, pc).unwrap();
            agrees(pc, row, said, &section);
            compared += 1;
        }
    }
    compared
}

fn agrees(
    pc: u64,
    row: Row,
    said: &gimli::UnwindTableRow<usize>,
    section: &EhFrame<frames::Reader<'_>>,
) {
    let bp = said.register(Register(6));
    let ra = said.register(Register(16));
    let is = |kind: CfaKind| row.cfa_kind == kind as u8;
    let context = || format!("at {pc:#x}: {row:?}, gimli: {said:?}");
    if is(CfaKind::Stop) {
        assert_eq!(ra, Some(RegisterRule::Undefined), "{}", context());
        return;
    }
    assert_ne!(ra, Some(RegisterRule::Undefined), "{}", context());
    if is(CfaKind::Unsupported) {
        let other = !matches!(ra, Some(RegisterRule::Offset(-8)));
        let register = matches!(said.cfa(), CfaRule::RegisterAndOffset { register, offset }
            if (![6, 7].contains(&register.0) && !(0..8 << 12).contains(offset))
                || u16::try_from(*offset / 8).is_err());
        let expression = matches!(said.cfa(), CfaRule::Expression(_));
        assert!(other || register || expression, "{}", context());
        return;
    }
    assert_eq!(ra, Some(RegisterRule::Offset(-8)), "{}", context());
    match said.cfa() {
        CfaRule::RegisterAndOffset { register, offset } => {
            let (kind, units) = match register.0 {
                7 => (CfaKind::StackPointer, row.cfa_offset),
                6 => (CfaKind::BasePointer, row.cfa_offset),
                other => {
                    assert_eq!(row.cfa_offset & 15, other, "{}", context());
                    (CfaKind::LeafRegister, row.cfa_offset >> 4)
                }
            };
            assert!(is(kind) && i64::from(units) * 8 == *offset, "{}", context());
        }
        CfaRule::Expression(expression) => {
            // gimli's own decoding of the operations, against ours of the bytes.
            let mut operations = expression.get(section).unwrap().operations(gimli::Encoding {
                address_size: 8,
                format: gimli::Format::Dwarf32,
                version: 4,
            });
            let Ok(Some(gimli::Operation::RegisterOffset { register, offset, .. })) =
                operations.next()
            else {
                panic!("{}", context())
            };
            let second = operations.next().unwrap().unwrap();
            if matches!(second, gimli::Operation::Deref { .. }) {
                assert_eq!(i64::from(row.cfa_offset as i16), offset, "{}", context());
                let kinds = if register.0 == 7 {
                    [CfaKind::DerefStackPointer, CfaKind::DerefStackPointerPlus8]
                } else {
                    [CfaKind::DerefBasePointer; 2]
                };
                assert!(kinds.into_iter().any(is), "{}", context());
            } else {
                assert!(is(CfaKind::Plt) && (register.0, offset) == (7, 8), "{}", context());
            }
        }
    }
    let kind = match bp {
        None | Some(RegisterRule::SameValue) => BpKind::Same,
        Some(RegisterRule::Offset(offset)) => {
            assert_eq!(i64::from(row.bp_offset), offset, "{}", context());
            BpKind::AtCfa
        }
        Some(RegisterRule::Expression(_)) if row.bp_kind != BpKind::Lost as u8 => {
            BpKind::AtBasePointer
        }
        _ => BpKind::Lost,
    };
    assert_eq!(row.bp_kind, kind as u8, "{}", context());
}

fn check_file(path: &str) -> Table {
    let file = File::open(path).unwrap();
    let size = Elf::read(Bytes::File(&file)).unwrap().section(".eh_frame").unwrap().size;
    let began = Instant::now();
    let table = table_of(Bytes::File(&file));
    let ms = began.elapsed().as_secs_f64() * 1e3;
    let per_mib = ms / (size as f64 / f64::from(1 << 20));
    let (rows, pages) = (table.rows.len(), table.pages.len());
    println!(
        "{path}: {rows} rows, {pages} pages, {size} bytes, {ms:.0} ms, {per_mib:.0} ms per MiB"
    );
    check_form(&table, Limits::default());
    let compared = compare(Bytes::File(&file), &table, 0x2545_f491_4f6c_dd1d ^ size);
    println!("{compared} places compared");
    assert!(compared > 0);
    table
}

/// What every table promises, whatever it was made of.
fn check_form(table: &Table, limits: Limits) {
    assert!(table.rows.len() <= limits.rows as usize);
    assert!(table.pages.len() <= limits.pages as usize);
    let mut rows = 0;
    for page in &table.pages {
        assert_eq!(page.first_row, rows, "pages follow each other");
        rows += page.rows;
        let rows = &table.rows[page.first_row as usize..rows as usize];
        assert!(rows.first().is_none_or(|row| row.pc_low == 0));
        for pair in rows.windows(2) {
            assert!(pair[0].pc_low < pair[1].pc_low, "{pair:?}");
            assert_ne!(Row { pc_low: 0, ..pair[0] }, Row { pc_low: 0, ..pair[1] }, "not merged");
        }
    }
    assert_eq!(rows as usize, table.rows.len());
}

fn mapped(name: &str) -> String {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let line = maps.lines().find(|line| line.contains(name)).unwrap();
    line[line.find('/').unwrap()..].to_owned()
}

#[test]
fn the_c_library_as_gimli_reads_it() {
    let table = check_file(&mapped("/libc.so"));
    let kinds: Vec<u8> = table.rows.iter().map(|row| row.cfa_kind).collect();
    // Its signal trampoline, its linkage table, and where its threads start.
    for kind in [CfaKind::Signal, CfaKind::Plt, CfaKind::Stop] {
        assert!(kinds.contains(&(kind as u8)), "{kind:?}");
    }
    let unsupported = kinds.iter().filter(|kind| **kind == CfaKind::Unsupported as u8).count();
    println!("{unsupported} unsupported");
    assert!(unsupported * 100 < kinds.len());
}

#[test]
fn the_dynamic_loader_as_gimli_reads_it() {
    check_file(&mapped("/ld-linux"));
}

#[test]
fn this_program_as_gimli_reads_it() {
    let table = check_file("/proc/self/exe");
    let file = File::open("/proc/self/exe").unwrap();
    // `e_entry`: the first function, which nothing calls.
    let header = Bytes::File(&file).read(24, 8).unwrap();
    let entry = u64::from_le_bytes(header.try_into().unwrap());
    assert_eq!(table.find(entry).unwrap().cfa_kind, CfaKind::Stop as u8);
}

#[test]
fn the_vdso_has_a_table() {
    let vdso = vdso().unwrap();
    let table = table_of(Bytes::Memory(&vdso));
    assert!(compare(Bytes::Memory(&vdso), &table, 1) > 0);
}

/// The rules, by their first addresses, of a section with one shared description of `padding` more
/// bytes than it needs, and frames of 16 bytes of code each that say this.
fn evaluated(padding: usize, instructions: &[&[u8]]) -> Result<Vec<(u64, u8)>, NoTable> {
    let entry = |body: &[u8]| [&(body.len() as u32).to_le_bytes()[..], body].concat();
    // Version 1, "zR", factors 1 and -8, return address 16, absolute pointers; CFA = rsp + 8, the
    // return address is at CFA - 8.
    let shared = [0, 0, 0, 0, 1, b'z', b'R', 0, 1, 0x78, 16, 1, 0, 0x0c, 7, 8, 0x90, 1];
    let mut data = entry(&[&shared[..], &vec![0; padding]].concat());
    for (index, instructions) in instructions.iter().enumerate() {
        let to_shared = (data.len() as u32 + 4).to_le_bytes();
        let begin = 0x1000 + 16 * index as u64;
        let range = [begin.to_le_bytes(), 16_u64.to_le_bytes()].concat();
        data.extend(entry(&[&to_shared[..], &range, &[0], instructions].concat()));
    }
    let part = Part { offset: 0, address: 0x1000, size: 1 << 30, executable: true };
    let layout = Layout { parts: vec![part] };
    let section = EhFrame::new(&data, LittleEndian);
    let bases = BaseAddresses::default();
    let mut frames =
        Frames::index(section, &data, &bases, rules::Machine::X86_64, &layout, 1 << 20)?;
    let mut rules = Vec::new();
    for entry in std::mem::take(&mut frames.entries) {
        let Kind::Frame { offset } = entry.kind else { panic!("{entry:?}") };
        frames.rows(offset, |address, row| {
            rules.push((address, row.cfa_kind));
            Ok(())
        })?;
    }
    Ok(rules)
}

#[test]
fn from_where_a_frame_makes_no_sense_it_is_unsupported() {
    let (sp, unsupported) = (CfaKind::StackPointer as u8, CfaKind::Unsupported as u8);
    // Four bytes further: restore a state that was never remembered. The next frame is none the
    // worse for it.
    let rules = evaluated(0, &[&[0x44, 0x0b], &[0]]).unwrap();
    assert_eq!(rules, [(0x1000, sp), (0x1000, unsupported), (0x1010, sp)]);
}

#[test]
fn a_description_as_long_as_the_file_is_not_evaluated_for_each_frame() {
    let frames = vec![&[0_u8][..]; 100];
    assert_eq!(evaluated(1 << 10, &frames).unwrap().len(), 100);
    // A mebibyte is allowed here, and each would cost 64 KiB.
    assert!(matches!(evaluated(1 << 16, &frames), Err(NoTable::TooLarge(_))));
}

/// A file with `.eh_frame`, not too large to be changed often.
fn small_file() -> Vec<u8> {
    std::fs::read(mapped("/ld-linux")).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn broken_files_do_no_harm(
        changes in proptest::collection::vec((any::<u32>(), any::<u8>(), 0..4_u8), 1..60),
        cut in any::<u32>(),
    ) {
        let mut bytes = small_file();
        let elf = Elf::read(Bytes::Memory(&bytes)).unwrap();
        let section = elf.section(".eh_frame").unwrap().clone();
        let len = bytes.len();
        for (at, value, place) in changes {
            // Most changes where they matter: the frames, then the headers at both ends.
            let (from, size) = match place {
                0 | 1 => (section.offset as usize, section.size as usize),
                2 => (0, 1024),
                _ => (len - 4096, 4096),
            };
            bytes[from + at as usize % size] = value;
        }
        let limits = Limits { rows: 3000, pages: 8 };
        for bytes in [&bytes[..], &bytes[..cut as usize % len]] {
            if let Outcome::Table(table) = compile(Bytes::Memory(bytes), limits).outcome {
                check_form(&table, limits);
            }
        }
    }

    #[test]
    fn broken_frames_do_no_harm(noise in proptest::collection::vec(any::<u8>(), 0..4000)) {
        let mut bytes = small_file();
        let elf = Elf::read(Bytes::Memory(&bytes)).unwrap();
        // The header of the first shared description stays, or nothing would be read at all.
        let from = elf.section(".eh_frame").unwrap().offset as usize + 24;
        bytes[from..from + noise.len()].copy_from_slice(&noise);
        let limits = Limits { rows: 3000, pages: 8 };
        if let Outcome::Table(table) = compile(Bytes::Memory(&bytes), limits).outcome {
            check_form(&table, limits);
        }
    }
}

/// Not part of every run: it reads what happens to be installed. For figures.
#[test]
#[ignore = "needs files named in HOLMES_TABLE_FILES, separated by colons"]
fn named_files_as_gimli_reads_them() {
    for path in std::env::var("HOLMES_TABLE_FILES").unwrap().split(':') {
        let file = File::open(path).unwrap();
        if Elf::read(Bytes::File(&file)).unwrap().section(".eh_frame").is_some() {
            check_file(path);
            continue;
        }
        let began = Instant::now();
        let table = table_of(Bytes::File(&file));
        println!("{path}: no frames, {:?}, {:?}", table, began.elapsed());
    }
}
