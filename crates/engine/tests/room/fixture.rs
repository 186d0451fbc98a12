//! A room with small limits, and how to read what it seals.

use std::sync::Arc;
use std::time::Duration;

use danmaku_engine::{Flush, Now, Room, RoomConfig, SealInput};
use danmaku_wire::{
    BatchComment, BatchEvent, Chains, Comment, CommentLimits, CommentText, CompressionPolicy,
    Epoch, Event, FrameSet, Position, Priority, Seq,
};
use serde_json::Value;

pub(crate) const EPOCH: Epoch = Epoch::new(1_700_000_000_000);
pub(crate) const INPUT: SealInput = SealInput {
    viewers: 3,
    chains: Chains {
        ws_deflate: false,
        sse_gzip: false,
    },
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

/// The comment at position `seq`, accepted when the test began.
pub(crate) fn comment(seq: u64) -> BatchComment {
    let text = CommentText::new(&format!("c{seq}"), &CommentLimits::default()).unwrap();
    BatchComment {
        seq: Seq::new(seq),
        at_ms: at(0).unix_ms,
        fragment: Comment::new(text).fragment(),
    }
}

pub(crate) fn retract(seq: u64, ids: &[u64]) -> BatchEvent {
    BatchEvent {
        seq: Seq::new(seq),
        event: Event::Retract {
            ids: ids.iter().map(|&id| Seq::new(id)).collect(),
        },
    }
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
        room.comment(now, comment(seq), Priority::Viewer);
    }
}

/// Seals the positions `first..=last` as one frame, as soon as they are due.
pub(crate) fn frame(room: &mut Room, first: u64, last: u64) -> Arc<FrameSet> {
    comments(room, at(0), first, last);
    let due = room.deadline().expect("something is pending");
    room.tick(
        Now {
            monotonic: due,
            unix_ms: at(0).unix_ms,
        },
        INPUT,
    )
    .expect("it is due")
}

pub(crate) fn json(frame: &FrameSet) -> Value {
    serde_json::from_slice(frame.json()).unwrap()
}

/// The ids of a batch: differences, the first from where it begins, and all of them 1 when left out.
pub(crate) fn ids(batch: &Value) -> Vec<u64> {
    let comments = batch["comments"].as_array().unwrap();
    let differences: Vec<u64> = match batch.get("ids") {
        Some(ids) => serde_json::from_value(ids.clone()).unwrap(),
        None => vec![1; comments.len()],
    };
    assert_eq!(differences.len(), comments.len());
    let mut id = batch["after"].as_u64().unwrap();
    let ids = differences
        .iter()
        .zip(comments)
        .map(|(difference, comment)| {
            id += difference;
            assert_eq!(comment["text"], format!("c{id}"));
            id
        });
    ids.collect()
}

/// What each frame stands for: positions after the first number, up to the second.
pub(crate) fn spans(frames: &[Arc<FrameSet>]) -> Vec<(u64, u64)> {
    frames
        .iter()
        .map(|frame| (frame.after().value(), frame.seq().value()))
        .collect()
}
