//! A timeline in Chrome's Trace Event Format, which chrome://tracing, ui.perfetto.dev, Speedscope and others
//! read: "Trace Event Format", its document of 2016.
//!
//! Times are microseconds since the timeline's first moment, to the nanosecond: counted from boot they
//! would not fit into JavaScript's numbers, which are what the viewers have.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::about::About;
use super::names::{self, Detail, Names, Shown};
use super::validate::{ChromeChecker, Violation};
use crate::collect::Nanos;
use crate::window::{ThreadLine, Timeline};

/// A whole file, as far as this project writes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChromeTrace {
    /// What times are shown in.
    pub display_time_unit: String,
    /// What is told of the whole: comments, and what the clocks said at the timeline's first moment.
    pub other_data: BTreeMap<String, Value>,
    /// The events, in any order.
    pub trace_events: Vec<ChromeEvent>,
}

/// One event: a line of the file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ChromeEvent {
    /// What it is: `M` says something of a process or thread, `X` is a span, `i` a moment.
    pub ph: String,
    /// Its name.
    pub name: String,
    /// Its category.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cat: Option<String>,
    /// The process.
    pub pid: u64,
    /// The thread.
    pub tid: u64,
    /// When it begins, in microseconds since the timeline's first moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ts: Option<f64>,
    /// How long a span takes, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dur: Option<f64>,
    /// Of a moment: `t`, it is its thread's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s: Option<String>,
    /// What else is told of it.
    pub args: BTreeMap<String, Value>,
}

/// Writes the file; returns the rules that it breaks.
pub(super) fn write(
    timeline: &Timeline,
    names: &Names,
    about: &About,
    out: &mut dyn Write,
) -> io::Result<Vec<Violation>> {
    let other = json!({
        "comments": about.comments,
        "start_monotonic_ns": timeline.from.0.to_string(),
        "start_unix_ns": about.start_unix_ns.to_string(),
    });
    write!(out, "{{\"displayTimeUnit\":\"ns\",\"otherData\":{other},\"traceEvents\":[")?;
    let checker = ChromeChecker::default();
    let mut writer = Writer { out, checker, from: timeline.from, is_first: true };
    let mut processes = BTreeSet::new();
    for line in &timeline.threads {
        if processes.insert(line.owner.tgid) {
            writer.event(&named(line, "process_name", names::process(&line.owner)))?;
        }
        writer.event(&named(line, "thread_name", names::thread(&line.owner)))?;
        for span in &line.spans {
            let mut event = writer.shown(line, "X", span.from, names.span(span));
            event.dur = Some(micros(span.from, span.to));
            writer.event(&event)?;
        }
        for sample in &line.samples {
            let mut event = writer.shown(line, "i", sample.time, names.sample(sample));
            event.s = Some("t".to_owned());
            writer.event(&event)?;
        }
    }
    writer.out.write_all(b"\n]}\n")?;
    Ok(writer.checker.finish())
}

/// What a process or a thread is called.
fn named(line: &ThreadLine, what: &str, name: String) -> ChromeEvent {
    ChromeEvent {
        ph: "M".to_owned(),
        name: what.to_owned(),
        pid: line.owner.tgid.into(),
        tid: line.tid.into(),
        args: [("name".to_owned(), name.into())].into(),
        ..ChromeEvent::default()
    }
}

/// From one moment to the next, in microseconds. As long as there is less than a hundred days between
/// them, the number's text is exact to the nanosecond.
fn micros(from: Nanos, to: Nanos) -> f64 {
    to.since(from).as_nanos() as f64 / 1e3
}

struct Writer<'a> {
    out: &'a mut dyn Write,
    checker: ChromeChecker,
    /// The timeline's first moment.
    from: Nanos,
    is_first: bool,
}

impl Writer<'_> {
    fn event(&mut self, event: &ChromeEvent) -> io::Result<()> {
        self.checker.event(event);
        let separator: &[u8] = if self.is_first { b"\n" } else { b",\n" };
        self.is_first = false;
        self.out.write_all(separator)?;
        serde_json::to_writer(&mut *self.out, event).map_err(io::Error::other)
    }

    fn shown(&self, line: &ThreadLine, ph: &str, at: Nanos, shown: Shown<'_>) -> ChromeEvent {
        let args = shown.details.into_iter().map(|(name, detail)| {
            let value = match detail {
                Detail::Text(text) => text.into(),
                Detail::Number(number) => number.into(),
                Detail::Address(address) => format!("{address:#x}").into(),
                Detail::True => true.into(),
            };
            (name.to_owned(), value)
        });
        ChromeEvent {
            ph: ph.to_owned(),
            name: shown.name.into_owned(),
            cat: Some(shown.category.to_owned()),
            pid: line.owner.tgid.into(),
            tid: line.tid.into(),
            ts: Some(micros(self.from, at)),
            args: args.collect(),
            ..ChromeEvent::default()
        }
    }
}
