//! What a seed makes of a world.

use std::time::Duration;

use danmaku_engine::{Flush, RoomConfig, SplitMix64};
use danmaku_log::{Double, DoubleConfig, LogConfig, Store};
use danmaku_wire::CompressionPolicy;

/// The settings of one world.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) log: LogConfig,
    pub(crate) room: RoomConfig,
    pub(crate) store: Option<DoubleConfig>,
    /// Whether the store is told to drop its oldest entries now and then.
    pub(crate) drops: bool,
    pub(crate) outages: bool,
    pub(crate) epochs: bool,
    pub(crate) nodes: usize,
    pub(crate) posters: u64,
    pub(crate) posts_each: u64,
    pub(crate) pause_ms_max: u64,
    pub(crate) viewers: u64,
    /// Bytes of comments in a history.
    pub(crate) history_bytes_max: usize,
}

impl Plan {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = SplitMix64::new(seed);
        let store = match seed % 4 {
            0 => None,
            1 => Some(DoubleConfig::file(seed)),
            2 => Some(DoubleConfig::stream(seed)),
            _ => Some(DoubleConfig {
                entries_max: 20 + below(&mut random, 60),
                ..DoubleConfig::stream(seed)
            }),
        };
        let faulty = random.below(4) > 0;
        let entries_max = 4 + below(&mut random, 60);
        Self {
            log: LogConfig {
                entries_max,
                bytes_max: if random.below(3) == 0 { 600 } else { 1 << 20 },
                tail_lag_max: 1 + below(&mut random, 30),
            },
            room: RoomConfig {
                window: Duration::from_millis(50 + random.below(900)),
                flush: if random.below(2) == 0 {
                    Flush::Leading
                } else {
                    Flush::Fixed
                },
                batch_comments_max: 2 + below(&mut random, 30),
                history_frames_max: below(&mut random, 7),
                history_bytes_max: 1 << 20,
                phase: Duration::from_millis(random.below(50)),
                seed,
                compression: CompressionPolicy::default(),
            },
            drops: store.is_some() && faulty && random.below(2) == 0,
            outages: store.is_some() && faulty && random.below(2) == 0,
            epochs: store.is_some() && faulty && random.below(3) == 0,
            nodes: if store.is_some() {
                1 + below(&mut random, 2)
            } else {
                1
            },
            store,
            posters: 1 + random.below(4),
            posts_each: 20 + random.below(40),
            pause_ms_max: 20 + random.below(400),
            viewers: 3 + random.below(5),
            history_bytes_max: if random.below(2) == 0 { 100 } else { 1 << 20 },
        }
    }

    pub(crate) fn store(&self) -> (Store, Option<Double>) {
        match self.store {
            None => (Store::None, None),
            Some(config) => {
                let double = Double::new(config);
                (Store::Double(double.clone()), Some(double))
            }
        }
    }

    /// Whether entries may be gone before everybody has seen them.
    pub(crate) fn forgets(&self) -> bool {
        self.drops
            || self
                .store
                .is_none_or(|store| store.entries_max < usize::MAX)
    }

    /// Whether a read may fail again and again.
    pub(crate) fn fails(&self) -> bool {
        self.outages || self.store.is_some_and(|store| store.failed_permille > 0)
    }
}

pub(crate) fn below(random: &mut SplitMix64, bound: u64) -> usize {
    usize::try_from(random.below(bound)).unwrap()
}
