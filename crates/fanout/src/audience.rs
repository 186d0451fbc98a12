//! A room's viewers, counted without asking the shards.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

use danmaku_wire::{Chains, Dialect, FrameSet};

use crate::packing::usual_form;

/// The viewers of one room, counted.
///
/// The room counts a viewer before it sends the [`Attach`](crate::Attach), so that a frame sealed right after goes to
/// that shard too. The shard decrements the counts exactly once. Delivering a frame does not touch the counts.
pub struct Audience {
    viewers: AtomicU32,
    speaking: [AtomicU32; Dialect::COUNT],
    attached: Box<[AtomicU32]>,
    on_last_left: Option<OnLastLeft>,
}

type OnLastLeft = Box<dyn Fn() + Send + Sync>;

impl Audience {
    /// No viewers, over `shards` shards. `on_last_left` is called by a shard's thread each time the last viewer leaves,
    /// and must not block.
    #[must_use]
    pub fn new(shards: usize, on_last_left: Option<Box<dyn Fn() + Send + Sync>>) -> Self {
        Self {
            viewers: AtomicU32::new(0),
            speaking: Default::default(),
            attached: (0..shards).map(|_| AtomicU32::new(0)).collect(),
            on_last_left,
        }
    }

    /// Counts in a viewer that is about to be attached to shard `shard`.
    pub fn join(&self, shard: usize, dialect: Dialect) {
        if let Some(attached) = self.attached.get(shard) {
            attached.fetch_add(1, Ordering::Relaxed);
        }
        self.speaking[dialect.index()].fetch_add(1, Ordering::Relaxed);
        self.viewers.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts out what [`Audience::join`] counted in.
    pub(crate) fn leave(&self, shard: usize, dialect: Dialect) {
        if let Some(attached) = self.attached.get(shard) {
            attached.fetch_sub(1, Ordering::Relaxed);
        }
        self.speaking[dialect.index()].fetch_sub(1, Ordering::Relaxed);
        // Release: a thread that sees zero viewers also sees the counts above.
        if self.viewers.fetch_sub(1, Ordering::AcqRel) == 1
            && let Some(on_last_left) = &self.on_last_left
        {
            on_last_left();
        }
    }

    /// Viewers of the room on this node.
    #[must_use]
    pub fn viewers(&self) -> u32 {
        self.viewers.load(Ordering::Acquire)
    }

    /// Viewers that speak `dialect`.
    #[must_use]
    pub fn viewers_of(&self, dialect: Dialect) -> u32 {
        self.speaking[dialect.index()].load(Ordering::Relaxed)
    }

    /// Viewers in shard `shard`: a shard without any needs no frames.
    #[must_use]
    pub fn attached(&self, shard: usize) -> u32 {
        self.attached
            .get(shard)
            .map_or(0, |attached| attached.load(Ordering::Relaxed))
    }

    /// The streams that need chained forms.
    #[must_use]
    pub fn chains(&self) -> Chains {
        Chains {
            ws_deflate: self.viewers_of(Dialect::WsDeflate) > 0,
            sse_gzip: self.viewers_of(Dialect::SseGzip) > 0,
        }
    }

    /// Makes the forms most viewers will get, once and before delivery. Otherwise the first shard to need one would
    /// make it while the others wait.
    pub fn prepare(&self, frame: &FrameSet) {
        for dialect in Dialect::ALL {
            if self.viewers_of(dialect) > 0 {
                usual_form(dialect, frame);
            }
        }
    }
}

impl fmt::Debug for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audience")
            .field("viewers", &self.viewers)
            .field("speaking", &self.speaking)
            .field("attached", &self.attached)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use danmaku_wire::{Batch, CompressionPolicy, Epoch, Form, Sealer, Seq};

    use super::*;

    #[test]
    fn counts_return_to_zero_and_the_last_to_leave_is_told() {
        let last_left = Arc::new(AtomicUsize::new(0));
        let told = Arc::clone(&last_left);
        let audience = Audience::new(
            2,
            Some(Box::new(move || {
                told.fetch_add(1, Ordering::Relaxed);
            })),
        );
        for (count, dialect) in (0..).zip(Dialect::ALL) {
            assert_eq!(audience.viewers(), count);
            audience.join(count as usize % 2, dialect);
            assert_eq!(audience.viewers_of(dialect), 1);
        }
        assert_eq!((audience.attached(0), audience.attached(1)), (3, 2));
        for (shard, dialect) in (0..).zip(Dialect::ALL) {
            assert_eq!(last_left.load(Ordering::Relaxed), 0);
            audience.leave(shard % 2, dialect);
            assert_eq!(audience.viewers_of(dialect), 0);
        }
        assert_eq!(last_left.load(Ordering::Relaxed), 1);
        assert_eq!((audience.attached(0), audience.attached(1)), (0, 0));
        assert_eq!(audience.viewers(), 0);
        assert_eq!(audience.attached(7), 0);
    }

    #[test]
    fn forms_and_chains_are_made_for_the_dialects_in_use_only() {
        fn check(dialect: Dialect, expected: &[Form]) {
            let audience = Audience::new(1, None);
            audience.join(0, dialect);
            let mut sealer = Sealer::new(CompressionPolicy::default());
            let mut seal = || sealer.seal(batch(), audience.chains());
            // The second of a group, whose chained form is not also the independent one.
            let (_, frame) = (seal(), seal());
            audience.prepare(&frame);
            let made = Form::ALL.into_iter().filter(|&form| frame.is_made(form));
            assert_eq!(made.collect::<Vec<_>>(), expected);
        }
        use Form::{SseGzipChained, SseIdentity, WsDeflateChained, WsGzip, WsIdentity};
        // The others are made from this one.
        check(Dialect::WsIdentity, &[WsIdentity]);
        check(Dialect::WsGzip, &[WsIdentity, WsGzip]);
        check(Dialect::WsDeflate, &[WsIdentity, WsDeflateChained]);
        check(Dialect::SseIdentity, &[WsIdentity, SseIdentity]);
        check(Dialect::SseGzip, &[WsIdentity, SseIdentity, SseGzipChained]);
    }

    fn batch() -> Batch {
        Batch {
            epoch: Epoch::new(1),
            after: Seq::new(1),
            seq: Seq::new(1),
            ts_ms: 1,
            viewers: 1,
            likes: 1,
            shed: 0,
            comments: Vec::new(),
            events: Vec::new(),
        }
    }
}
