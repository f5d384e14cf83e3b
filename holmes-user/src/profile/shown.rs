//! The frames of a sample that are shown: where a thread waits, without how the kernel switches threads.
//!
//! Must not: leave out any other frame.

use crate::symbolize::{Frame, Place, SymbolTable, frames};
use crate::window::{CutSample, Detail};

/// How the kernel leaves a thread, innermost last: the probe itself and what calls it come before these.
const SWITCH: [&str; 2] = ["__schedule", "schedule"];

/// Kernel frames among which they are looked for: a probe has at most four before them.
const LEAF_FRAMES: usize = 8;

/// The frames of a sample, leaf first.
pub(super) fn shown_frames<'a>(
    sample: &'a CutSample,
    symbols: &SymbolTable,
) -> impl Iterator<Item = Frame<'a>> {
    frames(sample).skip(switch_frames(sample, symbols))
}

/// How many frames at the leaf are the kernel's switching of threads.
fn switch_frames(sample: &CutSample, symbols: &SymbolTable) -> usize {
    if !matches!(sample.detail, Detail::Wait { .. }) {
        return 0;
    }
    let leaf = frames(sample).take(LEAF_FRAMES).enumerate();
    let of_kernel = leaf.take_while(|(_, frame)| matches!(frame.place, Place::Kernel(_)));
    let last = of_kernel.filter(|(_, frame)| is_switch(frame, symbols)).last();
    last.map_or(0, |(index, _)| index + 1)
}

fn is_switch(frame: &Frame<'_>, symbols: &SymbolTable) -> bool {
    let lines = symbols.get(frame.place).map(|named| &named.lines);
    lines.is_some_and(|lines| lines.iter().any(|line| SWITCH.contains(&line.function.as_ref())))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Made, made};
    use super::*;
    use crate::collect::WaitCause;

    /// The made cut's third sample is in two kernel functions: a helper, below `schedule`.
    #[test]
    fn what_switches_threads_is_left_out_of_waits_alone() {
        let Made { cut, symbols } = made();
        let mut sample = cut.samples[2].clone();
        let places = |sample: &CutSample| -> Vec<Place> {
            shown_frames(sample, &symbols).map(|frame| frame.place).collect()
        };
        let all = places(&sample);
        assert!(matches!(all[..3], [Place::Kernel(_), Place::Kernel(_), Place::Object { .. }]));
        sample.detail = Detail::over(WaitCause::Futex);
        assert_eq!(places(&sample), all[2..]);
    }
}
