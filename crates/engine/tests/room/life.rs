//! Random lives of a room, each beside a model of what its viewers may rely on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use danmaku_engine::{Flush, Resume, Room, RoomConfig};
use danmaku_wire::{FrameSet, Priority, Seq};
use proptest::prelude::*;

use crate::fixture::{EPOCH, INPUT, at, comment, config, ids, json, position, retract};

/// One step of a random life of a room.
#[derive(Clone, Debug)]
enum Step {
    Comments { count: u64, class: usize },
    Hole { positions: u64 },
    Repeat { back: u64 },
    Retract { back: u64 },
    Lost { positions: u64 },
    Likes { count: u64 },
    Pause { ms: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1u64..8, 0..Priority::ALL.len()).prop_map(|(count, class)| Step::Comments { count, class }),
        1 => (60u64..120, Just(0)).prop_map(|(count, class)| Step::Comments { count, class }),
        2 => (1u64..30).prop_map(|positions| Step::Hole { positions }),
        1 => (0u64..20).prop_map(|back| Step::Repeat { back }),
        2 => (0u64..60).prop_map(|back| Step::Retract { back }),
        1 => (0u64..30).prop_map(|positions| Step::Lost { positions }),
        2 => (1u64..100).prop_map(|count| Step::Likes { count }),
        8 => (0u64..700).prop_map(|ms| Step::Pause { ms }),
    ]
}

/// A room beside what its viewers may rely on.
struct Model {
    room: Room,
    config: RoomConfig,
    now_ms: u64,
    next: u64,
    given: BTreeMap<u64, Priority>,
    retracted: BTreeSet<u64>,
    /// Positions of events.
    events: BTreeSet<u64>,
    likes: u64,
    likes_told: u64,
    pending_since: Option<u64>,
    frames: Vec<Arc<FrameSet>>,
    /// When the last frame was sealed that was due.
    sealed_at_ms: Option<u64>,
}

impl Model {
    fn new(config: RoomConfig) -> Self {
        Self {
            room: Room::new(config, EPOCH, Seq::ZERO),
            config,
            now_ms: 10_000,
            next: 1,
            given: BTreeMap::new(),
            retracted: BTreeSet::new(),
            events: BTreeSet::new(),
            likes: 0,
            likes_told: 0,
            pending_since: None,
            frames: Vec::new(),
            sealed_at_ms: None,
        }
    }

    fn step(&mut self, step: &Step) {
        let now = at(self.now_ms);
        match *step {
            Step::Comments { count, class } => {
                for seq in self.next..self.next + count {
                    self.room.comment(now, comment(seq), Priority::ALL[class]);
                    self.given.insert(seq, Priority::ALL[class]);
                }
                self.next += count;
                self.pending_since.get_or_insert(self.now_ms);
            }
            Step::Hole { positions } => self.next += positions,
            Step::Repeat { back } => {
                if let Some(seq) = self.given_before(back) {
                    self.room.comment(now, comment(seq), Priority::Viewer);
                    self.room.event(now, retract(seq, &[seq]));
                }
            }
            Step::Retract { back } => {
                let ids: Vec<_> = self.given_before(back).into_iter().collect();
                self.room.event(now, retract(self.next, &ids));
                self.retracted.extend(ids);
                self.events.insert(self.next);
                self.next += 1;
                self.pending_since.get_or_insert(self.now_ms);
            }
            Step::Lost { positions } => self.lose(positions),
            Step::Likes { count } => {
                self.room.likes(now, count);
                self.likes += count;
                self.pending_since.get_or_insert(self.now_ms);
            }
            Step::Pause { ms } => self.pause(ms),
        }
        assert!(self.room.pending() <= self.config.batch_comments_max);
        assert_eq!(self.room.deadline().is_some(), self.pending_since.is_some());
        self.tick();
        self.check_ring();
    }

    fn given_before(&self, back: u64) -> Option<u64> {
        let back = usize::try_from(back).unwrap();
        self.given.keys().rev().nth(back).copied()
    }

    fn lose(&mut self, positions: u64) {
        let given = self.given.keys().chain(&self.events).max().copied();
        self.next += positions;
        let through = self.next - 1;
        let frames = self.room.lost(at(self.now_ms), Seq::new(through), INPUT);
        let sealed = self.frames.last().map_or(0, |frame| frame.seq().value());
        if through <= sealed.max(given.unwrap_or(0)) {
            assert!(frames.is_empty());
            return;
        }
        let (gap, batches) = frames.split_last().unwrap();
        assert_eq!(batches.len(), usize::from(self.pending_since.is_some()));
        for batch in batches {
            self.pending_since = None;
            self.check_batch(batch);
            self.frames.push(Arc::clone(batch));
        }
        assert!(gap.is_gap());
        let after = self.frames.last().map_or(0, |frame| frame.seq().value());
        assert_eq!((gap.after().value(), gap.seq().value()), (after, through));
        self.frames.push(Arc::clone(gap));
    }

    /// Time passes, and the caller is called at each deadline, as its timer would.
    fn pause(&mut self, ms: u64) {
        let end = self.now_ms + ms;
        while let Some(due) = self
            .room
            .deadline()
            .map(|due| u64::try_from(due.as_micros().div_ceil(1_000)).unwrap())
            && due <= end
        {
            self.now_ms = self.now_ms.max(due);
            self.tick();
        }
        self.now_ms = end;
    }

    fn tick(&mut self) {
        let Some(frame) = self.room.tick(at(self.now_ms), INPUT) else {
            return;
        };
        let since = self
            .pending_since
            .take()
            .expect("no frame without something pending");
        let window_ms = u64::try_from(self.config.window.as_millis()).unwrap();
        assert!(
            self.now_ms - since <= window_ms + window_ms / 20 + 1,
            "waited {} ms",
            self.now_ms - since
        );
        if let Some(before) = self.sealed_at_ms {
            // One millisecond for the clock of this test, which is that coarse.
            assert!(
                self.now_ms - before + 1 >= window_ms,
                "two frames within {} ms",
                self.now_ms - before
            );
        }
        self.sealed_at_ms = Some(self.now_ms);
        self.check_batch(&frame);
        self.frames.push(frame);
        assert!(self.room.history_frames() <= self.config.history_frames_max);
        assert!(self.room.history_bytes() <= self.config.history_bytes_max);
    }

    fn check_batch(&mut self, frame: &FrameSet) {
        let before = self.frames.last().map_or(0, |frame| frame.seq().value());
        let (after, last) = (frame.after().value(), frame.seq().value());
        assert_eq!(after, before);
        let batch = json(frame);
        let ids = ids(&batch);
        assert!(
            ids.is_sorted_by(|a, b| a < b) && ids.iter().all(|id| (after + 1..=last).contains(id))
        );
        assert!(ids.len() <= self.config.batch_comments_max);
        assert!(ids.iter().all(|id| !self.retracted.contains(id)));
        self.likes_told += batch
            .get("likes")
            .map_or(0, |likes| likes.as_u64().unwrap());
        let events: Vec<_> = frame.events().iter().map(|it| it.seq.value()).collect();
        let expected = self.events.range(after + 1..last + 1);
        assert_eq!(events, expected.copied().collect::<Vec<_>>());

        // Every comment is told, was retracted, or was shed, and those that were shed may be retracted too.
        let given: Vec<_> = self.given.range(after + 1..last + 1).collect();
        let shed = frame.shed() as usize;
        let untold: Vec<_> = given.iter().filter(|(id, _)| !ids.contains(id)).collect();
        let retracted = untold
            .iter()
            .filter(|(id, _)| self.retracted.contains(id))
            .count();
        assert!(untold.len() - retracted <= shed && shed <= untold.len());
        if given.len() <= self.config.batch_comments_max {
            assert_eq!(shed, 0, "shed below the cap");
        }
        if retracted == 0 && shed > 0 {
            let lowest_held = ids.iter().map(|id| self.given[id]).min();
            let highest_shed = untold.iter().map(|(_, priority)| **priority).max();
            assert!(
                lowest_held >= highest_shed,
                "{highest_shed:?} was shed while {lowest_held:?} was held"
            );
        }
    }

    /// The ring has nothing that was retracted, and otherwise what everybody was told.
    fn check_ring(&self) {
        let Resume::At { boundary, frames } = self.room.resume(position(0)) else {
            panic!("0 is in the past");
        };
        let told = self
            .frames
            .iter()
            .filter(|frame| frame.after() < frame.seq() && frame.after() >= boundary);
        assert_eq!(frames.len(), told.clone().count());
        for (frame, told) in frames.iter().zip(told) {
            assert_eq!((frame.after(), frame.seq()), (told.after(), told.seq()));
            assert_eq!(frame.is_gap(), told.is_gap());
            assert_eq!((frame.events(), frame.shed()), (told.events(), told.shed()));
            let kept = told
                .comments()
                .iter()
                .filter(|comment| !self.retracted.contains(&comment.seq.value()));
            assert!(frame.comments().iter().eq(kept));
        }
    }

    /// Resumes from every position: what comes back follows on without a hole or a repetition.
    fn check_resume(&self) {
        let sealed = self.room.sealed().seq;
        for since in 0..=sealed.value() {
            let Resume::At { boundary, frames } = self.room.resume(position(since)) else {
                panic!("{since} of {sealed} is in the past");
            };
            assert!(boundary.value() >= since && boundary <= sealed);
            let mut at = boundary;
            for frame in &frames {
                assert!(frame.after() == at && frame.seq() > at);
                at = frame.seq();
            }
            assert_eq!(at, sealed);
            let exact = self.room.frames_after(Seq::new(since));
            assert_eq!(exact.is_some(), boundary.value() == since);
        }
        let ahead = position(sealed.next().value());
        assert!(matches!(self.room.resume(ahead), Resume::Ahead));
    }
}

proptest! {
    #[test]
    fn every_position_is_told_once(
        steps in prop::collection::vec(step(), 1..150),
        leading: bool,
        batch_comments_max in 1usize..40,
        history_frames_max in 0usize..8,
        history_bytes_max in prop_oneof![Just(0usize), 500..5_000usize],
        phase_ms in 0u64..1_000,
        seed: u64,
    ) {
        let flush = if leading { Flush::Leading } else { Flush::Fixed };
        let phase = Duration::from_millis(phase_ms);
        let mut model = Model::new(RoomConfig {
            flush, batch_comments_max, history_frames_max, history_bytes_max, phase, seed, ..config()
        });
        for step in &steps {
            model.step(step);
        }
        model.pause(3_000);
        prop_assert_eq!(model.room.deadline(), None);
        prop_assert_eq!(model.likes_told, model.likes);
        model.check_resume();

        let counters = model.room.drain_counters();
        let gaps = model.frames.iter().filter(|frame| frame.is_gap()).count();
        let shed: u64 = model.frames.iter().map(|frame| u64::from(frame.shed())).sum();
        prop_assert_eq!(counters.comments_total(), model.given.len() as u64);
        prop_assert_eq!(counters.shed_total(), shed);
        prop_assert_eq!(u64::from(counters.events), model.events.len() as u64);
        prop_assert_eq!(u64::from(counters.gaps), gaps as u64);
        prop_assert_eq!(u64::from(counters.batches), (model.frames.len() - gaps) as u64);
        prop_assert_eq!(counters.likes, model.likes);
    }
}
