//! Rows of values, as lines or bars.

use std::fmt::Write as _;

use super::axis::Axis;

/// Values and where they stand, ascending; a missing one interrupts the line.
pub(in crate::report) type Points = Vec<(f64, Option<f64>)>;

/// A row of values.
#[derive(Clone, Debug)]
pub(in crate::report) struct Series {
    /// What they are; shown in the legend.
    pub(in crate::report) name: &'static str,
    /// The values.
    pub(in crate::report) points: Points,
    /// How they are drawn.
    pub(in crate::report) form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::report) enum Form {
    Line,
    /// Bars of this width, each from its point to the right.
    Bars(f64),
}

impl Series {
    /// A line.
    pub(in crate::report) fn line(name: &'static str, points: Points) -> Self {
        Self {
            name,
            points,
            form: Form::Line,
        }
    }

    /// As it is drawn: only finite values, and no more points than the plot has room for. More than that are drawn by the
    /// least and the largest value of each bin, in their order: neither a peak nor an outage of seconds is lost in hours.
    pub(super) fn thinned(&self, points_max: usize) -> Self {
        let finite = |(x, value): &(f64, Option<f64>)| (*x, value.filter(|it| it.is_finite()));
        let bin = (2 * self.points.len()).div_ceil(points_max.max(2));
        let points = if bin <= 2 || self.form != Form::Line {
            self.points.iter().map(finite).collect()
        } else {
            let bins = self.points.chunks(bin);
            bins.flat_map(|bin| ends(&bin.iter().map(finite).collect::<Points>()))
                .collect()
        };
        Self {
            points,
            ..self.clone()
        }
    }

    pub(super) fn draw(&self, tone: usize, x: &Axis, y: &Axis, html: &mut String) {
        let mut path = String::new();
        match self.form {
            Form::Bars(width) => {
                let bottom = y.from;
                for (at, value) in &self.points {
                    if let Some(value) = value.filter(|value| *value > 0.0) {
                        let (left, right) = (x.place(*at), x.place(at + width));
                        let top = y.place(value);
                        let _ = write!(
                            path,
                            "M{left:.1} {bottom}V{top:.1}H{:.1}V{bottom}Z",
                            (right - 0.6).max(left + 0.4)
                        );
                    }
                }
                let _ = write!(html, "<path class=\"bars t{tone}\" d=\"{path}\"/>");
            }
            Form::Line => {
                let mut alone = Vec::new();
                for stretch in self.points.split(|(_, value)| value.is_none()) {
                    let points = stretch
                        .iter()
                        .filter_map(|(at, value)| Some((x.place(*at), y.place((*value)?))));
                    for (index, (at, level)) in points.enumerate() {
                        let _ = write!(
                            path,
                            "{}{at:.1} {level:.1}",
                            if index == 0 { 'M' } else { 'L' }
                        );
                        if stretch.len() == 1 {
                            alone.push((at, level));
                        }
                    }
                }
                let _ = write!(html, "<path class=\"line t{tone}\" d=\"{path}\"/>");
                // A point without neighbours has no line.
                for (at, level) in alone {
                    let _ = write!(
                        html,
                        "<circle class=\"dot t{tone}\" cx=\"{at:.1}\" cy=\"{level:.1}\" r=\"2.5\"/>"
                    );
                }
            }
        }
    }
}

/// The points of the least and of the largest value, in their order; one without a value where none has one.
fn ends(bin: &[(f64, Option<f64>)]) -> Points {
    let valued = || bin.iter().filter(|(_, value)| value.is_some());
    let by_value = |a: &&(f64, Option<f64>), b: &&(f64, Option<f64>)| {
        let of = |value: Option<f64>| value.unwrap_or_default();
        of(a.1).total_cmp(&of(b.1))
    };
    match (valued().min_by(by_value), valued().max_by(by_value)) {
        (Some(least), Some(largest)) if least.0 < largest.0 => vec![*least, *largest],
        (Some(least), Some(largest)) if least.0 > largest.0 => vec![*largest, *least],
        (Some(only), _) => vec![*only],
        _ => bin.first().copied().into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_runs_are_thinned_and_keep_their_peaks_and_their_outages() {
        let points = (0..36_000)
            .map(|index| {
                let value = match index {
                    20_000 => 900.0,
                    30_000..30_003 => 0.0,
                    _ => 1.0,
                };
                (f64::from(index), Some(value))
            })
            .collect();
        let thinned = Series::line("long", points).thinned(540);
        assert!(thinned.points.len() <= 540, "{}", thinned.points.len());
        assert!(thinned.points.is_sorted_by(|a, b| a.0 < b.0));
        for kept in [900.0, 0.0] {
            let is_kept = |(_, value): &(f64, Option<f64>)| *value == Some(kept);
            assert!(thinned.points.iter().any(is_kept), "{kept}");
        }
        let silent = Series::line("silent", vec![(0.0, None); 5000]).thinned(540);
        assert!(silent.points.iter().all(|(_, value)| value.is_none()));
    }
}
