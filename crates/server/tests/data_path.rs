//! The data path over real sockets: a comment is posted, logged, merged,
//! sealed, and read by viewers of every encoding.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use danmaku_client::{Batch, ClientError, Connection, Event, NewComment, Reference};
use danmaku_wire::{Encoding, Position, RoomId, Seq};
use hyper::{Method, StatusCode};
use support::{PATIENCE, Server, WINDOW_MS_MAX};

fn room(id: &str) -> RoomId {
    RoomId::parse(id).unwrap()
}

async fn next(connection: &mut Connection) -> Event {
    tokio::time::timeout(PATIENCE, connection.next())
        .await
        .expect("nothing came")
        .unwrap()
}

async fn joined(connection: &mut Connection) -> danmaku_client::Joined {
    match next(connection).await {
        Event::Joined(joined) => joined,
        other => panic!("{other:?} came before joined"),
    }
}

async fn batch(connection: &mut Connection) -> Batch {
    match next(connection).await {
        Event::Batch(batch) => batch,
        other => panic!("{other:?} came instead of a batch"),
    }
}

/// Reads batches until `count` comments came; each must begin where the previous one ended.
async fn comments(connection: &mut Connection, after: Seq, count: usize) -> Vec<(u64, String)> {
    let mut all = Vec::new();
    let mut last = after;
    while all.len() < count {
        let batch = batch(connection).await;
        assert_eq!(batch.after, last, "a hole before {batch:?}");
        last = batch.seq;
        all.extend(batch.comments.into_iter().map(|c| (c.id.value(), c.text)));
    }
    all
}

async fn post(server: &Server, to: &str, texts: &[&str]) -> Vec<u64> {
    let new: Vec<_> = texts.iter().map(|text| NewComment::new(*text)).collect();
    let posted = server.http().post_comments(&room(to), &new).await.unwrap();
    posted.ids.iter().map(|id| id.value()).collect()
}

#[tokio::test]
async fn a_posted_comment_reaches_every_viewer_in_every_encoding() {
    let server = Server::start(&["--window-ms", "50"]);
    let mut viewers = Vec::new();
    for encoding in Encoding::ALL.into_iter().cycle().take(9) {
        let mut viewer = server.watch("r", encoding).await;
        assert_eq!(joined(&mut viewer).await.seq, Seq::ZERO);
        viewers.push(viewer);
    }
    let texts = ["hello", "你好 \"quoted\" \\ 👏", "third"];
    let mut ids = Vec::new();
    for text in texts {
        ids.extend(post(&server, "r", &[text]).await);
    }
    assert_eq!(ids, [1, 2, 3]);
    for viewer in &mut viewers {
        let got = comments(viewer, Seq::ZERO, 3).await;
        let expected: Vec<_> = (1..).zip(texts.map(str::to_owned)).collect();
        assert_eq!(got, expected);
    }
}

#[tokio::test]
async fn a_comment_over_the_websocket_is_acked_with_its_id_and_keeps_its_style() {
    let server = Server::start(&["--window-ms", "50"]);
    let mut viewer = server.watch("r", Encoding::Deflate).await;
    joined(&mut viewer).await;
    viewer
        .send_text(
            r#"{"type":"comment","ref":"m1","text":"styled","mode":"top","color":255,"size":36,"name":"mira","user":"u1"}"#,
        )
        .await
        .unwrap();
    let (mut ack, mut shown) = (None, None);
    while ack.is_none() || shown.is_none() {
        match next(&mut viewer).await {
            Event::Ack(it) => ack = Some(it),
            Event::Batch(it) => shown = Some(it),
            other => panic!("{other:?}"),
        }
    }
    let ack = ack.unwrap();
    assert_eq!(ack.id, Seq::new(1));
    assert_eq!(ack.reference, Some(Reference::Text("m1".into())));
    let comment = shown.unwrap().comments.remove(0);
    assert_eq!(
        (comment.mode.as_str(), comment.color, comment.size),
        ("top", 255, 36)
    );
    assert_eq!(comment.name.as_deref(), Some("mira"));
    assert_eq!(comment.user.as_deref(), Some("u1"));
}

/// Stops the server while its viewers keep reading.
async fn stop(mut server: Server) {
    let ended = tokio::task::spawn_blocking(move || server.end("TERM")).await;
    assert_eq!(ended.unwrap().code(), Some(0));
}

/// The texts of each batch from here to the end of the connection.
async fn batches_to_the_end(connection: &mut Connection) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    loop {
        match next(connection).await {
            Event::Batch(batch) => all.push(batch.comments.into_iter().map(|c| c.text).collect()),
            Event::Closed(closed) => {
                assert_eq!(closed.code, 1001);
                return all;
            }
            other => panic!("{other:?} came instead of a batch"),
        }
    }
}

#[tokio::test]
async fn leading_flush_sends_the_first_comment_and_holds_the_next() {
    // The window ends after the test, so whatever arrives was not held until its end.
    let server = Server::start(&["--window-ms", WINDOW_MS_MAX]);
    let mut viewer = server.watch("r", Encoding::Identity).await;
    joined(&mut viewer).await;
    post(&server, "r", &["first"]).await;
    assert_eq!(batch(&mut viewer).await.comments.len(), 1);
    post(&server, "r", &["second"]).await;
    post(&server, "r", &["third"]).await;
    // Only shutdown seals them before the window ends; they come together, so neither was sent earlier.
    stop(server).await;
    let rest = batches_to_the_end(&mut viewer).await;
    assert_eq!(rest, [["second", "third"]]);
}

#[tokio::test]
async fn held_comments_are_sent_when_the_window_ends() {
    let server = Server::start(&["--window-ms", "300"]);
    let mut viewer = server.watch("r", Encoding::Identity).await;
    joined(&mut viewer).await;
    post(&server, "r", &["first"]).await;
    let first = batch(&mut viewer).await;
    post(&server, "r", &["second"]).await;
    let second = batch(&mut viewer).await;
    assert_eq!((first.seq, second.after), (Seq::new(1), Seq::new(1)));
    assert_eq!(second.comments.len(), 1);
}

#[tokio::test]
async fn fixed_flush_waits_for_the_rooms_tick() {
    let server = Server::start(&["--window-ms", WINDOW_MS_MAX, "--flush", "fixed"]);
    let rooms = ["a", "b", "c", "d"];
    let mut viewers = Vec::new();
    for room in rooms {
        let mut viewer = server.watch(room, Encoding::Identity).await;
        joined(&mut viewer).await;
        viewers.push(viewer);
    }
    for room in rooms {
        for text in ["one", "two"] {
            post(&server, room, &[text]).await;
        }
    }
    stop(server).await;
    let mut waited = 0;
    for viewer in &mut viewers {
        let batches = batches_to_the_end(viewer).await;
        assert_eq!(batches.concat(), ["one", "two"]);
        waited += usize::from(batches.len() == 1);
    }
    // Each room has its own tick, so one of them may have come between two posts. Without ticks, "one" leaves at once.
    assert!(waited >= 2, "{waited} of {} rooms waited", rooms.len());
}

#[tokio::test]
async fn fixed_flush_seals_at_each_tick() {
    let server = Server::start(&["--window-ms", "100", "--flush", "fixed"]);
    let mut viewer = server.watch("r", Encoding::Identity).await;
    joined(&mut viewer).await;
    for text in ["one", "two", "three"] {
        post(&server, "r", &[text]).await;
        assert_eq!(batch(&mut viewer).await.comments.len(), 1);
    }
}

#[tokio::test]
async fn likes_without_comments_get_their_own_batch() {
    let server = Server::start(&["--window-ms", "50"]);
    let mut viewer = server.watch("r", Encoding::Gzip).await;
    joined(&mut viewer).await;
    viewer.like(3).await.unwrap();
    viewer.like(4).await.unwrap();
    let mut likes = 0;
    while likes < 7 {
        let batch = batch(&mut viewer).await;
        assert_eq!((batch.after, batch.seq), (Seq::ZERO, Seq::ZERO));
        likes += batch.likes;
    }
    assert_eq!(likes, 7);
    post(&server, "r", &["after the likes"]).await;
    assert_eq!(batch(&mut viewer).await.seq, Seq::new(1));
}

#[tokio::test]
async fn a_viewer_resumes_without_loss_or_repetition_from_any_position() {
    let server = Server::start(&["--window-ms", "200"]);
    let mut first = server.watch("r", Encoding::Identity).await;
    let epoch = joined(&mut first).await.epoch;
    for chunk in [&["1"][..], &["2", "3", "4"], &["5"], &["6", "7"]] {
        post(&server, "r", chunk).await;
        comments(
            &mut first,
            Seq::new(chunk[0].parse::<u64>().unwrap() - 1),
            chunk.len(),
        )
        .await;
    }
    for encoding in Encoding::ALL {
        for since in 0..=7 {
            let mut join = server.join("r");
            join.encoding = encoding;
            join.since = Some(Position {
                epoch,
                seq: Seq::new(since),
            });
            let mut viewer = Connection::connect(&join).await.unwrap();
            let joined = joined(&mut viewer).await;
            assert!(joined.resumed, "{encoding:?} {since}");
            assert_eq!((joined.after.value(), joined.seq.value()), (since, 7));
            let missed = usize::try_from(7 - since).unwrap();
            let got = comments(&mut viewer, Seq::new(since), missed).await;
            let expected: Vec<_> = (since + 1..=7).map(|id| (id, id.to_string())).collect();
            assert_eq!(got, expected, "{encoding:?} since {since}");
        }
    }
    // Live batches follow right after a replay.
    let mut join = server.join("r");
    join.encoding = Encoding::Deflate;
    join.since = Some(Position {
        epoch,
        seq: Seq::new(3),
    });
    let mut viewer = Connection::connect(&join).await.unwrap();
    joined(&mut viewer).await;
    post(&server, "r", &["8"]).await;
    let got = comments(&mut viewer, Seq::new(3), 5).await;
    assert_eq!(got.last().unwrap(), &(8, "8".to_owned()));
}

#[tokio::test]
async fn a_position_too_far_back_gets_a_gap_and_then_what_is_left() {
    let server = Server::start(&[
        "--window-ms",
        "20",
        "--history-frames-max",
        "2",
        "--log-comments-max",
        "5",
        "--posts-per-second-per-address",
        "1000",
    ]);
    let mut live = server.watch("r", Encoding::Identity).await;
    let epoch = joined(&mut live).await.epoch;
    for id in 1..=12_u64 {
        post(&server, "r", &[&id.to_string()]).await;
        comments(&mut live, Seq::new(id - 1), 1).await;
    }
    let mut join = server.join("r");
    join.since = Some(Position {
        epoch,
        seq: Seq::new(1),
    });
    let mut viewer = Connection::connect(&join).await.unwrap();
    assert!(!joined(&mut viewer).await.resumed);
    let Event::Gap(gap) = next(&mut viewer).await else {
        panic!("no gap");
    };
    assert_eq!(gap.after, Seq::new(1));
    let left = usize::try_from(12 - gap.seq.value()).unwrap();
    let got = comments(&mut viewer, gap.seq, left).await;
    assert_eq!(got.first().unwrap().0, gap.seq.value() + 1);
    assert_eq!(got.last().unwrap().0, 12);
    assert!(gap.seq.value() <= 7, "five comments are held, {gap:?}");
}

#[tokio::test]
async fn another_epoch_is_not_resumed_and_history_shows_the_last_comments() {
    let server = Server::start(&["--window-ms", "20"]);
    let ids = post(&server, "r", &["a", "b", "c", "d"]).await;
    assert_eq!(ids, [1, 2, 3, 4]);
    server.stat_until("comments_sealed", |n| n == 4).await;
    for since in [None, Some("5:2".parse().unwrap())] {
        for encoding in Encoding::ALL {
            let mut join = server.join("r");
            join.encoding = encoding;
            join.history = Some(3);
            join.since = since;
            let mut viewer = Connection::connect(&join).await.unwrap();
            let joined = joined(&mut viewer).await;
            assert_eq!((joined.seq, joined.resumed), (Seq::new(4), false));
            assert_eq!(joined.after, Seq::new(1));
            let got = comments(&mut viewer, Seq::new(1), 3).await;
            let texts: Vec<_> = got.iter().map(|(_, text)| text.as_str()).collect();
            assert_eq!(texts, ["b", "c", "d"]);
        }
    }
}

/// More than one viewer can be sent at once: it gets the newest that fit, and a gap for the others.
#[tokio::test]
async fn a_history_of_long_comments_is_cut_to_the_newest_that_fit() {
    let server = Server::start(&[
        "--window-ms",
        "20",
        "--posts-per-second-per-address-burst",
        "1000",
    ]);
    let text = "\u{6f22}".repeat(200);
    for _ in 0..5 {
        post(&server, "r", &[text.as_str(); 100]).await;
    }
    server.sealed_until("r", 500).await;
    for encoding in Encoding::ALL {
        let mut join = server.join("r");
        (join.encoding, join.history) = (encoding, Some(500));
        let mut viewer = Connection::connect(&join).await.unwrap();
        assert_eq!(joined(&mut viewer).await.after, Seq::ZERO);
        let Event::Gap(gap) = next(&mut viewer).await else {
            panic!("no gap")
        };
        assert_eq!(gap.after, Seq::ZERO);
        let left = usize::try_from(500 - gap.seq.value()).unwrap();
        assert!(left > 200, "{encoding:?}: {left} of 500 are shown");
        let got = comments(&mut viewer, gap.seq, left).await;
        assert_eq!(got.last().unwrap().0, 500);
    }
}

#[tokio::test]
async fn over_the_cap_comments_are_shed_counted_and_still_readable() {
    let server = Server::start(&["--window-ms", "300", "--batch-comments-max", "5"]);
    let mut viewer = server.watch("r", Encoding::Deflate).await;
    joined(&mut viewer).await;
    post(&server, "r", &["leading"]).await;
    let leading = batch(&mut viewer).await;
    assert_eq!((leading.comments.len(), leading.shed), (1, 0));
    let many: Vec<_> = (0..20).map(|n| n.to_string()).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    post(&server, "r", &many).await;
    let full = batch(&mut viewer).await;
    assert_eq!(
        (
            full.after.value(),
            full.seq.value(),
            full.comments.len(),
            full.shed
        ),
        (1, 21, 5, 15)
    );
    assert!(full.comments.is_sorted_by_key(|comment| comment.id));
    for comment in &full.comments {
        assert_eq!(comment.text, (comment.id.value() - 2).to_string());
    }
    let page = server
        .http()
        .get_json("/v1/rooms/r/comments?limit=1000")
        .await
        .unwrap();
    assert_eq!(page["comments"].as_array().unwrap().len(), 21);
    assert_eq!(server.stat("comments_shed").await, 15);
}

#[tokio::test]
async fn comments_are_read_back_page_by_page() {
    let server = Server::start(&["--window-ms", "20"]);
    post(&server, "r", &["a", "b", "c"]).await;
    let mut http = server.http();
    let page = http.get_json("/v1/rooms/r/comments?limit=2").await.unwrap();
    assert_eq!((&page["more"], &page["seq"]), (&true.into(), &2.into()));
    assert_eq!(page["after"], 0);
    let epoch = page["epoch"].as_u64().unwrap();
    let page = http
        .get_json(&format!("/v1/rooms/r/comments?since={epoch}:2"))
        .await
        .unwrap();
    let comment = &page["comments"][0];
    assert_eq!((&comment["id"], &comment["text"]), (&3.into(), &"c".into()));
    assert!(comment["ts"].as_u64().unwrap() > 1_700_000_000_000);
    assert_eq!(page["comments"].as_array().unwrap().len(), 1);
    assert_eq!((&page["more"], &page["seq"]), (&false.into(), &3.into()));
    assert_eq!((page.get("gap"), page.get("events")), (None, None));
}

#[tokio::test]
async fn an_idempotency_key_posts_once() {
    let server = Server::start(&[]);
    let post = |key: &'static str, body: &'static str| {
        let request = format!(
            "POST /v1/rooms/r/comments HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
             Idempotency-Key: {key}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        String::from_utf8(server.raw(request.as_bytes())).unwrap()
    };
    let first = post("k1", r#"{"text":"once"}"#);
    assert!(first.starts_with("HTTP/1.1 201"), "{first}");
    let body = |answer: &str| answer.split("\r\n\r\n").nth(1).unwrap().to_owned();
    assert_eq!(body(&post("k1", r#"{"text":"once"}"#)), body(&first));
    let other = post("k1", r#"{"text":"twice"}"#);
    assert!(
        other.contains("422") && other.contains("idempotency_key_reused"),
        "{other}"
    );
    assert!(post("k2", r#"{"text":"again"}"#).contains(r#""id":2}"#));
    // A refused post frees its key.
    assert!(post("k3", r#"{"text":""}"#).contains("text_empty"));
    assert!(post("k3", r#"{"text":"now"}"#).contains(r#""id":3}"#));
}

#[tokio::test]
async fn an_array_is_accepted_whole_or_not_at_all() {
    let server = Server::start(&[]);
    let mut http = server.http();
    let answer = http
        .send(
            Method::POST,
            "/v1/rooms/r/comments",
            r#"[{"text":"fine"},{"text":""}]"#.into(),
        )
        .await
        .unwrap();
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    let error: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(error["error"]["code"], "text_empty");
    assert_eq!(error["error"]["index"], 1);
    assert_eq!(post(&server, "r", &["first"]).await, [1]);
}

#[tokio::test]
async fn rooms_are_listed_and_forgotten_when_idle() {
    let server = Server::start(&["--room-idle-s", "1", "--window-ms", "20"]);
    let mut viewer = server.watch("watched", Encoding::Identity).await;
    joined(&mut viewer).await;
    // A room isn't idle while somebody watches it, so this one can be looked at before it is forgotten.
    let mut passing = server.watch("left", Encoding::Identity).await;
    joined(&mut passing).await;
    post(&server, "left", &["x"]).await;
    let mut http = server.http();
    let list = http.get_json("/v1/rooms").await.unwrap();
    assert_eq!(list["total"], 2);
    assert_eq!(list["rooms"][0]["room"], "left");
    assert_eq!(list["rooms"][1]["viewers"], 1);
    drop(passing);
    server.stat_until("rooms", |n| n == 1).await;
    assert!(http.get_json("/v1/rooms/watched").await.is_ok());
    let gone = http.get_json("/v1/rooms/left").await.unwrap_err();
    assert!(matches!(gone, ClientError::Refused(r) if r.code == "room_not_found"));
    let epoch = |value: &serde_json::Value| value["epoch"].as_u64().unwrap();
    let before = epoch(&list["rooms"][0]);
    let mut back = server.watch("left", Encoding::Identity).await;
    joined(&mut back).await;
    post(&server, "left", &["a new epoch"]).await;
    let again = http.get_json("/v1/rooms/left").await.unwrap();
    assert!(epoch(&again) > before);
    assert_eq!(again["seq"], 1);
    drop((viewer, back));
    server.stat_until("rooms", |n| n == 0).await;
}

#[tokio::test]
async fn viewers_are_counted_as_they_come_and_go() {
    let server = Server::start(&["--window-ms", "20"]);
    let mut viewers = Vec::new();
    for count in 1..=5_u32 {
        let mut viewer = server.watch("r", Encoding::Identity).await;
        assert_eq!(joined(&mut viewer).await.viewers, count);
        viewers.push(viewer);
    }
    viewers.truncate(2);
    server.stat_until("viewers", |n| n == 2).await;
    post(&server, "r", &["who is here?"]).await;
    for viewer in &mut viewers {
        assert_eq!(batch(viewer).await.viewers, 2);
    }
}

#[tokio::test]
async fn the_demo_room_gets_comments() {
    let server = Server::start(&["--demo", "--window-ms", "50"]);
    let mut viewer = server.watch("demo", Encoding::Deflate).await;
    let after = joined(&mut viewer).await.seq;
    let got = comments(&mut viewer, after, 3).await;
    assert!(got.iter().all(|(_, text)| !text.is_empty()));
}
