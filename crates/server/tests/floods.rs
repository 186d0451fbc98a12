//! One address asks for too much of something: it is refused or closed, and others are served as before.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{Read, Write};

use hyper::{Method, StatusCode};
use support::Server;
use support::raw::{HANDSHAKE, RawViewer, frame, runtime, text};

const FLOODER: [u8; 4] = [127, 0, 0, 1];
const HONEST: [u8; 4] = [127, 0, 0, 2];

/// The whole answer to one request from `source`, in lower case.
fn ask(server: &Server, source: [u8; 4], request: &str) -> String {
    let mut stream = server.raw_stream_from(source);
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap().to_lowercase()
}

fn post(server: &Server, source: [u8; 4], room: &str, headers: &str, body: &str) -> String {
    let request = format!(
        "POST /v1/rooms/{room}/comments HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    ask(server, source, &request)
}

fn body(answer: &str) -> serde_json::Value {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{head}: {error}"))
}

/// Opens a WebSocket to one new room after another and leaves it, until refused. Returns how many, and the refusal.
fn flood_rooms(server: &Server, tries: usize) -> (usize, String) {
    for made in 0..tries {
        let path = format!("/v1/rooms/fresh{made}/ws");
        let mut stream = server.raw_stream_from(FLOODER);
        let handshake = HANDSHAKE.replace("/v1/rooms/r/ws", &path);
        stream.write_all(handshake.as_bytes()).unwrap();
        let mut status = [0; 13];
        stream.read_exact(&mut status).unwrap();
        if &status != b"HTTP/1.1 101 " {
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).unwrap();
            let rest = [&status[..], &rest].concat();
            return (made, String::from_utf8(rest).unwrap().to_lowercase());
        }
    }
    panic!("{tries} rooms were made");
}

/// Repeats a request until it fails. Returns how often it succeeded, and the failure. A token may have been refilled since
/// the last refusal.
fn until_refused(ask: impl Fn(usize) -> String) -> (usize, String) {
    (0..200)
        .map(|n| (n, ask(n)))
        .find(|(_, answer)| !answer.starts_with("http/1.1 20"))
        .expect("it is never refused")
}

#[test]
fn a_flood_of_rooms_does_not_block_other_addresses() {
    let server = Server::start(&[
        "--rooms-max",
        "200",
        "--rooms-per-second-per-address",
        "1",
        "--rooms-per-second-per-address-burst",
        "20",
    ]);
    let posted = post(&server, HONEST, "kept", "", r#"{"text":"here"}"#);
    assert!(posted.starts_with("http/1.1 201 "), "{posted}");

    let (made, refusal) = flood_rooms(&server, 200);
    assert!(made >= 20, "{made}");
    assert!(refusal.starts_with("http/1.1 429 "), "{refusal}");
    assert!(refusal.contains("\r\nretry-after: 1\r\n"), "{refusal}");
    let error = &body(&refusal)["error"];
    assert_eq!(error["code"], "rate_limited");
    assert_eq!(error["message"], "too many new rooms from this address");
    assert!(error["retry_after_ms"].as_u64().unwrap() <= 1_000);
    let (_, refused) = until_refused(|n| {
        let head = "HTTP/1.1\r\nHost: x\r\n";
        let mut stream = server.raw_stream_from(FLOODER);
        write!(stream, "GET /v1/rooms/events{n}/events {head}\r\n").unwrap();
        let mut status = [0; 13];
        stream.read_exact(&mut status).unwrap();
        String::from_utf8_lossy(&status).to_lowercase()
    });
    assert!(refused.starts_with("http/1.1 429 "), "{refused}");
    let (posted, refused) = until_refused(|n| {
        let room = format!("posted{n}");
        post(&server, FLOODER, &room, "", r#"{"text":"x"}"#)
    });
    assert!(refused.starts_with("http/1.1 429 "), "{refused}");

    // Others can create rooms, and the flooder can join existing ones.
    let _honest = RawViewer::join_on(server.raw_stream_from(HONEST), HANDSHAKE, &[]);
    let _guest = RawViewer::join_on(server.raw_stream_from(FLOODER), HANDSHAKE, &[]);
    runtime().block_on(async {
        // Long before the 300 s of a room that was posted to: such rooms, and the watched one, stay.
        let stay = 2 + posted as u64;
        server.stat_until("rooms", |rooms| rooms == stay).await;
        let kept = server.http().get_json("/v1/rooms/kept").await.unwrap();
        assert_eq!(kept["seq"], 1);
        assert!(server.stat("messages_rate_limited").await >= 3);
    });
}

#[test]
fn only_the_newest_ping_of_a_read_is_answered() {
    let server = Server::start(&[]);
    let pings: Vec<u8> = (0..10).flat_map(|n| frame(0x89, &[b'0' + n])).collect();
    let mut viewer = RawViewer::join_with(&server, &[pings, text("{")].concat());
    assert_eq!(viewer.read(), (10, b"9".to_vec()));
    assert_eq!(viewer.error_code(), "json_invalid");
    viewer.0.write_all(&frame(0x89, b"next")).unwrap();
    assert_eq!(viewer.read(), (10, b"next".to_vec()));
}

/// By default a connection may send 40 messages of any kind at once, 10 of them comments.
#[test]
fn a_peer_that_floods_with_pings_or_bad_messages_is_closed() {
    let server = Server::start(&[]);
    let witness = RawViewer::join(&server);

    let mut pinging = RawViewer::join(&server);
    pinging.0.write_all(&frame(0x89, b"").repeat(200)).unwrap();
    assert_eq!(pinging.read(), (10, vec![]), "one pong for all of them");
    assert_eq!(pinging.close_code(), 4004);

    let mut rejected = RawViewer::join(&server);
    rejected.0.write_all(&text("{").repeat(200)).unwrap();
    let codes: Vec<_> = (0..40).map(|_| rejected.error_code()).collect();
    assert!(codes[..10].iter().all(|code| code == "json_invalid"));
    assert!(codes[10..].iter().any(|code| code == "rate_limited"));
    assert_eq!(rejected.close_code(), 4004);

    runtime().block_on(async {
        assert_eq!(server.stat("floods").await, 2);
        server.stat_until("viewers", |viewers| viewers == 1).await;
    });
    drop(witness);
}

#[test]
fn idempotency_keys_belong_to_their_poster_and_a_retry_counts_as_a_post() {
    let server = Server::start(&[
        "--posts-per-second-per-address",
        "1",
        "--posts-per-second-per-address-burst",
        "3",
    ]);
    let keyed = |source, body| post(&server, source, "r", "Idempotency-Key: k\r\n", body);
    let id = |answer: &str| body(answer)["id"].as_u64().unwrap();
    let mine = id(&keyed(FLOODER, r#"{"text":"mine"}"#));
    let other = id(&keyed(HONEST, r#"{"text":"another"}"#));
    assert_ne!(mine, other);
    assert_eq!(id(&keyed(FLOODER, r#"{"text":"mine"}"#)), mine);
    assert_eq!(id(&keyed(HONEST, r#"{"text":"another"}"#)), other);

    let replay = (0..100)
        .map(|_| keyed(FLOODER, r#"{"text":"mine"}"#))
        .find(|answer| !answer.starts_with("http/1.1 201 "))
        .unwrap();
    assert!(replay.starts_with("http/1.1 429 "), "{replay}");
    assert_eq!(body(&replay)["error"]["code"], "rate_limited");
    let path = "/v1/rooms/r/comments";
    let read = runtime().block_on(async {
        let mut http = server.http();
        let answer = http.send(Method::GET, path, bytes::Bytes::new()).await;
        answer.unwrap()
    });
    assert_eq!(read.status, StatusCode::OK);
    let page: serde_json::Value = serde_json::from_slice(&read.body).unwrap();
    assert_eq!(page["comments"].as_array().unwrap().len(), 2);
}
