//! What a sink keeps, and what it owes, is a viewer's business like all that waits for it.

use danmaku_fanout::memory::MemoryKind;
use danmaku_fanout::{ConnId, FanoutConfig, ShardMsg};
use danmaku_wire::{CloseReason, Dialect};

use crate::SINK;
use crate::fixture::{Message, ROOMY, World, config, ms};
use Message::{Batch, Close, Text};

#[test]
fn a_viewer_is_behind_until_its_sink_has_written_all_it_took() {
    let mut world = World::new(&config());
    let mut peer = world.join(1, Dialect::WsIdentity, 10);
    world.unicast(1, "short");
    assert_eq!(world.counts().viewers_behind, 1);
    // What comes now must not overtake it.
    world.deliver(1);
    assert_eq!(world.shard.frames_waiting(), 1);
    assert_eq!(peer.read(), []);
    peer.pipe.set_bytes_max(ROOMY);
    world.pass(ms(10));
    assert_eq!(peer.read(), [Text("short".into()), Batch(1, 1)]);
    assert_eq!(world.counts().viewers_behind, 0);
    world.deliver(1);
    assert_eq!(peer.read(), [Batch(2, 2)]);
}

#[test]
fn a_close_ends_writing_only_when_the_sink_has_written_it() {
    let mut world = World::new(&config());
    let mut peer = world.join(1, Dialect::WsIdentity, 10);
    world.handle(ShardMsg::Close {
        conn: ConnId(1),
        reason: CloseReason::SlowConsumer,
    });
    assert!(!peer.pipe.is_ended());
    assert_eq!(world.counts().viewers_behind, 1);
    peer.pipe.set_bytes_max(ROOMY);
    world.pass(ms(10));
    assert!(peer.pipe.is_ended());
    assert_eq!(peer.read(), [Close(4001)]);
}

#[test]
fn what_is_owed_for_a_read_is_written_by_the_shard() {
    let mut world = World::new(&config());
    let mut peer = world.join(1, Dialect::WsDeflate, ROOMY);
    for n in 1..=5 {
        peer.pipe.ask_for_key();
        peer.pipe.write(b"more than one reads at a time");
        world.serve(1);
        world.deliver(1);
        assert_eq!(peer.read(), [Batch(n, n)]);
        assert!(!peer.pipe.awaits_key());
    }
    // There need not be anything else to write.
    peer.pipe.ask_for_key();
    world.serve(1);
    assert_eq!(peer.read(), []);
    assert!(!peer.pipe.awaits_key());
    assert_eq!(world.counts().viewers_behind, 0);
}

#[test]
fn who_does_not_read_what_is_owed_to_it_is_evicted_like_any_slow_viewer() {
    let mut world = World::new(&FanoutConfig {
        evict_after: ms(1_000),
        ..config()
    });
    let mut peer = world.join(1, Dialect::WsIdentity, 2);
    peer.pipe.ask_for_key();
    world.serve(1);
    world.pass(ms(1_010));
    let evicted = u64::from(SINK == MemoryKind::Records);
    assert_eq!(world.counts().evicted_behind, evicted);
    peer.pipe.set_bytes_max(ROOMY);
    world.pass(ms(10));
    let expected = [Close(4001)];
    assert_eq!(peer.read(), expected[..SINK as usize]);
    assert!(!peer.pipe.awaits_key());
}

#[test]
fn what_is_owed_to_a_viewer_that_left_is_nobodys() {
    let mut world = World::new(&config());
    let mut peer = world.join(1, Dialect::WsIdentity, ROOMY);
    world.handle(ShardMsg::Detach { conn: ConnId(1) });
    peer.pipe.ask_for_key();
    world.serve(1);
    assert_eq!(world.counts().viewers, 0);
}
