//! Sealing: from a batch to its frame set, and the histories that a room's viewers share.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;

use crate::batch::Batch;
use crate::compress::{CompressionPolicy, DEFLATE_WINDOW_BYTES};
use crate::frame::{Chain, FrameSet, GroupId, Link};

/// Which streams of a room have viewers now: only these get chained forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Chains {
    /// Viewers of [`Dialect::WsDeflate`](crate::Dialect::WsDeflate).
    pub ws_deflate: bool,
    /// Viewers of [`Dialect::SseGzip`](crate::Dialect::SseGzip).
    pub sse_gzip: bool,
}

/// Seals a room's batches. There is one per room.
///
/// A compressor that lived as long as its group would cost some 270 KB per room. The same bytes come out of a pooled
/// one that is given the group's text so far as a dictionary, so a room keeps at most 32 KiB per stream, and nothing
/// without viewers of it.
#[derive(Debug)]
pub struct Sealer {
    policy: CompressionPolicy,
    groups: [Option<Group>; Chain::ALL.len()],
}

#[derive(Debug)]
struct Group {
    id: GroupId,
    next: u32,
    window: Vec<u8>,
}

impl Sealer {
    /// A sealer outside of any group.
    #[must_use]
    pub fn new(policy: CompressionPolicy) -> Self {
        Self {
            policy,
            groups: Default::default(),
        }
    }

    /// What it compresses with.
    #[must_use]
    pub fn policy(&self) -> CompressionPolicy {
        self.policy
    }

    /// Seals the next batch of the room.
    ///
    /// The chained forms are made here, because they need the group's text, which is not kept; all others when asked
    /// for.
    #[must_use]
    pub fn seal(&mut self, batch: Batch, chains: Chains) -> FrameSet {
        let mut set = FrameSet::batch(batch, self.policy.level);
        for chain in Chain::ALL {
            if chains.has(chain) {
                let text = set.chain_text(chain);
                let (link, packed) = self.extend(chain, &text);
                set.link(chain, link, packed);
            } else {
                // Later viewers could not use the history, so it ends here.
                self.groups[chain as usize] = None;
            }
        }
        set
    }

    fn extend(&mut self, chain: Chain, text: &[u8]) -> (Link, Bytes) {
        let slot = &mut self.groups[chain as usize];
        let group = slot.get_or_insert_with(Group::start);
        let packed = chain.pack(self.policy.level, &group.window, text);
        let link = Link {
            group: group.id,
            index: group.next,
        };
        group.next += 1;
        if group.next >= self.policy.group_batches.get() {
            *slot = None;
        } else {
            group.remember(text);
        }
        (link, packed)
    }

    /// Bytes of text it keeps for the next chained forms.
    #[must_use]
    pub fn window_bytes_held(&self) -> usize {
        self.groups
            .iter()
            .flatten()
            .map(|group| group.window.capacity())
            .sum()
    }
}

impl Chains {
    const fn has(self, chain: Chain) -> bool {
        match chain {
            Chain::WsDeflate => self.ws_deflate,
            Chain::SseGzip => self.sse_gzip,
        }
    }
}

impl Group {
    fn start() -> Self {
        // Unique in the process and not only in the room: a cursor must never take the group of a room that was
        // retired and created anew for the one it knows. A wrap after 2^32 groups meets no cursor that old.
        static STARTED: AtomicU32 = AtomicU32::new(1);
        let id =
            NonZeroU32::new(STARTED.fetch_add(1, Ordering::Relaxed)).unwrap_or(NonZeroU32::MAX);
        Self {
            id: GroupId(id),
            next: 0,
            window: Vec::new(),
        }
    }

    /// Appends to the window and forgets what deflate could not reach.
    fn remember(&mut self, line: &[u8]) {
        let tail = &line[line.len().saturating_sub(DEFLATE_WINDOW_BYTES)..];
        let forget = (self.window.len() + tail.len()).saturating_sub(DEFLATE_WINDOW_BYTES);
        self.window.drain(..forget);
        let needed = self.window.len() + tail.len();
        if needed > self.window.capacity() {
            // Doubling without this bound could keep twice the window.
            let capacity = (self.window.capacity() * 2).clamp(needed, DEFLATE_WINDOW_BYTES);
            self.window.reserve_exact(capacity - self.window.len());
        }
        self.window.extend_from_slice(tail);
    }
}
