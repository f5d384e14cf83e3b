//! Goroutines for a person: by state, lock and stack, the most frequent first.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::sync::Arc;

use super::compare::Blocked;
use super::goroutine::{Snapshot, Stack, StackEnd};
use super::names::{GoFrame, GoNames};

/// Goroutines of which the number is shown in each group.
const SHOWN_IDS: usize = 5;

/// Goroutines in one state with one stack, made at one place, that wait for one lock.
#[derive(Default)]
struct Group<'a> {
    count: usize,
    stayed: usize,
    ids: Vec<u64>,
    stack: Option<&'a Stack>,
}

/// The text of a snapshot, with what `blocked` tells of it.
pub fn text(snapshot: &Snapshot, blocked: Option<&Blocked>, names: &mut GoNames<'_>) -> String {
    let mut states: BTreeMap<&str, usize> = BTreeMap::new();
    let mut groups: HashMap<(&str, u64, *const Stack, u64), Group<'_>> = HashMap::new();
    for (index, goroutine) in snapshot.goroutines.iter().enumerate() {
        let state = goroutine.state.text(&snapshot.version);
        *states.entry(state).or_default() += 1;
        let key = (state, goroutine.lock, Arc::as_ptr(&goroutine.stack), goroutine.creator);
        let group = groups.entry(key).or_default();
        group.count += 1;
        group.stayed += usize::from(blocked.is_some_and(|blocked| blocked.has_stayed(index)));
        group.stack = Some(&goroutine.stack);
        if group.ids.len() < SHOWN_IDS {
            group.ids.push(goroutine.id);
        }
    }
    let mut states: Vec<(&str, usize)> = states.into_iter().collect();
    states.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    let states: Vec<String> =
        states.iter().map(|(state, count)| format!("{count} {state}")).collect();
    let mut text = format!("{snapshot}\n{}\n", states.join(", "));
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|((state, lock, _, creator), group)| {
        (std::cmp::Reverse(group.count), group.ids.first().copied(), *state, *lock, *creator)
    });
    for ((state, lock, _, creator), group) in &groups {
        text.push_str(&heading(state, *lock, group, blocked));
        let Some(stack) = group.stack else { continue };
        write_stack(&mut text, stack, names);
        let creator = names.frames(*creator);
        // The first goroutine is the runtime's own work.
        if let Some(frame) = creator.first().filter(|frame| !is_runtime(frame)) {
            let _ = writeln!(text, "    created by {}", place(frame));
        }
    }
    text
}

/// `3 goroutines [sync.Mutex.Lock, lock 0xc000012344], 3 blocked for at least 1s: 18, 19, 20`
fn heading(state: &str, lock: u64, group: &Group<'_>, blocked: Option<&Blocked>) -> String {
    let noun = if group.count == 1 { "goroutine" } else { "goroutines" };
    let mut text = format!("\n{} {noun} [{state}", group.count);
    // Writing to a string does not fail, here and below.
    if lock != 0 {
        let _ = write!(text, ", lock {lock:#x}");
    }
    text.push(']');
    if let Some(blocked) = blocked.filter(|_| group.stayed > 0) {
        let span = std::time::Duration::from_millis(blocked.span.as_millis() as u64);
        let _ = write!(
            text,
            ", {} blocked for at least {}",
            group.stayed,
            humantime::format_duration(span)
        );
    }
    let ids: Vec<String> = group.ids.iter().map(u64::to_string).collect();
    let more = if group.count > group.ids.len() { ", ..." } else { "" };
    let _ = writeln!(text, ": {}{more}", ids.join(", "));
    text
}

fn write_stack(text: &mut String, stack: &Stack, names: &mut GoNames<'_>) {
    let frames = names.stack(&stack.addresses);
    let hidden = frames.iter().take_while(|frame| is_runtime(frame)).count();
    let from = if hidden == frames.len() { 0 } else { hidden };
    if stack.end == StackEnd::Unknown {
        text.push_str("    (its stack is not known from outside while it runs; it began here)\n");
    }
    let shown = frames.iter().skip(from);
    for frame in shown.filter(|frame| frame.line.function != "runtime.goexit") {
        let _ = writeln!(text, "    {}", place(frame));
    }
    match stack.end {
        StackEnd::Cut => text.push_str("    (more frames are not shown)\n"),
        StackEnd::Broken => text.push_str("    (nothing says how the stack goes on)\n"),
        StackEnd::Whole | StackEnd::Unknown => {}
    }
}

fn is_runtime(frame: &GoFrame) -> bool {
    frame.line.function.starts_with("runtime.")
}

fn place(frame: &GoFrame) -> String {
    if frame.line.function.is_empty() {
        return format!("{:#x}", frame.address);
    }
    format!("{} at {}:{}", frame.line.function, frame.line.file, frame.line.line)
}
