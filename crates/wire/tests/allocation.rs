//! A small complete message costs no allocation, and neither does an idle connection.

#![allow(
    unsafe_code,
    reason = "counting allocations needs a global allocator, whose trait is unsafe"
)]
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use danmaku_wire::limits::MESSAGE_BYTES_MAX;
use danmaku_wire::{ClientDecoder, ClientEvent};

thread_local! {
    // Per thread, because the test harness allocates on its own threads.
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged; counting uses a plain thread-local cell, which neither
// allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from the same allocator, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static GLOBAL: Counting = Counting;

/// Decodes `pieces` as one connection and checks how many allocations that took.
fn check(
    pieces: &[&[u8]],
    events_expected: usize,
    allocations_allowed: std::ops::RangeInclusive<usize>,
) {
    let mut pieces: Vec<Vec<u8>> = pieces.iter().map(|piece| piece.to_vec()).collect();
    let mut events = 0;
    let before = ALLOCATIONS.get();
    let mut decoder = ClientDecoder::new(MESSAGE_BYTES_MAX);
    for piece in &mut pieces {
        decoder
            .decode(piece, |event| {
                assert!(!matches!(event, ClientEvent::Close(_)));
                events += 1;
            })
            .unwrap();
    }
    let allocations = ALLOCATIONS.get() - before;
    assert_eq!(events, events_expected);
    assert!(
        allocations_allowed.contains(&allocations),
        "{allocations} allocations"
    );
}

/// A masked frame; the mask of zeros leaves the payload as it is.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first, 0x80 | payload.len() as u8, 0, 0, 0, 0];
    bytes.extend_from_slice(payload);
    bytes
}

#[test]
fn complete_messages_allocate_nothing() {
    let text = frame(0x81, br#"{"type":"comment","text":"hi"}"#);
    let ping = frame(0x89, b"1");
    check(&[&text], 1, 0..=0);
    check(&[&ping], 1, 0..=0);
    check(&[&[&text[..], &ping, &text].concat()], 3, 0..=0);
    check(&[&text, &text, &ping], 3, 0..=0);
}

/// Shows that the counter works: the test above would pass if its allocator were not in use.
#[test]
fn incomplete_messages_do_allocate() {
    let text = frame(0x81, b"hello");
    check(&[&text[..8], &text[8..]], 1, 1..=8);
}

#[test]
fn a_declared_length_allocates_nothing() {
    let mut decoder = ClientDecoder::new(MESSAGE_BYTES_MAX);
    let before = ALLOCATIONS.get();
    let declared = decoder.decode(
        &mut [0x82, 0xFF, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        |_| {},
    );
    let allocations = ALLOCATIONS.get() - before;
    assert!(declared.is_err());
    assert_eq!(allocations, 0);
}
