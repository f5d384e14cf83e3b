//! The text of the configuration file: TOML becomes a [`Layer`], or a list of everything that is
//! wrong with it, each with its place.
//!
//! Must not: open the file, or know defaults.

mod rules;

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::layer::Layer;
use super::rule_text;
use super::suggest;
use super::values::{self, Bytes, Durations, Floats, Integers};
use crate::settings::Watch;
use crate::signals::Signal;
use holmes_common::limits::MAX_TARGETS;

/// Problems told at once. A file with more is the wrong file.
pub(super) const MAX_PROBLEMS: usize = 20;

/// Characters shown of a value that is wrong.
const MAX_SHOWN: usize = 40;

const TOP: [&str; 23] = [
    "interval",
    "lookback",
    "after",
    "dump_dir",
    "retention",
    "rules",
    "cpu_max",
    "max_incidents_per_hour",
    "listen",
    "frequency",
    "cgroup",
    "pid",
    "all",
    "window",
    "window_bytes",
    "window_stacks",
    "ring_bytes",
    "unwind_bytes",
    "memory_interval",
    "without",
    "debug_dirs",
    "debuginfod",
    "debug_cache",
];

const RETENTION: [&str; 2] = ["max_bytes", "max_age"];

/// Something wrong in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong, and what is allowed.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}: {}", self.line, self.column, self.message)
    }
}

/// Reads a configuration file's text.
///
/// # Errors
/// All that is wrong, in the order of the text; at least one.
pub(super) fn parse(text: &str) -> Result<Layer, Vec<Problem>> {
    let table = DeTable::parse(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        let message = format!("not TOML: {}", error.message().replace('\n', ", "));
        vec![problem(text, start, message)]
    })?;
    let mut reader = Reader { text, layer: Layer::default(), problems: Vec::new() };
    reader.top(table.get_ref());
    let Reader { layer, mut problems, .. } = reader;
    if problems.is_empty() {
        return Ok(layer);
    }
    problems.sort_by_key(|problem| (problem.line, problem.column));
    problems.truncate(MAX_PROBLEMS);
    Err(problems)
}

/// A key with its value.
struct Item<'t> {
    /// From the top, with dots.
    key: String,
    value: &'t Spanned<DeValue<'t>>,
}

/// The walk over the file.
struct Reader<'t> {
    text: &'t str,
    layer: Layer,
    problems: Vec<Problem>,
}

impl<'t> Reader<'t> {
    fn top(&mut self, table: &'t DeTable<'t>) {
        let (mut cgroups, mut pids, mut all) = (None, None, None);
        for (name, item) in self.items("", table, &TOP) {
            match name {
                "without" => {
                    self.layer.without = self.list(&item, |reader, item| {
                        let name = reader.text(item)?;
                        reader.accept(item, values::probe(name))
                    });
                }
                "debug_dirs" => self.layer.debug_dirs = self.list(&item, Self::path),
                "debug_cache" => self.layer.debug_cache = self.path(&item),
                "debuginfod" => {
                    self.layer.debuginfod = self
                        .text(&item)
                        .and_then(|text| self.accept(&item, values::debuginfod(text)));
                }
                "interval" => self.layer.interval = self.duration(&item, &values::INTERVAL),
                "lookback" => self.layer.lookback = self.duration(&item, &values::INCIDENT_PART),
                "after" => self.layer.after = self.duration(&item, &values::INCIDENT_PART),
                "dump_dir" => self.layer.dump_dir = self.path(&item),
                "retention" => self.retention(&item),
                "rules" => self.rules(&item),
                "cpu_max" => self.layer.cpu_max = self.float(&item, &values::CPU_MAX),
                "max_incidents_per_hour" => {
                    self.layer.max_incidents_per_hour =
                        self.integer(&item, &values::INCIDENTS_PER_HOUR);
                }
                "listen" => {
                    self.layer.listen =
                        self.text(&item).and_then(|text| self.accept(&item, values::listen(text)));
                }
                "frequency" => self.layer.frequency = self.integer(&item, &values::FREQUENCY),
                "cgroup" => cgroups = self.list(&item, Self::path).map(|list| (item, list)),
                "pid" => {
                    let pid =
                        |reader: &mut Self, item: &Item<'t>| reader.integer(item, &values::PID);
                    pids = self.list(&item, pid).map(|list| (item, list));
                }
                "all" => all = self.bool(&item).filter(|all| *all).map(|_| item),
                "window" => self.layer.window = self.duration(&item, &values::WINDOW),
                "window_bytes" => {
                    self.layer.window_bytes = self.bytes(&item, &values::WINDOW_BYTES);
                }
                "window_stacks" => {
                    self.layer.window_stacks = self.integer(&item, &values::WINDOW_STACKS);
                }
                "ring_bytes" => {
                    self.layer.ring_bytes = self
                        .bytes(&item, &values::RING_BYTES)
                        .and_then(|bytes| self.accept(&item, values::ring_bytes(bytes)));
                }
                "unwind_bytes" => {
                    self.layer.unwind_rows = self
                        .bytes(&item, &values::UNWIND_BYTES)
                        .and_then(|bytes| self.accept(&item, values::unwind_rows(bytes)));
                }
                "memory_interval" => {
                    self.layer.memory_interval = self.bytes(&item, &values::MEMORY_INTERVAL);
                }
                // `items` has told the rest.
                _ => {}
            }
        }
        self.layer.watch = match (cgroups, pids, all) {
            (Some((_, list)), None, None) => Some(Watch::Cgroups(list)),
            (None, Some((_, list)), None) => Some(Watch::Processes(list)),
            (None, None, Some(_)) => Some(Watch::Host),
            (None, None, None) => None,
            (_, Some((item, _)), Some(_)) | (_, Some((item, _)), None) | (_, None, Some(item)) => {
                let message = "give one of `cgroup`, `pid` and `all`".to_owned();
                self.problem(item.value.span(), message);
                None
            }
        };
    }

    fn retention(&mut self, item: &Item<'t>) {
        let Some(table) = self.table(item, "{ max_bytes = \"2GiB\", max_age = \"14d\" }") else {
            return;
        };
        for (name, item) in self.items("retention.", table, &RETENTION) {
            match name {
                "max_bytes" => {
                    self.layer.retention_bytes = self.bytes(&item, &values::RETENTION_BYTES);
                }
                _ => self.layer.retention_age = self.duration(&item, &values::RETENTION_AGE),
            }
        }
    }

    /// The known items of a table; each unknown one is a problem.
    fn items(
        &mut self,
        prefix: &str,
        table: &'t DeTable<'t>,
        known: &[&'static str],
    ) -> Vec<(&'static str, Item<'t>)> {
        let mut items = Vec::new();
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            match known.iter().find(|known| **known == name) {
                Some(known) => items.push((*known, Item { key: format!("{prefix}{name}"), value })),
                None => {
                    let message = unknown(prefix, name, known);
                    self.problem(key.span(), message);
                }
            }
        }
        items
    }

    fn duration(&mut self, item: &Item<'t>, bounds: &Durations) -> Option<Duration> {
        let result = match item.value.get_ref() {
            DeValue::String(text) => bounds.parse(text),
            // A bare number: the bounds know what to say about a missing unit.
            DeValue::Integer(number) => bounds.parse(number.as_str()),
            other => Err(expected(other, &format!("text, as \"5s\"; allowed: {bounds}"))),
        };
        self.accept(item, result)
    }

    fn bytes(&mut self, item: &Item<'t>, bounds: &Bytes) -> Option<u64> {
        let result = match item.value.get_ref() {
            DeValue::String(text) => bounds.parse(text),
            DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix())
                .map_err(|_| format!("is out of range; allowed: {bounds}"))
                .and_then(|bytes| bounds.check(bytes)),
            other => Err(expected(other, &format!("text, as \"64MiB\"; allowed: {bounds}"))),
        };
        self.accept(item, result)
    }

    fn integer(&mut self, item: &Item<'t>, bounds: &Integers) -> Option<u32> {
        let result = match item.value.get_ref() {
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map_err(|_| format!("is out of range; allowed: {bounds}"))
                .and_then(|value| bounds.check(value)),
            other => Err(expected(other, &format!("{bounds}, without quotes"))),
        };
        self.accept(item, result)
    }

    fn float(&mut self, item: &Item<'t>, bounds: &Floats) -> Option<f64> {
        let result = match item.value.get_ref() {
            DeValue::Float(number) => bounds.parse(number.as_str()),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map_err(|_| format!("is out of range; allowed: {bounds}"))
                .and_then(|value| bounds.check(value as f64)),
            other => Err(expected(other, &format!("{bounds}, without quotes"))),
        };
        self.accept(item, result)
    }

    fn text(&mut self, item: &Item<'t>) -> Option<&'t str> {
        let result = item.value.get_ref().as_str();
        let result = result.ok_or_else(|| expected(item.value.get_ref(), "text in quotes"));
        self.accept(item, result)
    }

    fn path(&mut self, item: &Item<'t>) -> Option<PathBuf> {
        let text = self.text(item)?;
        let result =
            if text.is_empty() { Err("is empty: give a path".to_owned()) } else { Ok(text) };
        self.accept(item, result).map(PathBuf::from)
    }

    fn bool(&mut self, item: &Item<'t>) -> Option<bool> {
        let result = item.value.get_ref().as_bool();
        let result = result.ok_or_else(|| expected(item.value.get_ref(), "true or false"));
        self.accept(item, result)
    }

    fn table(&mut self, item: &Item<'t>, shape: &str) -> Option<&'t DeTable<'t>> {
        let result = item.value.get_ref().as_table();
        let result = result.ok_or_else(|| expected(item.value.get_ref(), shape));
        self.accept(item, result)
    }

    /// One value or an array of them; never an empty list.
    fn list<T>(
        &mut self,
        item: &Item<'t>,
        each: impl Fn(&mut Self, &Item<'t>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let Some(array) = item.value.get_ref().as_array() else {
            return each(self, item).map(|one| vec![one]);
        };
        if array.is_empty() || array.len() > MAX_TARGETS as usize {
            let message = format!("has {} entries; allowed: 1 to {MAX_TARGETS}", array.len());
            return self.accept(item, Err(message));
        }
        array.iter().map(|value| each(self, &Item { key: item.key.clone(), value })).collect()
    }

    /// The value of a result; an error becomes a problem at the item's place.
    fn accept<T>(&mut self, item: &Item<'t>, result: Result<T, String>) -> Option<T> {
        result
            .map_err(|message| {
                let span = item.value.span();
                let shown = shown(self.text.get(span.clone()).unwrap_or_default());
                self.problem(span, format!("`{} = {shown}` {message}", item.key));
            })
            .ok()
    }

    fn problem(&mut self, span: Range<usize>, message: String) {
        self.problems.push(problem(self.text, span.start, message));
    }
}

fn problem(text: &str, offset: usize, message: String) -> Problem {
    // The parser may point behind the last character.
    let before = text.get(..offset.min(text.len())).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
    Problem { line, column, message }
}

/// What a value looks like in a message: one line, not too long.
fn shown(text: &str) -> String {
    let mut shown: String =
        text.chars().take(MAX_SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(MAX_SHOWN).is_some() {
        shown.push_str("...");
    }
    shown
}

fn expected(found: &DeValue<'_>, wanted: &str) -> String {
    format!("is {}; wanted: {wanted}", article(found.type_str()))
}

fn article(noun: &str) -> String {
    let article = if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {noun}")
}

fn unknown(prefix: &str, name: &str, known: &[&'static str]) -> String {
    let place = if prefix.is_empty() {
        "at the top".to_owned()
    } else {
        format!("in [{}]", prefix.trim_end_matches('.'))
    };
    let hint = if let Some(near) = suggest::nearest(name, known) {
        suggest::did_you_mean(near)
    } else if TOP.contains(&name) {
        format!("; `{name}` belongs at the top, before the first [table]")
    } else if RETENTION.contains(&name) {
        format!("; `{name}` belongs in [retention]")
    } else if Signal::ALL.iter().any(|signal| signal.name() == name) {
        format!("; write [rules.{name}]")
    } else if rule_text::PARTS.contains(&name) {
        format!("; `{name}` belongs in [rules.SIGNAL]")
    } else if rule_text::LEAK_PARTS.contains(&name) {
        format!("; `{name}` belongs in [rules.leak]")
    } else if rule_text::PSI_PARTS.contains(&name) {
        format!("; `{name}` belongs in [rules.psi]")
    } else {
        String::new()
    };
    format!("unknown key `{prefix}{}`; known {place}: {}{hint}", shown(name), known.join(", "))
}

#[cfg(test)]
mod tests;
