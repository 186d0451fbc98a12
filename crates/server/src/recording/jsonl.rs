//! JSON Lines: everything that the log has of a comment.

use std::io::Write as _;

use danmaku_wire::{CommentLimits, Fragment, Seq, parse_logged};

use super::{BadLine, LINE_BYTES_MAX, LineProblem, ReadComment, Recording, Time};

pub(super) fn write(
    (id, at_ms): (Seq, u64),
    start_ms: u64,
    fragment: &Fragment,
    out: &mut Vec<u8>,
) {
    let time_ms = i128::from(at_ms) - i128::from(start_ms);
    // Writing to memory does not fail.
    let _ = write!(out, r#"{{"id":{id},"ts":{at_ms},"time_ms":{time_ms},"#);
    out.extend_from_slice(fragment.as_bytes());
    out.extend_from_slice(b"}\n");
}

pub(super) fn read(text: &str) -> Result<Recording, BadLine> {
    let mut recording = Recording::default();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() {
            continue;
        }
        let (comment, start_ms) = read_line(number, line).map_err(|problem| BadLine {
            line: number,
            problem,
        })?;
        recording.start_ms = recording.start_ms.or(start_ms);
        recording.comments.push(comment);
    }
    Ok(recording)
}

/// A comment, and when the video began.
fn read_line(number: usize, line: &str) -> Result<(ReadComment, Option<u64>), LineProblem> {
    if line.len() > LINE_BYTES_MAX {
        return Err(LineProblem::TooLong);
    }
    let logged = parse_logged(&mut line.as_bytes().to_vec(), &CommentLimits::default())?;
    let at_ms = logged.at_ms.ok_or(LineProblem::Value("`ts`"))?;
    let start_ms = logged
        .time_ms
        .and_then(|time| at_ms.checked_add_signed(time.checked_neg()?));
    let comment = ReadComment {
        line: number,
        time: Time::Unix(at_ms),
        id: logged.id,
        comment: logged.comment,
    };
    Ok((comment, start_ms))
}
