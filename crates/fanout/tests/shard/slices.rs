//! Large rooms, whose frames are delivered slice by slice: what happens in between.

use std::num::NonZeroUsize;

use danmaku_fanout::{ConnId, FanoutConfig, Outgoing, RoomKey, ShardMsg};
use danmaku_wire::outbound::pong_frame;
use danmaku_wire::{CloseReason, Dialect};

use crate::fixture::{Message, Peer, ROOM, ROOMY, World, config, ms};
use Message::{Batch, Close, Gap, Pong, Text};

/// Viewers of a slice.
const SLICE: u64 = 4;

/// A world of small slices and a room of so many viewers, whose connections are 0, 1, ….
fn crowd(viewers: u64) -> (World, Vec<Peer>) {
    let mut world = World::new(&FanoutConfig {
        slice_viewers_max: NonZeroUsize::new(SLICE.try_into().unwrap()).unwrap(),
        ..config()
    });
    let peers = (0..viewers)
        .map(|conn| world.join(conn, Dialect::WsIdentity, ROOMY))
        .collect();
    (world, peers)
}

/// Indices of the viewers that have got something, which is read.
fn reached(peers: &mut [Peer], expected: &[Message]) -> Vec<usize> {
    let mut reached = Vec::new();
    for (index, peer) in peers.iter_mut().enumerate() {
        let messages = peer.read();
        if !messages.is_empty() {
            assert_eq!(messages, expected, "viewer {index}");
            reached.push(index);
        }
    }
    reached
}

#[test]
fn a_slice_is_one_turn() {
    let (mut world, mut peers) = crowd(10);
    world.deliver(1);
    let mut turns = 1;
    let mut seen = reached(&mut peers, &[Batch(1, 1)]);
    assert_eq!(seen.len(), 4);
    while world.goes_on() {
        world.turn();
        turns += 1;
        seen.extend(reached(&mut peers, &[Batch(1, 1)]));
    }
    assert_eq!(turns, 3);
    seen.sort_unstable();
    assert_eq!(seen, (0..10).collect::<Vec<_>>(), "each of them once");
    assert_eq!(
        (world.counts().passes, world.counts().frames_written),
        (1, 10)
    );
}

#[test]
fn messages_and_other_rooms_do_not_wait_for_the_end_of_a_pass() {
    let (mut world, mut peers) = crowd(10);
    let other = RoomKey(ROOM.0 + 1);
    let mut elsewhere = world.join_room(other, 100);
    let frame = world.frame(1);
    world.deliver_frame(&frame);
    world.handle(ShardMsg::Deliver { room: other, frame });
    assert!(world.goes_on());
    assert_eq!(elsewhere.read(), [Batch(1, 1)]);
    // Some viewer that has not got the frame.
    let last = (0..10).rev().find(|&at| peers[at].pipe.bytes_held() == 0);
    let last = last.expect("two slices are eight viewers");
    world.unicast(last as u64, "ack");
    let bytes = pong_frame(b"here");
    let conn = ConnId(last as u64);
    world.handle(ShardMsg::Pong { conn, bytes });
    world.pass(ms(0));
    let messages = peers[last].read();
    assert_eq!(messages.len(), 3);
    assert!(messages.contains(&Text("ack".to_owned())));
    assert!(messages.contains(&Pong(b"here".to_vec())));
    assert!(messages.contains(&Batch(1, 1)));
}

#[test]
fn large_rooms_take_turns() {
    let (mut world, mut here) = crowd(12);
    let other = RoomKey(ROOM.0 + 1);
    let mut there: Vec<_> = (100..112)
        .map(|conn| world.join_room(other, conn))
        .collect();
    let frame = world.frame(1);
    world.shard.handle(
        ShardMsg::Deliver {
            room: ROOM,
            frame: frame.clone(),
        },
        world.now,
    );
    world
        .shard
        .handle(ShardMsg::Deliver { room: other, frame }, world.now);
    for _ in 0..3 {
        world.turn();
        assert_eq!(reached(&mut here, &[Batch(1, 1)]).len(), 4);
        world.turn();
        assert_eq!(reached(&mut there, &[Batch(1, 1)]).len(), 4);
    }
    assert!(!world.goes_on());
}

#[test]
fn a_second_frame_waits_for_the_first_and_those_who_join_meanwhile_get_what_follows() {
    let (mut world, mut peers) = crowd(10);
    let first = world.deliver(1);
    let replay = vec![Outgoing::Frame(first.clone())];
    let mut late = world.join_with(20, Dialect::WsIdentity, ROOMY, replay);
    assert_eq!(late.read(), [Batch(1, 1)]);
    let second = world.frame(1);
    world.shard.handle(
        ShardMsg::Deliver {
            room: ROOM,
            frame: second.clone(),
        },
        world.now,
    );
    let replay = vec![Outgoing::Frame(first), Outgoing::Frame(second)];
    let mut later = world.join_with(21, Dialect::WsIdentity, ROOMY, replay);
    world.pass(ms(0));
    assert_eq!(later.read(), [Batch(1, 1), Batch(2, 2)]);
    assert_eq!(late.read(), [Batch(2, 2)]);
    for peer in &mut peers {
        assert_eq!(peer.read(), [Batch(1, 1), Batch(2, 2)]);
    }
}

#[test]
fn viewers_that_leave_in_mid_pass_keep_everyone_else() {
    // Whoever leaves, and after whichever slice: the last of the set takes the place.
    for slices in 1..5 {
        for gone in 0..20 {
            let (mut world, mut peers) = crowd(20);
            world.deliver(1);
            for _ in 1..slices {
                world.turn();
            }
            world.handle(ShardMsg::Detach { conn: ConnId(gone) });
            world.pass(ms(0));
            for (conn, peer) in (0..).zip(&mut peers) {
                let messages = peer.read();
                assert!(
                    conn == gone || messages == [Batch(1, 1)],
                    "{conn}: {messages:?}"
                );
            }
        }
    }
}

#[test]
fn a_room_that_empties_in_mid_pass_is_gone() {
    let (mut world, peers) = crowd(10);
    world.deliver(1);
    for conn in 0..10 {
        world
            .shard
            .handle(ShardMsg::Detach { conn: ConnId(conn) }, world.now);
    }
    drop(peers);
    world.turn();
    assert_eq!(world.wake_at, None);
    let mut again = world.join(50, Dialect::WsIdentity, ROOMY);
    world.deliver(1);
    assert_eq!(again.read(), [Batch(2, 2)]);
}

#[test]
fn a_close_in_mid_pass_comes_after_the_frames_under_way() {
    let closes: [fn(u64) -> ShardMsg; 3] = [
        |conn| ShardMsg::Close {
            conn: ConnId(conn),
            reason: CloseReason::Normal,
        },
        |_| ShardMsg::CloseRoom {
            room: ROOM,
            reason: CloseReason::Normal,
        },
        |_| ShardMsg::Stop {
            reason: CloseReason::Normal,
            deadline: ms(1_000),
        },
    ];
    for close in closes {
        let (mut world, mut peers) = crowd(10);
        for n in 1..=3 {
            let frame = world.frame(1);
            world
                .shard
                .handle(ShardMsg::Deliver { room: ROOM, frame }, world.now);
            if n == 2 {
                world.turn();
            }
        }
        for conn in 0..10 {
            world.shard.handle(close(conn), world.now);
        }
        world.turn();
        let code = CloseReason::Normal.code();
        for peer in &mut peers {
            let expected = [Batch(1, 1), Batch(2, 2), Batch(3, 3), Close(code)];
            assert_eq!(peer.read(), expected);
        }
    }
}

#[test]
fn an_evicted_viewer_gets_nothing_of_what_is_under_way() {
    let (mut world, mut peers) = crowd(10);
    world.deliver(1);
    world.pass(ms(0));
    for peer in &mut peers {
        assert_eq!(peer.read(), [Batch(1, 1)]);
        peer.pipe.set_bytes_max(0);
    }
    world.deliver(1);
    // Messages that may not be skipped pile up in mid-pass.
    let text = "x".repeat(1 << 20);
    for conn in 0..10 {
        world.unicast(conn, &text);
        world.unicast(conn, &text);
    }
    world.pass(ms(0));
    assert_eq!(world.counts().evicted_control, 10);
    for peer in &peers {
        peer.pipe.set_bytes_max(ROOMY);
    }
    world.pass(ms(20));
    for peer in &mut peers {
        assert_eq!(peer.read(), [Close(CloseReason::SlowConsumer.code())]);
    }
}

#[test]
fn a_slow_viewer_of_a_large_room_is_told_what_it_missed() {
    let (mut world, mut peers) = crowd(10);
    peers[3].pipe.set_bytes_max(0);
    let mut bytes = 0;
    while world.counts().frames_skipped_bytes == 0 {
        bytes += world.deliver(100).json().len();
        assert!(bytes < 8 << 20, "{bytes} bytes wait");
        world.pass(ms(0));
        for (index, peer) in peers.iter_mut().enumerate() {
            assert!(index == 3 || peer.read().len() == 1);
        }
    }
    peers[3].pipe.set_bytes_max(ROOMY);
    let messages = peers[3].read_on(&mut world);
    assert!(matches!(messages[0], Gap(1, _)), "{:?}", messages[0]);
}

#[test]
fn frames_that_come_faster_than_they_are_delivered_do_not_pile_up() {
    let (mut world, mut peers) = crowd(10);
    for _ in 0..20 {
        let frame = world.frame(1);
        world
            .shard
            .handle(ShardMsg::Deliver { room: ROOM, frame }, world.now);
    }
    let offered = world.counts().frames_offered;
    assert_eq!(offered, 16 * 10, "all but four of them are out");
    world.turn();
    world.pass(ms(0));
    let expected: Vec<_> = (1..=20).map(|n| Batch(n, n)).collect();
    for peer in &mut peers {
        assert_eq!(peer.read(), expected);
    }
}
