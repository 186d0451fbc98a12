//! One simulated viewer: how it reads, what it answers, how it ends.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use danmaku_engine::SplitMix64;
use danmaku_fanout::memory::{MemoryKind, MemoryPeer};
use danmaku_fanout::{ConnId, Link, ShardMsg};
use danmaku_wire::{CloseReason, Cursor, Dialect, Form, FrameSet, Position};

use crate::account::Account;
use crate::live::index_below;
use crate::receiver::{Message, Receiver};
use crate::truth::Truth;

/// How a viewer behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Habit {
    /// Reads all that is there, always: never misses a thing.
    Prompt,
    /// Reads so many bytes per step.
    Slow { step_bytes: usize },
    /// Stops for a while, then reads all, over and over.
    Choppy { change_at_ms: u64, reads: bool },
    /// Stops reading at a moment, for good.
    Stalls { at_ms: u64 },
    /// Reads, and answers nothing: a peer whose way back is gone.
    Mute,
}

/// How a connection ended, as its viewer saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Online,
    /// It went away without a word.
    Left,
    /// It was told why.
    Closed(u16),
    /// The end came without a close frame.
    Cut,
}

/// What its shard has taken of its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nothing yet.
    Coming,
    /// Its `Attach`.
    Attached,
    /// Its `Detach` too.
    Detached,
}

/// A viewer with both ends of its connection: the peer's, and that of the server's reading task.
pub(crate) struct Viewer {
    pub(crate) conn: ConnId,
    pub(crate) room: usize,
    pub(crate) shard: usize,
    pub(crate) dialect: Dialect,
    pub(crate) habit: Habit,
    pub(crate) outcome: Outcome,
    pub(crate) account: Account,
    pub(crate) acks: Acks,
    pub(crate) stage: Stage,
    /// Frames that its shard was told to write to it.
    pub(crate) offered: u64,
    /// Gaps among them, from and to.
    gaps_offered: Vec<(u64, u64)>,
    /// Where it is in the shared history, and how many packed bytes it has got, when it misses no frame.
    cursor: Cursor,
    packed_bytes: u64,
    /// It asked for the close that it gets.
    pub(crate) asked_to_close: bool,
    /// Its room has begun a new epoch.
    pub(crate) epoch_ended: bool,
    /// It has always kept up.
    pub(crate) never_waits: bool,
    /// It began to read right when it may have been evicted: it must hear of it.
    pub(crate) must_be_told: bool,
    receiver: Receiver,
    peer: MemoryPeer,
    /// `None` when the server's reader has ended.
    link: Option<Arc<Link>>,
}

/// Acks are numbered here, so that one that is lost, repeated or out of order is seen.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Acks {
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

impl Viewer {
    pub(crate) fn new(
        conn: ConnId,
        (room, shard): (usize, usize),
        since: Option<Position>,
        sink: MemoryKind,
        now: Duration,
        random: &mut SplitMix64,
    ) -> Self {
        let habit = Habit::draw(now, random);
        let bytes_max = match habit {
            Habit::Prompt => PROMPT_BUFFER_BYTES,
            _ => 64 << random.below(10),
        };
        let (sink, peer) = sink.open(bytes_max);
        let dialect = Dialect::ALL[index_below(Dialect::COUNT as u64, random)];
        Self {
            conn,
            room,
            shard,
            dialect,
            habit,
            outcome: Outcome::Online,
            account: Account::new(room, since),
            acks: Acks::default(),
            stage: Stage::Coming,
            offered: 0,
            gaps_offered: Vec::new(),
            cursor: Cursor::default(),
            packed_bytes: 0,
            asked_to_close: false,
            epoch_ended: false,
            never_waits: habit == Habit::Prompt,
            must_be_told: false,
            receiver: Receiver::new(dialect),
            peer,
            link: Some(Arc::new(Link::new(sink.into(), now))),
        }
    }

    /// The server's side, for its shard.
    pub(crate) fn link(&self) -> Arc<Link> {
        Arc::clone(self.link.as_ref().expect("the reader runs"))
    }

    pub(crate) fn is_online(&self) -> bool {
        self.outcome == Outcome::Online
    }

    /// Whether it has ended and its shard knows.
    pub(crate) fn is_gone(&self) -> bool {
        !self.is_online() && self.stage == Stage::Detached
    }

    /// Notes that its shard is to write this frame to it.
    pub(crate) fn offer(&mut self, frame: &FrameSet) {
        self.offered += 1;
        if frame.is_gap() {
            let gap = (frame.after().value(), frame.seq().value());
            self.gaps_offered.push(gap);
        }
        let form = self.cursor.choose(self.dialect, frame);
        if form != Form::WsIdentity {
            self.packed_bytes += frame.form(form).len() as u64;
        }
    }

    /// Gaps it got that may be frames: one that a shard makes for a viewer that skipped just that frame looks the same.
    pub(crate) fn gap_frames_max(&self) -> u64 {
        let gaps = self.account.gaps.iter();
        gaps.filter(|gap| self.gaps_offered.contains(gap)).count() as u64
    }

    /// Goes away, whatever was on its way.
    pub(crate) fn leave(&mut self) {
        self.end(Outcome::Left);
    }

    /// Whether its shard may be closing it for another reason than that it is slow.
    pub(crate) fn may_be_closing(&self, now: Duration, idle_deadline: Duration) -> bool {
        let may_be_idle = |link: &Arc<Link>| {
            self.dialect.answers_heartbeats() && link.last_heard() + idle_deadline <= now
        };
        self.asked_to_close || self.epoch_ended || self.link.as_ref().is_none_or(may_be_idle)
    }

    /// From now on it reads all that is there, and its buffer has room for it.
    pub(crate) fn wake(&mut self) {
        self.habit = Habit::Prompt;
        self.peer.set_bytes_max(PROMPT_BUFFER_BYTES);
    }

    /// The viewer's step: reads as its habit is and checks what comes.
    pub(crate) fn read(&mut self, now_ms: u64, truth: &Truth, random: &mut SplitMix64) {
        if !self.is_online() {
            return;
        }
        let bytes_max = self.habit.step(now_ms, random);
        let ended = self.peer.is_ended();
        let bytes = self.peer.read(bytes_max);
        for message in self.receiver.receive(&bytes) {
            match message {
                Message::Json(json) if json["type"] == "ack" => {
                    self.acks.received += 1;
                    assert_eq!(
                        json["id"], self.acks.received,
                        "an ack lost, repeated or out of order"
                    );
                }
                Message::Json(json) => self.account.ingest(&json, truth),
                Message::Heartbeat if self.answers() => self.peer.write(b"pong"),
                Message::Heartbeat => {}
                Message::Pong(payload) => assert_eq!(payload, b"here"),
                Message::Closed(code) => self.closed(code),
            }
        }
        if self.is_online() && ended && self.peer.bytes_held() == 0 {
            self.end(Outcome::Cut);
        }
    }

    /// Asks for a new key: the server has to write because it reads.
    pub(crate) fn ask_for_key(&mut self) {
        self.peer.ask_for_key();
    }

    /// The step of the server's reading task: notes signs of life, and tells the shard what is its to do.
    pub(crate) fn serve(&mut self, now: Duration) -> Option<ShardMsg> {
        let conn = self.conn;
        let link = self.link.as_ref()?;
        let mut buffer = [0; 64];
        while let Ok(len) = link.try_read(&mut buffer) {
            if len == 0 {
                self.link = None;
                return Some(ShardMsg::Detach { conn });
            }
            link.heard(now);
        }
        link.owes_write().then_some(ShardMsg::Flush { conn })
    }

    /// Everything the room sealed until `sealed` is accounted for, and everything the server said was heard.
    pub(crate) fn check_complete(&self, sealed: u64, truth: &Truth) {
        self.account.check_complete(sealed, truth);
        assert!(
            self.offered >= self.account.batches,
            "a frame came that was not sent: {self:#?}"
        );
        if self.never_waits {
            assert_eq!(
                self.offered,
                self.account.batches + self.gaps_offered.len() as u64,
                "it keeps up and misses nothing: {self:#?}"
            );
        }
        // Beside the batches of a gzipped event stream there is more in the same stream.
        let is_counted = self.dialect.answers_heartbeats();
        // Whether a gap is the room's or the viewer's own can't be seen.
        let has_all = self.gaps_offered.is_empty() && self.offered == self.account.batches;
        if is_counted && (self.never_waits || has_all) {
            assert_eq!(
                self.receiver.packed_bytes, self.packed_bytes,
                "each frame in its shortest form: {self:#?}"
            );
        }
        assert_eq!(self.acks.received, self.acks.sent, "acks are never skipped");
        assert!(!self.peer.awaits_key(), "a key is owed: {self:#?}");
        assert!(
            !self.receiver.is_inside_message(),
            "a message was begun and not ended"
        );
    }

    fn answers(&self) -> bool {
        self.dialect.answers_heartbeats() && self.habit != Habit::Mute
    }

    fn closed(&mut self, code: u16) {
        // The text of a gzipped stream is there a few bytes before the end of its block.
        assert!(
            self.peer.is_ended() || self.dialect == Dialect::SseGzip,
            "nothing follows a close, so the server ends its half"
        );
        let reason = CloseReason::ALL.into_iter().find(|it| it.code() == code);
        let fits = match reason.expect("a known code") {
            CloseReason::Normal => self.asked_to_close,
            CloseReason::SlowConsumer => !self.never_waits,
            CloseReason::IdleTimeout => !self.never_waits && self.dialect.answers_heartbeats(),
            CloseReason::GoingAway => true,
            CloseReason::NewEpoch => self.epoch_ended,
            _ => false,
        };
        assert!(fits, "close code {code} for {self:#?}");
        self.end(Outcome::Closed(code));
    }

    fn end(&mut self, outcome: Outcome) {
        self.outcome = outcome;
        self.peer.end();
    }
}

impl fmt::Debug for Viewer {
    /// Without the bytes, of which there may be many.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Viewer")
            .field("conn", &self.conn)
            .field("place", &(self.room, self.shard))
            .field("dialect", &self.dialect)
            .field("habit", &self.habit)
            .field("outcome", &self.outcome)
            .field("account", &self.account)
            .field("acks", &self.acks)
            .field("offered", &self.offered)
            .field("stage", &self.stage)
            .field("asked_to_close", &self.asked_to_close)
            .field("must_be_told", &self.must_be_told)
            .field("is_inside_message", &self.receiver.is_inside_message())
            .finish_non_exhaustive()
    }
}

impl Habit {
    fn draw(now: Duration, random: &mut SplitMix64) -> Self {
        let now_ms = u64::try_from(now.as_millis()).expect("a short simulation");
        match random.below(10) {
            0..4 => Self::Prompt,
            4..6 => Self::Slow {
                step_bytes: 1 << (3 + random.below(7)),
            },
            6..8 => Self::Choppy {
                change_at_ms: now_ms + random.below(2_000),
                reads: true,
            },
            8 => Self::Stalls {
                at_ms: now_ms + random.below(10_000),
            },
            _ => Self::Mute,
        }
    }

    /// Bytes that are read in this step.
    fn step(&mut self, now_ms: u64, random: &mut SplitMix64) -> usize {
        match self {
            Self::Prompt | Self::Mute => usize::MAX,
            Self::Slow { step_bytes } => *step_bytes,
            Self::Choppy {
                change_at_ms,
                reads,
            } => {
                if now_ms >= *change_at_ms {
                    *reads = !*reads;
                    *change_at_ms = now_ms + random.below(4_000);
                }
                if *reads { usize::MAX } else { 0 }
            }
            Self::Stalls { at_ms } => {
                if now_ms < *at_ms {
                    usize::MAX
                } else {
                    0
                }
            }
        }
    }
}

/// More than all frames of a step: what keeps up must never wait.
const PROMPT_BUFFER_BYTES: usize = 1 << 20;
