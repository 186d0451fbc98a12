//! Recorded chat as JSON Lines: `{"t":ms,"text":…,"mode":1|4|5,"size":25,"color":16777215,"u":"…"}`, one comment a line,
//! sorted by `t`.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use danmaku_client::NewComment;
use danmaku_wire::Mode;

/// One comment of an excerpt of chat, with its time from the start of the excerpt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When it was posted, from the start of the excerpt.
    pub at: Duration,
    /// What was posted.
    pub comment: NewComment,
}

/// Why a recording cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// It cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A line that is not a comment.
    #[error("{} line {line}: {what}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        what: LineFault,
    },
    /// It has no comment in the requested range.
    #[error("{}: no comment after the first {skip_s} s", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// Seconds that were skipped.
        skip_s: u64,
    },
}

/// What is wrong with a line.
#[derive(Debug, thiserror::Error)]
pub enum LineFault {
    /// It is no JSON, or lacks a member.
    #[error("not a comment, at column {}: {}", .0.column(), said(.0))]
    Json(serde_json::Error),
    /// It goes back in time.
    #[error("its time {0} is earlier than the previous line's")]
    Order(i64),
    /// It has no such mode.
    #[error("mode {0} is not 1 (scroll), 4 (bottom) or 5 (top)")]
    Mode(u8),
    /// It says nothing.
    #[error("its text is empty")]
    Text,
}

/// Which part of a recording is replayed.
#[derive(Clone, Copy, Debug)]
pub struct Stretch {
    /// Recorded time skipped at the start.
    pub skip: Duration,
    /// Recorded time that is taken.
    pub take: Duration,
}

/// Longest text the protocol takes, in Unicode scalar values. Recorded texts over it are cut: the server would refuse them,
/// and a refused post measures nothing.
const TEXT_SCALARS_MAX: usize = 200;

/// Reads an excerpt of a recording. Its times count from the recording's first comment.
///
/// # Errors
/// A file that cannot be read, or a line that is not a comment or goes back in time, by its number.
pub fn read(path: &Path, stretch: Stretch) -> Result<Vec<Line>, RecordingError> {
    let unreadable = |source| RecordingError::File {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(unreadable)?;
    let mut lines = Vec::new();
    let mut start_ms = None;
    let mut last_ms = i64::MIN;
    for (index, line) in BufReader::new(file).lines().enumerate() {
        let line = line.map_err(unreadable)?;
        if line.trim().is_empty() {
            continue;
        }
        let fault = |what| RecordingError::Line {
            path: path.to_owned(),
            line: index + 1,
            what,
        };
        let raw: RawLine =
            serde_json::from_str(&line).map_err(|error| fault(LineFault::Json(error)))?;
        if raw.t < last_ms {
            return Err(fault(LineFault::Order(raw.t)));
        }
        last_ms = raw.t;
        let elapsed_ms = raw.t.abs_diff(*start_ms.get_or_insert(raw.t));
        let Some(at) = Duration::from_millis(elapsed_ms).checked_sub(stretch.skip) else {
            continue;
        };
        if at >= stretch.take {
            break;
        }
        lines.push(Line {
            at,
            comment: raw.comment().map_err(fault)?,
        });
    }
    if lines.is_empty() {
        return Err(RecordingError::Empty {
            path: path.to_owned(),
            skip_s: stretch.skip.as_secs(),
        });
    }
    Ok(lines)
}

/// What is wrong with a line, without the line number of its own, which is always 1.
fn said(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line 1 ")
        .next()
        .unwrap_or_default()
        .to_owned()
}

#[derive(Deserialize)]
struct RawLine {
    t: i64,
    text: String,
    #[serde(default = "RawLine::scroll")]
    mode: u8,
    size: Option<u32>,
    color: Option<u32>,
    u: Option<String>,
}

impl RawLine {
    fn scroll() -> u8 {
        1
    }

    fn comment(self) -> Result<NewComment, LineFault> {
        let mode = match self.mode {
            1 => Mode::Scroll,
            4 => Mode::Bottom,
            5 => Mode::Top,
            other => return Err(LineFault::Mode(other)),
        };
        let text = sendable(&self.text);
        if text.is_empty() {
            return Err(LineFault::Text);
        }
        Ok(NewComment {
            text,
            user: self.u,
            mode: Some(mode),
            color: self.color,
            size: self.size,
            ..NewComment::default()
        })
    }
}

/// A recorded text as the protocol takes it: no control characters, no more than 200 scalar values.
fn sendable(text: &str) -> String {
    text.chars()
        .filter(|character| !character.is_control())
        .take(TEXT_SCALARS_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str, skip_s: u64, take_s: u64) -> Result<Vec<Line>, RecordingError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let stretch = Stretch {
            skip: Duration::from_secs(skip_s),
            take: Duration::from_secs(take_s),
        };
        read(file.path(), stretch)
    }

    #[test]
    fn a_stretch_starts_and_ends_where_it_says() {
        let text = "{\"t\":-2000,\"text\":\"a\"}\n{\"t\":-500,\"text\":\"b\",\"mode\":5,\"u\":\"00ff\",\"color\":255,\"size\":18}\n\n{\"t\":1500,\"text\":\"c\",\"mode\":4}\n{\"t\":9000,\"text\":\"d\"}\n";
        let lines = read_text(text, 1, 5).unwrap();
        let at_ms: Vec<u128> = lines.iter().map(|line| line.at.as_millis()).collect();
        assert_eq!(at_ms, [500, 2500]);
        assert_eq!(
            lines[0].comment,
            NewComment {
                text: "b".to_owned(),
                user: Some("00ff".to_owned()),
                mode: Some(Mode::Top),
                color: Some(255),
                size: Some(18),
                ..NewComment::default()
            }
        );
        assert_eq!(lines[1].comment.mode, Some(Mode::Bottom));
    }

    #[test]
    fn a_bad_line_is_named_by_its_number() {
        for (text, expected) in [
            (
                "{\"t\":1,\"text\":\"a\"}\n{\"t\":2,\n",
                "line 2: not a comment",
            ),
            (
                "{\"t\":5,\"text\":\"a\"}\n{\"t\":4,\"text\":\"b\"}\n",
                "line 2: its time 4",
            ),
            ("{\"t\":5,\"text\":\"a\",\"mode\":7}\n", "line 1: mode 7"),
            ("{\"t\":5,\"text\":\"\\u0007\"}\n", "line 1: its text"),
            ("nonsense\n", "line 1: not a comment, at column 2: "),
            ("{\"t\":1,\"text\":\"a\"}\n", "after the first 10 s"),
        ] {
            let error = read_text(
                text,
                if expected.starts_with("after") { 10 } else { 0 },
                100,
            );
            let error = error.unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn texts_are_cut_to_what_the_protocol_takes() {
        assert_eq!(sendable("a\u{7}b\n"), "ab");
        assert_eq!(sendable(&"字".repeat(300)).chars().count(), 200);
    }
}
