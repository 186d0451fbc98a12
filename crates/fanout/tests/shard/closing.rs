//! The close handshake, its deadline, and the stop of a shard.

use std::time::Duration;

use danmaku_fanout::{ConnId, Drained, RoomKey, ShardMsg};
use danmaku_wire::{CloseReason, Dialect};

use crate::fixture::{Message, ROOM, ROOMY, World, config, ms};
use Message::{Batch, Close, Text};

fn close(conn: u64) -> ShardMsg {
    ShardMsg::Close {
        conn: ConnId(conn),
        reason: CloseReason::ProtocolError,
    }
}

fn stop(deadline: Duration) -> ShardMsg {
    ShardMsg::Stop {
        reason: CloseReason::GoingAway,
        deadline,
    }
}

#[test]
fn a_close_frame_is_the_last_message_and_the_peers_end_removes_the_viewer() {
    let mut world = World::new(&config());
    let mut peer = world.join(1, Dialect::WsDeflate, ROOMY);
    world.handle(close(1));
    assert_eq!(world.audience(), (0, 0, 0), "counted out at once");
    world.deliver(1);
    world.unicast(1, "late");
    world.handle(close(1));
    assert_eq!(peer.read(), [Close(1002)]);
    assert!(peer.pipe.is_ended());
    let counts = world.counts();
    assert_eq!((counts.closes_begun, counts.controls_unsent), (1, 1));
    assert_eq!((counts.viewers, counts.frames_offered), (1, 0));
    world.handle(ShardMsg::Detach { conn: ConnId(1) });
    assert_eq!(world.counts().viewers, 0);
    assert_eq!(world.audience(), (0, 0, 0), "and only once");
    world.pass(ms(5_000));
    assert_eq!(world.counts().closes_forced, 0);
    assert_eq!(world.wake_at, None);
}

#[test]
fn what_waits_is_sent_before_the_close_frame() {
    let mut world = World::new(&config());
    let mut peer = world.join(1, Dialect::WsIdentity, 10);
    world.deliver(1);
    world.unicast(1, "answer");
    world.deliver(1);
    world.handle(close(1));
    assert!(!peer.pipe.is_ended());
    peer.pipe.set_bytes_max(ROOMY);
    world.pass(ms(10));
    let expected = [Batch(1, 1), Text("answer".into()), Batch(2, 2), Close(1002)];
    assert_eq!(peer.read(), expected);
    assert!(peer.pipe.is_ended());
}

#[test]
fn a_peer_that_never_ends_is_reset_at_the_deadline() {
    for bytes_max in [ROOMY, 1, 0] {
        let mut world = World::new(&config());
        let peer = world.join(1, Dialect::WsIdentity, bytes_max);
        world.handle(close(1));
        world.pass(ms(1_999));
        assert_eq!(world.counts().viewers, 1);
        world.pass(ms(1));
        assert_eq!(
            (world.counts().viewers, world.counts().closes_forced),
            (0, 1)
        );
        assert!(peer.pipe.is_ended());
        assert_eq!(world.wake_at, None);
    }
}

#[test]
fn a_deadline_does_not_hit_the_next_viewer_in_the_same_place() {
    let mut world = World::new(&config());
    let _first = world.join(1, Dialect::WsIdentity, ROOMY);
    world.handle(close(1));
    world.handle(ShardMsg::Detach { conn: ConnId(1) });
    let _second = world.join(2, Dialect::WsIdentity, ROOMY);
    world.pass(ms(1_000));
    world.handle(close(2));
    // The first one's deadline comes, while the second has time left.
    world.pass(ms(1_999));
    assert_eq!(
        (world.counts().viewers, world.counts().closes_forced),
        (1, 0)
    );
    world.pass(ms(1));
    assert_eq!(
        (world.counts().viewers, world.counts().closes_forced),
        (0, 1)
    );
}

#[test]
fn a_room_is_closed_for_all_its_viewers_and_for_nobody_else() {
    let mut world = World::new(&config());
    let mut quick = world.join(1, Dialect::WsIdentity, ROOMY);
    let mut slow = world.join(2, Dialect::WsIdentity, 10);
    let mut elsewhere = world.join_room(RoomKey(ROOM.0 + 1), 3);
    world.deliver(1);
    let reason = CloseReason::GoingAway;
    world.handle(ShardMsg::CloseRoom { room: ROOM, reason });
    world.deliver(1);
    assert_eq!(quick.read(), [Batch(1, 1), Close(1001)]);
    slow.pipe.set_bytes_max(ROOMY);
    world.pass(ms(10));
    assert_eq!(slow.read(), [Batch(1, 1), Close(1001)]);
    assert_eq!(elsewhere.read(), []);
    assert_eq!(world.counts().closes_begun, 2);
    assert_eq!(world.audience(), (1, 0, 1));
}

#[test]
fn a_stop_sends_what_waits_and_ends_when_all_have_left() {
    let mut world = World::new(&config());
    let mut slow = world.join(1, Dialect::WsIdentity, 10);
    let mut quick = world.join(2, Dialect::WsGzip, ROOMY);
    world.deliver(1);
    world.handle(stop(ms(10_000)));
    assert_eq!(world.audience(), (0, 0, 0));
    // Who has all and says nothing gets the deadline of any close; who has something to read, the stop's own.
    world.pass(ms(5_000));
    assert_eq!(
        (world.counts().viewers, world.counts().closes_forced),
        (1, 1)
    );
    assert_eq!(world.shard.drained(), None);
    slow.pipe.set_bytes_max(ROOMY);
    world.pass(ms(10));
    assert_eq!(slow.read(), [Batch(1, 1), Close(1001)]);
    assert_eq!(quick.read(), [Batch(1, 1), Close(1001)]);
    assert_eq!(world.shard.drained(), None);
    world.handle(ShardMsg::Detach { conn: ConnId(1) });
    assert_eq!(world.shard.drained(), Some(Drained::Flushed));
}

#[test]
fn a_stop_tells_whether_all_was_sent() {
    fn check(bytes_max: usize, expected: Drained) {
        let mut world = World::new(&config());
        let _peer = world.join(1, Dialect::WsIdentity, bytes_max);
        world.deliver(1);
        world.handle(stop(ms(500)));
        world.pass(ms(499));
        assert_eq!(world.shard.drained(), None);
        world.pass(ms(1));
        assert_eq!(world.shard.drained(), Some(expected));
    }
    // It has all, and only never says goodbye.
    check(ROOMY, Drained::Flushed);
    check(10, Drained::Deadline);
}

#[test]
fn a_stop_does_not_wait_for_the_deadline_of_an_earlier_close() {
    let mut world = World::new(&config());
    let _peer = world.join(1, Dialect::WsIdentity, ROOMY);
    world.handle(close(1));
    world.handle(stop(ms(100)));
    world.pass(ms(100));
    assert_eq!(world.shard.drained(), Some(Drained::Flushed));
}

#[test]
fn who_joins_a_stopping_shard_is_closed_too() {
    let mut world = World::new(&config());
    let _first = world.join(1, Dialect::WsIdentity, ROOMY);
    world.handle(stop(ms(1_000)));
    let mut late = world.join(2, Dialect::WsIdentity, ROOMY);
    assert_eq!(late.read(), [Close(1001)]);
    assert_eq!(world.audience(), (0, 0, 0));
    world.pass(ms(1_000));
    assert_eq!(world.shard.drained(), Some(Drained::Flushed));
}

#[test]
fn an_empty_shard_stops_at_once() {
    let mut world = World::new(&config());
    world.handle(stop(ms(1_000)));
    assert_eq!(world.shard.drained(), Some(Drained::Flushed));
}
