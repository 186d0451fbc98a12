use danmaku_wire::{CommentData, DisplayName};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// Comments with their ids and log times.
type Entries = Vec<(Seq, u64, Comment)>;

fn entry(id: u64, at_ms: u64, text: &str, mode: Mode) -> (Seq, u64, Comment) {
    let limits = CommentLimits::default();
    let mut comment = Comment::new(CommentText::new(text, &limits).unwrap());
    comment.user = UserId::new("u1", &limits).ok();
    comment.mode = mode;
    comment.color = Color::new(0xFF_80_00).unwrap();
    (Seq::new(id), at_ms, comment)
}

fn entries() -> Entries {
    vec![
        entry(7, 1_764_000_005_120, "a<b & \"c\"", Mode::Scroll),
        entry(8, 1_764_000_017_465, "{弹}", Mode::Top),
    ]
}

fn written(format: RecordingFormat, start_ms: Option<u64>, entries: &Entries) -> String {
    let mut writer = RecordingWriter::new(format, start_ms);
    let mut out = Vec::new();
    writer.head(&mut out);
    for (id, at_ms, comment) in entries {
        let fragment = comment.fragment();
        writer.comment((*id, *at_ms), &fragment, &mut out).unwrap();
    }
    writer.tail(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn xml() {
    let text = written(RecordingFormat::Xml, None, &entries());
    let lines: Vec<_> = text.lines().skip(3).collect();
    assert_eq!(
        lines,
        [
            "<d p=\"0.000,1,25,16744448,1764000005,0,0442a7f3,7\">a&lt;b &amp; \"c\"</d>",
            "<d p=\"12.345,5,25,16744448,1764000017,0,0442a7f3,8\">{弹}</d>",
            "</i>",
        ]
    );
}

#[test]
fn posters_are_told_apart_by_user_or_name() {
    #[track_caller]
    fn check(user: Option<&str>, name: Option<&str>, expected: &str) {
        let limits = CommentLimits::default();
        let (id, at_ms, mut comment) = entry(7, 1_764_000_005_120, "x", Mode::Scroll);
        comment.user = user.and_then(|user| UserId::new(user, &limits).ok());
        comment.name = name.and_then(|name| DisplayName::new(name, &limits).ok());
        let text = written(RecordingFormat::Xml, None, &vec![(id, at_ms, comment)]);
        let poster = text
            .split_once(",0,")
            .and_then(|(_, rest)| rest.split_once(','));
        assert_eq!(poster.unwrap().0, expected);
    }
    check(Some("u1"), Some("mira"), "0442a7f3");
    check(Some("#7b"), None, "7b");
    check(None, Some("u1"), "7e6aef3d");
    check(None, None, NOBODY);
}

#[test]
fn dandanplay() {
    let text = written(
        RecordingFormat::Dandanplay,
        Some(1_764_000_005_121),
        &entries(),
    );
    let value: Value = serde_json::from_str(&text).unwrap();
    let expected = json!({
        "count": 1,
        "comments": [{"cid": 8, "p": "12.34,5,16744448,0442a7f3", "m": "{弹}"}],
    });
    assert_eq!(value, expected);
    let two = written(RecordingFormat::Dandanplay, None, &entries());
    let two: Value = serde_json::from_str(&two).unwrap();
    let len = two["comments"].as_array().map(Vec::len);
    assert_eq!((&two["count"], len), (&2.into(), Some(2)));
    let none = written(RecordingFormat::Dandanplay, None, &Vec::new());
    let none: Value = serde_json::from_str(&none).unwrap();
    assert_eq!(none, json!({"count": 0, "comments": []}));
}

#[test]
fn ass() {
    let text = written(RecordingFormat::Ass, None, &entries());
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
fn json_lines_have_all_of_the_log() {
    let text = written(RecordingFormat::Jsonl, Some(1_764_000_010_000), &entries());
    assert_eq!(
        text.lines().next().unwrap(),
        r#"{"id":7,"ts":1764000005120,"time_ms":-4880,"user":"u1","text":"a<b & \"c\"","color":16744448}"#
    );
    let recording = Recording::read(RecordingFormat::Jsonl, text.as_bytes()).unwrap();
    assert_eq!(recording.start_ms, Some(1_764_000_010_000));
}

#[test]
fn files_of_other_programs_are_read() {
    #[track_caller]
    fn check(format: RecordingFormat, file: &str, expected: &[(u64, &str, Mode)], left_out: u64) {
        let read = Recording::read(format, file.as_bytes()).unwrap();
        let found: Vec<_> = (read.comments.iter())
            .map(|read| match read.time {
                Time::Video(ms) => (ms, read.comment.text.as_str(), read.comment.mode),
                Time::Unix(_) => panic!("times of the video are relative"),
            })
            .collect();
        assert_eq!((&*found, read.left_out), (expected, left_out), "{file}");
    }
    check(
        RecordingFormat::Xml,
        "\u{FEFF}<?xml version=\"1.0\"?><!DOCTYPE i><i><chatid>1 &amp; 2</chatid>\n\
         <d p='1.50000,6,18,255'>one &lt;&#x5F39;&#33; <![CDATA[<&>]]></d>\
         <d p=\"0,5,25,16777215,1,0,D45E,2,11\">two\nlines</d><!-- no --><d p=\"3,7,25,255\">[0,1]</d></i>",
        &[
            (1_500, "one <弹! <&>", Mode::Scroll),
            (0, "two lines", Mode::Top),
        ],
        1,
    );
    check(
        RecordingFormat::Dandanplay,
        r#"{"count":2,"comments":[{"cid":1,"p":"2.5,4,255,[BiliBili]x","m":"a\tb"},{"p":"1,1,0","m":"c"}]}"#,
        &[(2_500, "a b", Mode::Bottom), (1_000, "c", Mode::Scroll)],
        0,
    );
    check(
        RecordingFormat::Ass,
        "[Script Info]\r\nDialogue: no\r\n[Events]\r\nFormat: Start, End, Text\r\nComment: x\r\n\
         Dialogue: 1:00:02.50,1:00:03.00,{\\an8}up, {\\i1}and\\Nover{\\i0} {\r\nDialogue: 0:00:01.00,0,{\\p1}m 0 0{\\p0}\r\n",
        &[(3_602_500, "up, and over {", Mode::Top)],
        1,
    );
}

#[track_caller]
fn check_refused(format: RecordingFormat, file: impl AsRef<[u8]>, expected: &str) {
    let error = Recording::read(format, file.as_ref()).unwrap_err();
    let error = error.to_string();
    assert!(error.starts_with(expected), "{error}");
    assert!(!error.contains('\n'), "{error}");
}

#[test]
fn a_malformed_line_of_xml_is_named() {
    let xml = |file: &str, expected: &str| check_refused(RecordingFormat::Xml, file, expected);
    xml("", "line 1: the file ends early");
    xml(
        "<i>\n<d p=\"0,1,25,0\">x</d>\n",
        "line 3: the file ends early",
    );
    xml("<i>\n<d p=\"x,1,25,0\">x</d></i>", "line 2: the time is");
    xml("<i>\n\n<d p=\"0,0,25,0\">x</d></i>", "line 3: the mode is");
    xml("<i><d p=\"0,1,x,0\">x</d></i>", "line 1: the size is");
    xml(
        "<i><d p=\"0,1,25,16777216\">x</d></i>",
        "line 1: the colour is",
    );
    xml("<i><d>x</d></i>", "line 1: `p` is missing");
    xml(
        "<i>\n<d p=\"0,1,25,0\"/></i>",
        "line 2: the text is missing",
    );
    xml("<i>\n<d p=\"0,1,25,0\">\n</d></i>", "line 2: text is empty");
    xml(
        "<i>\n<d p=\"0,1,25,0\">&#7;</d></i>",
        "line 2: text has a control",
    );
    xml(
        "<i>\n<d p=\"0,1,25,0\">\u{7}</d></i>",
        "line 2: text has a control",
    );
    xml("<i>\n<d p=\"0,1,25,0\">x</i>", "line 2: ");
    // Entities are not expanded, so a file cannot blow up.
    let laughs = "<!DOCTYPE i [<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;&a;&a;\">]>\n<i>\n<d p=\"0,1,25,0\">&b;</d></i>";
    xml(laughs, "line 3: unknown entity");
    xml(
        "<!DOCTYPE html>\n<html><p>404</p></html>",
        "line 2: the root element is not <i>",
    );
    xml(
        "<d p=\"0,1,25,0\">x</d>",
        "line 1: the root element is not <i>",
    );
    xml(&"<i>".repeat(100_000), "line 1: the file ends early");
    check_refused(RecordingFormat::Xml, b"<i>\n\xFF", "line 2: not UTF-8");
}

#[test]
fn a_malformed_line_is_named() {
    let jsonl = |file: &str, expected: &str| check_refused(RecordingFormat::Jsonl, file, expected);
    jsonl(
        "{\"ts\":1,\"text\":\"x\"}\n\n{\"ts\":1}\n",
        "line 3: text is missing",
    );
    jsonl("{\"text\":\"x\"}", "line 1: `ts` is missing");
    jsonl("{\"ts\":-1,\"text\":\"x\"}", "line 1: `ts` is missing");
    jsonl(
        "{\"ts\":1,\"text\":\"x\",\"role\":\"king\"}",
        "line 1: role is not",
    );
    jsonl(
        "{\"ts\":1,\"text\":",
        "line 1: the message is not valid JSON",
    );
    jsonl(
        &format!("{}\"x\"", "{\"a\":".repeat(5_000)),
        "line 1: the message is not",
    );
    jsonl(&"x".repeat(LINE_BYTES_MAX + 1), "line 1: the line has more");

    let dandan =
        |file: &str, expected: &str| check_refused(RecordingFormat::Dandanplay, file, expected);
    dandan("{}", "line 1: not an object with a list `comments`");
    dandan("{\"comments\":[", "line 1: not valid JSON");
    dandan("{\"comments\":[\n{}]}", "line 2: a comment must be");
    let second = "{\"comments\":[\n{\"p\":\"1,1,0\",\"m\":\"x\"},\n{\"p\":\"1\",\"m\":\"x\"}]}";
    dandan(second, "line 3: the mode is");
    let deep = format!("{{\"comments\":{}", "[".repeat(100_000));
    dandan(&deep, "line 1: ");

    let ass = |file: &str, expected: &str| check_refused(RecordingFormat::Ass, file, expected);
    ass("no subtitles", "line 1: no section [Events]");
    ass("[Events]\nFormat: Text, Start\n", "line 2: `Format` is");
    ass("[Events]\nDialogue: 0,0:00:00.00,1\n", "line 2: `Text` is");
    let time = "[Events]\nDialogue: 0,0:00,0,,,0,0,0,,x\n";
    ass(time, "line 2: `Start` is");
    let none = "[Events]\nDialogue: 0,0:00:00.00,0,,,0,0,0,,{\\i1}\n";
    ass(none, "line 2: text is empty");
}

fn text() -> impl Strategy<Value = String> {
    let tricky = prop::sample::select(vec![
        "&amp;",
        "]]>",
        "<d p=\"0\">",
        "\\N",
        "{\\an8}",
        "\u{FFFE}",
        "\u{FFFF}",
        "\u{2028}",
        "\u{FEFF}",
        "弹幕",
        "👩‍👩‍👧",
        "\u{10FFFF}",
        "\"",
        "'",
        ",",
        "\\",
        " ",
        "\u{FFFD}",
        "&#10;",
        "%",
    ]);
    let part = prop_oneof![tricky.prop_map(str::to_owned), "\\PC{1,8}"];
    prop::collection::vec(part, 1..8).prop_map(|parts| parts.concat())
}

fn comments() -> impl Strategy<Value = Entries> {
    let comment = (
        text(),
        prop::option::of("[ -~]{1,20}|#[0-9a-f]{8}"),
        prop::sample::select(Mode::ALL.to_vec()),
        0..=0xFF_FFFF_u32,
        10..=64_u8,
        0..40_000_u64,
    );
    prop::collection::vec(comment, 0..20).prop_map(|comments| {
        let limits = CommentLimits::default();
        let mut at_ms = START_MS;
        let mut entries = Vec::new();
        for (text, user, mode, color, size, after_ms) in comments {
            let Ok(text) = CommentText::new(&text, &limits) else {
                continue;
            };
            at_ms += after_ms;
            let mut comment = Comment::new(text);
            comment.user = user.and_then(|user| UserId::new(&user, &limits).ok());
            comment.mode = mode;
            comment.color = Color::new(color).unwrap();
            comment.size = FontSize::new(size).unwrap();
            entries.push((Seq::new(entries.len() as u64 + 1), at_ms, comment));
        }
        entries
    })
}

const START_MS: u64 = 1_764_000_000_123;

proptest! {
    #[test]
    fn what_was_read_is_written_again_as_it_was(entries in comments()) {
        for format in RecordingFormat::value_variants() {
            let first = written(*format, Some(START_MS), &entries);
            let read = Recording::read(*format, first.as_bytes()).unwrap();
            prop_assert_eq!(read.comments.len(), entries.len());
            let again: Entries = (1..)
                .zip(read.comments)
                .map(|(id, read)| {
                    let at_ms = match read.time {
                        Time::Video(time_ms) => START_MS + time_ms,
                        Time::Unix(at_ms) => at_ms,
                    };
                    (Seq::new(id), at_ms, read.comment)
                })
                .collect();
            if *format == RecordingFormat::Jsonl {
                prop_assert_eq!(&again, &entries);
            }
            prop_assert_eq!(written(*format, Some(START_MS), &again), first);
        }
    }

    #[test]
    fn any_file_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), file in file()) {
        for format in RecordingFormat::value_variants() {
            let _ = Recording::read(*format, &bytes);
            let _ = Recording::read(*format, file.as_bytes());
        }
    }
}

/// Parts of files of all formats, in any order.
fn file() -> impl Strategy<Value = String> {
    let tokens = prop::sample::select(vec![
        "<i>",
        "</i>",
        "<d p=\"1.5,1,25,255\">",
        "<d p=\"",
        "\">",
        "</d>",
        "<d",
        "/>",
        "<!--",
        "-->",
        "<![CDATA[",
        "]]>",
        "<?xml",
        "?>",
        "<!DOCTYPE",
        "&",
        "&#x",
        ";",
        "&amp;",
        "[Events]\n",
        "Format: Start, Text\n",
        "Dialogue: ",
        "0:00:01.00",
        ",",
        "{",
        "}",
        "\\",
        "\\fs",
        "\\c&H",
        "{\"comments\":[",
        "\"p\":\"1,1,1\",",
        "\"m\":\"x\"",
        "\"",
        ":",
        "]}",
        "{\"ts\":1,\"text\":\"x\"}",
        "\n",
        "\r",
        "\u{FEFF}",
        "弹",
        "\u{0}",
        "1e9",
        "-1",
        "99999999999999999999",
    ]);
    let part = prop_oneof![4 => tokens.prop_map(str::to_owned), 1 => "\\PC{0,4}"];
    prop::collection::vec(part, 0..30).prop_map(|parts| parts.concat())
}

#[test]
fn json_lines_keep_every_member() {
    let line = r#"{"id":1,"ts":1764000000123,"time_ms":0,"user":"u","name":"n","text":"x","mode":"top","color":1,"size":36,"role":"moderator","reply_to":9,"data":{"a":[1.5,null,"\n"]}}"#;
    let read = Recording::read(RecordingFormat::Jsonl, line.as_bytes()).unwrap();
    let comment = &read.comments[0].comment;
    assert_eq!(
        comment.data.as_ref().map(CommentData::as_json),
        Some(r#"{"a":[1.5,null,"\n"]}"#)
    );
    let entries = vec![(Seq::new(1), START_MS, comment.clone())];
    let again = written(RecordingFormat::Jsonl, None, &entries);
    assert_eq!(again, format!("{line}\n"));
}
