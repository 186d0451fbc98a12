//! The thread that commits: appends in groups, and housekeeping between them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use danmaku_store::{
    Answer, Changed, CommitError, Group, NewRoom, Retention, RoomKey, StoreError, Writer,
};
use danmaku_wire::{Event, Seq};
use tokio::sync::oneshot;

use super::codec;
use super::housekeeping::{Housekeeping, KEY_AGE_MS_MAX};
use super::room::{Message, Numbering, OpenRoom, Outcome, Queued, QueuedChange, is_same};
use super::{Health, Table};
use crate::entry::{Append, AppendError, AppendKey, Appended, ChangeError, Entry, EntryBody};

/// The state of the thread.
pub(super) struct WriterThread {
    writer: Writer,
    queued: Receiver<Message>,
    table: Arc<Table>,
    housekeeping: Housekeeping,
    /// When the next short group may be committed.
    next_group: Instant,
}

impl WriterThread {
    pub(super) fn new(
        writer: Writer,
        queued: Receiver<Message>,
        table: Arc<Table>,
        retention: Retention,
        room_entries_max: Option<u64>,
    ) -> Self {
        Self {
            writer,
            queued,
            table,
            housekeeping: Housekeeping::new(retention, room_entries_max),
            next_group: Instant::now(),
        }
    }

    /// Runs until it is stopped, or nobody can append any more.
    pub(super) fn run(mut self) {
        let stop = loop {
            let wait = self.housekeeping.due_in(Instant::now());
            match self.queued.recv_timeout(wait) {
                Ok(first) => {
                    if let Some(stop) = self.commit_group(first) {
                        break Some(stop);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break None,
            }
            self.housekeeping
                .run(&mut self.writer, &self.table, Instant::now());
        };
        // If it fails, the next start does it.
        let _later = self.writer.scrub();
        drop(self.writer);
        drop(stop);
    }

    /// Commits `first` and what else is queued; returns a stop that came behind them. A short group soon after the last one
    /// waits for more.
    fn commit_group(&mut self, first: Message) -> Option<oneshot::Sender<()>> {
        let mut entries = 0;
        let (mut appends, mut changes) = (Vec::new(), Vec::new());
        let mut stop = None;
        let mut next = Some(first);
        while let Some(message) = next {
            if !matches!(message, Message::Stop(_)) {
                self.table.meter.taken();
            }
            match message {
                Message::Append(append) => {
                    entries += append.append.entries.len();
                    appends.push(*append);
                }
                Message::Change(change) => {
                    entries += 1;
                    changes.push(*change);
                }
                Message::Stop(sender) => {
                    stop = Some(sender);
                    break;
                }
            }
            if entries >= GROUP_ENTRIES_MAX {
                break;
            }
            let wait = if entries < SHORT_GROUP_ENTRIES {
                self.next_group.saturating_duration_since(Instant::now())
            } else {
                Duration::ZERO
            };
            next = self.queued.recv_timeout(wait).ok();
        }
        self.next_group = Instant::now() + GROUP_INTERVAL;
        if !appends.is_empty() {
            self.commit(appends);
        }
        if !changes.is_empty() {
            self.commit_changes(changes);
        }
        stop
    }

    /// Commits changes of the records, lets them hold, then answers. There are few: they have a commit of their own.
    fn commit_changes(&mut self, queued: Vec<QueuedChange>) {
        let outcomes = self.try_commit_changes(&queued);
        for (index, queued) in queued.into_iter().enumerate() {
            let outcome = match &outcomes {
                Ok(outcomes) => outcomes[index].map_err(ChangeError::from),
                Err(error) => Err((*error).into()),
            };
            if let Ok(id) = outcome {
                self.table.in_force.apply(queued.change, id);
            }
            // Whoever gave up is not told.
            let _gone = queued.answer.send(outcome);
        }
    }

    fn try_commit_changes(&mut self, queued: &[QueuedChange]) -> Result<Vec<Changed>, AppendError> {
        if *self.table.health.borrow() != Health::Ready {
            return Err(AppendError::Unavailable);
        }
        let begun = Instant::now();
        let committed = commit_changes(&mut self.writer, queued);
        let outcomes = committed.map_err(|error| self.failed(&error))?;
        self.table.meter.committed(queued.len(), begun.elapsed());
        Ok(outcomes)
    }

    /// Begins an episode of failures; what posters are told.
    fn failed(&mut self, error: &CommitError) -> AppendError {
        self.housekeeping
            .fail(&self.table, error.cause(), Instant::now());
        match error {
            CommitError::Refused(_) => AppendError::Unavailable,
            CommitError::Unknown(_) => AppendError::OutcomeUnknown,
        }
    }

    /// Commits the appends, feeds the rings, then answers the posters.
    fn commit(&mut self, appends: Vec<Queued>) {
        let mut posters = Vec::with_capacity(appends.len());
        let mut work = Vec::with_capacity(appends.len());
        for queued in appends {
            posters.push((queued.answer, queued.held));
            work.push((queued.room, queued.append, queued.at));
        }
        let mut outcomes = match self.try_commit(work) {
            Ok(outcomes) => outcomes.into_iter(),
            Err(error) => vec![Err(error); posters.len()].into_iter(),
        };
        for (answer, held) in posters {
            drop(held);
            let outcome = outcomes.next().unwrap_or(Err(AppendError::Unavailable));
            // A poster that gave up is not told.
            let _gone = answer.send(outcome);
        }
    }

    /// Commits the appends and feeds the rings.
    fn try_commit(
        &mut self,
        work: Vec<(Arc<OpenRoom>, Append, Instant)>,
    ) -> Result<Vec<Outcome>, AppendError> {
        if *self.table.health.borrow() != Health::Ready {
            return Err(AppendError::Unavailable);
        }
        let mut drafts = Drafts::default();
        let begun = Instant::now();
        let committed = drafts.commit(&mut self.writer, work);
        let outcomes = committed.map_err(|error| self.failed(&error))?;
        let rows = drafts.rooms.iter().map(|draft| draft.entries.len()).sum();
        self.table.meter.committed(rows, begun.elapsed());
        for mut draft in drafts.rooms {
            *draft.room.numbering() = draft.numbering;
            self.housekeeping.grown(&draft.room, &draft.numbering);
            let entries = std::mem::take(&mut draft.entries);
            draft.room.feed().fed(draft.previous, entries);
        }
        Ok(outcomes)
    }
}

fn commit_changes(
    writer: &mut Writer,
    queued: &[QueuedChange],
) -> Result<Vec<Changed>, CommitError> {
    let mut group = writer.begin().map_err(CommitError::Refused)?;
    let mut outcomes = Vec::with_capacity(queued.len());
    for queued in queued {
        let changed = group.change(&queued.change, queued.audit.as_ref());
        outcomes.push(changed.map_err(CommitError::Refused)?);
    }
    group.commit()?;
    Ok(outcomes)
}

/// What a group changes, room by room. It counts once the group is committed.
#[derive(Default)]
struct Drafts {
    rooms: Vec<Draft>,
    /// Where each room is in `rooms`. A room is known by its address: its draft holds it.
    index: HashMap<*const OpenRoom, usize>,
}

struct Draft {
    room: Arc<OpenRoom>,
    previous: Seq,
    /// No entry of it has an earlier log time.
    earliest_ms: u64,
    numbering: Numbering,
    entries: Vec<Entry>,
}

/// The group is in the rings, or it failed.
impl Drop for Draft {
    fn drop(&mut self) {
        self.room.log_time().end();
    }
}

impl Drafts {
    fn commit(
        &mut self,
        writer: &mut Writer,
        work: Vec<(Arc<OpenRoom>, Append, Instant)>,
    ) -> Result<Vec<Outcome>, CommitError> {
        let mut group = writer.begin().map_err(CommitError::Refused)?;
        let mut outcomes = Vec::with_capacity(work.len());
        for (room, append, at) in work {
            let waited = u64::try_from(at.elapsed().as_millis()).unwrap_or(0);
            let now_ms = append.now_ms + waited;
            let outcome = self.of(&room, now_ms).append(&mut group, append, now_ms);
            outcomes.push(outcome.map_err(CommitError::Refused)?);
        }
        #[cfg(feature = "double")]
        if let Some(draft) = self.rooms.first() {
            draft.room.before_commit();
        }
        group.commit()?;
        Ok(outcomes)
    }

    fn of(&mut self, room: &Arc<OpenRoom>, now_ms: u64) -> &mut Draft {
        let index = *self.index.entry(Arc::as_ptr(room)).or_insert_with(|| {
            let numbering = *room.numbering();
            self.rooms.push(Draft {
                room: Arc::clone(room),
                previous: numbering.head,
                earliest_ms: room.log_time().begin(now_ms),
                numbering,
                entries: Vec::new(),
            });
            self.rooms.len() - 1
        });
        &mut self.rooms[index]
    }
}

impl Draft {
    /// Adds an append to the group, and says what its poster is told once the group is committed.
    fn append(
        &mut self,
        group: &mut Group<'_>,
        append: Append,
        now_ms: u64,
    ) -> Result<Outcome, StoreError> {
        let Append { entries, key, .. } = append;
        if let Some(key) = &key
            && let Some(outcome) = self.repeated(group, key, &entries, now_ms)?
        {
            return Ok(outcome);
        }
        let at_ms = self.numbering.at_ms.max(self.earliest_ms).max(now_ms);
        self.numbering.at_ms = at_ms;
        let room = self.room_key(group)?;
        let first = self.numbering.head.next();
        let mut seqs = Vec::with_capacity(entries.len());
        for body in entries {
            let seq = self.numbering.head.next();
            let kind = codec::kind(&body);
            codec::encode(&body, |bytes| {
                group.insert(room, seq.value(), at_ms, kind, bytes)
            })?;
            if let EntryBody::Event(Event::Retract { ids }) = &body {
                for id in &**ids {
                    group.erase(room, id.value(), codec::COMMENT_MAX)?;
                }
            }
            self.numbering.head = seq;
            self.entries.push(Entry { seq, at_ms, body });
            seqs.push(seq);
        }
        if let Some(AppendKey { poster, key }) = key {
            let answer = Answer {
                first: first.value(),
                count: seqs.len() as u64,
            };
            group.remember(room, poster, key.as_str(), answer, now_ms)?;
        }
        Ok(Ok(self.appended(seqs)))
    }

    /// What the first append with this key was told, if there was one.
    fn repeated(
        &self,
        group: &Group<'_>,
        key: &AppendKey,
        entries: &[EntryBody],
        now_ms: u64,
    ) -> Result<Option<Outcome>, StoreError> {
        let Some(room) = self.numbering.key else {
            return Ok(None);
        };
        let since_ms = now_ms.saturating_sub(KEY_AGE_MS_MAX);
        let Some(answer) = group.answer(room, key.poster, key.key.as_str(), since_ms)? else {
            return Ok(None);
        };
        let mut same = entries.len() as u64 == answer.count;
        for (seq, body) in (answer.first..).zip(entries) {
            same = same && is_same(body, group.body(room, seq)?.as_deref());
        }
        let seqs = (answer.first..answer.first + answer.count).map(Seq::new);
        Ok(Some(if same {
            Ok(self.appended(seqs.collect()))
        } else {
            Err(AppendError::KeyReused)
        }))
    }

    /// The room's name in the file, which it gets with its first entry.
    fn room_key(&mut self, group: &Group<'_>) -> Result<RoomKey, StoreError> {
        if let Some(key) = self.numbering.key {
            return Ok(key);
        }
        let key = group.add_room(NewRoom {
            name: self.room.id().as_str(),
            epoch: self.room.feed().epoch().value(),
            floor: self.numbering.head.value(),
        })?;
        self.numbering.key = Some(key);
        Ok(key)
    }

    fn appended(&self, seqs: Vec<Seq>) -> Appended {
        Appended {
            epoch: self.room.feed().epoch(),
            seqs,
        }
    }
}

/// Time between the beginnings of two short groups. A commit costs the same CPU for one entry as for ten, and no viewer sees
/// a comment sooner: only the first one after a pause is shown at once, and that one does not wait.
const GROUP_INTERVAL: Duration = Duration::from_millis(10);

/// Groups with fewer entries are short; the others are committed as fast as the disk allows.
const SHORT_GROUP_ENTRIES: usize = 32;

/// Entries in one commit, but for the last append's own.
const GROUP_ENTRIES_MAX: usize = 4_096;
