//! Third-party viewers: Python's `websockets`, npm's `ws`, Node's
//! `DecompressionStream`. `cargo xtask test` installs them and runs these.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use danmaku_client::{HttpClient, NewComment};
use danmaku_wire::{Encoding, RoomId};
use serde::Deserialize;
use support::{PATIENCE, Server};

/// What a viewer printed.
#[derive(Debug, Deserialize)]
struct Seen {
    joined: u64,
    comments: Vec<(u64, String)>,
    #[serde(default)]
    gaps: Vec<(u64, u64)>,
}

fn tool(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} is not set: run these tests with `cargo xtask test`")
    })
}

fn script(name: &str) -> String {
    format!("{}/tests/clients/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn url(server: &Server) -> String {
    format!("ws://{}/v1/rooms/r/ws", server.address())
}

fn python(server: &Server, encoding: Encoding) -> Child {
    Command::new(tool("DANMAKU_TEST_PYTHON"))
        .args([&script("viewer.py"), &url(server), encoding.as_str()])
        .env("PYTHONPATH", tool("DANMAKU_TEST_PYTHON_PACKAGES"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn node(server: &Server, encoding: Encoding, inflater: &str, more: &[&str]) -> Child {
    let (script, url) = (script("viewer.mjs"), url(server));
    Command::new(tool("DANMAKU_TEST_NODE"))
        .args([&script, &url, encoding.as_str(), inflater])
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn seen(what: &str, viewer: Child) -> Seen {
    let output = viewer.wait_with_output().unwrap();
    assert!(output.status.success(), "{what} failed, see above");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Text that hardly compresses, so that a viewer that pauses falls behind.
fn noise(random: &mut u64, letters: usize) -> String {
    (0..letters)
        .map(|_| {
            *random ^= *random << 13;
            *random ^= *random >> 7;
            *random ^= *random << 17;
            char::from(b'!' + u8::try_from(*random % 90).unwrap())
        })
        .collect()
}

async fn post(http: &mut HttpClient, posted: &mut Vec<String>, texts: Vec<String>) {
    let room = RoomId::parse("r").unwrap();
    let comments: Vec<_> = texts.iter().map(NewComment::new).collect();
    let ids = http.post_comments(&room, &comments).await.unwrap().ids;
    assert_eq!(ids[0].value(), posted.len() as u64 + 1);
    posted.extend(texts);
}

/// Every position after the join is a comment as it was posted, or in a gap.
fn check(what: &str, seen: &Seen, posted: &[String]) {
    let mut comments = seen.comments.iter().peekable();
    let mut gaps = seen.gaps.iter().peekable();
    let mut position = seen.joined + 1;
    while position <= posted.len() as u64 {
        if let Some((_, seq)) = gaps.next_if(|(after, _)| *after == position - 1) {
            position = seq + 1;
            continue;
        }
        let text = &posted[usize::try_from(position).unwrap() - 1];
        assert_eq!(comments.next(), Some(&(position, text.clone())), "{what}");
        position += 1;
    }
    assert!(comments.next().is_none() && gaps.next().is_none(), "{what}");
}

#[tokio::test]
#[ignore = "needs the clients that `cargo xtask test` installs"]
async fn third_party_clients_read_every_batch_wherever_they_join() {
    let server = Server::start(&[
        "--window-ms",
        "25",
        "--posts-per-second-per-address",
        "100000",
        "--posts-per-second-per-address-burst",
        "100000",
    ]);
    let mut http = server.http();
    let mut posted = Vec::new();
    let mut viewers = Vec::new();
    for wave in 0..60_u64 {
        // Viewers join all along, also in the middle of groups of 30 batches.
        if wave % 10 == 0 {
            for encoding in Encoding::ALL {
                let name = encoding.as_str();
                viewers.push((format!("python {name}"), python(&server, encoding)));
                viewers.push((
                    format!("ws {name} zlib"),
                    node(&server, encoding, "zlib", &[]),
                ));
            }
            let stream = node(&server, Encoding::Deflate, "stream", &[]);
            viewers.push(("ws DecompressionStream".to_owned(), stream));
        }
        let texts = (0..=wave % 4)
            .map(|n| format!("wave {wave}, comment {n}: 弹幕 “quoted” \\ 👏"))
            .collect();
        post(&mut http, &mut posted, texts).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let wanted = viewers.len() as u64;
    server
        .stat_until("viewers", |viewers| viewers == wanted)
        .await;
    // More than a group with all viewers present.
    for wave in 0..40 {
        post(
            &mut http,
            &mut posted,
            vec![format!("all are here, {wave}")],
        )
        .await;
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    post(&mut http, &mut posted, vec!["end".to_owned()]).await;
    for (what, viewer) in viewers {
        let seen = tokio::task::spawn_blocking({
            let what = what.clone();
            move || seen(&what, viewer)
        })
        .await
        .unwrap();
        assert!(seen.gaps.is_empty(), "{what}: {:?}", seen.gaps);
        check(&what, &seen, &posted);
    }
}

#[tokio::test]
#[ignore = "needs the clients that `cargo xtask test` installs"]
async fn a_decompression_stream_survives_skipped_frames() {
    let server = Server::start(&[
        "--window-ms",
        "20",
        "--send-buffer-bytes",
        "4096",
        "--outbox-bytes-max",
        "30000",
        // Only the outbox's bytes make frames skipped.
        "--outbox-age-ms-max",
        "3600000",
        "--evict-after-ms",
        "3600000",
        "--posts-per-second-per-address",
        "100000",
        "--posts-per-second-per-address-burst",
        "100000",
    ]);
    let mut viewers = ["stream", "zlib"].map(|inflater| {
        (
            inflater,
            node(&server, Encoding::Deflate, inflater, &["told"]),
        )
    });
    let mut tell = || {
        for (_, viewer) in &mut viewers {
            writeln!(viewer.stdin.as_mut().unwrap()).unwrap();
        }
    };
    server.stat_until("viewers", |viewers| viewers == 2).await;
    let mut http = server.http();
    let mut posted = Vec::new();
    let mut random = 0x5EED_u64;
    for _ in 0..3 {
        tell();
        let start = Instant::now();
        let before = server.stat("frames_skipped").await;
        // A group of batches at least, and until somebody has to skip.
        for round in 0.. {
            if round >= 60 && server.stat("frames_skipped").await > before {
                break;
            }
            assert!(start.elapsed() < PATIENCE, "nobody skips");
            let texts = (0..60).map(|_| noise(&mut random, 150)).collect();
            post(&mut http, &mut posted, texts).await;
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
        tell();
        // Waiting frames must be written first, or "end" could be skipped with them.
        server.sealed_until("r", posted.len() as u64).await;
        server
            .stat_until("viewers_behind", |behind| behind == 0)
            .await;
        server.stat_until("outbox_bytes", |bytes| bytes == 0).await;
    }
    post(&mut http, &mut posted, vec!["end".to_owned()]).await;
    let mut gaps = 0;
    for (what, viewer) in viewers {
        let seen = tokio::task::spawn_blocking(move || seen(what, viewer))
            .await
            .unwrap();
        check(what, &seen, &posted);
        gaps += seen.gaps.len();
    }
    assert!(gaps >= 3, "{gaps} gaps, and somebody skipped three times");
    assert!(server.stat("frames_skipped").await > 0);
}
