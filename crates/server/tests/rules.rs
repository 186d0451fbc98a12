//! Rules of rooms: which comments they take.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use danmaku_wire::Encoding;
use hyper::Method;
use serde_json::{Value, json};
use support::Server;
use support::moderate::{post, post_raw, refused, refused_over_websocket, send};
use tempfile::TempDir;

const SETTINGS: &str = "/v1/rooms/r/settings";

/// Sets only what is given, and unsets the rest.
async fn set(http: &mut danmaku_client::HttpClient, settings: Value) {
    let mut all = json!({
        "emoji_only": null, "no_links": null, "special_percent_max": null, "unique_s": null, "members_only": null,
    });
    all.as_object_mut()
        .unwrap()
        .extend(settings.as_object().unwrap().clone());
    let (status, json) = send(http, Method::PATCH, SETTINGS, &all.to_string()).await;
    assert_eq!(status, 200, "{json}");
}

#[tokio::test]
async fn each_rule_has_its_refusal() {
    let server = Server::start(&[]);
    let mut http = server.http();
    let mut viewer = server.watch("r", Encoding::Identity).await;
    for (settings, bad, code, status, good) in [
        (
            json!({"emoji_only": true}),
            "so 🔥",
            "emoji_only",
            422,
            "🔥 🔥",
        ),
        (
            json!({"no_links": true}),
            "see ｅｘａｍｐｌｅ．ｃｏｍ",
            "link_not_allowed",
            422,
            "3.5 of 5",
        ),
        (
            json!({"special_percent_max": 50}),
            "h???",
            "too_many_special_characters",
            422,
            "hm??",
        ),
    ] {
        set(&mut http, settings).await;
        assert_eq!(refused(&mut http, "r", "u", bad).await, code);
        assert_eq!(refused_over_websocket(&mut viewer, "u", bad).await, code);
        let array = json!([{"text": good}, {"text": bad}]).to_string();
        let (found, json) = post_raw(&mut http, "r", &array).await;
        assert_eq!(
            (found, &json["error"]["index"]),
            (status, &json!(1)),
            "{json}"
        );
        assert_eq!(json["error"]["code"], code);
        post(&mut http, "r", "u", good).await.unwrap();
        post(&mut http, "other", "u", bad).await.unwrap();
    }
    // Without accounts, nobody is a member.
    set(&mut http, json!({"members_only": true})).await;
    assert_eq!(refused(&mut http, "r", "u", "hello").await, "members_only");
    set(&mut http, json!({})).await;
    post(&mut http, "r", "u", "so 🔥, see example.com!!!!!!!!!!!")
        .await
        .unwrap();
}

#[tokio::test]
async fn a_text_can_be_said_once_in_a_while() {
    let server = Server::start(&[]);
    let mut http = server.http();
    set(&mut http, json!({"unique_s": 3600})).await;
    post(&mut http, "r", "u", "Buy this NOW!").await.unwrap();
    let refusal = post(&mut http, "r", "v", "buy this now").await.unwrap_err();
    assert_eq!(refusal.code, "repeated_text");
    let wait = refusal.retry_after_ms.unwrap();
    assert!((1..=3_600_000).contains(&wait), "{wait}");
    let (status, json) = post_raw(&mut http, "r", r#"[{"text":"a"},{"text":"A"}]"#).await;
    assert_eq!((status, &json["error"]["index"]), (429, &json!(1)));
    // The array was refused as a whole.
    post(&mut http, "r", "u", "a").await.unwrap();
    post(&mut http, "other", "u", "buy this now").await.unwrap();
    post(&mut http, "other", "u", "buy this now").await.unwrap();
}

#[tokio::test]
async fn rules_outlive_a_restart_and_have_defaults() {
    let folder = TempDir::new().unwrap();
    let flags = ["--data", folder.path().to_str().unwrap()];
    let mut server = Server::start(&flags);
    let mut http = server.http();
    let all = r#"{"no_links":true,"emoji_only":true}"#;
    send(&mut http, Method::PATCH, "/v1/settings", all).await;
    set(&mut http, json!({"emoji_only": false})).await;
    server.end("KILL");

    let server = Server::start(&flags);
    let mut http = server.http();
    assert_eq!(
        refused(&mut http, "other", "u", "hello").await,
        "emoji_only"
    );
    post(&mut http, "r", "u", "hello").await.unwrap();
    assert_eq!(
        refused(&mut http, "r", "u", "example.com").await,
        "link_not_allowed"
    );
}
