//! Blocked terms, and the comments that wait for a moderator.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use danmaku_client::{Connection, Event, HttpClient};
use danmaku_wire::Encoding;
use hyper::Method;
use serde_json::{Value, json};
use support::moderate::{list, post, post_raw, refused, refused_over_websocket, send, trail};
use support::{PATIENCE, Server};
use tempfile::TempDir;

const TERMS: &str = "/v1/rooms/r/terms";
const HELD: &str = "/v1/rooms/r/held";

async fn put(http: &mut HttpClient, path: &str, terms: &Value) {
    let (status, json) = send(http, Method::PUT, path, &terms.to_string()).await;
    assert_eq!(status, 200, "{json}");
    assert_eq!(json["terms"], terms.as_array().unwrap().len());
}

/// The texts in a room's log.
async fn texts(http: &mut HttpClient, room: &str) -> Vec<String> {
    let path = format!("/v1/rooms/{room}/comments");
    let (_, page) = send(http, Method::GET, &path, "").await;
    list(&page["comments"], "text")
}

/// The text of the next comment that a viewer gets.
async fn next_text(viewer: &mut Connection) -> String {
    loop {
        let next = tokio::time::timeout(PATIENCE, viewer.next()).await;
        if let Event::Batch(batch) = next.unwrap().unwrap()
            && let Some(comment) = batch.comments.first()
        {
            return comment.text.clone();
        }
    }
}

#[tokio::test]
async fn terms_deny_mask_and_hold() {
    let folder = TempDir::new().unwrap();
    let flags = ["--data", folder.path().to_str().unwrap()];
    let mut server = Server::start(&flags);
    let mut http = server.http();
    let everywhere = json!([
        {"term": "坏词"},
        {"term": "ass", "match": "word", "action": "mask"},
    ]);
    put(&mut http, "/v1/terms?why=rules", &everywhere).await;
    put(
        &mut http,
        TERMS,
        &json!([{"term": "Buy", "action": "hold"}]),
    )
    .await;
    let mut viewer = server.watch("r", Encoding::Identity).await;
    assert_eq!(
        refused(&mut http, "r", "u", "坏\u{200b}词").await,
        "blocked_term"
    );
    assert_eq!(
        refused_over_websocket(&mut viewer, "u", "坏词").await,
        "blocked_term"
    );
    let array = r#"[{"text":"fine"},{"text":"坏词"}]"#;
    let (status, json) = post_raw(&mut http, "r", array).await;
    assert_eq!((status, &json["error"]["index"]), (422, &json!(1)));
    let array = r#"[{"text":"fine"},{"text":"buy it"}]"#;
    let (status, json) = post_raw(&mut http, "r", array).await;
    assert_eq!(
        (status, &json["error"]["code"]),
        (422, &json!("needs_review"))
    );
    let named = r#"{"text":"hello","name":"坏词"}"#;
    let (status, _) = post_raw(&mut http, "r", named).await;
    assert_eq!(status, 422);

    post(&mut http, "r", "u", "what an ÅSS, class")
        .await
        .unwrap();
    assert_eq!(next_text(&mut viewer).await, "what an ***, class");
    let (status, held) = post_raw(&mut http, "r", r#"{"text":"ＢＵＹ it","user":"u"}"#).await;
    assert_eq!((status, &held["held"]), (202, &json!(1)), "{held}");
    post(&mut http, "other", "u", "buy it").await.unwrap();
    server.end("KILL");

    let server = Server::start(&flags);
    let mut http = server.http();
    assert_eq!(
        refused(&mut http, "other", "u", "坏词").await,
        "blocked_term"
    );
    let (_, queue) = send(&mut http, Method::GET, HELD, "").await;
    let comment = &queue["held"][0]["comment"];
    assert_eq!(comment, &json!({"user": "u", "text": "ＢＵＹ it"}));
    let (_, terms) = send(&mut http, Method::GET, TERMS, "").await;
    assert_eq!(
        terms,
        json!([{"term": "Buy", "match": "substring", "action": "hold"}])
    );
    put(&mut http, TERMS, &json!([])).await;
    post(&mut http, "r", "u", "buy it").await.unwrap();
    let trail = trail(&mut http, "limit=10").await;
    assert_eq!(
        trail,
        ["terms r 0 terms", "terms r 1 terms", "terms  2 terms rules"]
    );
}

#[tokio::test]
async fn bad_terms_are_refused_by_index() {
    let server = Server::start(&[]);
    let mut http = server.http();
    put(&mut http, TERMS, &json!([{"term": "a"}])).await;
    let many = vec![json!({"term": "a"}); 50_001];
    for (body, index) in [
        ("nothing".to_owned(), Value::Null),
        ("{}".to_owned(), Value::Null),
        (json!([{"term": "x"}, {"term": " "}]).to_string(), json!(1)),
        (
            json!([{"term": "x"}, {"term": "y".repeat(65)}]).to_string(),
            json!(1),
        ),
        (
            json!([{"term": "x", "match": "regex"}]).to_string(),
            json!(0),
        ),
        (json!([{"match": "word"}]).to_string(), json!(0)),
        (Value::from(many).to_string(), json!(50_000)),
    ] {
        let (status, json) = send(&mut http, Method::PUT, TERMS, &body).await;
        let error = &json["error"];
        assert_eq!((status, &error["code"]), (400, &json!("bad_terms")));
        assert_eq!(error["index"], index, "{error}");
    }
    assert_eq!(refused(&mut http, "r", "u", "cat").await, "blocked_term");
}

#[tokio::test]
async fn fifty_thousand_terms_are_taken() {
    let server = Server::start(&[]);
    let mut http = server.http();
    let terms = (0..50_000).map(|n| json!({"term": format!("坏{n}词"), "action": "deny"}));
    put(&mut http, "/v1/terms", &terms.collect()).await;
    assert_eq!(
        refused(&mut http, "r", "u", "a 坏49999词").await,
        "blocked_term"
    );
    post(&mut http, "r", "u", "a 坏50000词").await.unwrap();
}

#[tokio::test]
async fn a_moderator_decides_once() {
    let folder = TempDir::new().unwrap();
    let flags = ["--data", folder.path().to_str().unwrap()];
    let server = Server::start(&flags);
    let mut http = server.http();
    put(
        &mut http,
        TERMS,
        &json!([{"term": "buy", "action": "hold"}]),
    )
    .await;
    let mut viewer = server.watch("r", Encoding::Identity).await;
    let message = r#"{"type":"comment","ref":1,"text":"buy A","user":"u","key":"k"}"#;
    // A retry of the same post gets the same answer.
    for _ in 0..2 {
        viewer.send_text(message).await.unwrap();
        let ack = loop {
            let next = tokio::time::timeout(PATIENCE, viewer.next()).await;
            if let Event::Ack(ack) = next.unwrap().unwrap() {
                break ack;
            }
        };
        assert_eq!(ack.held, Some(1));
    }
    post(&mut http, "r", "u", "buy B").await.unwrap();
    let (_, queue) = send(&mut http, Method::GET, HELD, "").await;
    assert_eq!(list(&queue["held"], "id"), ["1", "2"]);
    assert_eq!(list(&queue["held"], "cause"), ["term", "term"]);
    assert!(texts(&mut http, "r").await.is_empty());
    assert_eq!(server.stat("comments_held").await, 2);

    let (status, allowed) = send(&mut http, Method::POST, &format!("{HELD}/1/allow"), "").await;
    assert_eq!((status, &allowed["id"]), (200, &json!(1)));
    assert_eq!(next_text(&mut viewer).await, "buy A");
    let path = format!("{HELD}/2/deny?why=spam");
    let (status, denied) = send(&mut http, Method::POST, &path, "").await;
    assert_eq!((status, denied), (200, json!({})));
    for path in [
        format!("{HELD}/1/allow"),
        format!("{HELD}/1/deny"),
        format!("{HELD}/2/allow"),
        format!("{HELD}/x/allow"),
        "/v1/rooms/other/held/2/allow".to_owned(),
    ] {
        let (status, json) = send(&mut http, Method::POST, &path, "").await;
        assert_eq!(
            (status, &json["error"]["code"]),
            (404, &json!("held_not_found")),
            "{path}"
        );
    }
    assert_eq!(texts(&mut http, "r").await, ["buy A"]);
    let trail = trail(&mut http, "user=u").await;
    assert_eq!(trail, ["deny r u spam", "allow r u"]);
}

#[tokio::test]
async fn viewers_report_comments_into_the_queue() {
    let server = Server::start(&[]);
    let mut http = server.http();
    for text in ["one", "two"] {
        post(&mut http, "r", "u", text).await.unwrap();
    }
    let report = |id: &str| format!("/v1/rooms/r/comments/{id}/reports?why=spam");
    for id in ["1", "1", "2"] {
        let (status, _) = send(&mut http, Method::POST, &report(id), "").await;
        assert_eq!(status, 202);
    }
    let (_, queue) = send(&mut http, Method::GET, HELD, "").await;
    assert_eq!(list(&queue["held"], "reported"), ["1", "2"]);
    assert_eq!(list(&queue["held"], "cause"), ["report", "report"]);
    assert_eq!(queue["held"][0]["comment"]["text"], "one");
    assert_eq!(queue["held"][0]["why"], "spam");
    let (status, _) = send(&mut http, Method::POST, &format!("{HELD}/1/deny"), "").await;
    assert_eq!(status, 200);
    let (status, kept) = send(&mut http, Method::POST, &format!("{HELD}/2/allow"), "").await;
    assert_eq!((status, &kept["id"]), (200, &json!(2)));
    assert_eq!(texts(&mut http, "r").await, ["two"]);

    for (path, status, code) in [
        (report("9"), 404, "comment_not_found"),
        (report("1"), 404, "comment_not_found"),
        (report("x"), 400, "bad_comment_id"),
        (
            "/v1/rooms/none/comments/1/reports".to_owned(),
            404,
            "room_not_found",
        ),
    ] {
        let (found, json) = send(&mut http, Method::POST, &path, "").await;
        assert_eq!(
            (found, &json["error"]["code"]),
            (status, &json!(code)),
            "{path}"
        );
    }
    let (status, _) = send(&mut http, Method::POST, &report("2"), "").await;
    assert_eq!(status, 202);
    let (status, _) = send(&mut http, Method::DELETE, "/v1/rooms/r/comments/2", "").await;
    assert_eq!(status, 204);
    let (_, queue) = send(&mut http, Method::GET, HELD, "").await;
    assert_eq!(queue["held"], json!([]), "the text of a retracted comment");
    let path = format!("/v1/rooms/r/comments/2/reports?why={}", "x".repeat(201));
    let (status, json) = send(&mut http, Method::POST, &path, "").await;
    assert_eq!((status, &json["error"]["code"]), (400, &json!("bad_why")));
}

#[tokio::test]
async fn the_queue_is_bounded() {
    let limits = [
        "--posts-per-second-per-address",
        "1000000",
        "--posts-per-second-per-address-burst",
        "1000000",
    ];
    let server = Server::start(&limits);
    let mut http = server.http();
    put(
        &mut http,
        TERMS,
        &json!([{"term": "buy", "action": "hold"}]),
    )
    .await;
    for _ in 0..1_000 {
        post(&mut http, "r", "u", "buy").await.unwrap();
    }
    let refusal = post(&mut http, "r", "u", "buy").await.unwrap_err();
    assert_eq!(refusal.code, "held_queue_full");
    assert!(refusal.retry_after_ms.is_some());
    post(&mut http, "r", "u", "hello").await.unwrap();
}

#[tokio::test]
async fn erasing_a_user_empties_the_queue_of_them() {
    let server = Server::start(&[]);
    let mut http = server.http();
    put(
        &mut http,
        TERMS,
        &json!([{"term": "buy", "action": "hold"}]),
    )
    .await;
    for user in ["u", "v"] {
        post(&mut http, "r", user, "buy").await.unwrap();
    }
    send(&mut http, Method::DELETE, "/v1/users/u/comments", "").await;
    let (_, queue) = send(&mut http, Method::GET, HELD, "").await;
    assert_eq!(list(&queue["held"], "id"), ["2"]);
}

#[test]
fn only_those_who_may_moderate_get_at_terms_and_the_queue() {
    let server = Server::start(&[]);
    for request in [
        "GET /v1/terms".to_owned(),
        "PUT /v1/terms".to_owned(),
        format!("GET {TERMS}"),
        format!("PUT {TERMS}"),
        format!("GET {HELD}"),
        format!("POST {HELD}/1/allow"),
        format!("POST {HELD}/1/deny"),
    ] {
        assert_eq!(server.status_from_afar(&request), 403, "{request}");
    }
}
