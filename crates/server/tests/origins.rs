//! Web pages of other sites: they may watch and read, and post only when the operator says so.

mod support;

use std::io::{Read, Write};

use support::Server;
use support::raw::{Answer, RawViewer, handshake_with, runtime, text};

const COMMENTS: &str = "/v1/rooms/r/comments";
const BODY: &str = r#"{"text":"hello"}"#;
const JSON: &str = "Content-Type: application/json";
const PLAIN: &str = "Content-Type: text/plain";
const EVIL: &str = "Origin: https://evil.example";
const FRIEND: &str = "Origin: https://live.example";
const ALLOW_ORIGIN: &str = "access-control-allow-origin";

fn post(server: &Server, headers: &[&str]) -> (u16, String) {
    let answer = Answer::to(server, &format!("POST {COMMENTS}"), headers, BODY);
    // A page reads why it was refused.
    assert_eq!(answer.header(ALLOW_ORIGIN), Some("*"), "{answer:?}");
    (answer.status, answer.code())
}

fn refused(server: &Server) -> u64 {
    runtime().block_on(server.stat("messages_origin_not_allowed"))
}

#[test]
fn a_page_of_another_site_cannot_post() {
    let server = Server::start(&[]);
    let forbidden = (403, "origin_not_allowed".to_owned());
    let created = (201, String::new());
    // What a page can send without a preflight.
    assert_eq!(post(&server, &[EVIL, PLAIN]), forbidden);
    assert_eq!(post(&server, &[EVIL, JSON]), forbidden);
    assert_eq!(post(&server, &["Origin: null", JSON]), forbidden);
    assert_eq!(refused(&server), 3);
    let same = [
        "Host: chat.example:8080",
        "Origin: http://chat.example:8080",
    ];
    assert_eq!(post(&server, &[same[0], same[1], JSON]), created);
    let unsupported = (415, "unsupported_media_type".to_owned());
    assert_eq!(post(&server, &[same[0], same[1], PLAIN]), unsupported);
    // Not a page: `curl -d` declares a form.
    let form = "Content-Type: application/x-www-form-urlencoded";
    assert_eq!(post(&server, &[form]), created);
    let room = Answer::to(&server, "GET /v1/rooms/r", &[], "").json();
    assert_eq!(room["seq"], 2, "what was refused was not taken");
}

#[test]
fn only_listed_origins_may_post() {
    let listed = "https://live.example,http://localhost:3000";
    let server = Server::start(&["--allowed-origins", listed]);
    assert_eq!(post(&server, &[FRIEND, JSON]).0, 201);
    assert_eq!(post(&server, &[FRIEND, PLAIN]).0, 415);
    assert_eq!(
        post(&server, &["Origin: http://localhost:3000", JSON]).0,
        201
    );
    assert_eq!(post(&server, &[EVIL, JSON]).0, 403);
    let server = Server::start(&["--allowed-origins", "*"]);
    assert_eq!(post(&server, &[EVIL, JSON]).0, 201);
    assert_eq!(post(&server, &[EVIL, PLAIN]).0, 415);
}

#[test]
fn any_page_may_read_responses_and_errors() {
    let server = Server::start(&[]);
    assert_eq!(post(&server, &[JSON]).0, 201);
    let rows = [
        ("GET /v1/rooms", 200),
        ("GET /v1/rooms/r", 200),
        ("GET /v1/rooms/r/comments", 200),
        ("GET /v1/rooms/nobody", 404),
        ("GET /v1/rooms/r/nothing", 404),
        ("GET /v1/rooms/r/events?since=x", 400),
        ("POST /v1/rooms/r/events", 405),
        ("GET /v1/rooms/r/ws", 426),
    ];
    for (line, status) in rows {
        let answer = Answer::to(&server, line, &[EVIL], "");
        assert_eq!(answer.status, status, "{line}: {answer:?}");
        assert_eq!(answer.header(ALLOW_ORIGIN), Some("*"), "{line}: {answer:?}");
    }
    // The operators' pages are not for other sites.
    for line in ["GET /v1/stats", "GET /metrics"] {
        assert_eq!(
            Answer::to(&server, line, &[EVIL], "").header(ALLOW_ORIGIN),
            None
        );
    }
    let mut stream = server.raw_stream();
    write!(
        stream,
        "GET /v1/rooms/r/events HTTP/1.1\r\nHost: x\r\n{EVIL}\r\n\r\n"
    )
    .unwrap();
    let mut head = [0; 17];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK\r\n");
}

#[test]
fn any_page_may_read_why_a_connection_was_refused() {
    let server = Server::start(&["--connections-per-address-max", "1"]);
    let _held = RawViewer::join(&server);
    let answer = Answer::read(&mut server.raw_stream());
    assert_eq!(answer.code(), "too_many_connections");
    assert_eq!(answer.header(ALLOW_ORIGIN), Some("*"));
    assert_eq!(answer.json()["error"]["retry_after_ms"], 5_000);
}

#[test]
fn a_preflight_lists_what_the_page_may_do() {
    let server = Server::start(&["--allowed-origins", "https://live.example"]);
    let ask = |line: &str, origin: &str, method: &str| {
        let method = format!("Access-Control-Request-Method: {method}");
        let headers = "Access-Control-Request-Headers: content-type,idempotency-key";
        let answer = Answer::to(&server, line, &[origin, &method, headers], "");
        assert_eq!(answer.header(ALLOW_ORIGIN), Some("*"), "{answer:?}");
        answer
    };
    let comments = format!("OPTIONS {COMMENTS}");
    let answer = ask(&comments, FRIEND, "POST");
    assert_eq!(answer.status, 204);
    let methods = "get, head, post, options";
    assert_eq!(answer.header("access-control-allow-methods"), Some(methods));
    assert_eq!(answer.header("allow"), Some(methods));
    let headers = "authorization, content-type, idempotency-key, last-event-id";
    assert_eq!(answer.header("access-control-allow-headers"), Some(headers));
    assert!(answer.header("access-control-max-age").is_some());
    // A browser hides why a preflight was refused, so that is said of the request itself.
    for method in ["GET", "POST"] {
        assert_eq!(ask(&comments, EVIL, method).status, 204);
    }
    let comment = format!("OPTIONS {COMMENTS}/1");
    for origin in [EVIL, FRIEND] {
        assert_eq!(ask(&comment, origin, "DELETE").status, 204);
    }
    assert_eq!(post(&server, &[EVIL, JSON]).1, "origin_not_allowed");
    assert_eq!(ask("OPTIONS /v1/rooms/r/nothing", EVIL, "GET").status, 404);
    let answer = Answer::to(&server, "OPTIONS /metrics", &[EVIL], "");
    assert_eq!(answer.status, 405);
}

#[test]
fn a_page_of_another_site_cannot_retract() {
    let server = Server::start(&["--allowed-origins", "https://live.example"]);
    for _ in 0..3 {
        assert_eq!(post(&server, &[]).0, 201);
    }
    let delete = |id: u32, headers: &[&str]| {
        let answer = Answer::to(&server, &format!("DELETE {COMMENTS}/{id}"), headers, "");
        (answer.status, answer.code())
    };
    assert_eq!(delete(1, &[EVIL]), (403, "origin_not_allowed".to_owned()));
    // A name that a page's host pointed at this machine makes it the same origin.
    let rebound = ["Host: evil.example", "Origin: http://evil.example"];
    assert_eq!(delete(1, &rebound), (403, "forbidden".to_owned()));
    assert_eq!(delete(1, &rebound[..1]), (403, "forbidden".to_owned()));
    // Browsers send no `Origin` with a `GET` of the same origin.
    let audit = Answer::to(&server, "GET /v1/audit", &rebound[..1], "");
    assert_eq!((audit.status, audit.code()), (403, "forbidden".to_owned()));
    assert_eq!(Answer::to(&server, "GET /v1/audit", &[], "").status, 200);
    let host = format!("Host: {}", server.address());
    let origin = format!("Origin: http://{}", server.address());
    assert_eq!(delete(1, &[&host, &origin]).0, 204);
    assert_eq!(delete(2, &[&host, FRIEND]).0, 204);
    assert_eq!(delete(3, &[]).0, 204);
}

#[test]
fn a_page_of_another_site_can_watch_over_a_websocket_but_not_post() {
    let server = Server::start(&[
        "--window-ms",
        "20",
        "--allowed-origins",
        "https://live.example",
    ]);
    let comment = text(r#"{"type":"comment","ref":1,"text":"hello"}"#);
    let like = text(r#"{"type":"like","count":3}"#);
    let mut evil = RawViewer::join_with_header(&server, EVIL);
    evil.0.write_all(&[comment.clone(), like].concat()).unwrap();
    assert_eq!(evil.error_code(), "origin_not_allowed");
    assert_eq!(evil.error_code(), "origin_not_allowed");
    assert_eq!(refused(&server), 2);
    let mut friend = RawViewer::join_with_header(&server, FRIEND);
    friend.0.write_all(&comment).unwrap();
    let ack = br#"{"type":"ack","ref":1,"id":1}"#;
    while friend.read().1 != ack {}
    // It can still watch.
    let (_, batch) = evil.read();
    assert!(
        batch.starts_with(br#"{"type":"batch","after":0,"seq":1,"#),
        "{}",
        batch.escape_ascii()
    );
    let mut same = server.raw_stream();
    same.write_all(handshake_with("Origin: http://x").as_bytes())
        .unwrap();
    let mut seen = [0; 12];
    same.read_exact(&mut seen).unwrap();
    assert_eq!(&seen, b"HTTP/1.1 101");
}
