//! The shard threads with real sockets, and readers as a server has them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream as PeerStream};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use danmaku_fanout::{
    Attach, Audience, ConnId, Drained, Fanout, FanoutConfig, Link, Outgoing, RoomKey, ShardMsg,
    StatsSnapshot,
};
use danmaku_wire::{
    Batch, BatchComment, CloseReason, Comment, CommentLimits, CommentText, CompressionPolicy,
    Dialect, Epoch, Form, FrameSet, Seq, outbound::gap_json,
};
use socket2::SockRef;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

const ROOM: RoomKey = RoomKey(1);

struct Server {
    fanout: Arc<Fanout>,
    audience: Arc<Audience>,
    listener: TcpListener,
    origin: Instant,
    /// The last position sealed.
    after: Seq,
}

/// One viewer: the peer's socket, and the task that reads the server's end until it is over.
struct Viewer {
    conn: ConnId,
    peer: PeerStream,
    reader: JoinHandle<()>,
}

impl Server {
    async fn start(config: FanoutConfig) -> Self {
        let origin = Instant::now();
        let shards = config.shards.get();
        Self {
            fanout: Arc::new(Fanout::start(&config, origin).unwrap()),
            audience: Arc::new(Audience::new(shards, None)),
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            origin,
            after: Seq::ZERO,
        }
    }

    /// A viewer whose kernels hold as much as they like, or as little as they can.
    async fn join(&mut self, buffers: Buffers) -> Viewer {
        let address = self.listener.local_addr().unwrap();
        let peer = tokio::task::spawn_blocking(move || PeerStream::connect(address).unwrap());
        let (stream, _) = self.listener.accept().await.unwrap();
        let peer = peer.await.unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        if let Buffers::Small = buffers {
            SockRef::from(&stream).set_send_buffer_size(4_096).unwrap();
            SockRef::from(&peer).set_recv_buffer_size(4_096).unwrap();
        }
        // As after an upgrade, where the server has written before.
        stream.writable().await.unwrap();
        let conn = self.fanout.place(ROOM, &self.audience);
        let link = Arc::new(Link::new(stream.into(), self.origin.elapsed()));
        let shard = self.fanout.shard_for(conn);
        let dialect = Dialect::WsIdentity;
        self.audience.join(shard.index(), dialect);
        shard
            .send(ShardMsg::Attach(Box::new(Attach {
                conn,
                link: Arc::clone(&link),
                room: ROOM,
                audience: Arc::clone(&self.audience),
                dialect,
                first: vec![Outgoing::Control(dialect.message("{}"))],
            })))
            .await;
        let reader = tokio::spawn(read_to_the_end(Arc::clone(&self.fanout), conn, link));
        Viewer { conn, peer, reader }
    }

    /// Seals and delivers a frame of about so many bytes.
    async fn deliver(&mut self, bytes: usize) -> Arc<FrameSet> {
        let text = CommentText::new(&"x".repeat(180), &CommentLimits::default()).unwrap();
        let fragment = Comment::new(text).fragment();
        let count = (bytes / 192).max(1) as u64;
        let after = self.after;
        self.after = after.plus(count);
        let comment = |n| BatchComment {
            seq: after.plus(n),
            at_ms: 0,
            fragment: fragment.clone(),
        };
        let batch = Batch {
            epoch: Epoch::new(1),
            after,
            seq: self.after,
            ts_ms: 0,
            viewers: 0,
            likes: 0,
            shed: 0,
            comments: (1..=count).map(comment).collect(),
            events: Vec::new(),
        };
        let frame = Arc::new(FrameSet::replay(batch, CompressionPolicy::default()));
        for (index, shard) in self.fanout.shards().iter().enumerate() {
            if self.audience.attached(index) > 0 {
                let frame = Arc::clone(&frame);
                shard.send(ShardMsg::Deliver { room: ROOM, frame }).await;
            }
        }
        frame
    }

    async fn send(&self, msg: ShardMsg, conn: ConnId) {
        self.fanout.shard_for(conn).send(msg).await;
    }

    async fn stop(&self, deadline: Duration) -> Drained {
        let fanout = Arc::clone(&self.fanout);
        tokio::task::spawn_blocking(move || fanout.stop(CloseReason::GoingAway, deadline))
            .await
            .unwrap()
    }

    /// Waits until the counts are as they should be, and the same twice: a shard may be publishing them during a look.
    async fn counts(&self, are: impl Fn(&StatsSnapshot) -> bool) -> StatsSnapshot {
        let deadline = Instant::now() + PATIENCE;
        let mut last = StatsSnapshot::default();
        loop {
            let counts = self.fanout.snapshot();
            if counts == last && are(&counts) {
                return counts;
            }
            assert!(Instant::now() < deadline, "{counts:?}");
            last = counts;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

enum Buffers {
    Usual,
    Small,
}

/// What a server's reader does: read until the end, then say so.
async fn read_to_the_end(fanout: Arc<Fanout>, conn: ConnId, link: Arc<Link>) {
    let mut buffer = [0; 1_024];
    while link.readable().await.is_ok() {
        match link.try_read(&mut buffer) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    drop(link);
    fanout.shard_for(conn).send(ShardMsg::Detach { conn }).await;
}

/// Reads exactly these bytes.
fn expect(peer: &mut PeerStream, expected: &[u8]) {
    let mut bytes = vec![0; expected.len()];
    peer.read_exact(&mut bytes).unwrap();
    assert!(bytes == expected, "other bytes than expected");
}

const HELLO: &[u8] = b"\x81\x02{}";

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Longer than any test: what waits for this never happens.
const NEVER: Duration = Duration::from_secs(3_600);

/// Time does nothing to these viewers; a test that is about a deadline sets that one.
fn config(shards: usize) -> FanoutConfig {
    FanoutConfig {
        shards: NonZeroUsize::new(shards).unwrap(),
        outbox_age_max: NEVER,
        evict_after: NEVER,
        ping_interval: NEVER,
        idle_deadline: NEVER * 2,
        close_deadline: NEVER,
        ..FanoutConfig::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_viewer_of_every_shard_gets_every_frame_in_order() {
    let mut server = Server::start(config(3)).await;
    let mut viewers = Vec::new();
    for _ in 0..100 {
        viewers.push(server.join(Buffers::Usual).await);
    }
    let mut frames = Vec::new();
    for _ in 0..20 {
        frames.push(server.deliver(2_000).await);
    }
    for viewer in &mut viewers {
        expect(&mut viewer.peer, HELLO);
        for frame in &frames {
            expect(&mut viewer.peer, frame.form(Form::WsIdentity));
        }
    }
    let counts = server.counts(|it| it.frames_written == 2_000).await;
    assert_eq!((counts.frames_offered, counts.viewers), (2_000, 100));
    assert_eq!(counts.passes, 60, "one per shard and frame");
    // A peer that just goes away is detached by its reader.
    for viewer in viewers {
        drop(viewer.peer);
        viewer.reader.await.unwrap();
    }
    server.counts(|it| it.viewers == 0).await;
    assert_eq!(server.audience.viewers(), 0);
    assert_eq!(server.stop(PATIENCE).await, Drained::Flushed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_room_stays_on_its_home_shard_and_a_crowded_one_is_spread() {
    let server = Server::start(config(3)).await;
    let fanout = &server.fanout;
    let mut homes = [0; 3];
    for room in 0..30 {
        let room = RoomKey(room);
        let audience = Audience::new(3, None);
        let join = |viewers: u32| {
            for _ in 0..viewers {
                let shard = fanout.place(room, &audience).shard();
                audience.join(shard, Dialect::WsIdentity);
            }
            [0, 1, 2].map(|shard| audience.attached(shard))
        };
        let attached = join(64);
        let home = attached.iter().position(|&viewers| viewers == 64);
        let home = home.expect("all are at home");
        homes[home] += 1;
        let attached = join(300);
        for (shard, viewers) in attached.into_iter().enumerate() {
            let at_home = if shard == home { 64 } else { 0 };
            assert_eq!(viewers, 100 + at_home, "{attached:?}");
        }
    }
    assert_eq!(homes, [10; 3], "rooms are spread too");
    let conn = fanout.place(ROOM, &server.audience);
    assert_ne!(conn, fanout.place(ROOM, &server.audience));
    assert_eq!(fanout.shard_for(conn).index(), conn.shard());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_that_stops_reading_is_evicted_and_reset_and_the_others_miss_nothing() {
    let mut server = Server::start(FanoutConfig {
        outbox_bytes_max: 64 << 10,
        evict_after: Duration::from_secs(2),
        close_deadline: Duration::from_millis(200),
        ..config(1)
    })
    .await;
    let mut good = server.join(Buffers::Usual).await;
    let mut stuck = server.join(Buffers::Small).await;
    expect(&mut good.peer, HELLO);
    let begin = Instant::now();
    while !stuck.reader.is_finished() {
        let frame = server.deliver(20_000).await;
        expect(&mut good.peer, frame.form(Form::WsIdentity));
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(begin.elapsed() < PATIENCE, "never evicted");
    }
    let counts = server.counts(|it| it.closes_forced == 1).await;
    assert_eq!((counts.evicted_behind, counts.viewers), (1, 1));
    assert!(counts.frames_skipped_evicted > 0, "{counts:?}");
    assert_eq!(
        counts.frames_offered,
        counts.frames_written + counts.frames_skipped()
    );
    assert_eq!(counts.outbox_bytes, 0);
    stuck.reader.await.unwrap();
    // The reset throws away what the kernels held, so the peer cannot read to a proper end.
    let end = stuck.peer.read_to_end(&mut Vec::new());
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_gets_whole_frames_a_gap_for_what_it_missed_and_then_live_ones() {
    let mut server = Server::start(FanoutConfig {
        outbox_bytes_max: 100_000,
        ..config(1)
    })
    .await;
    let mut slow = server.join(Buffers::Small).await;
    let mut frames = Vec::new();
    for _ in 0..40 {
        frames.push(server.deliver(30_000).await);
    }
    let counts = server
        .counts(|it| it.frames_offered == 40 && it.viewers_behind == 1)
        .await;
    let skipped = usize::try_from(counts.frames_skipped_bytes).unwrap();
    assert!(skipped > 10, "{counts:?}");
    let begun = 40 - skipped - 3;
    let peer = &mut slow.peer;
    expect(peer, HELLO);
    for frame in &frames[..begun] {
        expect(peer, frame.form(Form::WsIdentity));
    }
    let gap = gap_json(frames[begun].after(), frames[40 - 4].seq(), &[]);
    expect(peer, &Dialect::WsIdentity.message(&gap));
    for frame in &frames[40 - 3..] {
        expect(peer, frame.form(Form::WsIdentity));
    }
    server
        .counts(|it| it.gaps_written == 1 && it.viewers_behind == 0)
        .await;
    let live = server.deliver(100).await;
    expect(peer, live.form(Form::WsIdentity));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_is_a_handshake_and_then_the_end_of_the_reader() {
    let mut server = Server::start(config(1)).await;
    let mut viewer = server.join(Buffers::Usual).await;
    let conn = viewer.conn;
    let reason = CloseReason::TooBig;
    server.send(ShardMsg::Close { conn, reason }, conn).await;
    let mut bytes = Vec::new();
    // The server shuts its half after the close frame, so this ends.
    viewer.peer.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes[HELLO.len()..][..4], *b"\x88\x11\x03\xf1");
    // Until the peer ends too, the server reads on: its answer must not meet a reset.
    viewer.peer.write_all(b"\x88\x80\0\0\0\0").unwrap();
    viewer.peer.shutdown(Shutdown::Write).unwrap();
    viewer.reader.await.unwrap();
    let gone = |it: &StatsSnapshot| it.viewers == 0 && it.closes_begun == 1;
    assert_eq!(server.counts(gone).await.closes_forced, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_sends_all_that_was_delivered_before_it() {
    let mut server = Server::start(config(2)).await;
    let mut viewers = Vec::new();
    for _ in 0..20 {
        viewers.push(server.join(Buffers::Small).await);
    }
    let frames = [server.deliver(60_000).await, server.deliver(60_000).await];
    let peers = viewers.into_iter().map(|mut viewer| {
        let frames = frames.clone();
        tokio::task::spawn_blocking(move || {
            expect(&mut viewer.peer, HELLO);
            for frame in &frames {
                expect(&mut viewer.peer, frame.form(Form::WsIdentity));
            }
            let mut close = Vec::new();
            viewer.peer.read_to_end(&mut close).unwrap();
            assert_eq!(close[..4], *b"\x88\x12\x03\xe9");
        })
    });
    let peers: Vec<_> = peers.collect();
    assert_eq!(server.stop(PATIENCE).await, Drained::Flushed);
    for peer in peers {
        peer.await.unwrap();
    }
    // A stopped fan-out takes messages without harm, and keeps the audience right.
    let late = server.join(Buffers::Usual).await;
    late.reader.await.unwrap();
    assert_eq!(server.audience.viewers(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_with_a_viewer_that_does_not_read_ends_at_the_deadline() {
    let mut server = Server::start(config(1)).await;
    let stuck = server.join(Buffers::Small).await;
    server.deliver(2_000_000).await;
    let deadline = Duration::from_millis(300);
    let begin = Instant::now();
    // No other deadline of this fan-out is near, so only the stop's own can end it.
    let drained = tokio::time::timeout(PATIENCE, server.stop(deadline)).await;
    assert_eq!(drained.unwrap(), Drained::Deadline);
    assert!(begin.elapsed() >= deadline);
    stuck.reader.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_that_vanish_during_a_pass_cost_nobody_else_anything() {
    let mut server = Server::start(config(1)).await;
    let mut good = Vec::new();
    let mut readers = Vec::new();
    for n in 0..60 {
        let viewer = server.join(Buffers::Usual).await;
        if n % 3 == 0 {
            good.push(viewer);
        } else {
            // A reset instead of an orderly end.
            SockRef::from(&viewer.peer)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
            drop(viewer.peer);
            readers.push(viewer.reader);
        }
    }
    let frames = [server.deliver(500).await, server.deliver(500).await];
    for viewer in &mut good {
        expect(&mut viewer.peer, HELLO);
        for frame in &frames {
            expect(&mut viewer.peer, frame.form(Form::WsIdentity));
        }
    }
    for reader in readers {
        reader.await.unwrap();
    }
    server
        .counts(|it| it.viewers == 20 && it.frames_offered >= 40)
        .await;
    assert_eq!(server.audience.viewers(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_threads_of_a_dropped_fan_out_end_their_viewers() {
    let mut server = Server::start(config(2)).await;
    let mut viewer = server.join(Buffers::Usual).await;
    expect(&mut viewer.peer, HELLO);
    viewer.reader.abort();
    let _ = viewer.reader.await;
    let audience = Arc::clone(&server.audience);
    drop(server);
    let deadline = Instant::now() + PATIENCE;
    while audience.viewers() > 0 {
        assert!(Instant::now() < deadline, "still there");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn a_configuration_that_does_not_fit_is_refused() {
    let config = FanoutConfig {
        inbox_len: 0,
        ..FanoutConfig::default()
    };
    let error = Fanout::start(&config, Instant::now()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert_eq!(error.to_string(), "inbox_len must not be 0");
}
