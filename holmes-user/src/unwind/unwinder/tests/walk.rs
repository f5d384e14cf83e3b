//! Stacks of real threads that sleep, walked by what the maps in memory hold.

use holmes_common::record::flag;
use holmes_common::unwind::WalkEnd;
use holmes_common::walk::Frame;

use super::*;
use crate::process::StackMemory;

/// Where the process entered the kernel: the last two words of what it says of its system call, proc(5).
fn leaf_of(sleeper: &Sleeper) -> Frame {
    let text = std::fs::read_to_string(format!("/proc/{}/syscall", sleeper.0.id())).unwrap();
    let words: Vec<&str> = text.split_whitespace().collect();
    let word = |back: usize| {
        let hex = words[words.len() - back].trim_start_matches("0x");
        u64::from_str_radix(hex, 16).unwrap()
    };
    Frame { sp: word(2), ip: word(1), behind: true, ..Frame::default() }
}

#[test]
fn the_stack_of_a_process_that_sleeps_is_whole_when_its_tables_are_there() {
    let sleeper = Sleeper::start();
    let tgid = sleeper.0.id();
    let maps = MemoryMaps::new(1 << 20, 4096, 64);
    let mut unwinder = unwinder(&maps);
    let (image, leaf) = (sleeper.image(), leaf_of(&sleeper));
    let now = Nanos::from_secs(100);
    let mut memory = StackMemory::open(Path::new("/proc"), tgid).unwrap();
    let mut walk = |unwinder: &Unwinder, leaf| {
        memory.next_thread();
        unwinder.walker().walk(tgid, leaf, &mut memory)
    };

    let unknown = walk(&unwinder, leaf);
    assert_eq!((unknown.frames, unknown.end), (vec![leaf.ip], WalkEnd::UnknownProcess));
    unwinder.seen(tgid, &image, now);
    let without = walk(&unwinder, leaf);
    assert_eq!((without.end, without.flags & flag::TABLE_WANTED != 0), (WalkEnd::NoTable, true));
    work_until(&mut unwinder, now, 4);
    let whole = walk(&unwinder, leaf);
    assert_eq!(
        (whole.end, whole.flags, whole.stopped_at),
        (WalkEnd::Outermost, 0, 0),
        "{whole:x?}"
    );
    // From libc through the program's own `main` to where it began.
    let files = whole.frames.iter().map(|at| &image.find(*at).unwrap().object.path);
    let mut files: Vec<&String> = files.collect();
    files.dedup();
    assert!(files.len() >= 3 && files.last().unwrap().ends_with("/sleep"), "{files:?}");

    let nowhere = walk(&unwinder, Frame { ip: 8, ..leaf });
    assert_eq!((nowhere.frames, nowhere.end, nowhere.stopped_at), (vec![8], WalkEnd::Unmapped, 8));
    let unreadable = walk(&unwinder, Frame { sp: 8, ..leaf });
    assert!(unreadable.frames.len() <= 2 && unreadable.end != WalkEnd::Outermost);
}
