//! Timeouts and bans: in force at once, on open connections too, and still after a restart.

mod support;

use danmaku_wire::Encoding;
use hyper::Method;
use serde_json::{Value, json};
use support::Server;
use support::moderate::{list, post, post_raw, refused, refused_over_websocket, send, trail};
use tempfile::TempDir;

const SANCTIONS: &str = "/v1/rooms/r/sanctions";
const EVERYWHERE: &str = "/v1/sanctions";

#[tokio::test]
async fn a_timeout_holds_at_once_and_after_a_restart() {
    let folder = TempDir::new().unwrap();
    let flags = ["--data", folder.path().to_str().unwrap()];
    let mut server = Server::start(&flags);
    let mut http = server.http();
    let mut viewer = server.watch("r", Encoding::Identity).await;
    let path = format!("{SANCTIONS}?why=rude");
    let timeout = r#"{"kind":"timeout","user":"u","duration_s":1209600}"#;
    let (status, made) = send(&mut http, Method::POST, &path, timeout).await;
    assert_eq!(status, 201, "{made}");
    assert_eq!(
        (&made["kind"], &made["user"]),
        (&json!("timeout"), &json!("u"))
    );
    assert_eq!((&made["room"], &made["why"]), (&json!("r"), &json!("rude")));
    let lasts = made["until"].as_u64().unwrap() - made["ts"].as_u64().unwrap();
    assert_eq!(lasts, 1_209_600_000);

    let refusal = post(&mut http, "r", "u", "hello").await.unwrap_err();
    assert_eq!(refusal.code, "timed_out");
    let wait = refusal.retry_after_ms.unwrap();
    assert!((1..=1_209_600_000).contains(&wait), "{wait}");
    assert_eq!(
        refused_over_websocket(&mut viewer, "u", "hello").await,
        "timed_out"
    );
    post(&mut http, "r", "v", "another user").await.unwrap();
    post(&mut http, "other", "u", "another room").await.unwrap();
    assert_eq!(server.stat("messages_moderated").await, 2);
    server.end("KILL");

    let mut server = Server::start(&flags);
    let mut http = server.http();
    assert_eq!(refused(&mut http, "r", "u", "hello").await, "timed_out");
    let path = format!("{SANCTIONS}/{}?why=sorry", made["id"]);
    let (status, _) = send(&mut http, Method::DELETE, &path, "").await;
    assert_eq!(status, 204);
    post(&mut http, "r", "u", "hello").await.unwrap();
    server.end("TERM");

    let server = Server::start(&flags);
    let mut http = server.http();
    post(&mut http, "r", "u", "hello").await.unwrap();
    let trail = trail(&mut http, "user=u").await;
    assert_eq!(trail, ["lift r u sorry", "timeout r u rude"]);
}

#[tokio::test]
async fn a_ban_may_be_everywhere_and_of_an_address() {
    let server = Server::start(&[]);
    let mut http = server.http();
    let ban = r#"{"kind":"ban","user":"u"}"#;
    let (status, made) = send(&mut http, Method::POST, EVERYWHERE, ban).await;
    assert_eq!(
        (status, &made["until"], &made["room"]),
        (201, &Value::Null, &Value::Null)
    );
    let refusal = post(&mut http, "r", "u", "hello").await.unwrap_err();
    assert_eq!(
        (refusal.code.as_str(), refusal.retry_after_ms),
        ("banned", None)
    );
    assert_eq!(refused(&mut http, "other", "u", "hello").await, "banned");

    // A back end's array names the one who is banned, and none of it is accepted.
    let array = r#"[{"user":"v","text":"a"},{"user":"u","text":"b"}]"#;
    let (status, json) = post_raw(&mut http, "r", array).await;
    assert_eq!((status, &json["error"]["index"]), (403, &json!(1)));
    assert_eq!(json["error"]["code"], "banned");
    assert_eq!(server.stat("comments_accepted").await, 0);

    let (_, listed) = send(&mut http, Method::GET, "/v1/sanctions?user=u", "").await;
    assert_eq!(listed["sanctions"], json!([made]));
    let (_, listed) = send(&mut http, Method::GET, "/v1/sanctions?user=v", "").await;
    assert_eq!(listed["sanctions"], json!([]));

    // All of this machine's requests come from one address.
    let ban = r#"{"kind":"ban","address":"::ffff:127.0.0.1","duration_s":600}"#;
    let (_, made) = send(&mut http, Method::POST, SANCTIONS, ban).await;
    assert_eq!(made["address"], "127.0.0.1");
    let refusal = post(&mut http, "r", "", "hello").await.unwrap_err();
    assert_eq!(refusal.code, "banned");
    assert!(refusal.retry_after_ms.is_some());
    post(&mut http, "other", "", "hello").await.unwrap();
}

#[tokio::test]
async fn sanctions_are_listed_page_by_page() {
    let server = Server::start(&[]);
    let mut http = server.http();
    for user in ["a", "b", "c"] {
        let ban = json!({"kind": "ban", "user": user}).to_string();
        send(&mut http, Method::POST, SANCTIONS, &ban).await;
    }
    // In place of the first.
    send(
        &mut http,
        Method::POST,
        SANCTIONS,
        r#"{"kind":"ban","user":"a"}"#,
    )
    .await;
    let path = format!("{SANCTIONS}?limit=2");
    let (_, page) = send(&mut http, Method::GET, &path, "").await;
    assert_eq!(list(&page["sanctions"], "user"), ["b", "c"]);
    let path = format!("{SANCTIONS}?limit=2&after={}", page["next"]);
    let (_, page) = send(&mut http, Method::GET, &path, "").await;
    assert_eq!(list(&page["sanctions"], "user"), ["a"]);
    assert_eq!(page["next"], Value::Null);
    for (query, code) in [("limit=0", "bad_limit"), ("after=x", "bad_after")] {
        let path = format!("{SANCTIONS}?{query}");
        let (status, json) = send(&mut http, Method::GET, &path, "").await;
        assert_eq!((status, &json["error"]["code"]), (400, &json!(code)));
    }
}

#[tokio::test]
async fn bad_sanctions_are_refused_by_name() {
    let server = Server::start(&[]);
    let mut http = server.http();
    for (body, field) in [
        ("nothing", Value::Null),
        ("[]", Value::Null),
        (r#"{"user":"u"}"#, json!("kind")),
        (r#"{"kind":"exile","user":"u"}"#, json!("kind")),
        (r#"{"kind":"ban"}"#, json!("user")),
        (
            r#"{"kind":"ban","user":"u","address":"::1"}"#,
            json!("user"),
        ),
        (r#"{"kind":"ban","user":""}"#, json!("user")),
        (r#"{"kind":"ban","user":7}"#, json!("user")),
        (r#"{"kind":"ban","address":"localhost"}"#, json!("address")),
        (r#"{"kind":"timeout","user":"u"}"#, json!("duration_s")),
        (
            r#"{"kind":"timeout","user":"u","duration_s":0}"#,
            json!("duration_s"),
        ),
        (
            r#"{"kind":"timeout","user":"u","duration_s":1209601}"#,
            json!("duration_s"),
        ),
        (
            r#"{"kind":"ban","user":"u","duration_s":"1"}"#,
            json!("duration_s"),
        ),
    ] {
        let (status, json) = send(&mut http, Method::POST, SANCTIONS, body).await;
        let error = &json["error"];
        assert_eq!(
            (status, &error["code"]),
            (400, &json!("bad_sanction")),
            "{body}"
        );
        assert_eq!(error["field"], field, "{body}");
    }
    let why = format!("{SANCTIONS}?why={}", "x".repeat(201));
    let ban = r#"{"kind":"ban","user":"u"}"#;
    let (status, json) = send(&mut http, Method::POST, &why, ban).await;
    assert_eq!((status, &json["error"]["code"]), (400, &json!("bad_why")));
    post(&mut http, "r", "u", "hello").await.unwrap();

    let (_, made) = send(&mut http, Method::POST, SANCTIONS, ban).await;
    let id = &made["id"];
    for path in [
        format!("{SANCTIONS}/x"),
        format!("{SANCTIONS}/99"),
        format!("{EVERYWHERE}/{id}"),
        format!("/v1/rooms/other/sanctions/{id}"),
    ] {
        let (status, json) = send(&mut http, Method::DELETE, &path, "").await;
        assert_eq!(
            (status, &json["error"]["code"]),
            (404, &json!("sanction_not_found"))
        );
    }
    assert_eq!(refused(&mut http, "r", "u", "hello").await, "banned");
}

#[test]
fn only_those_who_may_moderate_get_at_sanctions() {
    let server = Server::start(&[]);
    for path in [SANCTIONS, EVERYWHERE] {
        for request in [
            format!("POST {path}"),
            format!("GET {path}"),
            format!("DELETE {path}/1"),
        ] {
            assert_eq!(server.status_from_afar(&request), 403, "{request}");
        }
    }
}
