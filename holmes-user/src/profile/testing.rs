//! Made-up cuts for the tests of this stage.

use std::sync::Arc;

use proptest::prelude::*;

use crate::collect::{CgroupId, Comm, Nanos, Stack};
use crate::process::{Cgroup, Container, Image, Mapping, Object, ObjectKind};
use crate::symbolize::{Line, Named, Place, SymbolTable, frames};
use crate::window::{Cut, CutSample, Detail, Owner, ProfileKind, pair};

/// A cut and names for some of its places.
#[derive(Clone, Debug)]
pub(super) struct Made {
    pub(super) cut: Cut,
    pub(super) symbols: SymbolTable,
}

pub(super) const KERNEL: u64 = 0xffff_ffff_8100_0000;
/// Where the first image maps `/srv/app` from offset 0x1000 on.
pub(super) const APP: u64 = 0x5555_0000_1000;
/// Where the first image maps libc from its beginning.
pub(super) const LIBC: u64 = 0x7fff_0000_0000;

pub(super) fn object(number: u32, path: &str, build_id: &str) -> Arc<Object> {
    let (path, build_id) = (path.to_owned(), build_id.to_owned());
    Arc::new(Object { number, kind: ObjectKind::File, path, build_id, file: None })
}

/// Two images of one program and one library, at addresses `shift` apart.
pub(super) fn images(shift: u64) -> [Arc<Image>; 2] {
    let app = object(1, "/srv/app", "");
    let libc = object(2, "/lib/libc.so.6", "0123456789abcdef");
    [0, shift].map(|shift| {
        let map = |start: u64, offset: u64, object: &Arc<Object>| Mapping {
            start: start + shift,
            end: start + shift + 0x2000,
            offset,
            object: object.clone(),
        };
        Arc::new(Image {
            number: 1 + u32::from(shift > 0),
            tgid: 10,
            start_time: 1,
            exe: "/srv/app".to_owned(),
            mappings: vec![map(APP, 0x1000, &app), map(LIBC, 0, &libc)],
        })
    })
}

pub(super) fn owner(
    tgid: u32,
    comm: &str,
    image: Option<Arc<Image>>,
    recorder: bool,
) -> Arc<Owner> {
    let container = Container { id: "c0ffee".repeat(10), pod_uid: None };
    let cgroup = Cgroup {
        id: CgroupId(u64::from(tgid)),
        path: format!("/app{tgid}"),
        container: (tgid == 10).then_some(container),
    };
    let comm = Comm::from(comm.to_owned());
    Arc::new(Owner { tgid, comm, cgroup: Arc::new(cgroup), image, recorder })
}

pub(super) fn named(functions: &[&str], module: &str) -> Arc<Named> {
    let lines = functions.iter().enumerate().map(|(index, &function)| Line {
        function: function.into(),
        file: if module.is_empty() { "app.rs".into() } else { "".into() },
        line: if module.is_empty() { index as u32 + 1 } else { 0 },
    });
    Arc::new(Named { lines: lines.collect(), module: module.to_owned() })
}

/// Ten seconds of a program that spins, and calls a kernel module through a library without names.
pub(super) fn made() -> Made {
    let [image, _] = images(0x1000_0000);
    let app = owner(10, "app", Some(image), false);
    let stack =
        |user: &[u64], kernel: &[u64]| Arc::new(Stack { user: user.into(), kernel: kernel.into() });
    let spin = stack(&[APP + 0x10, APP + 0x101], &[]);
    let call = stack(&[LIBC + 0x41f, APP + 0x101], &[KERNEL, KERNEL + 0x101]);
    let sample = |owner: &Arc<Owner>, stack: &Arc<Stack>, values| CutSample {
        owner: owner.clone(),
        stack: stack.clone(),
        detail: Detail::None,
        labels: Vec::new(),
        values: pair(values),
    };
    let samples = vec![
        sample(&app, &spin, [2, 20]),
        sample(&app, &spin, [1, 10]),
        sample(&app, &call, [4, 40]),
        sample(&owner(2, "idle", None, false), &stack(&[], &[]), [1, 0]),
        sample(&owner(3, "other", None, true), &stack(&[0x77], &[]), [2, 0]),
    ];
    let mut symbols = SymbolTable::default();
    for (place, names) in [
        (Place::Object { object: 1, offset: 0x1010 }, named(&["spin", "[u8; 4]::run"], "")),
        (Place::Object { object: 1, offset: 0x1100 }, named(&["main"], "")),
        (Place::Kernel(KERNEL), named(&["helper"], "ext4")),
    ] {
        symbols.insert(place, names);
    }
    let line = Line { function: "schedule".into(), file: "".into(), line: 0 };
    let schedule = Named { lines: vec![line], module: String::new() };
    symbols.insert(Place::Kernel(KERNEL + 0x100), Arc::new(schedule));
    let (from, to) = (Nanos::from_secs(0), Nanos::from_secs(10));
    Made { cut: Cut { kind: ProfileKind::Cpu, from, to, samples }, symbols }
}

/// Any cut: two processes with shared objects, one without an image, any addresses in and around
/// the mappings, names for some of them, of any text.
pub(super) fn cut_strategy() -> impl Strategy<Value = Made> {
    let kind =
        prop_oneof![Just(ProfileKind::Cpu), Just(ProfileKind::Mmap), Just(ProfileKind::Threads)];
    let address = |shift: u64| {
        prop_oneof![
            4 => (0x20u64..0x60).prop_map(move |low| APP + shift + low),
            2 => (0u64..0x40).prop_map(move |low| LIBC + shift + low),
            1 => any::<u64>(),
        ]
    };
    let kernel = prop_oneof![4 => (0u64..0x40).prop_map(|low| KERNEL + low), 1 => any::<u64>()];
    let user = prop::collection::vec(prop_oneof![address(0), address(0x1000_0000)], 0..6);
    let sample = (0usize..4, user, prop::collection::vec(kernel, 0..4), 0i64..1000, 0i64..1000);
    let names = prop::collection::vec((".{0,12}", 0u32..100, any::<bool>()), 1..4);
    let samples = prop::collection::vec(sample, 0..30);
    (kind, samples, prop::collection::vec(prop::option::of(names), 1..20)).prop_map(
        |(kind, samples, names)| {
            let [first, second] = images(0x1000_0000);
            let owners = [
                owner(10, "app", Some(first), false),
                owner(11, "app;\n", Some(second), false),
                owner(12, "", None, false),
                owner(13, "holmes", None, true),
            ];
            let samples: Vec<CutSample> = samples
                .into_iter()
                .map(|(who, user, kernel, count, value)| CutSample {
                    owner: owners[who].clone(),
                    stack: Arc::new(Stack { user: user.into(), kernel: kernel.into() }),
                    detail: Detail::None,
                    labels: Vec::new(),
                    values: pair([count, value]),
                })
                .collect();
            let mut symbols = SymbolTable::default();
            let places = samples.iter().flat_map(|sample| frames(sample).map(|frame| frame.place));
            for (place, names) in places.zip(names.iter().cycle()) {
                let lines = names.iter().flatten().map(|(name, line, file)| Line {
                    function: name.as_str().into(),
                    file: if *file { "f.c".into() } else { "".into() },
                    line: *line,
                });
                if names.is_some() {
                    let lines = lines.collect();
                    symbols.insert(place, Arc::new(Named { lines, module: String::new() }));
                }
            }
            let (from, to) = (Nanos::from_secs(0), Nanos::from_secs(10));
            Made { cut: Cut { kind, from, to, samples }, symbols }
        },
    )
}
