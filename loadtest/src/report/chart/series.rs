//! Rows of values, as lines or bars.

use std::fmt::Write as _;

use super::axis::{Axis, range};
use super::{BOTTOM, HEIGHT};

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

/// More points than the plot has pixels are drawn in bins, by their largest value.
const POINTS_MAX: usize = 540;

impl Series {
    /// A line.
    pub(in crate::report) fn line(name: &'static str, points: Points) -> Self {
        Self {
            name,
            points,
            form: Form::Line,
        }
    }

    /// As it is drawn: no more points than the plot has room for, and only finite ones.
    pub(super) fn thinned(&self) -> Self {
        let bin = self.points.len().div_ceil(POINTS_MAX);
        let points = if bin <= 1 || self.form != Form::Line {
            let finite = |value: &f64| value.is_finite();
            self.points
                .iter()
                .map(|(x, value)| (*x, value.filter(finite)))
                .collect()
        } else {
            self.points
                .chunks(bin)
                .map(|chunk| {
                    let values = chunk.iter().filter_map(|(_, value)| *value);
                    (
                        chunk[chunk.len() / 2].0,
                        range(values).map(|(_, high)| high),
                    )
                })
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
                let bottom = HEIGHT - BOTTOM;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_runs_are_thinned_and_keep_their_peaks() {
        let points = (0..36_000)
            .map(|index| {
                let value = if index == 20_000 { 900.0 } else { 1.0 };
                (f64::from(index), Some(value))
            })
            .collect();
        let thinned = Series::line("long", points).thinned();
        assert!(thinned.points.len() <= POINTS_MAX);
        assert!(
            thinned
                .points
                .iter()
                .any(|(_, value)| *value == Some(900.0))
        );
    }
}
