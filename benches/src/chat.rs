//! Batches of made-up chat.

use danmaku_chat::Random;
use danmaku_wire::{Batch, BatchComment, Comment, Epoch, Seq};

/// Endless comments; the same seed gives the same ones.
#[derive(Debug, Clone)]
pub struct Chat {
    chat: danmaku_chat::Chat,
    random: Random,
}

impl Chat {
    /// The chat for this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            chat: danmaku_chat::Chat::new(seed),
            random: Random::new(seed),
        }
    }

    /// The next comment.
    ///
    /// # Panics
    /// Never: what is made up is within the limits.
    pub fn comment(&mut self) -> Comment {
        let new = self.chat.comment();
        danmaku_chat::comment(&new).expect("invariant: what is made up is within the limits")
    }

    /// The next `comments` comments as the batch that comes after the position `after`.
    pub fn batch(&mut self, after: Seq, comments: usize) -> Batch {
        let ts_ms = 1_700_000_000_000 + after.value() * 20;
        let viewers = 9_900 + u32::try_from(self.random.below(200)).unwrap_or(0);
        let comments = (1..)
            .take(comments)
            .map(|offset| BatchComment {
                seq: after.plus(offset),
                at_ms: ts_ms - u64::try_from(self.random.below(1_000)).unwrap_or(0),
                fragment: self.comment().fragment(),
            })
            .collect::<Vec<_>>();
        Batch {
            epoch: Epoch::new(1_700_000_000_000),
            after,
            seq: after.plus(comments.len() as u64),
            ts_ms,
            viewers,
            likes: 0,
            shed: 0,
            comments,
            events: Vec::new(),
        }
    }
}
