//! Axes: where values go, and which round numbers label them.

/// How ticks are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::report) enum Unit {
    /// `1.5k`
    #[default]
    Plain,
    /// `1.5 MiB`
    Bytes,
}

/// Maps a range of values to a range of the picture.
pub(super) struct Axis {
    /// The least value.
    pub(super) low: f64,
    /// The largest value.
    pub(super) high: f64,
    /// Whether equal ratios, not equal differences, are equally far apart.
    pub(super) logarithmic: bool,
    /// Values that are written beside it, and how.
    pub(super) ticks: Vec<(f64, String)>,
    /// Where the smallest value goes.
    pub(super) from: f64,
    /// Where the largest value goes.
    pub(super) to: f64,
}

const DECADES_MAX: i32 = 12;

impl Axis {
    /// Where a value goes; values beyond the ends go to the end.
    pub(super) fn place(&self, value: f64) -> f64 {
        let share = if self.logarithmic {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.from + share.clamp(0.0, 1.0) * (self.to - self.from)
    }
}

impl Unit {
    /// A tick, in the unit that fits the largest value.
    pub(super) fn write(self, value: f64, high: f64) -> String {
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
                format!("{} {name}", short(value / scale))
            }
        }
    }
}

/// Bytes of the unit that fits values up to `high`.
pub(super) fn binary_scale(high: f64) -> f64 {
    match high {
        h if h < 2048.0 => 1.0,
        h if h < 2.0 * 1_048_576.0 => 1024.0,
        h if h < 2.0 * 1_073_741_824.0 => 1_048_576.0,
        _ => 1_073_741_824.0,
    }
}

/// `0`, `0.05`, `250`, `1.5k`, `20M`.
pub(in crate::report) fn plain(value: f64) -> String {
    let (scaled, suffix) = match value.abs() {
        v if v >= 1e9 => (value / 1e9, "G"),
        v if v >= 1e6 => (value / 1e6, "M"),
        v if v >= 1e3 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    format!("{}{suffix}", short(scaled))
}

/// Without insignificant digits.
fn short(value: f64) -> String {
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0" } else { text }.to_owned()
}

/// Round numbers from `low` to `high`, about `wanted` of them.
pub(super) fn linear_ticks(low: f64, high: f64, wanted: u32) -> Vec<f64> {
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
pub(super) fn decades(least: f64, high: f64) -> Vec<f64> {
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

/// The least and the largest of the finite values.
pub(super) fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values
        .filter(|value| value.is_finite())
        .fold(None, |range, value| {
            let (low, high) = range.unwrap_or((value, value));
            Some((value.min(low), value.max(high)))
        })
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
    fn labels_of_an_axis_are_short() {
        let all = [0.0, 0.05, 250.0, 1500.0, 20e6, 3e9].map(plain);
        assert_eq!(all, ["0", "0.05", "250", "1.5k", "20M", "3G"]);
        assert_eq!(Unit::Bytes.write(4_194_304.0, 9e6), "4 MiB");
        assert_eq!(Unit::Bytes.write(512.0, 900.0), "512 B");
        assert_eq!(Unit::Bytes.write(1_024_000.0, 1.2e6), "1000 KiB");
    }
}
