//! Bilibili's XML: `<d p="12.345,1,25,16777215,1764000005,0,0442a7f3,7">text</d>`.

use std::io::Write as _;

use danmaku_wire::Seq;
use quick_xml::Reader;
use quick_xml::events::{BytesRef, BytesStart, Event};

use super::{
    BadLine, LineProblem, ReadComment, Recording, Shown, Time, color, comment, line_at,
    mode_number, numbered_mode, seconds_ms, size, user,
};

pub(super) const HEAD: &[u8] = b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<i>\n<chatserver>danmaku</chatserver><chatid>0</chatid><mission>0</mission><maxlimit>0</maxlimit><source>k-v</source>\n";

pub(super) const TAIL: &[u8] = b"</i>\n";

pub(super) fn write((id, at_ms): (Seq, u64), time_ms: u64, shown: &Shown<'_>, out: &mut Vec<u8>) {
    // Writing to memory does not fail.
    let _ = write!(
        out,
        "<d p=\"{}.{:03},{},{},{},{},0,{},{id}\">",
        time_ms / 1_000,
        time_ms % 1_000,
        mode_number(shown.mode()),
        shown.size,
        shown.color,
        at_ms / 1_000,
        shown.poster(),
    );
    for c in shown.text.chars() {
        let mut utf8 = [0; 4];
        out.extend_from_slice(match c {
            '&' => b"&amp;",
            '<' => b"&lt;",
            '>' => b"&gt;",
            // Not allowed in XML 1.0. Rooms have no control characters.
            '\u{FFFE}' | '\u{FFFF}' => "\u{FFFD}".as_bytes(),
            c => c.encode_utf8(&mut utf8).as_bytes(),
        });
    }
    out.extend_from_slice(b"</d>\n");
}

/// The element that holds all others.
const ROOT: &str = "i";

/// A `<d>` that is being read.
struct Open {
    line: usize,
    p: Option<String>,
    text: String,
}

/// Reads without expanding anything: entities that a file defines are unknown, however they nest.
pub(super) fn read(text: &str) -> Result<Recording, BadLine> {
    let mut recording = Recording::default();
    let mut reader = Reader::from_str(text);
    let mut open: Option<Open> = None;
    let (mut depth, mut elements) = (0_usize, 0_usize);
    let (mut line, mut counted) = (1, 0);
    loop {
        let at = usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX);
        line += line_at(&text.as_bytes()[counted..], at - counted) - 1;
        counted = at;
        let bad = |problem| BadLine { line, problem };
        let event = reader.read_event().map_err(|error| BadLine {
            line: line_at(
                text.as_bytes(),
                usize::try_from(reader.error_position()).unwrap_or(0),
            ),
            problem: LineProblem::Xml(error),
        })?;
        match event {
            Event::Start(tag) | Event::Empty(tag)
                if elements == 0 && tag.name().as_ref() != ROOT =>
            {
                return Err(bad(LineProblem::Root));
            }
            Event::Start(tag) => {
                depth += 1;
                elements += 1;
                if is_comment(&tag) {
                    let p = p(&tag).map_err(bad)?;
                    let text = String::new();
                    open = Some(Open { line, p, text });
                }
            }
            Event::Empty(tag) => {
                elements += 1;
                if is_comment(&tag) {
                    return Err(bad(LineProblem::Value("the text")));
                }
            }
            Event::Text(part) => add(&mut open, &part.xml10_content()),
            Event::CData(part) => add(&mut open, &part.xml10_content()),
            Event::GeneralRef(entity) => {
                if let Some(open) = &mut open {
                    open.text.push(entity_char(&entity).map_err(bad)?);
                }
            }
            Event::End(tag) => {
                depth = depth.saturating_sub(1);
                if tag.name().as_ref() == "d"
                    && let Some(open) = open.take()
                {
                    match read_comment(&open) {
                        Ok(Some(comment)) => recording.comments.push(comment),
                        Ok(None) => recording.left_out += 1,
                        Err(problem) => {
                            let line = open.line;
                            return Err(BadLine { line, problem });
                        }
                    }
                }
            }
            Event::Eof if depth > 0 || elements == 0 => return Err(bad(LineProblem::EndsEarly)),
            Event::Eof => return Ok(recording),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
}

fn is_comment(tag: &BytesStart<'_>) -> bool {
    tag.name().as_ref() == "d"
}

fn p(tag: &BytesStart<'_>) -> Result<Option<String>, LineProblem> {
    let p = tag
        .try_get_attribute("p")
        .map_err(|error| LineProblem::Xml(error.into()))?;
    Ok(p.map(|p| p.value.into_owned()))
}

fn add(open: &mut Option<Open>, part: &str) {
    if let Some(open) = open {
        open.text.push_str(part);
    }
}

fn entity_char(entity: &BytesRef<'_>) -> Result<char, LineProblem> {
    if let Some(c) = entity.resolve_char_ref().map_err(LineProblem::Xml)? {
        return Ok(c);
    }
    match &*entity.xml10_content() {
        "amp" => Ok('&'),
        "lt" => Ok('<'),
        "gt" => Ok('>'),
        "quot" => Ok('"'),
        "apos" => Ok('\''),
        _ => Err(LineProblem::Entity),
    }
}

fn read_comment(open: &Open) -> Result<Option<ReadComment>, LineProblem> {
    let p = open.p.as_deref().ok_or(LineProblem::Value("`p`"))?;
    let fields: Vec<_> = p.split(',').map(str::trim).collect();
    let field = |index: usize| fields.get(index).copied().unwrap_or_default();
    let time_ms = seconds_ms(field(0)).ok_or(LineProblem::Value("the time"))?;
    let mode = numbered_mode(field(1))?;
    let size = field(2)
        .parse()
        .ok()
        .filter(|size: &f64| size.is_finite())
        .map(size);
    let size = size.ok_or(LineProblem::Value("the size"))?;
    let color = color(field(3))?;
    let Some(mode) = mode else {
        return Ok(None);
    };
    let mut comment = comment(&open.text)?;
    comment.mode = mode;
    comment.size = size;
    comment.color = color;
    comment.user = user(field(6));
    Ok(Some(ReadComment {
        line: open.line,
        time: Time::Video(time_ms),
        id: None,
        comment,
    }))
}
