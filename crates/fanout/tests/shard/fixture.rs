//! A shard, its clock, and viewers that read when they are told to.

use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use danmaku_fanout::{
    Attach, Audience, ConnId, FanoutConfig, Link, Outgoing, Pipe, PipePeer, RoomKey, Shard,
    ShardMsg, StatsSnapshot,
};
use danmaku_wire::outbound::text_frame;
use danmaku_wire::{
    Batch, Comment, CommentLimits, CommentText, CompressionPolicy, DeflateViewers, Encoding,
    FrameSet, Sealer, Seq,
};
use flate2::read::GzDecoder;
use flate2::{Decompress, FlushDecompress};
use serde_json::Value;

/// The room of every viewer that is not said to be elsewhere.
pub(crate) const ROOM: RoomKey = RoomKey(7);

/// The shard's index, different from 0 so that a mix-up shows.
pub(crate) const SHARD: usize = 2;

/// A pipe that never gets full.
pub(crate) const ROOMY: usize = usize::MAX;

pub(crate) struct World {
    pub(crate) shard: Shard,
    pub(crate) now: Duration,
    pub(crate) audience: Arc<Audience>,
    pub(crate) wake_at: Option<Duration>,
    sealer: Sealer,
    next: Seq,
    links: HashMap<ConnId, Arc<Link>>,
}

impl World {
    pub(crate) fn new(config: &FanoutConfig) -> Self {
        Self {
            shard: Shard::new(SHARD, config),
            // Not the origin: a shard starts when its clock has run for a while.
            now: ms(5_000),
            audience: Arc::new(Audience::new(SHARD + 1, None)),
            wake_at: None,
            sealer: Sealer::new(CompressionPolicy::default()),
            next: Seq::new(1),
            links: HashMap::new(),
        }
    }

    /// Attaches a viewer to [`ROOM`] whose kernel holds `bytes_max` bytes.
    pub(crate) fn join(&mut self, conn: u64, encoding: Encoding, bytes_max: usize) -> Peer {
        self.join_with(conn, encoding, bytes_max, Vec::new())
    }

    pub(crate) fn join_with(
        &mut self,
        conn: u64,
        encoding: Encoding,
        bytes_max: usize,
        first: Vec<Outgoing>,
    ) -> Peer {
        self.attach(ROOM, conn, encoding, bytes_max, first)
    }

    /// Attaches a viewer to another room.
    pub(crate) fn join_room(&mut self, room: RoomKey, conn: u64) -> Peer {
        self.attach(room, conn, Encoding::Identity, ROOMY, Vec::new())
    }

    fn attach(
        &mut self,
        room: RoomKey,
        conn: u64,
        encoding: Encoding,
        bytes_max: usize,
        first: Vec<Outgoing>,
    ) -> Peer {
        let (pipe, pipe_peer) = Pipe::new(bytes_max);
        let link = Arc::new(Link::new(pipe.into(), self.now));
        self.links.insert(ConnId(conn), Arc::clone(&link));
        self.audience.join(SHARD, encoding);
        self.handle(ShardMsg::Attach(Box::new(Attach {
            conn: ConnId(conn),
            link,
            room,
            audience: Arc::clone(&self.audience),
            encoding,
            first,
        })));
        Peer::new(pipe_peer, encoding)
    }

    pub(crate) fn handle(&mut self, msg: ShardMsg) {
        self.shard.handle(msg, self.now);
        self.turn();
    }

    /// Lets time pass, with a turn whenever the shard asked for one.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.wake_at.filter(|&at| at <= end) {
            assert!(at > self.now, "asked for a turn in the past");
            self.now = at;
            self.turn();
        }
        self.now = end;
        self.turn();
    }

    fn turn(&mut self) {
        self.wake_at = self.shard.turn(self.now);
        let counts = self.counts();
        assert_eq!(
            counts.frames_offered,
            counts.frames_written + counts.frames_skipped() + self.shard.frames_waiting(),
            "a frame is lost from the books"
        );
    }

    pub(crate) fn counts(&self) -> StatsSnapshot {
        *self.shard.counts()
    }

    /// Notes a sign of life, as the viewer's reader does.
    pub(crate) fn hear(&self, conn: u64) {
        self.links[&ConnId(conn)].heard(self.now);
    }

    /// The sealed frame of the next `comments` positions.
    pub(crate) fn frame(&mut self, comments: u64) -> Arc<FrameSet> {
        let batch = Batch {
            first: self.next,
            ts_ms: 1,
            viewers: 1,
            likes: 1,
            shed: 0,
            comments: (0..comments)
                .map(|n| self.next.plus(n))
                .map(|seq| (seq, comment(seq)))
                .collect(),
        };
        self.next = self.next.plus(comments);
        Arc::new(self.sealer.seal(&batch, DeflateViewers::Some))
    }

    /// Delivers a frame of so many comments to the room.
    pub(crate) fn deliver(&mut self, comments: u64) -> Arc<FrameSet> {
        let frame = self.frame(comments);
        self.handle(ShardMsg::Deliver {
            room: ROOM,
            frame: Arc::clone(&frame),
        });
        frame
    }

    pub(crate) fn unicast(&mut self, conn: u64, text: &str) {
        self.handle(ShardMsg::Unicast {
            conn: ConnId(conn),
            bytes: text_frame(&format!("{{\"type\":\"ack\",\"ref\":\"{text}\"}}")),
        });
    }

    /// The audience as the shard should have left it: viewers, those of deflate, those of the shard.
    pub(crate) fn audience(&self) -> (u32, u32, u32) {
        (
            self.audience.viewers(),
            self.audience.deflate_viewers(),
            self.audience.attached(SHARD),
        )
    }
}

/// A viewer's end: it takes bytes when asked to and refuses what a strict client would refuse.
pub(crate) struct Peer {
    pub(crate) pipe: PipePeer,
    encoding: Encoding,
    bytes: Vec<u8>,
    inflater: Decompress,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message {
    /// The positions `first..=last` of a batch.
    Batch(u64, u64),
    /// A batch that covers no position.
    Likes,
    Gap(u64, u64),
    /// Any other text, by its `ref`.
    Text(String),
    Ping,
    Pong(Vec<u8>),
    Close(u16),
}

impl Peer {
    fn new(pipe: PipePeer, encoding: Encoding) -> Self {
        Self {
            pipe,
            encoding,
            bytes: Vec::new(),
            inflater: Decompress::new(false),
        }
    }

    /// Takes all that is there, and gives the messages that are complete.
    pub(crate) fn read(&mut self) -> Vec<Message> {
        self.read_up_to(usize::MAX)
    }

    pub(crate) fn read_up_to(&mut self, bytes_max: usize) -> Vec<Message> {
        self.bytes.extend(self.pipe.read(bytes_max));
        let mut messages = Vec::new();
        while let Some((opcode, payload, rest)) = split_frame(&self.bytes) {
            messages.push(self.message(opcode, &payload));
            self.bytes.drain(..rest);
        }
        messages
    }

    /// Takes all that comes while `world` has something to send.
    pub(crate) fn read_on(&mut self, world: &mut World) -> Vec<Message> {
        let mut messages = self.read();
        for _ in 0..10_000 {
            world.pass(ms(10));
            let more = self.read();
            if more.is_empty() && self.bytes.is_empty() && world.shard.frames_waiting() == 0 {
                return messages;
            }
            messages.extend(more);
        }
        panic!("it never ends");
    }

    fn message(&mut self, opcode: u8, payload: &[u8]) -> Message {
        match opcode {
            1 => text(payload),
            2 => {
                let batch = text(&self.unpack(payload));
                assert!(matches!(batch, Message::Batch(..) | Message::Likes));
                batch
            }
            8 => Message::Close(u16::from_be_bytes([payload[0], payload[1]])),
            9 => Message::Ping,
            10 => Message::Pong(payload.to_vec()),
            other => panic!("opcode {other}"),
        }
    }

    fn unpack(&mut self, payload: &[u8]) -> Vec<u8> {
        let mut line = Vec::with_capacity(1 << 20);
        match self.encoding {
            Encoding::Identity => panic!("binary for identity"),
            Encoding::Gzip => {
                GzDecoder::new(payload).read_to_end(&mut line).unwrap();
            }
            Encoding::Deflate => {
                let before = self.inflater.total_in();
                self.inflater
                    .decompress_vec(payload, &mut line, FlushDecompress::Sync)
                    .expect("the stream is whole");
                assert_eq!(self.inflater.total_in() - before, payload.len() as u64);
                assert_eq!(line.pop(), Some(b'\n'));
            }
        }
        line
    }
}

fn text(payload: &[u8]) -> Message {
    let json: Value = serde_json::from_slice(payload).expect("JSON");
    let number = |key: &str| json[key].as_u64().expect(key);
    match json["type"].as_str().expect("type") {
        "gap" => Message::Gap(number("from"), number("to")),
        "batch" => match json["comments"].as_array().expect("comments").len() as u64 {
            0 => Message::Likes,
            comments => Message::Batch(number("seq"), number("seq") + comments - 1),
        },
        _ => Message::Text(json["ref"].as_str().expect("ref").to_owned()),
    }
}

/// The first frame of `bytes`: its opcode, its payload, its length (RFC 6455, section 5.2).
fn split_frame(bytes: &[u8]) -> Option<(u8, Vec<u8>, usize)> {
    let (&[first, second], rest) = bytes.split_first_chunk()?;
    assert_eq!(first & 0xF0, 0x80, "whole messages without extensions");
    assert_eq!(second & 0x80, 0, "a server does not mask");
    let (len, rest) = match second {
        126 => {
            let (len, rest) = rest.split_first_chunk()?;
            (u64::from(u16::from_be_bytes(*len)), rest)
        }
        127 => {
            let (len, rest) = rest.split_first_chunk()?;
            (u64::from_be_bytes(*len), rest)
        }
        len => (u64::from(len), rest),
    };
    let payload = rest.get(..usize::try_from(len).unwrap())?;
    let end = bytes.len() - rest.len() + payload.len();
    Some((first & 0x0F, payload.to_vec(), end))
}

fn comment(seq: Seq) -> danmaku_wire::Fragment {
    let text = format!("comment {seq} of a lively room");
    Comment::new(CommentText::new(&text, &CommentLimits::default()).unwrap()).fragment()
}

pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Bounds that no test meets by accident.
pub(crate) fn config() -> FanoutConfig {
    FanoutConfig {
        outbox_bytes_max: 1 << 20,
        control_bytes_max: 1 << 20,
        outbox_age_max: Duration::from_secs(3_600),
        evict_after: Duration::from_secs(3_600),
        ping_interval: Duration::from_secs(3_600),
        idle_deadline: Duration::from_secs(9_000),
        close_deadline: ms(2_000),
        ..FanoutConfig::default()
    }
}
