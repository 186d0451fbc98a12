//! A pinned comment: viewers are told, those who join see it, and it outlives the server.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{BufRead, BufReader, Write};

use bytes::Bytes;
use danmaku_client::{Event, HttpClient, NewComment, RoomEventKind};
use danmaku_wire::{Encoding, RoomId};
use hyper::Method;
use serde_json::{Value, json};
use support::{PATIENCE, Server};
use tempfile::TempDir;

const PIN: &str = "/v1/rooms/r/pin";

async fn send(http: &mut HttpClient, method: Method, body: &str) -> (u16, Value) {
    let body = Bytes::from(body.to_owned());
    let answer = http.send(method, PIN, body).await.unwrap();
    let json = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
    (answer.status.as_u16(), json)
}

async fn post(http: &mut HttpClient, texts: &[&str]) {
    let room = RoomId::parse("r").unwrap();
    let new: Vec<_> = texts.iter().map(|text| NewComment::new(*text)).collect();
    http.post_comments(&room, &new).await.unwrap();
}

/// The first message to a viewer that joins now, with all its members.
fn joined(server: &Server) -> Value {
    let mut stream = server.raw_stream();
    let request = "GET /v1/rooms/r/events HTTP/1.1\r\nHost: x\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    let data = lines.find_map(|line| Some(line.strip_prefix("data: ")?.to_owned()));
    serde_json::from_str(&data.unwrap()).unwrap()
}

#[tokio::test]
async fn a_pin_is_announced_and_shown_to_those_who_join() {
    let folder = TempDir::new().unwrap();
    let flags = [
        "--window-ms",
        "20",
        "--data",
        folder.path().to_str().unwrap(),
    ];
    let mut server = Server::start(&flags);
    let mut http = server.http();
    assert_eq!(send(&mut http, Method::GET, "").await.0, 404);
    post(&mut http, &["one", "two"]).await;
    let (status, json) = send(&mut http, Method::GET, "").await;
    assert_eq!(
        (status, &json["error"]["code"]),
        (404, &json!("pin_not_found"))
    );
    let mut viewer = server.watch("r", Encoding::Identity).await;

    let body = r#"{"id":2,"duration_s":1000}"#;
    let (status, pinned) = send(&mut http, Method::POST, body).await;
    assert_eq!((status, &pinned["comment"]["text"]), (200, &json!("two")));
    assert_eq!(
        send(&mut http, Method::GET, "").await,
        (200, pinned.clone())
    );
    assert_eq!(told(&mut viewer).await, "pin");
    let pin = json!({"comment": pinned["comment"], "until": pinned["until"]});
    assert_eq!(joined(&server)["pin"], pin);
    server.end("KILL");

    let server = Server::start(&flags);
    let mut http = server.http();
    assert_eq!(joined(&server)["pin"], pin);
    let page = http.get_json("/v1/rooms/r/comments").await.unwrap();
    let event = &page["events"][0];
    assert_eq!(
        (&event["type"], &event["comment"]),
        (&json!("pin"), &json!(2))
    );
    assert_eq!(event["until"], pinned["until"]);

    let mut viewer = server.watch("r", Encoding::Identity).await;
    assert_eq!(send(&mut http, Method::DELETE, "").await.0, 204);
    assert_eq!(told(&mut viewer).await, "unpin");
    assert_eq!(joined(&server)["pin"], Value::Null);
    assert_eq!(send(&mut http, Method::GET, "").await.0, 404);

    // Nothing is pinned: nobody is told anything.
    assert_eq!(send(&mut http, Method::DELETE, "").await.0, 204);
    let page = http.get_json("/v1/rooms/r/comments").await.unwrap();
    assert_eq!(page["events"].as_array().unwrap().len(), 2);
}

/// The kind of the next event that is none of a client's business.
async fn told(viewer: &mut danmaku_client::Connection) -> String {
    loop {
        let next = tokio::time::timeout(PATIENCE, viewer.next()).await;
        let Event::Batch(batch) = next.expect("nothing came").unwrap() else {
            continue;
        };
        let kind = batch.events.into_iter().map(|event| event.kind).next();
        if let Some(RoomEventKind::Other(kind)) = kind {
            return kind;
        }
    }
}

#[tokio::test]
async fn a_retracted_comment_is_not_pinned() {
    let server = Server::start(&[]);
    let mut http = server.http();
    post(&mut http, &["one", "two"]).await;
    for (id, path) in [(1, "/v1/rooms/r/comments/1"), (2, "/v1/users/u/comments")] {
        let body = format!(r#"{{"id":{id}}}"#);
        assert_eq!(send(&mut http, Method::POST, &body).await.0, 200);
        let deleted = http.send(Method::DELETE, path, Bytes::new()).await.unwrap();
        assert!(deleted.status.is_success());
        let expected = if id == 1 { 404 } else { 200 };
        assert_eq!(send(&mut http, Method::GET, "").await.0, expected, "{path}");
    }
    let (status, json) = send(&mut http, Method::POST, r#"{"id":1}"#).await;
    assert_eq!(
        (status, &json["error"]["code"]),
        (404, &json!("comment_not_found"))
    );
}

#[tokio::test]
async fn a_reported_comment_that_is_denied_is_not_pinned() {
    let server = Server::start(&[]);
    let mut http = server.http();
    post(&mut http, &["one"]).await;
    assert_eq!(send(&mut http, Method::POST, r#"{"id":1}"#).await.0, 200);
    for path in ["/v1/rooms/r/comments/1/reports", "/v1/rooms/r/held/1/deny"] {
        let answer = http.send(Method::POST, path, Bytes::new()).await.unwrap();
        assert!(answer.status.is_success(), "{path}");
    }
    assert_eq!(send(&mut http, Method::GET, "").await.0, 404);
}

#[tokio::test]
async fn bad_pins_are_refused() {
    let server = Server::start(&[]);
    let mut http = server.http();
    let (status, json) = send(&mut http, Method::POST, r#"{"id":1}"#).await;
    assert_eq!(
        (status, &json["error"]["code"]),
        (404, &json!("room_not_found"))
    );
    post(&mut http, &["one"]).await;
    for (body, code, expected) in [
        ("", "json_invalid", 400),
        ("[]", "json_wrong_type", 400),
        ("{}", "bad_comment_id", 400),
        (r#"{"id":1,"duration_s":0}"#, "bad_duration", 400),
        (r#"{"id":2}"#, "comment_not_found", 404),
    ] {
        let (status, json) = send(&mut http, Method::POST, body).await;
        assert_eq!((status, &json["error"]["code"]), (expected, &json!(code)));
    }
    for method in ["POST", "DELETE"] {
        let request = format!(
            "{method} {PIN} HTTP/1.1\r\nHost: x\r\nVia: 1.1 p\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        let answer = String::from_utf8(server.raw(request.as_bytes())).unwrap();
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    }
}
