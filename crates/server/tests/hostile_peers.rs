//! Peers that misbehave in time: silent, stalled, trickling, too many; while
//! another viewer watches and must not notice.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use danmaku_client::{Event, NewComment};
use danmaku_wire::{Encoding, RoomId, Seq};
use support::raw::{HANDSHAKE, RawViewer, runtime};
use support::{PATIENCE, Server};

#[test]
fn connections_over_the_limits_get_the_reason() {
    let server = Server::start(&[
        "--connections-max",
        "3",
        "--connections-per-address-max",
        "2",
    ]);
    let held: Vec<_> = (0..2).map(|_| RawViewer::join(&server)).collect();
    let answer = String::from_utf8(server.raw(b"")).unwrap();
    assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
    assert!(answer.contains("too_many_connections"), "{answer}");
    drop(held);
    let start = Instant::now();
    while !String::from_utf8(server.raw(b"GET /healthz HTTP/1.0\r\n\r\n"))
        .unwrap()
        .contains("200")
    {
        assert!(start.elapsed() < PATIENCE, "places are not given back");
    }
}

#[test]
fn trickled_and_unfinished_handshakes_are_closed_by_the_deadline() {
    let server = Server::start(&["--handshake-deadline-ms", "300"]);
    // Says nothing.
    let mut answer = Vec::new();
    match server.raw_stream().read_to_end(&mut answer) {
        Ok(_) => assert!(answer.is_empty(), "{}", answer.escape_ascii()),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    // Trickles a head that never ends, so that nothing but the deadline can close it.
    let mut stream = server.raw_stream();
    let start = Instant::now();
    let head = b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Endless: ";
    for byte in head.iter().chain(std::iter::repeat(&b'x')) {
        if stream.write_all(&[*byte]).is_err() {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "still open");
        std::thread::sleep(Duration::from_millis(20));
    }
    // Promises a body and does not send it.
    let start = Instant::now();
    let answer = loop {
        let answer = server.raw(
            b"POST /v1/rooms/r/comments HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{\"te",
        );
        // Nothing: this thread was delayed between connecting and writing for longer than the handshake deadline.
        if !answer.is_empty() {
            break String::from_utf8(answer).unwrap();
        }
        assert!(start.elapsed() < PATIENCE, "closed without an answer");
    };
    assert!(answer.contains("body_timeout"), "{answer}");
    // The one that asks may come too late itself, on a slow machine, and asks again.
    let start = Instant::now();
    let request = b"GET /v1/stats HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    while !String::from_utf8(server.raw(request))
        .unwrap()
        .contains(r#""connections":1,"#)
    {
        assert!(start.elapsed() < PATIENCE, "a connection is kept");
    }
}

#[test]
fn a_viewer_that_never_reads_is_closed_and_others_miss_nothing() {
    let server = Server::start(&[
        "--window-ms",
        "20",
        "--outbox-bytes-max",
        "65536",
        "--outbox-age-ms-max",
        "1500",
        "--evict-after-ms",
        "1500",
        "--send-buffer-bytes",
        "8192",
        "--posts-per-second-per-address",
        "100000",
        "--posts-per-second-per-address-burst",
        "100000",
    ]);
    let runtime = runtime();
    let stalled = RawViewer::join(&server);
    socket2::SockRef::from(&stalled.0)
        .set_recv_buffer_size(4_096)
        .unwrap();
    runtime.block_on(async {
        let mut witness = server.watch("r", Encoding::Gzip).await;
        let (seen, mut sees) = tokio::sync::watch::channel(Seq::ZERO);
        let reader = tokio::spawn(async move {
            let mut last = Seq::ZERO;
            loop {
                match witness.next().await {
                    Ok(Event::Batch(batch)) => {
                        assert_eq!(batch.after, last, "the witness missed something");
                        last = batch.seq;
                        seen.send_replace(last);
                    }
                    Ok(Event::Joined(_)) => {}
                    Ok(Event::Closed(_)) | Err(_) => return last,
                    Ok(other) => panic!("{other:?}"),
                }
            }
        });
        let mut http = server.http();
        let room = RoomId::parse("r").unwrap();
        let comments: Vec<_> = (0..50).map(|_| NewComment::new("x".repeat(200))).collect();
        let mut posted = Seq::ZERO;
        let start = Instant::now();
        while server.stat("evicted_behind").await == 0 {
            posted = *http
                .post_comments(&room, &comments)
                .await
                .unwrap()
                .ids
                .last()
                .unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert!(
                start.elapsed() < PATIENCE,
                "the stalled viewer was not closed"
            );
        }
        assert!(server.stat("frames_skipped").await > 0);
        server.stat_until("viewers", |n| n == 1).await;
        server
            .stat_until("comments_sealed", |n| n == posted.value())
            .await;
        let all = sees.wait_for(|seen| *seen == posted);
        tokio::time::timeout(PATIENCE, all).await.unwrap().unwrap();
        drop(server);
        assert_eq!(reader.await.unwrap(), posted);
    });
}

#[test]
fn an_unread_http_response_is_dropped() {
    let server = Server::start(&[
        "--answer-deadline-ms",
        "500",
        "--send-buffer-bytes",
        "4096",
        "--posts-per-second-per-address-burst",
        "10000",
        "--posts-per-second-per-address",
        "10000",
    ]);
    let comments: Vec<_> = (0..100)
        .map(|_| NewComment::new("弹".repeat(200)))
        .collect();
    let runtime = runtime();
    runtime.block_on(async {
        let room = RoomId::parse("r").unwrap();
        for _ in 0..10 {
            server.http().post_comments(&room, &comments).await.unwrap();
        }
    });
    let mut lazy = server.raw_stream();
    socket2::SockRef::from(&lazy)
        .set_recv_buffer_size(4_096)
        .unwrap();
    lazy.write_all(b"GET /v1/rooms/r/comments?limit=1000 HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    // The asking connection is the other one.
    runtime.block_on(server.stat_until("connections_broken", |broken| broken == 1));
    runtime.block_on(server.stat_until("connections", |open| open == 1));
}

#[test]
fn a_storm_of_joins_with_history_does_not_delay_comments() {
    let server = Server::start(&[
        "--window-ms",
        "50",
        "--posts-per-second-per-address",
        "10000",
        "--posts-per-second-per-address-burst",
        "10000",
        "--connections-per-address-max",
        "100000",
    ]);
    let runtime = runtime();
    let room = RoomId::parse("r").unwrap();
    let comments: Vec<_> = (0..100)
        .map(|n| NewComment::new(format!("{n} {}", "x".repeat(150))))
        .collect();
    let mut http = server.http();
    let mut witness = runtime.block_on(async {
        http.post_comments(&room, &comments).await.unwrap();
        server.watch("r", Encoding::Identity).await
    });
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (server, over) = (&server, &over);
            // Each asks for a different position, so that no lead is shared. The storm lasts as long as the test.
            scope.spawn(move || {
                for n in 0.. {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    let history = 1 + (n * 7 + thread) % 99;
                    let query = format!("/ws?encoding=gzip&history={history}");
                    let join = HANDSHAKE.replace("/ws", &query);
                    // A storm may run out of ports for a moment.
                    if let Ok(mut stream) = TcpStream::connect(server.address()) {
                        let _ = stream.write_all(join.as_bytes());
                    }
                }
            });
        }
        // Also when an assertion fails.
        let _over = EndOnDrop(&over);
        runtime.block_on(async {
            for n in 0..20 {
                let text = format!("through the storm, {n}");
                let new = [NewComment::new(&text)];
                http.post_comments(&room, &new).await.unwrap();
                let seen = async {
                    loop {
                        if let Event::Batch(batch) = witness.next().await.unwrap()
                            && batch.comments.iter().any(|comment| comment.text == text)
                        {
                            break;
                        }
                    }
                };
                let seen = tokio::time::timeout(PATIENCE, seen).await;
                assert!(seen.is_ok(), "the storm starves the room at comment {n}");
            }
        });
    });
}

struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A machine that delays a pong beyond the deadline has its sender closed, and rightly so: the deadline is then doubled.
#[test]
fn a_silent_peer_is_closed_by_the_idle_deadline_and_a_ponging_one_stays() {
    let stays = [1_000, 2_000, 4_000, 8_000, 16_000, 32_000].map(|deadline_ms: u32| {
        move || ponging_stays_while_silent_is_closed(&deadline_ms.to_string())
    });
    assert!(stays.iter().any(|stays| stays()), "pongs are not heard");
}

/// Whether a peer that answers pings is still there when one that joined after it, and says nothing, is closed.
fn ponging_stays_while_silent_is_closed(idle_deadline_ms: &str) -> bool {
    let server = Server::start(&[
        "--ping-interval-ms",
        "100",
        "--idle-deadline-ms",
        idle_deadline_ms,
        "--shards",
        "1",
    ]);
    let runtime = runtime();
    // The client crate answers pings by itself.
    let mut ponging = runtime.block_on(server.watch("r", Encoding::Identity));
    let joined = runtime.block_on(ponging.next()).unwrap();
    assert!(matches!(joined, Event::Joined(_)));
    let mut silent = RawViewer::join(&server);
    assert_eq!(silent.close_code(), 4002);
    runtime.block_on(async {
        let room = RoomId::parse("r").unwrap();
        let post = [NewComment::new("hello")];
        server.http().post_comments(&room, &post).await.unwrap();
        match ponging.next().await.unwrap() {
            Event::Batch(_) => true,
            Event::Closed(_) => false,
            other => panic!("{other:?}"),
        }
    })
}
