//! A store whose commits take half a second, and more comments than it takes. The server is this test binary, run again.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Parser;
use danmaku_client::{ClientError, Event, HttpClient, NewComment, ServerAddress};
use danmaku_log::{Sqlite, Store};
use danmaku_server::config::ServeArgs;
use danmaku_wire::{Encoding, RoomId};
use hyper::Method;
use tempfile::TempDir;

use crate::show::{Show, read_log};
use crate::support::{self, PATIENCE, Server};
use crate::{flags, scale};

/// How long each commit takes.
const COMMIT: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_disk_holds_up_only_posters() {
    let (commits, crowd) = scale("DANMAKU_SLOW_COMMITS", 4);
    let folder = TempDir::new().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--ignored", "--exact", "--nocapture"]);
    child.arg("slow::a_server_with_a_slow_disk");
    child.env(FOLDER, folder.path());
    let server = Server::start_other(&mut child, false);
    let show = Show::begin(server.server_address(), crowd);
    tokio::time::sleep(COMMIT).await;
    let before = support::resident_bytes(&server).await;
    let flood = Flood::begin(&server.server_address(), crowd.viewers / 4);
    let mut longest = Duration::ZERO;
    for _ in 0..commits {
        longest = longest.max(like_delay(&server).await);
        tokio::time::sleep(COMMIT).await;
    }
    let grown = support::resident_bytes(&server)
        .await
        .saturating_sub(before);
    let (accepted, overloaded) = flood.end().await;
    let outcome = show.end().await;
    println!(
        "{commits} slow commits: {outcome}; flood: {accepted} arrays acknowledged, {overloaded} refused; \
         a like took up to {longest:?}; {grown} bytes more"
    );
    assert!(outcome.acknowledged > 0 && outcome.refused == 0);
    assert!(grown < GROWN_BYTES_MAX, "{grown} bytes more");
    drop(server);
    let server = Server::start(&flags(&folder));
    assert_eq!(read_log(server.http()).await, outcome.log);
}

/// How long a like takes to a viewer, who joins meanwhile.
async fn like_delay(server: &Server) -> Duration {
    let mut viewer = server.watch("likes", Encoding::Identity).await;
    let sent = Instant::now();
    let like = Bytes::from_static(br#"{"count":1}"#);
    let path = "/v1/rooms/likes/likes";
    server.http().send(Method::POST, path, like).await.unwrap();
    loop {
        let event = tokio::time::timeout(PATIENCE, viewer.next()).await;
        if let Event::Batch(batch) = event.expect("nothing is shown").unwrap()
            && batch.likes > 0
        {
            return sent.elapsed();
        }
    }
}

/// Posters of long arrays: more than the queue to the disk holds, if there are many.
struct Flood {
    over: Arc<AtomicBool>,
    accepted: Arc<AtomicU64>,
    overloaded: Arc<AtomicU64>,
    posting: Vec<tokio::task::JoinHandle<()>>,
}

impl Flood {
    fn begin(server: &ServerAddress, posters: usize) -> Self {
        let mut flood = Self {
            over: Arc::default(),
            accepted: Arc::default(),
            overloaded: Arc::default(),
            posting: Vec::new(),
        };
        for _ in 0..posters {
            let posting = flood.poster(server.clone());
            flood.posting.push(tokio::spawn(posting));
        }
        flood
    }

    fn poster(&self, server: ServerAddress) -> impl Future<Output = ()> + Send + 'static {
        let over = Arc::clone(&self.over);
        let (accepted, overloaded) = (Arc::clone(&self.accepted), Arc::clone(&self.overloaded));
        async move {
            let room = RoomId::parse("flood").unwrap();
            let array = vec![NewComment::new("弹".repeat(200)); 100];
            while !over.load(Ordering::Relaxed) {
                let mut http = HttpClient::new(server.clone());
                match http.post_comments(&room, &array).await {
                    Ok(_) => accepted.fetch_add(1, Ordering::Relaxed),
                    Err(ClientError::Refused(refusal)) => {
                        // The queue is full, or the address has too many bytes on their way into it.
                        let codes = ["overloaded", "rate_limited"];
                        assert!(codes.contains(&&*refusal.code), "{refusal:?}");
                        tokio::time::sleep(COMMIT / 5).await;
                        overloaded.fetch_add(1, Ordering::Relaxed)
                    }
                    Err(error) => panic!("{error}"),
                };
            }
        }
    }

    /// How many arrays were accepted, and how many were refused.
    async fn end(self) -> (u64, u64) {
        self.over.store(true, Ordering::Relaxed);
        for poster in self.posting {
            poster.await.unwrap();
        }
        (
            self.accepted.load(Ordering::Relaxed),
            self.overloaded.load(Ordering::Relaxed),
        )
    }
}

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    serve: ServeArgs,
}

/// No test: the process that the test above starts.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by `a_slow_disk_holds_up_only_posters`"]
async fn a_server_with_a_slow_disk() {
    let Ok(folder) = std::env::var(FOLDER) else {
        return;
    };
    let flags = [
        &["test", "--listen", "127.0.0.1:0", "--data", &folder],
        crate::FLAGS,
    ]
    .concat();
    let config = Flags::parse_from(flags).serve.check(4_096).unwrap();
    let sqlite = Sqlite::start(config.data.as_ref().unwrap()).unwrap();
    sqlite.before_commits(|| std::thread::sleep(COMMIT));
    let server = danmaku_server::tasks::Server::start_with(config, Store::Sqlite(sqlite)).unwrap();
    // After what the test harness says.
    println!("\nlistening on http://{}", server.address());
    std::future::pending::<()>().await;
}

/// Set for that process: its data folder.
const FOLDER: &str = "DANMAKU_TEST_SLOW_FOLDER";

/// What the server may hold beyond what it held before the flood: the queue to the disk, two rooms' rings, and the bodies of
/// posts.
const GROWN_BYTES_MAX: u64 = 128 << 20;
