//! Crafted streams: each way of failing is caught, and nothing else is.

use danmaku_wire::{
    Batch, Comment, CommentLimits, CommentText, CompressionPolicy, DeflateCursor, DeflateViewers,
    FrameSet, Sealer, Seq, frame_for,
};

use super::*;
use crate::clock::Clock;
use crate::swarm::ServerFrame;

const WINDOW_MS: u64 = 1000;
const LATE: Duration = Duration::from_millis(500);

/// A room whose comments are `comment 1`, `comment 2`, …, and one auditor.
struct Stand {
    auditor: Auditor,
    ledger: Arc<Ledger>,
    sealer: Sealer,
    now: Moment,
}

impl Stand {
    fn new() -> Self {
        let ledger = Arc::new(Ledger::new(1));
        let judge = Arc::new(Judge::new(Clock::start(), LATE));
        assert!(judge.set_window_ms(WINDOW_MS));
        let auditor = Auditor::new(Arc::clone(&ledger), judge);
        let now = Moment::from_micros(10_000_000);
        Self {
            auditor,
            ledger,
            sealer: Sealer::new(CompressionPolicy::default()),
            now,
        }
    }

    /// Enters comments as posted just now and acknowledged.
    fn acknowledge(&self, positions: std::ops::RangeInclusive<u64>) {
        for position in positions {
            let text = format!("comment {position}");
            let shape = crate::fingerprint::CommentShape {
                user: None,
                text: &text,
                mode: "scroll",
                color: 0xFF_FFFF,
                size: 25,
            };
            self.ledger
                .room(0)
                .acknowledge(Some(1), position, self.now, shape.fingerprint())
                .unwrap();
        }
    }

    /// Seals a batch of `(position, number in the text)`.
    fn seal(&mut self, first: u64, shed: u32, comments: &[(u64, u64)]) -> FrameSet {
        let batch = Self::craft(first, shed, comments);
        self.sealer.seal(&batch, DeflateViewers::Some)
    }

    fn craft(first: u64, shed: u32, comments: &[(u64, u64)]) -> Batch {
        let fragment = |number: u64| {
            let text =
                CommentText::new(&format!("comment {number}"), &CommentLimits::default()).unwrap();
            Comment::new(text).fragment()
        };
        let comments = comments
            .iter()
            .map(|(position, number)| (Seq::new(*position), fragment(*number)))
            .collect();
        Batch {
            first: Seq::new(first),
            ts_ms: 0,
            viewers: 1,
            likes: 0,
            shed,
            comments,
        }
    }

    fn plain(&mut self, first: u64, last: u64) -> FrameSet {
        let batch = Self::batch(first, last);
        self.sealer.seal(&batch, DeflateViewers::Some)
    }

    fn batch(first: u64, last: u64) -> Batch {
        let comments: Vec<(u64, u64)> = (first..=last)
            .map(|position| (position, position))
            .collect();
        Self::craft(first, 0, &comments)
    }

    fn give(
        &mut self,
        watch: &mut Watch,
        encoding: Encoding,
        cursor: &mut DeflateCursor,
        set: &FrameSet,
    ) {
        let bytes = frame_for(encoding, cursor, set).to_vec();
        let payload = ServerFrame::parse(&bytes).unwrap().unwrap().payload;
        self.auditor.batch(
            watch,
            Carrier {
                room: 0,
                encoding,
                payload,
            },
            self.now,
        );
    }

    fn read(&mut self, watch: &mut Watch, set: &FrameSet) {
        self.give(
            watch,
            Encoding::Identity,
            &mut DeflateCursor::default(),
            set,
        );
    }

    fn finish(mut self, watch: &Watch, end: End) -> Tally {
        self.auditor.finish(watch, 0, end);
        self.auditor.into_findings().tally
    }
}

/// A batch by its first position, its shed count and its comments as `(position, number)`.
type Crafted<'a> = (u64, u32, &'a [(u64, u64)]);

/// Runs one viewer over `frames`, each `(first, shed, [(position, number)])`, with `posted` acknowledged comments.
fn audit(posted: u64, frames: &[Crafted<'_>]) -> Tally {
    let mut stand = Stand::new();
    stand.acknowledge(1..=posted);
    let mut watch = Auditor::joined(0, Moment::default(), None);
    for (first, shed, comments) in frames {
        let set = stand.seal(*first, *shed, comments);
        stand.read(&mut watch, &set);
    }
    stand.finish(&watch, End::Open)
}

fn clean(delivered: u64) -> Tally {
    Tally {
        delivered,
        ..Tally::default()
    }
}

#[test]
fn a_clean_stream_is_clean() {
    let tally = audit(
        4,
        &[
            (1, 0, &[(1, 1), (2, 2)]),
            (3, 0, &[(3, 3)]),
            (4, 0, &[(4, 4)]),
        ],
    );
    assert_eq!(tally, clean(4));
    assert!(tally.is_clean());
}

#[test]
fn a_missing_frame_is_lost() {
    let tally = audit(4, &[(1, 0, &[(1, 1)]), (4, 0, &[(4, 4)])]);
    assert_eq!(
        tally,
        Tally {
            lost: 2,
            ..clean(2)
        }
    );
    assert!(!tally.is_clean());
}

#[test]
fn a_missing_last_frame_is_lost() {
    assert_eq!(
        audit(4, &[(1, 0, &[(1, 1)])]),
        Tally {
            lost: 3,
            ..clean(1)
        }
    );
}

#[test]
fn a_comment_missing_inside_a_frame_is_lost() {
    // The frame carries 1 and 3 and claims to cover two positions: 2 shows as uncovered, 3 as early.
    let tally = audit(3, &[(1, 0, &[(1, 1), (3, 3)]), (4, 0, &[])]);
    assert!(tally.lost >= 1 && !tally.is_clean(), "{tally:?}");
}

#[test]
fn a_repeated_frame_is_duplicate() {
    let frame: (u64, u32, &[(u64, u64)]) = (1, 0, &[(1, 1), (2, 2)]);
    let tally = audit(2, &[frame, frame]);
    assert_eq!(tally.duplicate, 2, "{tally:?}");
}

#[test]
fn a_comment_repeated_in_the_place_of_another_is_duplicate_and_lost() {
    let tally = audit(3, &[(1, 0, &[(1, 1), (2, 1), (3, 3)])]);
    assert_eq!(
        tally,
        Tally {
            duplicate: 1,
            lost: 1,
            ..clean(2)
        }
    );
}

#[test]
fn frames_in_the_wrong_order_are_reordered() {
    let tally = audit(
        3,
        &[(1, 0, &[(1, 1)]), (3, 0, &[(3, 3)]), (2, 0, &[(2, 2)])],
    );
    assert_eq!(
        tally,
        Tally {
            reordered: 1,
            ..clean(3)
        }
    );
}

#[test]
fn two_comments_swapped_inside_a_frame_are_reordered() {
    let tally = audit(3, &[(1, 0, &[(1, 1), (2, 3), (3, 2)])]);
    assert_eq!(
        tally,
        Tally {
            reordered: 2,
            ..clean(1)
        }
    );
}

#[test]
fn a_comment_nobody_posted_like_this_is_corrupt() {
    let tally = audit(2, &[(1, 0, &[(1, 1), (2, 777)])]);
    assert_eq!(
        tally,
        Tally {
            corrupt: 1,
            ..clean(1)
        }
    );
}

#[test]
fn comments_of_others_are_foreign_and_no_fault() {
    let tally = audit(1, &[(1, 0, &[(1, 1), (2, 9)])]);
    assert_eq!(
        tally,
        Tally {
            foreign: 1,
            ..clean(1)
        }
    );
    assert!(tally.is_clean());
}

#[test]
fn shed_positions_are_accounted_for() {
    let tally = audit(5, &[(1, 2, &[(1, 1), (4, 4)]), (5, 0, &[(5, 5)])]);
    assert_eq!(
        tally,
        Tally {
            shed: 2,
            ..clean(3)
        }
    );
    assert!(tally.is_clean());
}

#[test]
fn a_gap_accounts_for_skipped_frames_and_the_stream_goes_on() {
    let mut stand = Stand::new();
    stand.acknowledge(1..=5);
    let frames = [stand.plain(1, 1), stand.plain(4, 5)];
    let mut watch = Auditor::joined(0, Moment::default(), None);
    stand.read(&mut watch, &frames[0]);
    stand.auditor.gap(&mut watch, 0, Encoding::Identity, (2, 3));
    stand.read(&mut watch, &frames[1]);
    let tally = stand.finish(&watch, End::Open);
    assert_eq!(
        tally,
        Tally {
            gaps: 1,
            skipped: 2,
            ..clean(3)
        }
    );
}

#[test]
fn late_counts_from_the_scheduled_time_beyond_the_window() {
    let mut stand = Stand::new();
    stand.acknowledge(1..=2);
    let frames = [stand.plain(1, 1), stand.plain(2, 2)];
    let mut watch = Auditor::joined(0, Moment::default(), None);
    stand.now = stand.now.after(Duration::from_millis(WINDOW_MS + 499));
    stand.read(&mut watch, &frames[0]);
    stand.now = stand.now.after(Duration::from_millis(2));
    stand.read(&mut watch, &frames[1]);
    assert_eq!(
        stand.finish(&watch, End::Open),
        Tally {
            late: 1,
            ..clean(2)
        }
    );
}

#[test]
fn what_an_evicted_viewer_misses_is_not_lost_and_what_a_broken_one_misses_is() {
    for (end, expected) in [
        (
            End::Told,
            Tally {
                after_close: 2,
                ..clean(1)
            },
        ),
        (
            End::Silent,
            Tally {
                lost: 2,
                ..clean(1)
            },
        ),
    ] {
        let mut stand = Stand::new();
        stand.acknowledge(1..=3);
        let frame = stand.plain(1, 1);
        let mut watch = Auditor::joined(0, Moment::default(), None);
        stand.read(&mut watch, &frame);
        assert_eq!(stand.finish(&watch, end), expected, "{end:?}");
    }
}

#[test]
fn every_encoding_is_audited_without_an_inflater_per_viewer() {
    let mut stand = Stand::new();
    stand.acknowledge(1..=80);
    let mut viewers: Vec<(Watch, Encoding, DeflateCursor)> = (0..9)
        .map(|index| {
            let encoding = Encoding::ALL[index % 3];
            let sampled = (index < 3).then_some(encoding);
            (
                Auditor::joined(0, Moment::default(), sampled),
                encoding,
                DeflateCursor::default(),
            )
        })
        .collect();
    for first in (1..=80).step_by(2) {
        let set = stand.plain(first, first + 1);
        for (watch, encoding, cursor) in viewers.iter_mut().rev() {
            stand.give(watch, *encoding, cursor, &set);
        }
    }
    for (watch, ..) in &viewers {
        stand.auditor.finish(watch, 0, End::Open);
    }
    assert_eq!(stand.auditor.into_findings().tally, clean(9 * 80));
}

#[test]
fn a_deflate_viewer_that_joins_and_skips_in_mid_group_is_followed() {
    let mut stand = Stand::new();
    stand.acknowledge(1..=40);
    let mut steady = (
        Auditor::joined(0, Moment::default(), None),
        DeflateCursor::default(),
    );
    let mut skipping = (
        Auditor::joined(10, stand.now, None),
        DeflateCursor::default(),
    );
    for position in 1..=40 {
        let set = stand.plain(position, position);
        stand.give(&mut steady.0, Encoding::Deflate, &mut steady.1, &set);
        match position {
            0..=10 => {}
            20 => {
                skipping.1.skipped();
                stand
                    .auditor
                    .gap(&mut skipping.0, 0, Encoding::Deflate, (20, 20));
            }
            _ => stand.give(&mut skipping.0, Encoding::Deflate, &mut skipping.1, &set),
        }
    }
    stand.auditor.finish(&steady.0, 0, End::Open);
    stand.auditor.finish(&skipping.0, 0, End::Open);
    let tally = stand.auditor.into_findings().tally;
    assert_eq!(
        tally,
        Tally {
            gaps: 1,
            skipped: 1,
            ..clean(40 + 29)
        }
    );
}

/// Regression: comments that were posted after a viewer had joined were taken for what it had missed.
#[test]
fn a_joined_that_claims_more_than_there_is_contradicts_itself() {
    let mut stand = Stand::new();
    let joined_at = stand.now;
    stand.now = stand.now.after(Duration::from_secs(1));
    stand.acknowledge(1..=3);
    let honest = Auditor::joined(0, joined_at, None);
    assert!(!stand.auditor.claimed_too_much(&honest, 0));
    let watch = Auditor::joined(1_000_000_000, joined_at, None);
    assert_eq!(stand.finish(&watch, End::Open).contradicted, 1);
}

/// Regression: numbers that only a broken server sends wrapped to a clean result.
#[test]
fn absurd_positions_are_faults() {
    let mut stand = Stand::new();
    let mut watch = Auditor::joined(0, stand.now, None);
    let encoding = Encoding::Identity;
    for (from, to) in [(1, 1 << 63), (3, 2), (1, u64::MAX)] {
        stand.auditor.gap(&mut watch, 0, encoding, (from, to));
    }
    let set = Sealer::new(CompressionPolicy::default()).seal(
        &Stand::batch((1 << 63) + 1, (1 << 63) + 2),
        DeflateViewers::Some,
    );
    stand.read(&mut watch, &set);
    let tally = stand.finish(&watch, End::Open);
    assert_eq!((tally.contradicted, tally.undecodable), (3, 1));
}

/// Regression: enough gaps over what had been delivered wrapped to none.
#[test]
fn claims_without_bounds_never_wrap_to_none() {
    let mut stand = Stand::new();
    let mut watch = Auditor::joined(0, stand.now, None);
    for _ in 0..3000 {
        let all = (1, POSITION_MAX);
        stand.auditor.gap(&mut watch, 0, Encoding::Identity, all);
    }
    stand.auditor.gap(&mut watch, 0, Encoding::Identity, (2, 1));
    let tally = stand.finish(&watch, End::Open);
    assert_eq!(tally.skipped, POSITION_MAX);
    assert_eq!((tally.contradicted, tally.faults()), (u64::MAX, u64::MAX));
}

/// Regression: a comment whose acknowledgement was slow was compared with nothing.
#[test]
fn a_slow_acknowledgement_is_waited_for() {
    let mut stand = Stand::new();
    let mut watch = Auditor::joined(0, stand.now, None);
    let set = stand.plain(1, 2);
    stand.read(&mut watch, &set);
    let later = stand.now.after(Duration::from_secs(5));
    stand.auditor.sweep(later);
    stand.acknowledge(1..=2);
    stand.auditor.sweep(later.after(Duration::from_secs(1)));
    assert_eq!(stand.finish(&watch, End::Open), clean(2));
}

/// Regression: replayed batches were taken for a part of what other viewers had, whose chained forms then did not decode.
#[test]
fn a_replay_to_one_viewer_leaves_the_others_as_they_were() {
    let mut stand = Stand::new();
    stand.acknowledge(1..=20);
    let mut steady = (
        Auditor::joined(0, Moment::default(), None),
        DeflateCursor::default(),
    );
    let mut back = (
        Auditor::joined(0, Moment::default(), None),
        DeflateCursor::default(),
    );
    for position in 1..=20 {
        let set = stand.plain(position, position);
        stand.give(&mut steady.0, Encoding::Deflate, &mut steady.1, &set);
        match position {
            // Its connection is broken.
            5..=9 => {}
            10 => {
                Auditor::resumed(&mut back.0, 10, stand.now, None);
                back.1 = DeflateCursor::default();
                let merged =
                    danmaku_wire::seal_replay(&Stand::batch(5, 10), CompressionPolicy::default());
                let bytes = merged.independent().to_vec();
                let payload = ServerFrame::parse(&bytes).unwrap().unwrap().payload;
                let carrier = Carrier {
                    room: 0,
                    encoding: Encoding::Deflate,
                    payload,
                };
                stand.now = stand.now.after(Duration::from_secs(5));
                stand.auditor.batch(&mut back.0, carrier, stand.now);
            }
            _ => stand.give(&mut back.0, Encoding::Deflate, &mut back.1, &set),
        }
    }
    stand.auditor.finish(&steady.0, 0, End::Open);
    stand.auditor.finish(&back.0, 0, End::Open);
    let findings = stand.auditor.into_findings();
    assert_eq!(
        Tally {
            late: 0,
            ..findings.tally
        },
        Tally {
            replayed: 6,
            ..clean(40)
        }
    );
    assert_eq!(findings.stages[0].each.summary().count, 40 - 6);
}

#[test]
fn a_chained_form_after_a_skip_is_undecodable() {
    let mut stand = Stand::new();
    stand.acknowledge(1..=6);
    let mut steady = (
        Auditor::joined(0, Moment::default(), None),
        DeflateCursor::default(),
    );
    let mut skipping = (
        Auditor::joined(0, Moment::default(), None),
        DeflateCursor::default(),
    );
    for position in 1..=6 {
        let set = stand.plain(position, position);
        stand.give(&mut steady.0, Encoding::Deflate, &mut steady.1, &set);
        if position == 3 {
            stand
                .auditor
                .gap(&mut skipping.0, 0, Encoding::Deflate, (3, 3));
        } else {
            // The broken server forgets that this viewer skipped and goes on with chained forms.
            let bytes = set.chained().unwrap().to_vec();
            let payload = ServerFrame::parse(&bytes).unwrap().unwrap().payload;
            let carrier = Carrier {
                room: 0,
                encoding: Encoding::Deflate,
                payload,
            };
            stand.auditor.batch(&mut skipping.0, carrier, stand.now);
        }
    }
    assert!(stand.auditor.into_findings().tally.undecodable >= 1);
}

#[test]
fn bytes_that_do_not_decode_are_counted() {
    let mut stand = Stand::new();
    let mut watch = Auditor::joined(0, Moment::default(), None);
    for encoding in Encoding::ALL {
        let carrier = Carrier {
            room: 0,
            encoding,
            payload: b"\xFF\xFFnonsense",
        };
        stand.auditor.batch(&mut watch, carrier, stand.now);
    }
    assert_eq!(
        stand.auditor.into_findings().tally,
        Tally {
            undecodable: 3,
            ..Tally::default()
        }
    );
}

#[test]
fn latencies_are_taken_once_and_old_frames_are_forgotten() {
    let mut stand = Stand::new();
    stand.acknowledge(1..=2);
    let first = stand.plain(1, 1);
    let mut watch = Auditor::joined(0, Moment::default(), None);
    stand.now = stand.now.after(Duration::from_millis(30));
    stand.read(&mut watch, &first);
    for second in 1..=70 {
        stand
            .auditor
            .sweep(stand.now.after(Duration::from_secs(second)));
    }
    assert!(stand.auditor.contents.is_empty() && stand.auditor.forms.is_empty());
    let second = stand.plain(2, 2);
    stand.read(&mut watch, &second);
    stand.auditor.finish(&watch, 0, End::Open);
    let findings = stand.auditor.into_findings();
    assert_eq!(findings.tally, clean(2));
    let summary = findings.stages[0].each.summary();
    assert_eq!(summary.count, 2);
    assert!((summary.max_ms - 30.0).abs() < 0.1, "{summary:?}");
}

#[test]
fn equal_chained_bytes_with_different_texts_are_told_apart() {
    // Without a time stamp that counts on, a chained batch of one group often has the very bytes of one in the next.
    let mut stand = Stand::new();
    stand.acknowledge(1..=300);
    let mut viewers: Vec<(Watch, DeflateCursor)> = (0..2)
        .map(|_| {
            (
                Auditor::joined(0, Moment::default(), None),
                DeflateCursor::default(),
            )
        })
        .collect();
    for position in 1..=300 {
        let set = stand.plain(position, position);
        for (watch, cursor) in &mut viewers {
            stand.give(watch, Encoding::Deflate, cursor, &set);
        }
    }
    for (watch, _) in &viewers {
        stand.auditor.finish(watch, 0, End::Open);
    }
    assert_eq!(stand.auditor.into_findings().tally, clean(600));
}
