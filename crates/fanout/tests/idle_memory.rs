//! What a viewer costs while nothing waits for it.

// The only way to see every allocation is an allocator, and that trait is unsafe to implement.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use danmaku_fanout::memory::MemoryKind;
use danmaku_fanout::{Attach, Audience, ConnId, FanoutConfig, Link, RoomKey, Shard, ShardMsg};
use danmaku_wire::Dialect;

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

const VIEWERS: usize = 10_000;

/// The most that a shard may hold per viewer, with tables that grow by doubling.
const SHARD_BYTES_MAX: usize = 160;

/// The most that the connection's part that reader and shard share may hold, without the socket's own.
const LINK_BYTES_MAX: usize = 80;

// One test, because the allocator counts for the whole process.
#[test]
fn idle_viewers_are_small() {
    let audience = Arc::new(Audience::new(1, None));
    let (links, _peers): (Vec<_>, Vec<_>) = (0..VIEWERS)
        .map(|_| {
            let (sink, peer) = MemoryKind::Plain.open(1_024);
            (Arc::new(Link::new(sink.into(), Duration::ZERO)), peer)
        })
        .unzip();
    let attaches: Vec<_> = (0..)
        .zip(&links)
        .map(|(conn, link)| {
            let dialect = Dialect::WsDeflate;
            audience.join(0, dialect);
            Attach {
                conn: ConnId(conn),
                link: Arc::clone(link),
                room: RoomKey(1),
                audience: Arc::clone(&audience),
                dialect,
                first: Vec::new(),
            }
        })
        .collect();
    let mut shard = Shard::new(0, &FanoutConfig::default());
    let before = HELD_BYTES.load(Ordering::Relaxed);
    for attach in attaches {
        shard.handle(ShardMsg::Attach(Box::new(attach)), Duration::ZERO);
    }
    // The list of attaches was freed on the way.
    let freed = VIEWERS * size_of::<Attach>();
    let held = HELD_BYTES.load(Ordering::Relaxed) + freed - before;
    let shard_bytes = held / VIEWERS;
    // An `Arc` has two counts in front.
    let link_bytes = size_of::<Link>() + 2 * size_of::<usize>();
    println!("bytes per idle viewer: shard {shard_bytes}, link {link_bytes}");
    assert!(shard_bytes <= SHARD_BYTES_MAX, "{shard_bytes}");
    assert!(link_bytes <= LINK_BYTES_MAX, "{link_bytes}");
    assert_eq!(audience.viewers() as usize, VIEWERS);

    for conn in 0..VIEWERS as u64 {
        shard.handle(ShardMsg::Detach { conn: ConnId(conn) }, Duration::ZERO);
    }
    assert_eq!(audience.viewers(), 0);
    assert!(links.iter().all(|link| Arc::strong_count(link) == 1));
}
