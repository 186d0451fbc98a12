//! Batches of a made-up room, and frames as a client reads them.

use danmaku_wire::{Batch, BatchComment, Comment, CommentLimits, CommentText, Epoch, Seq};

/// A batch that covers the positions right after `after`, one per text, and `shed` more.
pub(crate) fn batch(after: Seq, texts: &[&str], shed: u32) -> Batch {
    let fragment = |text: &&str| {
        Comment::new(CommentText::new(text, &CommentLimits::default()).unwrap()).fragment()
    };
    let comments = (1..)
        .zip(texts)
        .map(|(offset, text)| BatchComment {
            seq: after.plus(offset),
            at_ms: TS_MS - offset,
            fragment: fragment(text),
        })
        .collect();
    Batch {
        epoch: Epoch::new(7),
        after,
        seq: after.plus(texts.len() as u64 + u64::from(shed)),
        ts_ms: TS_MS,
        viewers: 2,
        likes: 0,
        shed,
        comments,
        events: Vec::new(),
    }
}

const TS_MS: u64 = 1_700_000_000_000;

/// A server's frame taken apart: opcode and payload. It must be final, not masked, and nothing may follow it.
pub(crate) fn payload(frame: &[u8]) -> (u8, &[u8]) {
    assert_eq!(frame[0] & 0xF0, 0x80, "final, no reserved bits");
    let (len, start) = match frame[1] {
        len @ 0..=125 => (usize::from(len), 2),
        126 => (usize::from(u16::from_be_bytes([frame[2], frame[3]])), 4),
        127 => (
            u64::from_be_bytes(frame[2..10].try_into().unwrap()) as usize,
            10,
        ),
        _ => panic!("masked"),
    };
    assert_eq!(frame.len(), start + len);
    (frame[0] & 0x0F, &frame[start..])
}
