//! Charts as SVG: axes, lines, bars. They know numbers and names, not what those mean.

mod axis;
mod frame;
mod series;

use std::fmt::Write as _;

use crate::report::markup::escape;

use axis::{Axis, binary_scale, decades, linear_ticks, range};
pub(super) use axis::{Unit, plain};
use frame::{Frame, LETTER, MARK_ROWS, NARROW, WIDE};
pub(super) use series::{Form, Points, Series};

/// One chart.
#[derive(Clone, Debug, Default)]
pub(super) struct Chart {
    /// What it shows.
    pub(super) title: String,
    /// What has to be known to read it.
    pub(super) note: Option<String>,
    /// What the vertical axis counts, with its unit.
    pub(super) y_label: &'static str,
    /// What the horizontal axis counts, with its unit.
    pub(super) x_label: &'static str,
    /// The values.
    pub(super) series: Vec<Series>,
    /// Vertical lines with a name, at most a handful.
    pub(super) marks: Vec<(f64, String)>,
    /// Where the horizontal axis begins when that is before the first value.
    pub(super) x_from: Option<f64>,
    /// Horizontal ticks where round numbers would not do.
    pub(super) x_ticks: Vec<(f64, String)>,
    /// How values are written beside the axis.
    pub(super) unit: Unit,
    /// Whether a wide range is drawn logarithmically. A sum or a share must start at zero.
    pub(super) may_be_logarithmic: bool,
}

/// From this ratio of the largest to the smallest value on, a linear axis would hide the small ones.
const LOGARITHMIC_FROM: f64 = 25.0;
/// Lines that are never further apart than this look like one: about the width of two.
const APART_MIN: f64 = 4.0;

/// What is drawn as one line: a series, its tone, and the names of all that lie on it.
struct Line<'a> {
    tone: usize,
    series: &'a Series,
    names: Vec<&'static str>,
}

impl Chart {
    /// The chart with its title and legend; `None` when there is nothing to draw.
    ///
    /// It is drawn twice, and the page shows the one that fits: text that shrinks with the picture cannot be read on a
    /// telephone.
    pub(super) fn render(&self) -> Option<String> {
        let series: Vec<(usize, &Series)> = self
            .series
            .iter()
            .enumerate()
            .filter(|(_, series)| series.points.iter().any(|(_, value)| value.is_some()))
            .collect();
        let lines = gathered(&series, &self.y_axis(&WIDE, &series));
        let mut html = format!("<figure><figcaption>{}</figcaption>", escape(&self.title));
        if let Some(note) = &self.note {
            let _ = write!(html, "<p class=\"soft note\">{}</p>", escape(note));
        }
        if series.len() > 1 {
            legend(&lines, &mut html);
        }
        for frame in [&WIDE, &NARROW] {
            let (x, y) = (self.x_axis(frame, &series)?, self.y_axis(frame, &series));
            let _ = write!(
                html,
                "<svg class=\"chart {}\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">",
                frame.class,
                frame.width,
                frame.height,
                escape(&self.title)
            );
            self.grid(frame, &x, &y, &mut html);
            for line in &lines {
                let series = line.series.thinned(frame.points_max);
                series.draw(line.tone, &x, &y, &mut html);
            }
            self.name_marks(frame, &x, &mut html);
            html.push_str("</svg>");
        }
        html.push_str("</figure>");
        Some(html)
    }

    fn x_axis(&self, frame: &Frame, series: &[(usize, &Series)]) -> Option<Axis> {
        let ends = series.iter().flat_map(|(_, series)| {
            let wide = match series.form {
                Form::Line => 0.0,
                Form::Bars(width) => width,
            };
            let first = series.points.first().map(|(x, _)| *x);
            let last = series.points.last().map(|(x, _)| x + wide);
            [first, last].into_iter().flatten()
        });
        let (low, high) = range(ends)?;
        let low = self.x_from.map_or(low, |from| low.min(from));
        let high = if high > low { high } else { low + 1.0 };
        let ticks = if self.x_ticks.is_empty() {
            linear_ticks(low, high, frame.x_ticks)
                .into_iter()
                .map(|tick| (tick, plain(tick)))
                .collect()
        } else {
            self.x_ticks.clone()
        };
        Some(Axis {
            low,
            high,
            logarithmic: false,
            ticks,
            from: frame.left,
            to: frame.right_edge(),
        })
    }

    fn y_axis(&self, frame: &Frame, series: &[(usize, &Series)]) -> Axis {
        let values = || {
            series
                .iter()
                .flat_map(|(_, series)| series.points.iter().filter_map(|(_, value)| *value))
        };
        let high = range(values()).map_or(0.0, |(_, high)| high);
        let least = range(values().filter(|value| *value > 0.0)).map_or(0.0, |(low, _)| low);
        let axis = |low, high, logarithmic, ticks: Vec<f64>| Axis {
            low,
            high,
            logarithmic,
            ticks: ticks
                .into_iter()
                .map(|tick| (tick, self.unit.write(tick, high)))
                .collect(),
            from: frame.floor(),
            to: frame.top,
        };
        if self.may_be_logarithmic && least > 0.0 && high / least >= LOGARITHMIC_FROM {
            let ticks = decades(least, high);
            let low = ticks.first().copied().unwrap_or(least).min(least);
            return axis(
                low,
                high.max(ticks.last().copied().unwrap_or(high)),
                true,
                ticks,
            );
        }
        if high <= 0.0 {
            return axis(0.0, 1.0, false, vec![0.0, 1.0]);
        }
        let high = high * 1.06;
        let ticks = match self.unit {
            Unit::Plain => linear_ticks(0.0, high, 5),
            // Round numbers of the unit, not of bytes.
            Unit::Bytes => {
                let scale = binary_scale(high);
                linear_ticks(0.0, high / scale, 5)
                    .into_iter()
                    .map(|tick| tick * scale)
                    .collect()
            }
        };
        axis(0.0, high, false, ticks)
    }

    fn grid(&self, frame: &Frame, x: &Axis, y: &Axis, html: &mut String) {
        let (left, bottom, right) = (frame.left, frame.floor(), frame.right_edge());
        for (value, name) in &y.ticks {
            let at = y.place(*value);
            let _ = write!(
                html,
                "<path class=\"grid\" d=\"M{left} {at:.1}H{right}\"/><text class=\"end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                left - 7.0,
                at + 4.0,
                escape(name)
            );
        }
        let mut free_from = f64::NEG_INFINITY;
        for (value, name) in &x.ticks {
            let at = x.place(*value);
            let half = width_of(name) / 2.0;
            let _ = write!(html, "<path class=\"axis\" d=\"M{at:.1} {bottom}v5\"/>");
            if at - half > free_from {
                free_from = at + half + LETTER;
                let (anchor, at) = if at + half > frame.width {
                    ("end", frame.width - 1.0)
                } else {
                    ("middle", at)
                };
                let _ = write!(
                    html,
                    "<text class=\"{anchor}\" x=\"{at:.1}\" y=\"{:.1}\">{}</text>",
                    bottom + 18.0,
                    escape(name)
                );
            }
        }
        let top = frame.top;
        let (middle_x, middle_y) = ((left + right) / 2.0, (frame.top + bottom) / 2.0);
        let _ = write!(
            html,
            "<path class=\"axis\" d=\"M{left} {top}V{bottom}H{right}\"/>\
             <text class=\"middle label\" x=\"{middle_x}\" y=\"{:.1}\">{}</text>\
             <text class=\"middle label\" transform=\"rotate(-90 14 {middle_y})\" x=\"14\" y=\"{middle_y}\">{}{}</text>",
            frame.height - 8.0,
            escape(self.x_label),
            escape(self.y_label),
            if y.logarithmic { " (log scale)" } else { "" }
        );
    }

    /// Names above the plot, in two rows, each where there is room; a mark without room has only its line.
    fn name_marks(&self, frame: &Frame, x: &Axis, html: &mut String) {
        let mut free_from = [0.0_f64; 2];
        for (value, name) in &self.marks {
            if *value < x.low || *value > x.high {
                continue;
            }
            let at = x.place(*value);
            let _ = write!(
                html,
                "<path class=\"mark\" d=\"M{at:.1} {}V{}\"/>",
                frame.top,
                frame.floor()
            );
            let start = (at - 3.0).min(frame.width - width_of(name) - 2.0);
            if let Some(row) = free_from.iter().position(|free| *free <= start) {
                free_from[row] = start + width_of(name) + LETTER;
                let _ = write!(
                    html,
                    "<text class=\"start\" x=\"{start:.1}\" y=\"{}\">{}</text>",
                    MARK_ROWS[row],
                    escape(name)
                );
            }
        }
    }
}

/// Merges series that look alike into one line with all their names, because a hidden line would look missing.
fn gathered<'a>(series: &[(usize, &'a Series)], y: &Axis) -> Vec<Line<'a>> {
    let mut lines: Vec<Line<'a>> = Vec::new();
    for (tone, series) in series {
        match lines
            .iter_mut()
            .find(|line| lie_together(line.series, series, y))
        {
            Some(line) => line.names.push(series.name),
            None => lines.push(Line {
                tone: *tone,
                series,
                names: vec![series.name],
            }),
        }
    }
    lines
}

fn lie_together(one: &Series, other: &Series, y: &Axis) -> bool {
    one.form == Form::Line
        && other.form == Form::Line
        && one.points.len() == other.points.len()
        && one.points.iter().zip(&other.points).all(|pair| match pair {
            ((x, Some(value)), (other_x, Some(other))) => {
                x.total_cmp(other_x).is_eq()
                    && (y.place(*value) - y.place(*other)).abs() < APART_MIN
            }
            ((_, None), (_, None)) => true,
            _ => false,
        })
}

fn legend(lines: &[Line<'_>], html: &mut String) {
    html.push_str("<ul class=\"legend\">");
    for line in lines {
        let together = if line.names.len() > 1 {
            " (same line)"
        } else {
            ""
        };
        let _ = write!(
            html,
            "<li><svg width=\"26\" height=\"10\" aria-hidden=\"true\"><path class=\"line t{}\" d=\"M1 5H25\"/></svg>{}{together}</li>",
            line.tone,
            escape(&line.names.join(", "))
        );
    }
    html.push_str("</ul>");
}

#[expect(clippy::cast_precision_loss, reason = "names are short")]
fn width_of(name: &str) -> f64 {
    name.chars().count() as f64 * LETTER
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_without_values_is_none() {
        let mut chart = Chart {
            series: vec![Series::line("nothing", vec![(1.0, None), (2.0, None)])],
            ..Chart::default()
        };
        assert!(chart.render().is_none());
        chart.series.clear();
        assert!(chart.render().is_none());
    }

    #[test]
    fn infinite_and_missing_values_are_not_drawn() {
        for value in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e300, 1e-300] {
            for may_be_logarithmic in [false, true] {
                let chart = Chart {
                    series: vec![
                        Series::line("odd", vec![(1.0, Some(value)), (2.0, Some(1.0))]),
                        Series::line("one", vec![(1.0, Some(value))]),
                    ],
                    may_be_logarithmic,
                    ..Chart::default()
                };
                let svg = chart.render().unwrap();
                assert!(
                    !svg.contains("NaN") && !svg.contains("inf"),
                    "{value}: {svg}"
                );
            }
        }
    }

    #[test]
    fn overlapping_lines_are_merged_with_both_names() {
        let near = |far: f64| {
            let line = |name, last| Series::line(name, vec![(0.0, Some(100.0)), (1.0, Some(last))]);
            Chart {
                series: vec![line("one", 500.0), line("other", 500.0 + far)],
                ..Chart::default()
            }
            .render()
            .unwrap()
        };
        let together = near(2.0);
        assert!(together.contains("one, other (same line)"), "{together}");
        assert!(!together.contains("line t1"));
        let apart = near(100.0);
        assert!(!apart.contains("on the other)") && apart.contains("line t1"));
    }

    #[test]
    fn a_chart_is_drawn_for_wide_and_narrow_pages() {
        let chart = Chart {
            series: vec![Series::line(
                "one",
                vec![(0.0, Some(1.0)), (60.0, Some(2.0))],
            )],
            ..Chart::default()
        };
        let html = chart.render().unwrap();
        let (wide, narrow) = html.split_once("</svg>").unwrap();
        assert!(wide.contains("chart wide") && narrow.contains("chart narrow"));
        // Its letters are as large, so there are fewer figures beside the axis.
        assert!(narrow.matches("<text").count() < wide.matches("<text").count());
    }
}
