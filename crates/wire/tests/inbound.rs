//! What viewers and posters may send, and the error code for each mistake.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::num::NonZeroU32;

use danmaku_wire::outbound::ack_json;
use danmaku_wire::{
    ClientMessage, Color, Comment, CommentLimits, CommentText, DisplayName, FontSize, InboundError,
    Mode, Posted, Reference, Seq, UserId, parse_client_message, parse_like, parse_posted,
};
use proptest::prelude::*;

fn text(text: &str) -> Comment {
    Comment::new(CommentText::new(text, &CommentLimits::default()).unwrap())
}

fn parse(json: &str) -> Result<ClientMessage, InboundError> {
    parse_client_message(&mut json.to_owned().into_bytes(), &CommentLimits::default())
}

fn comment_message(comment: Comment) -> ClientMessage {
    ClientMessage::Comment {
        reference: None,
        key: None,
        comment,
    }
}

#[test]
fn valid_messages_are_accepted() {
    fn check(input: &str, expected: &ClientMessage) {
        assert_eq!(&parse(input).unwrap(), expected, "{input}");
    }
    check(
        r#"{"type":"comment","text":"hi"}"#,
        &comment_message(text("hi")),
    );
    check(
        r#" {"text":"h\u0069 \ud83c\udf89","type":"comment"} "#,
        &comment_message(text("hi 🎉")),
    );
    check(
        r#"{"type":"comment","text":"a","text":"b"}"#,
        &comment_message(text("b")),
    );
    check(
        r#"{"type":"comment","text":"a","x":[{"text":[1]}],"mode":null}"#,
        &comment_message(text("a")),
    );
    let limits = CommentLimits::default();
    let full = Comment {
        user: Some(UserId::new("u1", &limits).unwrap()),
        name: Some(DisplayName::new("Ann", &limits).unwrap()),
        mode: Mode::Bottom,
        color: Color::new(0).unwrap(),
        size: FontSize::new(10).unwrap(),
        ..text("弾幕")
    };
    check(
        r#"{"type":"comment","text":"弾幕","mode":"bottom","color":0,"size":10,"user":"u1","name":"Ann"}"#,
        &comment_message(full),
    );
    check(
        r#"{"type":"like"}"#,
        &ClientMessage::Like {
            count: NonZeroU32::MIN,
        },
    );
    check(
        r#"{"type":"like","count":100}"#,
        &ClientMessage::Like {
            count: NonZeroU32::new(100).unwrap(),
        },
    );
}

#[test]
fn a_comment_may_have_data_reply_to_and_key() {
    let input = r#"{"type":"comment","text":"a","reply_to":41,"data":{"badge":"x","n":[1,{"y":null}]},"key":"k-1"}"#;
    let ClientMessage::Comment { key, comment, .. } = parse(input).unwrap() else {
        panic!("not a comment")
    };
    assert_eq!(key.unwrap().as_str(), "k-1");
    assert_eq!(comment.reply_to, Some(Seq::new(41)));
    assert_eq!(
        std::str::from_utf8(comment.fragment().as_bytes()).unwrap(),
        r#""text":"a","reply_to":41,"data":{"badge":"x","n":[1,{"y":null}]}"#
    );
    let bad = |members: &str, code: &str, field| {
        refused(
            &format!(r#"{{"type":"comment","text":"a",{members}}}"#),
            code,
            Some(field),
        );
    };
    bad(r#""data":[]"#, "data_wrong_type", "data");
    bad(r#""data":"{}""#, "data_wrong_type", "data");
    let long = format!(r#""data":{{"a":"{}"}}"#, "x".repeat(505));
    bad(&long, "data_too_long", "data");
    bad(r#""reply_to":0"#, "reply_to_out_of_range", "reply_to");
    bad(r#""reply_to":-1"#, "reply_to_out_of_range", "reply_to");
    bad(
        r#""reply_to":9007199254740992"#,
        "reply_to_out_of_range",
        "reply_to",
    );
    bad(r#""reply_to":"1""#, "reply_to_wrong_type", "reply_to");
    bad(r#""key":"""#, "key_empty", "key");
    bad(r#""key":1"#, "key_wrong_type", "key");
    bad(r#""key":"a b""#, "key_control_character", "key");
    let long = format!(r#""key":"{}""#, "k".repeat(129));
    bad(&long, "key_too_long", "key");
}

#[test]
fn references_are_echoed_unchanged() {
    fn check(input: &str) {
        let parsed = parse(&format!(r#"{{"type":"comment","text":"a","ref":{input}}}"#)).unwrap();
        let ClientMessage::Comment {
            reference: Some(reference),
            ..
        } = parsed
        else {
            panic!("{input}")
        };
        let echoed = format!(r#"{{"type":"ack","ref":{input},"id":1}}"#);
        assert_eq!(ack_json(Some(&reference), Seq::new(1)), echoed);
    }
    for reference in [
        r#""""#,
        r#""r-1""#,
        r#""\"\u0000\\""#,
        "0",
        "-1",
        "7",
        "-9223372036854775808",
    ] {
        check(reference);
    }
    check("18446744073709551615");
    check(&format!("\"{}\"", "r".repeat(64)));
}

/// Checks that the message is refused with this code and names this member.
fn refused(input: &str, code: &str, field: Option<&str>) {
    let error = parse(input).unwrap_err();
    assert_eq!((error.code(), error.field()), (code, field), "{input}");
    assert!(!error.message().is_empty());
}

#[test]
fn invalid_json_is_refused() {
    fn check(input: &str) {
        refused(input, "json_invalid", None);
    }
    for input in [
        "",
        " ",
        "{",
        "nonsense",
        r#"{"type":}"#,
        r#"{"type":"comment","text":"a"} x"#,
        "\u{feff}{}",
    ] {
        check(input);
    }
    check("{\"type\":\"comment\",\"text\":\"a\nb\"}");
    check(r#"{"type":"comment","text":"\ud800"}"#);
    check(r#"{"type":"comment","text":"\x41"}"#);
    check(r#"{"type":"comment","text":"a","color":123456789012345678901234567890}"#);
}

#[test]
fn deep_nesting_is_refused_without_recursion() {
    fn check(input: &str) {
        // A stack this small would not survive one frame per level.
        let input = input.to_owned();
        let small = std::thread::Builder::new().stack_size(128 * 1024);
        small
            .spawn(move || refused(&input, "json_invalid", None))
            .unwrap()
            .join()
            .unwrap();
    }
    check(&"[".repeat(4096));
    check(&r#"{"a":"#.repeat(800));
    check(&format!("{}{}", "[".repeat(2048), "]".repeat(2048)));
    check(&format!(
        r#"{{"type":"comment","text":"a","x":{}{}}}"#,
        "[".repeat(32),
        "]".repeat(32)
    ));
}

#[test]
fn other_documents_and_types_are_refused() {
    for input in ["[]", "null", "1", r#""comment""#] {
        refused(input, "json_wrong_type", None);
    }
    refused("{}", "type_missing", Some("type"));
    refused(r#"{"type":7}"#, "type_wrong_type", Some("type"));
    refused(
        r#"{"type":"Comment","text":"a"}"#,
        "type_unknown",
        Some("type"),
    );
}

#[test]
fn texts_are_refused() {
    fn check(member: &str, code: &str) {
        refused(
            &format!(r#"{{"type":"comment",{member}}}"#),
            code,
            Some("text"),
        );
    }
    check(r#""a":1"#, "text_missing");
    check(r#""text":null"#, "text_missing");
    check(r#""text":"""#, "text_empty");
    check(r#""text":" ""#, "text_empty");
    check(r#""text":7"#, "text_wrong_type");
    check(r#""text":["a"]"#, "text_wrong_type");
    check(r#""text":"a\nb""#, "text_control_character");
    check(r#""text":"a\u0000""#, "text_control_character");
    check(r#""text":"\u007f""#, "text_control_character");
    check(r#""text":"\u0085""#, "text_control_character");
    check(&format!(r#""text":"{}""#, "x".repeat(201)), "text_too_long");
}

#[test]
fn other_members_are_refused() {
    fn check(member: &str, code: &str) {
        let field = member[1..].split('"').next();
        refused(
            &format!(r#"{{"type":"comment","text":"a",{member}}}"#),
            code,
            field,
        );
    }
    check(r#""mode":"fly""#, "mode_unknown");
    check(r#""mode":1"#, "mode_wrong_type");
    check(r#""color":16777216"#, "color_out_of_range");
    check(r#""color":-1"#, "color_out_of_range");
    check(r#""color":4294967296"#, "color_out_of_range");
    check(r##""color":"#fff""##, "color_wrong_type");
    check(r#""color":1.5"#, "color_wrong_type");
    check(r#""size":9"#, "size_out_of_range");
    check(r#""size":65"#, "size_out_of_range");
    // 281 is 25 in its lowest byte.
    check(r#""size":281"#, "size_out_of_range");
    check(r#""size":true"#, "size_wrong_type");
    check(r#""user":"""#, "user_empty");
    check(r#""user":{}"#, "user_wrong_type");
    check(&format!(r#""user":"{}""#, "x".repeat(65)), "user_too_long");
    check(r#""name":"\t""#, "name_control_character");
    check(&format!(r#""name":"{}""#, "x".repeat(33)), "name_too_long");
    check(r#""role":"moderator""#, "role_not_allowed");
    check(r#""ref":1.5"#, "ref_wrong_type");
    check(r#""ref":{}"#, "ref_wrong_type");
    check(&format!(r#""ref":"{}""#, "x".repeat(65)), "ref_too_long");
}

#[test]
fn like_counts_are_refused() {
    fn check(count: &str, code: &str) {
        refused(
            &format!(r#"{{"type":"like","count":{count}}}"#),
            code,
            Some("count"),
        );
    }
    check("0", "count_out_of_range");
    check("101", "count_out_of_range");
    check("-1", "count_out_of_range");
    check("\"1\"", "count_wrong_type");
}

#[test]
fn an_error_carries_the_reference() {
    fn check(input: &str, expected: Option<&Reference>) {
        assert_eq!(
            parse(input).unwrap_err().reference.as_ref(),
            expected,
            "{input}"
        );
    }
    check(
        r#"{"type":"comment","text":"","ref":"a"}"#,
        Some(&Reference::Text("a".into())),
    );
    check(r#"{"ref":7,"type":"nope"}"#, Some(&Reference::Unsigned(7)));
    check(r#"{"type":"comment","text":""}"#, None);
    check(r#"{"type":"comment","text":"","ref":[]}"#, None);
}

#[test]
fn posted_bodies() {
    #[allow(
        clippy::needless_pass_by_value,
        reason = "a table reads better without references"
    )]
    fn check(input: &str, expected: Result<Posted, (Option<usize>, &str)>) {
        let limits = CommentLimits {
            posted_comments_max: 3,
            ..CommentLimits::default()
        };
        let parsed = parse_posted(&mut input.to_owned().into_bytes(), &limits);
        assert_eq!(
            parsed.map_err(|error| (error.index, error.code())),
            expected,
            "{input}"
        );
    }
    check(r#"{"text":"a"}"#, Ok(Posted::One(text("a"))));
    check(
        r#"{"type":"comment","text":"a","ref":[],"count":-1}"#,
        Ok(Posted::One(text("a"))),
    );
    check(r#"[{"text":"a"}]"#, Ok(Posted::Many(vec![text("a")])));
    check(
        r#"[{"text":"a"},{"text":"b"},{"text":"c"}]"#,
        Ok(Posted::Many(vec![text("a"), text("b"), text("c")])),
    );
    check("[]", Err((None, "comments_empty")));
    check("[{},{},{},{}]", Err((None, "comments_too_many")));
    check(
        "[{\"text\":\"a\"},{\"text\":\"\"}]",
        Err((Some(1), "text_empty")),
    );
    check("[{\"text\":\"a\"},7]", Err((Some(1), "json_wrong_type")));
    check("[[{\"text\":\"a\"}]]", Err((Some(0), "json_wrong_type")));
    check(r#"{"type":"like"}"#, Err((None, "type_unknown")));
    check("7", Err((None, "json_wrong_type")));
    check("[{\"text\":\"a\"}", Err((None, "json_invalid")));
    check(&"[".repeat(256 * 1024), Err((None, "json_invalid")));
    let error = parse_posted(&mut b"[{}]".to_vec(), &CommentLimits::default()).unwrap_err();
    assert_eq!(error.message(), "comment 0: text is missing");
}

#[test]
fn posted_likes_are_counted() {
    #[track_caller]
    fn check(input: &str, expected: Result<u32, &str>) {
        let parsed = parse_like(
            &mut input.to_owned().into_bytes(),
            &CommentLimits::default(),
        );
        let found = parsed
            .map(NonZeroU32::get)
            .map_err(|problem| problem.code());
        assert_eq!(found, expected, "{input}");
    }
    check(r#"{"count":5}"#, Ok(5));
    check("{}", Ok(1));
    check(r#"{"type":"like","count":100,"new":1}"#, Ok(100));
    check(r#"{"count":0}"#, Err("count_out_of_range"));
    check(r#"{"count":101}"#, Err("count_out_of_range"));
    check(r#"{"count":"1"}"#, Err("count_wrong_type"));
    check("[]", Err("json_wrong_type"));
    check("", Err("json_invalid"));
}

proptest! {
    #[test]
    fn a_text_is_accepted_unchanged_or_refused_with_a_reason(sent in any::<String>()) {
        let json = serde_json::json!({ "type": "comment", "text": sent, "ref": 1 }).to_string();
        let control = sent.chars().any(char::is_control);
        let blank = sent.chars().all(char::is_whitespace);
        let long = sent.chars().count() > 200;
        match parse(&json) {
            Ok(ClientMessage::Comment { comment, .. }) => {
                prop_assert_eq!(comment.text.as_str(), sent);
                prop_assert!(!control && !blank && !long);
            }
            Ok(other) => prop_assert!(false, "{:?}", other),
            Err(error) => match error.code() {
                "text_control_character" => prop_assert!(control),
                "text_empty" => prop_assert!(blank),
                "text_too_long" => prop_assert!(long),
                code => prop_assert!(false, "{}", code),
            },
        }
    }
}
