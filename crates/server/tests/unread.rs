//! Unread responses and unfinished bodies: pages are limited in bytes, and what the server holds for them is bounded, per
//! address and in total.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use support::raw::{Answer, runtime};
use support::{PATIENCE, Server};

const COMMENTS: &str = "/v1/rooms/r/comments";
const PAGE_BYTES_MAX: usize = 256 << 10;
/// `--http-bytes-max` for four addresses with the smallest share, 1 MiB.
const FOUR_SHARES: [&str; 2] = ["--http-bytes-max", "4194304"];
const BUSY: &[&str] = &[
    "--rooms-per-second-per-address",
    "100000",
    "--rooms-per-second-per-address-burst",
    "100000",
    "--posts-per-second-per-address",
    "100000",
    "--posts-per-second-per-address-burst",
    "100000",
    "--requests-per-second-per-address",
    "100000",
    "--requests-per-second-per-address-burst",
    "100000",
    "--admin-listen",
    "127.0.0.1:0",
];

/// A server behind a proxy, which is us, with a full page of long comments.
fn server(flags: &[&str]) -> Server {
    let proxy = ["--trusted-proxies", "127.0.0.1"];
    let buffers = ["--send-buffer-bytes", "4096"];
    let patience = ["--answer-deadline-ms", "600000"];
    let server = Server::start(&[BUSY, &proxy, &buffers, &patience, flags].concat());
    let comment = format!(r#"{{"text":"{}"}}"#, "\u{10FFFF}".repeat(200));
    let hundred = format!("[{}]", [comment.as_str(); 100].join(","));
    for _ in 0..10 {
        let posted = Answer::to(&server, &format!("POST {COMMENTS}"), &[], &hundred);
        assert_eq!(posted.status, 201, "{posted:?}");
    }
    server
}

/// The header of a request of the `n`th client.
fn client(n: u32) -> String {
    format!("X-Forwarded-For: 198.51.100.{n}")
}

/// Requests the largest page on its own connection and reads only the status.
fn unread(server: &Server, n: u32) -> (TcpStream, String) {
    unread_of(server, n, &format!("{COMMENTS}?limit=1000"))
}

fn unread_of(server: &Server, n: u32, path: &str) -> (TcpStream, String) {
    let mut stream = server.raw_stream();
    let socket = socket2::SockRef::from(&stream);
    socket.set_recv_buffer_size(4_096).unwrap();
    let client = client(n);
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n{client}\r\n\r\n").unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).unwrap();
    (stream, String::from_utf8(status.to_vec()).unwrap())
}

/// Sends part of a long body, or as much of it as the server takes.
fn unfinished(server: &Server, n: u32, bytes: usize) -> TcpStream {
    let mut stream = server.raw_stream();
    let client = client(n);
    let head = format!(
        "POST {COMMENTS} HTTP/1.1\r\nHost: x\r\n{client}\r\nContent-Length: 262144\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let _ = stream.write_all(&vec![b' '; bytes]);
    stream
}

/// Sends most of a long body, and waits until the server holds it, or has refused it and holds nothing of it.
fn held_or_refused(server: &Server, n: u32, refusals: &str) -> TcpStream {
    const BYTES: usize = 255 << 10;
    // The first 4 KiB of a body may not be counted.
    const COUNTED_MIN: u64 = BYTES as u64 - 4_096;
    let runtime = runtime();
    let refused = || runtime.block_on(server.stat(refusals));
    let (before, refused_before) = (held(server, |_| true), refused());
    let stream = unfinished(server, n, BYTES);
    let start = Instant::now();
    while refused() == refused_before && held(server, |_| true) < before + COUNTED_MIN {
        assert!(start.elapsed() < PATIENCE, "neither held nor refused");
    }
    held(server, |bytes| {
        bytes == before || bytes >= before + COUNTED_MIN
    });
    stream
}

fn held(server: &Server, wanted: impl Fn(u64) -> bool) -> u64 {
    runtime().block_on(server.stat_until("http_bytes_held", wanted))
}

#[test]
fn a_segment_is_limited_in_bytes_and_counted_until_it_is_read() {
    let server = server(&FOUR_SHARES);
    let first = Answer::to(&server, &format!("GET {COMMENTS}?limit=1"), &[], "").json();
    let mut n = first["comments"][0]["ts"].as_u64().unwrap() / 2_000;
    let (mut at, mut comments, mut largest) = (0, 0, (0, String::new()));
    let start = Instant::now();
    while at < 1_000 {
        let path = format!("/v1/rooms/r/segments/2000/{n}");
        let answer = Answer::to(&server, &format!("GET {path}"), &[], "");
        if answer.code() == "segment_not_ready" {
            assert!(start.elapsed() < PATIENCE, "{answer:?}");
            std::thread::sleep(Duration::from_millis(100));
            continue;
        }
        assert!(answer.body.len() < 1 << 20, "{}", answer.body.len());
        let segment = answer.json();
        comments += segment["comments"].as_array().unwrap().len() as u64;
        comments += segment["shed"].as_u64().unwrap_or(0);
        assert_eq!(segment["after"], at);
        at = segment["seq"].as_u64().unwrap();
        largest = largest.max((answer.body.len() as u64, path));
        n += 1;
    }
    assert_eq!(comments, 1_000);
    let (bytes, path) = largest;
    let (stream, status) = unread_of(&server, 1, &path);
    assert!(status.ends_with("200"), "{status}");
    held(&server, |held| held == bytes);
    drop(stream);
    held(&server, |held| held == 0);
}

#[test]
fn a_page_of_comments_is_limited_in_bytes_and_the_next_one_continues() {
    let server = server(&[]);
    let (mut since, mut ids, mut pages) = (0, Vec::new(), 0);
    loop {
        let line = format!("GET {COMMENTS}?limit=1000&since={since}");
        let answer = Answer::to(&server, &line, &[], "");
        assert!(answer.body.len() <= PAGE_BYTES_MAX, "{}", answer.body.len());
        let page = answer.json();
        let comments = page["comments"].as_array().unwrap();
        ids.extend(
            comments
                .iter()
                .map(|comment| comment["id"].as_u64().unwrap()),
        );
        pages += 1;
        assert_eq!(page["after"], since);
        since = page["seq"].as_u64().unwrap();
        assert_eq!(ids.last(), Some(&since));
        if page["more"] == false {
            break;
        }
    }
    assert!(ids.into_iter().eq(1..=1_000));
    // 850 bytes each.
    assert_eq!(pages, 4);
}

#[test]
fn a_page_of_rooms_is_limited_in_bytes_and_names_the_next() {
    let flags = [&FOUR_SHARES[..], &["--send-buffer-bytes", "4096"]];
    let server = Server::start(&[BUSY, flags[0], flags[1]].concat());
    let mut wanted: Vec<_> = (0..1_300).map(|n| format!("{n:0>64}")).collect();
    wanted.sort();
    let mut http = server.http();
    runtime().block_on(async {
        for room in &wanted {
            let room = danmaku_wire::RoomId::parse(room).unwrap();
            let new = [danmaku_client::NewComment::new("hello")];
            http.post_comments(&room, &new).await.unwrap();
        }
    });
    for limit in [10_000, 7, 100] {
        let (mut after, mut rooms) = (String::new(), Vec::new());
        loop {
            let line = format!("GET /v1/rooms?limit={limit}{after}");
            let answer = Answer::to(&server, &line, &[], "");
            assert!(answer.body.len() <= PAGE_BYTES_MAX, "{}", answer.body.len());
            let page = answer.json();
            assert_eq!(page["total"], 1_300);
            let views = page["rooms"].as_array().unwrap();
            assert!(views.len() <= limit);
            rooms.extend(
                views
                    .iter()
                    .map(|view| view["room"].as_str().unwrap().to_owned()),
            );
            if page["more"] == false {
                assert!(page["next"].is_null());
                break;
            }
            assert_eq!(page["next"], rooms.last().unwrap().as_str());
            after = format!("&after={}", rooms.last().unwrap());
        }
        assert_eq!(rooms, wanted, "with limit={limit}");
    }
    // Those that nobody reads are bounded as pages of comments are.
    let unread = (0..20).map(|_| unread_of(&server, 1, "/v1/rooms?limit=10000"));
    let (taken, refused): (Vec<_>, Vec<_>) =
        unread.partition(|(_, status)| status.ends_with("200"));
    assert_eq!((taken.len(), refused.len()), (4, 16));
    assert!(held(&server, |_| true) <= 1 << 20);
}

#[test]
fn unread_responses_are_bounded_per_address() {
    let server = server(&FOUR_SHARES);
    let (mut taken, mut refused) = (Vec::new(), 0);
    for _ in 0..400 {
        match unread(&server, 1) {
            (stream, status) if status == "HTTP/1.1 200" => taken.push(stream),
            (_, status) => {
                assert_eq!(status, "HTTP/1.1 429");
                refused += 1;
            }
        }
    }
    // Each fits into what one address may hold, and a little is with the kernels.
    assert!((3..=4).contains(&taken.len()), "{}", taken.len());
    assert!(held(&server, |_| true) <= 1 << 20);
    let runtime = runtime();
    assert_eq!(
        runtime.block_on(server.stat("requests_rate_limited")),
        refused
    );
    let line = format!("GET {COMMENTS}?limit=1000");
    let why = Answer::to(&server, &line, &[&client(1)], "");
    assert_eq!((why.status, why.code()), (429, "rate_limited".to_owned()));
    assert_eq!(why.header("retry-after"), Some("1"));
    assert_eq!(why.json()["error"]["retry_after_ms"], 1_000);
    let other = Answer::to(&server, &line, &[&client(2)], "");
    assert_eq!(other.status, 200);
    assert!(other.body.len() > PAGE_BYTES_MAX / 2);
    // Accepted responses are complete, and then the address may send requests again.
    let mut first = taken.pop().unwrap();
    first.shutdown(std::net::Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    first.read_to_end(&mut rest).unwrap();
    assert!(
        rest.ends_with(b"}]}"),
        "{}",
        rest[rest.len() - 20..].escape_ascii()
    );
    let start = Instant::now();
    while Answer::to(&server, &line, &[&client(1)], "").status != 200 {
        assert!(start.elapsed() < PATIENCE, "bytes that were read stay held");
    }
    drop(taken);
    held(&server, |bytes| bytes == 0);
}

#[test]
fn unread_responses_are_bounded_in_total_and_short_posts_still_accepted() {
    let server = server(&FOUR_SHARES);
    let mut taken = Vec::new();
    let mut overloaded = 0;
    for n in 0..60 {
        match unread(&server, n % 10 + 1) {
            (stream, status) if status == "HTTP/1.1 200" => taken.push(stream),
            (_, status) => {
                assert!(
                    ["HTTP/1.1 503", "HTTP/1.1 429"].contains(&&*status),
                    "{status}"
                );
                overloaded += u32::from(status == "HTTP/1.1 503");
            }
        }
    }
    assert!(held(&server, |_| true) <= 4 << 20);
    assert!(overloaded >= 40, "{overloaded}");
    let line = format!("GET {COMMENTS}?limit=1000");
    let why = Answer::to(&server, &line, &[&client(11)], "");
    assert_eq!((why.status, why.code()), (503, "overloaded".to_owned()));
    assert_eq!(why.header("retry-after"), Some("1"));
    let post = format!("POST {COMMENTS}");
    for n in [1, 11] {
        let posted = Answer::to(&server, &post, &[&client(n)], r#"{"text":"hello"}"#);
        assert_eq!(posted.status, 201, "{posted:?}");
    }
    assert_eq!(
        Answer::at(server.admin_address(), "GET /metrics", &[], "").status,
        200
    );
    drop(taken);
    held(&server, |bytes| bytes == 0);
    assert_eq!(Answer::to(&server, &line, &[&client(11)], "").status, 200);
}

#[test]
fn unfinished_bodies_are_bounded_and_short_posts_still_accepted() {
    let server = server(&[&FOUR_SHARES[..], &["--handshake-deadline-ms", "600000"]].concat());
    // Five bodies are more than the share of one address.
    let mut sent: Vec<_> = (0..5)
        .map(|_| held_or_refused(&server, 1, "messages_rate_limited"))
        .collect();
    assert!(held(&server, |bytes| bytes >= 1_000_000) <= 1 << 20);
    // And as many of four addresses are all there is.
    for n in 2..=5 {
        sent.extend((0..4).map(|_| held_or_refused(&server, n, "messages_overloaded")));
    }
    let runtime = runtime();
    assert_eq!(runtime.block_on(server.stat("messages_rate_limited")), 1);
    assert_eq!(runtime.block_on(server.stat("messages_overloaded")), 4);
    assert!(held(&server, |_| true) <= 4 << 20);
    let post = |n: u32, body: &str| {
        let posted = Answer::to(&server, &format!("POST {COMMENTS}"), &[&client(n)], body);
        (posted.status, posted.code())
    };
    let long = format!(r#"{{"text":"hello"{}}}"#, " ".repeat(100 << 10));
    assert_eq!(post(9, &long), (503, "overloaded".to_owned()));
    assert_eq!(post(1, r#"{"text":"hello"}"#).0, 201);
    assert_eq!(post(9, r#"{"text":"hello"}"#).0, 201);
    drop(sent);
    held(&server, |bytes| bytes == 0);
    assert_eq!(post(9, &long).0, 201);
}
