//! A viewer of `deflate` with one streaming inflater, which joins and skips whenever it likes.

use std::collections::VecDeque;
use std::num::NonZeroU32;

use danmaku_wire::{
    Batch, CompressionLevel, CompressionPolicy, DeflateCursor, DeflateViewers, Encoding, FrameSet,
    Sealer, Seq, frame_for, seal_replay,
};
use flate2::{Decompress, FlushDecompress, Status};
use proptest::prelude::*;

use crate::room::{batch, payload};

/// A viewer as the server sees it, and the client at the other end with zlib's view of the stream.
struct Viewer {
    cursor: DeflateCursor,
    inflater: Decompress,
}

impl Viewer {
    fn new() -> Self {
        Self {
            cursor: DeflateCursor::default(),
            inflater: Decompress::new(false),
        }
    }

    /// Writes the set to the viewer: right after its own bytes the batch must be out, whole, and nothing else.
    fn receive(&mut self, set: &FrameSet) -> Result<(), TestCaseError> {
        let (opcode, mut input) = payload(frame_for(Encoding::Deflate, &mut self.cursor, set));
        prop_assert_eq!(opcode, 2);
        let mut out = Vec::with_capacity(set.json().len() + 64);
        while !input.is_empty() {
            let before = self.inflater.total_in();
            let status = self
                .inflater
                .decompress_vec(input, &mut out, FlushDecompress::Sync);
            let status = status.map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert_ne!(status, Status::StreamEnd, "the stream must stay open");
            let consumed = (self.inflater.total_in() - before) as usize;
            prop_assert!(
                consumed > 0 || out.len() < out.capacity(),
                "the batch has more bytes than its JSON"
            );
            input = &input[consumed..];
        }
        prop_assert_eq!(out.split_last(), Some((&b'\n', set.json())));
        Ok(())
    }
}

/// What happens in the room between two ticks.
#[derive(Debug, Clone)]
enum Event {
    /// A batch is sealed; the viewers whose bit is set skip it.
    Seal {
        texts: Vec<String>,
        shed: u32,
        skips: u8,
    },
    Join,
    /// All leave, so the room has no deflate viewers for a while.
    LeaveAll,
    /// A batch made for one viewer only is written to it.
    Replay {
        viewer: usize,
    },
    /// A frame of some time ago is written to a viewer again, as when a new one is shown the room's history.
    History {
        viewer: usize,
        ago: usize,
    },
}

fn event() -> impl Strategy<Value = Event> {
    // Few words, so that batches refer to each other a lot; long runs, so that the window slides.
    let text = prop_oneof![
        8 => prop::sample::select(vec!["草", "888888", "哈哈哈哈", "前方高能", "kusa", "lol \"quoted\""]).prop_map(str::to_owned),
        2 => "[a-c弾幕🎉]{1,12}",
        1 => "[a-z]{150,200}",
    ];
    let texts = prop_oneof![6 => prop::collection::vec(text.clone(), 0..8), 1 => prop::collection::vec(text, 100..220)];
    prop_oneof![
        12 => (texts, 0..3_u32, any::<u8>(), any::<u8>(), any::<u8>())
            .prop_map(|(texts, shed, a, b, c)| Event::Seal { texts, shed, skips: a & b & c }),
        3 => Just(Event::Join),
        1 => Just(Event::LeaveAll),
        1 => (0..8_usize).prop_map(|viewer| Event::Replay { viewer }),
        1 => (0..8_usize, 0..6_usize).prop_map(|(viewer, ago)| Event::History { viewer, ago }),
    ]
}

fn play(events: Vec<Event>, group_batches: u32, level: u8) -> Result<(), TestCaseError> {
    let policy = CompressionPolicy {
        level: CompressionLevel::new(level).unwrap(),
        group_batches: NonZeroU32::new(group_batches).unwrap(),
    };
    let mut sealer = Sealer::new(policy);
    let mut viewers: Vec<Viewer> = Vec::new();
    let mut history: VecDeque<FrameSet> = VecDeque::new();
    let mut after = Seq::ZERO;
    for event in events {
        match event {
            Event::Seal { texts, shed, skips } => {
                let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
                let deflate = if viewers.is_empty() {
                    DeflateViewers::None
                } else {
                    DeflateViewers::Some
                };
                let set = sealer.seal(&batch(after, &texts, shed), deflate);
                after = set.last();
                for (index, viewer) in viewers.iter_mut().enumerate() {
                    if index < 8 && skips & (1 << index) != 0 {
                        viewer.cursor.skipped();
                    } else {
                        viewer.receive(&set)?;
                    }
                }
                history.push_front(set);
                history.truncate(6);
            }
            Event::Join => viewers.push(Viewer::new()),
            Event::LeaveAll => viewers.clear(),
            Event::Replay { viewer } => {
                if let Some(viewer) = viewers.get_mut(viewer) {
                    viewer.receive(&seal_replay(
                        &batch(Seq::ZERO, &["replayed", "草"], 0),
                        policy,
                    ))?;
                }
            }
            Event::History { viewer, ago } => {
                if let (Some(viewer), Some(set)) = (viewers.get_mut(viewer), history.get(ago)) {
                    viewer.receive(set)?;
                }
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_batch_a_viewer_was_sent_is_decoded(
        events in prop::collection::vec(event(), 1..80),
        group_batches in prop_oneof![1..8_u32, Just(30)],
        level in 1..=9_u8,
    ) {
        play(events, group_batches, level)?;
    }
}

/// Which form a viewer gets, batch by batch.
#[test]
fn a_viewer_that_skipped_gets_independent_forms_until_the_next_group() {
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Form {
        Chained,
        Independent,
        Skipped,
    }
    use Form::{Chained, Independent, Skipped};

    /// `expected` is for the batches from `joined` on, in groups of four.
    fn check(joined: usize, expected: &[Form]) {
        let policy = CompressionPolicy {
            group_batches: NonZeroU32::new(4).unwrap(),
            ..CompressionPolicy::default()
        };
        let mut sealer = Sealer::new(policy);
        let mut cursor = DeflateCursor::default();
        let mut after = Seq::ZERO;
        let mut sets = Vec::new();
        for _ in 0..joined + expected.len() {
            let next: Batch = batch(after, &["草", "888888"], 0);
            sets.push(sealer.seal(&next, DeflateViewers::Some));
            after = next.last();
        }
        for (set, &form) in sets[joined..].iter().zip(expected) {
            if form == Skipped {
                cursor.skipped();
                continue;
            }
            let bytes = frame_for(Encoding::Deflate, &mut cursor, set);
            let chosen = if bytes.as_ptr() == set.chained().unwrap().as_ptr() {
                Chained
            } else {
                Independent
            };
            assert_eq!(chosen, form, "batch {}", set.first());
        }
    }
    check(0, &[Chained, Chained, Chained, Chained, Chained]);
    check(
        1,
        &[Independent, Independent, Independent, Chained, Chained],
    );
    check(
        0,
        &[Chained, Skipped, Independent, Independent, Chained, Chained],
    );
    check(0, &[Chained, Chained, Chained, Skipped, Chained]);
    check(
        0,
        &[
            Chained,
            Chained,
            Chained,
            Chained,
            Skipped,
            Independent,
            Independent,
            Independent,
            Chained,
        ],
    );
    check(3, &[Independent, Chained, Chained]);
}
