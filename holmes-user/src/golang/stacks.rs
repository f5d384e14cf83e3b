//! Stacks, each kept once: goroutines by the thousand have the same.
//!
//! Must not: hold more than its bound.

use std::collections::HashSet;
use std::sync::Arc;

use super::goroutine::{Stack, StackEnd};

/// Addresses of all different stacks together, 32 MiB. Programs have some hundred stacks.
const MAX_ADDRESSES: usize = 4 << 20;

/// The different stacks of a snapshot. The target chooses what they hold: not by a fast hash.
#[derive(Debug, Default)]
pub(super) struct Stacks {
    known: HashSet<Arc<Stack>>,
    addresses: usize,
}

impl Stacks {
    /// The stack with these addresses; `None` if there is no room for one more.
    pub(super) fn intern(&mut self, addresses: &[u64], end: StackEnd) -> Option<Arc<Stack>> {
        let stack = Stack { addresses: addresses.into(), end };
        if let Some(known) = self.known.get(&stack) {
            return Some(Arc::clone(known));
        }
        // Each is charged for what is around it, too.
        let charged = addresses.len() + 8;
        if self.addresses + charged > MAX_ADDRESSES {
            return None;
        }
        self.addresses += charged;
        let stack = Arc::new(stack);
        self.known.insert(Arc::clone(&stack));
        Some(stack)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_is_kept_once_and_there_is_a_bound() {
        let mut stacks = Stacks::default();
        let first = stacks.intern(&[1, 2], StackEnd::Whole).unwrap();
        assert!(Arc::ptr_eq(&first, &stacks.intern(&[1, 2], StackEnd::Whole).unwrap()));
        assert!(!Arc::ptr_eq(&first, &stacks.intern(&[1, 2], StackEnd::Cut).unwrap()));
        let deep = vec![7; MAX_ADDRESSES / 4];
        let made = (0..10).filter(|&number| {
            let mut deep = deep.clone();
            deep[0] = number;
            stacks.intern(&deep, StackEnd::Whole).is_some()
        });
        assert_eq!(made.count(), 3);
        assert!(stacks.intern(&[1, 3], StackEnd::Whole).is_some(), "there is room for a small one");
    }
}
