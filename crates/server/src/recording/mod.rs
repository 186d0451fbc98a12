//! Owns recorded comments in the formats of players and subtitles: writing and reading them.
//!
//! Reading takes files of other programs, too, as far as rooms have what is in them. What a format cannot carry is lost on
//! the way through it, but not on the way back: a file that was read is written again as it was.

mod ass;
mod dandanplay;
mod jsonl;
mod xml;

use std::borrow::Cow;

use clap::ValueEnum;
use danmaku_wire::{
    Color, Comment, CommentLimits, CommentText, Fault, Field, FontSize, Fragment, Mode, Problem,
    Seq, UserId,
};
use serde::Deserialize;

/// A format of comments beside a video.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RecordingFormat {
    /// One JSON object per line
    Jsonl,
    /// Bilibili's XML, which most danmaku players read
    Xml,
    /// Subtitles for video players
    Ass,
    /// The answer of the dandanplay comment API
    Dandanplay,
}

impl RecordingFormat {
    /// The format with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::value_variants()
            .iter()
            .copied()
            .find(|format| format.name() == name)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Jsonl => "jsonl",
            Self::Xml => "xml",
            Self::Ass => "ass",
            Self::Dandanplay => "dandanplay",
        }
    }

    /// The format that a file's extension stands for.
    #[must_use]
    pub fn from_extension(extension: &str) -> Option<Self> {
        let format = |format: &Self| format.extension().eq_ignore_ascii_case(extension);
        Self::value_variants().iter().copied().find(format)
    }

    /// The extension of its files, without the dot.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::Jsonl => "jsonl",
            Self::Xml => "xml",
            Self::Ass => "ass",
            Self::Dandanplay => "json",
        }
    }

    /// The media type of its files.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Jsonl => "application/x-ndjson",
            Self::Xml => "application/xml; charset=utf-8",
            Self::Ass => "text/x-ssa; charset=utf-8",
            Self::Dandanplay => "application/json",
        }
    }
}

/// Writes a recording, piece by piece.
#[derive(Debug)]
pub struct RecordingWriter {
    format: RecordingFormat,
    /// When the video began, Unix time in milliseconds.
    start_ms: Option<u64>,
    count: u64,
    lanes: ass::Lanes,
}

impl RecordingWriter {
    /// A writer of a video that began at `start_ms`; without that, with its first comment.
    #[must_use]
    pub fn new(format: RecordingFormat, start_ms: Option<u64>) -> Self {
        Self {
            format,
            start_ms,
            count: 0,
            lanes: ass::Lanes::default(),
        }
    }

    /// What comes before the comments.
    pub fn head(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(match self.format {
            RecordingFormat::Jsonl => b"",
            RecordingFormat::Xml => xml::HEAD,
            RecordingFormat::Ass => ass::HEAD,
            RecordingFormat::Dandanplay => dandanplay::HEAD,
        });
    }

    /// A comment. Only JSON Lines have those from before the video.
    ///
    /// # Errors
    /// The fragment is not JSON members of a comment.
    pub fn comment(
        &mut self,
        (id, at_ms): (Seq, u64),
        fragment: &Fragment,
        out: &mut Vec<u8>,
    ) -> Result<(), serde_json::Error> {
        let start_ms = *self.start_ms.get_or_insert(at_ms);
        if self.format == RecordingFormat::Jsonl {
            jsonl::write((id, at_ms), start_ms, fragment, out);
            return Ok(());
        }
        let Some(time_ms) = at_ms.checked_sub(start_ms) else {
            return Ok(());
        };
        let object = [b"{", fragment.as_bytes(), b"}"].concat();
        let shown: Shown<'_> = serde_json::from_slice(&object)?;
        let first = self.count == 0;
        self.count += 1;
        match self.format {
            RecordingFormat::Jsonl => {}
            RecordingFormat::Xml => xml::write((id, at_ms), time_ms, &shown, out),
            RecordingFormat::Ass => self.lanes.write(time_ms, &shown, out),
            RecordingFormat::Dandanplay => dandanplay::write(id, time_ms, &shown, first, out),
        }
        Ok(())
    }

    /// What comes after the comments.
    pub fn tail(&self, out: &mut Vec<u8>) {
        match self.format {
            RecordingFormat::Jsonl | RecordingFormat::Ass => {}
            RecordingFormat::Xml => out.extend_from_slice(xml::TAIL),
            RecordingFormat::Dandanplay => dandanplay::write_tail(self.count, out),
        }
    }
}

/// What was read from a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Recording {
    /// The comments, in the order of the file.
    pub comments: Vec<ReadComment>,
    /// Those that a room cannot hold, such as drawings.
    pub left_out: u64,
    /// When the video began, if the file says so: Unix time in milliseconds.
    pub start_ms: Option<u64>,
}

/// A comment from a file.
#[derive(Debug, PartialEq, Eq)]
pub struct ReadComment {
    /// Its line.
    pub line: usize,
    /// When it was posted.
    pub time: Time,
    /// Its id in the room it comes from, if the file says so.
    pub id: Option<Seq>,
    /// What was posted.
    pub comment: Comment,
}

/// When a comment was posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// Milliseconds since the video began.
    Video(u64),
    /// Unix time in milliseconds.
    Unix(u64),
}

impl Recording {
    /// Reads a whole file.
    ///
    /// # Errors
    /// [`BadLine`]: the first one.
    pub fn read(format: RecordingFormat, bytes: &[u8]) -> Result<Self, BadLine> {
        let text = std::str::from_utf8(bytes).map_err(|error| BadLine {
            line: bytes[..error.valid_up_to()]
                .split(|&byte| byte == b'\n')
                .count(),
            problem: LineProblem::NotUtf8,
        })?;
        let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
        match format {
            RecordingFormat::Jsonl => jsonl::read(text),
            RecordingFormat::Xml => xml::read(text),
            RecordingFormat::Ass => ass::read(text),
            RecordingFormat::Dandanplay => dandanplay::read(text),
        }
    }
}

/// A line that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct BadLine {
    /// Its number, from 1 on.
    pub line: usize,
    /// What is wrong with it.
    pub problem: LineProblem,
}

/// What is wrong with a line.
#[derive(Debug, thiserror::Error)]
pub enum LineProblem {
    /// Its bytes are no text.
    #[error("not UTF-8")]
    NotUtf8,
    /// It is no JSON.
    #[error("not valid JSON")]
    Json,
    /// It is JSON, but no answer of the dandanplay API.
    #[error("not an object with a list `comments`")]
    NoComments,
    /// It is JSON, but no comment of the dandanplay API.
    #[error("a comment must be an object with the texts `p` and `m`")]
    NoComment,
    /// It is no XML.
    #[error("{0}")]
    Xml(quick_xml::Error),
    /// An entity that XML does not define by itself.
    #[error("unknown entity")]
    Entity,
    /// It is XML of something else, such as a web page.
    #[error("the root element is not <i>: not an XML file of comments")]
    Root,
    /// The file ends before its last element does.
    #[error("the file ends early")]
    EndsEarly,
    /// The file has no section `[Events]`.
    #[error("no section [Events]")]
    NoEvents,
    /// More bytes than any comment has.
    #[error("the line has more than {LINE_BYTES_MAX} bytes")]
    TooLong,
    /// A value is missing or wrong.
    #[error("{0} is missing or invalid")]
    Value(&'static str),
    /// A member of the comment is wrong.
    #[error("{0}")]
    Comment(Problem),
}

impl From<Problem> for LineProblem {
    fn from(problem: Problem) -> Self {
        Self::Comment(problem)
    }
}

/// The line in which the byte at `offset` is.
fn line_at(text: &[u8], offset: usize) -> usize {
    let before = &text[..offset.min(text.len())];
    before.iter().filter(|&&byte| byte == b'\n').count() + 1
}

/// What players and subtitles show of a comment.
#[derive(Deserialize)]
struct Shown<'a> {
    #[serde(borrow)]
    text: Cow<'a, str>,
    user: Option<String>,
    name: Option<String>,
    #[serde(default, borrow)]
    mode: Cow<'a, str>,
    #[serde(default = "white")]
    color: u32,
    #[serde(default = "usual_size")]
    size: u8,
}

impl Shown<'_> {
    fn mode(&self) -> Mode {
        let named = |mode: &Mode| mode.as_str() == self.mode;
        Mode::ALL.into_iter().find(named).unwrap_or_default()
    }

    /// The poster, as Bilibili has one: the same for the same user, or else name, but it does not name them. FNV-1a (RFC 9923).
    fn poster(&self) -> Cow<'_, str> {
        let Some(user) = &self.user else {
            // No user id has a control character.
            return match &self.name {
                Some(name) => Cow::Owned(fnv(&format!("\0{name}"))),
                None => Cow::Borrowed(NOBODY),
            };
        };
        if let Some(poster) = user.strip_prefix(READ_POSTER)
            && is_poster(poster)
        {
            return Cow::Borrowed(poster);
        }
        Cow::Owned(fnv(user))
    }
}

fn fnv(text: &str) -> String {
    let hash = text.bytes().fold(0x811C_9DC5, |hash: u32, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    format!("{hash:08x}")
}

fn white() -> u32 {
    Color::default().value()
}

fn usual_size() -> u8 {
    FontSize::default().value()
}

/// As Bilibili numbers them.
fn mode_number(mode: Mode) -> u8 {
    match mode {
        Mode::Scroll => 1,
        Mode::Bottom => 4,
        Mode::Top => 5,
    }
}

/// The mode with Bilibili's number; `None` for what is drawn or run by a player. Backwards is a way to scroll.
fn numbered_mode(number: &str) -> Result<Option<Mode>, LineProblem> {
    match number {
        "1" | "2" | "3" | "6" => Ok(Some(Mode::Scroll)),
        "4" => Ok(Some(Mode::Bottom)),
        "5" => Ok(Some(Mode::Top)),
        "7" | "8" | "9" => Ok(None),
        _ => Err(LineProblem::Value("the mode")),
    }
}

/// A comment with this text, on one line: players break lines, rooms do not.
fn comment(text: &str) -> Result<Comment, LineProblem> {
    let line: String = text
        .chars()
        .map(|c| {
            if matches!(c, '\t' | '\n' | '\r') {
                ' '
            } else {
                c
            }
        })
        .collect();
    let text = CommentText::new(&line, &CommentLimits::default());
    let problem = |fault| Problem {
        field: Field::Text,
        fault,
    };
    text.map(Comment::new)
        .map_err(|fault: Fault| problem(fault).into())
}

/// A poster of a file as a user: recognisable, so that it is written again as it was.
fn user(poster: &str) -> Option<UserId> {
    let user = format!("{READ_POSTER}{poster}");
    let nobody = poster.bytes().all(|byte| byte == b'0');
    let user = UserId::new(&user, &CommentLimits::default()).ok();
    user.filter(|_| !nobody && is_poster(poster))
}

fn is_poster(poster: &str) -> bool {
    (1..=POSTER_BYTES_MAX).contains(&poster.len())
        && poster.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// A colour as a decimal number.
fn color(digits: &str) -> Result<Color, LineProblem> {
    let color = digits.parse().ok().and_then(Color::new);
    color.ok_or(LineProblem::Value("the colour"))
}

/// The nearest size that rooms have.
fn size(size: f64) -> FontSize {
    use danmaku_wire::limits::{FONT_SIZE_MAX, FONT_SIZE_MIN};
    let within = size.clamp(FONT_SIZE_MIN.into(), FONT_SIZE_MAX.into());
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is between two u8"
    )]
    FontSize::new(within.round() as u8).unwrap_or_default()
}

/// Seconds with any number of decimals, in milliseconds; more decimals are cut off.
fn seconds_ms(text: &str) -> Option<u64> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if whole.is_empty()
        || !whole
            .bytes()
            .chain(decimals.bytes())
            .all(|b| b.is_ascii_digit())
    {
        return None;
    }
    let ms: u64 = format!("{decimals:0<3}")[..3].parse().ok()?;
    let time = whole.parse::<u64>().ok()?.checked_mul(1_000)? + ms;
    (time <= TIME_MS_MAX).then_some(time)
}

/// Before posters that were read from a file.
const READ_POSTER: &str = "#";

/// The poster of a comment without a user and a name.
const NOBODY: &str = "00000000";

const POSTER_BYTES_MAX: usize = 32;

/// The longest video: about 31 years.
const TIME_MS_MAX: u64 = 1_000_000_000_000;

/// Bytes of a line with one comment: more than the longest comment takes, with every letter escaped.
const LINE_BYTES_MAX: usize = 64 << 10;

#[cfg(test)]
mod tests;
