//! Fails when the protocol changes and its description in `docs` does not.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use danmaku_wire::limits::{
    BODY_BYTES_MAX, COLOR_MAX, DATA_BYTES_MAX, FONT_SIZE_MAX, FONT_SIZE_MIN,
    IDEMPOTENCY_KEY_BYTES_MAX, MESSAGE_BYTES_MAX, ROOM_ID_BYTES_MAX,
};
use danmaku_wire::outbound::{Joined, Resumed, ack_json, gap_json};
use danmaku_wire::{
    Batch, BatchComment, BatchEvent, ClientMessage, CloseReason, Comment, CommentLimits,
    CompressionPolicy, Dialect, Encoding, Epoch, Event, Form, FrameSet, Mode, Position, Reconnect,
    Role, RoomId, Segment, Seq, parse_client_message,
};

fn document() -> String {
    read("PROTOCOL.md")
}

fn read(name: &str) -> String {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/");
    std::fs::read_to_string(format!("{docs}{name}")).unwrap()
}

fn check(document: &str, said: &str) {
    assert!(
        document.contains(said),
        "docs/PROTOCOL.md does not say: {said}"
    );
}

#[test]
fn the_close_code_table_is_the_one_in_the_code() {
    let document = document();
    for reason in CloseReason::ALL {
        let reconnect = match reason.reconnect() {
            Reconnect::Yes => "yes",
            Reconnect::No => "no",
        };
        check(
            &document,
            &format!("| {} | `{}` |", reason.code(), reason.name()),
        );
        let row = document
            .lines()
            .find(|line| line.starts_with(&format!("| {} |", reason.code())))
            .unwrap();
        assert!(row.ends_with(&format!("| {reconnect} |")), "{row}");
    }
    let rows = document
        .lines()
        .filter(|line| {
            let code = line
                .strip_prefix("| ")
                .and_then(|rest| rest.split(' ').next());
            code.is_some_and(|code| code.parse().is_ok_and(|code: u16| code >= 1000))
        })
        .count();
    assert_eq!(rows, CloseReason::ALL.len());
}

#[test]
fn limits_and_names_are_the_ones_in_the_code() {
    let document = document();
    let limits = CommentLimits::default();
    check(&document, &format!("1 to {ROOM_ID_BYTES_MAX} of"));
    check(&document, &format!("at most {MESSAGE_BYTES_MAX} bytes"));
    check(&document, &format!("up to {} KiB", BODY_BYTES_MAX / 1024));
    check(
        &document,
        &format!("array of 1 to {}", limits.posted_comments_max),
    );
    check(
        &document,
        &format!("1 to {} Unicode scalar values", limits.text_scalars_max),
    );
    check(&document, &format!("up to {} bytes", limits.user_bytes_max));
    check(
        &document,
        &format!("up to {} scalar values", limits.name_scalars_max),
    );
    check(
        &document,
        &format!("`count` 1 to {}", limits.like_count_max),
    );
    check(
        &document,
        &format!("font size, {FONT_SIZE_MIN} to {FONT_SIZE_MAX}"),
    );
    check(&document, &format!("{COLOR_MAX} (white)"));
    check(
        &document,
        &format!("at most {DATA_BYTES_MAX} bytes of JSON"),
    );
    check(
        &document,
        &format!("1 to {IDEMPOTENCY_KEY_BYTES_MAX} visible ASCII"),
    );
    check(&document, &format!("1 to {}", Seq::MAX.value()));
    for encoding in Encoding::ALL {
        check(&document, &format!("| `{}` |", encoding.as_str()));
    }
    for mode in Mode::ALL {
        check(&document, &format!("`{}`", mode.as_str()));
    }
    for role in Role::ALL {
        check(&document, &format!("`{}`", role.as_str()));
    }
}

#[test]
fn the_paths_of_the_http_description_are_those_of_the_protocol() {
    let (document, description) = (document(), read("openapi.yaml"));
    for (method, path) in PATHS {
        check(&document, &format!("{method} {path}"));
        let entry = format!("\n  {path}:\n");
        let (_, rest) =
            (description.split_once(&entry)).unwrap_or_else(|| panic!("openapi.yaml lacks {path}"));
        let methods = rest.split("\n  /").next().unwrap();
        let entry = format!("    {}:\n", method.to_lowercase());
        assert!(
            methods.contains(&entry),
            "openapi.yaml lacks {method} {path}"
        );
    }
}

#[test]
fn the_examples_are_what_is_on_the_wire() {
    // Some examples span several lines.
    let document = document().replace("\n \"", "\"");
    let room = RoomId::parse("demo").unwrap();
    let joined = Joined {
        room: &room,
        epoch: Epoch::new(1_764_000_000_000),
        after: Seq::new(36),
        seq: Seq::new(41),
        window_ms: 1000,
        viewers: 17,
        resumed: Resumed::No,
        pin: None,
    };
    check(&document, &joined.to_json());
    let [first, second] = [r#""user":"u7","name":"mira","text":"hello""#, GOAL].map(posted);
    let batch = Batch {
        epoch: joined.epoch,
        after: joined.seq,
        seq: Seq::new(47),
        ts_ms: TS_MS,
        viewers: 17,
        likes: 3,
        shed: 1,
        comments: vec![comment(42, 950, &first), comment(45, 400, &second)],
        events: vec![retraction(47, &[39, 46])],
    };
    let frame = FrameSet::replay(batch.clone(), CompressionPolicy::default());
    check(&document, std::str::from_utf8(frame.json()).unwrap());
    check(
        &document,
        &gap_json(batch.seq, Seq::new(60), &[retraction(58, &[45])]),
    );
    let Ok(ClientMessage::Comment { reference, .. }) = sent(r#""ref":"m1","text":"hello""#) else {
        panic!("a comment");
    };
    check(&document, &ack_json(reference.as_ref(), Seq::new(58)));
}

#[test]
fn the_example_of_a_segment_is_what_is_on_the_wire() {
    let document = document().replace("\n \"", "\"");
    let room = RoomId::parse("demo").unwrap();
    let [first, second] = [r#""user":"u7","name":"mira","text":"hello""#, GOAL].map(posted);
    let end_ms = 1_764_000_006_000;
    let comments =
        [(42, 950, &first), (45, 400, &second)].map(|(id, ago_ms, posted)| BatchComment {
            at_ms: end_ms - ago_ms,
            ..comment(id, 0, posted)
        });
    let batch = Batch {
        epoch: Epoch::new(1_764_000_000_000),
        after: Seq::new(41),
        seq: Seq::new(47),
        ts_ms: end_ms,
        viewers: 0,
        likes: 0,
        shed: 0,
        comments: comments.into(),
        events: vec![retraction(47, &[39, 46])],
    };
    let segment = Segment {
        room: &room,
        length_ms: 2_000,
        n: end_ms / 2_000 - 1,
        batch: &batch,
    };
    let sealed = segment.seal(CompressionPolicy::default());
    check(&document, std::str::from_utf8(&sealed.json).unwrap());
}

#[test]
fn the_examples_of_posts_are_accepted() {
    let document = document();
    let posts = document.lines().filter(|line| {
        ["comment", "like", "auth"]
            .iter()
            .any(|kind| line.starts_with(&format!(r#"{{"type":"{kind}""#)))
    });
    let mut kinds = Vec::new();
    for post in posts {
        let mut bytes = post.as_bytes().to_vec();
        match parse_client_message(&mut bytes, &CommentLimits::default()) {
            Ok(ClientMessage::Comment { key, comment, .. }) => {
                assert!(key.is_some() && comment.reply_to.is_some() && comment.data.is_some());
                kinds.push("comment");
            }
            Ok(ClientMessage::Like { .. }) => kinds.push("like"),
            Ok(ClientMessage::Auth { .. }) => kinds.push("auth"),
            Err(error) => panic!("{post}: {error}"),
        }
    }
    assert_eq!(kinds, ["comment", "like", "auth"]);
}

#[test]
fn the_example_of_an_event_stream_is_what_is_on_the_wire() {
    let document = document();
    let room = RoomId::parse("demo").unwrap();
    let position = Position {
        epoch: Epoch::new(1_764_000_000_000),
        seq: Seq::new(41),
    };
    let joined = Joined {
        room: &room,
        epoch: position.epoch,
        after: position.seq,
        seq: position.seq,
        window_ms: 1000,
        viewers: 18,
        resumed: Resumed::No,
        pin: None,
    };
    let hello = posted(r#""text":"hello""#);
    let batch = Batch {
        epoch: position.epoch,
        after: position.seq,
        seq: Seq::new(42),
        ts_ms: TS_MS,
        viewers: 18,
        likes: 0,
        shed: 0,
        comments: vec![comment(42, 0, &hello)],
        events: Vec::new(),
    };
    let frame = FrameSet::replay(batch, CompressionPolicy::default());
    let sse = Dialect::SseIdentity;
    let stream = [
        sse.positioned(&joined.to_json(), position),
        frame.form(Form::SseIdentity).clone(),
        sse.heartbeat(),
        sse.close(CloseReason::SlowConsumer),
    ]
    .concat();
    check(&document, String::from_utf8(stream).unwrap().trim_end());
}

#[test]
fn the_http_description_has_every_http_error_code() {
    let (document, description) = (document(), read("openapi.yaml"));
    let (_, errors) = document.split_once("\n## HTTP errors\n").unwrap();
    let is_code = |word: &&str| word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    let codes: Vec<_> = errors
        .lines()
        .filter(|line| line.starts_with("| "))
        // In backticks, like header names.
        .flat_map(|row| row.split('`').skip(1).step_by(2).filter(is_code))
        .collect();
    assert!(codes.contains(&"not_found"), "{codes:?}");
    for code in codes {
        let entry = format!("\n        - {code}\n");
        assert!(description.contains(&entry), "openapi.yaml lacks {code}");
    }
}

#[test]
fn the_websocket_description_has_every_error_code() {
    let (document, description) = (document(), read("asyncapi.yaml"));
    let (_, errors) = document.split_once("\n### Error codes\n").unwrap();
    let (errors, _) = errors.split_once("\n### ").unwrap();
    let rows = errors.lines().filter_map(|line| line.strip_prefix("| `"));
    let codes: Vec<_> = rows.filter_map(|row| row.split('`').next()).collect();
    assert!(codes.contains(&"outcome_unknown"), "{codes:?}");
    for code in codes {
        let entry = format!("\n        - {code}\n");
        assert!(description.contains(&entry), "asyncapi.yaml lacks {code}");
    }
}

#[test]
fn the_websocket_description_has_every_close_code() {
    let description = read("asyncapi.yaml");
    for reason in CloseReason::ALL {
        let row = format!(
            "- {{ code: {}, name: {}, reconnect: {}, ",
            reason.code(),
            reason.name(),
            reason.reconnect() == Reconnect::Yes
        );
        assert!(description.contains(&row), "asyncapi.yaml lacks {row}");
    }
}

fn sent(members: &str) -> Result<ClientMessage, danmaku_wire::InboundError> {
    let mut bytes = format!(r#"{{"type":"comment",{members}}}"#).into_bytes();
    parse_client_message(&mut bytes, &CommentLimits::default())
}

fn posted(members: &str) -> Comment {
    match sent(members) {
        Ok(ClientMessage::Comment { comment, .. }) => comment,
        other => panic!("{other:?}"),
    }
}

fn comment(id: u64, ago_ms: u64, comment: &Comment) -> BatchComment {
    BatchComment {
        seq: Seq::new(id),
        at_ms: TS_MS - ago_ms,
        fragment: comment.fragment(),
    }
}

fn retraction(id: u64, ids: &[u64]) -> BatchEvent {
    let ids: Vec<_> = ids.iter().copied().map(Seq::new).collect();
    BatchEvent {
        seq: Seq::new(id),
        event: Event::Retract { ids: ids.into() },
    }
}

/// When the batches of the examples were sealed.
const TS_MS: u64 = 1_764_000_005_123;

/// The second comment of the example of a batch.
const GOAL: &str = r#""text":"goal!!!","mode":"top","color":16737843,"size":36"#;

/// The server's paths and their methods, as the protocol names them.
const PATHS: [(&str, &str); 49] = [
    ("GET", "/v1/rooms/{room}/ws"),
    ("GET", "/v1/rooms/{room}/events"),
    ("GET", "/v1/rooms/{room}/comments"),
    ("GET", "/v1/rooms/{room}/export"),
    ("GET", "/v1/rooms/{room}/streams"),
    ("POST", "/v1/rooms/{room}/streams"),
    ("PATCH", "/v1/rooms/{room}/streams/{id}"),
    ("POST", "/v1/rooms/{room}/comments"),
    ("DELETE", "/v1/rooms/{room}/comments/{id}"),
    ("GET", "/v1/rooms/{room}/sanctions"),
    ("POST", "/v1/rooms/{room}/sanctions"),
    ("DELETE", "/v1/rooms/{room}/sanctions/{id}"),
    ("GET", "/v1/sanctions"),
    ("POST", "/v1/sanctions"),
    ("DELETE", "/v1/sanctions/{id}"),
    ("GET", "/v1/rooms/{room}/terms"),
    ("PUT", "/v1/rooms/{room}/terms"),
    ("GET", "/v1/terms"),
    ("PUT", "/v1/terms"),
    ("GET", "/v1/rooms/{room}/held"),
    ("POST", "/v1/rooms/{room}/held/{id}/allow"),
    ("POST", "/v1/rooms/{room}/held/{id}/deny"),
    ("POST", "/v1/rooms/{room}/comments/{id}/reports"),
    ("POST", "/v1/revocations"),
    ("GET", "/v1/revocations"),
    ("DELETE", "/v1/revocations/{id}"),
    ("GET", "/v1/users/{user}/comments"),
    ("DELETE", "/v1/users/{user}/comments"),
    ("GET", "/v1/rooms/{room}/pin"),
    ("POST", "/v1/rooms/{room}/pin"),
    ("DELETE", "/v1/rooms/{room}/pin"),
    ("GET", "/v1/rooms/{room}/settings"),
    ("PATCH", "/v1/rooms/{room}/settings"),
    ("GET", "/v1/settings"),
    ("PATCH", "/v1/settings"),
    ("GET", "/v1/audit"),
    ("GET", "/v1/rooms/{room}/stats"),
    ("POST", "/v1/rooms/{room}/likes"),
    ("GET", "/v1/rooms/{room}/segments/head"),
    ("GET", "/v1/rooms/{room}/segments/{length_ms}/{n}"),
    ("GET", "/"),
    ("GET", "/overlay/{room}"),
    ("GET", "/web/{path}"),
    ("GET", "/v1/rooms"),
    ("GET", "/v1/rooms/{room}"),
    ("GET", "/v1/stats"),
    ("GET", "/metrics"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
];
