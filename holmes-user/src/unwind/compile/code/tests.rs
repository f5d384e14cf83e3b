//! What the code of real files says agrees with what their frames say, and no bytes do harm.

use std::fs::File;

use holmes_common::unwind::{BpKind, CfaKind, Row};
use proptest::prelude::*;

use super::super::{Layout, Limits, Outcome, compile};
use super::*;
use crate::binary::{Bytes, Elf};

const BEGIN: u64 = 0x40_1000;

/// The rules of code that begins with a function, in words: from where on, and what.
fn rules(program: u64, code: &[u8]) -> Vec<(u64, String)> {
    let regions = [Region { begin: BEGIN, code: code.to_vec() }];
    let mut code = Code::new(&regions, program, 100_000);
    code.add_start(BEGIN);
    code.explore();
    let mut found = Vec::new();
    code.rules(|begin, end, row| {
        assert!(begin < end);
        found.push((begin - BEGIN, words(row)));
    });
    found
}

fn words(row: Row) -> String {
    let is = |kind: CfaKind| row.cfa_kind == kind as u8;
    let units = row.cfa_offset;
    let cfa = match () {
        () if is(CfaKind::StackPointer) => format!("rsp+{}", 8 * units),
        () if is(CfaKind::BasePointer) => format!("rbp+{}", 8 * units),
        () if is(CfaKind::Stop) => return "stop".to_owned(),
        () if is(CfaKind::Unsupported) => return "unsupported".to_owned(),
        () if is(CfaKind::FramePointer) => return "gap".to_owned(),
        () => panic!("{row:?}"),
    };
    match row.bp_kind {
        kind if kind == BpKind::Same as u8 => cfa,
        kind if kind == BpKind::AtCfa as u8 => format!("{cfa} bp {}", row.bp_offset),
        _ => format!("{cfa} bp lost"),
    }
}

fn expect(code: &[u8], expected: &[(u64, &str)]) {
    let found = rules(0, code);
    let found: Vec<_> = found.iter().map(|(at, row)| (*at, row.as_str())).collect();
    assert_eq!(found, expected, "{code:x?}");
}

#[test]
fn what_instructions_do_to_a_frame() {
    // push %rbp; push %rbx; sub $16,%rsp; mov %edi,%ebp; add $16,%rsp; pop %rbx; pop %rbp; ret
    let pushes = [0x55, 0x53, 0x48, 0x83, 0xec, 16, 0x89, 0xfd, 0x48, 0x83, 0xc4, 16, 0x5b, 0x5d];
    expect(
        &[&pushes[..], &[0xc3]].concat(),
        &[
            (0, "rsp+8"),
            (1, "rsp+16"),
            (2, "rsp+24"),
            (6, "rsp+40"),
            (8, "rsp+40 bp -16"),
            (12, "rsp+24 bp -16"),
            (13, "rsp+16 bp -16"),
            (14, "rsp+8"),
        ],
    );
    // push %rbp; mov %rsp,%rbp; sub %rax,%rsp; leave; ret
    expect(
        &[0x55, 0x48, 0x89, 0xe5, 0x48, 0x29, 0xc4, 0xc9, 0xc3],
        &[(0, "rsp+8"), (1, "rsp+16"), (4, "rbp+16 bp -16"), (8, "rsp+8")],
    );
    // push %rbp; lea 8(%rsp),%rbp; and $-64,%rsp; lea -8(%rbp),%rsp; pop %rbp; ret
    let aligns = [0x55, 0x48, 0x8d, 0x6c, 0x24, 8, 0x48, 0x83, 0xe4, 0xc0];
    expect(
        &[&aligns[..], &[0x48, 0x8d, 0x65, 0xf8, 0x5d, 0xc3]].concat(),
        &[
            (0, "rsp+8"),
            (1, "rsp+16"),
            (6, "rsp+16 bp -16"),
            (10, "rbp+8 bp -16"),
            (14, "rsp+16 bp -16"),
            (15, "rsp+8"),
        ],
    );
    // mov %rbp,-8(%rsp); sub $8,%rsp; xor %ebp,%ebp; mov (%rsp),%rbp; add $8,%rsp; ret
    let moves = [0x48, 0x89, 0x6c, 0x24, 0xf8, 0x48, 0x83, 0xec, 8, 0x31, 0xed];
    expect(
        &[&moves[..], &[0x48, 0x8b, 0x2c, 0x24, 0x48, 0x83, 0xc4, 8, 0xc3]].concat(),
        &[(0, "rsp+8"), (9, "rsp+16"), (11, "rsp+16 bp -16"), (15, "rsp+16"), (19, "rsp+8")],
    );
}

#[test]
fn what_is_not_known_is_not_guessed() {
    // and $-16,%rsp; hlt
    expect(&[0x48, 0x83, 0xe4, 0xf0, 0xf4], &[(0, "rsp+8"), (4, "unsupported")]);
    // mov 8(%rdi),%rbp; mov 16(%rdi),%rsp; jmp *(%rdi): longjmp
    let jump = [0x48, 0x8b, 0x6f, 8, 0x48, 0x8b, 0x67, 16, 0xff, 0x27];
    expect(&jump, &[(0, "rsp+8"), (4, "rsp+8 bp lost"), (8, "unsupported")]);
    // pop %rdx; push %rdx; ret: vfork keeps its return address in a register
    expect(&[0x5a, 0x52, 0xc3], &[(0, "rsp+8"), (1, "unsupported"), (2, "rsp+8")]);
    // push %rax; ret
    expect(&[0x50, 0xc3], &[(0, "gap")]);
    // test %edi,%edi; je 1f; push %rax; 1: ret: the ways contradict each other
    expect(&[0x85, 0xff, 0x74, 1, 0x50, 0xc3], &[(0, "gap")]);
    // An instruction that is none.
    expect(&[0x50, 0x06, 0x90, 0x90], &[(0, "gap")]);
}

#[test]
fn the_outermost_function_clears_its_frame_pointer() {
    // test %eax,%eax; jne 1f; xor %ebp,%ebp; pop %rdi; call *%r9; hlt; 1: ret: musl's __clone
    let clone = [0x85, 0xc0, 0x75, 7, 0x31, 0xed, 0x5f, 0x41, 0xff, 0xd1, 0xf4, 0xc3];
    expect(&clone, &[(0, "rsp+8"), (6, "stop"), (11, "rsp+8")]);
    // push %rbp; xor %ebp,%ebp; pop %rbp; ret: only a zero
    expect(
        &[0x55, 0x31, 0xed, 0x5d, 0xc3],
        &[(0, "rsp+8"), (1, "rsp+16"), (3, "rsp+16 bp -16"), (4, "rsp+8")],
    );
    // Where a program begins: and $-16,%rsp; call *%rax; hlt
    let program = rules(BEGIN, &[0x48, 0x83, 0xe4, 0xf0, 0xff, 0xd0, 0xf4]);
    assert_eq!(program, [(0, "stop".to_owned())]);
}

#[test]
fn what_nothing_leads_to_is_believed_if_it_returns_right() {
    // sub $8,%rsp; jmp *%rax, and two entries of its table: add $8,%rsp; ret, and hlt
    let table = [0x48, 0x83, 0xec, 8, 0xff, 0xe0, 0x48, 0x83, 0xc4, 8, 0xc3, 0xf4];
    expect(&table, &[(0, "rsp+8"), (4, "rsp+16"), (10, "rsp+8"), (11, "gap")]);
    // ret; then what nothing names: push %rax; pop %rcx; ret
    let function = [0xc3, 0x90, 0x50, 0x59, 0xc3];
    expect(&function, &[(0, "rsp+8"), (2, "rsp+8"), (3, "rsp+16"), (4, "rsp+8")]);
    // The same, that never returns: it may be anything.
    expect(&[0xc3, 0x90, 0x50, 0x59, 0xf4], &[(0, "rsp+8"), (1, "gap")]);
}

#[test]
fn another_calling_convention_is_left_alone() {
    // ret; then what nothing names: push %rax; pop %rcx; ret $8, as V8's own functions return
    expect(&[0xc3, 0x50, 0x59, 0xc2, 8, 0], &[]);
    // push %rbp; mov %rsp,%rbp; call *%rax; pop %rbp; ret: by rbp, whatever the call has popped
    let framed = [0x55, 0x48, 0x89, 0xe5, 0xff, 0xd0, 0x5d, 0xc3];
    let rules = [(0, "rsp+8"), (1, "rsp+16"), (4, "rbp+16 bp -16"), (7, "rsp+8")];
    expect(&framed, &rules);
}

#[test]
fn behind_a_call_that_does_not_return_is_something_else() {
    // push %rax; call 1f; then push %rax; pop %rcx; ret, and 1: hlt
    let endless = [0x50, 0xe8, 3, 0, 0, 0, 0x50, 0x59, 0xc3, 0xf4];
    let expected = [(0, "rsp+8"), (1, "rsp+16"), (6, "rsp+8"), (7, "rsp+16"), (8, "rsp+8")];
    expect(&endless, &expected);
    // push %rax; call elsewhere; padding; and at a multiple of 16 another function: ret. Or the rest
    // of this one: pop %rcx; ret.
    let call = [0x50, 0xe8, 0, 0, 0, 0x10, 0x0f, 0x1f, 0x80, 0, 0, 0, 0, 0x0f, 0x1f, 0];
    expect(&[&call[..], &[0xc3]].concat(), &[(0, "rsp+8"), (1, "rsp+16"), (16, "rsp+8")]);
    let same = [&call[..], &[0x59, 0xc3]].concat();
    expect(&same, &[(0, "rsp+8"), (1, "rsp+16"), (16, "rsp+16"), (17, "rsp+8")]);
}

/// Compares what a file's code says with its frames: bytes of code that frames describe, of how many
/// of them the code says something as well, and where that is something else.
fn compare(path: &str) -> (usize, usize, Vec<String>) {
    let file = File::open(path).unwrap();
    let bytes = Bytes::File(&file);
    let Outcome::Table(table) = compile(bytes, Limits::default()).outcome else { panic!("{path}") };
    let elf = Elf::read(bytes).unwrap();
    let layout = Layout::new(&elf, bytes).unwrap();
    let machine = Machine::of(&elf).unwrap();
    let known = Known { bytes, elf: &elf, layout: &layout, machine, limits: Limits::default() };
    let mut entries = Vec::new();
    add(&known, &mut entries);
    let is = |row: Row, kind: CfaKind| row.cfa_kind == kind as u8;
    let (mut described, mut told, mut differ) = (0, 0, Vec::new());
    for at in code(&known).into_iter().flat_map(|(from, to)| from..to) {
        let by_frame = table.find(at).filter(|row| !is(*row, CfaKind::FramePointer));
        let Some(by_frame) = by_frame else { continue };
        described += 1;
        let before = entries.partition_point(|entry| entry.begin <= at).checked_sub(1);
        let entry = before.map(|before| entries[before]).filter(|entry| at < entry.end);
        let Some(Entry { kind: Kind::Rule(row), .. }) = entry else { continue };
        if is(row, CfaKind::FramePointer) || is(row, CfaKind::Unsupported) {
            continue;
        }
        told += 1;
        // rbp is still, or again, the caller's where frames say where it is saved.
        let bp = [BpKind::Same as u8, BpKind::Lost as u8].contains(&row.bp_kind)
            || (row.bp_kind, row.bp_offset) == (by_frame.bp_kind, by_frame.bp_offset);
        let cfa = (row.cfa_kind, row.cfa_offset) == (by_frame.cfa_kind, by_frame.cfa_offset);
        if is(by_frame, CfaKind::StackPointer) && !(cfa && bp) {
            differ.push(format!("{at:#x}: {row:?}, {by_frame:?}"));
        }
    }
    println!("{path}: {described} described, {told} told, {} otherwise", differ.len());
    (described, told, differ)
}

fn mapped(name: &str) -> String {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let line = maps.lines().find(|line| line.contains(name)).unwrap();
    line[line.find('/').unwrap()..].to_owned()
}

#[test]
#[cfg(target_arch = "x86_64")]
fn code_and_frames_of_the_c_library_say_the_same() {
    let (described, told, differ) = compare(&mapped("/libc.so"));
    assert!(4 * told > 3 * described, "{told} of {described}");
    // Some of its assembly pushes what its frames leave out.
    assert!(1000 * differ.len() < told, "{differ:#?}");
}

/// Not part of every run: it reads what happens to be installed.
#[test]
#[ignore = "needs files named in HOLMES_TABLE_FILES, separated by colons"]
fn code_and_frames_of_named_files_say_the_same() {
    for path in std::env::var("HOLMES_TABLE_FILES").unwrap().split(':') {
        let (_, told, differ) = compare(path);
        for line in &differ {
            println!("{line}");
        }
        assert!(1000 * differ.len() <= told, "{path}");
    }
}

proptest! {
    #[test]
    fn no_bytes_do_harm(
        code in proptest::collection::vec(any::<u8>(), 1..2000),
        starts in proptest::collection::vec(0..2000_u64, 0..20),
        allowed in 0..20_000_u64,
    ) {
        let end = BEGIN + code.len() as u64;
        let regions = [Region { begin: BEGIN, code }];
        let mut code = Code::new(&regions, BEGIN, allowed);
        for start in starts {
            code.add_start(BEGIN + start);
        }
        code.explore();
        let mut covered = BEGIN;
        code.rules(|begin, until, _| {
            assert!(covered <= begin && begin < until && until <= end);
            covered = until;
        });
    }
}
