//! Goroutines by stack, as `/debug/pprof/goroutine?debug=1` prints them.
//!
//! Format: `printCountProfile` and `printStackRecord` of `runtime/pprof`, for Go 1.21 and later; the
//! layout of `text/tabwriter`.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::goroutine::{Snapshot, Stack};
use super::labels::LabelSet;
use super::names::{GoFrame, GoNames};

/// Frames of a stack, the innermost: as many as Go's own profile has since 1.23.
const MAX_FRAMES: usize = 128;
/// What a tab goes to.
const TAB: usize = 8;

/// The text of a snapshot.
pub fn debug1(snapshot: &Snapshot, names: &mut GoNames<'_>) -> String {
    type Key<'a> = (*const Stack, Option<&'a LabelSet>);
    let mut counts: BTreeMap<Key<'_>, (usize, &Stack)> = BTreeMap::new();
    for goroutine in &snapshot.goroutines {
        let key = (std::sync::Arc::as_ptr(&goroutine.stack), goroutine.labels.as_deref());
        counts.entry(key).or_insert((0, &goroutine.stack)).0 += 1;
    }
    let mut stacks: BTreeMap<String, (usize, Vec<GoFrame>)> = BTreeMap::new();
    for ((_, labels), (count, stack)) in counts {
        let mut frames = names.stack(&stack.addresses);
        frames.truncate(MAX_FRAMES);
        let mut key = "@".to_owned();
        for frame in &frames {
            // Writing to a string does not fail.
            let _ = write!(key, " {:#x}", frame.address);
        }
        if let Some(labels) = labels {
            key.push_str("\n# labels: ");
            key.push_str(&labels.quoted());
        }
        stacks.entry(key).or_insert((0, frames)).0 += count;
    }
    let mut stacks: Vec<(String, (usize, Vec<GoFrame>))> = stacks.into_iter().collect();
    stacks.sort_by(|(left, (more, _)), (right, (less, _))| less.cmp(more).then(left.cmp(right)));
    let mut text = format!("goroutine profile: total {}\n", snapshot.goroutines.len());
    for (key, (count, frames)) in &stacks {
        let _ = writeln!(text, "{count} {key}");
        write_stack(&mut text, frames);
        text.push('\n');
    }
    text
}

/// The frames from the first one that is not the runtime's; all if there is none.
pub(super) fn write_stack(text: &mut String, frames: &[GoFrame]) {
    let is_runtime = |frame: &&GoFrame| {
        let name = &frame.line.function;
        name.starts_with("runtime.") || name.starts_with("internal/runtime/")
    };
    let hidden = frames.iter().take_while(is_runtime).count();
    let shown = if hidden == frames.len() { 0 } else { hidden };
    let rows: Vec<[String; 3]> = frames
        .iter()
        .skip(shown)
        .filter(|frame| frame.line.function != "runtime.goexit")
        .map(|frame| {
            let at = frame.address.wrapping_sub(1);
            let (name, line) = (&frame.line.function, &frame.line);
            if name.is_empty() {
                return [format!("{at:#x}"), String::new(), String::new()];
            }
            let offset = frame.offset.wrapping_sub(1);
            [
                format!("{at:#x}"),
                format!("{name}+{offset:#x}"),
                format!("{}:{}", line.file, line.line),
            ]
        })
        .collect();
    // A column is as wide as its widest cell, and one more, up to the next tab.
    let width = |column: usize| {
        let widest = rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        (widest + 1).next_multiple_of(TAB)
    };
    let (first, second) = (width(0), width(1));
    for [address, name, place] in &rows {
        let _ = write!(text, "#\t{address}");
        if !name.is_empty() {
            pad(text, address, first);
            text.push_str(name);
            pad(text, name, second);
            text.push_str(place);
        }
        text.push('\n');
    }
}

/// Tabs from the end of a cell to its column's end.
fn pad(text: &mut String, cell: &str, width: usize) {
    let missing = width.saturating_sub(cell.chars().count());
    text.extend(std::iter::repeat_n('\t', missing.div_ceil(TAB)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binary::GoLine;

    fn frame(function: &str, address: u64, offset: u64) -> GoFrame {
        let line = GoLine { function: function.to_owned(), file: "/a/b.go".to_owned(), line: 7 };
        GoFrame { line, offset, ..GoFrame::unknown(address) }
    }

    #[test]
    fn columns_as_the_tabwriter_makes_them() {
        let mut text = String::new();
        let frames = [
            frame("runtime.gopark", 0x40_0001, 2),
            frame("main.f", 0x47_f001, 0x11),
            frame("main.main.func1", 0x47_f101, 0x21),
            frame("runtime.goexit", 0x46_0001, 1),
        ];
        write_stack(&mut text, &frames);
        assert_eq!(
            text,
            "#\t0x47f000\tmain.f+0x10\t\t/a/b.go:7\n\
             #\t0x47f100\tmain.main.func1+0x20\t/a/b.go:7\n"
        );
        let mut text = String::new();
        write_stack(&mut text, &[frames[0].clone(), frames[3].clone()]);
        assert_eq!(text, "#\t0x400000\truntime.gopark+0x1\t/a/b.go:7\n", "all are the runtime's");
    }
}
