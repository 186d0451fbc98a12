//! Kills the server at random moments while viewers watch and posters post: every acknowledged comment is in the log exactly
//! once and in order, and viewers that resume have no gap and no duplicate.
//!
//! `DANMAKU_KILLS` sets the number of kills; from 50 on, 1,000 viewers watch and 50 posters post.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use danmaku_client::{
    ClientError, Connect, Connection, Event, HttpClient, NewComment, ServerAddress,
};
use danmaku_wire::{Encoding, IdempotencyKey, Position, RoomId, Seq};
use support::Server;
use tempfile::TempDir;
use tokio::sync::watch;

const FLAGS: &[&str] = &[
    "--window-ms",
    "50",
    "--posts-per-second-per-address",
    "100000",
    "--posts-per-second-per-address-burst",
    "100000",
    "--posts-per-second-per-room",
    "100000",
    "--posts-per-second-per-room-burst",
    "100000",
    "--connections-per-address-max",
    "10000",
];

/// What the tasks share.
#[derive(Clone)]
struct Show {
    server: watch::Receiver<ServerAddress>,
    over: Arc<AtomicBool>,
}

impl Show {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn address(&self) -> ServerAddress {
        self.server.borrow().clone()
    }
}

fn room() -> RoomId {
    RoomId::parse("r").unwrap()
}

/// What a poster knows of its comments by their texts: the position, or that nobody told.
type Posted = HashMap<String, Option<Seq>>;

/// Posts one comment after the other. With keys, it repeats one until it is acknowledged.
async fn poster(show: Show, name: String, keyed: bool) -> Posted {
    let mut posted = Posted::new();
    for n in 0.. {
        if show.is_over() {
            break;
        }
        let text = format!("{name}-{n}");
        let seq = loop {
            let mut http = HttpClient::new(show.address());
            let new = [NewComment::new(&text)];
            let outcome = if keyed {
                let key = IdempotencyKey::new(&text).unwrap();
                http.post_comments_with_key(&room(), &new, &key).await
            } else {
                http.post_comments(&room(), &new).await
            };
            match outcome {
                Ok(posted) => break Some(posted.ids[0]),
                Err(_) if keyed => tokio::time::sleep(Duration::from_millis(10)).await,
                Err(ClientError::Refused(refusal)) => panic!("{refusal:?}"),
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    break None;
                }
            }
        };
        posted.insert(text, seq);
    }
    posted
}

/// Watches until it has seen everything up to the position that `end` names; what it was shown, from its first position on.
async fn viewer(show: Show, mut end: watch::Receiver<Option<Seq>>) -> (Seq, Vec<(Seq, String)>) {
    let mut shown = Vec::new();
    let mut first = None;
    let mut at: Option<Position> = None;
    loop {
        let mut connect = Connect::new(show.address(), room());
        connect.encoding = Encoding::Deflate;
        connect.since = at;
        let Ok(mut connection) = Connection::connect(&connect).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        loop {
            if let (Some(end), Some(at)) = (*end.borrow_and_update(), at)
                && at.seq >= end
            {
                return (first.unwrap(), shown);
            }
            let event = tokio::select! {
                event = connection.next() => event,
                _ = end.changed() => continue,
            };
            match event {
                Ok(Event::Joined(joined)) => {
                    if let Some(at) = at {
                        assert!(joined.resumed, "cannot resume at {at}: {joined:?}");
                        assert_eq!((joined.epoch, joined.after), (at.epoch, at.seq));
                    }
                    first.get_or_insert(joined.after);
                    at = Some(Position {
                        epoch: joined.epoch,
                        seq: joined.after,
                    });
                }
                Ok(Event::Batch(batch)) => {
                    let at = at.as_mut().unwrap();
                    assert_eq!((batch.after, batch.shed), (at.seq, 0));
                    at.seq = batch.seq;
                    shown.extend(batch.comments.into_iter().map(|it| (it.id, it.text)));
                }
                Ok(Event::Closing(_)) => {}
                Ok(Event::Closed(_)) | Err(_) => break,
                Ok(other) => panic!("{other:?}"),
            }
        }
    }
}

/// The whole log.
async fn log(mut http: HttpClient) -> BTreeMap<Seq, String> {
    let mut log = BTreeMap::new();
    let mut since = None;
    loop {
        let page = http.comments(&room(), since, Some(1_000)).await.unwrap();
        assert!(page.gap.is_none(), "{:?}", page.gap);
        log.extend(page.comments.into_iter().map(|it| (it.id, it.text)));
        since = Some(Position {
            epoch: page.epoch,
            seq: page.seq,
        });
        if !page.more {
            return log;
        }
    }
}

fn check(log: &BTreeMap<Seq, String>, posted: &Posted) {
    let mut places = HashMap::new();
    for (seq, text) in log {
        assert_eq!(places.insert(text, *seq), None, "{text} is there twice");
        assert!(posted.contains_key(text), "nobody posted {text}");
    }
    for (text, told) in posted {
        if let Some(told) = told {
            assert_eq!(places.get(text), Some(told), "{text}");
        }
    }
    let dense = (1..).map(Seq::new).take(log.len());
    assert!(log.keys().copied().eq(dense), "positions are not dense");
}

/// Marsaglia's xorshift64.
fn random(state: &mut u64, bound: u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state % bound
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_the_server_is_killed() {
    let kills = std::env::var("DANMAKU_KILLS").map_or(4, |kills| kills.parse().unwrap());
    let (viewers, posters) = if kills < 50 { (20, 8) } else { (1_000, 50) };
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let mut state = u64::try_from(seed.as_nanos()).unwrap() | 1;
    println!("seed {state}");
    let folder = TempDir::new().unwrap();
    let flags = [&["--data", folder.path().to_str().unwrap()], FLAGS].concat();
    let mut server = Server::start(&flags);
    let (address, addresses) = watch::channel(server.server_address());
    let (end, ends) = watch::channel(None);
    let show = Show {
        server: addresses,
        over: Arc::default(),
    };
    let watching: Vec<_> = (0..viewers)
        .map(|_| tokio::spawn(viewer(show.clone(), ends.clone())))
        .collect();
    let posting: Vec<_> = (0..posters)
        .map(|n| tokio::spawn(poster(show.clone(), format!("p{n}"), n % 2 == 0)))
        .collect();
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(200 + random(&mut state, 500))).await;
        server.end("KILL");
        server = Server::start(&flags);
        address.send(server.server_address()).unwrap();
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    show.over.store(true, Ordering::Relaxed);
    let mut posted = Posted::new();
    for poster in posting {
        posted.extend(poster.await.unwrap());
    }
    let log = log(server.http()).await;
    check(&log, &posted);
    let last = *log.keys().next_back().expect("something was posted");
    end.send(Some(last)).unwrap();
    for viewer in watching {
        let (first, shown) = viewer.await.unwrap();
        let expected = log.range(first.next()..=last);
        assert!(shown.iter().map(|(seq, text)| (seq, text)).eq(expected));
    }
    let acknowledged = posted.values().flatten().count();
    println!(
        "{kills} kills, {acknowledged} comments acknowledged, {} in the log",
        log.len()
    );
    assert!(acknowledged > 0);
}
