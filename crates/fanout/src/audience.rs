//! Who watches a room, told without asking the shards.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

use danmaku_wire::Encoding;

/// The viewers of one room, counted.
///
/// The room counts a viewer in before it sends the [`Attach`](crate::Attach), so a frame sealed right after goes to
/// that shard too; the shard counts it out, exactly once. Nothing here is touched when a frame is delivered.
pub struct Audience {
    viewers: AtomicU32,
    deflate: AtomicU32,
    attached: Box<[AtomicU32]>,
    on_last_left: Option<OnLastLeft>,
}

type OnLastLeft = Box<dyn Fn() + Send + Sync>;

impl Audience {
    /// Nobody, over `shards` shards. `on_last_left` is called by a shard's thread each time the last viewer leaves,
    /// and must not block.
    #[must_use]
    pub fn new(shards: usize, on_last_left: Option<Box<dyn Fn() + Send + Sync>>) -> Self {
        Self {
            viewers: AtomicU32::new(0),
            deflate: AtomicU32::new(0),
            attached: (0..shards).map(|_| AtomicU32::new(0)).collect(),
            on_last_left,
        }
    }

    /// Counts in a viewer that is about to be attached to shard `shard`.
    pub fn join(&self, shard: usize, encoding: Encoding) {
        if let Some(attached) = self.attached.get(shard) {
            attached.fetch_add(1, Ordering::Relaxed);
        }
        if encoding == Encoding::Deflate {
            self.deflate.fetch_add(1, Ordering::Relaxed);
        }
        self.viewers.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts out what [`Audience::join`] counted in.
    pub(crate) fn leave(&self, shard: usize, encoding: Encoding) {
        if let Some(attached) = self.attached.get(shard) {
            attached.fetch_sub(1, Ordering::Relaxed);
        }
        if encoding == Encoding::Deflate {
            self.deflate.fetch_sub(1, Ordering::Relaxed);
        }
        // Release: who sees nobody left also sees the counts above.
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

    /// Those of [`Encoding::Deflate`].
    #[must_use]
    pub fn deflate_viewers(&self) -> u32 {
        self.deflate.load(Ordering::Relaxed)
    }

    /// Those in shard `shard`: a frame need not be sent to a shard that has none.
    #[must_use]
    pub fn attached(&self, shard: usize) -> u32 {
        self.attached
            .get(shard)
            .map_or(0, |attached| attached.load(Ordering::Relaxed))
    }
}

impl fmt::Debug for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audience")
            .field("viewers", &self.viewers)
            .field("deflate", &self.deflate)
            .field("attached", &self.attached)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

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
        audience.join(0, Encoding::Identity);
        audience.join(1, Encoding::Deflate);
        assert_eq!((audience.attached(0), audience.attached(1)), (1, 1));
        assert_eq!((audience.viewers(), audience.deflate_viewers()), (2, 1));
        audience.leave(1, Encoding::Deflate);
        assert_eq!(last_left.load(Ordering::Relaxed), 0);
        audience.leave(0, Encoding::Identity);
        assert_eq!(last_left.load(Ordering::Relaxed), 1);
        assert_eq!((audience.attached(0), audience.attached(1)), (0, 0));
        assert_eq!((audience.viewers(), audience.deflate_viewers()), (0, 0));
        assert_eq!(audience.attached(7), 0);
    }
}
