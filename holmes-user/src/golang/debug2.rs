//! Each goroutine with its stack, as `/debug/pprof/goroutine?debug=2` prints them.
//!
//! Format: `goroutineheader`, `traceback2` and `printcreatedby` of `runtime/traceback.go`, Go 1.21 and
//! later. What functions were called with is on the stack and not read: `(...)` stands for it, as Go
//! prints it where a call was inlined.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use super::goroutine::{Goroutine, Snapshot, Stack, StackEnd, State};
use super::names::{GoFrame, GoNames};
use super::traceback_labels::behind_state;
use crate::collect::Nanos;

/// Frames that are printed from either end of a stack.
const INNER: usize = 50;
const OUTER: usize = 50;

/// Functions of the runtime that are shown: they tell that a finalizer or a clean-up runs.
const SHOWN: [&str; 3] = ["runtime.runfinq", "runtime.runFinalizers", "runtime.runCleanups"];

/// The text of a snapshot; `now` is the time that waiting is counted to.
pub fn debug2(snapshot: &Snapshot, names: &mut GoNames<'_>, now: Nanos) -> String {
    let mut text = String::new();
    // Stacks are the same for thousands; so is their text.
    let mut stacks: HashMap<*const Stack, String> = HashMap::new();
    for goroutine in &snapshot.goroutines {
        if !text.is_empty() {
            text.push('\n');
        }
        header(&mut text, goroutine, snapshot, now);
        let key = Arc::as_ptr(&goroutine.stack);
        let stack = stacks.entry(key).or_insert_with(|| stack_text(&goroutine.stack, names));
        text.push_str(stack);
        created_by(&mut text, goroutine, names);
    }
    text
}

/// `goroutine 7 [chan receive, 5 minutes, locked to thread] {handler: /a}:`
fn header(text: &mut String, goroutine: &Goroutine, snapshot: &Snapshot, now: Nanos) {
    let state = goroutine.state.text(&snapshot.version);
    // Writing to a string does not fail, here and below.
    let _ = write!(text, "goroutine {} [{state}", goroutine.id);
    if matches!(goroutine.state, State::Leaked(_)) {
        text.push_str(" (leaked)");
    }
    let waits = matches!(goroutine.state, State::Waiting(_) | State::Syscall);
    let waited = goroutine.waits_since.filter(|_| waits).map(|since| now.since(since));
    let minutes = waited.unwrap_or(Duration::ZERO).as_secs() / 60;
    if minutes >= 1 {
        let _ = write!(text, ", {minutes} minutes");
    }
    if goroutine.is_locked {
        text.push_str(", locked to thread");
    }
    text.push(']');
    if let Some(labels) = goroutine.labels.as_deref().filter(|_| snapshot.shows_labels) {
        text.push_str(&behind_state(labels));
    }
    text.push_str(":\n");
}

fn stack_text(stack: &Stack, names: &mut GoNames<'_>) -> String {
    if stack.end == StackEnd::Unknown {
        return "\tgoroutine running on other thread; stack unavailable\n".to_owned();
    }
    let all = names.stack(&stack.addresses);
    let mut shown: Vec<&GoFrame> = Vec::new();
    for frame in &all {
        if is_shown(&frame.line.function, shown.is_empty()) {
            shown.push(frame);
        }
    }
    // Where that leaves nothing, the runtime's are shown.
    if shown.is_empty() {
        shown = all.iter().filter(|frame| frame.line.function != "runtime.goexit").collect();
    }
    let mut text = String::new();
    let elided = shown.len().saturating_sub(INNER + OUTER);
    for (index, frame) in shown.iter().enumerate() {
        if elided > 0 && index == INNER {
            let _ = writeln!(text, "...{elided} frames elided...");
        }
        if elided == 0 || index < INNER || index >= INNER + elided {
            write_frame(&mut text, frame);
        }
    }
    if stack.end == StackEnd::Cut {
        text.push_str("...additional frames elided...\n");
    }
    text
}

fn write_frame(text: &mut String, frame: &GoFrame) {
    let line = &frame.line;
    if line.function.is_empty() {
        let _ = writeln!(text, "non-Go function at pc={:x}", frame.address);
        return;
    }
    let _ = write!(text, "{}(...)\n\t{}:{}", shown_name(&line.function), line.file, line.line);
    let offset = frame.return_offset.wrapping_sub(u64::from(frame.is_exact));
    // One behind the start is where a goroutine is that has not begun.
    if !frame.is_inlined && offset > 1 {
        let _ = write!(text, " +{offset:#x}");
    }
    text.push('\n');
}

/// `created by main.main in goroutine 1`, and where.
fn created_by(text: &mut String, goroutine: &Goroutine, names: &mut GoNames<'_>) {
    // The first one is the runtime's own work.
    if goroutine.id == 1 || goroutine.creator == 0 {
        return;
    }
    let frames = names.frames(goroutine.creator);
    // The function itself, into which others may be inlined there; the line is the innermost's.
    let (Some(frame), Some(innermost)) = (frames.last(), frames.first()) else { return };
    if !is_shown(&frame.line.function, false) {
        return;
    }
    let _ = write!(text, "created by {}", shown_name(&frame.line.function));
    if goroutine.parent != 0 {
        let _ = write!(text, " in goroutine {}", goroutine.parent);
    }
    let _ = write!(text, "\n\t{}:{}", innermost.line.file, innermost.line.line);
    let _ = writeln!(text, " +{:#x}", frame.return_offset);
}

fn shown_name(name: &str) -> &str {
    if name == "runtime.gopanic" { "panic" } else { name }
}

/// As `runtime.showfuncinfo`: no function of the runtime but those that programs call by name.
fn is_shown(name: &str, is_first: bool) -> bool {
    let is_exported = || {
        let short = name.strip_prefix("runtime.").unwrap_or_default();
        short.starts_with(|c: char| c.is_ascii_uppercase())
    };
    name.is_empty()
        || SHOWN.contains(&name)
        || (name == "runtime.gopanic" && !is_first)
        || (name.contains('.') && (!name.starts_with("runtime.") || is_exported()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_functions_are_shown() {
        for (name, is_first, shown) in [
            ("main.main", true, true),
            ("runtime.gopark", true, false),
            ("runtime.goexit", false, false),
            ("runtime.Gosched", false, true),
            ("runtime.gopanic", true, false),
            ("runtime.gopanic", false, true),
            ("runtime.runfinq", false, true),
            ("internal/poll.runtime_pollWait", true, true),
            ("_cgo_wait", true, false),
        ] {
            assert_eq!(is_shown(name, is_first), shown, "{name}");
        }
    }
}
