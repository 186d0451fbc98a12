//! What bad input gets: every row of the protocol's tables, over raw sockets,
//! while another viewer watches and must not notice.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::Write;
use std::time::Duration;

use danmaku_client::{Connection, Event, NewComment};
use danmaku_wire::{Encoding, RoomId, Seq};
use support::raw::{HANDSHAKE, RawViewer, frame, runtime, text};
use support::{Server, run};

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn bad_requests_get_the_right_status_and_code() {
    // A short deadline, so that connections kept alive end soon.
    let server = Server::start(&["--handshake-deadline-ms", "200"]);
    let with = |from: &str, to: &str| HANDSHAKE.replace(from, to);
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let post = |body: &str| {
        format!(
            "POST /v1/rooms/r/comments HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let long = "x".repeat(201);
    let rows = [
        (get("/v1/rooms/r/ws"), 426, "upgrade_required"),
        (
            with("Version: 13", "Version: 8"),
            426,
            "bad_websocket_version",
        ),
        (
            with("Sec-WebSocket-Version: 13\r\n", ""),
            426,
            "bad_websocket_version",
        ),
        (
            with("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""),
            400,
            "bad_websocket_key",
        ),
        (
            with("dGhlIHNhbXBsZSBub25jZQ==", "short"),
            400,
            "bad_websocket_key",
        ),
        (
            with("/ws HTTP", "/ws?encoding=br HTTP"),
            400,
            "bad_encoding",
        ),
        (
            with("/ws HTTP", "/ws?since=yesterday HTTP"),
            400,
            "bad_since",
        ),
        (
            with("/ws HTTP", "/ws?history=9999 HTTP"),
            400,
            "bad_history",
        ),
        (with("rooms/r/", "rooms/no%20room/"), 400, "bad_room_id"),
        (
            with("rooms/r/", &format!("rooms/{}/", "r".repeat(65))),
            400,
            "bad_room_id",
        ),
        (get("/v2/rooms"), 404, "not_found"),
        (get("/v1/rooms/r/comments/7/x"), 404, "not_found"),
        (get("/v1/rooms/nobody"), 404, "room_not_found"),
        (get("/v1/rooms/nobody/comments"), 404, "room_not_found"),
        (get("/v1/rooms?limit=0"), 400, "bad_limit"),
        (
            get("/v1/rooms").replace("GET", "DELETE"),
            405,
            "method_not_allowed",
        ),
        (post("{"), 400, "json_invalid"),
        (post("[]"), 400, "comments_empty"),
        (post(r#"{"text":7}"#), 400, "text_wrong_type"),
        (post(r#"{"mode":"top"}"#), 400, "text_missing"),
        (post(r#"{"text":"a\nb"}"#), 400, "text_control_character"),
        (
            post(&format!(r#"{{"text":"{long}"}}"#)),
            400,
            "text_too_long",
        ),
        (
            post(r#"{"text":"a","color":16777216}"#),
            400,
            "color_out_of_range",
        ),
        (
            post(r#"{"text":"a","role":"streamer"}"#),
            400,
            "role_not_allowed",
        ),
        (post(&"x".repeat(300 << 10)), 413, "body_too_large"),
    ];
    for (request, status, code) in rows {
        let answer = String::from_utf8(server.raw(request.as_bytes())).unwrap();
        let shown = &request[..request.len().min(120)];
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{shown}\n-> {answer}"
        );
        assert!(
            answer.contains(&format!(r#""code":"{code}""#)),
            "{shown}\n-> {answer}"
        );
    }
}

#[test]
fn broken_frames_close_this_viewer_with_the_right_code_and_no_other() {
    let server = Server::start(&["--window-ms", "20"]);
    let runtime = runtime();
    let mut witness = runtime.block_on(server.watch("r", Encoding::Deflate));
    let mut unmasked = frame(0x81, b"{}");
    unmasked[1] &= 0x7F;
    let long = "x".repeat(4_097);
    let half = "x".repeat(3_000);
    let rows: Vec<(&str, Vec<u8>, u16)> = vec![
        ("unmasked", unmasked, 1002),
        ("RSV1 set", frame(0xC1, b"{}"), 1002),
        ("opcode 3", frame(0x83, b""), 1002),
        ("fragmented ping", frame(0x09, b""), 1002),
        ("ping of 126 bytes", frame(0x89, &[0; 126]), 1002),
        ("continuation of nothing", frame(0x80, b"x"), 1002),
        (
            "text inside a text",
            [frame(0x01, b"a"), frame(0x81, b"b")].concat(),
            1002,
        ),
        (
            "length not minimal",
            vec![0x81, 0xFE, 0, 5, 1, 2, 3, 4],
            1002,
        ),
        ("bad UTF-8", frame(0x81, b"\xFF\xFE"), 1007),
        (
            "bad UTF-8 over fragments",
            [frame(0x01, b"\xE4"), frame(0x80, b"A")].concat(),
            1007,
        ),
        ("close of one byte", frame(0x88, b"\x03"), 1002),
        (
            "close code 1005",
            frame(0x88, &1005_u16.to_be_bytes()),
            1002,
        ),
        ("close reason not UTF-8", frame(0x88, b"\x03\xE8\xFF"), 1007),
        ("over 4 KiB", text(&long), 1009),
        (
            "over 4 KiB by fragments",
            [frame(0x01, half.as_bytes()), frame(0x80, half.as_bytes())].concat(),
            1009,
        ),
        (
            "declared length of 2^62",
            [
                &[0x81, 0xFF][..],
                &(1_u64 << 62).to_be_bytes(),
                &[1, 2, 3, 4],
            ]
            .concat(),
            1009,
        ),
        ("binary", frame(0x82, b"x"), 1003),
        ("a proper close", frame(0x88, &1000_u16.to_be_bytes()), 1000),
    ];
    let count = rows.len();
    for (what, bytes, code) in rows {
        let mut viewer = RawViewer::join(&server);
        viewer.0.write_all(&bytes).unwrap();
        assert_eq!(viewer.close_code(), code, "{what}");
    }
    runtime.block_on(async {
        server.stat_until("viewers", |viewers| viewers == 1).await;
        witness_sees(&server, &mut witness, count).await;
    });
}

/// The witness missed nothing: it still reads new posts.
async fn witness_sees(server: &Server, witness: &mut Connection, marker: usize) {
    let marker = format!("after {marker} broken viewers");
    let room = RoomId::parse("r").unwrap();
    let posted = server
        .http()
        .post_comments(&room, &[NewComment::new(&marker)])
        .await
        .unwrap();
    let mut last = Seq::ZERO;
    loop {
        match witness.next().await.unwrap() {
            Event::Joined(_) => {}
            Event::Batch(batch) => {
                assert_eq!(batch.after, last);
                last = batch.seq;
                if batch.comments.iter().any(|comment| comment.text == marker) {
                    assert_eq!(last, posted.ids[0]);
                    return;
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn bad_messages_are_answered_and_the_connection_stays_open() {
    let server = Server::start(&["--posts-per-second-per-connection-burst", "100"]);
    let mut viewer = RawViewer::join(&server);
    let long = format!(r#"{{"type":"comment","text":"{}"}}"#, "x".repeat(201));
    let deep = "[".repeat(4_000);
    let rows = [
        ("{", "json_invalid"),
        (&deep, "json_invalid"),
        ("7", "json_wrong_type"),
        ("{}", "type_missing"),
        (r#"{"type":"dance"}"#, "type_unknown"),
        (r#"{"type":7}"#, "type_wrong_type"),
        (r#"{"type":"comment"}"#, "text_missing"),
        (r#"{"type":"comment","text":""}"#, "text_empty"),
        (&long, "text_too_long"),
        (
            r#"{"type":"comment","text":"a\u0007b"}"#,
            "text_control_character",
        ),
        (r#"{"type":"comment","text":["a"]}"#, "text_wrong_type"),
        (
            r#"{"type":"comment","text":"a","color":-1}"#,
            "color_out_of_range",
        ),
        (
            r#"{"type":"comment","text":"a","color":16777216}"#,
            "color_out_of_range",
        ),
        (
            r#"{"type":"comment","text":"a","color":"red"}"#,
            "color_wrong_type",
        ),
        (
            r#"{"type":"comment","text":"a","mode":"sideways"}"#,
            "mode_unknown",
        ),
        (
            r#"{"type":"comment","text":"a","size":200}"#,
            "size_out_of_range",
        ),
        (
            r#"{"type":"comment","text":"a","role":"streamer"}"#,
            "role_not_allowed",
        ),
        (r#"{"type":"like","count":0}"#, "count_out_of_range"),
    ];
    for (message, code) in rows {
        viewer.0.write_all(&text(message)).unwrap();
        let shown = &message[..message.len().min(80)];
        assert_eq!(viewer.error_code(), code, "{shown}");
    }
    viewer
        .0
        .write_all(&text(r#"{"type":"comment","ref":7,"text":"still here"}"#))
        .unwrap();
    loop {
        let (_, payload) = viewer.read();
        if payload == br#"{"type":"ack","ref":7,"id":1}"# {
            break;
        }
    }
}

#[test]
fn messages_sent_with_the_handshake_are_answered() {
    let server = Server::start(&["--posts-per-second-per-address-burst", "1000"]);
    let comment = text(r#"{"type":"comment","ref":1,"text":"first words"}"#);
    // Many times: a message to the shard must never overtake the viewer.
    for id in 1..=50 {
        let mut viewer = RawViewer::join_with(&server, &comment);
        let ack = format!(r#"{{"type":"ack","ref":1,"id":{id}}}"#).into_bytes();
        while viewer.read() != (1, ack.clone()) {}
        let mut broken = RawViewer::join_with(&server, &frame(0x83, b""));
        assert_eq!(broken.close_code(), 1002);
    }
    runtime().block_on(server.stat_until("viewers", |viewers| viewers == 0));
}

#[test]
fn rate_limited_posts_get_a_retry_time_and_the_connection_stays_open() {
    let server = Server::start(&[
        "--posts-per-second-per-connection",
        "1",
        "--posts-per-second-per-connection-burst",
        "3",
    ]);
    let mut viewer = RawViewer::join(&server);
    let comment = text(r#"{"type":"comment","text":"again"}"#);
    // More than are due again while a slow machine reads them, and fewer than count as a flood.
    let sent = 10;
    viewer.0.write_all(&comment.repeat(sent)).unwrap();
    let answers: Vec<_> = (0..sent).map(|_| wait_ms(&mut viewer)).collect();
    let acked = answers.iter().filter(|wait_ms| wait_ms.is_none()).count();
    assert!(acked >= 3, "{acked} of a burst of 3");
    assert!(acked < sent, "nothing was refused");
    let mut wait_again = || {
        viewer.0.write_all(&comment).unwrap();
        wait_ms(&mut viewer)
    };
    // After a refusal and its delay, with no other post in between, the next one is taken.
    let refusal = (0..60).find_map(|_| wait_again()).unwrap();
    std::thread::sleep(Duration::from_millis(refusal + 5));
    assert_eq!(wait_again(), None);
}

/// Reads the answer to a comment: how long a refused one has to wait.
fn wait_ms(viewer: &mut RawViewer) -> Option<u64> {
    loop {
        let (_, payload) = viewer.read();
        let message: serde_json::Value = serde_json::from_slice(&payload).unwrap();
        if message["type"] == "ack" {
            return None;
        }
        if message["type"] == "error" {
            assert_eq!(message["code"], "rate_limited");
            let wait_ms = message["retry_after_ms"].as_u64().unwrap();
            assert!((1..=1_000).contains(&wait_ms), "{wait_ms}");
            return Some(wait_ms);
        }
    }
}

#[test]
fn http_posts_over_the_limit_are_429_with_retry_after() {
    let server = Server::start(&[
        "--posts-per-second-per-address",
        "1",
        "--posts-per-second-per-address-burst",
        "2",
    ]);
    let post = |body: &str| {
        let request = format!(
            "POST /v1/rooms/r/comments HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        String::from_utf8(server.raw(request.as_bytes()))
            .unwrap()
            .to_lowercase()
    };
    let three = r#"[{"text":"a"},{"text":"b"},{"text":"c"}]"#;
    assert!(post(three).contains("array_over_burst"));
    assert!(post(r#"[{"text":"a"},{"text":"b"}]"#).starts_with("http/1.1 201"));
    // A token is refilled every second, which a slow machine may need for one request.
    let refused = (0..60)
        .map(|_| post(r#"{"text":"c"}"#))
        .find(|answer| !answer.starts_with("http/1.1 201"))
        .expect("nothing was refused");
    assert!(refused.starts_with("http/1.1 429"), "{refused}");
    assert!(refused.contains("retry-after: 1"), "{refused}");
    assert!(refused.contains(r#""retry_after_ms":"#), "{refused}");
}

#[test]
fn pings_are_answered_with_their_payload() {
    let server = Server::start(&[]);
    let mut viewer = RawViewer::join(&server);
    viewer.0.write_all(&frame(0x89, b"are you there")).unwrap();
    assert_eq!(viewer.read(), (10, b"are you there".to_vec()));
}

#[test]
fn a_taken_address_and_bad_flags_are_one_line_and_exit_code_2() {
    let server = Server::start(&[]);
    let taken = server.address().to_string();
    let rows: &[&[&str]] = &[
        &["--listen", &taken],
        &["--idle-deadline-ms", "100", "--ping-interval-ms", "100"],
        &["--evict-after-ms", "10"],
        &["--connections-max", "4000000000"],
        &["--log", "=!="],
    ];
    for arguments in rows {
        let (status, stdout, stderr) = run(arguments);
        assert_eq!(status.code(), Some(2), "{arguments:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{arguments:?}: {stderr}");
        assert!(stderr.starts_with("danmaku-server: "), "{stderr}");
        assert!(stdout.is_empty(), "{stdout}");
    }
    for arguments in [
        &["--window-ms", "0"][..],
        &["--flush", "never"],
        &["--nonsense"],
    ] {
        let (status, _, stderr) = run(arguments);
        assert_eq!(status.code(), Some(2), "{arguments:?}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(stderr.contains(arguments[0]), "{stderr}");
    }
}
