//! Folded stacks, the text format of flame graphs (github.com/brendangregg/FlameGraph):
//! `comm;root;...;leaf count`, one line for each stack.

use std::collections::BTreeMap;

use super::function::{NO_STACK, clean, module_and_offset, with_module};
use super::shown::shown_frames;
use crate::symbolize::{Frame, Place, SymbolTable};
use crate::window::{Cut, ProfileKind, Values};

/// What marks a kernel frame.
const KERNEL_SUFFIX: &str = "_[k]";

/// The folded stacks of a cut, sorted, with one value of each: samples, calls, threads created, pages
/// touched, nanoseconds waited, bytes in use of allocations (none for stacks with nothing in use). Inlined functions are
/// frames of their own.
pub fn write(cut: &Cut, symbols: &SymbolTable) -> String {
    let mut stacks: BTreeMap<String, i64> = BTreeMap::new();
    for sample in &cut.samples {
        let mut functions = Vec::new();
        for frame in shown_frames(sample, symbols) {
            push_functions(&frame, symbols, &mut functions);
        }
        if functions.is_empty() {
            functions.push(NO_STACK.to_owned());
        }
        functions.push(clean(&sample.owner.comm.text()));
        functions.reverse();
        let sum = stacks.entry(functions.join(";")).or_default();
        *sum = sum.saturating_add(shown(cut.kind, &sample.values));
    }
    if cut.kind == ProfileKind::Allocations {
        stacks.retain(|_, bytes| *bytes != 0);
    }
    stacks.iter().map(|(stack, count)| format!("{stack} {count}\n")).collect()
}

/// The value that is shown: a line has room for one.
fn shown(kind: ProfileKind, values: &Values) -> i64 {
    match kind {
        ProfileKind::Allocations | ProfileKind::GoHeap => values[3],
        ProfileKind::Blocked => values[1],
        ProfileKind::Cpu
        | ProfileKind::Mmap
        | ProfileKind::Threads
        | ProfileKind::Memory
        | ProfileKind::Goroutines => values[0],
    }
}

/// The functions of one frame, innermost first.
fn push_functions(frame: &Frame<'_>, symbols: &SymbolTable, out: &mut Vec<String>) {
    let suffix = if matches!(frame.place, Place::Kernel(_)) { KERNEL_SUFFIX } else { "" };
    match symbols.get(frame.place).filter(|named| !named.lines.is_empty()) {
        Some(named) => out.extend(
            named
                .lines
                .iter()
                .map(|line| format!("{}{suffix}", clean(&with_module(&line.function, named)))),
        ),
        None => out.push(format!("{}{suffix}", clean(&module_and_offset(frame)))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Made, cut_strategy, made};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn root_first_inlined_expanded_kernel_marked_and_equal_lines_merged() {
        let Made { cut, symbols } = made();
        assert_eq!(
            write(&cut, &symbols),
            "\
app;main;[u8: 4]::run;spin 3
app;main;libc.so.6+0x41f;schedule_[k];helper [ext4]_[k] 4
idle;[no stack] 1
other;[unknown]+0x77 2
"
        );
    }

    proptest! {
        #[test]
        fn every_line_parses_back_and_nothing_is_lost(made in cut_strategy()) {
            let text = write(&made.cut, &made.symbols);
            let mut total = 0;
            let mut stacks = std::collections::BTreeSet::new();
            for line in text.lines() {
                let (stack, count) = line.rsplit_once(' ').unwrap();
                total += count.parse::<i64>().unwrap();
                prop_assert!(stack.split(';').count() >= 2);
                prop_assert!(stack.split(';').all(|frame| !frame.is_empty()));
                prop_assert!(stacks.insert(stack.to_owned()), "{stack} twice");
            }
            prop_assert_eq!(total, made.cut.totals()[0]);
        }
    }
}
