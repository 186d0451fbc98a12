//! The live line: progress of the run.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use crate::clock::Moment;
use crate::latency::Summary;
use crate::table::{bytes_f64, count, figure, rate};

/// Where progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Live {
    /// A terminal: one line, rewritten each second.
    Line,
    /// A log file: a line every few seconds.
    Lines,
    /// Nowhere.
    Off,
}

/// What one second showed.
#[derive(Clone, Debug)]
pub(super) struct Glance {
    pub(super) progress: Progress,
    pub(super) viewers_up: u64,
    pub(super) frames_per_s: f64,
    pub(super) comments_per_s: f64,
    pub(super) bytes_per_s: f64,
    /// Of the last second that has been judged, when there is one.
    pub(super) latency: Option<Summary>,
    pub(super) errors: u64,
}

/// When posting begins, and for how long it is planned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Posting {
    pub(super) from: Moment,
    pub(super) planned: Duration,
}

/// The run's progress, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Since the first connect; when posting begins is not known.
    Connecting(u64),
    /// Since posting began, of those planned.
    Posting(u64, u64),
    /// Since posting should have ended.
    Draining(u64),
}

/// How often a log file gets a line.
const LINES_EVERY_S: u64 = 5;
/// A log file has no width; this is one that most viewers of it have.
const COLUMNS_OF_A_LOG: usize = 120;
/// When the terminal does not say its width.
const COLUMNS_MIN: usize = 80;

impl Live {
    /// A line when stderr is a terminal, lines otherwise.
    #[must_use]
    pub fn of_stderr() -> Self {
        if io::stderr().is_terminal() {
            Self::Line
        } else {
            Self::Lines
        }
    }

    /// Shows how the second with this number went.
    pub(super) fn show(self, glance: &Glance, number: u64) {
        let mut stderr = io::stderr().lock();
        match self {
            Self::Line => {
                let line = format!("\r\x1b[K{}", glance.line(columns()));
                let _ = stderr.write_all(line.as_bytes());
                let _ = stderr.flush();
            }
            Self::Lines if number.is_multiple_of(LINES_EVERY_S) => {
                let _ = writeln!(stderr, "{}", glance.line(COLUMNS_OF_A_LOG));
            }
            Self::Lines | Self::Off => {}
        }
    }
}

/// Clears the live line, so that something else can be printed in its place.
pub fn clear_live_line() {
    if Live::of_stderr() == Live::Line {
        let _ = io::stderr().write_all(b"\r\x1b[K");
    }
}

/// Columns of the terminal. The last one is left free: some terminals go to the next line when it is written.
fn columns() -> usize {
    rustix::termios::tcgetwinsize(io::stderr())
        .ok()
        .map(|size| usize::from(size.ws_col))
        .filter(|columns| *columns > 0)
        .unwrap_or(COLUMNS_MIN)
        - 1
}

impl Progress {
    /// At a moment.
    pub(super) fn of(posting: Option<&Posting>, now: Moment) -> Self {
        let Some(posting) = posting else {
            return Self::Connecting(now.micros() / 1_000_000);
        };
        let gone = Duration::from_micros(now.micros_since(posting.from));
        match gone.checked_sub(posting.planned) {
            None => Self::Posting(gone.as_secs(), posting.planned.as_secs()),
            Some(beyond) => Self::Draining(beyond.as_secs()),
        }
    }
}

impl Glance {
    /// In at most this many columns; less important figures are left out if they don't fit.
    fn line(&self, columns: usize) -> String {
        let [frames, comments, bytes] = [
            rate(self.frames_per_s),
            rate(self.comments_per_s),
            bytes_f64(self.bytes_per_s),
        ];
        let progress = match self.progress {
            Progress::Connecting(gone) => format!("connecting {gone} s"),
            Progress::Posting(gone, planned) => format!("{gone}/{planned} s"),
            Progress::Draining(beyond) => format!("draining {beyond} s"),
        };
        let up = format!("{} up", count(self.viewers_up));
        let latency = self
            .latency
            .filter(|latency| latency.count > 0)
            .map_or_else(
                || "p50/p99 -".to_owned(),
                |of| format!("p50/p99 {}/{} ms", figure(of.p50_ms), figure(of.p99_ms)),
            );
        let errors = format!("{} errors", count(self.errors));
        let long = [
            format!("{frames} frames/s"),
            format!("{comments} comments/s"),
        ];
        let short = [format!("{frames} fr/s"), format!("{comments} com/s")];
        let with = |rates: &[String], gap: &str| {
            let mut parts = vec![progress.clone(), up.clone()];
            parts.extend_from_slice(rates);
            parts.extend([latency.clone(), errors.clone()]);
            parts.join(gap)
        };
        let brief = format!("{progress}  {up}  {errors}");
        let [long_frames, long_comments] = long.clone();
        // The choice depends on the width where possible, so that words do not change every second.
        let choices = if matches!(self.progress, Progress::Connecting(_)) {
            vec![(0, brief)]
        } else {
            vec![
                (
                    96,
                    with(&[long_frames, long_comments, format!("{bytes}/s")], "  "),
                ),
                (86, with(&long, "  ")),
                (0, with(&short, "  ")),
                (0, with(&short, " ")),
                (0, with(&[], "  ")),
                (0, brief),
            ]
        };
        let fitting = choices
            .into_iter()
            .find(|(from, line)| columns >= *from && line.chars().count() <= columns);
        fitting.map_or_else(
            || progress.chars().take(columns).collect(),
            |(_, line)| line,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn glance() -> Glance {
        Glance {
            progress: Progress::Posting(12, 60),
            viewers_up: 2000,
            frames_per_s: 2000.0,
            comments_per_s: 37_000.0,
            bytes_per_s: 968_909.0,
            latency: Some(Summary {
                count: 9,
                p50_ms: 328.0,
                p99_ms: 939.0,
                ..Summary::default()
            }),
            errors: 0,
        }
    }

    #[test]
    fn a_wide_line_shows_everything() {
        assert_eq!(
            glance().line(99),
            "12/60 s  2,000 up  2,000 frames/s  37.0k comments/s  946.2 KiB/s  p50/p99 328/939 ms  0 errors"
        );
        assert_eq!(
            glance().line(79),
            "12/60 s  2,000 up  2,000 fr/s  37.0k com/s  p50/p99 328/939 ms  0 errors"
        );
    }

    #[test]
    fn while_viewers_connect_there_are_no_rates() {
        let connecting = Glance {
            progress: Progress::Connecting(3),
            ..glance()
        };
        assert_eq!(connecting.line(79), "connecting 3 s  2,000 up  0 errors");
    }

    #[test]
    fn no_line_is_longer_than_the_terminal_is_wide() {
        let large = Glance {
            progress: Progress::Posting(35_999, 36_000),
            viewers_up: 1_000_000,
            frames_per_s: 987_654.0,
            comments_per_s: 123e6,
            errors: 123_456,
            ..glance()
        };
        for glance in [glance(), large] {
            for columns in 0..140 {
                let line = glance.line(columns);
                assert!(line.chars().count() <= columns, "{columns}: {line}");
                assert!(columns < 12 || line.contains("/"), "{columns}: {line}");
            }
        }
    }

    #[test]
    fn progress_is_counted_from_the_first_post() {
        let at = Moment::from_micros;
        let posting = Posting {
            from: at(4_300_000),
            planned: Duration::from_secs(60),
        };
        assert_eq!(Progress::of(None, at(2_001_000)), Progress::Connecting(2));
        for (now, expected) in [
            (4_000_000, Progress::Posting(0, 60)),
            (5_400_000, Progress::Posting(1, 60)),
            (64_200_000, Progress::Posting(59, 60)),
            (64_300_000, Progress::Draining(0)),
        ] {
            assert_eq!(Progress::of(Some(&posting), at(now)), expected);
        }
    }
}
