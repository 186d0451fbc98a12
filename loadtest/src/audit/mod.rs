//! The audit: every viewer got every acknowledged comment exactly once and in order, or was told why not.
//!
//! Each thread of the swarm has one [`Auditor`] and shares nothing with the others but the ledger. A frame is known by the
//! fingerprint of its payload: the first time it is decoded and its comments are compared with what was posted; every other
//! viewer that gets the same bytes costs a look-up and a comparison of positions. Sampled viewers also decode every byte
//! through an unpacker of their own, as a real client would.

mod content;
mod cursor;
mod history;
mod judge;
mod tally;

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::time::Duration;

use danmaku_client::{Event, Unpacker};
use danmaku_wire::Encoding;
use serde::{Deserialize, Serialize};

use crate::clock::Moment;
use crate::fingerprint::fingerprint;
use crate::latency::Latencies;
use crate::ledger::{Ledger, PositionFloor};

use content::Content;
use cursor::Cursor;
use history::{FormInflater, History, Mark, Past};
pub use judge::Judge;
pub use tally::Tally;

/// How long after its last arrival a frame's latencies are taken: by then its comments are acknowledged, as a rule.
const FOLD_AFTER: Duration = Duration::from_secs(3);
/// How long is waited for acknowledgements that are slow: longer than a post may take. What nobody has acknowledged by then,
/// others have posted.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(15);
/// How long a frame is remembered, so that a slow viewer's copy is still known.
const KEEP_FOR: Duration = Duration::from_secs(60);
/// The last position there can be: clients keep positions in doubles (docs/PROTOCOL.md), and sums of such stay far from wrapping.
pub const POSITION_MAX: u64 = (1 << 53) - 1;
/// Viewers that get an unpacker of their own because they skipped a frame, so that it is checked that their stream goes on.
const WITNESSES_MAX: usize = 256;

/// The audit's memory of one viewer.
#[derive(Default)]
pub struct Watch {
    cursor: Cursor,
    /// The room's last position when the viewer joined. Batches that end at or before it are a replay.
    joined_seq: u64,
    /// When the viewer joined: whatever was posted after that has a later position.
    joined_at: Moment,
    mark: Mark,
    witness: Option<Box<Unpacker>>,
}

impl Watch {
    /// Whether a batch of these positions was sent again because this viewer had missed it.
    fn is_replay(&self, first: u64, covered: u64) -> bool {
        covered > 0 && first + covered - 1 <= self.joined_seq
    }
}

/// How a viewer came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was still connected.
    Open,
    /// The server said that it closes, with a close frame.
    Told,
    /// The connection broke without a word.
    Silent,
    /// It went by itself: what had not come yet is nobody's fault.
    Left,
}

/// A message that carries a batch.
#[derive(Clone, Copy, Debug)]
pub struct Carrier<'a> {
    /// The room, by its index.
    pub room: u32,
    /// How the payload is packed: `Identity` for every text message.
    pub encoding: Encoding,
    /// The WebSocket payload.
    pub payload: &'a [u8],
}

/// What an auditor hands over at the end.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
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
    histories: Vec<History>,
    /// By room, like the histories.
    floors: Vec<PositionFloor>,
    inflater: FormInflater,
    plain: Vec<u8>,
    witnesses: usize,
    findings: Findings,
}

impl Auditor {
    /// An auditor for rooms of `ledger`.
    #[must_use]
    pub fn new(ledger: Arc<Ledger>, judge: Arc<Judge>) -> Self {
        let ledger_rooms = ledger.rooms();
        let histories = (0..ledger_rooms).map(|_| History::default()).collect();
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
            histories,
            floors: (0..ledger_rooms)
                .map(|_| PositionFloor::default())
                .collect(),
            inflater: FormInflater::default(),
            plain: Vec::new(),
            witnesses: 0,
            findings,
        }
    }

    /// A viewer that joined after position `seq`. With an encoding it is sampled: it decodes every byte it gets.
    #[must_use]
    pub fn joined(seq: u64, at: Moment, sampled: Option<Encoding>) -> Watch {
        let witness = sampled.map(|encoding| Box::new(Unpacker::new(encoding)));
        Watch {
            cursor: Cursor::joined_after(seq),
            joined_seq: seq,
            joined_at: at,
            mark: Mark::START,
            witness,
        }
    }

    /// A viewer whose connection broke is back and goes on where it was: it keeps its place, not its deflate stream. What it
    /// gets up to position `seq` is a replay.
    pub fn resumed(watch: &mut Watch, seq: u64, at: Moment, sampled: Option<Encoding>) {
        watch.joined_seq = seq;
        watch.joined_at = at;
        watch.mark = Mark::START;
        watch.witness = sampled.map(|encoding| Box::new(Unpacker::new(encoding)));
    }

    /// The last position a viewer has.
    #[must_use]
    pub fn position(watch: &Watch) -> u64 {
        watch.cursor.next().saturating_sub(1)
    }

    /// A viewer came back to a room that numbers anew: what it had not got of the old numbering cannot be replayed.
    /// Returns how many acknowledged comments that is.
    pub fn renumbered(&mut self, watch: &Watch, room: u32) -> u64 {
        self.finish(watch, room, End::Left);
        self.ledger.room(room).count_from(watch.cursor.next())
    }

    /// Whether a room has this epoch, as far as acknowledgements and other viewers have said.
    #[must_use]
    pub fn is_epoch(&self, room: u32, epoch: u64) -> bool {
        self.ledger.room(room).is_epoch(epoch)
    }

    /// The index of a room that is numbered anew.
    #[must_use]
    pub fn renumbered_room(&self, room: u32) -> Option<u32> {
        self.ledger.renumbered(room)
    }

    /// A batch has arrived at a viewer. Returns how many comments it carries.
    ///
    /// # Panics
    /// When a form outlived its content, which would be a fault of this auditor.
    pub fn batch(&mut self, watch: &mut Watch, carrier: Carrier<'_>, now: Moment) -> u64 {
        let print = match carrier.encoding {
            Encoding::Identity | Encoding::Gzip => fingerprint(carrier.payload),
            Encoding::Deflate => watch.mark.in_context(fingerprint(carrier.payload)),
        };
        let known = self.forms.get(&(carrier.room, print)).copied();
        let Some(number) = known.or_else(|| self.learn(watch, carrier, print, now)) else {
            self.findings.rooms[carrier.room as usize].undecodable += 1;
            return 0;
        };
        let index = usize::try_from(number - self.front)
            .expect("invariant: a form goes when its content goes");
        let content = &mut self.contents[index];
        if watch.is_replay(content.first, content.covered) {
            content.replayed();
        } else {
            content.arrived(now);
            if content.only_replayed {
                content.only_replayed = false;
                self.histories[carrier.room as usize].went_live(content.mark);
            }
        }
        watch.mark = content.mark;
        let step = watch.cursor.advance(content.first, content.covered);
        let comments = content.comments();
        // Almost every frame is the next one: nothing to write.
        if step != cursor::Step::default() {
            let tally = &mut self.findings.rooms[carrier.room as usize];
            tally.duplicate = tally.duplicate.saturating_add(step.duplicate);
            tally.reordered = tally.reordered.saturating_add(step.reordered);
        }
        if let Some(witness) = &mut watch.witness {
            let expected = content.plain;
            self.plain.clear();
            // A text message is plain whatever the encoding, so it is not part of the witness's stream.
            let faithful = match carrier.encoding {
                Encoding::Identity => true,
                Encoding::Gzip | Encoding::Deflate => {
                    witness.unpack(carrier.payload, &mut self.plain).is_ok()
                        && fingerprint(&self.plain) == expected
                }
            };
            self.findings.rooms[carrier.room as usize].undecodable += u64::from(!faithful);
        }
        comments
    }

    /// A `gap` message has arrived at a viewer.
    pub fn gap(
        &mut self,
        watch: &mut Watch,
        room: u32,
        encoding: Encoding,
        (from, to): (u64, u64),
    ) {
        let tally = &mut self.findings.rooms[room as usize];
        tally.gaps += 1;
        if from > to || to > POSITION_MAX {
            tally.contradicted = tally.contradicted.saturating_add(1);
            return;
        }
        let step = watch.cursor.gap(from, to);
        tally.skipped = tally.skipped.saturating_add(step.skipped);
        tally.contradicted = tally.contradicted.saturating_add(step.contradicted);
        if encoding == Encoding::Deflate
            && watch.witness.is_none()
            && self.witnesses < WITNESSES_MAX
        {
            // After a skip the server must not refer back to what this viewer lacks. A fresh stream notices if it does.
            self.witnesses += 1;
            watch.witness = Some(Box::new(Unpacker::new(encoding)));
        }
    }

    /// Whether a viewer has everything of its room that is acknowledged so far.
    #[must_use]
    pub fn is_caught_up(&self, watch: &Watch, room: u32) -> bool {
        watch.cursor.next() > self.ledger.room(room).last()
    }

    /// A viewer is done: what it did not get is lost, or was announced.
    pub fn finish(&mut self, watch: &Watch, room: u32, end: End) {
        if end != End::Left && self.claimed_too_much(watch, room) {
            let tally = &mut self.findings.rooms[room as usize];
            tally.contradicted = tally.contradicted.saturating_add(1);
        }
        let outstanding = match end {
            End::Left => 0,
            End::Open | End::Silent | End::Told => {
                self.ledger.room(room).count_from(watch.cursor.next())
            }
        };
        let tally = &mut self.findings.rooms[room as usize];
        tally.lost = tally.lost.saturating_add(watch.cursor.missing());
        match end {
            End::Open | End::Silent => tally.lost = tally.lost.saturating_add(outstanding),
            End::Told => tally.after_close = tally.after_close.saturating_add(outstanding),
            End::Left => {}
        }
    }

    /// Whether the server said at `joined` that the room was further than it can have been: then comments that were posted
    /// later would be taken for what the viewer had missed.
    fn claimed_too_much(&mut self, watch: &Watch, room: u32) -> bool {
        let floor = &mut self.floors[room as usize];
        let lowest = floor.lowest_after(&self.ledger.room(room), watch.joined_at);
        lowest.is_some_and(|position| position <= watch.joined_seq)
    }

    /// Takes the latencies of frames that are no longer arriving, and forgets old ones. To be called about once a second.
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
            if let Some(content) = self.contents.pop_front() {
                self.front += 1;
                for form in &content.forms {
                    self.forms.remove(&(content.room, *form));
                }
            }
        }
    }

    /// Everything that was found.
    #[must_use]
    pub fn into_findings(mut self) -> Findings {
        for index in 0..self.contents.len() {
            self.fold(index);
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

    /// Decodes bytes that no viewer of this thread had before; returns the number of their content.
    #[cold]
    fn learn(
        &mut self,
        watch: &Watch,
        carrier: Carrier<'_>,
        print: u64,
        now: Moment,
    ) -> Option<u64> {
        let Carrier {
            room,
            encoding,
            payload,
        } = carrier;
        self.plain.clear();
        match encoding {
            Encoding::Identity | Encoding::Gzip => Unpacker::new(encoding)
                .unpack(payload, &mut self.plain)
                .ok()?,
            Encoding::Deflate => {
                self.inflater.decode(
                    &self.histories[room as usize],
                    watch.mark,
                    payload,
                    &mut self.plain,
                )?;
            }
        }
        let plain = fingerprint(&self.plain);
        let number = match self.forms.get(&(room, plain)) {
            Some(known) => *known,
            None => self.learn_content(watch, room, plain, now)?,
        };
        self.enter_form(room, print, number);
        Some(number)
    }

    fn learn_content(&mut self, watch: &Watch, room: u32, plain: u64, now: Moment) -> Option<u64> {
        // Text messages are UTF-8 (RFC 6455 section 8.1), and batches are such, however they are packed.
        std::str::from_utf8(&self.plain).ok()?;
        let Ok(Event::Batch(batch)) = Event::parse(&self.plain) else {
            return None;
        };
        if batch.seq.value().saturating_add(batch.covered()) > POSITION_MAX {
            return None;
        }
        let only_replayed = watch.is_replay(batch.seq.value(), batch.covered());
        let mark = self.histories[room as usize].add(Past {
            order: (batch.seq.value(), batch.ts_ms),
            only_replayed,
            plain: self.plain.as_slice().into(),
        });
        let sealed = self.judge.clock.from_unix_ms(batch.ts_ms);
        let number = self.front + self.contents.len() as u64;
        let mut content = Content::new(room, &batch, plain, mark, now, sealed);
        content.only_replayed = only_replayed;
        self.contents.push_back(content);
        // The plain text is the identity form as well.
        self.enter_form(room, plain, number);
        Some(number)
    }

    fn enter_form(&mut self, room: u32, print: u64, number: u64) {
        if self.forms.insert((room, print), number).is_none()
            && let Ok(index) = usize::try_from(number - self.front)
        {
            self.contents[index].forms.push(print);
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Keys that are fingerprints already need no hashing, only the room mixed in.
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
