//! A retracted comment: hidden from later viewers, and reported to viewers who may have seen it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;

use danmaku_client::{
    Batch, ClientError, Connection, Event, EventStream, NewComment, RoomEvent, RoomEventKind,
};
use danmaku_wire::{Encoding, Epoch, Position, RoomId, Seq};
use support::raw::RawViewer;
use support::{PATIENCE, Server, WINDOW_MS_MAX};

const DEMO: &str = "r";

fn room() -> RoomId {
    RoomId::parse(DEMO).unwrap()
}

async fn post(server: &Server, texts: &[&str]) -> Vec<Seq> {
    let new: Vec<_> = texts.iter().map(|text| NewComment::new(*text)).collect();
    let posted = server.http().post_comments(&room(), &new).await.unwrap();
    posted.ids
}

async fn retract(server: &Server, id: u64) -> Result<(), ClientError> {
    server.http().delete_comment(&room(), Seq::new(id)).await
}

/// A viewer, whatever it speaks.
enum Viewer {
    Socket(Box<Connection>),
    Stream(Box<EventStream>),
}

/// What a viewer has been sent, as its player shows it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Screen {
    shown: Vec<String>,
    /// Every text ever shown.
    seen: BTreeSet<String>,
    retracted: Vec<u64>,
}

impl Viewer {
    async fn all(server: &Server, since: Option<Position>, history: Option<u32>) -> Vec<Self> {
        let mut viewers = Vec::new();
        for encoding in Encoding::ALL {
            let mut join = server.join(DEMO);
            (join.encoding, join.since, join.history) = (encoding, since, history);
            viewers.push(Self::Socket(Box::new(
                Connection::connect(&join).await.unwrap(),
            )));
            if encoding != Encoding::Deflate {
                let stream = EventStream::connect(&join, None).await.unwrap();
                viewers.push(Self::Stream(Box::new(stream)));
            }
        }
        viewers
    }

    async fn next(&mut self) -> Event {
        let next = async {
            match self {
                Self::Socket(it) => it.next().await,
                Self::Stream(it) => it.next().await,
            }
        };
        tokio::time::timeout(PATIENCE, next)
            .await
            .expect("nothing came")
            .unwrap()
    }

    /// Reads up to the position `through`.
    async fn read(&mut self, through: Seq) -> Screen {
        let mut screen = Screen::default();
        let mut ids = Vec::new();
        let mut at = None;
        while at.is_none_or(|at| at < through) {
            match self.next().await {
                Event::Joined(joined) => at = Some(joined.after),
                Event::Batch(batch) => {
                    assert!(at.is_none_or(|at| at == batch.after), "a hole");
                    at = Some(batch.seq);
                    screen.apply(&batch, &mut ids);
                }
                other => panic!("{other:?}"),
            }
        }
        screen
    }
}

impl Screen {
    fn apply(&mut self, batch: &Batch, ids: &mut Vec<u64>) {
        for comment in &batch.comments {
            ids.push(comment.id.value());
            self.shown.push(comment.text.clone());
            self.seen.insert(comment.text.clone());
        }
        for id in retracted(&batch.events) {
            self.retracted.push(id);
            if let Some(place) = ids.iter().position(|shown| *shown == id) {
                ids.remove(place);
                self.shown.remove(place);
            }
        }
    }
}

fn retracted(events: &[RoomEvent]) -> Vec<u64> {
    events
        .iter()
        .flat_map(|event| match &event.kind {
            RoomEventKind::Retract { ids } => ids.clone(),
            RoomEventKind::Other(kind) => panic!("{kind}"),
        })
        .map(|id| id.value())
        .collect()
}

#[tokio::test]
async fn a_retraction_reaches_viewers_and_hides_the_comment_from_later_ones() {
    let server = Server::start(&["--window-ms", "20"]);
    let mut witnesses = Viewer::all(&server, None, None).await;
    for texts in [&["a"][..], &["b", "secret", "c"], &["d"]] {
        let ids = post(&server, texts).await;
        let last = ids.last().unwrap().value();
        server.sealed_until(DEMO, last).await;
    }
    retract(&server, 3).await.unwrap();
    server.sealed_until(DEMO, 6).await;
    for viewer in &mut witnesses {
        let screen = viewer.read(Seq::new(6)).await;
        assert_eq!(screen.shown, ["a", "b", "c", "d"]);
        assert_eq!(screen.retracted, [3]);
    }

    let page = server.http().comments(&room(), None, None).await.unwrap();
    let texts: Vec<_> = page.comments.iter().map(|it| it.text.as_str()).collect();
    assert_eq!(texts, ["a", "b", "c", "d"]);
    assert_eq!(retracted(&page.events), [3]);
    for since in 0..6 {
        let since = Some(Position {
            epoch: page.epoch,
            seq: Seq::new(since),
        });
        for mut viewer in Viewer::all(&server, since, None).await {
            let screen = viewer.read(Seq::new(6)).await;
            assert!(!screen.seen.contains("secret"), "{since:?} {screen:?}");
            // A viewer that resumes from before the retraction may have it on screen.
            assert_eq!(screen.retracted, [3], "{since:?}");
        }
    }
    for history in [2, 4, 100] {
        for mut viewer in Viewer::all(&server, None, Some(history)).await {
            let screen = viewer.read(Seq::new(6)).await;
            assert!(!screen.seen.contains("secret"), "{screen:?}");
            assert_eq!(screen.shown.len(), history.min(4) as usize);
        }
    }
}

#[tokio::test]
async fn a_comment_retracted_before_sealing_is_never_sent() {
    let mut server = Server::start(&["--window-ms", WINDOW_MS_MAX]);
    let mut viewers = Viewer::all(&server, None, None).await;
    post(&server, &["leads"]).await;
    // Otherwise the room may read the others with it, and seal them at once.
    server.sealed_until(DEMO, 1).await;
    post(&server, &["waits", "secret", "waits too"]).await;
    retract(&server, 3).await.unwrap();
    // Only shutdown seals them before the window ends.
    let status = tokio::task::spawn_blocking(move || server.end("TERM"));
    assert_eq!(status.await.unwrap().code(), Some(0));
    for viewer in &mut viewers {
        let screen = viewer.read(Seq::new(5)).await;
        assert_eq!(screen.shown, ["leads", "waits", "waits too"]);
        assert!(!screen.seen.contains("secret"));
        assert_eq!(screen.retracted, [3]);
    }
}

/// The ring still holds the frame with the comment, and the window with the retraction is still open.
#[tokio::test]
async fn the_first_to_join_after_a_retraction_does_not_see_the_comment() {
    let server = Server::start(&["--window-ms", "60000"]);
    let _witnesses = Viewer::all(&server, None, None).await;
    post(&server, &["secret"]).await;
    server.sealed_until(DEMO, 1).await;
    let epoch = server.http().comments(&room(), None, None).await.unwrap();
    retract(&server, 1).await.unwrap();
    let since = Some(Position {
        epoch: epoch.epoch,
        seq: Seq::ZERO,
    });
    for mut viewer in Viewer::all(&server, since, None).await {
        let screen = viewer.read(Seq::new(1)).await;
        assert!(screen.seen.is_empty(), "{screen:?}");
    }
}

#[tokio::test]
async fn a_second_retraction_succeeds_without_a_second_event() {
    let server = Server::start(&["--window-ms", "20"]);
    post(&server, &["a"]).await;
    retract(&server, 1).await.unwrap();
    retract(&server, 1).await.unwrap();
    let view = server.http().get_json("/v1/rooms/r").await.unwrap();
    assert_eq!(view["seq"], 2);
    assert_eq!(post(&server, &["b"]).await, [Seq::new(3)]);
}

#[tokio::test]
async fn a_comment_no_longer_held_is_still_retracted() {
    let server = Server::start(&[
        "--window-ms",
        "20",
        "--log-comments-max",
        "2",
        "--history-frames-max",
        "1",
    ]);
    let mut viewer = Viewer::all(&server, None, None).await.remove(0);
    for text in ["1", "2", "3", "4", "5"] {
        let id = post(&server, &[text]).await[0];
        server.sealed_until(DEMO, id.value()).await;
    }
    for _ in 0..3 {
        retract(&server, 1).await.unwrap();
    }
    assert_eq!(post(&server, &["6"]).await, [Seq::new(7)]);
    let screen = viewer.read(Seq::new(7)).await;
    assert_eq!(screen.shown, ["2", "3", "4", "5", "6"]);
    assert_eq!(screen.retracted, [1]);
}

#[tokio::test]
async fn invalid_retractions_are_refused() {
    let server = Server::start(&["--window-ms", "20"]);
    post(&server, &["a", "b"]).await;
    retract(&server, 1).await.unwrap();
    let refused = |head: &str, status: u16, code: &str| {
        let request = format!("{head}\r\nConnection: close\r\n\r\n");
        let answer = String::from_utf8(server.raw(request.as_bytes())).unwrap();
        let expected = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&expected), "{head}: {answer}");
        assert!(answer.contains(&format!("\"{code}\"")), "{head}: {answer}");
    };
    let delete = |room: &str, id: &str| {
        format!("DELETE /v1/rooms/{room}/comments/{id} HTTP/1.1\r\nHost: localhost")
    };
    refused(&delete("r", "4"), 404, "comment_not_found");
    refused(&delete("r", "3"), 404, "comment_not_found");
    refused(&delete("other", "1"), 404, "room_not_found");
    for id in ["0", "x", "-1", "99999999999999999999"] {
        refused(&delete("r", id), 400, "bad_comment_id");
    }
    refused(&delete("r", "2/x"), 404, "not_found");
    for header in [
        "X-Forwarded-For: 192.0.2.1",
        "Forwarded: for=192.0.2.1",
        "X-Real-IP: 192.0.2.1",
        "Via: 1.1 proxy",
    ] {
        let head = format!("{}\r\n{header}", delete("r", "2"));
        refused(&head, 403, "forbidden");
    }
    let get = delete("r", "2").replace("DELETE", "GET");
    refused(&get, 405, "method_not_allowed");
    let page = server.http().comments(&room(), None, None).await.unwrap();
    assert_eq!(page.comments.len(), 1, "`b` is still there");
}

/// A viewer that does not read for a while learns of the retraction from the frames it still gets, or from the gap that
/// replaces the others.
#[test]
fn a_slow_viewer_learns_of_retractions() {
    let server = Server::start(&[
        "--window-ms",
        "20",
        "--outbox-bytes-max",
        "65536",
        "--evict-after-ms",
        "60000",
        "--send-buffer-bytes",
        "8192",
        "--posts-per-second-per-address",
        "100000",
        "--posts-per-second-per-address-burst",
        "100000",
        "--posts-per-second-per-room",
        "100000",
        "--posts-per-second-per-room-burst",
        "100000",
        // Its counters are asked for in a loop.
        "--admin-listen",
        "127.0.0.1:0",
    ]);
    let runtime = support::raw::runtime();
    let mut slow = RawViewer::join_with_receive_buffer(&server, 4_096);
    let seen_by_slow = runtime.block_on(async {
        let id = post(&server, &["seen"]).await[0];
        server.sealed_until(DEMO, id.value()).await;
        id
    });
    let flood: Vec<_> = (0..50).map(|_| "x".repeat(200)).collect();
    let flood: Vec<_> = flood.iter().map(String::as_str).collect();
    let last = runtime.block_on(async {
        let fill = async |more_than: u64| {
            while server.stat("frames_skipped_bytes").await <= more_than {
                post(&server, &flood).await;
            }
        };
        fill(0).await;
        retract(&server, seen_by_slow.value()).await.unwrap();
        let skipped = server.stat("frames_skipped_bytes").await;
        // Far enough that the frame with the retraction is skipped too.
        fill(skipped + 20).await;
        let last = *post(&server, &["end"]).await.last().unwrap();
        server.sealed_until(DEMO, last.value()).await;
        last
    });
    let mut told = false;
    let mut gaps = 0;
    let mut at = 0;
    while at < last.value() {
        let (_, payload) = slow.read();
        let message: serde_json::Value = serde_json::from_slice(&payload).unwrap();
        if message["type"] != "batch" && message["type"] != "gap" {
            continue;
        }
        assert_eq!(message["after"], at, "a hole");
        at = message["seq"].as_u64().unwrap();
        gaps += u32::from(message["type"] == "gap");
        for event in message["events"].as_array().into_iter().flatten() {
            told |= event["ids"][0] == seen_by_slow.value();
        }
    }
    assert!(told, "the viewer keeps a retracted comment");
    assert!(gaps > 0, "nothing was skipped: the test tests nothing");
}

/// A position in an epoch that never existed.
#[tokio::test]
async fn resuming_from_another_epoch_shows_no_retracted_comment() {
    let server = Server::start(&["--window-ms", "20"]);
    post(&server, &["secret", "b"]).await;
    server.sealed_until(DEMO, 2).await;
    retract(&server, 1).await.unwrap();
    server.sealed_until(DEMO, 3).await;
    let since = Some(Position {
        epoch: Epoch::new(5),
        seq: Seq::new(1),
    });
    for mut viewer in Viewer::all(&server, since, Some(10)).await {
        assert_eq!(viewer.read(Seq::new(3)).await.shown, ["b"]);
    }
}
