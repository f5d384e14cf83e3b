//! A snapshot of goroutines as a cut, so that it is named and encoded as all profiles are.
//!
//! Must not: leave out a goroutine: the values sum up to all of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::cut::{Cut, CutSample, Labels, Owner, ProfileKind, pair};
use crate::collect::{Memory, Stack};
use crate::golang::{Blocked, Snapshot, StackEnd, State};

/// The cut of a snapshot; with how long goroutines are blocked, where that was measured.
///
/// Labels: `state`, `wait_reason` where it waits, `blocked` where it did not move, `stack` where it is
/// not whole.
pub fn goroutine_cut(snapshot: &Snapshot, blocked: Option<&Blocked>, owner: &Arc<Owner>) -> Cut {
    type Key<'a> = (&'a [u64], StackEnd, State, bool);
    let mut counts: BTreeMap<Key<'_>, i64> = BTreeMap::new();
    for (index, goroutine) in snapshot.goroutines.iter().enumerate() {
        let stayed = blocked.is_some_and(|blocked| blocked.has_stayed(index));
        let key = (&*goroutine.stack.addresses, goroutine.stack.end, goroutine.state, stayed);
        *counts.entry(key).or_default() += 1;
    }
    let span: Option<Arc<str>> = blocked.map(|blocked| {
        let millis = std::time::Duration::from_millis(blocked.span.as_millis() as u64);
        format!("at least {}", humantime::format_duration(millis)).into()
    });
    let samples = counts.into_iter().map(|((addresses, end, state, stayed), count)| {
        let mut labels: Labels = vec![("state", state.word().into())];
        if matches!(state, State::Waiting(_) | State::Leaked(_)) {
            labels.push(("wait_reason", state.text(&snapshot.version).into()));
        }
        if let Some(span) = span.as_ref().filter(|_| stayed) {
            labels.push(("blocked", Arc::clone(span)));
        }
        if let Some(text) = stack_label(end) {
            labels.push(("stack", text.into()));
        }
        CutSample {
            owner: Arc::clone(owner),
            stack: Arc::new(Stack { user: user(addresses, end), kernel: Box::default() }),
            memory: Memory::default(),
            labels,
            values: pair([count, 0]),
        }
    });
    let to = snapshot.taken.plus(snapshot.took);
    let samples = samples.collect();
    Cut { kind: ProfileKind::Goroutines, from: snapshot.taken, to, samples }
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
