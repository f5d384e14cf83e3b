//! Numbers of several runs, and the one that stands for them.
//!
//! Must not: know what was measured.

/// The middle of several values, with their extremes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    /// The median.
    pub median: f64,
    /// The lowest.
    pub low: f64,
    /// The highest.
    pub high: f64,
    /// How many there are, at least one.
    pub count: usize,
}

impl Figure {
    /// Of these values, those that are no number left out; `None` where nothing remains.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let upper = *sorted.get(middle)?;
        let median = if sorted.len() % 2 == 1 {
            upper
        } else {
            f64::midpoint(*sorted.get(middle.wrapping_sub(1))?, upper)
        };
        Some(Self { median, low, high, count: sorted.len() })
    }
}

/// The straight line through two points, at `x`; `None` where they are one above the other.
pub fn on_line((x1, y1): (f64, f64), (x2, y2): (f64, f64), x: f64) -> Option<f64> {
    let slope = slope((x1, y1), (x2, y2))?;
    Some(y1 + (x - x1) * slope)
}

/// What `y` gains for each `x` between two points.
pub fn slope((x1, y1): (f64, f64), (x2, y2): (f64, f64)) -> Option<f64> {
    let run = x2 - x1;
    (run.abs() > f64::EPSILON).then(|| (y2 - y1) / run)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between_the_middle_two() {
        let figure = Figure::of(&[3.0, 1.0, 2.0]).unwrap();
        assert_eq!((figure.median, figure.low, figure.high, figure.count), (2.0, 1.0, 3.0, 3));
        assert_eq!(Figure::of(&[4.0, 1.0, 2.0, 3.0]).unwrap().median, 2.5);
        assert_eq!(Figure::of(&[7.0]).unwrap().median, 7.0);
    }

    #[test]
    fn what_is_no_number_does_not_count() {
        let figure = Figure::of(&[f64::NAN, 2.0, f64::INFINITY]).unwrap();
        assert_eq!((figure.median, figure.count), (2.0, 1));
        assert_eq!(Figure::of(&[f64::NAN]), None);
        assert_eq!(Figure::of(&[]), None);
    }

    #[test]
    fn lines_go_through_their_points() {
        let (a, b) = ((10.0, 1000.0), (40.0, 2500.0));
        assert_eq!(slope(a, b), Some(50.0));
        assert_eq!(on_line(a, b, 20.0), Some(1500.0));
        assert_eq!(on_line(a, (10.0, 1.0), 20.0), None);
    }
}
