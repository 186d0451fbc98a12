//! The pull tier without a cache in front: segments of a room by log time, where the newest one is, and likes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::Read;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Parser;
use danmaku_client::{Batch, Connection, Event, HttpClient, NewComment};
use danmaku_log::{Double, DoubleConfig, Store};
use danmaku_server::config::ServeArgs;
use danmaku_wire::{Encoding, RoomId, Seq};
use hyper::{Method, StatusCode};
use serde_json::Value;
use support::raw::Answer;
use support::{PATIENCE, Server, WINDOW_MS_MAX};

const SEGMENT_MS: u64 = 200;

fn start(flags: &[&str]) -> Server {
    Server::start(&[&["--segment-ms", "200"], flags].concat())
}

fn head(server: &Server) -> Value {
    let answer = Answer::to(server, "GET /v1/rooms/r/segments/head", &[], "");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("cache-control"), Some("public, max-age=1"));
    answer.json()
}

fn path(n: u64) -> String {
    format!("GET /v1/rooms/r/segments/{SEGMENT_MS}/{n}")
}

fn number(value: &Value, member: &str) -> u64 {
    value[member]
        .as_u64()
        .unwrap_or_else(|| panic!("no {member} in {value}"))
}

/// The segment as soon as it is complete.
fn segment(server: &Server, n: u64, headers: &[&str]) -> Answer {
    complete(server, &path(n), headers)
}

fn complete(server: &Server, line: &str, headers: &[&str]) -> Answer {
    let start = Instant::now();
    loop {
        let answer = Answer::to(server, line, headers, "");
        if answer.code() != "segment_not_ready" {
            return answer;
        }
        assert_eq!(answer.status, 404);
        assert_eq!(answer.header("cache-control"), Some("public, max-age=1"));
        let wait = number(&answer.json()["error"], "retry_after_ms");
        assert!(wait <= 10_000, "{answer:?}");
        assert!(start.elapsed() < PATIENCE, "{answer:?}");
        std::thread::sleep(Duration::from_millis(wait));
    }
}

async fn post(server: &Server, text: &str) -> u64 {
    let room = RoomId::parse("r").unwrap();
    let comment = [NewComment::new(text)];
    let posted = server.http().post_comments(&room, &comment).await;
    posted.unwrap().ids[0].value()
}

/// The segment that holds a comment, found from `n` on; segments before it are empty and follow each other.
fn segment_with(server: &Server, mut n: u64, text: &str) -> (u64, Value) {
    let mut last: Option<u64> = None;
    loop {
        let segment = segment(server, n, &[]).json();
        let after = number(&segment, "after");
        assert!(
            last.is_none_or(|seq| seq == after),
            "a gap before {segment}"
        );
        if segment["comments"].to_string().contains(text) {
            return (n, segment);
        }
        last = Some(number(&segment, "seq"));
        n += 1;
    }
}

#[tokio::test]
async fn segments_hold_every_comment_once_and_follow_each_other() {
    let server = start(&[]);
    let first = head(&server);
    assert_eq!(
        (number(&first, "seq"), number(&first, "length_ms")),
        (0, SEGMENT_MS)
    );
    let n = number(&first, "n");
    assert!(number(&first, "now") >= (n + 1) * SEGMENT_MS);
    let texts: Vec<String> = (0..12).map(|n| format!("comment {n}")).collect();
    for text in &texts {
        post(&server, text).await;
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    let (mut at, mut seen, mut n) = (0, Vec::new(), n + 1);
    while seen.len() < texts.len() {
        let segment = segment(&server, n, &[]).json();
        assert_eq!(number(&segment, "n"), n);
        assert_eq!(number(&segment, "ts"), (n + 1) * SEGMENT_MS);
        assert_eq!(number(&segment, "after"), at);
        assert_eq!(segment["epoch"], first["epoch"]);
        at = number(&segment, "seq");
        for comment in segment["comments"].as_array().unwrap() {
            seen.push(comment["text"].as_str().unwrap().to_owned());
        }
        n += 1;
    }
    assert_eq!(seen, texts);
    assert_eq!(at, texts.len() as u64);
    let last = head(&server);
    assert_eq!(number(&last, "seq"), at);
    assert!(number(&last, "n") >= n - 1);
}

#[tokio::test]
async fn a_segment_can_be_cached_compared_and_compressed() {
    let server = start(&["--segment-max-age-s", "7"]);
    let n = number(&head(&server), "n");
    post(&server, "hello").await;
    let (n, _) = segment_with(&server, n, "hello");
    let answer = segment(&server, n, &[]);
    assert_eq!(answer.header("cache-control"), Some("public, max-age=7"));
    assert_eq!(answer.header("vary"), Some("accept-encoding"));
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    let etag = answer.header("etag").unwrap();
    let same = segment(&server, n, &[&format!("If-None-Match: {etag}")]);
    assert_eq!((same.status, same.body.as_str()), (304, ""));
    assert_eq!(same.header("etag"), Some(etag));
    assert_eq!(same.header("cache-control"), Some("public, max-age=7"));

    let request = format!(
        "{} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAccept-Encoding: gzip\r\n\r\n",
        path(n)
    );
    let packed = server.raw(request.as_bytes());
    let end = packed.windows(4).position(|at| at == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(packed[..end].to_vec()).unwrap();
    assert!(head.contains("content-encoding: gzip"), "{head}");
    assert!(!head.contains(&format!("etag: {etag}\r")), "{head}");
    let mut unpacked = String::new();
    let mut gunzip = flate2::read::GzDecoder::new(&packed[end + 4..]);
    gunzip.read_to_string(&mut unpacked).unwrap();
    assert_eq!(unpacked, answer.body);
}

#[tokio::test]
async fn a_retracted_comment_leaves_its_segment() {
    let server = start(&[]);
    let n = number(&head(&server), "n");
    let id = post(&server, "wrong").await;
    let (n, before) = segment_with(&server, n, "wrong");
    let etag = segment(&server, n, &[]).header("etag").unwrap().to_owned();
    let room = RoomId::parse("r").unwrap();
    server
        .http()
        .delete_comment(&room, Seq::new(id))
        .await
        .unwrap();
    let answer = segment(&server, n, &[&format!("If-None-Match: {etag}")]);
    assert_eq!(answer.status, 200);
    let after = answer.json();
    assert_eq!(after["comments"], serde_json::json!([]));
    // The chain stays the same.
    for member in ["after", "seq", "ts", "n", "epoch"] {
        assert_eq!(after[member], before[member], "{member}");
    }
    let start = Instant::now();
    let (_, told) = (n..)
        .map(|n| (n, segment(&server, n, &[]).json()))
        .find(|(_, segment)| segment["events"].is_array() || start.elapsed() > PATIENCE)
        .unwrap();
    assert_eq!(told["events"][0]["ids"], serde_json::json!([id]));
}

#[tokio::test]
async fn what_cannot_be_served_is_refused_with_a_code() {
    #[track_caller]
    fn check(server: &Server, rest: &str, status: u16, code: &str, cached: Option<&str>) {
        let answer = Answer::to(server, &format!("GET /v1/rooms/{rest}"), &[], "");
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (status, code),
            "{rest}"
        );
        assert_eq!(answer.header("cache-control"), cached, "{rest}");
    }
    let server = start(&["--log-comments-max", "1"]);
    let soon = Some("public, max-age=1");
    check(&server, "r/segments/200/7", 404, "room_not_found", soon);
    let n = number(&head(&server), "n");
    check(&server, "r/segments/100/7", 400, "bad_segment_length", None);
    check(&server, "r/segments/200/07", 400, "bad_segment", None);
    check(&server, "r/segments/200/x", 400, "bad_segment", None);
    check(&server, "r/segments/200", 404, "not_found", None);
    let far = format!("r/segments/200/{}", n + 1_000_000);
    check(&server, &far, 404, "segment_not_ready", soon);
    for text in ["one", "two", "three"] {
        post(&server, text).await;
    }
    server.sealed_until("r", 3).await;
    let old = format!("r/segments/200/{}", n - 1);
    check(
        &server,
        &old,
        410,
        "segment_gone",
        Some("public, max-age=60"),
    );
    assert_eq!(server.stat("segments_gone").await, 1);
    assert!(server.stat("segments_not_ready").await >= 1);
    let preflight = Answer::to(&server, "OPTIONS /v1/rooms/r/segments/200/7", &[], "");
    assert_eq!(preflight.status, 204);
    let allowed = preflight.header("access-control-allow-headers").unwrap();
    assert!(allowed.contains("authorization"), "{allowed}");
}

#[tokio::test]
async fn pull_viewers_are_counted_and_keep_their_room() {
    // Long enough for a busy machine: a late request is not counted.
    let server = Server::start(&["--window-ms", "20", "--segment-ms", "1000"]);
    let first = head(&server);
    let mut n = number(&first, "n") + 1;
    let start = Instant::now();
    // Longer than an unused room is kept.
    while start.elapsed() < Duration::from_secs(7) {
        for _ in 0..2 {
            let line = format!("GET /v1/rooms/r/segments/1000/{n}");
            assert_eq!(complete(&server, &line, &[]).status, 200);
        }
        n += 1;
    }
    let mut viewer = server.watch("r", Encoding::Identity).await;
    let Event::Joined(joined) = viewer.next().await.unwrap() else {
        panic!("not joined");
    };
    drop(viewer);
    let last = head(&server);
    assert_eq!(last["epoch"], first["epoch"]);
    let view = server.http().get_json("/v1/rooms/r").await.unwrap();
    assert!((2..=5).contains(&joined.viewers), "{joined:?}");
    for counted in [number(&last, "viewers"), number(&view, "viewers")] {
        assert!((1..=5).contains(&counted), "{counted}");
    }
    // Once nobody pulls, the room is forgotten.
    let start = Instant::now();
    while server.stat("rooms").await > 0 {
        assert!(start.elapsed() < PATIENCE, "the room stays");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn next_batch(viewer: &mut Connection) -> Batch {
    loop {
        let next = tokio::time::timeout(PATIENCE, viewer.next()).await;
        match next.expect("nothing came").unwrap() {
            Event::Batch(batch) => return batch,
            Event::Joined(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn likes_come_without_a_websocket() {
    #[track_caller]
    fn check(server: &Server, headers: &[&str], body: &str, status: u16, code: &str) {
        let answer = Answer::to(server, "POST /v1/rooms/r/likes", headers, body);
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (status, code),
            "{body}"
        );
    }
    let server = start(&["--window-ms", WINDOW_MS_MAX]);
    let mut viewer = server.watch("r", Encoding::Identity).await;
    check(&server, &[], r#"{"count":7}"#, 204, "");
    assert_eq!(next_batch(&mut viewer).await.likes, 7);
    assert_eq!(number(&head(&server), "likes"), 7);
    check(&server, &[], r#"{"count":101}"#, 400, "count_out_of_range");
    check(&server, &[], "", 400, "json_invalid");
    let foreign = "Origin: https://evil.example";
    check(&server, &[foreign], "{}", 403, "origin_not_allowed");
    let own = ["Origin: http://localhost", "Content-Type: text/plain"];
    check(&server, &own, "{}", 415, "unsupported_media_type");
    let get = Answer::to(&server, "GET /v1/rooms/r/likes", &[], "");
    assert_eq!(get.header("allow"), Some("post, options"));
}

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    serve: ServeArgs,
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_with_the_same_log_send_the_same_bytes() {
    let double = Double::new(DoubleConfig {
        holes_max: 3,
        ..DoubleConfig::calm(1)
    });
    let node = || {
        let flags = ["test", "--listen", "127.0.0.1:0", "--segment-ms", "200"];
        let config = Flags::parse_from(flags).serve.check(1_024).unwrap();
        danmaku_server::tasks::Server::start_with(config, Store::Double(double.clone())).unwrap()
    };
    let client = |server: &danmaku_server::tasks::Server| {
        HttpClient::new(server.address().to_string().parse().unwrap())
    };
    let one = node();
    let mut poster = client(&one);
    let first = poster.get_json("/v1/rooms/r/segments/head").await.unwrap();
    let room = RoomId::parse("r").unwrap();
    for n in 0..10 {
        let comment = [NewComment::new(format!("c{n}"))];
        let posted = poster.post_comments(&room, &comment).await.unwrap();
        if n == 4 {
            poster.delete_comment(&room, posted.ids[0]).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Opened only now: it has to ask the store.
    let two = node();
    let mut late = client(&two);
    late.get_json("/v1/rooms/r/segments/head").await.unwrap();
    let (mut seen, mut n) = (0, number(&first, "n"));
    while seen < 9 {
        let path = format!("/v1/rooms/r/segments/200/{n}");
        let segment = complete_body(&mut poster, &path).await;
        // The other one may see a little later that it is complete.
        assert_eq!(segment, complete_body(&mut late, &path).await);
        let segment: Value = serde_json::from_slice(&segment).unwrap();
        seen += segment["comments"].as_array().unwrap().len();
        n += 1;
    }
}

async fn complete_body(http: &mut HttpClient, path: &str) -> Bytes {
    let start = Instant::now();
    loop {
        let answer = http.send(Method::GET, path, Bytes::new()).await.unwrap();
        if answer.status == StatusCode::OK {
            return answer.body;
        }
        assert!(start.elapsed() < PATIENCE, "{answer:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
