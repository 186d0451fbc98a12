//! One simulated viewer: how it reads, what it answers, how it ends.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use danmaku_engine::SplitMix64;
use danmaku_fanout::{ConnId, Link, Pipe, PipePeer, ShardMsg};
use danmaku_wire::{CloseReason, DeflateCursor, Encoding, FrameSet, Position, frame_for};

use crate::account::Account;
use crate::live::index_below;
use crate::receiver::{Message, Receiver};

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
    pub(crate) encoding: Encoding,
    pub(crate) habit: Habit,
    pub(crate) outcome: Outcome,
    pub(crate) account: Account,
    pub(crate) acks: Acks,
    pub(crate) stage: Stage,
    /// Frames that its shard was told to write to it.
    pub(crate) offered: u64,
    /// Where it is in the deflate history, and how many packed bytes it has got, when it misses no frame.
    cursor: DeflateCursor,
    packed_bytes: u64,
    /// It asked for the close that it gets.
    pub(crate) asked_to_close: bool,
    /// It has always kept up.
    pub(crate) never_waits: bool,
    /// It began to read right when it may have been evicted: it must hear of it.
    pub(crate) must_be_told: bool,
    receiver: Receiver,
    peer: PipePeer,
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
        now: Duration,
        random: &mut SplitMix64,
    ) -> Self {
        let habit = Habit::draw(now, random);
        let bytes_max = match habit {
            Habit::Prompt => PROMPT_BUFFER_BYTES,
            _ => 64 << random.below(10),
        };
        let (pipe, peer) = Pipe::new(bytes_max);
        let encoding = Encoding::ALL[index_below(Encoding::ALL.len() as u64, random)];
        Self {
            conn,
            room,
            shard,
            encoding,
            habit,
            outcome: Outcome::Online,
            account: Account::new(room, since),
            acks: Acks::default(),
            stage: Stage::Coming,
            offered: 0,
            cursor: DeflateCursor::default(),
            packed_bytes: 0,
            asked_to_close: false,
            never_waits: habit == Habit::Prompt,
            must_be_told: false,
            receiver: Receiver::new(encoding),
            peer,
            link: Some(Arc::new(Link::new(pipe.into(), now))),
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
        if self.encoding != Encoding::Identity {
            self.packed_bytes += frame_for(self.encoding, &mut self.cursor, frame).len() as u64;
        }
    }

    /// Goes away, whatever was on its way.
    pub(crate) fn leave(&mut self) {
        self.end(Outcome::Left);
    }

    /// Whether its shard may be closing it for another reason than that it is slow.
    pub(crate) fn may_be_closing(&self, now: Duration, idle_deadline: Duration) -> bool {
        self.asked_to_close
            || self
                .link
                .as_ref()
                .is_none_or(|link| link.last_heard() + idle_deadline <= now)
    }

    /// From now on it reads all that is there, and its buffer has room for it.
    pub(crate) fn wake(&mut self) {
        self.habit = Habit::Prompt;
        self.peer.set_bytes_max(PROMPT_BUFFER_BYTES);
    }

    /// The viewer's step: reads as its habit is and checks what comes.
    pub(crate) fn read(&mut self, now_ms: u64, random: &mut SplitMix64) {
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
                Message::Json(json) => self.account.take(&json),
                Message::Ping if self.habit != Habit::Mute => self.peer.write(b"pong"),
                Message::Ping | Message::Pong => {}
                Message::Closed(code) => self.closed(code),
            }
        }
        if self.is_online() && ended && bytes.len() < bytes_max {
            self.end(Outcome::Cut);
        }
    }

    /// The step of the server's reading task: notes signs of life, and tells the shard when the connection has ended.
    pub(crate) fn serve(&mut self, now: Duration) -> Option<ShardMsg> {
        let link = self.link.as_ref()?;
        let mut buffer = [0; 64];
        while let Ok(len) = link.try_read(&mut buffer) {
            if len == 0 {
                self.link = None;
                return Some(ShardMsg::Detach { conn: self.conn });
            }
            link.heard(now);
        }
        None
    }

    /// Everything the room sealed until `sealed` is accounted for, and everything the server said was heard.
    pub(crate) fn check_complete(&self, sealed: u64) {
        assert_eq!(self.account.last(), Some(sealed), "{self:#?}");
        assert!(
            self.offered >= self.account.batches,
            "a frame came that was not sent: {self:#?}"
        );
        if self.never_waits {
            assert_eq!(
                self.offered, self.account.batches,
                "it keeps up and misses nothing: {self:#?}"
            );
        }
        if self.offered == self.account.batches {
            assert_eq!(
                self.receiver.packed_bytes, self.packed_bytes,
                "each frame in its shortest form: {self:#?}"
            );
        }
        assert_eq!(self.acks.received, self.acks.sent, "acks are never skipped");
        assert!(
            !self.receiver.is_inside_frame(),
            "a frame was begun and not ended"
        );
    }

    fn closed(&mut self, code: u16) {
        assert!(
            self.peer.is_ended(),
            "nothing follows a close frame, so the server ends its half"
        );
        let is_fault = [CloseReason::SlowConsumer, CloseReason::IdleTimeout]
            .iter()
            .any(|it| it.code() == code);
        let fits = if code == CloseReason::Normal.code() {
            self.asked_to_close
        } else {
            is_fault && !self.never_waits || code == CloseReason::GoingAway.code()
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
            .field("encoding", &self.encoding)
            .field("habit", &self.habit)
            .field("outcome", &self.outcome)
            .field("account", &self.account)
            .field("acks", &self.acks)
            .field("offered", &self.offered)
            .field("stage", &self.stage)
            .field("asked_to_close", &self.asked_to_close)
            .field("must_be_told", &self.must_be_told)
            .field("is_inside_frame", &self.receiver.is_inside_frame())
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
