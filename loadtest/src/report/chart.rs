//! Charts as SVG: axes, lines, bars. They know numbers and names, not what those mean.

mod axis;
mod series;

use std::fmt::Write as _;

use crate::report::markup::escape;

use axis::{Axis, binary_scale, decades, linear_ticks, range};
pub(super) use axis::{Unit, plain};
pub(super) use series::{Form, Points, Series};

/// One chart.
#[derive(Clone, Debug, Default)]
pub(super) struct Chart {
    /// What it shows.
    pub(super) title: String,
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

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 280.0;
const LEFT: f64 = 82.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 46.0;
/// Room for two rows of names above the plot.
const MARK_ROWS: [f64; 2] = [13.0, 27.0];
/// A letter of the charts' font, about.
const LETTER: f64 = 6.4;
/// From this ratio of the largest to the smallest value on, a linear axis would hide the small ones.
const LOGARITHMIC_FROM: f64 = 25.0;
impl Chart {
    /// The chart with its title and legend; `None` when there is nothing to draw.
    pub(super) fn render(&self) -> Option<String> {
        let series: Vec<(usize, Series)> = self
            .series
            .iter()
            .enumerate()
            .map(|(tone, series)| (tone, series.thinned()))
            .filter(|(_, series)| series.points.iter().any(|(_, value)| value.is_some()))
            .collect();
        let (x, y) = (self.x_axis(&series)?, self.y_axis(&series));
        let mut html = format!("<figure><figcaption>{}</figcaption>", escape(&self.title));
        if series.len() > 1 {
            html.push_str("<ul class=\"legend\">");
            for (tone, series) in &series {
                let _ = write!(
                    html,
                    "<li><svg width=\"26\" height=\"10\" aria-hidden=\"true\"><path class=\"line t{tone}\" d=\"M1 5H25\"/></svg>{}</li>",
                    escape(series.name)
                );
            }
            html.push_str("</ul>");
        }
        let _ = write!(
            html,
            "<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
            escape(&self.title)
        );
        self.grid(&x, &y, &mut html);
        for (tone, series) in &series {
            series.draw(*tone, &x, &y, &mut html);
        }
        self.name_marks(&x, &mut html);
        html.push_str("</svg></figure>");
        Some(html)
    }

    fn x_axis(&self, series: &[(usize, Series)]) -> Option<Axis> {
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
            linear_ticks(low, high, 8)
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
            from: LEFT,
            to: WIDTH - RIGHT,
        })
    }

    fn y_axis(&self, series: &[(usize, Series)]) -> Axis {
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
            from: HEIGHT - BOTTOM,
            to: TOP,
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

    fn grid(&self, x: &Axis, y: &Axis, html: &mut String) {
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        for (value, name) in &y.ticks {
            let at = y.place(*value);
            let _ = write!(
                html,
                "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{right}\"/><text class=\"end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                LEFT - 7.0,
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
                let (anchor, at) = if at + half > WIDTH {
                    ("end", WIDTH - 1.0)
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
        let (middle_x, middle_y) = ((LEFT + right) / 2.0, (TOP + bottom) / 2.0);
        let _ = write!(
            html,
            "<path class=\"axis\" d=\"M{LEFT} {TOP}V{bottom}H{right}\"/>\
             <text class=\"middle label\" x=\"{middle_x}\" y=\"{:.1}\">{}</text>\
             <text class=\"middle label\" transform=\"rotate(-90 14 {middle_y})\" x=\"14\" y=\"{middle_y}\">{}{}</text>",
            HEIGHT - 8.0,
            escape(self.x_label),
            escape(self.y_label),
            if y.logarithmic { " (log scale)" } else { "" }
        );
    }

    /// Names above the plot, in two rows, each where the row is free; a third that has no room keeps its line only.
    fn name_marks(&self, x: &Axis, html: &mut String) {
        let mut free_from = [0.0_f64; 2];
        for (value, name) in &self.marks {
            if *value < x.low || *value > x.high {
                continue;
            }
            let at = x.place(*value);
            let _ = write!(
                html,
                "<path class=\"mark\" d=\"M{at:.1} {TOP}V{}\"/>",
                HEIGHT - BOTTOM
            );
            let start = (at - 3.0).min(WIDTH - width_of(name) - 2.0);
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
    fn odd_values_never_reach_the_page() {
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
}
