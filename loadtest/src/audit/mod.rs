//! The audit: every viewer got every acknowledged comment exactly once and in order, or was notified of the loss.
//!
//! Every batch and every gap covers the positions in (`after`, `seq`] and begins where the previous one ended. Only the harness
//! posts, so in each such range the acknowledged comments are those that were delivered, retracted or shed; the rest is lost.
//! Positions may have holes: a jump between two comments means nothing.
//!
//! Each thread of the swarm has one [`Auditor`] and shares nothing with the others but the ledger. A frame is known by the
//! fingerprint of its payload: the first time it is decoded and its comments are compared with what was posted; every other
//! viewer that gets the same bytes costs a lookup and a comparison of positions. Sampled viewers also decode every byte
//! through an unpacker of their own, as a real client would.

mod content;
mod count;
mod cursor;
mod history;
mod judge;
mod learn;
mod tally;

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::time::Duration;

use danmaku_client::{Gap, Unpacker};
use danmaku_wire::Dialect;

use crate::clock::Moment;
use crate::fingerprint::fingerprint;
use crate::latency::Latencies;
use crate::ledger::{Ledger, PositionFloor};

use content::{Content, event_faults};
pub use count::Counter;
use cursor::Cursor;
use history::{FormInflater, History, Mark};
pub use judge::Judge;
use learn::{Learned, retract};
pub use tally::Tally;

/// How long after its last arrival a frame's latencies are recorded: by then its comments are usually acknowledged.
const FOLD_AFTER: Duration = Duration::from_secs(3);
/// How long to wait for slow acknowledgements, longer than a post may take. What is not acknowledged by then was posted by
/// someone else.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(15);
/// How long a frame is remembered, so that a slow viewer's copy is still known.
const KEEP_FOR: Duration = Duration::from_secs(60);
/// The highest position: clients keep positions in doubles (docs/PROTOCOL.md), and sums of these are far from wrapping.
pub const POSITION_MAX: u64 = (1 << 53) - 1;
/// What makes a message a batch: the server writes the type first.
pub(crate) const BATCH_START: &[u8] = br#"{"type":"batch""#;
/// Viewers that get their own unpacker because they skipped a frame, to check that their stream continues.
const WITNESSES_MAX: usize = 256;

/// The audit's memory of one viewer.
#[derive(Default)]
pub struct Watch {
    cursor: Cursor,
    /// The last sealed position when the viewer joined. Batches that end at or before it are a replay.
    joined_seq: u64,
    /// When the viewer joined: whatever was posted after that has a later position.
    joined_at: Moment,
    mark: Mark,
    witness: Option<Box<Unpacker>>,
}

impl Watch {
    /// Whether a batch with these positions is a replay for this viewer.
    fn is_replay(&self, after: u64, seq: u64) -> bool {
        after < seq && seq <= self.joined_seq
    }
}

/// How a viewer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was still connected.
    Open,
    /// The server closed it with a close frame.
    Told,
    /// The connection broke without a close frame.
    Silent,
    /// It left by itself: what had not arrived yet is not lost.
    Left,
}

/// A message that carries a batch, or may.
#[derive(Clone, Copy, Debug)]
pub struct Carrier<'a> {
    /// The room, by its index.
    pub room: u32,
    /// How the payload is packed: `WsIdentity` for every text message.
    pub dialect: Dialect,
    /// The payload of a WebSocket message, the whole text of a server-sent event, or a flushed piece of a packed stream.
    pub payload: &'a [u8],
}

/// What a flushed piece of a packed event stream holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A batch, with so many comments. The audit has it.
    Batch(u64),
    /// The text of another event.
    Text(&'a [u8]),
    /// It is not a whole event: what looked like its end is part of it.
    Unfinished,
    /// It cannot be decoded. The audit has counted it.
    Undecodable,
}

/// What an auditor hands over at the end.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// The counts.
    pub tally: Tally,
    /// The same by room, in the order of the ledger's rooms.
    pub rooms: Vec<Tally>,
    /// Latencies by stage: [`Stage::Calm`](crate::latency::Stage::Calm), [`Stage::Stalled`](crate::latency::Stage::Stalled).
    pub stages: [Latencies; 2],
}

impl Findings {
    /// Adds those of another thread or process.
    pub fn add(&mut self, other: &Self) {
        self.tally.add(&other.tally);
        let rooms = self.rooms.len().max(other.rooms.len());
        self.rooms.resize(rooms, Tally::default());
        for (mine, theirs) in self.rooms.iter_mut().zip(&other.rooms) {
            mine.add(theirs);
        }
        for (mine, theirs) in self.stages.iter_mut().zip(&other.stages) {
            mine.merge(theirs);
        }
    }
}

/// Audits the viewers of one thread.
pub struct Auditor {
    ledger: Arc<Ledger>,
    judge: Arc<Judge>,
    /// Which content a payload is, by its room and its fingerprint.
    forms: HashMap<(u32, u64), u64, BuildHasherDefault<Prehashed>>,
    contents: VecDeque<Content>,
    /// The number of the front content: contents are numbered in the order they were learned.
    front: u64,
    rooms: Vec<RoomAudit>,
    inflater: FormInflater,
    plain: Vec<u8>,
    /// What a witness decodes, for comparison.
    witnessed: Vec<u8>,
    witnesses: usize,
    findings: Findings,
}

/// What an auditor keeps of one room besides its frames.
#[derive(Debug, Default)]
struct RoomAudit {
    history: History,
    floor: PositionFloor,
    /// Comments that events have retracted.
    retracted: HashSet<u64>,
}

impl Auditor {
    /// An auditor for rooms of `ledger`.
    #[must_use]
    pub fn new(ledger: Arc<Ledger>, judge: Arc<Judge>) -> Self {
        let ledger_rooms = ledger.rooms();
        let findings = Findings {
            rooms: vec![Tally::default(); ledger.rooms() as usize],
            ..Findings::default()
        };
        Self {
            ledger,
            judge,
            forms: HashMap::default(),
            contents: VecDeque::new(),
            front: 0,
            rooms: (0..ledger_rooms).map(|_| RoomAudit::default()).collect(),
            inflater: FormInflater::default(),
            plain: Vec::new(),
            witnessed: Vec::new(),
            witnesses: 0,
            findings,
        }
    }

    /// Adds a viewer for whom the room begins after position `after`, when `seq` was sealed. With a dialect it is sampled: it
    /// decodes every byte it gets.
    #[must_use]
    pub fn joined(after: u64, seq: u64, at: Moment, sampled: Option<Dialect>) -> Watch {
        Watch {
            cursor: Cursor::at_position(after),
            joined_seq: seq,
            joined_at: at,
            mark: Mark::START,
            witness: sampled.map(|dialect| Box::new(Unpacker::new(dialect))),
        }
    }

    /// Records that a viewer whose connection broke has resumed: it keeps its position, not its stream. What it gets up
    /// to position `seq` is a replay.
    pub fn resumed(watch: &mut Watch, seq: u64, at: Moment, sampled: Option<Dialect>) {
        watch.joined_seq = seq;
        watch.joined_at = at;
        watch.mark = Mark::START;
        watch.witness = sampled.map(|dialect| Box::new(Unpacker::new(dialect)));
    }

    /// Where a viewer is: the end of the last batch or gap it got.
    #[must_use]
    pub fn position(watch: &Watch) -> u64 {
        watch.cursor.at()
    }

    /// Records that a viewer came back to a room in a new epoch. Returns how many acknowledged comments of the old one cannot
    /// be replayed.
    pub fn renumbered(&mut self, watch: &Watch, room: u32) -> u64 {
        self.finish(watch, room, End::Left);
        self.ledger.room(room).count_after(watch.cursor.at())
    }

    /// How many comments in (`after`, `seq`] of a room are acknowledged so far.
    #[must_use]
    pub fn acknowledged_in(&self, room: u32, after: u64, seq: u64) -> u64 {
        self.ledger.room(room).positions_in(after, seq).len() as u64
    }

    /// Whether a room has this epoch, according to acknowledgements and other viewers.
    #[must_use]
    pub fn is_epoch(&self, room: u32, epoch: u64) -> bool {
        self.ledger.room(room).is_epoch(epoch)
    }

    /// The index of a room in its new epoch.
    #[must_use]
    pub fn renumbered_room(&self, room: u32) -> Option<u32> {
        self.ledger.renumbered(room)
    }

    /// Records a batch for a viewer. Returns how many comments it carries.
    pub fn batch(&mut self, watch: &mut Watch, carrier: Carrier<'_>, now: Moment) -> u64 {
        match self.piece(watch, carrier, now) {
            Piece::Batch(comments) => comments,
            Piece::Text(_) | Piece::Unfinished => {
                self.findings.rooms[carrier.room as usize].undecodable += 1;
                0
            }
            Piece::Undecodable => 0,
        }
    }

    /// Records a piece of a packed event stream, or a message that can only be a batch, for a viewer.
    ///
    /// # Panics
    /// When a form outlived its content, which would be a fault of this auditor.
    pub fn piece(&mut self, watch: &mut Watch, carrier: Carrier<'_>, now: Moment) -> Piece<'_> {
        let number = match self.identify(watch, carrier, now) {
            Some(Learned::Content(number)) => number,
            Some(Learned::Text) => {
                self.witness_text(watch, carrier);
                return Piece::Text(&self.plain);
            }
            Some(Learned::Unfinished) => return Piece::Unfinished,
            None => {
                self.findings.rooms[carrier.room as usize].undecodable += 1;
                return Piece::Undecodable;
            }
        };
        let index = self.index(number);
        let content = &mut self.contents[index];
        if watch.is_replay(content.after, content.seq) {
            content.replayed();
        } else {
            content.arrived(now);
            if content.only_replayed {
                content.only_replayed = false;
                self.rooms[carrier.room as usize]
                    .history
                    .went_live(content.mark);
            }
        }
        watch.mark = content.mark;
        let comments = content.comments();
        // Almost every frame is the next one, so nothing has to be recorded.
        if let Some(step) = watch.cursor.advance(content.after, content.seq) {
            let count = |is: fn(&cursor::OutOfStep, u64) -> bool| {
                content
                    .positions()
                    .filter(|position| is(&step, *position))
                    .count() as u64
            };
            let (repeated, late) = (
                count(cursor::OutOfStep::is_repeated),
                count(cursor::OutOfStep::is_late),
            );
            let tally = &mut self.findings.rooms[carrier.room as usize];
            tally.unchained += 1;
            tally.duplicate = tally.duplicate.saturating_add(repeated);
            tally.reordered = tally.reordered.saturating_add(late);
        }
        if watch.witness.is_some() {
            let expected = self.contents[index].plain;
            self.witness(watch, carrier, expected);
        }
        Piece::Batch(comments)
    }

    /// What a piece of a packed event stream is, for a viewer that is not audited.
    pub fn peek(&mut self, watch: &mut Watch, carrier: Carrier<'_>, now: Moment) -> Piece<'_> {
        match self.identify(watch, carrier, now) {
            Some(Learned::Content(number)) => {
                let content = &self.contents[self.index(number)];
                watch.mark = content.mark;
                Piece::Batch(content.comments())
            }
            Some(Learned::Text) => Piece::Text(&self.plain),
            Some(Learned::Unfinished) => Piece::Unfinished,
            None => Piece::Undecodable,
        }
    }

    /// Looks up bytes, or decodes them if no viewer of this thread had them before.
    #[inline]
    fn identify(&mut self, watch: &Watch, carrier: Carrier<'_>, now: Moment) -> Option<Learned> {
        let print = fingerprint(carrier.payload);
        let print = if is_chained(carrier.dialect) {
            watch.mark.in_context(print)
        } else {
            print
        };
        match self.forms.get(&(carrier.room, print)) {
            Some(number) => Some(Learned::Content(*number)),
            None => self.learn(watch, carrier, print, now),
        }
    }

    fn index(&self, number: u64) -> usize {
        usize::try_from(number - self.front).expect("invariant: a form goes when its content goes")
    }

    /// Decodes what a witness received on its own stream, which must give the expected text.
    fn witness(&mut self, watch: &mut Watch, carrier: Carrier<'_>, expected: u64) {
        // A text message is plain whatever the encoding, so it is not part of the witness's stream.
        if matches!(carrier.dialect, Dialect::WsIdentity | Dialect::SseIdentity) {
            return;
        }
        let Some(witness) = &mut watch.witness else {
            return;
        };
        self.witnessed.clear();
        let faithful = witness.unpack(carrier.payload, &mut self.witnessed).is_ok()
            && fingerprint(&self.witnessed) == expected;
        self.findings.rooms[carrier.room as usize].undecodable += u64::from(!faithful);
    }

    #[cold]
    fn witness_text(&mut self, watch: &mut Watch, carrier: Carrier<'_>) {
        let expected = fingerprint(&self.plain);
        self.witness(watch, carrier, expected);
    }

    /// Records a `gap` message for a viewer.
    pub fn gap(&mut self, watch: &mut Watch, room: u32, dialect: Dialect, gap: &Gap) {
        let (after, seq) = (gap.after.value(), gap.seq.value());
        let tally = &mut self.findings.rooms[room as usize];
        tally.gaps += 1;
        let odd_events = event_faults(after, seq, &gap.events);
        tally.contradicted = tally.contradicted.saturating_add(odd_events);
        if after > seq || seq > POSITION_MAX {
            tally.contradicted = tally.contradicted.saturating_add(1);
            return;
        }
        retract(&mut self.rooms[room as usize].retracted, &gap.events);
        let ledger = self.ledger.room(room);
        let acknowledged_in = |after, seq| ledger.positions_in(after, seq).len() as u64;
        let (skipped, contradicted) = match watch.cursor.advance(after, seq) {
            None => (acknowledged_in(after, seq), 0),
            Some(step) => {
                tally.unchained += 1;
                let late: u64 = step
                    .late
                    .iter()
                    .map(|span| acknowledged_in(span.after, span.seq))
                    .sum();
                let before = acknowledged_in(after, seq.min(step.was_at));
                let new = acknowledged_in(after.max(step.was_at), seq);
                (late + new, before - late)
            }
        };
        drop(ledger);
        tally.skipped = tally.skipped.saturating_add(skipped);
        tally.contradicted = tally.contradicted.saturating_add(contradicted);
        if is_chained(dialect) && watch.witness.is_none() && self.witnesses < WITNESSES_MAX {
            // After a skip the server must not refer to what this viewer lacks. A fresh stream detects it.
            self.witnesses += 1;
            watch.witness = Some(Box::new(Unpacker::new(dialect)));
        }
    }

    /// Whether a viewer has everything of its room that is acknowledged so far.
    #[must_use]
    pub fn is_caught_up(&self, watch: &Watch, room: u32) -> bool {
        watch.cursor.at() >= self.ledger.room(room).last()
    }

    /// Ends a viewer's audit: what it did not get is lost, or was reported.
    pub fn finish(&mut self, watch: &Watch, room: u32, end: End) {
        if end != End::Left && self.claimed_too_much(watch, room) {
            let tally = &mut self.findings.rooms[room as usize];
            tally.contradicted = tally.contradicted.saturating_add(1);
        }
        let ledger = self.ledger.room(room);
        let outstanding = match end {
            End::Left => 0,
            End::Open | End::Silent | End::Told => ledger.count_after(watch.cursor.at()),
        };
        let jumped: u64 = watch
            .cursor
            .jumped()
            .map(|span| ledger.positions_in(span.after, span.seq).len() as u64)
            .sum();
        drop(ledger);
        let tally = &mut self.findings.rooms[room as usize];
        tally.lost = tally.lost.saturating_add(jumped);
        match end {
            End::Open | End::Silent => tally.lost = tally.lost.saturating_add(outstanding),
            End::Told => tally.after_close = tally.after_close.saturating_add(outstanding),
            End::Left => {}
        }
    }

    /// Whether the server said at `joined` that the room was further than it can have been: then comments that were posted
    /// later would be taken for what the viewer had missed.
    fn claimed_too_much(&mut self, watch: &Watch, room: u32) -> bool {
        let floor = &mut self.rooms[room as usize].floor;
        let lowest = floor.lowest_after(&self.ledger.room(room), watch.joined_at);
        lowest.is_some_and(|position| position <= watch.joined_seq)
    }

    /// Records the latencies of frames that no longer arrive, and forgets old ones. Call it about once a second.
    pub fn sweep(&mut self, now: Moment) {
        for index in 0..self.contents.len() {
            let content = &self.contents[index];
            let since_micros = now.micros_since(content.last_arrival());
            if !content.has_arrivals() || since_micros < micros(FOLD_AFTER) {
                continue;
            }
            if since_micros >= micros(ACKNOWLEDGED_WITHIN)
                || content.is_acknowledged(&self.ledger.room(content.room))
            {
                self.fold(index);
            }
        }
        while let Some(content) = self.contents.front()
            && now.micros_since(content.created) >= micros(KEEP_FOR)
        {
            self.fold(0);
            self.settle(0);
            if let Some(content) = self.contents.pop_front() {
                self.front += 1;
                for form in &content.forms {
                    self.forms.remove(&(content.room, *form));
                }
            }
        }
    }

    /// All findings.
    #[must_use]
    pub fn into_findings(mut self) -> Findings {
        for index in 0..self.contents.len() {
            self.fold(index);
            self.settle(index);
        }
        for room in &self.findings.rooms {
            self.findings.tally.add(room);
        }
        self.findings
    }

    fn fold(&mut self, index: usize) {
        let content = &mut self.contents[index];
        let mut ledger = self.ledger.room(content.room);
        content.fold(
            &mut ledger,
            &self.judge,
            &mut self.findings.rooms[content.room as usize],
            &mut self.findings.stages,
        );
    }

    /// Judges what a frame does not carry, when all viewers have it and all posts are answered.
    fn settle(&mut self, index: usize) {
        let content = &self.contents[index];
        let room = content.room as usize;
        content.settle(
            &self.ledger.room(content.room),
            &self.rooms[room].retracted,
            &mut self.findings.rooms[room],
        );
    }
}

/// Whether the forms of a dialect may refer to what its viewer had before.
fn is_chained(dialect: Dialect) -> bool {
    match dialect {
        Dialect::WsIdentity | Dialect::WsGzip | Dialect::SseIdentity => false,
        Dialect::WsDeflate | Dialect::SseGzip => true,
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Keys are fingerprints already, so only the room has to be mixed in.
#[derive(Default)]
struct Prehashed(u64);

impl Hasher for Prehashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 ^= fingerprint(bytes);
    }

    fn write_u32(&mut self, room: u32) {
        self.0 ^= u64::from(room).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn write_u64(&mut self, print: u64) {
        self.0 ^= print;
    }
}

#[cfg(test)]
mod tests;
