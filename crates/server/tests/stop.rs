//! Shutdown loses nothing that was accepted.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use danmaku_client::{ClientError, Event, NewComment};
use danmaku_wire::{Encoding, RoomId, Seq};
use support::{PATIENCE, Server, WINDOW_MS_MAX};

async fn stop_while_posting(signal: &'static str) {
    let mut server = Server::start(&[
        "--window-ms",
        "700",
        "--stop-deadline-ms",
        "60000",
        "--posts-per-second-per-address",
        "100000",
        "--posts-per-second-per-address-burst",
        "100000",
        "--posts-per-second-per-room",
        "1000000",
        "--posts-per-second-per-room-burst",
        "1000000",
    ]);
    let mut viewers = Vec::new();
    for encoding in Encoding::ALL {
        viewers.push(server.watch("r", encoding).await);
    }
    let mut http = server.http();
    let (progress, mut progresses) = tokio::sync::watch::channel(Seq::ZERO);
    let poster = tokio::spawn(async move {
        let room = RoomId::parse("r").unwrap();
        let mut acked = Seq::ZERO;
        loop {
            match http
                .post_comments(&room, &[NewComment::new("on the way")])
                .await
            {
                Ok(posted) => {
                    acked = posted.ids[0];
                    progress.send_replace(acked);
                }
                Err(ClientError::Refused(refusal)) => {
                    assert_eq!(refusal.code, "stopping");
                    return acked;
                }
                Err(_) => return acked,
            }
        }
    });
    // More than the first, which leaves at once.
    let many = progresses.wait_for(|acked| *acked > Seq::new(10));
    tokio::time::timeout(PATIENCE, many).await.unwrap().unwrap();
    let status = tokio::task::spawn_blocking(move || server.end(signal))
        .await
        .unwrap();
    assert_eq!(status.code(), Some(0), "{signal}");
    let acked = poster.await.unwrap();
    for mut viewer in viewers {
        let mut last = Seq::ZERO;
        loop {
            match tokio::time::timeout(PATIENCE, viewer.next())
                .await
                .unwrap()
                .unwrap()
            {
                // The poster may have been faster than this viewer.
                Event::Joined(joined) => last = joined.seq,
                Event::Batch(batch) => {
                    assert_eq!(batch.after, last);
                    last = batch.seq;
                }
                Event::Closed(closed) => {
                    assert_eq!(closed.code, 1001);
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(
            last >= acked,
            "acked up to {acked:?}, delivered up to {last:?}"
        );
    }
}

#[tokio::test]
async fn sigterm_delivers_what_was_acked_then_closes() {
    stop_while_posting("TERM").await;
}

#[tokio::test]
async fn sigint_delivers_what_was_acked_then_closes() {
    stop_while_posting("INT").await;
}

#[tokio::test]
async fn an_unfinished_body_does_not_delay_shutdown() {
    use std::io::Write;
    // Neither the window, the body's own deadline nor that of the stop ends in time: a stop that waits for one of them
    // fails `end`.
    let mut server = Server::start(&[
        "--window-ms",
        WINDOW_MS_MAX,
        "--handshake-deadline-ms",
        "600000",
        "--stop-deadline-ms",
        "600000",
    ]);
    let mut viewer = server.watch("r", Encoding::Identity).await;
    let mut stalled = server.raw_stream();
    stalled
        .write_all(
            b"POST /v1/rooms/other/comments HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{",
        )
        .unwrap();
    let room = RoomId::parse("r").unwrap();
    for text in ["leads", "waits for the window"] {
        let new = [NewComment::new(text)];
        server.http().post_comments(&room, &new).await.unwrap();
    }
    let status = tokio::task::spawn_blocking(move || server.end("TERM"))
        .await
        .unwrap();
    assert_eq!(status.code(), Some(0));
    let mut last = Seq::ZERO;
    loop {
        match viewer.next().await.unwrap() {
            Event::Batch(batch) => last = batch.seq,
            Event::Closed(closed) => break assert_eq!(closed.code, 1001),
            _ => {}
        }
    }
    assert_eq!(last, Seq::new(2));
}
