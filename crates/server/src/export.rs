//! Owns `danmaku-server export`: a room's comments in the formats of players.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::Duration;

use clap::{Args, ValueEnum};
use danmaku_client::{ClientError, Comment, HttpClient, ServerAddress};
use danmaku_wire::{Mode, Position, RoomId};
use serde_json::{Value, json};

use crate::cli::{CliError, DEFAULT_SERVER, parse_room};

/// The flags of `danmaku-server export`.
#[derive(Args, Clone, Debug)]
pub struct ExportArgs {
    /// The room to export
    #[arg(value_parser = parse_room)]
    pub room: RoomId,

    /// The server's address
    #[arg(long, value_name = "URL", default_value = DEFAULT_SERVER)]
    pub server: ServerAddress,

    /// What to write
    #[arg(long, value_enum, default_value = "jsonl")]
    pub format: ExportFormat,

    /// When the video began, in milliseconds since 1970; comments before it are left out. Without it, the first comment is
    /// at the beginning
    #[arg(long, value_name = "MS")]
    pub start: Option<u64>,
}

/// A format of comments beside a video.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// One JSON object per line
    Jsonl,
    /// Bilibili's XML, which most danmaku players read
    Xml,
    /// Subtitles for video players
    Ass,
    /// The answer of the dandanplay comment API
    Dandanplay,
}

/// Writes a room's comments to standard output, without retracted ones.
///
/// # Errors
/// [`CliError`].
pub async fn export(args: ExportArgs) -> Result<(), CliError> {
    let mut http = HttpClient::new(args.server);
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut writer = Writer::new(args.format, args.start);
    out.write_all(writer.head().as_bytes())?;
    let mut since = None;
    loop {
        let page = match http.comments(&args.room, since, Some(PAGE_ENTRIES)).await {
            // Many pages are more than one address may ask for at once.
            Err(ClientError::Refused(refusal)) if refusal.code == "rate_limited" => {
                let wait = refusal.retry_after_ms.unwrap_or(1_000);
                tokio::time::sleep(Duration::from_millis(wait)).await;
                continue;
            }
            page => page?,
        };
        for comment in &page.comments {
            out.write_all(writer.comment(comment).as_bytes())?;
        }
        since = Some(Position {
            epoch: page.epoch,
            seq: page.seq,
        });
        if !page.more {
            break;
        }
    }
    out.write_all(writer.tail().as_bytes())?;
    Ok(out.flush()?)
}

/// Writes one format.
#[derive(Debug)]
struct Writer {
    format: ExportFormat,
    start_ms: Option<u64>,
    count: u64,
    lanes: Lanes,
}

impl Writer {
    fn new(format: ExportFormat, start_ms: Option<u64>) -> Self {
        Self {
            format,
            start_ms,
            count: 0,
            lanes: Lanes::default(),
        }
    }

    fn head(&self) -> &'static str {
        match self.format {
            ExportFormat::Jsonl => "",
            ExportFormat::Xml => XML_HEAD,
            ExportFormat::Ass => ASS_HEAD,
            ExportFormat::Dandanplay => "{\"comments\":[",
        }
    }

    fn tail(&self) -> String {
        match self.format {
            ExportFormat::Jsonl | ExportFormat::Ass => String::new(),
            ExportFormat::Xml => "</i>\n".to_owned(),
            ExportFormat::Dandanplay => format!("\n],\"count\":{}}}\n", self.count),
        }
    }

    /// A comment; nothing if it came before the video.
    fn comment(&mut self, comment: &Comment) -> String {
        let start_ms = *self.start_ms.get_or_insert(comment.at_ms);
        let Some(time_ms) = comment.at_ms.checked_sub(start_ms) else {
            return String::new();
        };
        self.count += 1;
        match self.format {
            ExportFormat::Jsonl => format!("{}\n", line_json(comment, time_ms)),
            ExportFormat::Xml => line_xml(comment, time_ms),
            ExportFormat::Ass => self.line_ass(comment, time_ms),
            ExportFormat::Dandanplay => {
                let comma = if self.count > 1 { "," } else { "" };
                format!("{comma}\n{}", line_dandanplay(comment, time_ms))
            }
        }
    }

    fn line_ass(&mut self, comment: &Comment, time_ms: u64) -> String {
        let (size, width) = (u64::from(comment.size) * 2, width(comment));
        let shown_ms = match comment.mode {
            Mode::Scroll => SCROLL_MS,
            Mode::Top | Mode::Bottom => STILL_MS,
        };
        let y = self.lanes.take(comment.mode, time_ms, width) * LANE_HEIGHT;
        let place = match comment.mode {
            Mode::Scroll => format!("\\move({WIDTH},{y},-{width},{y})"),
            Mode::Top => format!("\\an8\\pos({},{y})", WIDTH / 2),
            Mode::Bottom => format!("\\an2\\pos({},{})", WIDTH / 2, HEIGHT - y),
        };
        let [_, r, g, b] = comment.color.to_be_bytes();
        // Braces and backslashes begin commands.
        let text: String = comment
            .text
            .chars()
            .map(|c| match c {
                '{' => '｛',
                '}' => '｝',
                '\\' => '＼',
                c => c,
            })
            .collect();
        format!(
            "Dialogue: 0,{},{},Danmaku,,0,0,0,,{{{place}\\fs{size}\\c&H{b:02X}{g:02X}{r:02X}&}}{text}\n",
            ass_time(time_ms),
            ass_time(time_ms + shown_ms)
        )
    }
}

fn line_json(comment: &Comment, time_ms: u64) -> Value {
    json!({
        "id": comment.id.value(),
        "ts": comment.at_ms,
        "time_ms": time_ms,
        "text": comment.text,
        "user": comment.user,
        "name": comment.name,
        "mode": comment.mode.as_str(),
        "color": comment.color,
        "size": comment.size,
        "role": comment.role.as_deref().unwrap_or("viewer"),
        "data": comment.data,
    })
}

fn line_xml(comment: &Comment, time_ms: u64) -> String {
    let mut line = format!(
        "<d p=\"{}.{:03},{},{},{},{},0,{:08x},{}\">",
        time_ms / 1_000,
        time_ms % 1_000,
        mode_number(comment.mode),
        comment.size,
        comment.color,
        comment.at_ms / 1_000,
        poster(comment),
        comment.id
    );
    for c in comment.text.chars() {
        match c {
            '&' => line.push_str("&amp;"),
            '<' => line.push_str("&lt;"),
            '>' => line.push_str("&gt;"),
            // Not allowed in XML 1.0.
            '\u{FFFE}' | '\u{FFFF}' => {}
            c => line.push(c),
        }
    }
    line.push_str("</d>\n");
    line
}

fn line_dandanplay(comment: &Comment, time_ms: u64) -> Value {
    json!({
        "cid": comment.id.value(),
        "p": format!(
            "{}.{:02},{},{},{:08x}",
            time_ms / 1_000,
            time_ms % 1_000 / 10,
            mode_number(comment.mode),
            comment.color,
            poster(comment)
        ),
        "m": comment.text,
    })
}

/// As Bilibili numbers them.
fn mode_number(mode: Mode) -> u8 {
    match mode {
        Mode::Scroll => 1,
        Mode::Bottom => 4,
        Mode::Top => 5,
    }
}

/// A number for the poster, as Bilibili has one: the same for the same user, but it does not name them. FNV-1a (RFC 9923).
fn poster(comment: &Comment) -> u32 {
    let user = comment.user.as_deref().unwrap_or_default();
    user.bytes().fold(0x811C_9DC5, |hash: u32, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

/// The text's width in pixels, roughly: letters of East Asia are as wide as high, others half as wide.
fn width(comment: &Comment) -> u64 {
    let halves: u64 = comment
        .text
        .chars()
        .map(|c| if c < '\u{1100}' { 1 } else { 2 })
        .sum();
    halves * u64::from(comment.size)
}

fn ass_time(ms: u64) -> String {
    let mut text = String::new();
    let (seconds, hundredths) = (ms / 1_000, ms % 1_000 / 10);
    // Writing to a string does not fail.
    let _ = write!(
        text,
        "{}:{:02}:{:02}.{hundredths:02}",
        seconds / 3_600,
        seconds / 60 % 60,
        seconds % 60
    );
    text
}

/// When each lane is free again, for each mode.
#[derive(Debug, Default)]
struct Lanes {
    scroll: [u64; LANES],
    top: [u64; LANES],
    bottom: [u64; LANES],
}

impl Lanes {
    /// The first free lane; the one that is free first if none is.
    fn take(&mut self, mode: Mode, time_ms: u64, width: u64) -> u64 {
        let (lanes, busy_ms) = match mode {
            // Until its end has come in, and the next one cannot catch up with it.
            Mode::Scroll => (&mut self.scroll, SCROLL_MS * 2 * width / (WIDTH + width)),
            Mode::Top => (&mut self.top, STILL_MS),
            Mode::Bottom => (&mut self.bottom, STILL_MS),
        };
        let free = lanes.iter().position(|&until| until <= time_ms);
        let soonest = || (0..LANES).min_by_key(|&lane| lanes[lane]).unwrap_or(0);
        let lane = free.unwrap_or_else(soonest);
        lanes[lane] = time_ms + busy_ms;
        lane as u64
    }
}

const XML_HEAD: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<i>\n<chatserver>danmaku</chatserver><chatid>0</chatid><mission>0</mission><maxlimit>0</maxlimit><source>k-v</source>\n";

const ASS_HEAD: &str = "[Script Info]
ScriptType: v4.00+
PlayResX: 1920
PlayResY: 1080
WrapStyle: 2
ScaledBorderAndShadow: yes

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, MarginV, Encoding
Style: Danmaku,sans-serif,50,&H00FFFFFF,&H00FFFFFF,&H00000000,&H00000000,0,0,0,0,100,100,0,0,1,2,0,7,0,0,0,1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
";

/// The picture that the subtitles are made for; see `ASS_HEAD`.
const WIDTH: u64 = 1_920;
const HEIGHT: u64 = 1_080;

/// Height of a lane: a line in the default size, which is 25 pixels at half that height.
const LANE_HEIGHT: u64 = 60;

const LANES: usize = (HEIGHT / LANE_HEIGHT) as usize;

/// How long a comment scrolls.
const SCROLL_MS: u64 = 8_000;

/// How long a comment stays at the top or bottom.
const STILL_MS: u64 = 4_000;

/// Comments and events asked for at once: as many as the server gives.
const PAGE_ENTRIES: usize = 1_000;

#[cfg(test)]
mod tests {
    use danmaku_wire::Seq;

    use super::*;

    fn comment(at_ms: u64, text: &str, mode: Mode) -> Comment {
        Comment {
            id: Seq::new(7),
            at_ms,
            text: text.to_owned(),
            user: Some("u1".to_owned()),
            name: None,
            mode,
            color: 0xFF_80_00,
            size: 25,
            role: None,
            reply_to: None,
            data: None,
        }
    }

    fn written(format: ExportFormat, start_ms: Option<u64>) -> String {
        let mut writer = Writer::new(format, start_ms);
        let mut text = writer.head().to_owned();
        text += &writer.comment(&comment(1_764_000_005_120, "a<b & \"c\"", Mode::Scroll));
        text += &writer.comment(&comment(1_764_000_017_465, "{弹}", Mode::Top));
        text + &writer.tail()
    }

    #[test]
    fn xml() {
        let text = written(ExportFormat::Xml, None);
        let lines: Vec<_> = text.lines().skip(3).collect();
        assert_eq!(
            lines,
            [
                "<d p=\"0.000,1,25,16744448,1764000005,0,0442a7f3,7\">a&lt;b &amp; \"c\"</d>",
                "<d p=\"12.345,5,25,16744448,1764000017,0,0442a7f3,7\">{弹}</d>",
                "</i>",
            ]
        );
    }

    #[test]
    fn dandanplay() {
        let text = written(ExportFormat::Dandanplay, Some(1_764_000_005_121));
        let value: Value = serde_json::from_str(&text).unwrap();
        let expected = json!({
            "count": 1,
            "comments": [{"cid": 7, "p": "12.34,5,16744448,0442a7f3", "m": "{弹}"}],
        });
        assert_eq!(value, expected);
        let two = written(ExportFormat::Dandanplay, None);
        let two: Value = serde_json::from_str(&two).unwrap();
        assert_eq!(
            (&two["count"], two["comments"].as_array().map(Vec::len)),
            (&2.into(), Some(2))
        );
    }

    #[test]
    fn ass() {
        let text = written(ExportFormat::Ass, None);
        let (_, events) = text.split_once("Effect, Text\n").unwrap();
        let lines: Vec<_> = events.lines().collect();
        assert_eq!(
            lines,
            [
                "Dialogue: 0,0:00:00.00,0:00:08.00,Danmaku,,0,0,0,,{\\move(1920,0,-225,0)\\fs50\\c&H0080FF&}a<b & \"c\"",
                "Dialogue: 0,0:00:12.34,0:00:16.34,Danmaku,,0,0,0,,{\\an8\\pos(960,0)\\fs50\\c&H0080FF&}｛弹｝",
            ]
        );
    }

    #[test]
    fn lines_of_json() {
        let text = written(ExportFormat::Jsonl, None);
        let line: Value = serde_json::from_str(text.lines().nth(1).unwrap()).unwrap();
        assert_eq!(
            (&line["time_ms"], &line["mode"]),
            (&12_345.into(), &"top".into())
        );
    }

    #[test]
    fn comments_at_the_same_time_take_different_lanes() {
        let mut lanes = Lanes::default();
        let taken: Vec<_> = (0..3).map(|_| lanes.take(Mode::Scroll, 0, 200)).collect();
        assert_eq!(taken, [0, 1, 2]);
        assert_eq!(lanes.take(Mode::Top, 0, 200), 0);
        assert_eq!(lanes.take(Mode::Scroll, 8_000, 200), 0);
    }
}
