//! The last values of one signal of one target.
//!
//! Must not: know rules. Only finite values that are not negative get in.

use std::collections::VecDeque;

/// Values that the average is taken over, and that must have been seen before a rule may fire.
/// Holmes' own number.
pub const RING_LEN: usize = 10;

/// A ring of the previous values, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    values: VecDeque<f64>,
}

impl History {
    pub(super) fn push(&mut self, value: f64) {
        if self.values.len() == RING_LEN {
            self.values.pop_front();
        }
        self.values.push_back(value);
    }

    /// Whether enough values are known to say what is normal.
    pub(super) fn is_warm(&self) -> bool {
        self.values.len() == RING_LEN
    }

    /// The average of the values; `None` without any.
    pub(super) fn average(&self) -> Option<f64> {
        let (first, count) = (*self.values.front()?, self.values.len() as f64);
        let (low, high) = self
            .values
            .iter()
            .fold((first, first), |(low, high), &value| (low.min(value), high.max(value)));
        let mean = self.values.iter().sum::<f64>() / count;
        // Rounding may put the mean of equal values beside them; a flat signal must not look
        // like a rising one to a very small `diff`. A sum beyond all numbers becomes the highest value.
        Some(mean.clamp(low, high))
    }

    pub(super) fn values(&self) -> Vec<f64> {
        self.values.iter().copied().collect()
    }
}
