//! The log in memory: a bounded ring per room behind a short lock.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use danmaku_wire::{Epoch, RoomId, Seq};
use tokio::sync::Notify;

use crate::{AppendError, Appended, Entry, LogConfig, NewEntry, Page};

/// Makes the logs of rooms; holds none of them, so a retired room's log goes
/// with its last handle.
#[derive(Clone, Debug)]
pub struct MemoryLog {
    config: LogConfig,
}

impl MemoryLog {
    /// A log whose rooms each keep what `config` allows.
    #[must_use]
    pub fn new(config: LogConfig) -> Self {
        Self { config }
    }

    /// A new, empty log. `_room` names it in logs that are shared by rooms.
    #[must_use]
    pub fn open(&self, _room: &RoomId, fresh: Epoch) -> MemoryRoomLog {
        MemoryRoomLog {
            shared: Arc::new(Shared {
                config: self.config,
                epoch: fresh,
                ring: Mutex::new(Ring {
                    entries: VecDeque::new(),
                    bytes: 0,
                    head: Seq::ZERO,
                    taken: Seq::ZERO,
                }),
                appended: Notify::new(),
                crowded: Notify::new(),
            }),
        }
    }
}

/// The log of one room in memory.
#[derive(Clone, Debug)]
pub struct MemoryRoomLog {
    shared: Arc<Shared>,
}

impl MemoryRoomLog {
    /// See [`crate::RoomLog::append`].
    ///
    /// # Errors
    /// [`AppendError::Overloaded`] while the tail is too far behind.
    pub fn append(&self, entries: Vec<NewEntry>) -> Result<Appended, AppendError> {
        let count = entries.len();
        let (first, crowded);
        {
            let mut ring = self.shared.lock();
            let behind = ring.head.value() - ring.taken.value();
            // An array may overshoot the bound by its own length, so that one
            // longer than the bound is not refused for ever.
            if behind >= self.shared.config.tail_lag_max as u64 {
                return Err(AppendError::Overloaded { behind });
            }
            first = ring.head.next();
            for entry in entries {
                ring.push(entry);
            }
            ring.trim(&self.shared.config);
            let lag_max = self.shared.config.tail_lag_max as u64;
            crowded = (ring.head.value() - ring.taken.value()) * 2 >= lag_max;
        }
        if count > 0 {
            self.shared.appended.notify_one();
        }
        if crowded {
            self.shared.crowded.notify_one();
        }
        Ok(Appended {
            epoch: self.shared.epoch,
            first,
            count,
        })
    }

    /// See [`crate::RoomLog::read_after`].
    #[must_use]
    pub fn read_after(&self, since: Seq, limit: usize) -> Page {
        let ring = self.shared.lock();
        let oldest = ring.oldest();
        let missing = (since.next() < oldest).then(|| (since.next(), Seq::new(oldest.value() - 1)));
        let skip = ring.index_after(since);
        let entries: Vec<Entry> = ring
            .entries
            .iter()
            .skip(skip)
            .take(limit)
            .cloned()
            .collect();
        let more = skip + entries.len() < ring.entries.len();
        Page {
            entries,
            missing,
            more,
        }
    }

    /// See [`crate::RoomLog::epoch`].
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.shared.epoch
    }

    /// See [`crate::RoomLog::head`].
    #[must_use]
    pub fn head(&self) -> Seq {
        self.shared.lock().head
    }

    /// See [`crate::RoomLog::tail`].
    #[must_use]
    pub fn tail(&self) -> MemoryTail {
        let mut ring = self.shared.lock();
        ring.taken = ring.head;
        MemoryTail {
            shared: Arc::clone(&self.shared),
        }
    }
}

/// Follows one room's log in memory.
#[derive(Debug)]
pub struct MemoryTail {
    shared: Arc<Shared>,
}

impl MemoryTail {
    /// See [`crate::Tail::next`].
    pub async fn next(&mut self, out: &mut Vec<Entry>, max: usize) {
        // One consumer: `notify_one` keeps a permit when nobody waits yet.
        while !self.take(out, max) {
            self.shared.appended.notified().await;
        }
    }

    /// See [`crate::Tail::crowded`].
    pub async fn crowded(&self) {
        self.shared.crowded.notified().await;
    }

    /// See [`crate::Tail::take`].
    pub fn take(&mut self, out: &mut Vec<Entry>, max: usize) -> bool {
        let mut ring = self.shared.lock();
        let skip = ring.index_after(ring.taken);
        let before = out.len();
        out.extend(ring.entries.iter().skip(skip).take(max).cloned());
        if let Some(last) = out.get(before..).and_then(<[Entry]>::last) {
            ring.taken = last.seq;
        }
        ring.trim(&self.shared.config);
        out.len() > before
    }
}

#[derive(Debug)]
struct Shared {
    config: LogConfig,
    epoch: Epoch,
    ring: Mutex<Ring>,
    appended: Notify,
    /// Told when the tail is half as far behind as it may be.
    crowded: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Ring> {
        // The ring is whole between any two statements that can panic.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Consecutive comments up to `head`, the oldest first.
#[derive(Debug)]
struct Ring {
    entries: VecDeque<Entry>,
    bytes: usize,
    head: Seq,
    /// The last position the tail has taken up.
    taken: Seq,
}

impl Ring {
    fn push(&mut self, entry: NewEntry) {
        self.head = self.head.next();
        self.bytes += entry.fragment.as_bytes().len();
        self.entries.push_back(Entry {
            seq: self.head,
            fragment: entry.fragment,
            priority: entry.priority,
        });
    }

    /// Drops the oldest comments over the bounds, but none that the tail has
    /// not taken: what was accepted is never lost to a slow room.
    fn trim(&mut self, config: &LogConfig) {
        while self.entries.len() > config.entries_max || self.bytes > config.bytes_max {
            match self.entries.front() {
                Some(oldest) if oldest.seq <= self.taken => {
                    self.bytes -= oldest.fragment.as_bytes().len();
                    self.entries.pop_front();
                }
                _ => break,
            }
        }
    }

    /// The oldest position held; one past the head when none is.
    fn oldest(&self) -> Seq {
        self.entries.front().map_or(self.head.next(), |e| e.seq)
    }

    /// The index of the first entry after `since`.
    fn index_after(&self, since: Seq) -> usize {
        let ahead = since.next().value().saturating_sub(self.oldest().value());
        usize::try_from(ahead)
            .unwrap_or(usize::MAX)
            .min(self.entries.len())
    }
}

#[cfg(test)]
mod tests {
    use danmaku_wire::{Comment, CommentLimits, CommentText};

    use super::*;

    fn log(entries_max: usize, bytes_max: usize, tail_lag_max: usize) -> MemoryRoomLog {
        let room = RoomId::parse("r").unwrap();
        MemoryLog::new(LogConfig {
            entries_max,
            bytes_max,
            tail_lag_max,
        })
        .open(&room, Epoch::new(7))
    }

    fn comments(texts: &[&str]) -> Vec<NewEntry> {
        texts
            .iter()
            .map(|text| {
                let text = CommentText::new(text, &CommentLimits::default()).unwrap();
                let comment = Comment::new(text);
                NewEntry {
                    fragment: comment.fragment(),
                    priority: comment.priority(),
                }
            })
            .collect()
    }

    fn seqs(entries: &[Entry]) -> Vec<u64> {
        entries.iter().map(|e| e.seq.value()).collect()
    }

    #[test]
    fn positions_are_consecutive_from_one() {
        let log = log(10, 1 << 20, 10);
        let one = log.append(comments(&["a"])).unwrap();
        let two = log.append(comments(&["b", "c"])).unwrap();
        assert_eq!((one.first, one.count), (Seq::new(1), 1));
        assert_eq!(two.seqs().map(Seq::value).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(two.epoch, Epoch::new(7));
        assert_eq!(log.head(), Seq::new(3));
    }

    #[test]
    fn a_read_is_bounded_and_says_what_is_gone() {
        let log = log(3, 1 << 20, 100);
        let mut tail = log.tail();
        log.append(comments(&["1", "2", "3", "4", "5"])).unwrap();
        assert!(tail.take(&mut Vec::new(), 100));

        let page = log.read_after(Seq::ZERO, 2);
        assert_eq!(seqs(&page.entries), [3, 4]);
        assert_eq!(page.missing, Some((Seq::new(1), Seq::new(2))));
        assert!(page.more);

        let page = log.read_after(Seq::new(4), 2);
        assert_eq!(seqs(&page.entries), [5]);
        assert_eq!((page.missing, page.more), (None, false));

        let page = log.read_after(Seq::new(99), 2);
        assert!(page.entries.is_empty() && page.missing.is_none() && !page.more);
    }

    #[test]
    fn bytes_are_bounded_too() {
        let one = comments(&["0123456789"])[0].fragment.as_bytes().len();
        let log = log(1_000, 2 * one, 1_000);
        let mut tail = log.tail();
        for _ in 0..10 {
            log.append(comments(&["0123456789"])).unwrap();
        }
        tail.take(&mut Vec::new(), 100);
        assert_eq!(seqs(&log.read_after(Seq::ZERO, 100).entries), [9, 10]);
    }

    #[test]
    fn what_the_tail_has_not_taken_is_never_dropped() {
        let log = log(2, 1 << 20, 4);
        let mut tail = log.tail();
        for text in ["1", "2", "3", "4"] {
            log.append(comments(&[text])).unwrap();
        }
        let refused = log.append(comments(&["5"])).unwrap_err();
        assert_eq!(refused, AppendError::Overloaded { behind: 4 });

        let mut taken = Vec::new();
        assert!(tail.take(&mut taken, 3));
        assert_eq!(seqs(&taken), [1, 2, 3]);
        assert_eq!(log.append(comments(&["5"])).unwrap().first, Seq::new(5));
        assert!(tail.take(&mut taken, 100));
        assert_eq!(seqs(&taken), [1, 2, 3, 4, 5]);
        assert!(!tail.take(&mut taken, 100));
    }

    #[tokio::test]
    async fn a_tail_that_is_half_way_to_its_bound_is_told() {
        let log = log(10, 1 << 20, 4);
        let tail = log.tail();
        log.append(comments(&["1"])).unwrap();
        tokio::select! {
            biased;
            () = tail.crowded() => panic!("one of four is not half"),
            () = std::future::ready(()) => {}
        }
        log.append(comments(&["2"])).unwrap();
        tail.crowded().await;
    }

    #[tokio::test]
    async fn a_waiting_tail_wakes_and_a_dropped_wait_loses_nothing() {
        let log = log(10, 1 << 20, 10);
        let mut tail = log.tail();
        let mut out = Vec::new();
        tokio::select! {
            biased;
            () = tail.next(&mut out, 10) => panic!("nothing was appended"),
            () = std::future::ready(()) => {}
        }
        let appender = log.clone();
        let task = tokio::spawn(async move { appender.append(comments(&["a", "b"])) });
        tail.next(&mut out, 10).await;
        task.await.unwrap().unwrap();
        assert_eq!(seqs(&out), [1, 2]);
    }
}
