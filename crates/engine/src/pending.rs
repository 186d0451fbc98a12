//! What a room holds until its window ends.

use std::time::Duration;

use danmaku_wire::{BatchComment, BatchEvent, Priority, Seq};

use crate::counters::PRIORITIES;
use crate::random::SplitMix64;

/// The comments, events and likes of one window. Exists only while there are some: a quiet room holds nothing.
///
/// The number of comments is capped. Over the cap the lowest priority class present is shed first; within the class
/// every comment of the window is equally likely to be kept, whenever it arrived (reservoir sampling, Vitter's
/// algorithm R). So a burst neither silences late posters nor grows the frame. Events are never shed.
#[derive(Debug)]
pub(crate) struct Pending {
    /// When the first of them arrived.
    since: Duration,
    classes: [Class; PRIORITIES],
    held: usize,
    events: Vec<BatchEvent>,
    likes: u64,
    /// Comments that arrived and were shed.
    shed: u32,
}

/// What became of a comment that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Offered {
    /// Nothing was shed.
    Held,
    /// One comment of this class was shed: the offered one, or one it replaced.
    Shed(Priority),
}

/// What a window held, in the order of positions.
#[derive(Debug)]
pub(crate) struct Drained {
    pub(crate) comments: Vec<BatchComment>,
    pub(crate) events: Vec<BatchEvent>,
    pub(crate) likes: u64,
    pub(crate) shed: u32,
}

impl Pending {
    pub(crate) fn new(since: Duration) -> Self {
        Self {
            since,
            classes: Default::default(),
            held: 0,
            events: Vec::new(),
            likes: 0,
            shed: 0,
        }
    }

    pub(crate) fn since(&self) -> Duration {
        self.since
    }

    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Holds the comment, sheds it, or sheds another one in its place.
    pub(crate) fn offer(
        &mut self,
        comment: BatchComment,
        priority: Priority,
        comments_max: usize,
        random: &mut SplitMix64,
    ) -> Offered {
        let class = &mut self.classes[priority as usize];
        class.seen += 1;
        if self.held < comments_max {
            class.comments.push(comment);
            self.held += 1;
            return Offered::Held;
        }
        self.shed = self.shed.saturating_add(1);
        let lowest = self.lowest_class();
        if lowest == priority as usize {
            let class = &mut self.classes[lowest];
            let place = index_below(class.seen, random);
            if let Some(held) = class.comments.get_mut(place) {
                *held = comment;
            }
            Offered::Shed(priority)
        } else if lowest < priority as usize {
            let class = &mut self.classes[lowest];
            let place = index_below(class.comments.len(), random);
            class.comments.swap_remove(place);
            self.classes[priority as usize].comments.push(comment);
            Offered::Shed(Priority::ALL[lowest])
        } else {
            Offered::Shed(priority)
        }
    }

    /// Holds the event. Events arrive in order of position.
    pub(crate) fn event(&mut self, event: BatchEvent) {
        self.events.push(event);
    }

    /// Drops the comments with these ids. What was shed stays counted as shed.
    pub(crate) fn retract(&mut self, ids: &[Seq]) {
        for class in &mut self.classes {
            let before = class.comments.len();
            class.comments.retain(|comment| !ids.contains(&comment.seq));
            self.held -= before - class.comments.len();
        }
    }

    pub(crate) fn like(&mut self, count: u64) {
        self.likes = self.likes.saturating_add(count).min(LIKES_MAX);
    }

    pub(crate) fn drain(self) -> Drained {
        let mut comments = Vec::with_capacity(self.held);
        for class in self.classes {
            comments.extend(class.comments);
        }
        // The positions are distinct. Often they are in order already, which this sort finds in one pass.
        comments.sort_unstable_by_key(|comment| comment.seq);
        Drained {
            comments,
            events: self.events,
            likes: self.likes,
            shed: self.shed,
        }
    }

    fn lowest_class(&self) -> usize {
        self.classes
            .iter()
            .position(|class| !class.comments.is_empty())
            .expect("invariant: a full window holds some")
    }
}

/// The comments of one priority.
#[derive(Debug, Default)]
struct Class {
    comments: Vec<BatchComment>,
    /// Offered in this window, shed ones included.
    seen: usize,
}

fn index_below(len: usize, random: &mut SplitMix64) -> usize {
    usize::try_from(random.below(len as u64)).expect("invariant: below a usize")
}

/// The most likes a batch can carry: JSON numbers are exact up to here in every client.
pub(crate) const LIKES_MAX: u64 = (1 << 53) - 1;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use danmaku_wire::{Comment, CommentLimits, CommentText, Event, Fragment};
    use proptest::prelude::*;

    use super::*;

    fn fragment() -> Fragment {
        Comment::new(CommentText::new("x", &CommentLimits::default()).unwrap()).fragment()
    }

    fn fill(
        priorities: impl IntoIterator<Item = Priority>,
        comments_max: usize,
        random: &mut SplitMix64,
    ) -> Drained {
        let fragment = fragment();
        let mut pending = Pending::new(Duration::ZERO);
        for (at, priority) in priorities.into_iter().enumerate() {
            let before = pending.held();
            let comment = BatchComment {
                seq: Seq::new(at as u64 + 1),
                at_ms: 0,
                fragment: fragment.clone(),
            };
            match pending.offer(comment, priority, comments_max, random) {
                Offered::Held => assert_eq!(pending.held(), before + 1),
                Offered::Shed(_) => assert_eq!(pending.held(), before),
            }
        }
        pending.drain()
    }

    fn seqs(drained: &Drained) -> Vec<u64> {
        drained.comments.iter().map(|it| it.seq.value()).collect()
    }

    /// How often each of the comments is held over many windows.
    fn held_per_comment(priorities: &[Priority], comments_max: usize, windows: u32) -> Vec<u32> {
        let mut random = SplitMix64::new(7);
        let mut held = vec![0; priorities.len()];
        for _ in 0..windows {
            for seq in seqs(&fill(priorities.iter().copied(), comments_max, &mut random)) {
                held[usize::try_from(seq).unwrap() - 1] += 1;
            }
        }
        held
    }

    #[test]
    fn everything_is_held_up_to_the_cap() {
        let drained = fill(
            [Priority::Viewer, Priority::Staff, Priority::Viewer],
            3,
            &mut SplitMix64::new(1),
        );
        assert_eq!((seqs(&drained), drained.shed), (vec![1, 2, 3], 0));
    }

    #[test]
    fn the_lowest_priority_gives_way() {
        use Priority::{Member, Staff, Viewer};
        let check = |priorities: &[Priority], held: &[u64]| {
            let drained = fill(priorities.iter().copied(), 3, &mut SplitMix64::new(1));
            assert_eq!(seqs(&drained), held, "{priorities:?}");
            assert_eq!(drained.shed as usize, priorities.len() - 3);
        };
        check(&[Viewer, Member, Staff, Staff], &[2, 3, 4]);
        check(&[Staff, Staff, Member, Viewer], &[1, 2, 3]);
        check(&[Viewer, Viewer, Viewer, Staff, Member, Staff], &[4, 5, 6]);
        check(&[Staff, Viewer, Staff, Viewer, Member], &[1, 3, 5]);
    }

    #[test]
    fn inside_a_priority_all_have_the_same_chance() {
        // 10 of 100, in 10,000 windows: each is held 1,000 times, with a standard deviation of 30.
        let held = held_per_comment(&[Priority::Viewer; 100], 10, 10_000);
        assert!(held.iter().all(|n| (860..=1_140).contains(n)), "{held:?}");
    }

    #[test]
    fn the_chance_stays_the_same_when_higher_priorities_take_places() {
        // Every tenth is a member: all 10 members are held, and 10 of the 90 others, wherever they stand.
        let priorities: Vec<_> = (0..100)
            .map(|n| {
                if n % 10 == 9 {
                    Priority::Member
                } else {
                    Priority::Viewer
                }
            })
            .collect();
        let held = held_per_comment(&priorities, 20, 9_000);
        for (at, &n) in held.iter().enumerate() {
            match priorities[at] {
                Priority::Member => assert_eq!(n, 9_000),
                _ => assert!((860..=1_140).contains(&n), "comment {at} held {n} times"),
            }
        }
    }

    #[test]
    fn a_retracted_comment_makes_room_and_its_event_stays() {
        let mut random = SplitMix64::new(1);
        let mut pending = Pending::new(Duration::ZERO);
        let offer = |pending: &mut Pending, random: &mut SplitMix64, seq: u64| {
            let comment = BatchComment {
                seq: Seq::new(seq),
                at_ms: 0,
                fragment: fragment(),
            };
            pending.offer(comment, Priority::Viewer, 2, random)
        };
        assert_eq!(offer(&mut pending, &mut random, 1), Offered::Held);
        assert_eq!(offer(&mut pending, &mut random, 2), Offered::Held);
        let ids: Arc<[Seq]> = [Seq::new(1), Seq::new(9)].into();
        pending.retract(&ids);
        pending.event(BatchEvent {
            seq: Seq::new(3),
            event: Event::Retract { ids },
        });
        assert_eq!(pending.held(), 1);
        assert_eq!(offer(&mut pending, &mut random, 4), Offered::Held);
        let drained = pending.drain();
        assert_eq!((seqs(&drained), drained.shed), (vec![2, 4], 0));
        assert_eq!(drained.events.len(), 1);
    }

    #[test]
    fn likes_stop_at_what_json_numbers_can_tell() {
        let mut pending = Pending::new(Duration::ZERO);
        pending.like(7);
        pending.like(u64::MAX);
        pending.like(1);
        assert_eq!(pending.drain().likes, 9_007_199_254_740_991);
    }

    proptest! {
        /// Whatever the order, the window ends with as many of each priority as the cap leaves to it, every offered
        /// comment is held or counted, and what is held is in order.
        #[test]
        fn the_cap_goes_to_the_highest(
            classes in prop::collection::vec(0..PRIORITIES, 0..300),
            comments_max in 1usize..60,
            seed: u64,
        ) {
            let priorities: Vec<_> = classes.iter().map(|&class| Priority::ALL[class]).collect();
            let drained = fill(priorities.iter().copied(), comments_max, &mut SplitMix64::new(seed));
            let held = seqs(&drained);
            prop_assert!(held.is_sorted_by(|a, b| a < b));
            prop_assert_eq!(held.len() + drained.shed as usize, priorities.len());

            let mut expected = priorities.clone();
            expected.sort_unstable_by(|a, b| b.cmp(a));
            expected.truncate(comments_max);
            let count = |of: &mut dyn Iterator<Item = Priority>| {
                of.fold(BTreeMap::new(), |mut counts, priority| {
                    *counts.entry(priority).or_insert(0) += 1;
                    counts
                })
            };
            prop_assert_eq!(
                count(&mut held.iter().map(|&seq| priorities[usize::try_from(seq).unwrap() - 1])),
                count(&mut expected.into_iter())
            );
        }
    }
}
