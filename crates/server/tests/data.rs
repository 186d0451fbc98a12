//! The server with `--data`: comments outlive it, and a disk that fails refuses posts and nothing else.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use danmaku_client::{ClientError, Connection, Event, HttpAnswer, HttpClient, NewComment};
use danmaku_wire::{Encoding, IdempotencyKey, Position, RoomId, Seq};
use hyper::{Method, StatusCode};
use serde_json::Value;
use support::{PATIENCE, Server, run};
use tempfile::TempDir;

fn start(folder: &Path, flags: &[&str]) -> Server {
    let mut all = vec!["--data", folder.to_str().unwrap(), "--window-ms", "20"];
    all.extend(flags);
    Server::start(&all)
}

fn room() -> RoomId {
    RoomId::parse("r").unwrap()
}

async fn post(http: &mut HttpClient, texts: &[&str]) -> Result<Vec<u64>, ClientError> {
    let comments: Vec<_> = texts.iter().map(|text| NewComment::new(*text)).collect();
    let posted = http.post_comments(&room(), &comments).await?;
    Ok(posted.ids.iter().map(|id| id.value()).collect())
}

async fn get(http: &mut HttpClient, path: &str) -> HttpAnswer {
    http.send(Method::GET, path, bytes::Bytes::new())
        .await
        .unwrap()
}

async fn next(viewer: &mut Connection) -> Event {
    let next = tokio::time::timeout(PATIENCE, viewer.next());
    next.await.expect("nothing came").unwrap()
}

/// The next batch with comments: its texts.
async fn texts(viewer: &mut Connection) -> Vec<String> {
    loop {
        match next(viewer).await {
            Event::Batch(batch) if !batch.comments.is_empty() => {
                return batch.comments.into_iter().map(|it| it.text).collect();
            }
            Event::Joined(_) | Event::Batch(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

fn code(answer: &HttpAnswer) -> (StatusCode, String) {
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    let code = body["error"]["code"].as_str().unwrap().to_owned();
    (answer.status, code)
}

async fn ready(server: &Server) -> HttpAnswer {
    get(&mut server.http(), "/readyz").await
}

/// Waits until a post is accepted again.
async fn recovered(server: &Server) {
    let start = std::time::Instant::now();
    while post(&mut server.http(), &["again"]).await.is_err() {
        assert!(start.elapsed() < PATIENCE, "does not recover");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(ready(server).await.status, StatusCode::OK);
}

/// Posts get `unavailable`, and `/readyz` says why.
async fn refuses(server: &Server, why: &str) {
    let unavailable = (StatusCode::SERVICE_UNAVAILABLE, "unavailable".to_owned());
    let body = r#"{"text":"no"}"#.into();
    let path = "/v1/rooms/r/comments";
    let refused = server.http().send(Method::POST, path, body).await;
    assert_eq!(code(&refused.unwrap()), unavailable);
    let not_ready = ready(server).await;
    assert_eq!(code(&not_ready), unavailable);
    let body = String::from_utf8_lossy(&not_ready.body);
    assert!(body.contains(why), "{body}");
}

/// Watching and joining go on.
async fn goes_on(server: &Server, viewer: &mut Connection) {
    viewer.like(3).await.unwrap();
    loop {
        if let Event::Batch(batch) = next(viewer).await
            && batch.likes == 3
        {
            break;
        }
    }
    let mut join = server.join("r");
    join.history = Some(10);
    let mut joins = Connection::connect(&join).await.unwrap();
    assert!(matches!(next(&mut joins).await, Event::Joined(_)));
}

#[tokio::test]
async fn a_killed_server_goes_on_where_it_was() {
    let folder = TempDir::new().unwrap();
    let mut server = start(folder.path(), &[]);
    let mut viewer = server.watch("r", Encoding::Identity).await;
    let Event::Joined(joined) = next(&mut viewer).await else {
        panic!("not joined");
    };
    let mut http = server.http();
    let key = IdempotencyKey::new("k").unwrap();
    let new = [NewComment::new("one")];
    let first = http
        .post_comments_with_key(&room(), &new, &key)
        .await
        .unwrap();
    assert_eq!(texts(&mut viewer).await, ["one"]);
    assert_eq!(post(&mut http, &["two", "three"]).await.unwrap(), [2, 3]);
    server.end("KILL");

    let server = start(folder.path(), &[]);
    let mut http = server.http();
    // Nobody has opened it yet.
    let view = http.get_json("/v1/rooms/r").await.unwrap();
    assert_eq!((&view["seq"], &view["sealed"]), (&3.into(), &3.into()));
    assert_eq!(view["epoch"], joined.epoch.value());
    let page = http.comments(&room(), None, None).await.unwrap();
    assert_eq!(page.comments.len(), 3);
    assert!(
        http.get_json("/v1/rooms").await.unwrap()["rooms"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    let again = http
        .post_comments_with_key(&room(), &new, &key)
        .await
        .unwrap();
    assert_eq!(again, first);

    let mut join = server.join("r");
    join.since = Some(Position {
        epoch: joined.epoch,
        seq: Seq::new(1),
    });
    let mut viewer = Connection::connect(&join).await.unwrap();
    let Event::Joined(joined) = next(&mut viewer).await else {
        panic!("not joined");
    };
    assert!(joined.resumed && joined.after == Seq::new(1));
    assert_eq!(texts(&mut viewer).await, ["two", "three"]);
    assert_eq!(post(&mut http, &["four"]).await.unwrap(), [4]);
    assert_eq!(texts(&mut viewer).await, ["four"]);
}

#[tokio::test]
async fn comments_of_one_read_share_a_commit_and_keep_their_order() {
    let folder = TempDir::new().unwrap();
    let server = start(folder.path(), &[]);
    let mut viewer = server.watch("r", Encoding::Identity).await;
    for n in 0..8 {
        let text = format!(r#"{{"type":"comment","text":"c{n}","ref":{n}}}"#);
        viewer.send_text(&text).await.unwrap();
    }
    let (mut acks, mut shown) = (Vec::new(), Vec::new());
    while acks.len() < 8 || shown.len() < 8 {
        match next(&mut viewer).await {
            Event::Ack(ack) => acks.push(ack.id.value()),
            Event::Batch(batch) => shown.extend(batch.comments.into_iter().map(|it| it.text)),
            Event::Joined(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(acks, (1..=8).collect::<Vec<_>>());
    assert_eq!(shown, (0..8).map(|n| format!("c{n}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn pages_are_read_by_time_and_from_the_newest() {
    let folder = TempDir::new().unwrap();
    let mut server = start(folder.path(), &["--log-comments-max", "4"]);
    let mut http = server.http();
    for n in 0..10 {
        post(&mut http, &[&format!("c{n}")]).await.unwrap();
    }
    server.sealed_until("r", 10).await;
    for restarted in [false, true] {
        if restarted {
            server.end("TERM");
            server = start(folder.path(), &["--log-comments-max", "4"]);
            http = server.http();
        }
        let page = http.get_json("/v1/rooms/r/comments").await.unwrap();
        let ts = |n: usize| page["comments"][n]["ts"].as_u64().unwrap();
        let check = async |query: String, expected: &[u64], more: bool| {
            let path = format!("/v1/rooms/r/comments?{query}");
            let page = server.http().get_json(&path).await.unwrap();
            let ids = page["comments"].as_array().unwrap().iter();
            let ids: Vec<_> = ids.map(|it| it["id"].as_u64().unwrap()).collect();
            assert_eq!(page["gap"], Value::Null, "{query}");
            assert_eq!(
                (&*ids, &page["more"]),
                (expected, &more.into()),
                "{query}: {page}"
            );
            (
                page["after"].as_u64().unwrap(),
                page["seq"].as_u64().unwrap(),
            )
        };
        let (after, seq) = check("order=newest&limit=3".into(), &[10, 9, 8], true).await;
        assert_eq!((after, seq), (7, 10));
        check(
            format!("order=newest&limit=3&until={after}"),
            &[7, 6, 5],
            true,
        )
        .await;
        check("order=newest&until=2".into(), &[2, 1], false).await;
        check("since=2&until=4".into(), &[3, 4], false).await;
        check("since=4&until=4".into(), &[], false).await;
        // Comments of the same millisecond belong together.
        let from = (0..10).find(|&n| ts(n) == ts(5)).unwrap() as u64;
        let to = (0..10).find(|&n| ts(n) >= ts(8)).unwrap() as u64;
        let between: Vec<_> = (from + 1..=to).collect();
        check(format!("from={}&to={}", ts(5), ts(8)), &between, false).await;
        let newest: Vec<_> = between.into_iter().rev().collect();
        check(
            format!("order=newest&from={}&to={}", ts(5), ts(8)),
            &newest,
            false,
        )
        .await;
        check("from=9007199254740991".into(), &[], false).await;
        check("to=0".into(), &[], false).await;
    }
}

#[tokio::test]
async fn a_users_comments_are_exported_and_erased() {
    let folder = TempDir::new().unwrap();
    let server = start(folder.path(), &[]);
    let mut http = server.http();
    for room in ["a", "b"] {
        let body = r#"[{"text":"mine","user":"u/1"},{"text":"theirs","user":"u"},{"text":"\"user\":\"u/1\",","user":"v"}]"#;
        let path = format!("/v1/rooms/{room}/comments");
        let posted = http.send(Method::POST, &path, body.into()).await.unwrap();
        assert_eq!(posted.status, StatusCode::CREATED);
    }
    let path = "/v1/users/u%2F1/comments";
    let export = http.get_json(path).await.unwrap();
    let found = export["comments"].as_array().unwrap();
    assert_eq!(found.len(), 2, "{export}");
    assert_eq!(
        (&found[1]["room"], &found[1]["comment"]["id"]),
        (&"b".into(), &1.into())
    );
    assert_eq!(export["next"], Value::Null);
    let rest = format!("{path}?after_room=a&after_id=1");
    let rest = http.get_json(&rest).await.unwrap();
    assert_eq!(rest["comments"].as_array().unwrap().len(), 1);

    let mut viewer = server.watch("b", Encoding::Identity).await;
    let erased = http
        .send(Method::DELETE, path, bytes::Bytes::new())
        .await
        .unwrap();
    assert_eq!(erased.body, r#"{"comments":2}"#);
    loop {
        if let Event::Batch(batch) = next(&mut viewer).await
            && !batch.events.is_empty()
        {
            break;
        }
    }
    assert_eq!(
        http.get_json(path).await.unwrap()["comments"],
        Value::Array(Vec::new())
    );
    let page = http
        .comments(&RoomId::parse("a").unwrap(), None, None)
        .await
        .unwrap();
    assert_eq!(page.comments.len(), 2);
}

#[tokio::test]
async fn a_comment_in_a_room_that_nobody_uses_can_be_retracted() {
    let folder = TempDir::new().unwrap();
    let mut server = start(folder.path(), &[]);
    post(&mut server.http(), &["one", "two"]).await.unwrap();
    server.end("TERM");
    let server = start(folder.path(), &[]);
    let mut http = server.http();
    http.delete_comment(&room(), Seq::new(1)).await.unwrap();
    http.delete_comment(&room(), Seq::new(1)).await.unwrap();
    assert!(http.delete_comment(&room(), Seq::new(3)).await.is_err());
    let page = http.comments(&room(), None, None).await.unwrap();
    assert_eq!((page.comments.len(), page.events.len()), (1, 1));
}

#[tokio::test]
async fn a_locked_file_refuses_posts_and_nothing_else() {
    let folder = TempDir::new().unwrap();
    let server = start(folder.path(), &[]);
    let mut http = server.http();
    post(&mut http, &["one"]).await.unwrap();
    let mut viewer = server.watch("r", Encoding::Identity).await;
    let lock = rusqlite::Connection::open(folder.path().join("danmaku.db")).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    refuses(&server, "database is locked").await;
    goes_on(&server, &mut viewer).await;
    let page = http.comments(&room(), None, None).await.unwrap();
    assert_eq!(page.comments.len(), 1);
    lock.execute_batch("ROLLBACK").unwrap();
    recovered(&server).await;
    assert_eq!(texts(&mut viewer).await, ["again"]);
}

/// In a user namespace without a mapping, the rights of files count for root, too.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_read_only_file_refuses_posts_until_a_restart_with_rights() {
    use std::os::unix::fs::PermissionsExt;
    let folder = TempDir::new().unwrap();
    let flags = ["--data", folder.path().to_str().unwrap()];
    let unshare = || {
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "sh", "-c"]);
        unshare
    };
    if !unshare().arg("true").status().is_ok_and(|it| it.success()) {
        println!("no user may create a namespace here");
        return;
    }
    let mut server = Server::start(&flags);
    post(&mut server.http(), &["one"]).await.unwrap();
    server.end("TERM");
    // SQLite gives the write-ahead log the rights of the file.
    let allow = |mode| {
        for name in ["danmaku.db", "danmaku.db-shm", "danmaku.db-wal"] {
            let rights = fs::Permissions::from_mode(mode);
            fs::set_permissions(folder.path().join(name), rights).unwrap();
        }
    };
    allow(0o444);
    let mut server = Server::start_in(unshare(), "true", &flags);
    let mut viewer = server.watch("r", Encoding::Identity).await;
    refuses(&server, "readonly").await;
    goes_on(&server, &mut viewer).await;
    // SQLite has opened it for reading only.
    server.end("TERM");
    allow(0o644);
    recovered(&start(folder.path(), &[])).await;
}

#[tokio::test]
async fn a_file_that_is_damaged_while_it_is_used_refuses_posts_for_good() {
    let folder = TempDir::new().unwrap();
    let flags = [
        ["--log-comments-max", "4"],
        ["--posts-per-second-per-address", "100000"],
        ["--posts-per-second-per-address-burst", "100000"],
    ]
    .concat();
    let mut server = start(folder.path(), &flags);
    let text = "x".repeat(190);
    for _ in 0..50 {
        post(&mut server.http(), &[&*text; 100]).await.unwrap();
    }
    server.end("TERM");
    let mut server = start(folder.path(), &flags);
    let mut viewer = server.watch("r", Encoding::Identity).await;
    let file = folder.path().join("danmaku.db");
    let damaged = fs::OpenOptions::new().write(true).open(&file).unwrap();
    let length = damaged.metadata().unwrap().len();
    for page in 2..length / 4_096 {
        damaged.write_all_at(&[0xA5; 4_096], page * 4_096).unwrap();
    }
    // A read finds it.
    let path = "/v1/rooms/r/comments";
    let unread = get(&mut server.http(), path).await;
    assert_eq!(unread.status, StatusCode::SERVICE_UNAVAILABLE);
    refuses(&server, "malformed: restore a backup").await;
    goes_on(&server, &mut viewer).await;
    server.end("TERM");
    let (status, _, stderr) = run(&["--data", folder.path().to_str().unwrap()]);
    assert_eq!(status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("is damaged"), "{stderr}");
}

#[test]
fn a_folder_that_cannot_be_used_is_one_line_and_exit_code_2() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().to_str().unwrap();
    let refused = |said: &str| {
        let (status, _, stderr) = run(&["--listen", "127.0.0.1:0", "--data", path]);
        assert_eq!(status.code(), Some(2), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(stderr.contains(said), "{stderr}");
    };
    let mut server = start(folder.path(), &[]);
    refused("is in use by another process");
    server.end("TERM");
    let file = folder.path().join("danmaku.db");
    let connection = rusqlite::Connection::open(&file).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    refused("newer version");
    std::fs::write(&file, [7; 8192]).unwrap();
    refused("is damaged");
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    refused("cannot open");
}

/// The commands of the runbook in `deploy/README.md`, block by block.
fn runbook() -> Vec<String> {
    let text = include_str!("../../../deploy/README.md");
    let (_, part) = text.split_once("### Back up and restore").unwrap();
    let blocks = part.split("```sh\n").skip(1);
    blocks
        .map(|it| it.split("```").next().unwrap().to_owned())
        .collect()
}

fn run_block(block: &str, folder: &Path, backup: &Path) -> std::process::ExitStatus {
    let binary = Path::new(env!("CARGO_BIN_EXE_danmaku-server"));
    let path = std::env::var("PATH").unwrap();
    Command::new("sh")
        .args(["-e", "-c", block])
        .env(
            "PATH",
            format!("{}:{path}", binary.parent().unwrap().display()),
        )
        .env("DATA", folder)
        .env("BACKUP", backup)
        .status()
        .unwrap()
}

#[tokio::test]
async fn a_backup_of_a_running_server_is_restored_as_the_runbook_says() {
    let folders = TempDir::new().unwrap();
    let (folder, backup) = (folders.path().join("data"), folders.path().join("backup"));
    let mut server = start(&folder, &[]);
    post(&mut server.http(), &["one", "two"]).await.unwrap();
    let [back_up, restore] = &runbook()[..] else {
        panic!("the runbook has other blocks");
    };
    assert!(run_block(back_up, &folder, &backup).success());
    assert_eq!(fs::read_dir(folders.path()).unwrap().count(), 2, "one file");
    // What is there is never overwritten.
    assert!(!run_block(back_up, &folder, &backup).success());
    let after = post(&mut server.http(), &["three"]).await.unwrap();
    let old = server.http().comments(&room(), None, None).await.unwrap();
    let mut join = server.join("r");
    join.since = Some(Position {
        epoch: old.epoch,
        seq: Seq::new(after[0]),
    });
    server.end("TERM");

    assert!(run_block(restore, &folder, &backup).success());
    let mut server = start(&folder, &[]);
    let page = server.http().comments(&room(), None, None).await.unwrap();
    let texts: Vec<_> = page.comments.iter().map(|it| &*it.text).collect();
    assert_eq!(texts, ["one", "two"]);
    // Its next comment takes the position of the lost one, in another epoch.
    assert_eq!(post(&mut server.http(), &["four"]).await.unwrap(), after);
    assert!(page.epoch > old.epoch);
    join.server = server.server_address();
    let mut viewer = Connection::connect(&join).await.unwrap();
    let Event::Joined(joined) = next(&mut viewer).await else {
        panic!("not joined");
    };
    assert_eq!((joined.resumed, joined.epoch), (false, page.epoch));
    // The epochs begin once.
    server.end("TERM");
    let server = start(&folder, &[]);
    let again = server.http().comments(&room(), None, None).await.unwrap();
    assert_eq!(again.epoch, page.epoch);
}

#[tokio::test]
async fn a_damaged_file_is_not_backed_up() {
    let folder = TempDir::new().unwrap();
    let mut server = start(folder.path(), &[]);
    let text = "x".repeat(190);
    post(&mut server.http(), &[&*text; 90]).await.unwrap();
    server.end("TERM");
    let file = folder.path().join("danmaku.db");
    let length = fs::metadata(&file).unwrap().len();
    let damaged = fs::OpenOptions::new().write(true).open(&file).unwrap();
    damaged
        .write_all_at(&[0xA5; 4_096], length / 8_192 * 4_096)
        .unwrap();
    let backup = folder.path().join("backup");
    let paths = [folder.path(), &backup].map(|path| path.to_str().unwrap());
    let (status, _, stderr) = run(&["backup", "--data", paths[0], paths[1]]);
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(
        stderr.lines().count() == 1 && stderr.contains("damaged"),
        "{stderr}"
    );
    assert!(!backup.exists());
}

#[tokio::test]
async fn a_room_is_exported_without_what_was_retracted() {
    let folder = TempDir::new().unwrap();
    let server = start(folder.path(), &[]);
    let mut http = server.http();
    post(&mut http, &["one", "two", "three"]).await.unwrap();
    http.delete_comment(&room(), Seq::new(2)).await.unwrap();
    let address = format!("http://{}", server.address());
    let (status, stdout, stderr) = run(&["export", "r", "--server", &address, "--format", "xml"]);
    assert!(status.success(), "{stderr}");
    let texts: Vec<_> = (stdout.lines())
        .filter_map(|line| line.strip_suffix("</d>")?.rsplit('>').next())
        .collect();
    assert_eq!(texts, ["one", "three"]);
    let (status, _, stderr) = run(&["export", "nowhere", "--server", &address]);
    assert_eq!(
        (status.code(), stderr.lines().count()),
        (Some(1), 1),
        "{stderr}"
    );
}
