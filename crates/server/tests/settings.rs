//! Settings of rooms, and the audit trail: in force at once, and still after a restart.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use bytes::Bytes;
use danmaku_client::{ClientError, Event, HttpClient, NewComment, Refusal};
use danmaku_wire::{Encoding, RoomId};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use support::{PATIENCE, Server};
use tempfile::TempDir;

const SETTINGS: &str = "/v1/rooms/r/settings";

/// Sends a request to the server; returns the status and the body.
async fn send(http: &mut HttpClient, method: Method, path: &str, body: &str) -> (u16, Value) {
    let body = Bytes::from(body.to_owned());
    let answer = http.send(method, path, body).await.unwrap();
    let json = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
    (answer.status.as_u16(), json)
}

async fn set(http: &mut HttpClient, path: &str, settings: &Value) -> Value {
    let (status, json) = send(http, Method::PATCH, path, &settings.to_string()).await;
    assert_eq!(status, 200, "{json}");
    json
}

/// Posts as `user`, or without one.
async fn post(http: &mut HttpClient, user: &str, text: &str) -> Result<(), Refusal> {
    let mut comment = NewComment::new(text);
    comment.user = (!user.is_empty()).then(|| user.to_owned());
    let room = RoomId::parse("r").unwrap();
    match http.post_comments(&room, &[comment]).await {
        Ok(_) => Ok(()),
        Err(ClientError::Refused(refusal)) => Err(refusal),
        Err(other) => panic!("{other:?}"),
    }
}

async fn refused(http: &mut HttpClient, user: &str, text: &str) -> String {
    post(http, user, text).await.unwrap_err().code
}

#[tokio::test]
async fn settings_are_in_force_at_once_and_after_a_restart() {
    let folder = TempDir::new().unwrap();
    let flags = ["--data", folder.path().to_str().unwrap()];
    let mut server = Server::start(&flags);
    let mut http = server.http();
    let (_, before) = send(&mut http, Method::GET, SETTINGS, "").await;
    let limits = json!({
        "closed": false, "slow_mode_s": 0, "text_scalars_max": 200, "emoji_only": false, "no_links": false,
        "special_percent_max": 100, "unique_s": 0, "members_only": false, "member_age_s": 0,
    });
    let names = limits.as_object().unwrap().keys();
    let unset: Value = names.map(|name| (name.clone(), Value::Null)).collect();
    assert_eq!(
        before,
        json!({"room": "r", "settings": unset, "effective": limits})
    );

    post(&mut http, "u", "hello").await.unwrap();
    let after = set(&mut http, SETTINGS, &json!({"closed": true})).await;
    assert_eq!(after["effective"]["closed"], true);
    assert_eq!(refused(&mut http, "u", "hello").await, "room_closed");
    let viewer = server.watch("r", Encoding::Identity).await;
    assert_eq!(refused_over_websocket(viewer).await, "room_closed");
    server.end("TERM");

    let server = Server::start(&flags);
    let mut http = server.http();
    assert_eq!(refused(&mut http, "u", "hello").await, "room_closed");
    set(&mut http, SETTINGS, &json!({"closed": null})).await;
    post(&mut http, "u", "hello").await.unwrap();
}

async fn refused_over_websocket(mut viewer: danmaku_client::Connection) -> String {
    let comment = r#"{"type":"comment","text":"hello","ref":1}"#;
    viewer.send_text(comment).await.unwrap();
    loop {
        let next = tokio::time::timeout(PATIENCE, viewer.next()).await;
        if let Event::Error(error) = next.unwrap().unwrap() {
            return error.code;
        }
    }
}

#[tokio::test]
async fn slow_mode_is_per_user_or_address() {
    let server = Server::start(&[]);
    let mut http = server.http();
    set(&mut http, SETTINGS, &json!({"slow_mode_s": 120})).await;
    post(&mut http, "u", "one").await.unwrap();
    let refusal = post(&mut http, "u", "two").await.unwrap_err();
    assert_eq!(refusal.code, "slow_mode");
    let wait = refusal.retry_after_ms.unwrap();
    assert!((1..=120_000).contains(&wait), "{wait}");
    post(&mut http, "v", "another user").await.unwrap();
    post(&mut http, "", "this address").await.unwrap();
    assert_eq!(refused(&mut http, "", "again").await, "slow_mode");

    let twice = r#"[{"user":"w","text":"a"},{"user":"w","text":"b"}]"#;
    let path = "/v1/rooms/r/comments";
    let (status, json) = send(&mut http, Method::POST, path, twice).await;
    assert_eq!(
        (status, &json["error"]["code"]),
        (400, &json!("array_over_burst"))
    );
    post(&mut http, "w", "alone").await.unwrap();
    set(&mut http, SETTINGS, &json!({"slow_mode_s": 0})).await;
    post(&mut http, "u", "three").await.unwrap();
    assert_eq!(server.stat("messages_slow_mode").await, 2);
}

#[tokio::test]
async fn a_rooms_own_settings_go_before_the_defaults_of_all() {
    let server = Server::start(&[]);
    let mut http = server.http();
    set(&mut http, "/v1/settings", &json!({"text_scalars_max": 3})).await;
    assert_eq!(refused(&mut http, "u", "弹幕来了").await, "text_too_long");
    post(&mut http, "u", "弹幕来").await.unwrap();
    set(&mut http, SETTINGS, &json!({"text_scalars_max": 200})).await;
    post(&mut http, "u", "longer than three").await.unwrap();
    let array = r#"[{"text":"a"},{"text":"much too long"}]"#;
    let path = "/v1/rooms/other/comments";
    let (status, json) = send(&mut http, Method::POST, path, array).await;
    assert_eq!((status, &json["error"]["index"]), (400, &json!(1)));
    // A refused post makes no room.
    let (status, _) = send(&mut http, Method::GET, "/v1/rooms/other", "").await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn bad_settings_are_refused_by_name() {
    let server = Server::start(&[]);
    let mut http = server.http();
    for (body, field) in [
        (r#"{"closed":1}"#, json!("closed")),
        (r#"{"slow_mode_s":2}"#, json!("slow_mode_s")),
        (r#"{"slow_mode_s":121}"#, json!("slow_mode_s")),
        (r#"{"text_scalars_max":0}"#, json!("text_scalars_max")),
        (r#"{"closed":true,"wat":1}"#, json!("wat")),
        ("[]", Value::Null),
        ("nothing", Value::Null),
    ] {
        let (status, json) = send(&mut http, Method::PATCH, SETTINGS, body).await;
        let error = &json["error"];
        assert_eq!((status, &error["code"]), (400, &json!("bad_setting")));
        assert_eq!(error["field"], field, "{body}");
    }
    let why = format!("{SETTINGS}?why={}", "x".repeat(201));
    let (status, json) = send(&mut http, Method::PATCH, &why, "{}").await;
    assert_eq!((status, &json["error"]["code"]), (400, &json!("bad_why")));
    let (_, view) = send(&mut http, Method::GET, SETTINGS, "").await;
    assert_eq!(view["settings"]["closed"], Value::Null, "half a patch");
}

#[test]
fn only_local_clients_may_change_settings() {
    let server = Server::start(&[]);
    for request in [
        "PATCH /v1/rooms/r/settings",
        "GET /v1/rooms/r/settings",
        "PATCH /v1/settings",
        "GET /v1/audit",
    ] {
        let request = format!(
            "{request} HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 10.0.0.1\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}"
        );
        let answer = String::from_utf8(server.raw(request.as_bytes())).unwrap();
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    }
}

#[tokio::test]
async fn the_audit_trail_says_who_did_what_and_why() {
    let folder = TempDir::new().unwrap();
    let flags = ["--data", folder.path().to_str().unwrap()];
    let mut server = Server::start(&flags);
    let mut http = server.http();
    post(&mut http, "u", "one").await.unwrap();
    post(&mut http, "v", "two").await.unwrap();
    let path = format!("{SETTINGS}?why=a%20raid");
    set(&mut http, &path, &json!({"slow_mode_s": 10})).await;
    for path in ["/v1/rooms/r/comments/1?why=spam", "/v1/users/v/comments"] {
        let (status, _) = send(&mut http, Method::DELETE, path, "").await;
        assert!(status < 300, "{path}: {status}");
    }
    server.end("KILL");

    let server = Server::start(&flags);
    let mut http = server.http();
    let (_, trail) = send(&mut http, Method::GET, "/v1/audit", "").await;
    let found: Vec<_> = (trail["entries"].as_array().unwrap().iter())
        .map(|it| {
            [
                &it["who"],
                &it["action"],
                &it["room"],
                &it["target"],
                &it["why"],
            ]
        })
        .collect();
    let (operator, null) = (json!("operator"), Value::Null);
    let (room, patch) = (json!("r"), json!(r#"{"slow_mode_s":10}"#));
    let [erase, retract, settings] = ["erase", "retract", "settings"].map(|it| json!(it));
    let [spam, raid, user, id] = ["spam", "a raid", "v", "1"].map(|it| json!(it));
    assert_eq!(
        found,
        [
            [&operator, &erase, &null, &user, &null],
            [&operator, &retract, &room, &id, &spam],
            [&operator, &settings, &room, &patch, &raid],
        ]
    );

    let (_, page) = send(&mut http, Method::GET, "/v1/audit?limit=2&room=r", "").await;
    assert_eq!(page["entries"].as_array().unwrap().len(), 2);
    assert_eq!(page["next"], Value::Null);
    let (_, page) = send(&mut http, Method::GET, "/v1/audit?limit=2", "").await;
    let path = format!("/v1/audit?limit=2&before={}", page["next"]);
    let (_, page) = send(&mut http, Method::GET, &path, "").await;
    assert_eq!(page["entries"][0]["action"], "settings");
    let (_, page) = send(&mut http, Method::GET, "/v1/audit?user=v", "").await;
    assert_eq!(page["entries"].as_array().unwrap().len(), 1);
    for (query, code) in [
        ("limit=0", "bad_limit"),
        ("before=x", "bad_before"),
        ("room=no%20room", "bad_room_id"),
    ] {
        let path = format!("/v1/audit?{query}");
        let (status, json) = send(&mut http, Method::GET, &path, "").await;
        assert_eq!((status, &json["error"]["code"]), (400, &json!(code)));
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_full_disk_refuses_changes_of_settings() {
    let folder = TempDir::new().unwrap();
    let mut server = Server::start_after(
        // In blocks of 512 bytes.
        "ulimit -f 512; trap '' XFSZ",
        &["--data", folder.path().to_str().unwrap()],
    );
    let mut http = server.http();
    let why = "x".repeat(200);
    let path = format!("{SETTINGS}?why={why}");
    let start = std::time::Instant::now();
    let refusal = loop {
        let body = Bytes::from_static(br#"{"slow_mode_s":10}"#);
        let answer = http.send(Method::PATCH, &path, body).await.unwrap();
        if answer.status != StatusCode::OK {
            break answer;
        }
        assert!(start.elapsed() < PATIENCE, "the disk does not fill up");
    };
    assert_eq!(refusal.status, StatusCode::SERVICE_UNAVAILABLE);
    let json: Value = serde_json::from_slice(&refusal.body).unwrap();
    let code = json["error"]["code"].as_str().unwrap();
    assert!(["unavailable", "outcome_unknown"].contains(&code), "{json}");
    assert!(json["error"]["retry_after_ms"].is_u64(), "{json}");
    server.end("KILL");
}
