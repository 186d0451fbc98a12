//! The answer of the dandanplay comment API: `{"count":1,"comments":[{"cid":7,"p":"12.34,1,16777215,uid","m":"…"}]}`.

use std::io::Write as _;

use danmaku_wire::Seq;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::{
    BadLine, LINE_BYTES_MAX, LineProblem, ReadComment, Recording, Shown, Time, color, comment,
    line_at, mode_number, numbered_mode, seconds_ms, user,
};

pub(super) const HEAD: &[u8] = b"{\"comments\":[";

pub(super) fn write(id: Seq, time_ms: u64, shown: &Shown<'_>, first: bool, out: &mut Vec<u8>) {
    let p = format!(
        "{}.{:02},{},{},{}",
        time_ms / 1_000,
        time_ms % 1_000 / 10,
        mode_number(shown.mode()),
        shown.color,
        shown.poster()
    );
    let line = json!({"cid": id.value(), "p": p, "m": shown.text});
    // Writing to memory does not fail.
    let _ = write!(out, "{}\n{line}", if first { "" } else { "," });
}

pub(super) fn write_tail(count: u64, out: &mut Vec<u8>) {
    // Writing to memory does not fail.
    let _ = writeln!(out, "\n],\"count\":{count}}}");
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    comments: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Line {
    p: String,
    m: String,
}

pub(super) fn read(text: &str) -> Result<Recording, BadLine> {
    let answer: Answer<'_> = serde_json::from_str(text).map_err(|error| BadLine {
        line: error.line().max(1),
        problem: if error.is_data() {
            LineProblem::NoComments
        } else {
            LineProblem::Json
        },
    })?;
    let mut recording = Recording::default();
    let (mut line, mut counted) = (1, 0);
    for raw in answer.comments {
        // The values are slices of the text.
        let offset = (raw.get().as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
        line += line_at(&text.as_bytes()[counted..], offset - counted) - 1;
        counted = offset;
        match read_comment(line, raw.get()) {
            Ok(Some(comment)) => recording.comments.push(comment),
            Ok(None) => recording.left_out += 1,
            Err(problem) => return Err(BadLine { line, problem }),
        }
    }
    Ok(recording)
}

fn read_comment(line: usize, raw: &str) -> Result<Option<ReadComment>, LineProblem> {
    if raw.len() > LINE_BYTES_MAX {
        return Err(LineProblem::TooLong);
    }
    let Line { p, m } = serde_json::from_str(raw).map_err(|_| LineProblem::NoComment)?;
    let mut fields = p.split(',');
    let mut field = || fields.next().unwrap_or_default();
    let time_ms = seconds_ms(field()).ok_or(LineProblem::Value("the time"))?;
    let mode = numbered_mode(field())?;
    let color = color(field())?;
    let poster = field();
    let Some(mode) = mode else {
        return Ok(None);
    };
    let mut comment = comment(&m)?;
    comment.mode = mode;
    comment.color = color;
    comment.user = user(poster);
    Ok(Some(ReadComment {
        line,
        time: Time::Video(time_ms),
        id: None,
        comment,
    }))
}
