//! A shard, its clock, and viewers that read when they are told to.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use danmaku_fanout::memory::MemoryPeer;
use danmaku_fanout::{
    Attach, Audience, ConnId, FanoutConfig, Link, Outgoing, RoomKey, Shard, ShardMsg, StatsSnapshot,
};
use danmaku_wire::{
    Batch, BatchComment, BatchEvent, Comment, CommentLimits, CommentText, CompressionPolicy,
    Dialect, Epoch, Event, FrameSet, Gap, Sealer, Seq,
};
use serde_json::Value;

use crate::SINK;
use crate::receiver::{self, Receiver};

/// The room of every viewer that is not said to be elsewhere.
pub(crate) const ROOM: RoomKey = RoomKey(7);

/// The shard's index, different from 0 so that a mix-up shows.
pub(crate) const SHARD: usize = 2;

/// A pipe that never gets full.
pub(crate) const ROOMY: usize = usize::MAX;

const EPOCH: Epoch = Epoch::new(1_700_000_000_000);

pub(crate) struct World {
    pub(crate) shard: Shard,
    pub(crate) now: Duration,
    pub(crate) audience: Arc<Audience>,
    pub(crate) wake_at: Option<Duration>,
    sealer: Sealer,
    /// The last position sealed.
    after: Seq,
    links: HashMap<ConnId, Arc<Link>>,
    dialects: HashMap<ConnId, Dialect>,
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
            after: Seq::ZERO,
            links: HashMap::new(),
            dialects: HashMap::new(),
        }
    }

    /// Attaches a viewer to [`ROOM`] whose kernel holds `bytes_max` bytes.
    pub(crate) fn join(&mut self, conn: u64, dialect: Dialect, bytes_max: usize) -> Peer {
        self.join_with(conn, dialect, bytes_max, Vec::new())
    }

    pub(crate) fn join_with(
        &mut self,
        conn: u64,
        dialect: Dialect,
        bytes_max: usize,
        first: Vec<Outgoing>,
    ) -> Peer {
        self.attach(ROOM, conn, dialect, bytes_max, first)
    }

    /// Attaches a viewer to another room.
    pub(crate) fn join_room(&mut self, room: RoomKey, conn: u64) -> Peer {
        self.attach(room, conn, Dialect::WsIdentity, ROOMY, Vec::new())
    }

    fn attach(
        &mut self,
        room: RoomKey,
        conn: u64,
        dialect: Dialect,
        bytes_max: usize,
        mut first: Vec<Outgoing>,
    ) -> Peer {
        let (sink, pipe) = SINK.open(bytes_max);
        let conn = ConnId(conn);
        let link = Arc::new(Link::new(sink.into(), self.now));
        self.links.insert(conn, Arc::clone(&link));
        self.dialects.insert(conn, dialect);
        self.audience.join(SHARD, dialect);
        first.splice(..0, dialect.opening().map(Outgoing::Control));
        self.handle(ShardMsg::Attach(Box::new(Attach {
            conn,
            link,
            room,
            audience: Arc::clone(&self.audience),
            dialect,
            first,
        })));
        Peer {
            pipe,
            receiver: Receiver::new(dialect),
            events: Vec::new(),
        }
    }

    pub(crate) fn handle(&mut self, msg: ShardMsg) {
        self.shard.handle(msg, self.now);
        self.turn();
    }

    /// Whether the shard has more to do at once.
    pub(crate) fn goes_on(&self) -> bool {
        self.wake_at == Some(self.now)
    }

    /// Lets time pass, with a turn whenever the shard asked for one.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.goes_on() {
            self.turn();
        }
        while let Some(at) = self.wake_at.filter(|&at| at <= end) {
            assert!(at > self.now, "asked for a turn in the past");
            self.now = at;
            self.turn();
        }
        self.now = end;
        self.turn();
    }

    pub(crate) fn turn(&mut self) {
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

    /// Reads what the viewer has sent, as its reader does: what the connection owes for that is the shard's to write.
    pub(crate) fn serve(&mut self, conn: u64) {
        let conn = ConnId(conn);
        let link = Arc::clone(&self.links[&conn]);
        let mut buffer = [0; 8];
        while link.try_read(&mut buffer).is_ok_and(|len| len > 0) {}
        if link.owes_write() {
            self.handle(ShardMsg::Flush { conn });
        }
    }

    /// The sealed frame of the next `comments` positions.
    pub(crate) fn frame(&mut self, comments: u64) -> Arc<FrameSet> {
        self.seal(comments, Vec::new())
    }

    /// The sealed frame of an event at each of the next `events` positions, which names that many ids.
    pub(crate) fn frame_of_events(&mut self, events: u64, ids: u64) -> Arc<FrameSet> {
        let event = Event::Retract {
            ids: (1..=ids).map(Seq::new).collect(),
        };
        let events = (1..=events).map(|n| BatchEvent {
            seq: self.after.plus(n),
            event: event.clone(),
        });
        let events = events.collect();
        self.seal(0, events)
    }

    /// The sealed gap of the next `positions`, with an event at the last of them.
    pub(crate) fn gap_frame(&mut self, positions: u64) -> Arc<FrameSet> {
        let after = self.after;
        self.after = after.plus(positions);
        let gap = Gap {
            epoch: EPOCH,
            after,
            seq: self.after,
            events: vec![BatchEvent {
                seq: self.after,
                event: Event::Retract {
                    ids: [Seq::new(1)].into(),
                },
            }],
        };
        Arc::new(FrameSet::gap(gap, CompressionPolicy::default()))
    }

    fn seal(&mut self, comments: u64, events: Vec<BatchEvent>) -> Arc<FrameSet> {
        let after = self.after;
        self.after = after.plus(comments + events.len() as u64);
        let comment = |n| {
            let seq = after.plus(n);
            BatchComment {
                seq,
                at_ms: 1,
                fragment: comment(seq),
            }
        };
        let batch = Batch {
            epoch: EPOCH,
            after,
            seq: self.after,
            ts_ms: 1,
            viewers: 1,
            likes: 1,
            shed: 0,
            comments: (1..=comments).map(comment).collect(),
            events,
        };
        let frame = self.sealer.seal(batch, self.audience.chains());
        self.audience.prepare(&frame);
        Arc::new(frame)
    }

    /// Delivers a frame of so many comments to the room.
    pub(crate) fn deliver(&mut self, comments: u64) -> Arc<FrameSet> {
        let frame = self.frame(comments);
        self.deliver_frame(&frame);
        frame
    }

    pub(crate) fn deliver_frame(&mut self, frame: &Arc<FrameSet>) {
        self.handle(ShardMsg::Deliver {
            room: ROOM,
            frame: Arc::clone(frame),
        });
    }

    pub(crate) fn unicast(&mut self, conn: u64, text: &str) {
        let conn = ConnId(conn);
        let bytes = self.dialects[&conn].message(&note(text));
        self.handle(ShardMsg::Unicast { conn, bytes });
    }

    /// The audience as the shard should have left it: viewers, those of `WsDeflate`, those of the shard.
    pub(crate) fn audience(&self) -> (u32, u32, u32) {
        (
            self.audience.viewers(),
            self.audience.viewers_of(Dialect::WsDeflate),
            self.audience.attached(SHARD),
        )
    }
}

/// A viewer's end: it takes bytes when asked to and refuses what a strict client would refuse.
pub(crate) struct Peer {
    pub(crate) pipe: MemoryPeer,
    receiver: Receiver,
    /// The ids of all events so far, in batches and in gaps.
    pub(crate) events: Vec<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message {
    /// The positions `first..=last` of a batch.
    Batch(u64, u64),
    /// A batch that covers no position.
    Likes,
    /// The positions `first..=last` that are missing.
    Gap(u64, u64),
    /// Any other text, by its `ref`.
    Text(String),
    Ping,
    Pong(Vec<u8>),
    Close(u16),
}

impl Peer {
    /// Takes all that is there, and gives the messages that are complete.
    pub(crate) fn read(&mut self) -> Vec<Message> {
        self.read_up_to(usize::MAX)
    }

    pub(crate) fn read_up_to(&mut self, bytes_max: usize) -> Vec<Message> {
        let bytes = self.pipe.read(bytes_max);
        let messages = self.receiver.receive(&bytes);
        messages.into_iter().map(|it| self.message(it)).collect()
    }

    /// Takes all that comes while `world` has something to send.
    pub(crate) fn read_on(&mut self, world: &mut World) -> Vec<Message> {
        let mut messages = self.read();
        for _ in 0..10_000 {
            world.pass(ms(10));
            let more = self.read();
            let waits = self.receiver.is_inside_message() || world.counts().viewers_behind > 0;
            if more.is_empty() && !waits {
                return messages;
            }
            messages.extend(more);
        }
        panic!("it never ends");
    }

    fn message(&mut self, message: receiver::Message) -> Message {
        let json = match message {
            receiver::Message::Json(json) => json,
            receiver::Message::Heartbeat => return Message::Ping,
            receiver::Message::Pong(payload) => return Message::Pong(payload),
            receiver::Message::Closed(code) => return Message::Close(code),
        };
        let number = |key: &str| json[key].as_u64().expect(key);
        let is_gap = match json["type"].as_str().expect("type") {
            "gap" => true,
            "batch" => false,
            _ => return Message::Text(json["ref"].as_str().expect("ref").to_owned()),
        };
        let (after, seq) = (number("after"), number("seq"));
        for event in json["events"].as_array().unwrap_or(&Vec::new()) {
            let id = event["id"].as_u64().expect("id");
            assert!((after + 1..=seq).contains(&id), "{json}");
            self.events.push(id);
        }
        if is_gap {
            return Message::Gap(after + 1, seq);
        }
        if after == seq {
            return Message::Likes;
        }
        let comments = json["comments"].as_array().map_or(0, Vec::len) as u64;
        let events = json["events"].as_array().map_or(0, Vec::len) as u64;
        assert_eq!(comments + events, seq - after, "{json}");
        Message::Batch(after + 1, seq)
    }
}

/// A message that tests know again.
pub(crate) fn note(text: &str) -> String {
    Value::to_string(&serde_json::json!({ "type": "ack", "ref": text }))
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
