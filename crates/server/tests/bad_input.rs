//! What bad input gets: every row of the protocol's tables, over raw sockets,
//! while another viewer watches and must not notice.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use danmaku_client::{Connection, Event, NewComment};
use danmaku_wire::{Encoding, RoomId, Seq};
use support::{PATIENCE, Server, run};

const HANDSHAKE: &str = "GET /v1/rooms/r/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A client frame: masked unless told otherwise.
fn frame(first_byte: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [1, 2, 3, 4];
    let mut bytes = vec![first_byte];
    match payload.len() {
        n @ 0..=125 => bytes.push(0x80 | u8::try_from(n).unwrap()),
        n => {
            bytes.push(0x80 | 126);
            bytes.extend(u16::try_from(n).unwrap().to_be_bytes());
        }
    }
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m));
    bytes
}

fn text(payload: &str) -> Vec<u8> {
    frame(0x81, payload.as_bytes())
}

/// A raw viewer that has read its `joined`.
struct RawViewer(TcpStream);

impl RawViewer {
    fn join(server: &Server) -> Self {
        Self::join_with(server, &[])
    }

    /// Joins with `early` in the same packet as the handshake.
    fn join_with(server: &Server, early: &[u8]) -> Self {
        let mut stream = server.raw_stream();
        stream
            .write_all(&[HANDSHAKE.as_bytes(), early].concat())
            .unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", head.escape_ascii());
        let mut viewer = Self(stream);
        let (opcode, joined) = viewer.read();
        assert_eq!(opcode, 1);
        assert!(joined.starts_with(br#"{"type":"joined""#));
        viewer
    }

    /// One server frame: opcode and payload.
    fn read(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).unwrap();
        let length = match head[1] {
            126 => {
                let mut length = [0; 2];
                self.0.read_exact(&mut length).unwrap();
                usize::from(u16::from_be_bytes(length))
            }
            length => usize::from(length),
        };
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).unwrap();
        (head[0] & 0x0F, payload)
    }

    /// Skips what else comes, up to the close frame; its code.
    fn close_code(&mut self) -> u16 {
        loop {
            if let (8, payload) = self.read() {
                let code = u16::from_be_bytes([payload[0], payload[1]]);
                let mut rest = Vec::new();
                let _ = self.0.read_to_end(&mut rest);
                assert!(rest.is_empty(), "{} after the close", rest.escape_ascii());
                return code;
            }
        }
    }

    /// The next `error` message's code.
    fn error_code(&mut self) -> String {
        loop {
            let (_, payload) = self.read();
            let message: serde_json::Value = serde_json::from_slice(&payload).unwrap();
            if message["type"] == "error" {
                assert!(!message["message"].as_str().unwrap().is_empty());
                return message["code"].as_str().unwrap().to_owned();
            }
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn bad_requests_get_the_fitting_status_and_code() {
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

/// The witness missed nothing: it reads what is posted now.
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
                assert_eq!(batch.seq, last.next());
                last = batch.last();
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
fn bad_messages_are_answered_and_the_connection_stays() {
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
fn what_comes_along_with_the_handshake_is_answered_too() {
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
fn more_posts_than_the_limit_are_refused_with_a_time_and_the_connection_stays() {
    let server = Server::start(&[
        "--posts-per-second-per-connection",
        "10",
        "--posts-per-second-per-connection-burst",
        "3",
    ]);
    let mut viewer = RawViewer::join(&server);
    let comment = text(r#"{"type":"comment","text":"again"}"#);
    for _ in 0..4 {
        viewer.0.write_all(&comment).unwrap();
    }
    let wait_ms = loop {
        let (_, payload) = viewer.read();
        let message: serde_json::Value = serde_json::from_slice(&payload).unwrap();
        if message["type"] == "error" {
            assert_eq!(message["code"], "rate_limited");
            break message["retry_after_ms"].as_u64().unwrap();
        }
    };
    assert!((1..=100).contains(&wait_ms), "{wait_ms}");
    std::thread::sleep(Duration::from_millis(wait_ms + 5));
    viewer.0.write_all(&comment).unwrap();
    loop {
        let (_, payload) = viewer.read();
        if payload == br#"{"type":"ack","id":4}"# {
            break;
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
    let refused = post(r#"{"text":"c"}"#);
    assert!(refused.starts_with("http/1.1 429"), "{refused}");
    assert!(refused.contains("retry-after: 1"), "{refused}");
    assert!(refused.contains(r#""retry_after_ms":"#), "{refused}");
}

#[test]
fn connections_over_the_limits_are_told_why() {
    let server = Server::start(&[
        "--connections-max",
        "3",
        "--connections-per-address-max",
        "2",
    ]);
    let held: Vec<_> = (0..2).map(|_| RawViewer::join(&server)).collect();
    let answer = String::from_utf8(server.raw(b"")).unwrap();
    assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
    assert!(answer.contains("too_many_connections"), "{answer}");
    drop(held);
    let start = Instant::now();
    while !String::from_utf8(server.raw(b"GET /healthz HTTP/1.0\r\n\r\n"))
        .unwrap()
        .contains("200")
    {
        assert!(start.elapsed() < PATIENCE, "places are not given back");
    }
}

#[test]
fn trickled_and_unfinished_handshakes_are_closed_by_the_deadline() {
    let server = Server::start(&["--handshake-deadline-ms", "300"]);
    // Says nothing.
    let start = Instant::now();
    assert!(server.raw(b"").is_empty());
    assert!(start.elapsed() < Duration::from_secs(5));
    // Trickles its head byte by byte.
    let mut stream = server.raw_stream();
    let start = Instant::now();
    for byte in HANDSHAKE.bytes().cycle() {
        if stream.write_all(&[byte]).is_err() {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "still open");
        std::thread::sleep(Duration::from_millis(20));
        if byte == b'\n' && start.elapsed() < Duration::from_millis(200) {
            continue;
        }
    }
    // Promises a body and does not send it.
    let answer = server
        .raw(b"POST /v1/rooms/r/comments HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{\"te");
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.contains("body_timeout"), "{answer}");
    runtime().block_on(server.stat_until("connections", |open| open <= 1));
}

#[test]
fn a_viewer_that_never_reads_is_skipped_told_and_closed_and_others_miss_nothing() {
    let server = Server::start(&[
        "--window-ms",
        "20",
        "--outbox-bytes-max",
        "65536",
        "--outbox-age-ms-max",
        "200",
        "--evict-after-ms",
        "1500",
        "--send-buffer-bytes",
        "8192",
        "--posts-per-second-per-address",
        "100000",
        "--posts-per-second-per-address-burst",
        "100000",
    ]);
    let runtime = runtime();
    let stalled = RawViewer::join(&server);
    socket2::SockRef::from(&stalled.0)
        .set_recv_buffer_size(4_096)
        .unwrap();
    runtime.block_on(async {
        let mut witness = server.watch("r", Encoding::Gzip).await;
        let reader = tokio::spawn(async move {
            let mut last = Seq::ZERO;
            loop {
                match witness.next().await {
                    Ok(Event::Batch(batch)) => {
                        assert_eq!(batch.seq, last.next(), "the witness missed something");
                        last = batch.last();
                    }
                    Ok(Event::Joined(_)) => {}
                    Ok(Event::Closed(_)) | Err(_) => return last,
                    Ok(other) => panic!("{other:?}"),
                }
            }
        });
        let mut http = server.http();
        let room = RoomId::parse("r").unwrap();
        let comments: Vec<_> = (0..50).map(|_| NewComment::new("x".repeat(200))).collect();
        let mut posted = Seq::ZERO;
        let start = Instant::now();
        while server.stat("evicted_behind").await == 0 {
            posted = *http
                .post_comments(&room, &comments)
                .await
                .unwrap()
                .ids
                .last()
                .unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert!(
                start.elapsed() < PATIENCE,
                "the stalled viewer was not closed"
            );
        }
        assert!(server.stat("frames_skipped").await > 0);
        server.stat_until("viewers", |n| n == 1).await;
        server
            .stat_until("comments_sealed", |n| n == posted.value())
            .await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        drop(server);
        assert_eq!(reader.await.unwrap(), posted);
    });
}

#[test]
fn an_http_answer_that_is_not_read_is_given_up() {
    let server = Server::start(&[
        "--answer-deadline-ms",
        "500",
        "--send-buffer-bytes",
        "4096",
        "--posts-per-second-per-address-burst",
        "10000",
        "--posts-per-second-per-address",
        "10000",
    ]);
    let comments: Vec<_> = (0..100)
        .map(|_| NewComment::new("弹".repeat(200)))
        .collect();
    let runtime = runtime();
    runtime.block_on(async {
        let room = RoomId::parse("r").unwrap();
        for _ in 0..10 {
            server.http().post_comments(&room, &comments).await.unwrap();
        }
    });
    let mut lazy = server.raw_stream();
    socket2::SockRef::from(&lazy)
        .set_recv_buffer_size(4_096)
        .unwrap();
    lazy.write_all(b"GET /v1/rooms/r/comments?limit=1000 HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    // The asking connection is the other one.
    runtime.block_on(server.stat_until("connections_broken", |broken| broken == 1));
    runtime.block_on(server.stat_until("connections", |open| open == 1));
}

#[test]
fn a_storm_of_joins_with_history_does_not_keep_a_room_from_its_comments() {
    let server = Server::start(&[
        "--window-ms",
        "50",
        "--posts-per-second-per-address",
        "10000",
        "--posts-per-second-per-address-burst",
        "10000",
        "--connections-per-address-max",
        "100000",
    ]);
    let runtime = runtime();
    let room = RoomId::parse("r").unwrap();
    let comments: Vec<_> = (0..100)
        .map(|n| NewComment::new(format!("{n} {}", "x".repeat(150))))
        .collect();
    let mut http = server.http();
    let mut witness = runtime.block_on(async {
        http.post_comments(&room, &comments).await.unwrap();
        server.watch("r", Encoding::Identity).await
    });
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let server = &server;
            // Each asks for another past, so that none is made for two.
            scope.spawn(move || {
                for n in 0..500 {
                    let history = 1 + (n * 7 + thread) % 99;
                    let query = format!("/ws?encoding=gzip&history={history}");
                    let join = HANDSHAKE.replace("/ws", &query);
                    let mut stream = server.raw_stream();
                    let _ = stream.write_all(join.as_bytes());
                }
            });
        }
        runtime.block_on(async {
            for n in 0..20 {
                let text = format!("through the storm, {n}");
                let new = [NewComment::new(&text)];
                http.post_comments(&room, &new).await.unwrap();
                let seen = async {
                    loop {
                        if let Event::Batch(batch) = witness.next().await.unwrap()
                            && batch.comments.iter().any(|comment| comment.text == text)
                        {
                            break;
                        }
                    }
                };
                let seen = tokio::time::timeout(Duration::from_secs(3), seen).await;
                assert!(seen.is_ok(), "the storm starves the room at comment {n}");
            }
        });
    });
}

#[test]
fn a_silent_peer_is_closed_by_the_idle_deadline_and_a_ponging_one_stays() {
    let server = Server::start(&["--ping-interval-ms", "100", "--idle-deadline-ms", "600"]);
    let runtime = runtime();
    let mut silent = RawViewer::join(&server);
    // The client crate answers pings by itself.
    let mut alive = runtime.block_on(server.watch("r", Encoding::Identity));
    assert_eq!(silent.close_code(), 4002);
    runtime.block_on(async {
        assert!(matches!(alive.next().await.unwrap(), Event::Joined(_)));
        tokio::time::sleep(Duration::from_millis(700)).await;
        let room = RoomId::parse("r").unwrap();
        let post = [NewComment::new("hello")];
        server.http().post_comments(&room, &post).await.unwrap();
        assert!(matches!(alive.next().await.unwrap(), Event::Batch(_)));
    });
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
