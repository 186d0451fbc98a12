//! Charts as SVG: axes, lines, bars. They know numbers and names, not what those mean.

use std::fmt::Write as _;

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
    /// Horizontal ticks where round numbers would not do.
    pub(super) x_ticks: Vec<(f64, String)>,
    /// How values are written beside the axis.
    pub(super) unit: Unit,
    /// Whether a wide range is drawn logarithmically. A sum or a share must start at zero.
    pub(super) may_be_logarithmic: bool,
}

/// A row of values.
#[derive(Clone, Debug)]
pub(super) struct Series {
    /// What they are; shown in the legend.
    pub(super) name: &'static str,
    /// Where they stand; ascending. A value that is missing interrupts the line.
    pub(super) points: Vec<(f64, Option<f64>)>,
    /// How they are drawn.
    pub(super) form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Form {
    Line,
    /// Bars of this width, each from its point to the right.
    Bars(f64),
}

/// How ticks are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Unit {
    /// `1.5k`
    #[default]
    Plain,
    /// `1.5 MiB`
    Bytes,
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
/// More points than the plot has pixels are drawn in bins, by their largest value.
const POINTS_MAX: usize = 540;
/// From this ratio of the largest to the smallest value on, a linear axis would hide the small ones.
const LOGARITHMIC_FROM: f64 = 25.0;
const DECADES_MAX: i32 = 12;

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
        let high = if high > 0.0 { high * 1.06 } else { 1.0 };
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

impl Series {
    pub(super) fn line(name: &'static str, points: Vec<(f64, Option<f64>)>) -> Self {
        Self {
            name,
            points,
            form: Form::Line,
        }
    }

    fn thinned(&self) -> Self {
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

    fn draw(&self, tone: usize, x: &Axis, y: &Axis, html: &mut String) {
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

struct Axis {
    low: f64,
    high: f64,
    logarithmic: bool,
    ticks: Vec<(f64, String)>,
    from: f64,
    to: f64,
}

impl Axis {
    fn place(&self, value: f64) -> f64 {
        let share = if self.logarithmic {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.from + share.clamp(0.0, 1.0) * (self.to - self.from)
    }
}

impl Unit {
    fn write(self, value: f64, high: f64) -> String {
        match self {
            Self::Plain => plain(value),
            Self::Bytes => {
                let scale = binary_scale(high);
                let name = match scale {
                    s if s < 1024.0 => "B",
                    s if s < 1_048_576.0 => "KiB",
                    s if s < 1_073_741_824.0 => "MiB",
                    _ => "GiB",
                };
                format!("{} {name}", plain(value / scale))
            }
        }
    }
}

fn binary_scale(high: f64) -> f64 {
    match high {
        h if h < 2048.0 => 1.0,
        h if h < 2.0 * 1_048_576.0 => 1024.0,
        h if h < 2.0 * 1_073_741_824.0 => 1_048_576.0,
        _ => 1_073_741_824.0,
    }
}

/// `0`, `0.05`, `250`, `1.5k`, `20M`.
pub(super) fn plain(value: f64) -> String {
    let (scaled, suffix) = match value.abs() {
        v if v >= 1e9 => (value / 1e9, "G"),
        v if v >= 1e6 => (value / 1e6, "M"),
        v if v >= 1e3 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let text = format!("{scaled:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{}{suffix}", if text == "-0" { "0" } else { text })
}

/// Round numbers from `low` to `high`, about `wanted` of them.
fn linear_ticks(low: f64, high: f64, wanted: u32) -> Vec<f64> {
    let raw = (high - low) / f64::from(wanted);
    if !raw.is_finite() || raw <= 0.0 {
        return vec![low];
    }
    let power = 10_f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= raw)
        .unwrap_or(10.0 * power);
    let first = (low / step).ceil();
    (0..=wanted * 2)
        .map(|index| (first + f64::from(index)) * step)
        .take_while(|tick| *tick <= high + step * 1e-6)
        .collect()
}

/// Powers of ten around a range, with 2 and 5 between them when there are few.
#[expect(
    clippy::cast_possible_truncation,
    reason = "logarithms of latencies are small"
)]
fn decades(least: f64, high: f64) -> Vec<f64> {
    let first = least.log10().floor() as i32;
    let last = (high.log10().ceil() as i32).clamp(first + 1, first + DECADES_MAX);
    let steps: &[f64] = if last - first <= 3 {
        &[1.0, 2.0, 5.0]
    } else {
        &[1.0]
    };
    let all: Vec<f64> = (first..=last)
        .flat_map(|power| steps.iter().map(move |step| step * 10_f64.powi(power)))
        .collect();
    // The nearest tick below the range to the nearest above it.
    let start = all.iter().rposition(|tick| *tick <= least).unwrap_or(0);
    let end = all
        .iter()
        .position(|tick| *tick >= high)
        .unwrap_or(all.len() - 1);
    all[start..=end].to_vec()
}

fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values
        .filter(|value| value.is_finite())
        .fold(None, |range, value| {
            let (low, high) = range.unwrap_or((value, value));
            Some((value.min(low), value.max(high)))
        })
}

#[expect(clippy::cast_precision_loss, reason = "names are short")]
fn width_of(name: &str) -> f64 {
    name.chars().count() as f64 * LETTER
}

/// Text for HTML, in an element or in a quoted attribute.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_cover_the_range() {
        assert_eq!(linear_ticks(0.0, 1060.0, 5), [0.0, 500.0, 1000.0]);
        assert_eq!(linear_ticks(1.0, 12.0, 8), [2.0, 4.0, 6.0, 8.0, 10.0, 12.0]);
        assert_eq!(linear_ticks(3.0, 3.0, 5), [3.0]);
        assert_eq!(
            decades(3.0, 180.0),
            [2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0]
        );
        for (least, high) in [(0.001, 600_000.0), (1e-9, 1e12), (5.0, 5000.0)] {
            let ticks = decades(least, high);
            assert!(ticks.len() >= 2 && ticks.len() < 16, "{ticks:?}");
            assert!(ticks[0] <= least, "{ticks:?}");
        }
    }

    #[test]
    fn figures_beside_an_axis_are_short() {
        let all = [0.0, 0.05, 250.0, 1500.0, 20e6, 3e9].map(plain);
        assert_eq!(all, ["0", "0.05", "250", "1.5k", "20M", "3G"]);
        assert_eq!(Unit::Bytes.write(4_194_304.0, 9e6), "4 MiB");
        assert_eq!(Unit::Bytes.write(512.0, 900.0), "512 B");
    }

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

    #[test]
    fn text_is_escaped() {
        assert_eq!(escape(r#"<script>"&'"#), "&lt;script&gt;&quot;&amp;&#39;");
    }
}
