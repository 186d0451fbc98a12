//! The harness against servers that speak the Pusher protocol: a small double, with faults, and a real one. The real one is
//! Sockudo: `cargo install sockudo --locked` (it needs protoc), then run the ignored test with its path in
//! `DANMAKU_TEST_SOCKUDO`.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);
/// What a server answers to the harness's constant key (RFC 6455, section 1.3).
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// What is wrong with a double.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// The first subscriber of a channel misses every third event.
    Loses,
    /// Everybody gets every third event twice.
    Repeats,
    /// Texts arrive with something added.
    Changes,
    /// Posts are refused.
    Refuses,
}

#[derive(Default)]
struct Channels(Mutex<HashMap<String, Vec<TcpStream>>>);

/// Starts a double; its threads end with the test.
fn double(fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let channels: Arc<Channels> = Arc::default();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let channels = Arc::clone(&channels);
            // A connection that breaks ends its thread.
            std::thread::spawn(move || serve(stream.unwrap(), &channels, fault));
        }
    });
    address
}

fn serve(mut stream: TcpStream, channels: &Channels, fault: Fault) -> Option<()> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(byte(&mut stream)?);
        }
        let head = String::from_utf8(head).ok()?.to_ascii_lowercase();
        if head.starts_with("get /app/key?protocol=7&") {
            return viewer(stream, channels);
        }
        let (status, body) = if head.starts_with("post /apps/id/events?auth_key=key&") {
            let length = head.split("content-length: ").nth(1)?;
            let length: usize = length.lines().next()?.parse().ok()?;
            let mut body = vec![0; length];
            stream.read_exact(&mut body).ok()?;
            let event: Value = serde_json::from_slice(&body).ok()?;
            if fault == Fault::Refuses {
                ("401 Unauthorized", "wrong signature")
            } else {
                channels.trigger(&event, fault);
                ("200 OK", "{}")
            }
        } else {
            ("404 Not Found", "")
        };
        let length = body.len();
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}");
        stream.write_all(answer.as_bytes()).ok()?;
    }
}

/// Connects a viewer and follows its subscription.
fn viewer(mut stream: TcpStream, channels: &Channels) -> Option<()> {
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).ok()?;
    let data = json!({"socket_id": "1.1", "activity_timeout": 120}).to_string();
    say(&mut stream, "pusher:connection_established", &json!(data));
    let message = hear(&mut stream)?;
    assert_eq!(message["event"], "pusher:subscribe");
    let channel = message["data"]["channel"].as_str()?.to_owned();
    let mut channels = channels.0.lock().unwrap();
    say(&mut stream, "pusher:ping", &json!({}));
    say(
        &mut stream,
        "pusher_internal:subscription_succeeded",
        &json!({}),
    );
    let viewers = channels.entry(channel).or_default();
    viewers.push(stream.try_clone().ok()?);
    drop(channels);
    assert_eq!(hear(&mut stream)?["event"], "pusher:pong");
    // Until it leaves.
    while hear(&mut stream).is_some() {}
    Some(())
}

impl Channels {
    fn trigger(&self, event: &Value, fault: Fault) {
        let mut data: Value = serde_json::from_str(event["data"].as_str().unwrap()).unwrap();
        let is_third = data["n"].as_u64().unwrap().is_multiple_of(3);
        if fault == Fault::Changes {
            data["text"] = format!("{}!", data["text"].as_str().unwrap()).into();
        }
        let mut channels = self.0.lock().unwrap();
        let viewers = channels.get_mut(event["channel"].as_str().unwrap());
        for (index, viewer) in viewers.into_iter().flatten().enumerate() {
            if fault == Fault::Loses && is_third && index == 0 {
                continue;
            }
            let name = event["name"].as_str().unwrap();
            say(viewer, name, &json!(data.to_string()));
            if fault == Fault::Repeats && is_third {
                say(viewer, name, &json!(data.to_string()));
            }
        }
    }
}

/// Sends an event. The viewer may be gone.
fn say(stream: &mut TcpStream, event: &str, data: &Value) {
    let text = json!({"event": event, "data": data}).to_string();
    let length = u16::try_from(text.len()).unwrap();
    let mut frame = vec![0x81];
    if length < 126 {
        frame.push(u8::try_from(length).unwrap());
    } else {
        frame.push(126);
        frame.extend_from_slice(&length.to_be_bytes());
    }
    frame.extend_from_slice(text.as_bytes());
    let _ = stream.write_all(&frame);
}

/// The next text message of a viewer; none when it leaves.
fn hear(stream: &mut TcpStream) -> Option<Value> {
    let (first, second) = (byte(stream)?, byte(stream)?);
    let mut mask = [0; 4];
    stream.read_exact(&mut mask).ok()?;
    let mut payload = vec![0; usize::from(second & 0x7F)];
    stream.read_exact(&mut payload).ok()?;
    for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    (first == 0x81).then(|| serde_json::from_slice(&payload).unwrap())
}

fn byte(stream: &mut TcpStream) -> Option<u8> {
    let mut byte = [0];
    stream.read_exact(&mut byte).ok()?;
    Some(byte[0])
}

/// Runs the harness; returns its exit code, its words and its report.
fn run(command: &str, server: SocketAddr, app: &str) -> (Option<i32>, String, Value) {
    let folder = tempfile::TempDir::new().unwrap();
    let json = folder.path().join("report.json");
    let output = Command::new(env!("CARGO_BIN_EXE_danmaku-loadtest"))
        .args(command.split(' '))
        .args(["--protocol=pusher", "--viewers=20", "--rooms=2"])
        .args(["--settle-s=0", "--late-ms=60000", "--drain-s=5"])
        .arg(format!("--url=http://{server}"))
        .arg(format!("--pusher-app={app}"))
        .arg("--json")
        .arg(&json)
        .env("PUSHER_APP_SECRET", "secret")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    let report = std::fs::read(&json).unwrap_or_default();
    let report = serde_json::from_slice(&report).unwrap_or_default();
    (output.status.code(), text, report)
}

const RUN: &str = "run --rate=30 --duration-s=2";

#[test]
fn every_comment_is_counted_at_every_viewer() {
    let (code, text, report) = run(RUN, double(Fault::None), "id:key");
    assert_eq!(code, Some(0), "{text}");
    let acknowledged = report["posts"]["acknowledged"].as_u64().unwrap();
    assert!(acknowledged > 0, "{text}");
    assert_eq!(report["audit"]["delivered"], 10 * acknowledged, "{text}");
}

#[test]
fn viewers_come_back_after_a_storm() {
    let storm = "storm --duration-s=3 --storm-at-s=1 --slo.p99-beyond-window-ms=60000 \
                 --slo.lateness-p99-ms-max=60000 --slo.last-back-s-max=60";
    let (code, text, report) = run(storm, double(Fault::None), "id:key");
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(report["returns"]["rejoined"], 20, "{report:#}");
    assert_eq!(report["audit"]["lost"], 0, "{text}");
}

#[test]
fn a_faulty_server_is_caught() {
    for (fault, count) in [
        (Fault::Loses, "lost"),
        (Fault::Repeats, "duplicate"),
        (Fault::Changes, "corrupt"),
    ] {
        let (code, text, report) = run(RUN, double(fault), "id:key");
        assert_eq!(code, Some(1), "{text}");
        assert!(report["audit"][count].as_u64() > Some(0), "{count}: {text}");
    }
    let (code, text, report) = run(RUN, double(Fault::Refuses), "id:key");
    assert_eq!(code, Some(1), "{text}");
    assert!(
        report["posts"]["refused"]["401"].as_u64() > Some(0),
        "{text}"
    );
    let (code, text, _) = run(RUN, double(Fault::None), "id:unknown");
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("404 Not Found"), "{text}");
}

/// Sockudo on a free port. Dropping it ends it.
struct Sockudo(Child);

impl Drop for Sockudo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "needs Sockudo, see the head of this file"]
fn a_real_server_delivers_everything() {
    // `cargo xtask test` runs ignored tests too, and does not build this.
    let Ok(program) = std::env::var("DANMAKU_TEST_SOCKUDO") else {
        return;
    };
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let folder = tempfile::TempDir::new().unwrap();
    let app = [("ID", "id"), ("KEY", "key"), ("SECRET", "secret")];
    let limits = ["MAX_CONNECTIONS", "MAX_BACKEND_EVENTS_PER_SECOND"].map(|name| (name, "100000"));
    let _sockudo = Sockudo(
        Command::new(program)
            .current_dir(&folder)
            .envs(
                app.into_iter()
                    .chain(limits)
                    .map(|(name, value)| (format!("SOCKUDO_DEFAULT_APP_{name}"), value)),
            )
            .envs([("HOST", "127.0.0.1"), ("METRICS_ENABLED", "false")])
            .env("RATE_LIMITER_ENABLED", "false")
            .env("PORT", address.port().to_string())
            .stdout(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let start = Instant::now();
    while TcpStream::connect(address).is_err() {
        assert!(start.elapsed() < PATIENCE, "Sockudo does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    let (code, text, report) = run(RUN, address, "id:key");
    assert_eq!(code, Some(0), "{text}");
    let acknowledged = report["posts"]["acknowledged"].as_u64().unwrap();
    assert_eq!(report["audit"]["delivered"], 10 * acknowledged, "{text}");
}
