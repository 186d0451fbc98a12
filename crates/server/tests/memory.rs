//! The memory budget of all rooms: who forgets, and what that means for returning viewers.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use danmaku_client::{Connection, Event, HttpClient, NewComment};
use danmaku_wire::{Epoch, Position, RoomId, Seq};
use serde_json::Value;
use support::Server;

const MEMORY_MAX: u64 = 1_000_000;
const ROOMS: usize = 80;
const COMMENTS: usize = 50;

async fn post(http: &mut HttpClient, room: &str, comments: &[NewComment]) -> u64 {
    let room = RoomId::parse(room).unwrap();
    let posted = http.post_comments(&room, comments).await.unwrap();
    posted.ids.last().unwrap().value()
}

/// Everything that the room's log holds.
async fn held(http: &mut HttpClient, room: &str) -> Value {
    let path = format!("/v1/rooms/{room}/comments?since=0&limit=1000");
    http.get_json(&path).await.unwrap()
}

fn comments(page: &Value) -> usize {
    page["comments"].as_array().unwrap().len()
}

#[tokio::test]
async fn over_the_budget_inactive_rooms_forget_first() {
    let max = MEMORY_MAX.to_string();
    let server = Server::start(&[
        "--memory-max",
        &max,
        "--window-ms",
        "20",
        "--posts-per-second-per-address",
        "100000",
        "--posts-per-second-per-address-burst",
        "100000",
    ]);
    let mut http = server.http();
    let many = vec![NewComment::new("x".repeat(200)); COMMENTS];
    for n in 0..ROOMS {
        let room = format!("room{n}");
        // Only a room that somebody watches, or just has, keeps frames.
        let _viewer = Connection::connect(&server.join(&room)).await.unwrap();
        let seq = post(&mut http, &room, &many).await;
        server.sealed_until(&room, seq).await;
        let seq = post(&mut http, "active", &[NewComment::new("again")]).await;
        server.sealed_until("active", seq).await;
    }
    let all = server.stat("room_bytes").await + server.stat("room_bytes_freed").await;
    assert!(all > MEMORY_MAX + MEMORY_MAX / 2, "{all} bytes: too few");
    server
        .stat_until("room_bytes", |bytes| bytes <= MEMORY_MAX)
        .await;

    let active = held(&mut http, "active").await;
    assert_eq!((comments(&active), &active["gap"]), (ROOMS, &Value::Null));
    let newest = held(&mut http, &format!("room{}", ROOMS - 1)).await;
    assert_eq!(
        (comments(&newest), &newest["gap"]),
        (COMMENTS, &Value::Null)
    );
    let oldest = held(&mut http, "room0").await;
    assert_eq!(comments(&oldest), 0);
    assert_eq!(oldest["gap"]["seq"], COMMENTS);

    // A viewer returning to the oldest room gets a gap and continues from there.
    let mut join = server.join("room0");
    join.since = Some(Position {
        epoch: Epoch::new(oldest["epoch"].as_u64().unwrap()),
        seq: Seq::new(10),
    });
    let mut viewer = Connection::connect(&join).await.unwrap();
    let Event::Joined(joined) = viewer.next().await.unwrap() else {
        panic!("not joined");
    };
    assert!(!joined.resumed);
    let Event::Gap(gap) = viewer.next().await.unwrap() else {
        panic!("no gap");
    };
    assert_eq!((gap.after.value(), gap.seq.value()), (10, COMMENTS as u64));
    let seq = post(&mut http, "room0", &[NewComment::new("on")]).await;
    let Event::Batch(batch) = viewer.next().await.unwrap() else {
        panic!("no batch");
    };
    assert_eq!((batch.after, batch.seq.value()), (gap.seq, seq));
}
