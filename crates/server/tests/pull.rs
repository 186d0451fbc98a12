//! The pull tier behind nginx as a cache, configured as `deploy/nginx-pull.conf` tells operators to. `cargo xtask test`
//! installs nginx and runs this.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use danmaku_client::{Connect, Connection, Event, HttpClient, NewComment, ServerAddress};
use danmaku_wire::RoomId;
use hyper::{Method, StatusCode};
use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::Value;
use support::{PATIENCE, Server};
use tokio::sync::Barrier;

/// nginx in front of a server, on a free port, with its files in a folder of its own.
struct Nginx {
    process: Child,
    address: SocketAddr,
    folder: PathBuf,
}

impl Nginx {
    fn start(server: &Server) -> Self {
        let nginx = std::env::var("DANMAKU_TEST_NGINX")
            .expect("DANMAKU_TEST_NGINX is not set: run this test with `cargo xtask test`");
        // Free until nginx takes it.
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        let folder = std::env::temp_dir().join(format!("danmaku-nginx-{}", address.port()));
        std::fs::create_dir_all(&folder).unwrap();
        let said = folder.display().to_string();
        let mut site = include_str!("../../../deploy/nginx-pull.conf").to_owned();
        for (operators, ours) in [
            ("listen 80;", format!("listen {address} backlog=4096;")),
            ("127.0.0.1:8080", server.address().to_string()),
            ("/var/cache/nginx/danmaku", format!("{said}/cache")),
        ] {
            assert_eq!(site.matches(operators).count(), 1, "{operators}");
            site = site.replace(operators, &ours);
        }
        std::fs::write(folder.join("site.conf"), site).unwrap();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|kind| format!("    {kind}_temp_path {said}/{kind};\n"))
            .collect();
        let main = format!(
            "daemon off;\nmaster_process off;\npid {said}/pid;\nerror_log stderr warn;\n\
             events {{ worker_connections 8192; }}\n\
             http {{\n    access_log off;\n{temporary}    include {said}/site.conf;\n}}\n"
        );
        std::fs::write(folder.join("nginx.conf"), main).unwrap();
        drop(free);
        let process = Command::new(nginx)
            .args(["-p", &said, "-c", "nginx.conf", "-e", "stderr"])
            .spawn()
            .unwrap();
        let nginx = Self {
            process,
            address,
            folder,
        };
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(start.elapsed() < PATIENCE, "nginx does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        nginx
    }

    fn server_address(&self) -> ServerAddress {
        self.address.to_string().parse().unwrap()
    }

    /// The `Content-Encoding` of a response.
    fn coding(&self, line: &str, header: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let request = format!(
            "{line} HTTP/1.1\r\nHost: {}\r\n{header}\r\nConnection: close\r\n\r\n",
            self.address
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|at| at == b"\r\n\r\n");
        let head = String::from_utf8(answer[..end.unwrap()].to_vec()).unwrap();
        let head = head.to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 200"), "{head}");
        let coding = |line: &str| line.strip_prefix("content-encoding: ").map(str::to_owned);
        head.lines().find_map(coding)
    }

    fn http(&self) -> HttpClient {
        HttpClient::new(self.server_address())
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A viewer that follows the protocol: once `head`, then segment after segment.
struct PullViewer {
    http: HttpClient,
    /// The server's clock minus ours, in milliseconds.
    ahead_ms: i64,
    length_ms: u64,
    epoch: u64,
    n: u64,
    at: u64,
    texts: Vec<String>,
    requests: u64,
    segments: BTreeSet<u64>,
}

impl PullViewer {
    async fn join(mut http: HttpClient) -> Self {
        let head = get(&mut http, "/v1/rooms/r/segments/head").await.1;
        let number = |member: &str| head[member].as_u64().unwrap();
        Self {
            ahead_ms: number("now").cast_signed() - now_ms(),
            length_ms: number("length_ms"),
            epoch: number("epoch"),
            n: number("n") + 1,
            at: number("seq"),
            http,
            texts: Vec::new(),
            requests: 1,
            segments: BTreeSet::new(),
        }
    }

    /// Reads until a comment says `end`. Viewers spread their requests, as the protocol asks them to.
    async fn watch(mut self, spread: Duration) -> Self {
        while self.texts.last().is_none_or(|text| text != "end") {
            let ready_ms = ((self.n + 1) * self.length_ms + 1_000).cast_signed();
            let wait = ready_ms - (now_ms() + self.ahead_ms);
            tokio::time::sleep(millis(wait.max(0).unsigned_abs()) + spread).await;
            let segment = self.segment().await;
            let number = |member: &str| segment[member].as_u64().unwrap();
            assert_eq!((number("epoch"), number("n")), (self.epoch, self.n));
            assert_eq!(number("after"), self.at, "a gap before {segment}");
            self.at = number("seq");
            for comment in segment["comments"].as_array().unwrap() {
                self.texts
                    .push(comment["text"].as_str().unwrap().to_owned());
            }
            self.segments.insert(self.n);
            self.n += 1;
        }
        self
    }

    async fn segment(&mut self) -> Value {
        let path = format!("/v1/rooms/r/segments/{}/{}", self.length_ms, self.n);
        loop {
            self.requests += 1;
            let (status, body) = get(&mut self.http, &path).await;
            if status == StatusCode::OK {
                return body;
            }
            let error = &body["error"];
            assert_eq!(error["code"], "segment_not_ready", "{body}");
            tokio::time::sleep(millis(error["retry_after_ms"].as_u64().unwrap())).await;
        }
    }
}

async fn get(http: &mut HttpClient, path: &str) -> (StatusCode, Value) {
    let start = Instant::now();
    loop {
        match http.send(Method::GET, path, Bytes::new()).await {
            Ok(answer) => return (answer.status, serde_json::from_slice(&answer.body).unwrap()),
            // A busy machine.
            Err(error) => assert!(start.elapsed() < PATIENCE, "{path}: {error}"),
        }
    }
}

fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

/// Each viewer is a descriptor here, and two in nginx.
fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Some systems refuse; then the soft limit has to do.
    let _ = setrlimit(Resource::Nofile, limit);
}

const VIEWERS: usize = 1_000;
const COMMENTS: usize = 100;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx, which `cargo xtask test` installs"]
async fn a_thousand_pull_viewers_behind_a_cache_are_one_to_the_server() {
    raise_descriptor_limit();
    let server = Server::start(&["--trusted-proxies", "127.0.0.1"]);
    let nginx = Nginx::start(&server);
    // The rest of the site works through it as well.
    let connect = Connect::new(nginx.server_address(), RoomId::parse("r").unwrap());
    let mut connected = Connection::connect(&connect).await.unwrap();
    let first = connected.next().await.unwrap();
    assert!(matches!(first, Event::Joined(_)), "{first:?}");
    let start = Instant::now();
    let joined = Arc::new(Barrier::new(VIEWERS + 1));
    let viewers: Vec<_> = (0..VIEWERS as u64)
        .map(|viewer| {
            let (http, joined) = (nginx.http(), Arc::clone(&joined));
            tokio::spawn(async move {
                tokio::time::sleep(millis(viewer * 2)).await;
                let joining = PullViewer::join(http).await;
                joined.wait().await;
                joining.watch(millis(viewer)).await
            })
        })
        .collect();
    joined.wait().await;
    let joining_s = start.elapsed().as_secs();

    let room = RoomId::parse("r").unwrap();
    let mut texts: Vec<String> = (0..COMMENTS).map(|n| format!("comment {n}")).collect();
    texts.push("end".to_owned());
    // Through nginx too: it serves as the only address of a site.
    let mut http = nginx.http();
    for text in &texts {
        let comment = [NewComment::new(text)];
        http.post_comments(&room, &comment).await.unwrap();
        tokio::time::sleep(millis(100)).await;
    }
    let (mut segments, mut requests) = (BTreeSet::new(), 0);
    for viewer in viewers {
        let viewer = viewer.await.unwrap();
        assert_eq!(viewer.texts, texts);
        requests += viewer.requests;
        segments.extend(viewer.segments);
    }
    let newest = segments.last().unwrap();
    let line = format!("GET /v1/rooms/r/segments/2000/{newest}");
    for (accepted, coding) in [("gzip, br", Some("gzip")), ("identity", None)] {
        let accept = format!("Accept-Encoding: {accepted}");
        assert_eq!(nginx.coding(&line, &accept).as_deref(), coding);
    }
    let segments = segments.len() as u64;
    let mut counts = Vec::new();
    for name in ["served", "not_modified", "not_ready", "gone", "head"] {
        counts.push(server.stat(&format!("segments_{name}")).await);
    }
    let said = format!("{requests} requests for {segments} segments, at the server {counts:?}");
    println!("{said}");
    let [served, not_modified, not_ready, gone, heads] = counts.try_into().unwrap();
    assert!(requests > (VIEWERS as u64) * segments, "{said}");
    // One each. The cache asks again only where a response takes longer than its lock (5 s) or expires (60 s) while viewers
    // still ask, on a machine that is far too busy.
    assert!(served >= segments, "{said}");
    assert!(
        served + not_modified <= segments + segments / 4 + 1,
        "{said}"
    );
    // Viewers wait until a segment is complete by the server's clock, but theirs is only known to a second: the first may
    // ask early, and the cache once more each second until the segment is there.
    assert!(not_ready <= 2 * segments, "{said}");
    // The newest segment's number is cached for a second.
    assert!(heads <= joining_s + 3, "{said}");
    assert_eq!(gone, 0, "{said}");
}
