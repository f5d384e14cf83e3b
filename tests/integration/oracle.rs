//! The second unwinder that live tests hold the probes' stacks against, on stacks whose callers are
//! known: what it says wrongly, a test of the probes would say of them.

use anyhow::{Context, ensure};
use holmes_tests::images;
use holmes_tests::oracle::{Oracle, Silence};
use holmes_tests::program::Program;
use holmes_tests::stack_copies::StackCopy;
use holmes_tests::workload::Workload;
use object::{Object, ObjectSection};

/// Bytes of an entry of the procedure linkage table; the first is the way to the dynamic linker.
const ENTRY: u64 = 16;

/// The offset in an entry from which on it has pushed its number.
const PUSHED: u64 = 11;

/// The stack of `ip`, whose stack pointer is at `SP`, with these words on it.
fn stack(ip: u64, words: &[u64]) -> StackCopy {
    const SP: u64 = 0x7fff_0000_1000;
    StackCopy {
        pid: 0,
        end: "outermost".to_owned(),
        stopped_at: 0,
        flags: 0,
        frames: Vec::new(),
        ip,
        sp: SP,
        // A frame as it would be, if this register held frames here.
        bp: SP + 16,
        memory: words.iter().flat_map(|word| word.to_le_bytes()).collect(),
    }
}

/// The first time after the same address was seen on a stack that could not be read: code on the
/// ordinary stack that a signal interrupts, whose handler has a stack of its own.
#[test]
fn a_stub_of_a_library_returns_to_its_caller_whatever_the_frame_pointer_holds() -> anyhow::Result<()>
{
    let workload = Workload::bare_c("unwind")?;
    let program = Program::start(&workload, None)?;
    let images = images::of(program.pid())?;
    let path = workload.program().to_str().context("a path that is not UTF-8")?;
    let bias = images.iter().find(|image| image.name == path).context("the program's code")?.bias;
    let bytes = std::fs::read(path)?;
    let file = object::File::parse(&*bytes)?;
    let stubs = file.section_by_name(".plt").context("no .plt")?;
    let mut oracle = Oracle::new(images);
    // No program's code: here the second unwinder ends.
    let caller = 0x1000;
    for at in ENTRY..stubs.size() {
        let ip = bias + stubs.address() + at;
        let unread = oracle.unwind(&stack(ip, &[]));
        ensure!(unread.frames == [ip], "at {at:#x} without memory: {unread:x?}");
        ensure!(unread.silence == Silence::BeyondCopy, "at {at:#x} without memory: {unread:x?}");
        let words = match at % ENTRY >= PUSHED {
            true => [7, caller, 0x11, 0x22, 0x33, 0x44],
            false => [caller, 7, 0x11, 0x22, 0x33, 0x44],
        };
        let answer = oracle.unwind(&stack(ip, &words));
        ensure!(answer.frames == [ip, caller], "at {at:#x} of the stubs: {answer:x?}");
    }
    Ok(())
}
