//! The live line: progress of the run.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use crate::clock::Moment;
use crate::latency::Summary;
use crate::table::{bytes_f64, count, figure, rate};
use crate::timeline::Sample;

/// Where progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Live {
    /// A terminal: one line, rewritten each second.
    Line,
    /// A log file: a line every few seconds.
    Lines,
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

    /// Shows how the second with this number went, in a line that fits so many columns.
    pub(super) fn show(self, number: u64, line: impl FnOnce(usize) -> String) {
        let mut stderr = io::stderr().lock();
        match self {
            Self::Line => {
                let _ = write!(stderr, "\r\x1b[K{}", line(columns()));
                let _ = stderr.flush();
            }
            Self::Lines if number.is_multiple_of(LINES_EVERY_S) => {
                let _ = writeln!(stderr, "{}", line(COLUMNS_OF_A_LOG));
            }
            Self::Lines => {}
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

/// A second in at most this many columns, with the latency of the last one that has been judged and all errors so far; the
/// least important figures are left out if they don't fit.
pub(super) fn line(
    progress: Progress,
    second: &Sample,
    latency: Option<Summary>,
    errors: u64,
    columns: usize,
) -> String {
    let gone = match progress {
        Progress::Connecting(gone) => format!("connecting {gone} s"),
        Progress::Posting(gone, planned) => format!("{gone}/{planned} s"),
        Progress::Draining(beyond) => format!("draining {beyond} s"),
    };
    let latency = match latency {
        Some(of) if of.count > 0 => {
            format!("p50/p99 {}/{} ms", figure(of.p50_ms), figure(of.p99_ms))
        }
        _ => "p50/p99 -".to_owned(),
    };
    let [frames, comments, bytes] =
        [second.frames, second.comments, second.bytes].map(|count| second.per_second(count));
    // Each with its importance.
    let mut parts = vec![
        (9, gone),
        (7, format!("{} up", count(second.viewers_up))),
        (4, format!("{} frames/s", rate(frames))),
        (3, format!("{} comments/s", rate(comments))),
        (2, format!("{}/s", bytes_f64(bytes))),
        (6, latency),
        (8, format!("{} errors", count(errors))),
    ];
    if matches!(progress, Progress::Connecting(_)) {
        parts.retain(|(importance, _)| *importance > 6);
    }
    loop {
        let texts: Vec<&str> = parts.iter().map(|(_, text)| text.as_str()).collect();
        let line = texts.join("  ");
        let least = parts.iter().map(|(importance, _)| *importance).min();
        if line.chars().count() <= columns || parts.len() == 1 {
            return line.chars().take(columns).collect();
        }
        parts.retain(|(importance, _)| Some(*importance) != least);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_shows_as_much_as_fits() {
        let second = Sample {
            interval_s: 1.0,
            viewers_up: 2000,
            frames: 2000,
            comments: 37_000,
            bytes: 968_909,
            ..Sample::default()
        };
        let latency = Some(Summary {
            count: 9,
            p50_ms: 328.0,
            p99_ms: 939.0,
            ..Summary::default()
        });
        let posting = |columns| line(Progress::Posting(12, 60), &second, latency, 0, columns);
        for (columns, expected) in [
            (
                99,
                "12/60 s  2,000 up  2,000 frames/s  37.0k comments/s  946.2 KiB/s  p50/p99 328/939 ms  0 errors",
            ),
            (
                79,
                "12/60 s  2,000 up  2,000 frames/s  p50/p99 328/939 ms  0 errors",
            ),
            (20, "12/60 s  0 errors"),
            (5, "12/60"),
        ] {
            assert_eq!(posting(columns), expected);
        }
        for columns in 0..140 {
            assert!(posting(columns).len() <= columns);
        }
        // While viewers connect there are no rates.
        let connecting = line(Progress::Connecting(3), &second, latency, 0, 79);
        assert_eq!(connecting, "connecting 3 s  2,000 up  0 errors");
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
            (64_200_000, Progress::Posting(59, 60)),
            (64_300_000, Progress::Draining(0)),
        ] {
            assert_eq!(Progress::of(Some(&posting), at(now)), expected);
        }
    }
}
