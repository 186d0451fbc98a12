//! The server over a store that commits late, fails, and loses answers: posters get errors, viewers lose nothing.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use clap::Parser;
use danmaku_client::{
    ClientError, Connect, Connection, Event, HttpClient, NewComment, ServerAddress,
};
use danmaku_log::{Double, DoubleConfig, Sqlite, SqliteConfig, Store};
use danmaku_server::config::ServeArgs;
use danmaku_server::tasks::{Server, StopOutcome};
use danmaku_wire::{Epoch, IdempotencyKey, Position, RoomId, Seq};
use hyper::{Method, StatusCode};
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// How long a test waits for something that must happen.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    serve: ServeArgs,
}

/// A server in this process over `double`.
struct Fixture {
    server: Server,
    address: ServerAddress,
}

impl Fixture {
    fn start(double: &Double) -> Self {
        Self::start_with(double, &[])
    }

    fn start_with(double: &Double, flags: &[&str]) -> Self {
        Self::start_over(Store::Double(double.clone()), flags)
    }

    fn start_over(store: Store, flags: &[&str]) -> Self {
        let usual = [
            "test",
            "--listen",
            "127.0.0.1:0",
            "--window-ms",
            "20",
            "--segment-ms",
            "200",
        ];
        let flags = Flags::parse_from([&usual, flags].concat());
        let config = flags.serve.check(1_024).unwrap();
        let server = Server::start_with(config, store).unwrap();
        let address = server.address().to_string().parse().unwrap();
        Self { server, address }
    }

    fn http(&self) -> HttpClient {
        HttpClient::new(self.address.clone())
    }

    async fn watch(&self, since: Option<Position>) -> Connection {
        let mut join = Connect::new(self.address.clone(), room());
        join.since = since;
        Connection::connect(&join).await.unwrap()
    }

    async fn post(&self, text: &str) -> Result<Seq, ClientError> {
        let posted = self
            .http()
            .post_comments(&room(), &[NewComment::new(text)])
            .await;
        posted.map(|posted| posted.ids[0])
    }
}

fn room() -> RoomId {
    RoomId::parse("r").unwrap()
}

fn code(error: ClientError) -> String {
    match error {
        ClientError::Refused(refusal) => refusal.code,
        other => panic!("{other:?}"),
    }
}

async fn next(viewer: &mut Connection) -> Event {
    tokio::time::timeout(PATIENCE, viewer.next())
        .await
        .expect("nothing came")
        .unwrap()
}

/// Reads `count` comments in contiguous batches; returns where they end.
async fn comments(viewer: &mut Connection, count: usize) -> (Vec<(Seq, String)>, Position) {
    let mut all = Vec::new();
    let mut at = None;
    while all.len() < count {
        match next(viewer).await {
            Event::Joined(joined) => {
                at = Some(Position {
                    epoch: joined.epoch,
                    seq: joined.after,
                });
            }
            Event::Batch(batch) => {
                if let Some(at) = &mut at {
                    assert_eq!(batch.after, at.seq, "a hole");
                    at.seq = batch.seq;
                }
                all.extend(batch.comments.into_iter().map(|it| (it.id, it.text)));
            }
            other => panic!("{other:?}"),
        }
    }
    (all, at.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_refuses_posters_and_keeps_viewers() {
    let double = Double::new(DoubleConfig::calm(1));
    let fixture = Fixture::start(&double);
    let mut viewer = fixture.watch(None).await;
    let first = fixture.post("before").await.unwrap();
    double.fail();
    assert_eq!(code(fixture.post("lost").await.unwrap_err()), "unavailable");
    viewer
        .send_text(r#"{"type":"comment","text":"lost","ref":1}"#)
        .await
        .unwrap();
    let refused = loop {
        match next(&mut viewer).await {
            Event::Error(error) => break error,
            Event::Closed(closed) => panic!("{closed:?}"),
            _ => {}
        }
    };
    assert_eq!(refused.code, "unavailable");
    assert!(refused.retry_after_ms.is_some());
    double.recover();
    let second = fixture.post("after").await.unwrap();
    assert!(second > first, "numbered twice");
    let (shown, _) = comments(&mut fixture.watch_from_start().await, 2).await;
    assert_eq!(shown, [(first, "before".into()), (second, "after".into())]);
    let committed = double.committed(&room());
    assert_eq!(committed.len(), 2, "{committed:?}");
}

impl Fixture {
    /// Resumes from the beginning of the room's epoch.
    async fn watch_from_start(&self) -> Connection {
        let page = self.http().comments(&room(), None, None).await.unwrap();
        self.watch(Some(Position {
            epoch: page.epoch,
            seq: Seq::ZERO,
        }))
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_whose_answer_was_lost_can_be_retried_with_its_key() {
    let double = Double::new(DoubleConfig {
        unanswered_permille: 500,
        ..DoubleConfig::calm(7)
    });
    let fixture = Fixture::start(&double);
    let mut ids = Vec::new();
    let mut unknown = 0;
    for n in 0..40 {
        let text = format!("comment {n}");
        let key = IdempotencyKey::new(&format!("key-{n}")).unwrap();
        let id = loop {
            let new = [NewComment::new(&text)];
            let posted = fixture
                .http()
                .post_comments_with_key(&room(), &new, &key)
                .await;
            match posted {
                Ok(posted) => break posted.ids[0],
                Err(error) => {
                    assert_eq!(code(error), "outcome_unknown");
                    unknown += 1;
                }
            }
        };
        ids.push(id);
    }
    assert!(unknown > 5, "nothing was lost: the test tests nothing");
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    assert_eq!(double.committed(&room()).len(), 40, "posted twice");
    let (shown, _) = comments(&mut fixture.watch_from_start().await, 40).await;
    let expected: Vec<_> = (0..40).map(|n| (ids[n], format!("comment {n}"))).collect();
    assert_eq!(shown, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_continue_after_a_restart_and_viewers_resume() {
    for config in [
        DoubleConfig::calm(3),
        DoubleConfig {
            holes_max: 9,
            ..DoubleConfig::calm(4)
        },
    ] {
        let double = Double::new(config);
        let fixture = Fixture::start(&double);
        let mut viewer = fixture.watch(None).await;
        let first = fixture.post("first").await.unwrap();
        let (shown, at) = comments(&mut viewer, 1).await;
        assert_eq!(shown, [(first, "first".into())]);
        assert_eq!(fixture.server.stop().await, StopOutcome::Clean);

        let fixture = Fixture::start(&double);
        let second = fixture.post("second").await.unwrap();
        let mut viewer = fixture.watch(Some(at)).await;
        match next(&mut viewer).await {
            Event::Joined(joined) => assert!(joined.resumed && joined.after == at.seq),
            other => panic!("{other:?}"),
        }
        let third = fixture.post("third").await.unwrap();
        assert!(first < second && second < third);
        let mut shown = Vec::new();
        while shown.len() < 2 {
            if let Event::Batch(batch) = next(&mut viewer).await {
                shown.extend(batch.comments.into_iter().map(|it| it.id));
            }
        }
        assert_eq!(shown, [second, third]);
        fixture.server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_store_holds_up_nobody_else() {
    let slow = Double::new(DoubleConfig {
        commit_delay_max: Duration::from_millis(500),
        ..DoubleConfig::calm(5)
    });
    let fixture = Fixture::start(&slow);
    let mut viewer = fixture.watch(None).await;
    let posts: Vec<_> = (0..20)
        .map(|n| {
            let mut http = fixture.http();
            tokio::spawn(async move {
                let new = [NewComment::new(format!("c{n}"))];
                http.post_comments(&room(), &new).await.unwrap().ids[0]
            })
        })
        .collect();
    // Likes need no store: they are merged and delivered while the commits are in progress.
    viewer.like(7).await.unwrap();
    let mut likes = 0;
    let mut shown = Vec::new();
    while likes < 7 || shown.len() < 20 {
        if let Event::Batch(batch) = next(&mut viewer).await {
            likes += batch.likes;
            shown.extend(batch.comments.into_iter().map(|it| it.id));
        }
    }
    let mut acked = Vec::new();
    for post in posts {
        acked.push(post.await.unwrap());
    }
    acked.sort_unstable();
    assert_eq!(shown, acked);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_epoch_makes_viewers_reconnect_to_a_new_room() {
    let double = Double::new(DoubleConfig::calm(6));
    let fixture = Fixture::start(&double);
    let mut viewer = fixture.watch(None).await;
    fixture.post("old").await.unwrap();
    let (_, at) = comments(&mut viewer, 1).await;
    let epoch = Epoch::new(at.epoch.value() + 1);
    double.begin_epoch(&room(), epoch);
    loop {
        if let Event::Closed(closed) = next(&mut viewer).await {
            assert_eq!(closed.code, 4003);
            break;
        }
    }
    let mut viewer = fixture.watch(Some(at)).await;
    match next(&mut viewer).await {
        Event::Joined(joined) => assert_eq!((joined.epoch, joined.resumed), (epoch, false)),
        other => panic!("{other:?}"),
    }
    fixture.post("new").await.unwrap();
    let new = loop {
        if let Event::Batch(batch) = next(&mut viewer).await {
            break batch;
        }
    };
    assert_eq!(new.comments[0].text, "new");
}

#[tokio::test]
async fn an_export_that_fails_midway_does_not_look_complete() {
    let double = Double::new(DoubleConfig::calm(7));
    let most = ["--posts-per-second-per-address-burst", "100000"];
    let most_of_room = ["--posts-per-second-per-room-burst", "100000"];
    let short = ["--log-comments-max", "100"];
    let flags = [most, most_of_room, short].concat();
    let fixture = Fixture::start_with(&double, &flags);
    let comments = vec![NewComment::new("x".repeat(200)); 100];
    for _ in 0..40 {
        let mut http = fixture.http();
        http.post_comments(&room(), &comments).await.unwrap();
    }
    let path = "/v1/rooms/r/export?format=dandanplay";
    let mut whole = fixture.http().download(path).await.unwrap();
    let mut bytes = 0;
    while let Some(piece) = whole.next().await.unwrap() {
        bytes += piece.len();
    }
    assert!(bytes > 800_000);

    // Entries that go before they were written are missing, too.
    let failures: [fn(&Double); 2] = [
        |double| double.fail(),
        |double| double.drop_through(&room(), Seq::new(3_000)),
    ];
    for fail in failures {
        let (double, address) = (double.clone(), fixture.server.address());
        let read = tokio::task::spawn_blocking(move || {
            let mut stream = stalled_export(address, path);
            // The response has begun, and waits for its reader.
            let mut answer = vec![0; 12];
            stream.read_exact(&mut answer).unwrap();
            fail(&double);
            stream.read_to_end(&mut answer).unwrap();
            double.recover();
            String::from_utf8(answer).unwrap()
        });
        let answer = read.await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"));
        assert!(answer.len() < bytes, "it was written in one piece");
        assert!(!answer.ends_with("0\r\n\r\n"));
    }
    double.fail();
    // One that begins now says so.
    let refused = fixture.http().download(path).await.unwrap_err();
    assert_eq!(code(refused), "unavailable");
}

fn sqlite_config(folder: &TempDir) -> SqliteConfig {
    SqliteConfig {
        folder: folder.path().to_owned(),
        age_max: None,
        bytes_max: None,
        room_entries_max: None,
    }
}

/// A file whose commits wait for a test.
struct Gate {
    /// A commit waits.
    waits: Receiver<()>,
    /// It goes on.
    go_on: SyncSender<()>,
}

impl Gate {
    fn before_commits_of(sqlite: &Sqlite) -> Self {
        let (wait, waits) = sync_channel(0);
        let (go_on, goes_on) = sync_channel(0);
        let goes_on = Mutex::new(goes_on);
        sqlite.before_commits(move || {
            // Both fail when the test is over.
            let _ = wait.send(());
            let _ = goes_on.lock().unwrap().recv();
        });
        Self { waits, go_on }
    }

    /// Posts, and returns when the commit waits.
    fn post(&self, fixture: &Fixture, text: &str) -> JoinHandle<Seq> {
        let (mut http, new) = (fixture.http(), [NewComment::new(text)]);
        let posted = tokio::spawn(async move {
            let posted = http.post_comments(&room(), &new).await;
            posted.unwrap().ids[0]
        });
        tokio::task::block_in_place(|| self.waits.recv_timeout(PATIENCE).unwrap());
        posted
    }

    fn go_on(&self) {
        tokio::task::block_in_place(|| self.go_on.send(()).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_takes_long_holds_up_nobody_else() {
    let folder = TempDir::new().unwrap();
    let sqlite = Sqlite::start(&sqlite_config(&folder)).unwrap();
    let gate = Gate::before_commits_of(&sqlite);
    let fixture = Fixture::start_over(Store::Sqlite(sqlite), &[]);
    let mut viewer = fixture.watch(None).await;
    let first = gate.post(&fixture, "first");
    gate.go_on();
    assert_eq!(first.await.unwrap(), Seq::new(1));
    let second = gate.post(&fixture, "second");
    // Likes are shown, others join, and what is committed is read and replayed.
    viewer.like(7).await.unwrap();
    let mut likes = 0;
    while likes < 7 {
        if let Event::Batch(batch) = next(&mut viewer).await {
            likes += batch.likes;
        }
    }
    let (shown, _) = comments(&mut fixture.watch_from_start().await, 1).await;
    assert_eq!(shown, [(Seq::new(1), "first".into())]);
    assert!(!second.is_finished());
    gate.go_on();
    assert_eq!(second.await.unwrap(), Seq::new(2));
    let (shown, _) = comments(&mut fixture.watch_from_start().await, 2).await;
    assert_eq!(shown[1], (Seq::new(2), "second".into()));
    drop(gate);
    fixture.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_waits_for_a_commit_that_takes_long() {
    let folder = TempDir::new().unwrap();
    let sqlite = Sqlite::start(&sqlite_config(&folder)).unwrap();
    let gate = Gate::before_commits_of(&sqlite);
    let fixture = Fixture::start_over(Store::Sqlite(sqlite), &[]);
    let _viewer = fixture.watch(None).await;
    let begun_ms = unix_ms();
    let late = gate.post(&fixture, "late");
    let committing_ms = unix_ms();
    // Longer than entries usually take from the clock into the log.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let mut http = fixture.http();
    let segment = |n: u64| format!("/v1/rooms/r/segments/200/{n}");
    let answer = http
        .send(Method::GET, &segment(committing_ms / 200), Bytes::new())
        .await;
    assert_eq!(answer.unwrap().status, StatusCode::NOT_FOUND);
    gate.go_on();
    late.await.unwrap();
    let mut found = 0;
    for n in begun_ms / 200..=committing_ms / 200 {
        let json = http.get_json(&segment(n)).await.unwrap();
        found += json["comments"].as_array().unwrap().len();
    }
    assert_eq!(found, 1);
    drop(gate);
    fixture.server.stop().await;
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_millis().try_into().unwrap()
}

/// A client that asks for an export and does not read it yet; it does not fit into its buffers.
fn stalled_export(server: std::net::SocketAddr, path: &str) -> std::net::TcpStream {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    socket.connect(&server.into()).unwrap();
    let mut stream = std::net::TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    stream
}
