//! What happens where room is short: in the tables, in the trie, among the numbers.

use super::*;

/// As many mappings as one process may have, in the shape that takes most entries: an eighth of what
/// the trie holds.
fn huge(number: u32, tgid: u32) -> Arc<Image> {
    of_entries(number, tgid, u64::from(MAX_MAPPING_ENTRIES) / 8)
}

fn of_entries(number: u32, tgid: u32, entries: u64) -> Arc<Image> {
    let size = 1_u64 << 36;
    let one = |index: u64| anonymous(index * size + 0x1000, (index + 1) * size - 0x1000);
    let each = 2 * 23;
    image(number, tgid, 1, (0..entries / each).map(one).collect())
}

#[test]
fn a_process_that_finds_no_room_is_left_out_whole() {
    let maps = MemoryMaps::new(1000, 10, 64);
    let mut unwinder = unwinder(&maps);
    let now = Nanos::from_secs(1);
    for tgid in 10..=18 {
        unwinder.seen(tgid, &huge(tgid, tgid), now);
    }
    assert_eq!(maps.find(18, 0x1000), Found::UnknownProcess);
    assert!(maps.inner().trie.keys().all(|&(tgid, ..)| tgid != 18));
    let stats = unwinder.stats();
    assert_eq!((stats.processes, stats.processes_refused), (8, 1));
    assert_eq!(stats.mapping_entries as usize, maps.inner().trie.len());
    // Not tried again for each observation, but after a while; what has ended makes room.
    unwinder.seen(18, &huge(18, 18), now);
    assert_eq!(unwinder.stats().processes_refused, 1);
    unwinder.exited(10, Nanos::from_secs(11));
    unwinder.seen(18, &huge(18, 18), Nanos::from_secs(12));
    assert_eq!(maps.find(18, 0x1000), Found::NoFrames);
    assert_eq!(maps.find(10, 0x1000), Found::UnknownProcess);
    assert_eq!(unwinder.stats().mapping_entries as usize, maps.inner().trie.len());
}

#[test]
fn one_process_cannot_take_the_others_room() {
    let maps = MemoryMaps::new(1000, 10, 64);
    let mut unwinder = unwinder(&maps);
    let greedy = of_entries(1, 10, u64::from(MAX_MAPPING_ENTRIES) / 4);
    unwinder.seen(10, &greedy, Nanos::from_secs(1));
    assert_eq!((unwinder.stats().processes, unwinder.stats().mapping_entries), (0, 0));
    assert_eq!(unwinder.stats().processes_refused, 1);
    unwinder.seen(11, &huge(11, 11), Nanos::from_secs(1));
    assert_eq!(maps.find(11, 0x1000), Found::NoFrames);
}

#[test]
fn where_room_is_short_a_process_that_was_not_seen_for_long_goes() {
    let maps = MemoryMaps::new(1000, 10, 64);
    let mut unwinder = unwinder(&maps);
    for tgid in 10..18 {
        unwinder.seen(tgid, &huge(tgid, tgid), Nanos::from_secs(1));
    }
    for tgid in (10..18).filter(|tgid| *tgid != 11) {
        unwinder.seen(tgid, &huge(tgid, tgid), Nanos::from_secs(50));
    }
    unwinder.seen(18, &huge(18, 18), Nanos::from_secs(62));
    let found = [10, 11, 18].map(|tgid| maps.find(tgid, 0x1000));
    assert_eq!(found, [Found::NoFrames, Found::UnknownProcess, Found::NoFrames]);
}

#[test]
fn a_kernel_that_takes_no_more_leaves_nothing_half_done() {
    let maps = MemoryMaps::new(1000, 10, 64);
    maps.inner().trie_room = 3;
    let mut unwinder = unwinder(&maps);
    let code = |at: u64| anonymous(at, at + 0x1000);
    let five = [1, 3, 5, 7, 9].map(|page| code(page * 0x1000));
    unwinder.seen(10, &image(1, 10, 1, five.to_vec()), Nanos::from_secs(1));
    assert!(maps.inner().trie.is_empty() && maps.inner().known.is_empty());
    assert_eq!(unwinder.stats().mapping_entries, 0);
}

#[test]
fn the_least_recently_used_table_makes_room_and_comes_back_when_it_is_wanted() {
    let (libc, loader) = (mapped("/libc.so"), mapped("/ld-linux"));
    let rows = table_of(&libc).rows.len() as u32;
    let maps = MemoryMaps::new(rows, 64, 64);
    let mut unwinder = unwinder(&maps);
    let libc = code_of(&file(7, &libc), 0x7f00_0000_0000);
    let loader = code_of(&file(8, &loader), 0x7e00_0000_0000);
    let at = (libc.start + 0x1000, loader.start + 0x1000);
    let both = image(1, 10, 1, vec![loader, libc]);
    // In the order of need: libc fills all there is.
    let first = image(1, 9, 1, vec![both.mappings[1].clone()]);
    unwinder.seen(first.tgid, &first, Nanos::from_secs(100));
    work_until(&mut unwinder, Nanos::from_secs(100), 1);
    assert!(matches!(maps.find(9, at.0), Found::Row(_)));
    let exe = maps.exe(9, at.0);
    maps.used(exe, ((105_u64 * 1_000_000_000) >> 30) as u32);
    // What was used in the last ten seconds stays.
    unwinder.seen(both.tgid, &both, Nanos::from_secs(110));
    unwinder.wants_table(10, at.1, Nanos::from_secs(110));
    work_until(&mut unwinder, Nanos::from_secs(110), 2);
    assert_eq!((unwinder.stats().no_room, maps.find(10, at.1)), (1, Found::NoTable));
    assert!(matches!(maps.find(9, at.0), Found::Row(_)));
    // Later it goes, and its room is used after the quarantine.
    unwinder.wants_table(10, at.1, Nanos::from_secs(120));
    assert_eq!(maps.find(10, at.1), Found::NoTable, "not made for nothing again at once");
    unwinder.wants_table(10, at.1, Nanos::from_secs(180));
    let began = Instant::now();
    while unwinder.stats().evicted == 0 {
        unwinder.work(Nanos::from_secs(180));
        assert!(began.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(5));
    }
    unwinder.work(Nanos::from_secs(181));
    assert_eq!((maps.find(9, at.0), maps.find(10, at.1)), (Found::NoTable, Found::NoTable));
    unwinder.work(Nanos::from_secs(182));
    assert!(matches!(maps.find(10, at.1), Found::Row(_)));
    // And back.
    unwinder.wants_table(9, at.0, Nanos::from_secs(200));
    while unwinder.stats().evicted == 1 {
        unwinder.work(Nanos::from_secs(200));
        assert!(began.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(5));
    }
    unwinder.work(Nanos::from_secs(202));
    let Found::Row(row) = maps.find(9, at.0) else { panic!("no table") };
    assert_ne!(row.cfa_kind, CfaKind::Unsupported as u8);
    assert_eq!(unwinder.stats().rows_used, u64::from(rows));
}

#[test]
fn numbers_of_executables_are_used_again_after_a_while() {
    let maps = MemoryMaps::new(1 << 16, 64, 2);
    let mut unwinder = unwinder(&maps);
    let libc = code_of(&file(7, &mapped("/libc.so")), 0x7f00_0000_0000);
    let loader = code_of(&file(8, &mapped("/ld-linux")), 0x7f00_0000_0000);
    let at = loader.start + 0x1000;
    unwinder.seen(10, &image(1, 10, 1, vec![libc]), Nanos::from_secs(1));
    unwinder.seen(11, &image(2, 11, 1, vec![loader.clone()]), Nanos::from_secs(1));
    assert_eq!((maps.exe(11, at), unwinder.stats().no_number), (0, 1), "there is one number");
    unwinder.execed(10, Nanos::from_secs(2));
    unwinder.seen(12, &image(3, 12, 1, vec![loader.clone()]), Nanos::from_secs(3));
    assert_eq!(maps.exe(12, at), 0, "a walk may still hold it");
    unwinder.seen(13, &image(4, 13, 1, vec![loader]), Nanos::from_secs(5));
    assert_eq!(maps.exe(13, at), 1);
    // What was made for its last user is not taken for its new one's.
    work_until(&mut unwinder, Nanos::from_secs(5), 1);
    let Found::Row(row) = maps.find(13, at) else { panic!("no table") };
    let linked = at - 0x7f00_0000_0000;
    assert_eq!(Some(row), table_of(&mapped("/ld-linux")).find(linked));
}
