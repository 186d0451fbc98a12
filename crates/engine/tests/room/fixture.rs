//! A room with small limits, and how to read what it seals.

use std::sync::Arc;
use std::time::Duration;

use danmaku_engine::{Audience, Flush, Now, Room, RoomConfig};
use danmaku_wire::{
    Comment, CommentLimits, CommentText, CompressionPolicy, DeflateViewers, Epoch, Fragment,
    FrameSet, Position, Priority, Seq,
};
use serde_json::Value;

pub(crate) const EPOCH: Epoch = Epoch::new(1_700_000_000_000);
pub(crate) const AUDIENCE: Audience = Audience {
    viewers: 3,
    deflate: DeflateViewers::None,
};

pub(crate) fn config() -> RoomConfig {
    RoomConfig {
        window: Duration::from_millis(1_000),
        flush: Flush::Leading,
        batch_comments_max: 10,
        history_frames_max: 5,
        history_bytes_max: 1 << 20,
        phase: Duration::from_millis(300),
        seed: 1,
        compression: CompressionPolicy::default(),
    }
}

pub(crate) fn room() -> Room {
    Room::new(config(), EPOCH, Seq::ZERO)
}

pub(crate) fn at(ms: u64) -> Now {
    Now {
        monotonic: Duration::from_millis(ms),
        unix_ms: 1_700_000_000_000 + ms,
    }
}

pub(crate) fn fragment(seq: u64) -> Fragment {
    Comment::new(CommentText::new(&format!("c{seq}"), &CommentLimits::default()).unwrap())
        .fragment()
}

pub(crate) fn position(seq: u64) -> Position {
    Position {
        epoch: EPOCH,
        seq: Seq::new(seq),
    }
}

/// Puts the positions `first..=last` into the room as viewers' comments.
pub(crate) fn comments(room: &mut Room, now: Now, first: u64, last: u64) {
    for seq in first..=last {
        room.comment(now, Seq::new(seq), fragment(seq), Priority::Viewer);
    }
}

/// Seals the positions `first..=last` as one frame, as soon as they are due.
pub(crate) fn frame(room: &mut Room, first: u64, last: u64) -> Arc<FrameSet> {
    comments(room, at(0), first, last);
    let due = room.deadline().expect("something is pending");
    room.tick(
        Now {
            monotonic: due,
            unix_ms: 0,
        },
        AUDIENCE,
    )
    .expect("it is due")
}

pub(crate) fn json(frame: &FrameSet) -> Value {
    serde_json::from_slice(frame.json()).unwrap()
}

/// The ids that a batch tells, by the rule that an id left out is the one after the id before.
pub(crate) fn ids(batch: &Value) -> Vec<u64> {
    let mut next = batch["seq"].as_u64().unwrap();
    let comments = batch["comments"].as_array().unwrap();
    comments
        .iter()
        .map(|comment| {
            let id = comment.get("id").map_or(next, |id| id.as_u64().unwrap());
            assert_eq!(comment["text"], format!("c{id}"));
            next = id + 1;
            id
        })
        .collect()
}

pub(crate) fn seqs(frames: &[Arc<FrameSet>]) -> Vec<(u64, u64)> {
    frames
        .iter()
        .map(|frame| (frame.first().value(), frame.last().value()))
        .collect()
}
