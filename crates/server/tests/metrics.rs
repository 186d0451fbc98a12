//! `GET /metrics` as a scraper sees it: the text format is valid, and the values
//! are those of `/v1/stats` and of a running process.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use danmaku_client::{HttpClient, NewComment};
use danmaku_wire::{Encoding, RoomId};
use hyper::{Method, StatusCode};
use serde_json::Value;
use support::{PATIENCE, Server};

/// The samples of one scrape by name and label, as they stand in the text.
struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    /// Parses the text format as strictly as it is specified: HELP and TYPE once
    /// per family, before its samples, which are contiguous.
    fn parse(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line is cut");
        let mut samples = BTreeMap::new();
        let mut families = BTreeSet::new();
        let (mut helped, mut family, mut kind) = ("", "", "");
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, words) = help.split_once(' ').unwrap();
                assert!(!words.trim().is_empty(), "{line}");
                helped = name;
            } else if let Some(said) = line.strip_prefix("# TYPE ") {
                (family, kind) = said.split_once(' ').unwrap();
                assert_eq!(family, helped, "TYPE without HELP");
                assert!(is_name(family), "{line}");
                assert!(families.insert(family), "{family} stands there twice");
                let is_total = family.ends_with("_total");
                match kind {
                    "counter" => assert!(is_total, "{line}"),
                    "gauge" | "histogram" => assert!(!is_total, "{line}"),
                    _ => panic!("{line}"),
                }
            } else {
                let (key, value) = line.rsplit_once(' ').unwrap();
                let value: f64 = value.parse().unwrap();
                assert!(value.is_finite() && value >= 0.0, "{line}");
                let name = key.split('{').next().unwrap();
                let part = name.strip_prefix(family).unwrap_or("?");
                let is_histogram = ["_bucket", "_sum", "_count"].contains(&part);
                assert_eq!(part.is_empty(), kind != "histogram", "{line}");
                assert!(part.is_empty() || is_histogram, "{line}");
                check_label(&key[name.len()..]);
                assert_eq!(samples.insert(key.to_owned(), value), None, "{line}");
            }
        }
        Self(samples)
    }

    #[track_caller]
    fn value(&self, sample: &str) -> f64 {
        let value = self.0.get(sample);
        *value.unwrap_or_else(|| panic!("no {sample} in {:?}", self.0.keys()))
    }
}

/// `[a-zA-Z_:][a-zA-Z0-9_:]*`, without the colons, which are for recording rules.
fn is_name(name: &str) -> bool {
    !name.starts_with(|first: char| first.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Nothing, or `{name="value"}`.
fn check_label(label: &str) {
    if label.is_empty() {
        return;
    }
    let inner = label.strip_prefix('{').and_then(|it| it.strip_suffix('}'));
    let (name, value) = inner.unwrap().split_once('=').unwrap();
    assert!(is_name(name), "{label}");
    let value = value.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
    assert!(!value.unwrap().contains(['"', '\\', '\n']), "{label}");
}

async fn scrape(http: &mut HttpClient) -> Scrape {
    let path = "/metrics";
    let answer = http.send(Method::GET, path, Bytes::new()).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK);
    Scrape::parse(std::str::from_utf8(&answer.body).unwrap())
}

/// Counters, and a scrape made while they did not change.
async fn stats_and_scrape(http: &mut HttpClient) -> (BTreeMap<String, Value>, Scrape) {
    let start = Instant::now();
    loop {
        let before = stats(http).await;
        let scrape = scrape(http).await;
        if before == stats(http).await {
            return (before, scrape);
        }
        assert!(
            start.elapsed() < PATIENCE,
            "the counters do not stand still"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// `/v1/stats` without the uptime, which always changes.
async fn stats(http: &mut HttpClient) -> BTreeMap<String, Value> {
    let stats = http.get_json("/v1/stats").await.unwrap();
    let mut stats: BTreeMap<String, Value> = serde_json::from_value(stats).unwrap();
    assert!(stats.remove("uptime_ms").unwrap().is_u64());
    stats
}

/// The samples that a counter of `/v1/stats` is the sum of.
fn samples_of(counter: &str) -> Vec<String> {
    let of = |family: &str, label: &str, values: &[&str]| {
        let sample = |value| format!("danmaku_{family}_total{{{label}=\"{value}\"}}");
        values.iter().map(sample).collect()
    };
    let skips = ["bytes", "age", "evicted", "closed"];
    let evictions = ["behind", "control", "events"];
    match counter {
        "http_bytes_held" => vec!["danmaku_http_held_bytes".to_owned()],
        "rooms" | "room_bytes" | "connections" | "viewers" | "viewers_behind" | "outbox_bytes" => {
            vec![format!("danmaku_{counter}")]
        }
        "connections_refused_total" => of("connections_refused", "reason", &["total"]),
        "connections_refused_address" => of("connections_refused", "reason", &["address"]),
        "messages_rejected" => of("messages_refused", "reason", &["bad_input"]),
        "comments_shed" => of("comments_shed", "priority", &["viewer", "member", "staff"]),
        "frames_skipped" => of("frames_skipped", "reason", &skips),
        "evicted" => of("viewers_evicted", "reason", &evictions),
        "broken" => vec!["danmaku_viewers_broken_total".to_owned()],
        "bytes_written" => vec!["danmaku_written_bytes_total".to_owned()],
        "closed_idle" => vec!["danmaku_viewers_closed_idle_total".to_owned()],
        "closes_begun" | "closes_forced" => vec![format!("danmaku_viewer_{counter}_total")],
        "passes" => vec!["danmaku_shard_passes_total".to_owned()],
        _ => {
            if let Some(reason) = counter.strip_prefix("frames_skipped_") {
                of("frames_skipped", "reason", &[reason])
            } else if let Some(reason) = counter.strip_prefix("requests_") {
                of("requests_refused", "reason", &[reason])
            } else if let Some(outcome) = counter.strip_prefix("segments_") {
                of("segment_requests", "outcome", &[outcome])
            } else if let Some(reason) = counter.strip_prefix("messages_") {
                of("messages_refused", "reason", &[reason])
            } else if let Some(reason) = counter.strip_prefix("evicted_") {
                of("viewers_evicted", "reason", &[reason])
            } else {
                vec![format!("danmaku_{counter}_total")]
            }
        }
    }
}

/// Rooms, viewers, comments and refusals, so that not all counters are zero.
async fn traffic(server: &Server, http: &mut HttpClient) {
    let room = RoomId::parse("r").unwrap();
    let viewer = server.watch("r", Encoding::Gzip).await;
    let new: Vec<_> = (0..40).map(|n| NewComment::new(format!("c{n}"))).collect();
    http.post_comments(&room, &new).await.unwrap();
    let path = "/v1/rooms/r/comments";
    let bad = http.send(Method::POST, path, Bytes::from_static(b"{}"));
    assert_eq!(bad.await.unwrap().status, StatusCode::BAD_REQUEST);
    viewer
        .send_text(r#"{"type":"like","count":3}"#)
        .await
        .unwrap();
    server.stat_until("likes", |likes| likes == 3).await;
    server.stat_until("comments_shed", |shed| shed == 30).await;
    // The viewer leaves, and its close is counted too.
    drop(viewer);
    server.stat_until("viewers", |viewers| viewers == 0).await;
}

#[tokio::test]
async fn every_counter_of_the_stats_is_scraped_with_the_same_value() {
    let server = Server::start(&["--window-ms", "50", "--batch-comments-max", "10"]);
    let mut http = server.http();
    traffic(&server, &mut http).await;
    let (mut stats, scrape) = stats_and_scrape(&mut http).await;
    let mut expected = BTreeMap::new();
    let by_priority = stats.remove("comments_shed_by_priority").unwrap();
    for (priority, shed) in by_priority.as_object().unwrap() {
        let sample = format!("danmaku_comments_shed_total{{priority=\"{priority}\"}}");
        expected.insert(sample, shed.as_f64().unwrap());
    }
    for (counter, value) in &stats {
        let samples = samples_of(counter);
        let sum: f64 = samples.iter().map(|sample| scrape.value(sample)).sum();
        assert_eq!(Some(sum), value.as_f64(), "{counter}");
        expected.extend(
            samples
                .into_iter()
                .map(|it| (it.clone(), scrape.value(&it))),
        );
    }
    assert_eq!(stats["comments_accepted"], 40);
    assert_eq!(stats["messages_rejected"], 1);
    let version = format!(
        "danmaku_build_info{{version=\"{}\"}}",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(scrape.value(&version), 1.0);
    assert!(scrape.value("danmaku_uptime_seconds") > 0.0);
    let others = scrape.0.keys().filter(|it| !expected.contains_key(*it));
    let unknown: Vec<_> = others
        .filter(|it| **it != version && *it != "danmaku_uptime_seconds")
        .filter(|it| !it.contains("process_") && !it.contains("_kernel_"))
        .collect();
    assert!(unknown.is_empty(), "not in the stats: {unknown:?}");
}

#[tokio::test]
async fn a_data_file_has_figures() {
    let folder = tempfile::TempDir::new().unwrap();
    let server = Server::start(&["--data", folder.path().to_str().unwrap()]);
    let mut http = server.http();
    let room = RoomId::parse("r").unwrap();
    let new = ["a", "b", "c"].map(NewComment::new);
    http.post_comments(&room, &new).await.unwrap();
    // Samples are taken at the start and every 10 s: commits may be more by now.
    let (stats, scrape) = stats_and_scrape(&mut http).await;
    assert_eq!(stats["store_up"], 1);
    let commits = stats["store_commits"].as_f64().unwrap();
    assert!(commits >= 1.0, "{commits}");
    let bucket = |bound| format!("danmaku_store_commit_seconds_bucket{{le=\"{bound}\"}}");
    assert_eq!(scrape.value(&bucket("+Inf")), commits);
    assert!(scrape.value(&bucket("0.00025")) <= scrape.value(&bucket("1")));
    assert_eq!(scrape.value("danmaku_store_commit_seconds_count"), commits);
    assert!(scrape.value("danmaku_store_commit_seconds_sum") > 0.0);
    assert!(scrape.value("danmaku_store_rows_total") >= 3.0);
    for gauge in ["queue", "file_bytes", "wal_bytes"] {
        let value = scrape.value(&format!("danmaku_store_{gauge}"));
        assert_eq!(Some(value), stats[&format!("store_{gauge}")].as_f64());
    }
    assert!(scrape.value("danmaku_store_file_bytes") > 0.0);
    assert_eq!(scrape.value("danmaku_store_errors_total"), 0.0);
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn a_running_process_has_figures() {
    let unix_s = || {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.unwrap().as_secs_f64()
    };
    let before = unix_s();
    let server = Server::start(&[]);
    let after = unix_s();
    let mut http = server.http();
    let start = Instant::now();
    // CPU time is counted in ticks: it takes some work to see one.
    let scrape = loop {
        let scrape = scrape(&mut http).await;
        if scrape.value("process_cpu_seconds_total") > 0.0 {
            break scrape;
        }
        assert!(start.elapsed() < PATIENCE, "no CPU time after all this");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let value = |sample: &str| scrape.value(sample);
    let user = value(r#"danmaku_process_cpu_seconds_total{mode="user"}"#);
    let system = value(r#"danmaku_process_cpu_seconds_total{mode="system"}"#);
    let all = value("process_cpu_seconds_total");
    assert!(
        (user + system - all).abs() < 1e-6,
        "{user} + {system} is not {all}"
    );
    let anonymous = value("danmaku_process_anonymous_memory_bytes");
    assert!(anonymous > 0.0 && anonymous <= value("process_resident_memory_bytes"));
    // Standard streams, listener, this connection.
    let descriptors = value("process_open_fds");
    assert!(descriptors >= 5.0 && descriptors <= value("process_max_fds"));
    let started = value("process_start_time_seconds");
    // The kernel tells the machine's start in whole seconds.
    assert!(
        before - 1.1 <= started && started <= after + 1.1,
        "{before} {started} {after}"
    );
    // The whole machine's, so we only know that it is present.
    value("danmaku_kernel_tcp_memory_bytes");
}

#[test]
fn a_scrape_is_read_only_and_has_a_content_type() {
    let server = Server::start(&[]);
    let ask = |method: &str| {
        let request = format!("{method} /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let answer = String::from_utf8(server.raw(request.as_bytes())).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_ascii_lowercase(), body.to_owned())
    };
    for method in ["GET", "HEAD"] {
        let (head, body) = ask(method);
        assert!(head.starts_with("http/1.1 200 "), "{head}");
        let format = "\r\ncontent-type: text/plain; version=0.0.4\r\n";
        assert!(head.contains(format), "{head}");
        assert_eq!(body.is_empty(), method == "HEAD");
    }
    let (head, body) = ask("POST");
    assert!(head.starts_with("http/1.1 405 "), "{head}");
    assert!(head.contains("\r\nallow: get, head\r\n"), "{head}");
    assert!(body.contains("method_not_allowed"), "{body}");
}
