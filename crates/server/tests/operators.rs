//! Operators' requests, and the request limit: `/metrics`, `/v1/stats`, probes, `--admin-listen`.

mod support;

use std::io::{Read, Write};

use support::Server;
use support::raw::{Answer, RawViewer, runtime};

const ADMIN: &[&str] = &["--admin-listen", "127.0.0.1:0"];
/// An address asks three times and then not for a second each.
const SLOW: &[&str] = &[
    "--requests-per-second-per-address",
    "1",
    "--requests-per-second-per-address-burst",
    "3",
    "--trusted-proxies",
    "127.0.0.1",
];

#[test]
fn requests_are_limited_per_address() {
    let server = Server::start(&[SLOW, ADMIN].concat());
    let ask = |line: &str, client: u32| {
        let client = format!("X-Forwarded-For: 198.51.100.{client}");
        Answer::to(&server, line, &[&client], "")
    };
    // More at once than the limit refills meanwhile.
    let mut answers = (0..50).map(|_| ask("GET /v1/rooms?limit=1", 1));
    let refused = answers.find(|answer| answer.status != 200).unwrap();
    assert_eq!(
        (refused.status, refused.code()),
        (429, "rate_limited".to_owned())
    );
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(refused.header("access-control-allow-origin"), Some("*"));
    let wait = refused.json()["error"]["retry_after_ms"].as_u64().unwrap();
    assert!((1..=1_000).contains(&wait), "{wait}");
    let limited = runtime().block_on(server.stat("requests_rate_limited"));
    assert_eq!(limited, 1);
    let asked = [
        "GET /",
        "GET /v1/rooms",
        "GET /v1/rooms/r",
        "HEAD /v1/rooms/r/comments",
        "OPTIONS /v1/rooms/r/comments",
    ];
    for line in asked {
        let limited = (0..50).any(|_| ask(line, 1).status == 429);
        assert!(limited, "{line} is not counted");
    }
    // Others can send requests, and this one can still post and probe.
    assert_eq!(ask("GET /v1/rooms", 2).status, 200);
    for line in ["GET /healthz", "GET /readyz"] {
        assert!((0..20).all(|_| ask(line, 1).status == 200), "{line}");
    }
    let client = "X-Forwarded-For: 198.51.100.1";
    for _ in 0..20 {
        let post = "POST /v1/rooms/r/comments";
        let posted = Answer::to(&server, post, &[client], r#"{"text":"hello"}"#);
        assert_eq!(posted.status, 201);
    }
    let _viewer = RawViewer::join_with_header(&server, client);
}

#[test]
fn counters_are_limited_on_the_public_listener() {
    let server = Server::start(SLOW);
    for line in ["GET /metrics", "GET /v1/stats"] {
        let limited = (0..50).any(|_| Answer::to(&server, line, &[], "").status == 429);
        assert!(limited, "{line} is not counted");
    }
}

#[test]
fn operators_can_have_their_own_listener() {
    let server = Server::start(&[SLOW, ADMIN].concat());
    let admin = |line: &str| Answer::at(server.admin_address(), line, &[], "");
    for line in ["GET /metrics", "GET /v1/stats"] {
        let public = Answer::to(&server, line, &[], "");
        assert_eq!(
            (public.status, public.code()),
            (404, "not_found".to_owned()),
            "{line}"
        );
    }
    for line in ["GET /healthz", "GET /readyz"] {
        assert_eq!(Answer::to(&server, line, &[], "").status, 200, "{line}");
    }
    for line in [
        "GET /metrics",
        "HEAD /metrics",
        "GET /v1/stats",
        "GET /healthz",
        "GET /readyz",
    ] {
        assert!((0..20).all(|_| admin(line).status == 200), "{line}");
    }
    for line in [
        "GET /v1/rooms",
        "POST /v1/rooms/r/comments",
        "GET /v1/rooms/r/ws",
        "GET /",
    ] {
        assert_eq!(admin(line).status, 404, "{line}");
    }
    assert_eq!(admin("POST /metrics").status, 405);
    // None of it counts as a viewer's.
    let stats = admin("GET /v1/stats").json();
    // Two were not found, two were probes.
    assert_eq!(stats["connections_accepted"], 4);
    assert_eq!(stats["requests_rate_limited"], 0);
}

#[test]
fn operators_are_served_when_the_server_is_full() {
    let server = Server::start(&[ADMIN, &["--connections-max", "16"]].concat());
    let _viewers: Vec<_> = (0..16).map(|_| RawViewer::join(&server)).collect();
    assert_eq!(Answer::to(&server, "GET /healthz", &[], "").status, 503);
    let scraped = Answer::at(server.admin_address(), "GET /metrics", &[], "");
    assert!(
        scraped.body.contains("\ndanmaku_connections 16\n"),
        "{}",
        scraped.body
    );
    // More operators than are served at a time wait, and are served.
    let mut silent: Vec<_> = (0..16)
        .map(|_| std::net::TcpStream::connect(server.admin_address()).unwrap())
        .collect();
    let mut waiting = std::net::TcpStream::connect(server.admin_address()).unwrap();
    waiting.set_read_timeout(Some(support::PATIENCE)).unwrap();
    waiting
        .write_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    silent.clear();
    let mut status = [0; 15];
    waiting.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 200 OK");
}

#[test]
fn a_taken_admin_address_is_one_line_and_exit_code_2() {
    let server = Server::start(&[]);
    let taken = server.address().to_string();
    let flags = ["--listen", "127.0.0.1:0", "--admin-listen", &taken];
    let (status, stdout, stderr) = support::run(&flags);
    assert_eq!(status.code(), Some(2), "{stderr}");
    assert!(
        stderr.starts_with("danmaku-server: cannot listen on "),
        "{stderr}"
    );
    assert!(stdout.is_empty() && stderr.lines().count() == 1, "{stderr}");
}
