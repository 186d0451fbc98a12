//! ASS, the subtitles of video players: scrolling texts in lanes that do not overlap.

use std::io::Write as _;

use danmaku_wire::{Color, FontSize, Mode};

use super::{
    BadLine, LINE_BYTES_MAX, LineProblem, ReadComment, Recording, Shown, TIME_MS_MAX, Time,
    comment, size,
};

pub(super) const HEAD: &[u8] = b"[Script Info]
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

/// When each lane is free again, for each mode.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    scroll: [u64; LANES],
    top: [u64; LANES],
    bottom: [u64; LANES],
}

impl Lanes {
    pub(super) fn write(&mut self, time_ms: u64, shown: &Shown<'_>, out: &mut Vec<u8>) {
        // What the file cannot tell must not decide the lane.
        let time_ms = time_ms / 10 * 10;
        // Braces and backslashes begin commands.
        let text: String = shown
            .text
            .chars()
            .map(|c| match c {
                '{' => '｛',
                '}' => '｝',
                '\\' => '＼',
                c => c,
            })
            .collect();
        let (size, mode) = (u64::from(shown.size), shown.mode());
        let width = width(&text, size);
        let shown_ms = match mode {
            Mode::Scroll => SCROLL_MS,
            Mode::Top | Mode::Bottom => STILL_MS,
        };
        let y = self.take(mode, time_ms, width) * LANE_HEIGHT;
        let place = match mode {
            Mode::Scroll => format!("\\move({WIDTH},{y},-{width},{y})"),
            Mode::Top => format!("\\an8\\pos({},{y})", WIDTH / 2),
            Mode::Bottom => format!("\\an2\\pos({},{})", WIDTH / 2, HEIGHT - y),
        };
        let [_, r, g, b] = shown.color.to_be_bytes();
        let (from, to) = (Clock(time_ms), Clock(time_ms + shown_ms));
        // Writing to memory does not fail.
        let _ = writeln!(
            out,
            "Dialogue: 0,{from},{to},Danmaku,,0,0,0,,{{{place}\\fs{}\\c&H{b:02X}{g:02X}{r:02X}&}}{text}",
            size * 2,
        );
    }

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

/// The text's width in pixels, roughly: letters of East Asia are as wide as high, others half as wide.
fn width(text: &str, size: u64) -> u64 {
    let halves: u64 = text
        .chars()
        .map(|c| if c < '\u{1100}' { 1 } else { 2 })
        .sum();
    halves * size
}

/// A time as `1:02:03.45`.
struct Clock(u64);

impl std::fmt::Display for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (seconds, hundredths) = (self.0 / 1_000, self.0 % 1_000 / 10);
        let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
        write!(
            f,
            "{hours}:{minutes:02}:{:02}.{hundredths:02}",
            seconds % 60
        )
    }
}

/// The columns of `Dialogue` lines that are read.
#[derive(Clone, Copy)]
struct Columns {
    start: usize,
    /// The last column, which may have commas.
    text: usize,
}

pub(super) fn read(text: &str) -> Result<Recording, BadLine> {
    let mut recording = Recording::default();
    let mut columns = USUAL_COLUMNS;
    let (mut in_events, mut had_events) = (false, false);
    for (number, line) in (1..).zip(text.lines()) {
        let bad = |problem| BadLine {
            line: number,
            problem,
        };
        if line.starts_with('[') {
            in_events = line.trim_end().eq_ignore_ascii_case("[Events]");
            had_events |= in_events;
        } else if let Some(format) = line.strip_prefix("Format:").filter(|_| in_events) {
            columns = read_format(format).map_err(bad)?;
        } else if let Some(dialogue) = line.strip_prefix("Dialogue:").filter(|_| in_events) {
            match read_dialogue(number, dialogue, columns).map_err(bad)? {
                Some(comment) => recording.comments.push(comment),
                None => recording.left_out += 1,
            }
        }
    }
    if had_events {
        Ok(recording)
    } else {
        Err(BadLine {
            line: text.lines().count().max(1),
            problem: LineProblem::NoEvents,
        })
    }
}

fn read_format(format: &str) -> Result<Columns, LineProblem> {
    let names: Vec<_> = format.split(',').map(str::trim).collect();
    let column = |wanted: &str| {
        names
            .iter()
            .position(|name| name.eq_ignore_ascii_case(wanted))
    };
    match (column("Start"), column("Text")) {
        (Some(start), Some(text)) if text + 1 == names.len() => Ok(Columns { start, text }),
        _ => Err(LineProblem::Value("`Format`")),
    }
}

fn read_dialogue(
    line: usize,
    dialogue: &str,
    columns: Columns,
) -> Result<Option<ReadComment>, LineProblem> {
    if dialogue.len() > LINE_BYTES_MAX {
        return Err(LineProblem::TooLong);
    }
    let values: Vec<_> = dialogue.splitn(columns.text + 1, ',').collect();
    let text = values
        .get(columns.text)
        .ok_or(LineProblem::Value("`Text`"))?;
    let start = values.get(columns.start).copied().unwrap_or_default();
    let time_ms = clock_ms(start.trim()).ok_or(LineProblem::Value("`Start`"))?;
    let styled = Styled::read(text);
    if styled.drawing {
        return Ok(None);
    }
    let mut comment = comment(&styled.text)?;
    comment.mode = styled.mode;
    comment.color = styled.color;
    comment.size = styled.size;
    Ok(Some(ReadComment {
        line,
        time: Time::Video(time_ms),
        id: None,
        comment,
    }))
}

/// A time as `1:02:03.45`.
fn clock_ms(clock: &str) -> Option<u64> {
    let (hours, rest) = clock.split_once(':')?;
    let (minutes, seconds) = rest.split_once(':')?;
    let whole = |digits: &str| {
        let digits = Some(digits).filter(|d| d.bytes().all(|b| b.is_ascii_digit()))?;
        digits.parse::<u64>().ok().filter(|&n| n <= TIME_MS_MAX)
    };
    let time = (whole(hours)? * 60 + whole(minutes)?) * 60_000 + super::seconds_ms(seconds)?;
    (time <= TIME_MS_MAX).then_some(time)
}

/// The text of a line, and what its commands say.
struct Styled {
    text: String,
    mode: Mode,
    color: Color,
    size: FontSize,
    drawing: bool,
}

impl Styled {
    fn read(text: &str) -> Self {
        let mut styled = Self {
            text: String::new(),
            mode: Mode::default(),
            color: Color::default(),
            size: FontSize::default(),
            drawing: false,
        };
        let mut rest = text;
        while let Some((shown, block)) = rest.split_once('{') {
            // A brace that is not closed is text.
            let Some((commands, after)) = block.split_once('}') else {
                break;
            };
            styled.show(shown);
            commands
                .split('\\')
                .for_each(|command| styled.command(command.trim()));
            rest = after;
        }
        styled.show(rest);
        styled
    }

    fn show(&mut self, text: &str) {
        // Line breaks and hard spaces.
        let text = text.replace("\\N", " ").replace("\\n", " ");
        self.text.push_str(&text.replace("\\h", " "));
    }

    fn command(&mut self, command: &str) {
        if command.starts_with("move(") {
            self.mode = Mode::Scroll;
        } else if let Some(place) = command.strip_prefix("an") {
            match place {
                "7" | "8" | "9" => self.mode = Mode::Top,
                "1" | "2" | "3" => self.mode = Mode::Bottom,
                _ => {}
            }
        } else if let Some(pixels) = command.strip_prefix("fs") {
            if let Ok(pixels) = pixels.parse::<u16>() {
                self.size = size(f64::from(pixels) / 2.0);
            }
        } else if let Some(color) = command
            .strip_prefix("c&H")
            .or_else(|| command.strip_prefix("1c&H"))
        {
            let bgr = u32::from_str_radix(color.trim_end_matches('&'), 16).unwrap_or(u32::MAX);
            let [_, b, g, r] = bgr.to_be_bytes();
            self.color = Color::new(u32::from_be_bytes([0, r, g, b])).unwrap_or_default();
        } else if let Some(scale) = command.strip_prefix('p') {
            self.drawing |= scale.parse::<u8>().is_ok_and(|scale| scale > 0);
        }
    }
}

/// Those of `HEAD`.
const USUAL_COLUMNS: Columns = Columns { start: 1, text: 9 };

/// The picture that the subtitles are made for; see `HEAD`.
const WIDTH: u64 = 1_920;
const HEIGHT: u64 = 1_080;

/// Height of a lane: a line in the default size, which is 25 pixels at half that height.
const LANE_HEIGHT: u64 = 60;

const LANES: usize = (HEIGHT / LANE_HEIGHT) as usize;

/// How long a comment scrolls.
const SCROLL_MS: u64 = 8_000;

/// How long a comment stays at the top or bottom.
const STILL_MS: u64 = 4_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_at_the_same_time_take_different_lanes() {
        let mut lanes = Lanes::default();
        let taken: Vec<_> = (0..3).map(|_| lanes.take(Mode::Scroll, 0, 200)).collect();
        assert_eq!(taken, [0, 1, 2]);
        assert_eq!(lanes.take(Mode::Top, 0, 200), 0);
        assert_eq!(lanes.take(Mode::Scroll, 8_000, 200), 0);
    }
}
