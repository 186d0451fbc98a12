//! Watching a room over Server-Sent Events: the same batches in the same order, over plain HTTP.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{Read, Write};

use danmaku_client::{Connection, Event, EventStream, NewComment};
use danmaku_wire::{Encoding, Position, RoomId, Seq};
use support::{PATIENCE, Server};

const SSE_ENCODINGS: [Encoding; 2] = [Encoding::Identity, Encoding::Gzip];

fn room() -> RoomId {
    RoomId::parse("r").unwrap()
}

async fn post(server: &Server, texts: &[&str]) -> Vec<Seq> {
    let new: Vec<_> = texts.iter().map(|text| NewComment::new(*text)).collect();
    server
        .http()
        .post_comments(&room(), &new)
        .await
        .unwrap()
        .ids
}

async fn open(server: &Server, encoding: Encoding, last: Option<Position>) -> EventStream {
    let mut join = server.join("r");
    join.encoding = encoding;
    EventStream::connect(&join, last).await.unwrap()
}

async fn next(stream: &mut EventStream) -> Event {
    tokio::time::timeout(PATIENCE, stream.next())
        .await
        .expect("nothing came")
        .unwrap()
}

/// The comments of batches up to `count`, each batch beginning where the previous one ended.
async fn comments(stream: &mut EventStream, at: &mut Seq, count: usize) -> Vec<(u64, String)> {
    let mut all = Vec::new();
    while all.len() < count {
        match next(stream).await {
            Event::Batch(batch) => {
                assert_eq!(batch.after, *at, "a hole");
                *at = batch.seq;
                all.extend(batch.comments.into_iter().map(|c| (c.id.value(), c.text)));
            }
            other => panic!("{other:?}"),
        }
    }
    all
}

#[tokio::test]
async fn a_stream_has_the_same_messages_as_a_websocket() {
    let server = Server::start(&["--window-ms", "20"]);
    let mut socket = server.watch("r", Encoding::Deflate).await;
    let mut streams = Vec::new();
    for encoding in SSE_ENCODINGS.into_iter().cycle().take(4) {
        let mut stream = open(&server, encoding, None).await;
        assert!(
            matches!(next(&mut stream).await, Event::Joined(joined) if joined.after == Seq::ZERO)
        );
        streams.push(stream);
    }
    let texts = [
        "hello",
        "line\\nbreak? \"no\"",
        "弾幕 👏",
        "data: x",
        "id: 1",
    ];
    for text in texts {
        post(&server, &[text]).await;
    }
    let expected = over_the_socket(&mut socket, texts.len()).await;
    assert_eq!(expected.len(), texts.len());
    for stream in &mut streams {
        assert_eq!(
            comments(stream, &mut Seq::new(0), texts.len()).await,
            expected
        );
    }
    assert_eq!(server.stat("connections_sse").await, 4);
    let view = server.http().get_json("/v1/rooms/r").await.unwrap();
    assert_eq!(view["viewers"], 5);
    drop(streams);
    server.stat_until("viewers", |viewers| viewers == 1).await;
}

async fn over_the_socket(socket: &mut Connection, count: usize) -> Vec<(u64, String)> {
    let mut all = Vec::new();
    while all.len() < count {
        if let Event::Batch(batch) = socket.next().await.unwrap() {
            all.extend(batch.comments.into_iter().map(|c| (c.id.value(), c.text)));
        }
    }
    all
}

#[tokio::test]
async fn reconnecting_with_last_event_id_loses_nothing() {
    let server = Server::start(&[
        "--window-ms",
        "20",
        "--posts-per-second-per-address",
        "1000",
    ]);
    for encoding in SSE_ENCODINGS {
        let mut stream = open(&server, encoding, None).await;
        let Event::Joined(joined) = next(&mut stream).await else {
            panic!("not joined")
        };
        let mut at = joined.after;
        assert_eq!(
            stream.last_event_id().map(|last| last.seq),
            Some(joined.after)
        );
        for round in 0..6 {
            let seen = format!("{encoding} seen {round}");
            let missed = format!("{encoding} missed {round}");
            post(&server, &[&seen]).await;
            assert_eq!(comments(&mut stream, &mut at, 1).await[0].1, seen);
            let last = stream.last_event_id();
            assert_eq!(last.map(|last| last.seq), Some(at));
            drop(stream);
            let id = post(&server, &[&missed]).await[0];
            if round % 2 == 0 {
                server.sealed_until("r", id.value()).await;
            }
            stream = open(&server, encoding, last).await;
            match next(&mut stream).await {
                Event::Joined(joined) => assert!(joined.resumed && joined.after == at),
                other => panic!("{other:?}"),
            }
            assert_eq!(comments(&mut stream, &mut at, 1).await[0].1, missed);
        }
    }
}

#[tokio::test]
async fn last_event_id_overrides_since_and_history_is_shown() {
    let server = Server::start(&["--window-ms", "20"]);
    let ids = post(&server, &["a", "b", "c", "d"]).await;
    server.sealed_until("r", 4).await;
    let epoch = server
        .http()
        .comments(&room(), None, None)
        .await
        .unwrap()
        .epoch;
    let mut join = server.join("r");
    join.since = Some(Position { epoch, seq: ids[0] });
    let last = Position { epoch, seq: ids[2] };
    let mut stream = EventStream::connect(&join, Some(last)).await.unwrap();
    next(&mut stream).await;
    assert_eq!(
        comments(&mut stream, &mut ids[2].clone(), 1).await,
        [(4, "d".to_owned())]
    );
    let mut join = server.join("r");
    join.history = Some(2);
    let mut stream = EventStream::connect(&join, None).await.unwrap();
    next(&mut stream).await;
    let shown = comments(&mut stream, &mut ids[1].clone(), 2).await;
    assert_eq!(shown, [(3, "c".to_owned()), (4, "d".to_owned())]);
}

#[tokio::test]
async fn shutdown_closes_streams_with_a_message() {
    let mut server = Server::start(&["--window-ms", "20"]);
    let mut streams = Vec::new();
    for encoding in SSE_ENCODINGS {
        let mut stream = open(&server, encoding, None).await;
        next(&mut stream).await;
        streams.push(stream);
    }
    let status = tokio::task::spawn_blocking(move || server.end("TERM"))
        .await
        .unwrap();
    assert_eq!(status.code(), Some(0));
    for stream in &mut streams {
        match next(stream).await {
            Event::Closed(closed) => assert_eq!(closed.code, 1001),
            other => panic!("{other:?}"),
        }
    }
}

/// Everything up to and with `end`.
fn read_until(stream: &mut impl Read, end: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(end) {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        bytes.push(byte[0]);
    }
    bytes
}

#[test]
fn the_stream_is_plain_http_with_heartbeats_and_follows_other_responses() {
    let server = Server::start(&["--ping-interval-ms", "300", "--idle-deadline-ms", "900"]);
    let mut stream = server.raw_stream();
    // Both requests at once: the second answer is the stream, and the third is never read.
    stream
        .write_all(
            b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n\
              GET /v1/rooms/r/events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n\
              GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
        )
        .unwrap();
    let first = read_until(&mut stream, b"ok\n");
    assert!(first.starts_with(b"HTTP/1.1 200 OK\r\n"));
    let head = String::from_utf8(read_until(&mut stream, b"\r\n\r\n")).unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    for line in [
        "Content-Type: text/event-stream",
        "Cache-Control: no-cache, no-transform",
        "Connection: close",
    ] {
        assert!(head.contains(line), "{head}");
    }
    assert!(!head.contains("Content-Encoding"));
    let joined = String::from_utf8(read_until(&mut stream, b"\n\n")).unwrap();
    assert!(joined.starts_with("id: "), "{joined}");
    assert!(joined.contains("\ndata: {\"type\":\"joined\""), "{joined}");
    // Longer than the idle deadline: SSE heartbeats need no answer.
    for _ in 0..5 {
        assert_eq!(read_until(&mut stream, b"\n\n"), b":\n\n");
    }
}

#[test]
fn bad_requests_are_refused_with_a_code() {
    let server = Server::start(&[]);
    let refused = |head: &str, status: u16, code: &str| {
        let request = format!("{head}\r\nHost: x\r\nConnection: close\r\n\r\n");
        let answer = String::from_utf8(server.raw(request.as_bytes())).unwrap();
        let expected = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&expected), "{head}: {answer}");
        assert!(answer.contains(code), "{head}: {answer}");
    };
    let get = "GET /v1/rooms/r/events";
    for id in ["x", "7", "7:", "1:2:3", "9007199254740992:1"] {
        let head = format!("{get} HTTP/1.1\r\nLast-Event-ID: {id}");
        refused(&head, 400, "bad_last_event_id");
    }
    refused(&format!("{get}?since=x HTTP/1.1"), 400, "bad_since");
    refused(&format!("{get}?history=501 HTTP/1.1"), 400, "bad_history");
    refused("GET /v1/rooms/a%20b/events HTTP/1.1", 400, "bad_room_id");
    refused(
        "POST /v1/rooms/r/events HTTP/1.1",
        405,
        "method_not_allowed",
    );
    refused("GET /v1/rooms/r/events/x HTTP/1.1", 404, "not_found");
}

#[test]
fn a_listener_that_keeps_sending_is_closed() {
    let server = Server::start(&[]);
    let mut stream = server.raw_stream();
    stream
        .write_all(b"GET /v1/rooms/r/events HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    read_until(&mut stream, b"\r\n\r\n");
    let noise = vec![b'x'; 1 << 20];
    // It may fail halfway, as intended.
    let _ = stream.write_all(&noise);
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    let runtime = support::raw::runtime();
    runtime.block_on(server.stat_until("viewers", |viewers| viewers == 0));
}
