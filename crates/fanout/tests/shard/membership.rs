//! Who is in which room, and who is not there any more.

use std::collections::BTreeMap;
use std::sync::Arc;

use danmaku_fanout::{Attach, ConnId, Link, Outgoing, RoomKey, ShardMsg};
use danmaku_wire::outbound::pong_frame;
use danmaku_wire::{CloseReason, Dialect};

use crate::SINK;
use crate::fixture::{Message, ROOM, ROOMY, SHARD, World, config, note};
use Message::Batch;

#[test]
fn leaving_keeps_everyone_else() {
    let mut world = World::new(&config());
    let mut peers: BTreeMap<u64, _> = (0..40)
        .map(|conn| (conn, world.join(conn, Dialect::WsIdentity, ROOMY)))
        .collect();
    let mut position = 0;
    for step in 0..40 {
        let gone = (step * 27) % 40;
        world.handle(ShardMsg::Detach { conn: ConnId(gone) });
        let mut left = peers.remove(&gone).expect("each leaves once");
        world.deliver(1);
        position += 1;
        assert_eq!(left.read(), []);
        for (conn, peer) in &mut peers {
            assert_eq!(peer.read(), [Batch(position, position)], "viewer {conn}");
        }
        assert_eq!(world.audience().0 as usize, peers.len());
    }
    assert_eq!(world.audience(), (0, 0, 0));
    assert_eq!(world.wake_at, None);
}

#[test]
fn rooms_do_not_hear_each_other() {
    let mut world = World::new(&config());
    let mut here = world.join(1, Dialect::WsIdentity, ROOMY);
    let frame = world.frame(1);
    world.handle(ShardMsg::Deliver {
        room: RoomKey(ROOM.0 + 1),
        frame,
    });
    assert_eq!(here.read(), []);
    assert_eq!(world.counts().frames_offered, 0);
}

#[test]
fn messages_to_a_viewer_that_left_are_counted_and_hit_nobody_in_its_place() {
    let mut world = World::new(&config());
    let _first = world.join(1, Dialect::WsIdentity, ROOMY);
    world.handle(ShardMsg::Detach { conn: ConnId(1) });
    let mut second = world.join(2, Dialect::WsIdentity, ROOMY);
    world.unicast(1, "stale");
    world.handle(ShardMsg::Pong {
        conn: ConnId(1),
        bytes: pong_frame(b"stale"),
    });
    world.handle(ShardMsg::Close {
        conn: ConnId(1),
        reason: CloseReason::Normal,
    });
    world.handle(ShardMsg::Detach { conn: ConnId(1) });
    world.deliver(1);
    assert_eq!(second.read(), [Batch(1, 1)]);
    assert_eq!(world.counts().controls_unsent, 2);
    assert_eq!(world.audience(), (1, 0, 1));
}

#[test]
fn an_attach_that_meets_a_dead_socket_is_counted_out_once() {
    let mut world = World::new(&config());
    let (sink, peer) = SINK.open(ROOMY);
    drop(peer);
    world.audience.join(SHARD, Dialect::WsDeflate);
    let frame = world.frame(1);
    world.handle(ShardMsg::Attach(Box::new(Attach {
        conn: ConnId(1),
        link: Arc::new(Link::new(sink.into(), world.now)),
        room: ROOM,
        audience: Arc::clone(&world.audience),
        dialect: Dialect::WsDeflate,
        first: vec![
            Outgoing::Control(Dialect::WsDeflate.message(&note("joined"))),
            Outgoing::Frame(frame),
        ],
    })));
    assert_eq!(world.audience(), (0, 0, 0));
    assert_eq!((world.counts().viewers, world.counts().broken), (0, 1));
    world.handle(ShardMsg::Detach { conn: ConnId(1) });
    assert_eq!(world.audience(), (0, 0, 0));
}

#[test]
fn a_connection_that_fails_removes_only_its_viewer() {
    let mut world = World::new(&config());
    let mut peers: Vec<_> = (0..10)
        .map(|conn| world.join(conn, Dialect::WsIdentity, ROOMY))
        .collect();
    for conn in [0, 4, 9] {
        peers[conn].pipe.end();
    }
    world.deliver(1);
    let counts = world.counts();
    assert_eq!((counts.broken, counts.viewers), (3, 7));
    assert_eq!(
        (counts.frames_written, counts.frames_skipped_closed),
        (7, 3)
    );
    for conn in [1, 2, 3, 5, 6, 7, 8] {
        assert_eq!(peers[conn].read(), [Batch(1, 1)], "viewer {conn}");
    }
    assert_eq!(world.audience(), (7, 0, 7));
}

#[test]
fn a_connection_that_fails_while_it_is_behind_is_off_the_list() {
    let mut world = World::new(&config());
    let peers: Vec<_> = (0..5)
        .map(|conn| world.join(conn, Dialect::WsIdentity, 0))
        .collect();
    world.deliver(1);
    assert_eq!(world.counts().viewers_behind, 5);
    peers[0].pipe.end();
    peers[3].pipe.end();
    world.pass(crate::fixture::ms(10));
    assert_eq!(
        (world.counts().viewers_behind, world.counts().viewers),
        (3, 3)
    );
    assert_eq!(world.shard.frames_waiting(), 3);
}

#[test]
fn a_connection_attached_twice_stays_what_it_was() {
    let mut world = World::new(&config());
    let mut first = world.join(1, Dialect::WsIdentity, ROOMY);
    let second = world.join(1, Dialect::WsDeflate, ROOMY);
    assert!(second.pipe.is_ended());
    world.deliver(1);
    assert_eq!(first.read(), [Batch(1, 1)]);
    assert_eq!(world.audience(), (1, 0, 1));
}
