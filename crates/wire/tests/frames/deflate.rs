//! Viewers of chained streams that join and skip at any time, each with one streaming inflater.

use std::collections::VecDeque;
use std::num::NonZeroU32;

use danmaku_wire::{
    BatchEvent, Chains, CompressionLevel, CompressionPolicy, Cursor, Dialect, Epoch,
    Event as RoomEvent, Form as WireForm, FrameSet, Gap, Sealer, Seq,
};
use flate2::{Decompress, FlushDecompress, Status};
use proptest::prelude::*;

use crate::room::{batch, payload};

/// A viewer as the server sees it, and the client at the other end with zlib's view of the stream.
struct Viewer {
    dialect: Dialect,
    cursor: Cursor,
    inflater: Decompress,
}

impl Viewer {
    /// Every other viewer speaks SSE.
    fn new(index: usize) -> Self {
        Self {
            dialect: if index.is_multiple_of(2) {
                Dialect::WsDeflate
            } else {
                Dialect::SseGzip
            },
            cursor: Cursor::default(),
            inflater: Decompress::new(false),
        }
    }

    /// Writes the set to the viewer, which must be able to inflate exactly this frame from its bytes.
    fn receive(&mut self, set: &FrameSet) -> Result<(), TestCaseError> {
        let bytes = set.form(self.cursor.choose(self.dialect, set));
        let json = String::from_utf8(set.json().to_vec()).unwrap();
        if self.dialect == Dialect::SseGzip {
            let id = format!("id: {}:{}", set.epoch(), set.seq());
            return self.inflate(bytes, &format!("{id}\ndata: {json}\n\n"));
        }
        let (opcode, input) = payload(bytes);
        if set.is_gap() {
            prop_assert_eq!((opcode, input), (1, set.json()));
            return Ok(());
        }
        prop_assert_eq!(opcode, 2);
        self.inflate(input, &format!("{json}\n"))
    }

    /// Writes a message other than a frame.
    fn receive_message(&mut self) -> Result<(), TestCaseError> {
        if self.dialect.message_ends_chain() {
            self.cursor.skipped();
            self.inflate(&self.dialect.heartbeat(), ":\n\n")?;
        }
        Ok(())
    }

    fn inflate(&mut self, mut input: &[u8], expected: &str) -> Result<(), TestCaseError> {
        let mut out = Vec::with_capacity(expected.len() + 64);
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
                "the frame has more bytes than its text"
            );
            input = &input[consumed..];
        }
        prop_assert_eq!(String::from_utf8(out).unwrap(), expected);
        Ok(())
    }
}

/// An event in the room between two ticks.
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
    /// A viewer is sent a gap.
    Gap {
        viewer: usize,
    },
    /// A viewer is sent a message other than a frame.
    Message {
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
        1 => (0..8_usize).prop_map(|viewer| Event::Gap { viewer }),
        1 => (0..8_usize).prop_map(|viewer| Event::Message { viewer }),
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
                let has = |dialect| viewers.iter().any(|viewer| viewer.dialect == dialect);
                let chains = Chains {
                    ws_deflate: has(Dialect::WsDeflate),
                    sse_gzip: has(Dialect::SseGzip),
                };
                let set = sealer.seal(batch(after, &texts, shed), chains);
                after = set.seq();
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
            Event::Join => viewers.push(Viewer::new(viewers.len())),
            Event::LeaveAll => viewers.clear(),
            Event::Replay { viewer } => {
                if let Some(viewer) = viewers.get_mut(viewer) {
                    let replayed = batch(Seq::ZERO, &["replayed", "草"], 0);
                    viewer.receive(&FrameSet::replay(replayed, policy))?;
                }
            }
            Event::Gap { viewer } => {
                if let Some(viewer) = viewers.get_mut(viewer) {
                    viewer.receive(&FrameSet::gap(gap(after), policy))?;
                }
            }
            Event::Message { viewer } => {
                if let Some(viewer) = viewers.get_mut(viewer) {
                    viewer.receive_message()?;
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

fn gap(after: Seq) -> Gap {
    Gap {
        epoch: Epoch::new(7),
        after,
        seq: after.plus(9),
        events: vec![BatchEvent {
            seq: after.plus(5),
            event: RoomEvent::Retract {
                ids: [after.next()].into(),
            },
        }],
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(300)))]

    #[test]
    fn a_viewer_decodes_every_batch_it_is_sent(
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
        let chains = Chains {
            ws_deflate: true,
            sse_gzip: true,
        };
        let mut sealer = Sealer::new(policy);
        let mut after = Seq::ZERO;
        let mut sets = Vec::new();
        for _ in 0..joined + expected.len() {
            let set = sealer.seal(batch(after, &["草", "888888"], 0), chains);
            after = set.seq();
            sets.push(set);
        }
        for dialect in [Dialect::WsDeflate, Dialect::SseGzip] {
            let mut cursor = Cursor::default();
            for (set, &form) in sets[joined..].iter().zip(expected) {
                if form == Skipped {
                    cursor.skipped();
                    continue;
                }
                let chosen = match cursor.choose(dialect, set) {
                    WireForm::WsDeflateChained | WireForm::SseGzipChained => Chained,
                    WireForm::WsDeflate | WireForm::SseGzip => Independent,
                    other => panic!("{other:?}"),
                };
                assert_eq!(chosen, form, "{dialect:?}, batch after {}", set.after());
            }
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
