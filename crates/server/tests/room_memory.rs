//! What a room with one comment and no viewers costs: anybody can make many of them.

// The only way to see every allocation is an allocator, and that trait is unsafe to implement.
#![allow(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use clap::Parser;
use danmaku_server::auth::Author;
use danmaku_server::config::ServeArgs;
use danmaku_server::posting::{self, Poster, Target};
use danmaku_server::tasks::Server;
use danmaku_wire::{Comment, CommentText, RoomId};

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

/// The most that such a room may hold, the table of rooms included. An allocator's size classes add 3 %.
const ROOM_BYTES_MAX: usize = 1_985;

const ROOMS: usize = 2_000;

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    serve: ServeArgs,
}

// One test, because the allocator counts for the whole process.
#[tokio::test]
async fn a_room_with_one_comment_is_small() {
    let flags = [
        "server",
        "--listen=127.0.0.1:0",
        "--posts-per-second-per-address-burst=100000",
        "--posts-per-second-per-address=100000",
        "--rooms-per-second-per-address-burst=100000",
        "--rooms-per-second-per-address=100000",
    ];
    let config = Flags::parse_from(flags).serve.check(20_000).unwrap();
    let server = Server::start(config).unwrap();
    post(&server, 0..100).await;
    let before = HELD_BYTES.load(Ordering::Relaxed);
    post(&server, 100..100 + ROOMS).await;
    let each = (HELD_BYTES.load(Ordering::Relaxed) - before) / ROOMS;
    assert!(each <= ROOM_BYTES_MAX, "a room holds {each} bytes");
    server.stop().await;
}

/// Posts one comment to each of these rooms, and waits until all are quiet.
async fn post(server: &Server, rooms: std::ops::Range<usize>) {
    let context = server.context();
    let now = context.clock.now().monotonic;
    let peer = [127, 0, 0, 1].into();
    let permit = context.admission.address(peer, now).unwrap();
    let text = CommentText::new("hello, this is a comment", &context.comment_limits).unwrap();
    let comments = [Comment::new(text)];
    for room in rooms {
        let room = RoomId::parse(&format!("room-{room:06}")).unwrap();
        let target = Target::Named(&room);
        let poster = Poster {
            permit: &permit,
            author: Author::Guest,
        };
        posting::post(context, poster, target, &comments, None)
            .await
            .unwrap();
    }
    while !context.registry.all().iter().all(|room| room.is_settled()) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
