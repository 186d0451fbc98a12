//! The child process of the floor: accepts, answers each handshake with constant bytes, then sends. Nothing else.

use std::io::{self, BufRead, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Barrier;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::net::SendFlags;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Socket, Type};

use danmaku_wire::{Dialect, Encoding};

use crate::process::Process;
use crate::swarm::handshake::ACCEPT;

/// The child's plan, as JSON on its command line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SenderPlan {
    /// Connections to accept.
    pub viewers: u32,
    /// Rooms they ask for: the numbers below this.
    pub rooms: u32,
    /// Bytes of a frame by encoding.
    pub frame_bytes: [usize; 3],
    /// Sends per connection.
    pub rounds: u32,
    /// Time between rounds.
    pub interval_micros: u64,
    /// Sending threads, each with a share of every room.
    pub threads: usize,
}

/// The child's report.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct SenderReport {
    /// Sends.
    pub sends: u64,
    /// Partial sends; the rest was sent after them.
    pub short: u64,
    /// CPU time of this process over all rounds.
    pub cpu_ns: u64,
    /// The user-space share of it.
    pub user_ns: u64,
}

const BACKLOG: i32 = 4096;
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

/// One connection, and which buffer it gets.
struct Outlet {
    socket: OwnedFd,
    encoding: Encoding,
}

/// Runs the child: `listening ADDR`, `ready`, then on `go` the rounds and `done REPORT`; ends when its input ends.
///
/// # Errors
/// A socket or the parent's pipe fails.
pub fn send(plan: &SenderPlan, input: &mut dyn BufRead, output: &mut dyn Write) -> io::Result<()> {
    let listener = listen()?;
    writeln!(output, "listening {}", listener.local_addr()?)?;
    output.flush()?;
    let rooms = accept_all(&listener, plan)?;
    writeln!(output, "ready")?;
    output.flush()?;
    let mut line = String::new();
    input.read_line(&mut line)?;
    if line.trim() != "go" {
        return Ok(());
    }
    let shares = shares(plan, rooms);
    let report = run(plan, &shares);
    writeln!(
        output,
        "done {}",
        serde_json::to_string(&report).map_err(io::Error::other)?
    )?;
    output.flush()?;
    // The connections stay open until the parent has read the last frames.
    line.clear();
    input.read_line(&mut line).map(drop)
}

fn listen() -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn accept_all(listener: &TcpListener, plan: &SenderPlan) -> io::Result<Vec<Vec<Outlet>>> {
    let mut rooms: Vec<Vec<Outlet>> = (0..plan.rooms).map(|_| Vec::new()).collect();
    for _ in 0..plan.viewers {
        let (stream, _) = listener.accept()?;
        let (room, outlet) = shake_hands(stream)?;
        rooms
            .get_mut(room)
            .ok_or_else(|| io::Error::other("a room that is not in the plan"))?
            .push(outlet);
    }
    Ok(rooms)
}

/// Reads one request and answers it. The swarm always sends the same key, so the answer is constant.
fn shake_hands(mut stream: TcpStream) -> io::Result<(usize, Outlet)> {
    stream.set_read_timeout(Some(HANDSHAKE_DEADLINE))?;
    stream.set_nodelay(true)?;
    let mut request = [0; 1024];
    let mut read = 0;
    while !request[..read].ends_with(b"\r\n\r\n") {
        match stream.read(&mut request[read..])? {
            0 => return Err(io::Error::other("a connection ended in its handshake")),
            more => read += more,
        }
    }
    let head = String::from_utf8_lossy(&request[..read]);
    let (room, encoding) =
        asked_for(&head).ok_or_else(|| io::Error::other("a request for no room"))?;
    let joined = r#"{"type":"joined","room":"floor","epoch":1,"after":0,"seq":0,"window_ms":0,"viewers":1,"resumed":false}"#;
    let mut answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
    )
    .into_bytes();
    answer.extend_from_slice(&Dialect::WsIdentity.message(joined));
    stream.write_all(&answer)?;
    stream.set_nonblocking(true)?;
    Ok((
        room,
        Outlet {
            socket: stream.into(),
            encoding,
        },
    ))
}

/// `GET /v1/rooms/7/ws?encoding=gzip HTTP/1.1` asks for room 7 in gzip.
fn asked_for(head: &str) -> Option<(usize, Encoding)> {
    let (room, rest) = head
        .strip_prefix("GET /v1/rooms/")?
        .split_once("/ws?encoding=")?;
    Some((room.parse().ok()?, rest.split_once(' ')?.0.parse().ok()?))
}

/// Each thread gets its part of every room.
fn shares(plan: &SenderPlan, rooms: Vec<Vec<Outlet>>) -> Vec<Vec<Vec<Outlet>>> {
    let threads = plan.threads.max(1);
    let mut shares: Vec<Vec<Vec<Outlet>>> = (0..threads)
        .map(|_| Vec::with_capacity(rooms.len()))
        .collect();
    for outlets in rooms {
        let mut parts: Vec<Vec<Outlet>> = (0..threads).map(|_| Vec::new()).collect();
        for (index, outlet) in outlets.into_iter().enumerate() {
            parts[index % threads].push(outlet);
        }
        for (share, part) in shares.iter_mut().zip(parts) {
            share.push(part);
        }
    }
    shares
}

/// Runs the rounds on one thread per share and takes the CPU time of all together.
fn run(plan: &SenderPlan, shares: &[Vec<Vec<Outlet>>]) -> SenderReport {
    let process = Process::this();
    let ticks = || process.as_ref().and_then(Process::cpu);
    let (ticks_before, cpu_before) = (ticks(), cpu_ns());
    let barrier = Barrier::new(shares.len());
    let mut report = SenderReport::default();
    std::thread::scope(|scope| {
        let (own, others) = shares
            .split_first()
            .expect("invariant: there is at least one thread");
        let others: Vec<_> = others
            .iter()
            .map(|share| scope.spawn(|| rounds(plan, share, &barrier)))
            .collect();
        report = rounds(plan, own, &barrier);
        for other in others
            .into_iter()
            .flat_map(std::thread::ScopedJoinHandle::join)
        {
            report.sends += other.sends;
            report.short += other.short;
        }
    });
    report.cpu_ns = cpu_ns() - cpu_before;
    if let (Some(before), Some(after)) = (ticks_before, ticks()) {
        let spent = after.since(&before);
        report.user_ns = nanos(
            report.cpu_ns,
            spent.user_ms / spent.total_ms().max(f64::MIN_POSITIVE),
        );
    }
    report
}

/// The loop that is measured. Rooms take turns within a round, as their ticks are spread over the window.
fn rounds(plan: &SenderPlan, rooms: &[Vec<Outlet>], barrier: &Barrier) -> SenderReport {
    let mut report = SenderReport::default();
    let mut frames = plan.frame_bytes.map(frame);
    let interval = Duration::from_micros(plan.interval_micros);
    barrier.wait();
    let start = Instant::now();
    for round in 0..plan.rounds {
        for (outlets, turn) in rooms.iter().zip(0_u32..) {
            let due = interval * round + interval * turn / plan.rooms.max(1);
            std::thread::sleep(due.saturating_sub(start.elapsed()));
            stamp(&mut frames);
            for outlet in outlets {
                let frame = &frames[outlet.encoding as usize];
                report.sends += 1;
                let sent =
                    rustix::net::send(outlet.socket.as_fd(), frame, FLAGS).unwrap_or_default();
                if sent < frame.len() {
                    report.short += 1;
                    push(outlet, &frame[sent..]);
                }
            }
        }
    }
    report
}

/// Every socket is non-blocking already; the flags are what a C program would pass.
#[cfg(target_os = "linux")]
const FLAGS: SendFlags = SendFlags::NOSIGNAL.union(SendFlags::DONTWAIT);
#[cfg(not(target_os = "linux"))]
const FLAGS: SendFlags = SendFlags::DONTWAIT;

/// Sends what a full socket did not take, so that the receiver's stream stays whole.
fn push(outlet: &Outlet, mut rest: &[u8]) {
    let give_up = Instant::now() + Duration::from_secs(1);
    while !rest.is_empty() && Instant::now() < give_up {
        match rustix::net::send(outlet.socket.as_fd(), rest, FLAGS) {
            Ok(sent) => rest = &rest[sent..],
            Err(rustix::io::Errno::AGAIN) => std::thread::sleep(Duration::from_millis(1)),
            Err(_) => return,
        }
    }
}

const STAMP_START: usize = br#"{"type":"batch","after":0,"seq":0,"ts":"#.len();
const STAMP_DIGITS: usize = 13;

/// A text frame of `bytes` bytes, head included, that a viewer takes for a batch without comments. Below about 80 bytes it
/// is as small as such a batch can be.
fn frame(bytes: usize) -> Vec<u8> {
    let bare = r#"{"type":"batch","after":0,"seq":0,"ts":1000000000000,"comments":[]}"#;
    let head_bytes = if bytes < 128 {
        2
    } else if bytes < 65_540 {
        4
    } else {
        10
    };
    let padding = bytes.saturating_sub(head_bytes + bare.len() + r#","pad":"""#.len());
    let json = if padding == 0 {
        bare.to_owned()
    } else {
        format!(
            "{},\"pad\":\"{}\"}}",
            bare.trim_end_matches('}'),
            "x".repeat(padding)
        )
    };
    Dialect::WsIdentity.message(&json).to_vec()
}

/// Writes the present time into the frames, so that each round's bytes are new to the receivers, as a server's are.
fn stamp(frames: &mut [Vec<u8>; 3]) {
    let unix_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis();
    let digits = format!("{unix_ms:0STAMP_DIGITS$}");
    for frame in frames {
        let head_bytes = match frame[1] {
            126 => 4,
            127 => 10,
            _ => 2,
        };
        let start = head_bytes + STAMP_START;
        frame[start..start + STAMP_DIGITS].copy_from_slice(digits.as_bytes());
    }
}

fn cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or_default()
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a run's nanoseconds"
)]
fn nanos(total: u64, share: f64) -> u64 {
    (total as f64 * share.clamp(0.0, 1.0)) as u64
}

#[cfg(test)]
mod tests {
    use danmaku_client::Event;

    use super::*;
    use crate::swarm::server_frame::ServerFrame;

    #[test]
    fn frames_have_the_requested_size_and_are_batches_without_comments() {
        for bytes in [80, 127, 128, 131, 500, 20_000, 70_000] {
            let mut frames = [bytes; 3].map(frame);
            stamp(&mut frames);
            assert!(
                frames[0].len().abs_diff(bytes) <= 2,
                "{} for {bytes}",
                frames[0].len()
            );
            let parsed = ServerFrame::parse(&frames[0]).unwrap().unwrap();
            let Event::Batch(batch) = Event::parse(parsed.payload).unwrap() else {
                panic!("no batch")
            };
            assert_eq!((batch.after, batch.comments.len()), (batch.seq, 0));
            assert!(batch.ts_ms > 1_700_000_000_000, "stamped {}", batch.ts_ms);
        }
        assert!(frame(10).len() < 80, "as small as it gets");
    }

    #[test]
    fn requests_of_the_swarm_are_parsed() {
        let mut request = Vec::new();
        let ask = crate::swarm::handshake::Ask {
            server: &"127.0.0.1:1".parse().unwrap(),
            room: "17",
            dialect: Dialect::WsDeflate,
            from: crate::swarm::handshake::From::Now,
        };
        crate::swarm::handshake::write_request(&ask, |_| (), &mut request);
        let head = String::from_utf8(request).unwrap();
        assert_eq!(asked_for(&head), Some((17, Encoding::Deflate)));
        assert_eq!(asked_for("GET / HTTP/1.1\r\n\r\n"), None);
    }
}
