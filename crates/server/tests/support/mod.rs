//! A server for each test: the real binary on a free port, stopped when the
//! test ends.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod moderate;
pub(crate) mod raw;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use danmaku_client::{Connect, Connection, HttpClient, ServerAddress};
use danmaku_wire::{Encoding, RoomId};
use hyper::Method;

/// A running server.
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
    admin_address: Option<SocketAddr>,
}

impl Server {
    /// Starts the binary with `flags` on a free loopback port.
    pub(crate) fn start(flags: &[&str]) -> Self {
        Self::start_as(Command::new(env!("CARGO_BIN_EXE_danmaku-server")), flags)
    }

    /// Starts the binary in a shell, after `setup`.
    pub(crate) fn start_after(setup: &str, flags: &[&str]) -> Self {
        let mut shell = Command::new("sh");
        shell.arg("-c");
        Self::start_in(shell, setup, flags)
    }

    /// Starts the binary in this shell, after `setup`; its next argument is a script.
    pub(crate) fn start_in(mut shell: Command, setup: &str, flags: &[&str]) -> Self {
        shell.arg(format!("{setup}; exec \"$0\" \"$@\""));
        shell.arg(env!("CARGO_BIN_EXE_danmaku-server"));
        Self::start_as(shell, flags)
    }

    fn start_as(mut command: Command, flags: &[&str]) -> Self {
        command.args(["--listen", "127.0.0.1:0", "--log", "warn"]);
        Self::start_other(command.args(flags), flags.contains(&"--admin-listen"))
    }

    /// Starts what announces itself as the binary does.
    pub(crate) fn start_other(command: &mut Command, has_admin: bool) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines.by_ref().find_map(|line| {
            let line = line.unwrap();
            Some(line.strip_prefix("listening on http://")?.to_owned())
        });
        let address = address.expect("the server did not start");
        let admin = has_admin.then(|| {
            let third = lines.nth(1).unwrap().unwrap();
            let url = third.strip_prefix("metrics on http://").unwrap();
            url.strip_suffix("/metrics").unwrap().parse().unwrap()
        });
        Self {
            address: address.parse().unwrap(),
            admin_address: admin,
            child,
        }
    }

    /// The operators' address, with `--admin-listen`.
    pub(crate) fn admin_address(&self) -> SocketAddr {
        self.admin_address.unwrap()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn server_address(&self) -> ServerAddress {
        self.address.to_string().parse().unwrap()
    }

    pub(crate) fn http(&self) -> HttpClient {
        HttpClient::new(self.server_address())
    }

    /// How to join `room`.
    pub(crate) fn join(&self, room: &str) -> Connect {
        Connect::new(self.server_address(), RoomId::parse(room).unwrap())
    }

    /// A viewer of `room`.
    pub(crate) async fn watch(&self, room: &str, encoding: Encoding) -> Connection {
        let mut connect = self.join(room);
        connect.encoding = encoding;
        Connection::connect(&connect).await.unwrap()
    }

    /// One counter of `/v1/stats`.
    pub(crate) async fn stat(&self, name: &str) -> u64 {
        let address = self.admin_address.unwrap_or(self.address);
        let mut http = HttpClient::new(address.to_string().parse().unwrap());
        let stats = http.get_json("/v1/stats").await.unwrap();
        stats[name]
            .as_u64()
            .unwrap_or_else(|| panic!("no counter {name} in {stats}"))
    }

    /// Waits until a counter is what `wanted` says.
    pub(crate) async fn stat_until(&self, name: &str, wanted: impl Fn(u64) -> bool) -> u64 {
        let start = Instant::now();
        loop {
            let value = self.stat(name).await;
            if wanted(value) {
                return value;
            }
            assert!(start.elapsed() < PATIENCE, "{name} stays at {value}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until everything up to `seq` is in a frame.
    pub(crate) async fn sealed_until(&self, room: &str, seq: u64) {
        let path = format!("/v1/rooms/{room}");
        let start = Instant::now();
        loop {
            let view = self.http().get_json(&path).await.unwrap();
            if view["sealed"].as_u64().unwrap() >= seq {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{view} is not sealed to {seq}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// One raw exchange: all of `request`, then all that comes until the
    /// server closes.
    pub(crate) fn raw(&self, request: &[u8]) -> Vec<u8> {
        let mut stream = self.raw_stream();
        stream.write_all(request).unwrap();
        let mut answer = Vec::new();
        // The server may reset the connection after its answer.
        let _ = stream.read_to_end(&mut answer);
        answer
    }

    pub(crate) fn raw_stream(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// A connection from another address of this machine: on Linux all of 127.0.0.0/8 are.
    pub(crate) fn raw_stream_from(&self, source: [u8; 4]) -> TcpStream {
        use socket2::{Domain, Socket, Type};
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
        socket.connect(&self.address.into()).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name and waits for the end.
    pub(crate) fn end(&mut self, signal: &str) -> ExitStatus {
        let sent = Command::new("kill")
            .args([&format!("-{signal}"), &self.pid().to_string()])
            .status()
            .unwrap();
        assert!(sent.success());
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "the server does not stop");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Memory in RAM of a server's process.
pub(crate) async fn resident_bytes(server: &Server) -> u64 {
    let mut http = server.http();
    let metrics = http.send(Method::GET, "/metrics", Bytes::new()).await;
    let metrics = metrics.unwrap().body;
    let metrics = std::str::from_utf8(&metrics).unwrap();
    let mut lines = metrics.lines();
    let bytes = lines.find_map(|line| line.strip_prefix("process_resident_memory_bytes "));
    bytes.expect("no figure in /metrics").parse().unwrap()
}

/// Runs the binary until it exits by itself.
pub(crate) fn run(arguments: &[&str]) -> (ExitStatus, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_danmaku-server"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status, text(output.stdout), text(output.stderr))
}

/// How long a test waits for something that must happen. Shorter than the longest window, so nothing waited for one to end.
pub(crate) const PATIENCE: Duration = Duration::from_secs(45);

/// The longest window there is: longer than any test.
pub(crate) const WINDOW_MS_MAX: &str = "60000";
