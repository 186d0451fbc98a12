//! Rooms as files: streams, export over HTTP, import into a stopped server's folder.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use danmaku_client::{HttpAnswer, HttpClient, NewComment};
use danmaku_wire::{Mode, RoomId, Seq};
use hyper::Method;
use serde_json::{Value, json};
use support::{PATIENCE, Server, run};
use tempfile::TempDir;

fn start(folder: &Path) -> Server {
    Server::start(&["--data", folder.to_str().unwrap()])
}

fn room() -> RoomId {
    RoomId::parse("r").unwrap()
}

async fn get(http: &mut HttpClient, path: &str) -> HttpAnswer {
    http.send(Method::GET, path, Bytes::new()).await.unwrap()
}

async fn text(http: &mut HttpClient, path: &str) -> String {
    http.get_text(path).await.unwrap()
}

/// The status and code of a refusal.
fn refused(answer: &HttpAnswer) -> (u16, String) {
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    let code = body["error"]["code"].as_str().unwrap().to_owned();
    (answer.status.as_u16(), code)
}

/// A file of comments, one every 10 ms.
fn jsonl(count: u64, text: &str) -> String {
    let mut file = String::new();
    for id in 1..=count {
        let ts = START_MS + id * 10;
        writeln!(file, r#"{{"id":{id},"ts":{ts},"text":"{id} {text}"}}"#).unwrap();
    }
    file
}

const START_MS: u64 = 1_764_000_000_000;

/// Imports `text` as a file with this name; returns the exit code and the line on stderr.
fn import(folder: &Path, name: &str, text: &str, flags: &[&str]) -> (Option<i32>, String) {
    let files = TempDir::new().unwrap();
    let file: PathBuf = files.path().join(name);
    fs::write(&file, text).unwrap();
    let (file, data) = (file.to_str().unwrap(), folder.to_str().unwrap());
    let (status, _, stderr) = run(&[&["import", "r", file, "--data", data], flags].concat());
    (status.code(), stderr)
}

#[tokio::test]
async fn a_stream_ends_only_when_the_change_says_so() {
    let server = Server::start(&[]);
    let send = async |method, path: &str, body: &str| {
        let body = Bytes::from(body.to_owned());
        server.http().send(method, path, body).await.unwrap()
    };
    let begun = send(Method::POST, "/v1/rooms/r/streams", r#"{"start":5}"#).await;
    let begun: Value = serde_json::from_slice(&begun.body).unwrap();
    let path = format!("/v1/rooms/r/streams/{}", begun["id"]);
    for body in [r#"{"end":1}"#, r#"{"name":"x","end":"now"}"#, "{}", ""] {
        let refused = refused(&send(Method::PATCH, &path, body).await);
        assert_eq!(refused, (400, "bad_stream".to_owned()), "{body}");
    }
    let renamed = send(Method::PATCH, &path, r#"{"title":"two","start":4}"#).await;
    let renamed: Value = serde_json::from_slice(&renamed.body).unwrap();
    let expected = json!({"id": begun["id"], "start": 4, "title": "two"});
    assert_eq!(renamed, expected);
    let listed = server.http().get_json("/v1/rooms/r/streams").await.unwrap();
    assert_eq!(listed, json!({"streams": [expected]}));
}

#[tokio::test]
async fn streams_are_kept_and_times_are_relative_to_them() {
    let folder = TempDir::new().unwrap();
    let server = start(folder.path());
    let mut http = server.http();
    let path = "/v1/rooms/r/streams";
    let post = async |body: &str| {
        let body = Bytes::from(body.to_owned());
        server.http().send(Method::POST, path, body).await.unwrap()
    };
    assert_eq!(text(&mut http, path).await, r#"{"streams":[]}"#);
    for (body, expected) in [
        ("[]", (400, "bad_stream")),
        (r#"{"start":-1}"#, (400, "bad_stream")),
        (r#"{"start":5,"end":4}"#, (400, "bad_stream")),
        (r#"{"name":"x"}"#, (400, "bad_stream")),
    ] {
        let (status, code) = refused(&post(body).await);
        assert_eq!((status, &*code), expected, "{body}");
    }
    let body = format!(
        r#"{{"start":{START_MS},"end":{},"title":"one"}}"#,
        START_MS + 500
    );
    let first: Value = serde_json::from_slice(&post(&body).await.body).unwrap();
    let second: Value = serde_json::from_slice(&post("").await.body).unwrap();
    let now = second["start"].as_u64().unwrap();
    assert!(now > START_MS);

    let path = format!("/v1/rooms/r/streams/{}", second["id"]);
    let end = async |path: &str, body: &str| {
        let body = Bytes::from(body.to_owned());
        server.http().send(Method::PATCH, path, body).await.unwrap()
    };
    let ended: Value = serde_json::from_slice(&end(&path, r#"{"end":"now"}"#).await.body).unwrap();
    assert!(ended["end"].as_u64().unwrap() >= now);
    let unknown = end("/v1/rooms/r/streams/99", r#"{"end":"now"}"#).await;
    assert_eq!(refused(&unknown), (404, "stream_not_found".to_owned()));
    let listed = json!({"streams": [first, ended]});
    let streams = http.get_json("/v1/rooms/r/streams").await.unwrap();
    assert_eq!(streams, listed);

    // Only from this machine.
    let request = b"POST /v1/rooms/r/streams HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 192.0.2.1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let answer = String::from_utf8(server.raw(request)).unwrap();
    assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("\"forbidden\""));
    drop(server);

    let file = jsonl(100, "x");
    assert_eq!(
        import(folder.path(), "a.jsonl", &file, &[]),
        (Some(0), String::new())
    );
    let server = start(folder.path());
    let mut http = server.http();
    assert_eq!(http.get_json("/v1/rooms/r/streams").await.unwrap(), listed);
    // Nothing was posted since the second stream began.
    let last = text(&mut http, "/v1/rooms/r/export?format=dandanplay").await;
    assert_eq!(serde_json::from_str::<Value>(&last).unwrap()["count"], 0);
    let first = format!("/v1/rooms/r/export?format=xml&stream={}", first["id"]);
    let first = text(&mut http, &first).await;
    assert_eq!(
        first.matches("<d ").count(),
        49,
        "the stream ends after 500 ms"
    );
    assert!(first.contains("<d p=\"0.490,1,25,16777215,1764000000,0,00000000,49\">49 x</d>"));
    for (query, expected) in [
        ("stream=99", (404, "stream_not_found")),
        ("stream=x", (400, "bad_stream")),
        ("stream=1&start=2", (400, "bad_stream")),
        ("format=srt", (400, "bad_format")),
        ("from=x", (400, "bad_time")),
    ] {
        let answer = get(&mut http, &format!("/v1/rooms/r/export?{query}")).await;
        let (status, code) = refused(&answer);
        assert_eq!((status, &*code), expected, "{query}");
    }
    let answer = get(&mut http, "/v1/rooms/nowhere/export").await;
    assert_eq!(refused(&answer), (404, "room_not_found".to_owned()));
}

#[tokio::test]
async fn a_room_is_exported_by_time_and_without_what_was_retracted() {
    let folder = TempDir::new().unwrap();
    assert_eq!(
        import(folder.path(), "a.jsonl", &jsonl(1_000, "x"), &[]).0,
        Some(0)
    );
    let server = start(folder.path());
    let mut http = server.http();
    http.delete_comment(&room(), Seq::new(3)).await.unwrap();
    let ids = |file: &str| -> Vec<u64> {
        let id = |line: &str| serde_json::from_str::<Value>(line).unwrap()["id"].as_u64();
        file.lines().map(|line| id(line).unwrap()).collect()
    };
    let all = text(&mut http, "/v1/rooms/r/export").await;
    let expected: Vec<_> = (1..=1_000).filter(|&id| id != 3).collect();
    assert_eq!(ids(&all), expected);
    let (from, to) = (START_MS + 20, START_MS + 60);
    let part = text(
        &mut http,
        &format!("/v1/rooms/r/export?from={from}&to={to}"),
    )
    .await;
    assert_eq!(ids(&part), [2, 4, 5]);
    assert!(part.starts_with(r#"{"id":2,"ts":1764000000020,"time_ms":0,"text":"2 x"}"#));
    // Times before the video are negative here, and left out for players.
    let later = format!("start={}", START_MS + 50);
    let part = text(&mut http, &format!("/v1/rooms/r/export?to={to}&{later}")).await;
    assert!(part.starts_with(r#"{"id":1,"ts":1764000000010,"time_ms":-40,"#));
    let part = text(
        &mut http,
        &format!("/v1/rooms/r/export?format=xml&to={to}&{later}"),
    )
    .await;
    assert_eq!(part.matches("<d ").count(), 1);

    let raw = server.raw(
        b"HEAD /v1/rooms/r/export?format=ass HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    );
    let head = String::from_utf8(raw).unwrap().to_ascii_lowercase();
    for line in [
        "http/1.1 200 ok",
        "content-type: text/x-ssa; charset=utf-8",
        "x-content-type-options: nosniff",
        "content-disposition: attachment; filename=\"r.ass\"",
        "access-control-allow-origin: *",
    ] {
        assert!(head.contains(line), "{head}");
    }
    assert!(head.ends_with("\r\n\r\n"));
    let old = server.raw(b"GET /v1/rooms/r/export HTTP/1.0\r\n\r\n");
    assert!(String::from_utf8(old).unwrap().contains("bad_http_version"));

    let address = format!("http://{}", server.address());
    let from = from.to_string();
    let (status, stdout, _) = run(&["export", "r", "--server", &address, "--from", &from]);
    assert!(status.success());
    assert_eq!(stdout.lines().count(), 998);
}

#[tokio::test]
async fn a_file_goes_through_a_room_as_it_is() {
    let folder = TempDir::new().unwrap();
    let server = start(folder.path());
    let mut http = server.http();
    let comments: Vec<_> = ["<弹幕> & \"more\"", "{\\an8}]]>", "👩‍👩‍👧 \u{FFFE}", " a,b "]
        .iter()
        .zip([Mode::Scroll, Mode::Top, Mode::Bottom, Mode::Scroll])
        .enumerate()
        .map(|(index, (text, mode))| NewComment {
            mode: Some(mode),
            user: (index > 0).then(|| "u\"1".to_owned()),
            name: (index == 1).then(|| "弹".to_owned()),
            color: Some(0x01_02_03),
            size: Some(36),
            reply_to: (index == 3).then(|| Seq::new(2)),
            data: (index == 2).then(|| json!({"badge": [1.5, "\n"]})),
            ..NewComment::new(*text)
        })
        .collect();
    http.post_comments(&room(), &comments).await.unwrap();
    let mut exported = Vec::new();
    for format in ["jsonl", "xml", "ass", "dandanplay"] {
        let path = format!("/v1/rooms/r/export?format={format}");
        exported.push((format, text(&mut http, &path).await));
    }
    let first: Value = serde_json::from_str(exported[0].1.lines().next().unwrap()).unwrap();
    let start_ms = first["ts"].to_string();
    drop(server);
    for (format, file) in exported {
        let folder = TempDir::new().unwrap();
        let flags = ["--format", format, "--start", &start_ms];
        assert_eq!(
            import(folder.path(), "file", &file, &flags),
            (Some(0), String::new()),
            "{file}"
        );
        let server = start(folder.path());
        let path = format!("/v1/rooms/r/export?format={format}");
        assert_eq!(text(&mut server.http(), &path).await, file);
        let streams = server.http().get_json("/v1/rooms/r/streams").await.unwrap();
        assert_eq!(streams["streams"][0]["start"].to_string(), start_ms);
    }
}

#[tokio::test]
async fn an_import_is_whole_or_refused() {
    let folder = TempDir::new().unwrap();
    let data = folder.path();
    #[track_caller]
    fn check(found: &(Option<i32>, String), code: i32, words: &str) {
        assert!(
            found.0 == Some(code) && found.1.contains(words),
            "{found:?}"
        );
        assert_eq!(found.1.lines().count(), 1, "{found:?}");
    }
    let broken = jsonl(20, "x").replace("\"17 x\"", "\"17\\nx\"");
    check(
        &import(data, "a.jsonl", &broken, &[]),
        1,
        "a.jsonl, line 17: text has a control",
    );
    check(&import(data, "a.txt", "", &[]), 1, "give --format");
    let xml = "<i><d p=\"1,1,25,0\">x</d></i>";
    check(&import(data, "a.xml", xml, &[]), 1, "give --start");
    let future = format!("{{\"ts\":{},\"text\":\"x\"}}\n", u64::pow(2, 52)).repeat(2);
    check(
        &import(data, "a.jsonl", &future, &[]),
        1,
        "line 1: the time is in the future",
    );
    let (status, _, stderr) = run(&[
        "import",
        "r",
        "/nowhere.xml",
        "--data",
        data.to_str().unwrap(),
    ]);
    check(&(status.code(), stderr), 1, "cannot read /nowhere.xml");

    let page = "<!DOCTYPE html><html><p>404</p></html>";
    check(
        &import(data, "a.xml", page, &["--start", "1"]),
        1,
        "the root element is not <i>",
    );
    let typo = data.join("typo");
    check(
        &import(&typo, "a.jsonl", &jsonl(3, "x"), &[]),
        2,
        "it does not exist",
    );
    assert!(!typo.exists());

    let server = start(data);
    let mut http = server.http();
    let answer = get(&mut http, "/v1/rooms/r/comments").await;
    assert_eq!(refused(&answer), (404, "room_not_found".to_owned()));
    check(
        &import(data, "a.jsonl", &jsonl(3, "x"), &[]),
        2,
        "in use by another process",
    );
    drop(server);

    // Replies follow what they reply to; the order is that of the times.
    let file = format!(
        "{{\"id\":70,\"ts\":{},\"text\":\"late\",\"reply_to\":60}}\n{{\"id\":60,\"ts\":{},\"text\":\"early\",\"reply_to\":1}}\n",
        START_MS + 2,
        START_MS + 1
    );
    assert_eq!(import(data, "a.jsonl", &file, &[]).0, Some(0));
    assert_eq!(import(data, "b.jsonl", &jsonl(2, "x"), &[]).0, Some(0));
    check(
        &import(data, "a.jsonl", &jsonl(2, "x"), &[]),
        1,
        "later than the file's first",
    );
    let server = start(data);
    let page = server.http().comments(&room(), None, None).await.unwrap();
    let found: Vec<_> = (page.comments.iter())
        .map(|it| (it.id.value(), &*it.text, it.reply_to.map(Seq::value)))
        .collect();
    let expected = [
        (1, "early", None),
        (2, "late", Some(1)),
        (3, "1 x", None),
        (4, "2 x", None),
    ];
    assert_eq!(found, expected);
}

/// A client that asks for an export and reads nothing; what it gets does not fit into its buffers.
fn stalled(server: SocketAddr, source: [u8; 4]) -> TcpStream {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    socket.connect(&server.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = b"GET /v1/rooms/r/export HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request).unwrap();
    stream
}

fn status(stream: &mut TcpStream) -> String {
    let mut head = [0; 12];
    stream.read_exact(&mut head).unwrap();
    String::from_utf8(head[9..].to_vec()).unwrap()
}

#[tokio::test]
async fn exports_are_limited_and_keep_nobody_waiting() {
    let folder = TempDir::new().unwrap();
    let file = jsonl(8_000, &"x".repeat(190));
    assert_eq!(import(folder.path(), "a.jsonl", &file, &[]).0, Some(0));
    let server = start(folder.path());
    let mut held = Vec::new();
    for source in 2..6 {
        for _ in 0..4 {
            let mut stream = stalled(server.address(), [127, 0, 0, source]);
            assert_eq!(status(&mut stream), "200");
            held.push(stream);
        }
    }
    let mut over = stalled(server.address(), [127, 0, 0, 9]);
    let mut answer = String::new();
    over.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.contains("too_many_exports"),
        "{answer}"
    );
    assert!(
        answer.to_ascii_lowercase().contains("retry-after: 1"),
        "{answer}"
    );
    // What others do goes on.
    let posted = server
        .http()
        .post_comments(&room(), &[NewComment::new("x")])
        .await;
    assert_eq!(posted.unwrap().ids, [Seq::new(8_001)]);
    let page = server.http().comments(&room(), None, None).await.unwrap();
    assert!(!page.comments.is_empty());
    // One that reads on gets all of it, up to where the room was when it asked.
    let mut all = String::new();
    held.pop().unwrap().read_to_string(&mut all).unwrap();
    assert!(all.ends_with("\r\n0\r\n\r\n"));
    assert_eq!(all.matches("\"id\":").count(), 8_000);
    // Its place is free again, and so are those of clients that went away.
    let next = once_free(server.address(), [127, 0, 0, 9]);
    assert_eq!(next.0, "200");
    held.truncate(4);
    // One address has no more than a share of the bytes.
    let fifth = once_free(server.address(), [127, 0, 0, 2]);
    assert_eq!(fifth.0, "429");
}

/// The status of an export as soon as there is a place for it.
fn once_free(server: SocketAddr, source: [u8; 4]) -> (String, TcpStream) {
    let start = std::time::Instant::now();
    loop {
        let mut stream = stalled(server, source);
        let status = status(&mut stream);
        if status != "503" {
            return (status, stream);
        }
        assert!(start.elapsed() < PATIENCE, "all places stay taken");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// Runs ffmpeg, and returns what it writes to its output and to its log.
fn ffmpeg(arguments: &[&str]) -> (String, String) {
    let program = std::env::var("DANMAKU_TEST_FFMPEG").unwrap_or_else(|_| {
        panic!("DANMAKU_TEST_FFMPEG is not set: run these tests with `cargo xtask test`")
    });
    let output = std::process::Command::new(program)
        .args(["-nostdin", "-hide_banner", "-loglevel", "error"])
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (written, log) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success(), "{log}");
    (written, log)
}

#[test]
#[ignore = "needs what `cargo xtask test` installs"]
fn ffmpeg_reads_and_draws_the_subtitles() {
    let folder = TempDir::new().unwrap();
    let mut file = String::new();
    let comments = [
        (0, "scroll", "弹幕, <b>first</b> & \"quoted\""),
        (1_250, "top", "{\\an8}no command"),
        (61_990, "bottom", "a\\Nb 🎉"),
    ];
    for (time_ms, mode, text) in comments {
        let (ts, text) = (START_MS + time_ms, json!(text));
        writeln!(
            file,
            r#"{{"ts":{ts},"time_ms":{time_ms},"mode":"{mode}","text":{text}}}"#
        )
        .unwrap();
    }
    assert_eq!(import(folder.path(), "a.jsonl", &file, &[]).0, Some(0));
    let server = start(folder.path());
    let address = format!("http://{}", server.address());
    let (status, stdout, _) = run(&["export", "r", "--server", &address, "--format", "ass"]);
    assert!(status.success());
    let subtitles = folder.path().join("r.ass");
    fs::write(&subtitles, stdout).unwrap();
    let subtitles = subtitles.to_str().unwrap();

    let (written, log) = ffmpeg(&["-i", subtitles, "-c:s", "text", "-f", "srt", "-"]);
    assert_eq!(log, "");
    let cues: Vec<Vec<_>> = written
        .split("\n\n")
        .map(|cue| cue.lines().skip(1).collect())
        .filter(|cue: &Vec<_>| !cue.is_empty())
        .collect();
    let expected = [
        [
            "00:00:00,000 --> 00:00:08,000",
            "弹幕, <b>first</b> & \"quoted\"",
        ],
        ["00:00:01,250 --> 00:00:05,250", "｛＼an8｝no command"],
        ["00:01:01,990 --> 00:01:05,990", "a＼Nb 🎉"],
    ];
    assert_eq!(cues, expected);

    // Two pictures, a second before and after the first comment ends: something is drawn, then nothing.
    let video = "color=black:size=192x108:rate=1:duration=70";
    let drawn = format!(
        "ass=filename={subtitles},select='eq(n,4)+eq(n,30)',signalstats,metadata=print:key=lavfi.signalstats.YMAX:file=-"
    );
    let (written, _) = ffmpeg(&["-f", "lavfi", "-i", video, "-vf", &drawn, "-f", "null", "-"]);
    let brightest: Vec<u32> = written
        .lines()
        .filter_map(|line| line.split_once("YMAX=")?.1.parse().ok())
        .collect();
    assert!(brightest[0] > 100 && brightest[1] < 32, "{written}");
}
