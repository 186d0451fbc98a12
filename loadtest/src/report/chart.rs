//! Charts as SVG. They know numbers and names, not what those mean.

use std::fmt::Write as _;

use maud::{Markup, html};

/// One chart.
#[derive(Clone, Debug, Default)]
pub(super) struct Chart {
    /// What it shows.
    pub(super) title: String,
    /// What has to be known to read it.
    pub(super) note: Option<String>,
    /// What the vertical axis counts.
    pub(super) y_label: &'static str,
    /// What the horizontal axis counts.
    pub(super) x_label: &'static str,
    /// The values.
    pub(super) series: Vec<Series>,
    /// Vertical lines with a name, at most a handful.
    pub(super) marks: Vec<(f64, String)>,
    /// Ticks of the horizontal axis where round numbers would not do.
    pub(super) x_ticks: Vec<(f64, String)>,
    /// Whether the vertical axis may be logarithmic, if values are far apart. A sum or a share must start at zero.
    pub(super) may_be_logarithmic: bool,
    /// Whether values are bytes.
    pub(super) is_bytes: bool,
    /// Whether each value reaches to the next one and is filled below.
    pub(super) is_filled: bool,
    /// So many missing values in a row do not interrupt a line.
    pub(super) bridged: usize,
}

/// Values and where they stand, ascending; a missing one interrupts the line.
pub(super) type Points = Vec<(f64, Option<f64>)>;

/// A row of values.
#[derive(Clone, Debug)]
pub(super) struct Series {
    /// What they are; shown in the legend.
    pub(super) name: &'static str,
    pub(super) points: Points,
}

/// The picture, in units of about a pixel, and the plot in it.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = WIDTH - 20.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = HEIGHT - 24.0;
/// Names above the plot.
const NAMES: f64 = 18.0;
/// A letter, about.
const LETTER: f64 = 6.8;
const TICKS: f64 = 6.0;
/// Points that a line has room for.
const POINTS_MAX: usize = 540;
/// From this ratio of the largest to the smallest value on, a linear axis would hide the small ones.
const LOGARITHMIC_FROM: f64 = 25.0;

impl Chart {
    /// The chart with its title and legend; `None` when there is nothing to draw.
    pub(super) fn render(&self) -> Option<Markup> {
        let finite = |(at, value): &(f64, Option<f64>)| (*at, value.filter(|it| it.is_finite()));
        let drawn: Vec<(usize, Series)> = (0..)
            .zip(&self.series)
            .map(|(tone, series)| {
                let points = series.points.iter().map(finite).collect();
                let points = if self.is_filled {
                    points
                } else {
                    thinned(points)
                };
                (tone, Series { points, ..*series })
            })
            .filter(|(_, series)| series.points.iter().any(|(_, value)| value.is_some()))
            .collect();
        let points = || drawn.iter().flat_map(|(_, series)| &series.points);
        let (x_low, x_high) = range(points().map(|(at, _)| *at))?;
        let (_, y_high) = range(points().filter_map(|(_, value)| *value))?;
        let positive = points()
            .filter_map(|(_, value)| *value)
            .filter(|it| *it > 0.0);
        let y_low = range(positive).map_or(0.0, |(low, _)| low);
        let low = match &self.x_ticks[..] {
            [] => x_low.min(0.0),
            _ => x_low,
        };
        let x = Axis::linear(low, x_high.max(low + 1e-9), false, [LEFT, RIGHT]);
        let x = match &self.x_ticks[..] {
            [] => x,
            ticks => Axis {
                ticks: ticks.to_vec(),
                ..x
            },
        };
        let y = if self.may_be_logarithmic && y_low > 0.0 && y_high / y_low >= LOGARITHMIC_FROM {
            Axis::logarithmic(y_low, y_high, [BOTTOM, TOP])
        } else {
            let high = if y_high > 0.0 { y_high * 1.06 } else { 1.0 };
            Axis::linear(0.0, high, self.is_bytes, [BOTTOM, TOP])
        };
        Some(html! {
            figure {
                figcaption { (self.title) " " span { (self.y_label) (y.scale()) } }
                @if let Some(note) = &self.note { p.note { (note) } }
                @if drawn.len() > 1 {
                    ul.legend {
                        @for (tone, series) in &drawn {
                            li {
                                svg width="26" height="10" aria-hidden="true" {
                                    path class={ "line t" (tone) } d="M1 5H25" {}
                                }
                                (series.name)
                            }
                        }
                    }
                }
                svg.chart viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label=(self.title) {
                    (grid(&x, &y))
                    @for (tone, series) in &drawn {
                        @if self.is_filled {
                            path class={ "bars t" (tone) } d=(steps(&series.points, &x, &y)) {}
                        } @else {
                            path class={ "line t" (tone) } d=(line(&series.points, self.bridged, &x, &y)) {}
                        }
                    }
                    (self.marked(&x))
                }
                p.note.x { (self.x_label) }
            }
        })
    }

    /// Names above the plot, each where there is room; a mark without room has only its line.
    fn marked(&self, x: &Axis) -> Markup {
        let mut free_from = 0.0_f64;
        let mut named = Vec::new();
        let marks = self.marks.iter();
        for (at, name) in marks.filter(|(at, _)| (x.low..=x.high).contains(at)) {
            let at = x.place(*at);
            let start = (at - 3.0).min(WIDTH - width_of(name));
            let has_room = start >= free_from;
            if has_room {
                free_from = start + width_of(name) + LETTER;
            }
            named.push((at, start, Some(name).filter(|_| has_room)));
        }
        html! {
            @for (at, start, name) in named {
                path.mark d=(format!("M{at:.1} {TOP}V{BOTTOM}")) {}
                @if let Some(name) = name {
                    text x=(format!("{start:.1}")) y=(NAMES) { (name) }
                }
            }
        }
    }
}

impl Series {
    pub(super) fn new(name: &'static str, points: Points) -> Self {
        Self { name, points }
    }
}

/// Maps a range of values to a range of the picture.
struct Axis {
    low: f64,
    high: f64,
    is_logarithmic: bool,
    ticks: Vec<(f64, String)>,
    /// Where the smallest and the largest value go.
    ends: [f64; 2],
}

impl Axis {
    fn linear(low: f64, high: f64, is_bytes: bool, ends: [f64; 2]) -> Self {
        let (scale, unit) = match high {
            _ if !is_bytes => (1.0, ""),
            high if high < 2048.0 => (1.0, " B"),
            high if high < 2048.0 * 1024.0 => (1024.0, " KiB"),
            high if high < 2048.0 * 1_048_576.0 => (1_048_576.0, " MiB"),
            _ => (1_073_741_824.0, " GiB"),
        };
        // Round numbers of the unit, not of bytes.
        let raw = (high - low) / scale / TICKS;
        let power = 10_f64.powf(raw.log10().floor());
        let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
        let step = steps.into_iter().find(|step| *step >= raw).unwrap_or(raw);
        let first = (low / scale / step).ceil() * step;
        let ticks = (0..=20).map(|index| first + f64::from(index) * step);
        let name = |tick| match unit {
            "" => plain(tick),
            unit => format!("{tick}{unit}"),
        };
        Self {
            low,
            high,
            is_logarithmic: false,
            ticks: ticks
                .take_while(|tick| tick * scale <= high * (1.0 + 1e-9))
                .map(|tick| (tick * scale, name(tick)))
                .collect(),
            ends,
        }
    }

    fn logarithmic(low: f64, high: f64, ends: [f64; 2]) -> Self {
        // Zero has no place on it, and more than nine powers of ten no room.
        let low = low.max(high / 1e9).max(f64::MIN_POSITIVE);
        let decades = (high / low).log10();
        let steps: &[f64] = if decades <= 3.0 {
            &[1.0, 2.0, 5.0]
        } else {
            &[1.0]
        };
        let ticks = (0..=10).flat_map(|power| {
            let decade = 10_f64.powf(low.log10().floor() + f64::from(power));
            steps.iter().map(move |step| step * decade)
        });
        Self {
            low,
            high: high.max(low * 1.01),
            is_logarithmic: true,
            ticks: ticks
                .filter(|tick| (low..=high).contains(tick))
                .map(|tick| (tick, plain(tick)))
                .collect(),
            ends,
        }
    }

    /// Where a value goes; values beyond the ends go to the end.
    fn place(&self, value: f64) -> f64 {
        let share = if self.is_logarithmic {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        let [from, to] = self.ends;
        from + share.clamp(0.0, 1.0) * (to - from)
    }

    const fn scale(&self) -> &'static str {
        if self.is_logarithmic {
            ", log scale"
        } else {
            ""
        }
    }
}

fn grid(x: &Axis, y: &Axis) -> Markup {
    let mut free_from = f64::NEG_INFINITY;
    let mut named = Vec::new();
    for (value, name) in &x.ticks {
        let (at, half) = (x.place(*value), width_of(name) / 2.0);
        let has_room = at - half > free_from;
        if has_room {
            free_from = at + half + LETTER;
        }
        named.push((at, Some(name).filter(|_| has_room)));
    }
    html! {
        @for (value, name) in &y.ticks {
            @let at = y.place(*value);
            path.grid d=(format!("M{LEFT} {at:.1}H{RIGHT}")) {}
            text.end x=(LEFT - 6.0) y=(format!("{:.1}", at + 4.0)) { (name) }
        }
        @for (at, name) in named {
            path.axis d=(format!("M{at:.1} {BOTTOM}v5")) {}
            @if let Some(name) = name {
                text.middle x=(format!("{at:.1}")) y=(BOTTOM + 18.0) { (name) }
            }
        }
        path.axis d=(format!("M{LEFT} {TOP}V{BOTTOM}H{RIGHT}")) {}
    }
}

/// A line, interrupted where more values are missing than are bridged. A point without neighbours is a dot.
fn line(points: &[(f64, Option<f64>)], bridged: usize, x: &Axis, y: &Axis) -> String {
    let mut path = String::new();
    let mut missing = usize::MAX;
    for (at, value) in points {
        let Some(value) = value else {
            missing = missing.saturating_add(1);
            continue;
        };
        let (at, level) = (x.place(*at), y.place(*value));
        // A line of no length has round ends.
        let _ = match missing {
            missing if missing > bridged => write!(path, "M{at:.1} {level:.1}h0"),
            _ => write!(path, "L{at:.1} {level:.1}"),
        };
        missing = 0;
    }
    path
}

/// The outline of bars that reach from each point to the next.
fn steps(points: &[(f64, Option<f64>)], x: &Axis, y: &Axis) -> String {
    let Some((first, _)) = points.first() else {
        return String::new();
    };
    let mut path = format!("M{:.1} {BOTTOM}", x.place(*first));
    for (at, value) in points {
        let level = y.place(value.unwrap_or_default());
        let _ = write!(path, "H{:.1}V{level:.1}", x.place(*at));
    }
    let _ = write!(path, "V{BOTTOM}Z");
    path
}

/// No more points than the plot has room for: of each bin the least and the largest value, in their order, so that neither a
/// peak nor an outage of seconds is lost in hours.
fn thinned(points: Points) -> Points {
    let bin = (2 * points.len()).div_ceil(POINTS_MAX);
    if bin <= 2 {
        return points;
    }
    let mut thinned = Points::new();
    for bin in points.chunks(bin) {
        let valued = || bin.iter().filter(|(_, value)| value.is_some());
        let least =
            valued().min_by(|a, b| a.1.partial_cmp(&b.1).unwrap_or(std::cmp::Ordering::Equal));
        let most =
            valued().max_by(|a, b| a.1.partial_cmp(&b.1).unwrap_or(std::cmp::Ordering::Equal));
        let mut ends: Points = [least, most].into_iter().flatten().copied().collect();
        ends.sort_by(|a, b| a.0.total_cmp(&b.0));
        ends.dedup_by_key(|(at, _)| *at);
        if ends.is_empty() {
            ends.extend(bin.first());
        }
        thinned.append(&mut ends);
    }
    thinned
}

/// `0`, `0.05`, `250`, `1.5k`, `20M`: without insignificant digits.
fn plain(value: f64) -> String {
    let (scaled, suffix) = match value.abs() {
        v if v >= 1e9 => (value / 1e9, "G"),
        v if v >= 1e6 => (value / 1e6, "M"),
        v if v >= 1e3 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    // Three decimals; rounding takes away what a sum of tenths leaves.
    format!("{}{suffix}", (scaled * 1000.0).round() / 1000.0)
}

/// The least and the largest of the finite values.
fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let values = values.filter(|value| value.is_finite());
    values.fold(None, |range, value| {
        let (low, high) = range.unwrap_or((value, value));
        Some((value.min(low), value.max(high)))
    })
}

#[expect(clippy::cast_precision_loss, reason = "names are short")]
fn width_of(name: &str) -> f64 {
    name.chars().count() as f64 * LETTER
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Points) -> Chart {
        Chart {
            series: vec![Series::new("one", points)],
            ..Chart::default()
        }
    }

    fn ticks(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, name)| name.as_str()).collect()
    }

    #[test]
    fn a_chart_without_values_is_none() {
        assert!(
            chart(vec![(1.0, None), (2.0, Some(f64::NAN))])
                .render()
                .is_none()
        );
        assert!(Chart::default().render().is_none());
    }

    #[test]
    fn any_value_can_be_drawn() {
        for value in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e300, 1e-300] {
            for is_logarithmic in [false, true] {
                for is_filled in [false, true] {
                    let chart = Chart {
                        may_be_logarithmic: is_logarithmic,
                        is_filled,
                        ..chart(vec![(0.0, Some(value)), (2.0, Some(1.0))])
                    };
                    let svg = chart.render().unwrap().into_string();
                    assert!(
                        !svg.contains("NaN") && !svg.contains("inf"),
                        "{value}: {svg}"
                    );
                }
            }
        }
    }

    #[test]
    fn only_a_long_gap_interrupts_a_line() {
        let gap = |missing: usize| {
            let mut points = vec![(0.0, Some(1.0)), (9.0, Some(1.0))];
            points.splice(1..1, (0..missing).map(|_| (5.0, None)));
            let svg = Chart {
                bridged: 1,
                ..chart(points)
            }
            .render()
            .unwrap();
            svg.into_string().matches("h0").count()
        };
        assert_eq!([0, 1, 2].map(gap), [1, 1, 2]);
    }

    #[test]
    fn ticks_are_round_and_lie_on_the_axis() {
        let linear = |high, is_bytes| Axis::linear(0.0, high, is_bytes, [0.0, 1.0]);
        assert_eq!(
            ticks(&linear(1060.0, false)),
            ["0", "200", "400", "600", "800", "1k"]
        );
        assert_eq!(ticks(&linear(0.31, false)), ["0", "0.1", "0.2", "0.3"]);
        assert_eq!(ticks(&linear(1.2e6, true))[2..4], ["400 KiB", "600 KiB"]);
        assert_eq!(
            ticks(&linear(9e6, true)),
            ["0 MiB", "2 MiB", "4 MiB", "6 MiB", "8 MiB"]
        );
        let logarithmic = |low, high| Axis::logarithmic(low, high, [0.0, 1.0]);
        assert_eq!(
            ticks(&logarithmic(3.0, 180.0)),
            ["5", "10", "20", "50", "100"]
        );
        assert_eq!(
            ticks(&logarithmic(0.02, 90_000.0)),
            ["0.1", "1", "10", "100", "1k", "10k"]
        );
    }

    #[test]
    fn long_runs_are_thinned_and_keep_their_peaks_and_their_outages() {
        let value = |index| match index {
            20_000 => 900.0,
            30_000..30_003 => 0.0,
            _ => 1.0,
        };
        let points = (0..36_000).map(|index| (f64::from(index), Some(value(index))));
        let thinned = thinned(points.collect());
        assert!(thinned.len() <= POINTS_MAX, "{}", thinned.len());
        assert!(thinned.is_sorted_by(|a, b| a.0 < b.0));
        for kept in [900.0, 0.0] {
            assert!(
                thinned.iter().any(|(_, value)| *value == Some(kept)),
                "{kept}"
            );
        }
        let silent = super::thinned(vec![(0.0, None); 5000]);
        assert!(silent.iter().all(|(_, value)| value.is_none()));
    }
}
