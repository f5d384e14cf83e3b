//! Each distinct value once: exact equality, explicit reference counts, measured bytes.
//!
//! Must not: identify values by a hash alone (two stacks with one hash stay two stacks), or hash
//! with a known seed (a target chooses its addresses).

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::mem::size_of;
use std::sync::Arc;

use crate::collect::Stack;

/// A table that is used to less than one part in this many is given back to the allocator, so that
/// a flood does not cost memory after it is over.
const SHRINK_BELOW: usize = 4;

/// The two counts in front of an [`Arc`]'s value.
const ARC_HEADER_BYTES: usize = 2 * size_of::<usize>();

/// Bytes of the allocation behind a hash table of this capacity: entries, and one control byte for
/// each slot. The table uses 7 of 8 slots of a power of two (hashbrown's layout).
pub(super) fn table_bytes<Entry>(capacity: usize) -> usize {
    if capacity == 0 {
        return 0;
    }
    let slots = (capacity.saturating_mul(8) / 7).next_power_of_two();
    slots.saturating_mul(size_of::<Entry>() + 1)
}

/// What a value occupies on the heap.
pub(super) trait Measured {
    /// Bytes behind the value, without the value itself.
    fn heap_bytes(&self) -> usize;
}

impl Measured for Stack {
    fn heap_bytes(&self) -> usize {
        (self.user.len() + self.kernel.len()) * size_of::<u64>()
    }
}

/// Bytes of a shared value with all that it owns.
pub(super) fn shared_bytes<T: Measured>(value: &T) -> usize {
    ARC_HEADER_BYTES + size_of::<T>() + value.heap_bytes()
}

/// An interned value, compared and hashed by where it is: two of one interner are equal exactly if
/// their addresses are.
#[derive(Debug)]
pub(super) struct Interned<T>(Arc<T>);

impl<T> Interned<T> {
    pub(super) fn value(&self) -> &T {
        &self.0
    }

    pub(super) fn share(&self) -> Arc<T> {
        Arc::clone(&self.0)
    }
}

impl<T> Clone for Interned<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> PartialEq for Interned<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<T> Eq for Interned<T> {}

impl<T> Hash for Interned<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

/// Owner of all interned values of one type. A value stays as long as it is held: [`Self::hold`]
/// and [`Self::release`] come in pairs.
#[derive(Debug)]
pub(super) struct Interner<T> {
    /// The values, each with how often it is held.
    values: HashMap<Arc<T>, u32>,
    /// Bytes of the values themselves.
    value_bytes: usize,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self { values: HashMap::new(), value_bytes: 0 }
    }
}

impl<T: Eq + Hash + Measured> Interner<T> {
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// Bytes of the values and of their table.
    pub(super) fn bytes(&self) -> usize {
        self.value_bytes + table_bytes::<(Arc<T>, u32)>(self.values.capacity())
    }

    /// The interned value equal to this one.
    pub(super) fn find(&self, value: &T) -> Option<Interned<T>> {
        self.values.get_key_value(value).map(|(known, _)| Interned(Arc::clone(known)))
    }

    /// Interns a value that [`Self::find`] did not find; nobody holds it yet.
    pub(super) fn insert(&mut self, value: Arc<T>) -> Interned<T> {
        self.value_bytes += shared_bytes(&*value);
        self.values.insert(Arc::clone(&value), 0);
        Interned(value)
    }

    /// One more holder.
    pub(super) fn hold(&mut self, value: &Interned<T>) {
        if let Some(holders) = self.values.get_mut(value.value()) {
            *holders += 1;
        }
    }

    /// One holder less; says whether it was the last, and the value is gone.
    pub(super) fn release(&mut self, value: &Interned<T>) -> bool {
        let Some(holders) = self.values.get_mut(value.value()) else { return false };
        *holders = holders.saturating_sub(1);
        if *holders > 0 {
            return false;
        }
        self.values.remove(value.value());
        self.value_bytes -= shared_bytes(value.value());
        true
    }

    /// Gives memory back after many values were released.
    pub(super) fn shrink(&mut self) {
        if self.values.len() * SHRINK_BELOW < self.values.capacity() {
            self.values.shrink_to(self.values.len() * 2);
        }
    }
}
