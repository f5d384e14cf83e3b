//! Who is named, and that nothing is counted twice or forgotten.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn cgroup(id: u64, calls: u64) -> CgroupSnapshot {
    CgroupSnapshot {
        id,
        path: format!("/c{id}"),
        named_by_user: false,
        activity: CgroupActivity {
            mmap_calls: calls,
            mmap_bytes: 4096 * calls,
            ..Default::default()
        },
        resident_bytes: 10,
        goroutines: 0,
    }
}

fn names(top: &TopCgroups) -> BTreeMap<String, u64> {
    top.named().map(|(label, totals, _)| (label.to_owned(), totals[1])).collect()
}

/// As many cgroups as can be named, with ids from 0 and this many calls each.
fn full_house(calls: u64) -> Vec<CgroupSnapshot> {
    (0..MAX_NAMED as u64).map(|id| cgroup(id, calls)).collect()
}

#[test]
fn while_there_is_room_everybody_is_named_with_exact_totals() {
    let mut top = TopCgroups::default();
    assert!(top.update(&[cgroup(1, 7), cgroup(2, 0)]).is_empty());
    assert_eq!(names(&top), BTreeMap::from([("/c1".to_owned(), 7), ("/c2".to_owned(), 0)]));
    assert_eq!(top.other(), ([0; TOTALS], [0; 2]));
}

#[test]
fn a_removed_cgroup_leaves_its_totals_to_other() {
    let mut top = TopCgroups::default();
    top.update(&[cgroup(1, 7), cgroup(2, 1)]);
    assert_eq!(top.update(&[cgroup(2, 1)]), ["/c1"]);
    assert_eq!(top.other().0[1], 7);
    assert!(top.update(&[cgroup(2, 1)]).is_empty());
    assert_eq!(top.other().0[1], 7);
}

#[test]
fn a_busy_newcomer_takes_an_idle_place_and_has_exact_totals() {
    let mut top = TopCgroups::default();
    let mut cgroups = full_house(1);
    cgroups[5].activity.mmap_calls = 0;
    top.update(&cgroups);
    cgroups.push(cgroup(100, 50));
    assert_eq!(top.update(&cgroups), ["/c5"]);
    assert_eq!(names(&top).get("/c100"), Some(&50));
    assert_eq!(names(&top).len(), MAX_NAMED);
}

#[test]
fn a_slightly_busier_one_does_not_take_turns() {
    let mut top = TopCgroups::default();
    let mut cgroups = full_house(100);
    top.update(&cgroups);
    cgroups.push(cgroup(100, 150));
    assert!(top.update(&cgroups).is_empty());
    assert_eq!(top.other().0[1], 150);
    assert_eq!(top.other().1, [10, 0]);
}

#[test]
fn what_the_user_named_is_always_named() {
    let mut top = TopCgroups::default();
    let mut cgroups = full_house(1000);
    top.update(&cgroups);
    cgroups.push(CgroupSnapshot { named_by_user: true, ..cgroup(100, 0) });
    assert_eq!(top.update(&cgroups).len(), 1);
    assert!(names(&top).contains_key("/c100"));
    // And keeps its place, idle as it is.
    cgroups.push(cgroup(101, 1_000_000));
    top.update(&cgroups);
    assert!(names(&top).contains_key("/c100") && names(&top).contains_key("/c101"));
}

#[test]
fn a_cgroup_that_comes_again_begins_again() {
    let mut top = TopCgroups::default();
    top.update(&[cgroup(1, 7)]);
    // Another id behind the same path, and the same id with lower totals.
    let again = CgroupSnapshot { path: "/c1".to_owned(), ..cgroup(2, 3) };
    assert_eq!(top.update(std::slice::from_ref(&again)), ["/c1"]);
    assert_eq!((names(&top)["/c1"], top.other().0[1]), (3, 7));
    let restarted = CgroupSnapshot { path: "/c1".to_owned(), ..cgroup(2, 1) };
    assert_eq!(top.update(&[restarted]), ["/c1"]);
    assert_eq!((names(&top)["/c1"], top.other().0[1]), (1, 10));
}

#[test]
fn labels_are_bounded_and_nobody_shares_one() {
    let mut top = TopCgroups::default();
    let long = |id, head: &str| CgroupSnapshot {
        path: format!("/{head}{}", "ä".repeat(400)),
        ..cgroup(id, id)
    };
    let unknown = CgroupSnapshot { path: String::new(), ..cgroup(3, 4) };
    top.update(&[long(1, "a"), long(2, "b"), unknown]);
    let names = names(&top);
    assert_eq!(names.len(), 1);
    assert!(names.keys().all(|label| label.len() <= MAX_LABEL_BYTES));
    assert_eq!(top.other().0[1], 1 + 4);
}

proptest! {
    /// Cgroups come, work and go: nothing is counted twice or forgotten, no series goes down.
    #[test]
    fn sums_are_exact_and_series_monotonic(
        steps in prop::collection::vec(
            prop::collection::btree_map(0..80_u64, 0..1000_u64, 0..60), 1..20)
    ) {
        let mut top = TopCgroups::default();
        let mut totals = BTreeMap::<u64, u64>::new();
        let mut counted = 0;
        let mut before = BTreeMap::new();
        let mut other_before = 0;
        for step in steps {
            // Who is not in the step is gone, and begins at zero if it comes back.
            totals.retain(|id, _| step.contains_key(id));
            for (id, calls) in step {
                *totals.entry(id).or_default() += calls;
                counted += calls;
            }
            let snapshot: Vec<_> = totals.iter().map(|(&id, &calls)| cgroup(id, calls)).collect();
            let gone = top.update(&snapshot);
            let (now, other) = (names(&top), top.other().0[1]);
            prop_assert!(now.len() <= MAX_NAMED);
            prop_assert_eq!(now.values().sum::<u64>() + other, counted);
            prop_assert!(other >= other_before);
            for (label, value) in before {
                let kept = now.get(&label).is_some_and(|new| *new >= value);
                prop_assert!(kept || gone.contains(&label), "{} went down", label);
            }
            (before, other_before) = (now, other);
        }
    }
}
