//! Reading a room of 1,000,000 comments again: how soon each kind of read starts to answer, how fast exports are written, and
//! how much memory they take.
//!
//! Server and client share this process and its cores; the client throws away what it gets.

use std::path::Path;
use std::time::{Duration, Instant};

use clap::Parser;
use danmaku_client::{Connect, Connection, Event, HttpClient, ServerAddress};
use danmaku_log::{EntryBody, Importer};
use danmaku_server::config::ServeArgs;
use danmaku_server::tasks::Server;
use danmaku_wire::{
    Comment, CommentLimits, CommentText, Encoding, Epoch, Position, RoomId, Seq, UserId,
};

const COMMENTS: u64 = 1_000_000;

/// A comment every 172.8 ms: two days.
const LENGTH_MS: u64 = 2 * DAY_MS;

const DAY_MS: u64 = 24 * 3_600 * 1_000;

const START_MS: u64 = 1_764_000_000_000;

/// Reads of each kind, from different places of the last day.
const READS: u64 = 20;

const FORMATS: [&str; 4] = ["jsonl", "xml", "ass", "dandanplay"];

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    serve: ServeArgs,
}

fn room() -> RoomId {
    RoomId::parse("long").expect("a valid id")
}

fn time_of(n: u64) -> u64 {
    START_MS + n * (LENGTH_MS / 1_000) / (COMMENTS / 1_000)
}

fn comment(n: u64) -> (u64, EntryBody) {
    let limits = CommentLimits::default();
    let letters = 2 + usize::try_from(n % 9).unwrap_or_default();
    let text: String = "前方高能这一段".chars().cycle().take(letters).collect();
    let mut comment = Comment::new(CommentText::new(&text, &limits).expect("a valid text"));
    comment.user = UserId::new(&format!("{:08x}", n % 5_000), &limits).ok();
    let body = EntryBody::Comment {
        priority: comment.priority(),
        fragment: comment.fragment(),
    };
    (time_of(n), body)
}

#[allow(
    clippy::print_stdout,
    reason = "the figures are what this bench is for"
)]
fn fill(folder: &Path) {
    let begun = Instant::now();
    let importer = Importer::open(folder, room()).expect("an empty folder");
    let comments = (0..COMMENTS).map(comment);
    importer
        .commit(Epoch::new(1), Some(START_MS), comments)
        .expect("there is room on the disk");
    println!("{COMMENTS} comments imported in {:.1?}", begun.elapsed());
}

fn start(folder: &Path) -> (Server, ServerAddress) {
    let mut flags = vec!["bench", "--listen", "127.0.0.1:0", "--data"];
    flags.push(folder.to_str().expect("a temporary folder's name is text"));
    for flag in [
        "--requests-per-second-per-address",
        "--requests-per-second-per-address-burst",
    ] {
        flags.extend([flag, "1000000"]);
    }
    let config = Flags::parse_from(flags).serve.check(4_096);
    let server = Server::start(config.expect("the flags are consistent")).expect("a free port");
    let address = server.address().to_string();
    (server, address.parse().expect("an address"))
}

/// Reads a response to its end: when its first bytes came, how many there were, and the most memory meanwhile.
async fn download(address: &ServerAddress, path: &str) -> (Duration, usize, u64) {
    let begun = Instant::now();
    let download = HttpClient::new(address.clone()).download(path).await;
    let mut download = download.expect("the server answers");
    let (mut first, mut bytes, mut most) = (None, 0, 0);
    while let Some(piece) = download.next().await.expect("the body is whole") {
        first.get_or_insert(begun.elapsed());
        bytes += piece.len();
        most = most.max(memory());
    }
    (first.expect("the body is not empty"), bytes, most)
}

/// Watches from a position until the first comments or the gap in their place.
async fn resume(address: &ServerAddress, seq: u64) -> Duration {
    let begun = Instant::now();
    let mut connect = Connect::new(address.clone(), room());
    connect.encoding = Encoding::Deflate;
    connect.since = Some(Position {
        epoch: Epoch::new(1),
        seq: Seq::new(seq),
    });
    let mut viewer = Connection::connect(&connect).await.expect("a connection");
    loop {
        if let Event::Batch(_) | Event::Gap(_) = viewer.next().await.expect("an event") {
            return begun.elapsed();
        }
    }
}

/// The process's anonymous memory, in bytes.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or_default() << 10
}

#[allow(
    clippy::print_stdout,
    reason = "the figures are what this bench is for"
)]
fn report(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let (median, last) = (times[times.len() / 2], times[times.len() - 1]);
    println!("{what:<42} median {median:>8.1?}, longest {last:>8.1?}");
}

#[allow(
    clippy::print_stdout,
    reason = "the figures are what this bench is for"
)]
async fn measure(address: &ServerAddress) {
    let places = || (0..READS).map(|n| COMMENTS / 2 + n * (COMMENTS / 2 / READS));
    let path = |query: &str| format!("/v1/rooms/long/{query}");
    let mut times = Vec::new();
    for seq in places() {
        times.push(resume(address, seq).await);
    }
    report("`since=` up to a day back: first message", times);
    for (what, query) in [
        ("a page by position: first byte", "since=1:"),
        ("a page by time: first byte", "from="),
    ] {
        let mut times = Vec::new();
        for seq in places() {
            let place = if query == "from=" { time_of(seq) } else { seq };
            let path = path(&format!("comments?limit=1000&{query}{place}"));
            times.push(download(address, &path).await.0);
        }
        report(what, times);
    }
    for format in FORMATS {
        let mut times = Vec::new();
        for seq in places() {
            let (from, to) = (time_of(seq), time_of(seq + 1_000));
            let path = path(&format!("export?format={format}&from={from}&to={to}"));
            times.push(download(address, &path).await.0);
        }
        report(&format!("export as {format}: first byte"), times);
        let (before, begun) = (memory(), Instant::now());
        let path = path(&format!("export?format={format}"));
        let (first, bytes, most) = download(address, &path).await;
        println!(
            "    all of it: first byte {first:.1?}, {} MB in {:.1?}, {} KiB more memory",
            bytes / 1_000_000,
            begun.elapsed(),
            most.saturating_sub(before) >> 10
        );
    }
}

fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fill(folder.path());
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let (server, address) = start(folder.path());
        measure(&address).await;
        server.stop().await;
    });
}
