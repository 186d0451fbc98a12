//! What an honest viewer's join costs while others ask for as much history as they can: 24 clients join nonstop, each
//! time with a different `history=` or `since=`, in gzip.
//!
//! Server and clients share this process and its cores, so compare the two rows rather than read one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use danmaku_client::{Connect, Connection, Event, HttpClient, NewComment, ServerAddress};
use danmaku_server::config::ServeArgs;
use danmaku_server::tasks::Server;
use danmaku_wire::{Encoding, Epoch, Position, RoomId, Seq};

const STORMERS: u64 = 24;
const HONEST_JOINS: usize = 400;
const HONEST_PAUSE: Duration = Duration::from_millis(10);

/// Comments in the room, each as long as one may be.
const COMMENTS: u64 = 8_000;

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    serve: ServeArgs,
}

/// The room that everybody joins.
struct Stage {
    address: ServerAddress,
    room: RoomId,
    epoch: Epoch,
}

impl Stage {
    fn join(&self) -> Connect {
        Connect::new(self.address.clone(), self.room.clone())
    }

    /// From the connection to the first message.
    async fn honest_join(&self) -> Duration {
        let begun = Instant::now();
        let mut viewer = Connection::connect(&self.join())
            .await
            .expect("an honest viewer gets in");
        let first = viewer.next().await.expect("the first message");
        assert!(matches!(first, Event::Joined(_)));
        begun.elapsed()
    }

    /// Joins again and again until `stop`, and reads what it asked for.
    async fn storm(self: Arc<Self>, seed: u64, stop: Arc<AtomicBool>, joins: Arc<AtomicU64>) {
        let mut n = seed;
        while !stop.load(Ordering::Relaxed) {
            n += STORMERS;
            let mut join = self.join();
            join.encoding = Encoding::Gzip;
            if n.is_multiple_of(2) {
                join.history = Some(u32::try_from(1 + n % 500).expect("below 501"));
            } else {
                join.since = Some(Position {
                    epoch: self.epoch,
                    seq: Seq::new(n.wrapping_mul(7_919) % COMMENTS),
                });
            }
            if let Ok(mut viewer) = Connection::connect(&join).await {
                // `joined`, then a gap or a batch.
                let _ = viewer.next().await;
                let _ = viewer.next().await;
                joins.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    async fn honest_joins(&self) -> Vec<Duration> {
        let mut times = Vec::with_capacity(HONEST_JOINS);
        for _ in 0..HONEST_JOINS {
            times.push(self.honest_join().await);
            tokio::time::sleep(HONEST_PAUSE).await;
        }
        times.sort_unstable();
        times
    }
}

async fn fill(address: &ServerAddress, room: &RoomId) -> Epoch {
    let mut http = HttpClient::new(address.clone());
    let mut epoch = Epoch::new(0);
    let mut posted = 0;
    while posted < COMMENTS {
        let text = |n| format!("{n} {}", "长".repeat(190));
        let new: Vec<_> = (posted..posted + 100)
            .map(|n| NewComment::new(text(n)))
            .collect();
        epoch = http
            .post_comments(room, &new)
            .await
            .expect("the limits are raised")
            .epoch;
        posted += 100;
    }
    // The last window.
    tokio::time::sleep(Duration::from_secs(2)).await;
    epoch
}

#[allow(
    clippy::print_stdout,
    reason = "the figures are what this bench is for"
)]
fn print(what: &str, times: &[Duration]) {
    let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)];
    println!(
        "{what}: {} honest joins, p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
        times.len(),
        at(50).as_secs_f64() * 1e3,
        at(99).as_secs_f64() * 1e3,
        at(100).as_secs_f64() * 1e3,
    );
}

#[allow(
    clippy::print_stdout,
    reason = "the figures are what this bench is for"
)]
async fn measure() {
    let flags = Flags::parse_from([
        "joins",
        "--listen=127.0.0.1:0",
        "--connections-per-address-max=100000",
        "--posts-per-second-per-address=1000000",
        "--posts-per-second-per-address-burst=1000000",
        "--posts-per-second-per-room=1000000",
        "--posts-per-second-per-room-burst=1000000",
        "--log-bytes-max=16777216",
    ]);
    let config = flags.serve.check(4_096).expect("flags that fit");
    let server = Server::start(config).expect("a free port");
    let address: ServerAddress = server.address().to_string().parse().expect("an address");
    let room = RoomId::parse("stormed").expect("an id");
    let epoch = fill(&address, &room).await;
    let stage = Arc::new(Stage {
        address,
        room,
        epoch,
    });
    print("alone", &stage.honest_joins().await);

    let stop = Arc::new(AtomicBool::new(false));
    let joins = Arc::new(AtomicU64::new(0));
    let stormers: Vec<_> = (0..STORMERS)
        .map(|seed| {
            let storm = Arc::clone(&stage).storm(seed, Arc::clone(&stop), Arc::clone(&joins));
            tokio::spawn(storm)
        })
        .collect();
    let begun = Instant::now();
    let times = stage.honest_joins().await;
    let rate = joins.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    for stormer in stormers {
        let _ = stormer.await;
    }
    print(&format!("beside {rate:.0} joins/s with history"), &times);
    server.stop().await;
}

fn main() {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(measure());
}
