//! A snapshot of goroutines as a cut, so that it is named and encoded as all profiles are.
//!
//! Must not: leave out a goroutine: the values sum up to all of them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::cut::{Cut, CutSample, Detail, Labels, Owner, ProfileKind, pair};
use crate::collect::{Nanos, Stack};
use crate::golang::{Blocked, LabelSet, Snapshot, StackEnd, State};

/// Names of labels that a profile of goroutines has by itself.
const TAKEN: [&str; 10] = [
    "pid",
    "comm",
    "cgroup",
    "container",
    "recorder",
    "state",
    "wait_reason",
    "lock",
    "blocked",
    "stack",
];

/// The goroutines of one process, as a snapshot has found them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProcessGoroutines {
    /// Whose.
    pub owner: Arc<Owner>,
    /// By stack and state.
    pub samples: Vec<GoroutineSample>,
}

/// Goroutines with one stack in one state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoroutineSample {
    /// Their addresses, leaf first: as in other samples the leaf's is exact.
    pub addresses: Box<[u64]>,
    /// `state`, `wait_reason` where they wait, `lock` where that is for one, `blocked` where they did not
    /// move, `stack` where it is not whole, and those that the program has given them.
    pub labels: Labels,
    /// How many.
    pub count: i64,
}

impl ProcessGoroutines {
    /// Those of a snapshot; with how long they are blocked, where that was measured.
    pub fn of(snapshot: &Snapshot, blocked: Option<&Blocked>, owner: Arc<Owner>) -> Self {
        type Key<'a> = (&'a [u64], StackEnd, State, u64, bool, Option<&'a LabelSet>);
        let mut counts: BTreeMap<Key<'_>, i64> = BTreeMap::new();
        for (index, goroutine) in snapshot.goroutines.iter().enumerate() {
            let stayed = blocked.is_some_and(|blocked| blocked.has_stayed(index));
            let given = goroutine.labels.as_deref();
            let stack = &goroutine.stack;
            let (state, lock) = (goroutine.state, goroutine.lock);
            let key = (&*stack.addresses, stack.end, state, lock, stayed, given);
            *counts.entry(key).or_default() += 1;
        }
        let span: Option<Arc<str>> = blocked.map(|blocked| {
            let millis = std::time::Duration::from_millis(blocked.span.as_millis() as u64);
            format!("at least {}", humantime::format_duration(millis)).into()
        });
        let samples = counts.into_iter().map(|(key, count)| {
            let (addresses, end, state, lock, stayed, given) = key;
            let mut labels: Labels = vec![("state".into(), state.word().into())];
            if matches!(state, State::Waiting(_) | State::Leaked(_)) {
                labels.push(("wait_reason".into(), state.text(&snapshot.version).into()));
            }
            if lock != 0 {
                labels.push(("lock".into(), format!("{lock:#x}").into()));
            }
            if let Some(span) = span.as_ref().filter(|_| stayed) {
                labels.push(("blocked".into(), Arc::clone(span)));
            }
            if let Some(text) = stack_label(end) {
                labels.push(("stack".into(), text.into()));
            }
            labels.extend(given.into_iter().flat_map(LabelSet::texts).filter_map(given_label));
            GoroutineSample { addresses: user(addresses, end), labels, count }
        });
        Self { owner, samples: samples.collect() }
    }
}

/// The cut of the goroutines of some processes, seen between two moments.
pub fn goroutine_cut(processes: &[ProcessGoroutines], from: Nanos, to: Nanos) -> Cut {
    let samples = processes.iter().flat_map(|process| {
        process.samples.iter().map(|sample| CutSample {
            owner: Arc::clone(&process.owner),
            stack: Arc::new(Stack { user: sample.addresses.clone(), kernel: Box::default() }),
            detail: Detail::None,
            labels: sample.labels.clone(),
            values: pair([sample.count, 0]),
        })
    });
    Cut { kind: ProfileKind::Goroutines, from, to, samples: samples.collect() }
}

/// A label that the program has given a goroutine. What a profile says itself keeps its name, and the
/// program's gets another one.
fn given_label((name, value): (String, String)) -> Option<(Cow<'static, str>, Arc<str>)> {
    // A label without a value is none in a profile.
    if value.is_empty() {
        return None;
    }
    let is_taken = name.is_empty() || TAKEN.contains(&name.as_str());
    let name = if is_taken { format!("label.{name}") } else { name };
    Some((name.into(), value.into()))
}

const fn stack_label(end: StackEnd) -> Option<&'static str> {
    match end {
        StackEnd::Whole => None,
        StackEnd::Cut => Some("cut"),
        StackEnd::Broken => Some("broken"),
        StackEnd::Unknown => Some("start only"),
    }
}

/// The addresses as in other samples: the leaf's is exact. The outermost function, `runtime.goexit`, is
/// left out, as in Go's own profiles.
fn user(addresses: &[u64], end: StackEnd) -> Box<[u64]> {
    let kept = match (end, addresses) {
        (StackEnd::Whole, [rest @ .., _]) if !rest.is_empty() => rest,
        _ => addresses,
    };
    let mut user: Box<[u64]> = kept.into();
    if let Some(leaf) = user.first_mut() {
        *leaf = leaf.saturating_sub(1);
    }
    user
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_are_exact_and_goexit_is_left_out() {
        assert_eq!(*user(&[11, 21, 31], StackEnd::Whole), [10, 21]);
        assert_eq!(*user(&[11, 21], StackEnd::Cut), [10, 21]);
        assert_eq!(*user(&[11], StackEnd::Whole), [10]);
        assert!(user(&[], StackEnd::Unknown).is_empty());
    }
}
