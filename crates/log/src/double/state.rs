//! What a room's part of the double holds, and how it commits.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};
use std::time::Duration;

use danmaku_wire::{Epoch, Event, Seq};

use super::DoubleConfig;
use crate::entry::{Append, AppendError, AppendKey, Appended, Entry, EntryBody, Unavailable};
use crate::feed::Feed;
use crate::page::{Interval, Page, Recent};

#[derive(Debug)]
pub(super) struct State {
    config: DoubleConfig,
    random: Random,
    epoch: Epoch,
    /// The entries held; a retracted comment is held without its body.
    held: BTreeMap<Seq, (u64, Option<EntryBody>)>,
    /// Everything committed, as it was.
    committed: Vec<Entry>,
    floor: Seq,
    /// Log time of the entry at `floor`.
    floor_ms: u64,
    head: Seq,
    at_ms: u64,
    keys: HashMap<AppendKey, Vec<Seq>>,
    feeds: Vec<Weak<Feed>>,
    down: bool,
}

/// What a feed is given of one commit: entries that follow `previous`.
#[derive(Debug)]
pub(super) struct Run {
    previous: Seq,
    entries: Vec<Entry>,
}

impl State {
    pub(super) fn new(config: DoubleConfig, salt: u64, epoch: Epoch) -> Self {
        Self {
            random: Random(config.seed ^ salt.wrapping_mul(0x9E37_79B9_7F4A_7C15)),
            config,
            epoch,
            held: BTreeMap::new(),
            committed: Vec::new(),
            floor: Seq::ZERO,
            floor_ms: 0,
            head: Seq::ZERO,
            at_ms: 0,
            keys: HashMap::new(),
            feeds: Vec::new(),
            down: false,
        }
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(super) fn head(&self) -> Seq {
        self.head
    }

    pub(super) fn floor(&self) -> Seq {
        self.floor
    }

    pub(super) fn committed(&self) -> &[Entry] {
        &self.committed
    }

    pub(super) fn set_down(&mut self, down: bool) {
        self.down = down;
    }

    pub(super) fn subscribe(&mut self, feed: &Arc<Feed>) {
        self.feeds.push(Arc::downgrade(feed));
    }

    /// A time up to `max`.
    pub(super) fn delay(&mut self, max: Duration) -> Duration {
        let ms = u64::try_from(max.as_millis()).unwrap_or(u64::MAX - 1);
        Duration::from_millis(self.random.below(ms + 1))
    }

    pub(super) fn coin(&mut self) -> bool {
        self.random.below(2) == 0
    }

    /// Whether the next open, append or read fails.
    pub(super) fn fails(&mut self) -> bool {
        self.down || self.random.below(1_000) < self.config.failed_permille
    }

    /// Commits an append of `epoch`, whose time is now `now_ms`, and says what
    /// its poster is told.
    pub(super) fn commit(
        &mut self,
        epoch: Epoch,
        append: Append,
        now_ms: u64,
    ) -> Result<Appended, AppendError> {
        if epoch != self.epoch || self.fails() {
            return Err(AppendError::Unavailable);
        }
        let answered = self.random.below(1_000) >= self.config.unanswered_permille;
        if !answered && self.coin() {
            return Err(AppendError::OutcomeUnknown);
        }
        let repeated = append.key.as_ref().and_then(|key| self.keys.get(key));
        let seqs = match repeated {
            Some(seqs) => seqs.clone(),
            None => self.number(append.entries, now_ms),
        };
        if let Some(key) = append.key {
            self.keys.insert(key, seqs.clone());
        }
        if answered {
            Ok(Appended { epoch, seqs })
        } else {
            Err(AppendError::OutcomeUnknown)
        }
    }

    fn number(&mut self, bodies: Vec<EntryBody>, now_ms: u64) -> Vec<Seq> {
        self.at_ms = self.at_ms.max(now_ms);
        let mut seqs = Vec::with_capacity(bodies.len());
        for body in bodies {
            let holes = self.random.below(self.config.holes_max + 1);
            self.head = self.head.plus(1 + holes);
            if let EntryBody::Event(Event::Retract { ids }) = &body {
                for id in &**ids {
                    self.erase(*id);
                }
            }
            self.held
                .insert(self.head, (self.at_ms, Some(body.clone())));
            self.committed.push(Entry {
                seq: self.head,
                at_ms: self.at_ms,
                body,
            });
            seqs.push(self.head);
        }
        while self.held.len() > self.config.entries_max {
            if let Some((seq, (at_ms, _))) = self.held.pop_first() {
                self.floor = seq;
                self.floor_ms = at_ms;
            }
        }
        seqs
    }

    fn erase(&mut self, id: Seq) {
        if let Some((_, body)) = self.held.get_mut(&id)
            && matches!(body, Some(EntryBody::Comment { .. }))
        {
            *body = None;
        }
    }

    pub(super) fn drop_through(&mut self, through: Seq) {
        let through = through.min(self.head);
        let kept = self.held.split_off(&through.next());
        if let Some((_, (at_ms, _))) = self.held.last_key_value() {
            self.floor_ms = *at_ms;
        }
        self.held = kept;
        self.floor = self.floor.max(through);
    }

    pub(super) fn begin_epoch(&mut self, epoch: Epoch) {
        for feed in self.feeds.drain(..).filter_map(|feed| feed.upgrade()) {
            feed.end();
        }
        self.epoch = epoch;
        self.held.clear();
        self.committed.clear();
        self.keys.clear();
        self.floor = Seq::ZERO;
        self.floor_ms = 0;
        self.head = Seq::ZERO;
    }

    /// What each ring is given of the entries after `previous`.
    pub(super) fn runs_after(&mut self, previous: Seq) -> Vec<(Arc<Feed>, Vec<Run>)> {
        self.feeds.retain(|feed| feed.strong_count() > 0);
        let feeds: Vec<_> = self.feeds.iter().filter_map(Weak::upgrade).collect();
        feeds
            .into_iter()
            .map(|feed| (feed, self.runs(previous)))
            .collect()
    }

    /// The entries after `previous`, but for those that the feed loses.
    fn runs(&mut self, previous: Seq) -> Vec<Run> {
        let from = self.committed.partition_point(|it| it.seq <= previous);
        let mut previous = previous;
        let mut runs: Vec<Run> = Vec::new();
        let mut unbroken = false;
        for entry in &self.committed[from..] {
            let seq = entry.seq;
            if self.random.below(1_000) < self.config.unfed_permille {
                unbroken = false;
            } else {
                match runs.last_mut() {
                    Some(run) if unbroken => run.entries.push(entry.clone()),
                    _ => runs.push(Run {
                        previous,
                        entries: vec![entry.clone()],
                    }),
                }
                unbroken = true;
            }
            previous = seq;
        }
        runs
    }

    /// Tells every ring where the log ends.
    pub(super) fn announce(&self) {
        for feed in self.feeds.iter().filter_map(Weak::upgrade) {
            feed.announce(self.head);
        }
    }

    pub(super) fn read_after(
        &mut self,
        epoch: Epoch,
        since: Seq,
        limit: usize,
    ) -> Result<Page, Unavailable> {
        if epoch != self.epoch || self.fails() {
            return Err(Unavailable);
        }
        let after = since.max(self.floor);
        let mut live = self
            .held
            .range(after.next()..)
            .filter_map(|(&seq, (at_ms, body))| {
                let (at_ms, body) = (*at_ms, body.clone()?);
                Some(Entry { seq, at_ms, body })
            });
        let entries: Vec<_> = live.by_ref().take(limit).collect();
        let more = live.next().is_some();
        let seq = if more {
            entries.last().map_or(after, |last| last.seq)
        } else {
            after.max(self.head)
        };
        Ok(Page {
            after,
            seq,
            entries,
            more,
        })
    }

    pub(super) fn read_down(
        &mut self,
        epoch: Epoch,
        until: Seq,
        after: Seq,
        limit: usize,
    ) -> Result<Page, Unavailable> {
        if epoch != self.epoch || self.fails() {
            return Err(Unavailable);
        }
        let seq = until.min(self.head);
        let after = after.max(self.floor).min(seq);
        let live = self.held.range(after.next()..=seq.max(after.next())).rev();
        let mut live = live.filter_map(|(&seq, (at_ms, body))| {
            let (at_ms, body) = (*at_ms, body.clone()?);
            Some(Entry { seq, at_ms, body })
        });
        let entries: Vec<_> = live.by_ref().take(limit).collect();
        let more = live.next().is_some();
        let after = match entries.last() {
            Some(last) if more => last.seq.previous(),
            _ => after,
        };
        Ok(Page {
            after,
            seq,
            entries,
            more,
        })
    }

    pub(super) fn last_before(&mut self, epoch: Epoch, at_ms: u64) -> Result<Seq, Unavailable> {
        if epoch != self.epoch || self.fails() {
            return Err(Unavailable);
        }
        let before = self.held.iter().take_while(|(_, (time, _))| *time < at_ms);
        Ok(before.last().map_or(self.floor, |(&seq, _)| seq))
    }

    pub(super) fn read_last(
        &mut self,
        epoch: Epoch,
        until: Seq,
        comments: usize,
        bytes_max: usize,
    ) -> Result<Recent, Unavailable> {
        if epoch != self.epoch || self.fails() {
            return Err(Unavailable);
        }
        let until = until.min(self.head);
        let newest_first = self
            .held
            .range(..=until)
            .rev()
            .filter_map(|(&seq, (at_ms, body))| Some((seq, *at_ms, body.as_ref()?)));
        Ok(Recent::collect(until, newest_first, comments, bytes_max).0)
    }

    pub(super) fn read_between(
        &mut self,
        epoch: Epoch,
        from_ms: u64,
        to_ms: u64,
        bytes_max: usize,
    ) -> Result<Interval, Unavailable> {
        if epoch != self.epoch || self.fails() {
            return Err(Unavailable);
        }
        let before = |entry: &(&Seq, &(u64, Option<EntryBody>))| entry.1.0 < from_ms;
        let after = self.held.iter().take_while(before).last();
        let mut interval = Interval::new(after.map_or(self.floor, |(seq, _)| *seq));
        let entries = self
            .held
            .iter()
            .skip_while(before)
            .take_while(|(_, (at_ms, _))| *at_ms < to_ms)
            .map(|(&seq, (at_ms, body))| (seq, *at_ms, body.as_ref()));
        interval.collect(entries, bytes_max);
        interval.dropped = self.floor > Seq::ZERO && self.floor_ms >= from_ms;
        Ok(interval)
    }
}

impl Run {
    pub(super) fn feed_into(self, feed: &Feed) {
        feed.fed(self.previous, self.entries);
    }
}

/// `SplitMix64` (Steele, Lea and Flood, 2014).
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }
}
