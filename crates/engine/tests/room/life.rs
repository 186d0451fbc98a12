//! Random lives of a room, each beside a model of what its viewers may rely on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use danmaku_engine::{Flush, Resume, Room, RoomConfig};
use danmaku_wire::{FrameSet, Priority, Seq};
use proptest::prelude::*;

use crate::fixture::{AUDIENCE, EPOCH, at, config, fragment, ids, json, position};

/// One step of a random life of a room.
#[derive(Clone, Debug)]
enum Step {
    Comments { count: u64, class: usize },
    Lost { positions: u64 },
    Repeat { back: u64 },
    Likes { count: u64 },
    Pause { ms: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1u64..8, 0..Priority::ALL.len()).prop_map(|(count, class)| Step::Comments { count, class }),
        1 => (60u64..120, Just(1)).prop_map(|(count, class)| Step::Comments { count, class }),
        1 => (1u64..30).prop_map(|positions| Step::Lost { positions }),
        1 => (0u64..20).prop_map(|back| Step::Repeat { back }),
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
    likes: u64,
    likes_told: u64,
    pending_since: Option<u64>,
    frames: Vec<Arc<FrameSet>>,
    sealed_at_ms: Vec<u64>,
}

impl Model {
    fn new(config: RoomConfig) -> Self {
        Self {
            room: Room::new(config, EPOCH, Seq::ZERO),
            config,
            now_ms: 10_000,
            next: 1,
            given: BTreeMap::new(),
            likes: 0,
            likes_told: 0,
            pending_since: None,
            frames: Vec::new(),
            sealed_at_ms: Vec::new(),
        }
    }

    fn step(&mut self, step: &Step) {
        let now = at(self.now_ms);
        match *step {
            Step::Comments { count, class } => {
                for seq in self.next..self.next + count {
                    self.room
                        .comment(now, Seq::new(seq), fragment(seq), Priority::ALL[class]);
                    self.given.insert(seq, Priority::ALL[class]);
                }
                self.next += count;
                self.pending_since.get_or_insert(self.now_ms);
            }
            Step::Lost { positions } => self.next += positions,
            Step::Repeat { back } => {
                let seq = self
                    .given
                    .keys()
                    .rev()
                    .nth(usize::try_from(back).unwrap())
                    .copied();
                if let Some(seq) = seq {
                    self.room
                        .comment(now, Seq::new(seq), fragment(seq), Priority::Viewer);
                }
            }
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
        let Some(frame) = self.room.tick(at(self.now_ms), AUDIENCE) else {
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
        if let Some(before) = self.sealed_at_ms.last() {
            // One millisecond for the clock of this test, which is that coarse.
            assert!(
                self.now_ms - before + 1 >= window_ms,
                "two frames within {} ms",
                self.now_ms - before
            );
        }
        self.sealed_at_ms.push(self.now_ms);
        self.check_frame(&frame);
        self.frames.push(frame);
        assert!(self.room.history_frames() <= self.config.history_frames_max);
        assert!(self.room.history_bytes() <= self.config.history_bytes_max);
    }

    fn check_frame(&mut self, frame: &FrameSet) {
        let before = self.frames.last().map_or(0, |frame| frame.last().value());
        let last = frame.last().value();
        let batch = json(frame);
        let ids = ids(&batch);
        assert_eq!(batch["seq"], before + 1);
        assert!(
            ids.is_sorted_by(|a, b| a < b) && ids.iter().all(|id| (before + 1..=last).contains(id))
        );
        assert!(ids.len() <= self.config.batch_comments_max);
        let shed = batch.get("shed").map_or(0, |shed| shed.as_u64().unwrap());
        assert_eq!(before + ids.len() as u64 + shed, last);
        assert_eq!(self.room.sealed(), position(last));
        self.likes_told += batch
            .get("likes")
            .map_or(0, |likes| likes.as_u64().unwrap());

        let given: Vec<_> = self.given.range(before + 1..last + 1).collect();
        if given.len() <= self.config.batch_comments_max {
            assert_eq!(
                ids,
                given.iter().map(|(id, _)| **id).collect::<Vec<_>>(),
                "shed below the cap"
            );
        } else {
            assert_eq!(ids.len(), self.config.batch_comments_max);
            let lowest_held = ids.iter().map(|id| self.given[id]).min();
            let highest_shed = given
                .iter()
                .filter(|(id, _)| !ids.contains(id))
                .map(|(_, priority)| **priority)
                .max();
            assert!(
                lowest_held >= highest_shed,
                "{highest_shed:?} was shed while {lowest_held:?} was held"
            );
        }
    }

    /// Resumes from every position: what comes back follows on without a hole or a repetition.
    fn check_resume(&self) {
        let sealed = self.room.sealed().seq.value();
        for since in 0..=sealed {
            let Resume::Replay { from_log, frames } = self.room.resume(position(since)) else {
                panic!("{since} of {sealed} is in the past");
            };
            let mut next = since + 1;
            if let Some((first, last)) = from_log {
                assert!(
                    first.value() == next && last >= first,
                    "since {since}: {first}..={last} from the log"
                );
                next = last.value() + 1;
            }
            for frame in &frames {
                assert_eq!(frame.first().value(), next);
                assert!(frame.covered() > 0);
                next = frame.last().value() + 1;
            }
            assert_eq!(next, sealed + 1);
        }
        assert!(matches!(
            self.room.resume(position(sealed + 1)),
            Resume::Ahead
        ));
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
        // Positions lost at the very end are told with the next comment.
        prop_assert_eq!(model.room.sealed().seq.value(), model.given.keys().last().copied().unwrap_or(0));
        model.check_resume();

        let counters = model.room.take_counters();
        let told: u64 = model.frames.iter().map(|frame| u64::from(frame.comments())).sum();
        let shed: u64 = model.frames.iter().map(|frame| u64::from(frame.shed())).sum();
        prop_assert_eq!(counters.comments_total(), model.given.len() as u64);
        prop_assert_eq!(counters.comments_total() - counters.shed_total(), told);
        prop_assert_eq!(counters.shed_total() + counters.missed, shed);
        prop_assert_eq!(counters.batches, model.frames.len() as u64);
        prop_assert_eq!(counters.likes, model.likes);
    }
}
