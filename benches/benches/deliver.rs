//! What it costs to deliver one frame to a room: a real shard, real loopback sockets, and a thread that drains them.
//!
//! For comparison, a bare loop of `send` over the same sockets with the same bytes is the floor: on loopback the kernel
//! does the receiver's part of TCP inside `send`. This process holds both ends of each socket, so a limit of 20,000
//! descriptors allows 9,500 viewers, not 10,000.

use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use danmaku_benches::Chat;
use danmaku_fanout::{
    Attach, Audience, ConnId, FanoutConfig, Link, RoomKey, Shard, ShardMsg, Sink,
};
use danmaku_wire::{
    Chains, CompressionPolicy, Cursor, Dialect, Encoding, Form, FrameSet, Sealer, Seq,
};
use mio::{Events, Interest, Poll, Token};
use rustix::time::{ClockId, clock_gettime};
use socket2::SockRef;
use tokio::runtime::Runtime;

const VIEWERS: [usize; 2] = [1_000, 9_500];

/// Comments in the frame: a lively room's second.
const COMMENTS: usize = 36;

const SEED: u64 = 7;

/// A third of the viewers each.
const DIALECTS: [Dialect; 3] = [
    Dialect::web_socket(Encoding::Identity),
    Dialect::web_socket(Encoding::Gzip),
    Dialect::web_socket(Encoding::Deflate),
];

const ROOM: RoomKey = RoomKey(1);

/// Rounds of the comparison, and how many of them are for warming up.
const ROUNDS: usize = 60;
const ROUNDS_WARM_UP: usize = 10;

/// Shard, sockets and the thread that drains them.
struct Room {
    shard: Shard,
    origin: Instant,
    /// Each viewer's connection and the form of the frame it gets.
    viewers: Vec<(Arc<Link>, Bytes)>,
    frame: Arc<FrameSet>,
    sent_bytes: u64,
    drained_bytes: Arc<AtomicU64>,
    drainer: JoinHandle<()>,
    /// Keeps the sockets' readiness up to date, as in a server.
    runtime: Runtime,
}

impl Room {
    /// A third of the viewers each of `identity`, `gzip` and `deflate`.
    fn open(viewers: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_io()
            .build()
            .expect("a runtime");
        let (mut servers, peers) = connect(viewers);
        let drained_bytes = Arc::new(AtomicU64::new(0));
        let drained = Arc::clone(&drained_bytes);
        let drainer = thread::spawn(move || drain(peers, &drained));

        let frame = frame();
        let origin = Instant::now();
        let audience = Arc::new(Audience::new(1, None));
        let mut room = Self {
            shard: Shard::new(0, &FanoutConfig::default()),
            origin,
            viewers: Vec::with_capacity(viewers),
            frame,
            sent_bytes: 0,
            drained_bytes,
            drainer,
            runtime,
        };
        for (conn, server) in (0..).zip(servers.drain(..)) {
            let dialect = DIALECTS[usize::try_from(conn % 3).expect("it is below 3")];
            let link = room.link(server);
            audience.join(0, dialect);
            let attach = ShardMsg::Attach(Box::new(Attach {
                conn: ConnId(conn),
                link: Arc::clone(&link),
                room: ROOM,
                audience: Arc::clone(&audience),
                dialect,
                first: Vec::new(),
            }));
            room.shard.handle(attach, origin.elapsed());
            let form = Cursor::default().choose(dialect, &room.frame);
            let bytes = room.frame.form(form).clone();
            room.viewers.push((link, bytes));
        }
        room
    }

    fn link(&self, server: TcpStream) -> Arc<Link> {
        server.set_nonblocking(true).expect("an option");
        server.set_nodelay(true).expect("an option");
        let stream = {
            let _entered = self.runtime.enter();
            tokio::net::TcpStream::from_std(server).expect("a registration")
        };
        self.runtime
            .block_on(stream.writable())
            .expect("a writable socket");
        Arc::new(Link::new(stream.into(), self.origin.elapsed()))
    }

    /// One pass of the shard.
    fn deliver(&mut self) {
        let frame = Arc::clone(&self.frame);
        let now = self.origin.elapsed();
        self.shard
            .handle(ShardMsg::Deliver { room: ROOM, frame }, now);
        while self.shard.turn(now) == Some(now) {}
        self.sent_bytes += self.pass_bytes();
    }

    /// One pass of nothing but `send`.
    fn send_bare(&mut self) {
        for (link, bytes) in &self.viewers {
            let Sink::Tcp(stream) = link.sink() else {
                unreachable!("all viewers here have sockets");
            };
            let sent = SockRef::from(stream).send(bytes).expect("room in a socket");
            assert_eq!(sent, bytes.len());
        }
        self.sent_bytes += self.pass_bytes();
    }

    fn pass_bytes(&self) -> u64 {
        self.viewers
            .iter()
            .map(|(_, bytes)| bytes.len() as u64)
            .sum()
    }

    /// Waits until the viewers have read everything, so that each pass meets empty sockets.
    fn settle(&mut self) {
        while self.drained_bytes.load(Ordering::Acquire) < self.sent_bytes {
            self.shard.turn(self.origin.elapsed());
            thread::sleep(Duration::from_micros(200));
        }
    }

    /// Closes all sockets.
    fn close(self) {
        drop((self.shard, self.viewers));
        self.drainer.join().expect("it ends with its first socket");
    }

    /// Checks that every write was whole.
    fn check(&self) {
        let counts = self.shard.counts();
        assert_eq!(counts.frames_written, counts.frames_offered);
        assert_eq!((counts.partial_writes, counts.broken), (0, 0));
    }
}

/// Makes this many connections: the server's ends and the viewers'.
fn connect(viewers: usize) -> (Vec<TcpStream>, Vec<mio::net::TcpStream>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("an address");
    let pair = |_| {
        let peer = TcpStream::connect(address).expect("a connection");
        let (server, _) = listener.accept().expect("a connection");
        peer.set_nonblocking(true).expect("an option");
        (server, mio::net::TcpStream::from_std(peer))
    };
    (0..viewers).map(pair).unzip()
}

/// Reads and counts everything until the room is closed.
fn drain(mut peers: Vec<mio::net::TcpStream>, drained_bytes: &AtomicU64) {
    let mut poll = Poll::new().expect("a poll");
    for (index, peer) in peers.iter_mut().enumerate() {
        poll.registry()
            .register(peer, Token(index), Interest::READABLE)
            .expect("a registration");
    }
    let mut events = Events::with_capacity(1_024);
    let mut buffer = vec![0; 64 << 10];
    loop {
        if let Err(error) = poll.poll(&mut events, None) {
            assert_eq!(error.kind(), ErrorKind::Interrupted);
        }
        let mut bytes = 0;
        for event in &events {
            let peer = &mut peers[event.token().0];
            loop {
                match peer.read(&mut buffer) {
                    Ok(0) => return,
                    Ok(read) => bytes += read as u64,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
        drained_bytes.fetch_add(bytes, Ordering::Release);
    }
}

/// A frame in the middle of a group, with all its forms made.
fn frame() -> Arc<FrameSet> {
    let mut chat = Chat::new(SEED);
    let chains = Chains {
        ws_deflate: true,
        sse_gzip: false,
    };
    let batch = chat.batch(Seq::ZERO, COMMENTS);
    let frame = Sealer::new(CompressionPolicy::default()).seal(batch, chains);
    let _ = (frame.form(Form::WsGzip), frame.form(Form::WsDeflate));
    Arc::new(frame)
}

/// CPU time of this thread.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let nanos = u32::try_from(time.tv_nsec).expect("below a second");
    Duration::new(u64::try_from(time.tv_sec).expect("not negative"), nanos)
}

/// Wall-clock and CPU time per send of one pass, in nanoseconds.
fn time_pass(room: &mut Room, pass: impl FnOnce(&mut Room)) -> (u64, u64) {
    let (wall, processor) = (Instant::now(), thread_time());
    pass(room);
    let (processor, wall) = (thread_time() - processor, wall.elapsed());
    let per_send = |time: Duration| {
        u64::try_from(time.as_nanos()).expect("a short pass") / room.viewers.len() as u64
    };
    let times = (per_send(wall), per_send(processor));
    room.settle();
    times
}

fn median(mut times: Vec<u64>) -> u64 {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Alternates shard and bare loop, so that other load on the machine affects both.
#[allow(clippy::print_stdout, reason = "the ratio is what this bench is for")]
#[allow(clippy::cast_precision_loss, reason = "a few microseconds")]
fn print_beside_bare(room: &mut Room) {
    let (mut shard, mut bare) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let one = time_pass(room, Room::deliver);
        let other = time_pass(room, Room::send_bare);
        if round >= ROUNDS_WARM_UP {
            shard.push(one);
            bare.push(other);
        }
    }
    room.check();
    let split = |times: Vec<(u64, u64)>| {
        let (wall, processor) = times.into_iter().unzip();
        (median(wall), median(processor))
    };
    let (shard, bare) = (split(shard), split(bare));
    println!(
        "{} sockets, {} bytes a frame in the mean, nanoseconds per send: \
         wall: shard {}, bare {}, ratio {:.3}; processor: shard {}, bare {}, ratio {:.3}",
        room.viewers.len(),
        room.pass_bytes() / room.viewers.len() as u64,
        shard.0,
        bare.0,
        shard.0 as f64 / bare.0 as f64,
        shard.1,
        bare.1,
        shard.1 as f64 / bare.1 as f64,
    );
}

fn deliver(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("deliver");
    for viewers in VIEWERS {
        let mut room = Room::open(viewers);
        print_beside_bare(&mut room);
        group.throughput(Throughput::Elements(viewers as u64));
        for (name, pass) in [
            ("shard", Room::deliver as fn(&mut Room)),
            ("bare", Room::send_bare),
        ] {
            group.bench_function(BenchmarkId::new(name, viewers), |bencher| {
                bencher.iter_custom(|rounds| {
                    let mut total = Duration::ZERO;
                    for _ in 0..rounds {
                        let begin = Instant::now();
                        pass(&mut room);
                        total += begin.elapsed();
                        room.settle();
                    }
                    total
                });
            });
        }
        room.check();
        room.close();
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3));
    targets = deliver
}
criterion_main!(benches);
