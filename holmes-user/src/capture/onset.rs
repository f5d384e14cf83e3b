//! When a spike began, from the target's own values second by second.
//!
//! Must not: know where the values come from.

/// The first second of the run in which the values are above the midpoint between their earlier
/// level and their peak, as an index into `series`. The run is the last such run at or after
/// `quiet`, the index of the last quiet reading's second; it may begin before it.
///
/// The earlier level is the median of the values before `quiet`: one odd second does not move it.
/// With no value before, it is 0. `None` where the values do not rise at all: the signal rose for a
/// reason that this series does not show.
pub(super) fn first_of_run(series: &[i64], quiet: usize) -> Option<usize> {
    let quiet = quiet.min(series.len());
    let (earlier, recent) = series.split_at(quiet);
    let level = median(earlier);
    let peak = *recent.iter().max()?;
    if peak <= level {
        return None;
    }
    let midpoint = level + (peak - level) / 2;
    let last = series.iter().rposition(|&value| value > midpoint)?;
    let below = series[..last].iter().rposition(|&value| value <= midpoint);
    Some(below.map_or(0, |below| below + 1))
}

/// The lower median; 0 of nothing.
fn median(values: &[i64]) -> i64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(series: &[i64], quiet: usize, expect: Option<usize>) {
        assert_eq!(first_of_run(series, quiet), expect, "{series:?} from {quiet}");
    }

    #[test]
    fn a_step_begins_where_it_steps() {
        check(&[1, 1, 1, 1, 9, 9, 9], 5, Some(4));
        check(&[1, 1, 1, 1, 1, 1, 9], 5, Some(6));
    }

    #[test]
    fn a_ramp_begins_at_its_midpoint() {
        check(&[0, 0, 0, 2, 4, 6, 8, 10], 5, Some(5));
    }

    #[test]
    fn an_earlier_spike_is_another_one() {
        check(&[0, 9, 9, 0, 0, 0, 9, 9], 5, Some(6));
    }

    #[test]
    fn a_burst_that_is_over_counts() {
        check(&[0, 0, 0, 0, 0, 7, 0, 0], 4, Some(5));
    }

    #[test]
    fn one_odd_second_before_does_not_move_the_level() {
        check(&[0, 100, 0, 0, 0, 9, 9], 5, Some(5));
    }

    #[test]
    fn flat_values_have_no_onset() {
        check(&[5, 5, 5, 5], 2, None);
        check(&[5, 5, 0, 0], 2, None);
        check(&[], 0, None);
        check(&[3], 7, None);
    }

    #[test]
    fn without_an_earlier_level_the_run_begins_at_the_first_second() {
        check(&[9, 9, 9], 0, Some(0));
    }

    #[test]
    fn extreme_values_do_not_overflow() {
        check(&[0, i64::MAX], 1, Some(1));
    }
}
