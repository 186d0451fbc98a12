//! What `--data` costs: acknowledged comments a second, the delay of an ack, bytes on disk, and pages of a room of a million.
//!
//! Server and clients share this process and its cores. `DANMAKU_CORPUS` names a recording in JSON Lines to post from, as
//! for the load test; without it the comments are made up.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use danmaku_client::{Connect, Connection, Event, HttpClient, NewComment, ServerAddress};
use danmaku_server::config::ServeArgs;
use danmaku_server::tasks::Server;
use danmaku_wire::RoomId;

/// How long each rate is measured.
const MEASURED: Duration = Duration::from_secs(8);

/// Connections that post arrays.
const ARRAY_POSTERS: usize = 16;

/// Comments in an array.
const ARRAY_LEN: usize = 100;

/// Connections that post comment by comment.
const VIEWERS: u32 = 200;

/// Comments a second of all viewers when paced.
const PACED_PER_S: u32 = 2_000;

/// Comments of the room that is read.
const LONG_ROOM: usize = 1_000_000;

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    serve: ServeArgs,
}

/// Comments to post, over and over: text and user.
type Chat = Arc<Vec<(String, String)>>;

fn chat() -> Chat {
    let Ok(corpus) = std::env::var("DANMAKU_CORPUS") else {
        let text = |n: usize| "前方高能这一段".chars().cycle().take(2 + n % 9).collect();
        return Arc::new((0..1_000).map(|n| (text(n), format!("{n:08x}"))).collect());
    };
    let lines = std::fs::read_to_string(corpus).expect("DANMAKU_CORPUS is a file");
    let comment = |line: &str| {
        let comment: serde_json::Value = serde_json::from_str(line).expect("a line is JSON");
        let member = |name: &str| comment[name].as_str().unwrap_or_default().to_owned();
        (member("text"), member("u"))
    };
    Arc::new(lines.lines().map(comment).collect())
}

fn comment(chat: &Chat, n: usize) -> NewComment {
    let (text, user) = &chat[n % chat.len()];
    let mut comment = NewComment::new(text);
    comment.user = Some(user.clone());
    comment
}

async fn start(folder: Option<&Path>, more: &[&str]) -> (Server, ServerAddress) {
    let mut flags = vec!["bench", "--listen", "127.0.0.1:0"];
    if let Some(folder) = folder {
        let folder = folder.to_str().expect("a temporary folder's name is text");
        flags.extend(["--data", folder]);
    }
    flags.extend(more);
    for flag in [
        "--rooms-per-second-per-address",
        "--rooms-per-second-per-address-burst",
        "--posts-per-second-per-connection",
        "--posts-per-second-per-connection-burst",
        "--posts-per-second-per-address",
        "--posts-per-second-per-address-burst",
        "--posts-per-second-per-room",
        "--posts-per-second-per-room-burst",
    ] {
        flags.extend([flag, "1000000"]);
    }
    let config = Flags::parse_from(flags).serve.check(4_096);
    let server = Server::start(config.expect("the flags are consistent")).expect("a free port");
    let address = server.address().to_string();
    (server, address.parse().expect("an address"))
}

/// Posts arrays until `total` comments or for [`MEASURED`]; how many were acknowledged, and how long each array took.
async fn arrays(
    address: &ServerAddress,
    chat: &Chat,
    total: Option<usize>,
) -> (usize, Vec<Duration>) {
    let next = Arc::new(AtomicUsize::new(0));
    let begun = Instant::now();
    let posters: Vec<_> = (0..ARRAY_POSTERS)
        .map(|_| {
            let (mut http, chat, next) = (
                HttpClient::new(address.clone()),
                Arc::clone(chat),
                Arc::clone(&next),
            );
            tokio::spawn(async move {
                let room = RoomId::parse("arrays").expect("a valid id");
                let mut times = Vec::new();
                loop {
                    let from = next.fetch_add(ARRAY_LEN, Ordering::Relaxed);
                    let over = total.map_or(begun.elapsed() > MEASURED, |total| from >= total);
                    if over {
                        return times;
                    }
                    let new: Vec<_> = (from..from + ARRAY_LEN)
                        .map(|n| comment(&chat, n))
                        .collect();
                    let sent = Instant::now();
                    http.post_comments(&room, &new).await.expect("accepted");
                    times.push(sent.elapsed());
                }
            })
        })
        .collect();
    let mut times = Vec::new();
    for poster in posters {
        times.extend(poster.await.expect("a poster ends"));
    }
    (times.len() * ARRAY_LEN, times)
}

/// Every viewer, in a room of its own or all in one, posts its next comment when the last one is acknowledged, or at its `pace`; how long
/// each ack took.
async fn one_by_one(
    address: &ServerAddress,
    chat: &Chat,
    rooms: u32,
    pace: Option<Duration>,
) -> Vec<Duration> {
    let mut viewers = Vec::new();
    for n in 0..VIEWERS {
        let room = RoomId::parse(&format!("w{}", n % rooms)).expect("a valid id");
        let viewer = Connection::connect(&Connect::new(address.clone(), room)).await;
        viewers.push(viewer.expect("a viewer gets in"));
    }
    let begun = Instant::now();
    let posting: Vec<_> = (0u32..)
        .zip(viewers)
        .map(|(n, mut viewer)| {
            let chat = Arc::clone(chat);
            tokio::spawn(async move {
                let mut times = Vec::new();
                let mut posted = 0u32;
                while begun.elapsed() < MEASURED {
                    let mut due = Instant::now();
                    if let Some(pace) = pace {
                        due = begun + pace * posted + pace * n / VIEWERS;
                        while Instant::now() < due {
                            let _ = tokio::time::timeout_at(due.into(), viewer.next()).await;
                        }
                    }
                    let new = comment(&chat, (n + posted) as usize);
                    viewer.post(&new, None).await.expect("sent");
                    posted += 1;
                    while !matches!(viewer.next().await.expect("goes on"), Event::Ack(_)) {}
                    // From when it was due: a late one counts as late.
                    times.push(due.elapsed());
                }
                times
            })
        })
        .collect();
    let mut times = Vec::new();
    for viewer in posting {
        times.extend(viewer.await.expect("a viewer ends"));
    }
    times
}

/// All in one room: each viewer reads the comments of all between its acks, here in the same process. With few comments in a
/// batch there is less to read, and the store, the room and the sealing have the same to do.
async fn one_room(chat: &Chat, pace: Duration) {
    let seconds = usize::try_from(MEASURED.as_secs()).expect("a few seconds");
    for batch_max in ["100000", "20"] {
        for data in [false, true] {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let path = data.then(|| folder.path());
            let (server, address) = start(path, &["--batch-comments-max", batch_max]).await;
            let times = one_by_one(&address, chat, 1, Some(pace)).await;
            let per_second = times.len() / seconds;
            let store = if data { "a file" } else { "memory" };
            let what = format!("the same in one room, {store}, batches up to {batch_max}");
            report(&what, times, per_second);
            server.stop().await;
        }
    }
}

/// How long pages of the long room take, from the request to the whole response.
#[allow(
    clippy::print_stdout,
    reason = "the figures are what this bench is for"
)]
async fn pages(address: &ServerAddress) {
    let mut http = HttpClient::new(address.clone());
    let path = "/v1/rooms/arrays/comments";
    let mut ends = Vec::new();
    for order in ["oldest", "newest"] {
        let page = http
            .get_json(&format!("{path}?order={order}&limit=1"))
            .await;
        let page = page.expect("a page");
        ends.push(page["comments"][0]["ts"].as_u64().expect("a time"));
    }
    let middle = ends[0].midpoint(ends[1]);
    for query in [
        "since=500000&limit=1000".to_owned(),
        format!("from={middle}&limit=1000"),
        format!("to={middle}&order=newest&limit=1000"),
    ] {
        let begun = Instant::now();
        http.get_json(&format!("{path}?{query}"))
            .await
            .expect("a page");
        let ms = begun.elapsed().as_secs_f64() * 1e3;
        println!("page of a room of {LONG_ROOM}, {query}: {ms:.1} ms");
    }
}

#[allow(
    clippy::print_stdout,
    reason = "the figures are what this bench is for"
)]
fn report(what: &str, mut times: Vec<Duration>, per_second: usize) {
    times.sort_unstable();
    let at =
        |share: usize| times[(times.len() * share / 100).min(times.len() - 1)].as_secs_f64() * 1e3;
    println!(
        "{what}: {per_second}/s, p50 {:.1} ms, p99 {:.1} ms",
        at(50),
        at(99)
    );
}

async fn measure() {
    let chat = chat();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (server, address) = start(Some(folder.path()), &[]).await;
    let seconds = usize::try_from(MEASURED.as_secs()).expect("a few seconds");
    let (count, times) = arrays(&address, &chat, None).await;
    report("arrays of 100", times, count / seconds);
    let times = one_by_one(&address, &chat, VIEWERS, None).await;
    let per_second = times.len() / seconds;
    report("one by one over 200 WebSockets", times, per_second);
    let pace = Duration::from_secs(1) * VIEWERS / PACED_PER_S;
    let times = one_by_one(&address, &chat, VIEWERS, Some(pace)).await;
    let per_second = times.len() / seconds;
    report("2,000/s over 200 WebSockets", times, per_second);
    server.stop().await;
    one_room(&chat, pace).await;

    let folder = tempfile::tempdir().expect("a temporary folder");
    let (server, address) = start(Some(folder.path()), &[]).await;
    arrays(&address, &chat, Some(LONG_ROOM)).await;
    pages(&address).await;
    server.stop().await;
    bytes(folder.path());
}

#[allow(
    clippy::print_stdout,
    reason = "the figures are what this bench is for"
)]
fn bytes(folder: &Path) {
    let file = std::fs::metadata(folder.join("danmaku.db")).expect("the data file");
    println!(
        "disk: {:.1} bytes per comment",
        file.len() as f64 / LONG_ROOM as f64
    );
}

fn main() {
    tokio::runtime::Runtime::new()
        .expect("a runtime")
        .block_on(measure());
}
