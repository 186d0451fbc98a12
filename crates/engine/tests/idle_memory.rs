//! What a room costs while nothing happens in it: 100,000 of them must cost memory only, and little of it.

// The only way to see every allocation is an allocator, and that trait is unsafe to implement.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use danmaku_engine::{Flush, Now, Room, RoomConfig, SealInput};
use danmaku_wire::{
    BatchComment, Chains, Comment, CommentLimits, CommentText, CompressionPolicy, Epoch, Priority,
    Seq,
};

/// The system's allocator, with a sum of what is held.
struct Counting;

static HELD_BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to `System` unchanged, which upholds the contract; counting touches no memory of the caller.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD_BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller upholds the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD_BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the pointer came from `System` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most that a room may hold, in place and on the heap, before its first comment.
const NEW_ROOM_BYTES_MAX: usize = 512;

fn config() -> RoomConfig {
    RoomConfig {
        window: Duration::from_millis(1_000),
        flush: Flush::Leading,
        batch_comments_max: 1_000,
        history_frames_max: 100,
        history_bytes_max: 1 << 20,
        phase: Duration::ZERO,
        seed: 1,
        compression: CompressionPolicy::default(),
    }
}

// One test, because the allocator counts for the whole process.
#[test]
fn idle_rooms_are_small() {
    let before = HELD_BYTES.load(Ordering::Relaxed);
    let mut rooms = Vec::with_capacity(100_000);
    for _ in 0..100_000 {
        rooms.push(Room::new(config(), Epoch::new(1), Seq::ZERO));
    }
    let each = (HELD_BYTES.load(Ordering::Relaxed) - before) / rooms.len();
    assert!(each <= NEW_ROOM_BYTES_MAX, "a new room holds {each} bytes");
    drop(rooms);

    // The compressor belongs to the thread, not to a room.
    drop(busy_then_quiet());
    // After a busy time a quiet room holds its ring and nothing of its windows.
    let before = HELD_BYTES.load(Ordering::Relaxed);
    let room = busy_then_quiet();
    let held = HELD_BYTES.load(Ordering::Relaxed) - before;
    let ring = room.history_bytes() + room.history_frames() * RING_FRAME_BYTES_MAX;
    assert_eq!(room.history_frames(), 100);
    assert!(
        held <= ring + NEW_ROOM_BYTES_MAX,
        "a quiet room holds {held} bytes, {ring} of them in its ring"
    );
}

fn busy_then_quiet() -> Room {
    let mut room = Room::new(config(), Epoch::new(1), Seq::ZERO);
    let fragment =
        Comment::new(CommentText::new("hello", &CommentLimits::default()).expect("a valid text"))
            .fragment();
    let input = SealInput {
        viewers: 1,
        chains: Chains {
            ws_deflate: true,
            sse_gzip: true,
        },
    };
    for window in 1..=110 {
        let now = Now {
            monotonic: Duration::from_secs(window * 2),
            unix_ms: 0,
        };
        for n in 0..100 {
            let comment = BatchComment {
                seq: Seq::new(window * 100 + n - 99),
                at_ms: 0,
                fragment: fragment.clone(),
            };
            room.comment(now, comment, Priority::Viewer);
        }
        room.tick(now, input).expect("two windows have passed");
    }
    room.forget_chain();
    room
}

/// What a frame costs in the ring beside its bytes: itself, the heads of its shared buffers, and what its JSON was
/// expected to be longer by, up to four bytes per comment and 288.
const RING_FRAME_BYTES_MAX: usize = 512 + 288 + 4 * 100;
