//! A room's figures per step of time: comments, likes and viewers, live and after a restart.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use danmaku_client::{HttpClient, NewComment};
use danmaku_wire::{Encoding, RoomId};
use serde_json::Value;
use support::Server;
use tempfile::TempDir;

fn now_ms() -> u64 {
    let now = std::time::SystemTime::now();
    let since = now.duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

/// The figures of a minute around the test, and the sums of their members.
async fn sums(http: &mut HttpClient, from: u64) -> (usize, [u64; 3]) {
    let path = format!(
        "/v1/rooms/r/stats?from={from}&to={}&step=7000",
        from + 120_000
    );
    let figures = http.get_json(&path).await.unwrap();
    assert_eq!(
        (&figures["from"], &figures["step"]),
        (&from.into(), &7_000.into())
    );
    let all = |name: &str| -> Vec<u64> {
        let steps = figures[name].as_array().unwrap().iter();
        steps.map(|step| step.as_u64().unwrap()).collect()
    };
    let (comments, likes, viewers) = (all("comments"), all("likes"), all("viewers"));
    assert_eq!(
        (comments.len(), likes.len()),
        (viewers.len(), viewers.len())
    );
    let most = viewers.iter().max().copied().unwrap();
    (
        comments.len(),
        [comments.iter().sum(), likes.iter().sum(), most],
    )
}

#[tokio::test]
async fn figures_are_there_at_once_and_after_a_restart() {
    let from = now_ms() - 5_000;
    let folder = TempDir::new().unwrap();
    for flags in [
        &[
            "--window-ms",
            "20",
            "--data",
            folder.path().to_str().unwrap(),
        ][..],
        &["--window-ms", "20"],
    ] {
        let mut server = Server::start(flags);
        let mut http = server.http();
        let viewer = server.watch("r", Encoding::Identity).await;
        let room = RoomId::parse("r").unwrap();
        let new = ["a", "b", "c"].map(NewComment::new);
        let posted = http.post_comments(&room, &new).await.unwrap();
        viewer.like(4).await.unwrap();
        server.stat_until("likes", |likes| likes == 4).await;
        assert_eq!(sums(&mut http, from).await, (18, [3, 4, 1]));
        // A retracted comment was one, and its retraction is none.
        http.delete_comment(&room, posted.ids[1]).await.unwrap();
        assert_eq!(sums(&mut http, from).await, (18, [3, 4, 1]));
        server.end("TERM");
        if flags.len() > 2 {
            let server = Server::start(flags);
            assert_eq!(sums(&mut server.http(), from).await, (18, [3, 4, 1]));
        }
    }
}

#[tokio::test]
async fn bad_ranges_are_refused_by_name() {
    let server = Server::start(&[]);
    for (query, code, field) in [
        ("from=x", "bad_time", "from"),
        ("to=-1", "bad_time", "to"),
        ("from=9&to=9", "bad_range", "from"),
        ("step=0", "bad_step", "step"),
        ("from=0&to=1000001&step=1000", "too_many_steps", "step"),
    ] {
        let request = format!(
            "GET /v1/rooms/r/stats?{query} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        );
        let answer = String::from_utf8(server.raw(request.as_bytes())).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
        let error = &serde_json::from_str::<Value>(body).unwrap()["error"];
        assert_eq!(
            (&error["code"], &error["field"]),
            (&code.into(), &field.into())
        );
    }
    let missing = server.http().get_json("/v1/rooms/r/stats").await;
    assert!(missing.unwrap_err().to_string().contains("no such room"));
}
