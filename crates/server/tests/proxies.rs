//! Viewers behind a proxy: limits apply to them and not to the proxy, and only trusted proxies may name clients.

mod support;

use std::io::Write;
use std::time::Instant;

use support::raw::{Answer, RawViewer, handshake_with, runtime, text};
use support::{PATIENCE, Server};

const POST: &str = "POST /v1/rooms/r/comments";
const BODY: &str = r#"{"text":"hello"}"#;

/// A server whose addresses post an array of 100 once, and not again for 100 s.
fn server(proxies: &[&str]) -> Server {
    let limits = ["--posts-per-second-per-address", "1"];
    let burst = ["--posts-per-second-per-address-burst", "100"];
    let connections = ["--connections-per-address-max", "2"];
    // So that the limit a viewer reaches is the address's.
    let viewers = ["--posts-per-second-per-connection-burst", "100"];
    Server::start(&[&limits[..], &burst, &connections, &viewers, proxies].concat())
}

const TRUSTED: &[&str] = &["--trusted-proxies", "127.0.0.0/8,192.0.2.0/24"];

/// Posts a full burst of an address and returns the response.
fn post_all(server: &Server, header: &str) -> (u16, String) {
    let all = format!("[{}]", [BODY; 100].join(","));
    let answer = Answer::to(server, POST, &[header], &all);
    (answer.status, answer.code())
}

#[track_caller]
fn taken(server: &Server, header: &str) {
    assert_eq!(post_all(server, header).0, 201, "{header}");
}

#[track_caller]
fn limited(server: &Server, header: &str) {
    let refused = (429, "rate_limited".to_owned());
    assert_eq!(post_all(server, header), refused, "{header}");
}

#[test]
fn each_client_of_a_trusted_proxy_has_its_own_limits() {
    let server = server(TRUSTED);
    taken(&server, "X-Forwarded-For: 198.51.100.1");
    limited(&server, "X-Forwarded-For: 198.51.100.1");
    // Anything left of the first untrusted address may be forged.
    limited(&server, "X-Forwarded-For: 198.51.100.9, 198.51.100.1");
    limited(&server, "X-Forwarded-For: 198.51.100.1, 192.0.2.7");
    limited(&server, r#"Forwarded: for="198.51.100.1:4711";proto=https"#);
    taken(&server, r#"Forwarded: for="[2001:db8:1:1::1]:4711""#);
    limited(&server, "X-Forwarded-For: 2001:db8:1:1:ffff::2");
    taken(&server, "X-Forwarded-For: 2001:db8:1:2::1");
    // These name no client: they are the proxy's own, and share its limits.
    taken(&server, "X-Forwarded-For: unknown");
    limited(&server, "X-Forwarded-For: 198.51.100.2,");
    limited(&server, "Forwarded: for=_hidden");
    limited(
        &server,
        "X-Forwarded-For: 198.51.100.3\r\nForwarded: for=198.51.100.4",
    );
    limited(&server, "X-Nothing: x");
}

#[test]
fn other_peers_headers_are_ignored() {
    for proxies in [&[][..], &["--trusted-proxies", "192.0.2.7"]] {
        let server = server(proxies);
        taken(&server, "X-Forwarded-For: 198.51.100.1");
        limited(&server, "X-Forwarded-For: 198.51.100.2");
        limited(&server, "Forwarded: for=198.51.100.3");
    }
}

#[test]
fn a_site_shares_sixteen_times_the_limits_of_one_address() {
    let server = server(TRUSTED);
    let start = Instant::now();
    let network = |n: u64| format!("X-Forwarded-For: 2001:db8:1:{n:x}::1");
    let (bursts, refusal) = (0..0xffff)
        .map(|n| (n, post_all(&server, &network(n))))
        .find(|(_, answer)| answer.0 != 201)
        .unwrap();
    assert_eq!(refusal, (429, "rate_limited".to_owned()));
    // 16 posts come due again every second.
    let again = start.elapsed().as_secs() * 16 / 100 + 1;
    assert!((16..=16 + again).contains(&bursts), "{bursts}");
    taken(&server, "X-Forwarded-For: 2001:db8:2:1::1");
    // Connections too.
    let join = |site: &str, network: u32| {
        let header = format!("X-Forwarded-For: 2001:db8:{site}:{network:x}::1");
        RawViewer::join_with_header(&server, &header)
    };
    let _held: Vec<_> = (1..=32).map(|network| join("3", network)).collect();
    let header = "X-Forwarded-For: 2001:db8:3:ffff::1";
    let answer = Answer::to(&server, "GET /v1/rooms", &[header], "");
    assert_eq!(
        (answer.status, answer.code()),
        (429, "too_many_connections".to_owned())
    );
    join("4", 1);
}

#[test]
fn connections_are_counted_for_the_client_and_not_for_the_proxy() {
    let server = server(TRUSTED);
    let client = "X-Forwarded-For: 198.51.100.1";
    let other = "X-Forwarded-For: 198.51.100.2";
    // More connections from one proxy than an address may have.
    let held: Vec<_> = (0..2)
        .map(|_| RawViewer::join_with_header(&server, client))
        .collect();
    let _others: Vec<_> = (0..2)
        .map(|_| RawViewer::join_with_header(&server, other))
        .collect();
    let mut refused = server.raw_stream();
    refused
        .write_all(handshake_with(client).as_bytes())
        .unwrap();
    // The proxy keeps its connection for its other clients.
    refused
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    let answer = Answer::read(&mut refused);
    assert_eq!(answer.status, 429);
    assert!(
        answer.body.contains(r#""code":"too_many_connections""#),
        "{answer:?}"
    );
    assert!(answer.body.contains("HTTP/1.1 200 OK"), "{answer:?}");
    let runtime = runtime();
    assert_eq!(
        runtime.block_on(server.stat("connections_refused_address")),
        1
    );
    drop(held);
    let start = Instant::now();
    while Answer::to(&server, "GET /v1/rooms", &[client], "").status != 200 {
        assert!(start.elapsed() < PATIENCE, "places are not given back");
    }
    // Two viewers, and the connection that asks.
    runtime.block_on(server.stat_until("connections", |connections| connections == 3));
}

#[test]
fn a_viewer_behind_a_proxy_uses_its_own_limits() {
    let server = server(TRUSTED);
    let mut viewer = RawViewer::join_with_header(&server, "X-Forwarded-For: 198.51.100.1");
    taken(&server, "X-Forwarded-For: 198.51.100.1");
    let comment = text(r#"{"type":"comment","text":"hello"}"#);
    viewer.0.write_all(&comment.repeat(20)).unwrap();
    assert_eq!(viewer.error_code(), "rate_limited");
    let mut other = RawViewer::join_with_header(&server, "X-Forwarded-For: 198.51.100.2");
    other.0.write_all(&comment).unwrap();
    while !other.read().1.starts_with(br#"{"type":"ack""#) {}
}

#[test]
fn proxied_requests_are_not_local() {
    let server = server(TRUSTED);
    taken(&server, "X-Forwarded-For: 198.51.100.1");
    for header in [
        "X-Forwarded-For: 127.0.0.1",
        "Forwarded: for=127.0.0.1",
        "Via: 1.1 proxy",
    ] {
        let answer = Answer::to(&server, "DELETE /v1/rooms/r/comments/1", &[header], "");
        assert_eq!(
            (answer.status, answer.code()),
            (403, "forbidden".to_owned()),
            "{header}"
        );
    }
}
