//! Falling behind: waiting, skipping, gaps, eviction.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use danmaku_fanout::{ConnId, FanoutConfig, Outgoing, ShardMsg};
use danmaku_wire::outbound::pong_frame;
use danmaku_wire::{Dialect, Form};

use crate::fixture::{Message, ROOMY, World, config, ms, note};
use Message::{Batch, Close, Gap, Likes, Pong, Text};

#[test]
fn a_viewer_that_keeps_up_gets_every_frame_at_once_and_no_outbox() {
    let mut world = World::new(&config());
    let mut peers: Vec<_> = (1..)
        .zip(Dialect::ALL)
        .map(|(conn, dialect)| world.join(conn, dialect, ROOMY))
        .collect();
    world.deliver(3);
    world.deliver(0);
    for peer in &mut peers {
        assert_eq!(peer.read(), [Batch(1, 3), Likes]);
    }
    let counts = world.counts();
    assert_eq!((counts.frames_offered, counts.frames_written), (10, 10));
    assert_eq!((counts.viewers_behind, counts.partial_writes), (0, 0));
    assert_eq!(counts.passes, 2);
}

#[test]
fn too_many_bytes_skip_the_oldest_frames_and_one_gap_stands_where_they_were() {
    let mut world = World::new(&config());
    let frame_bytes = world.frame(1).form(Form::WsIdentity).len();
    world = World::new(&FanoutConfig {
        outbox_bytes_max: 3 * frame_bytes + 2,
        ..config()
    });
    let mut peer = world.join(1, Dialect::WsIdentity, 10);
    for _ in 0..9 {
        world.deliver(1);
    }
    // The first is partly written and can be skipped no more; the last three fit.
    let counts = world.counts();
    assert_eq!((counts.frames_skipped_bytes, counts.viewers_behind), (5, 1));
    assert_eq!(world.shard.frames_waiting(), 4);
    peer.pipe.set_bytes_max(ROOMY);
    let expected = [
        Batch(1, 1),
        Gap(2, 6),
        Batch(7, 7),
        Batch(8, 8),
        Batch(9, 9),
    ];
    assert_eq!(peer.read_on(&mut world), expected);
    let counts = world.counts();
    assert_eq!((counts.gaps_written, counts.viewers_behind), (1, 0));
    assert_eq!((counts.frames_written, counts.outbox_bytes), (4, 0));
}

#[test]
fn a_gap_that_is_on_its_way_is_not_changed_by_what_is_skipped_later() {
    let mut world = World::new(&FanoutConfig {
        outbox_age_max: ms(100),
        ..config()
    });
    let mut peer = world.join(1, Dialect::WsIdentity, 0);
    world.deliver(1);
    world.pass(ms(200));
    // Room for a part of the gap only.
    peer.pipe.set_bytes_max(12);
    world.pass(ms(20));
    world.deliver(2);
    world.pass(ms(200));
    world.deliver(1);
    peer.pipe.set_bytes_max(ROOMY);
    assert_eq!(
        peer.read_on(&mut world),
        [Gap(1, 1), Gap(2, 3), Batch(4, 4)]
    );
}

#[test]
fn too_old_frames_are_skipped_and_told_even_when_nothing_follows() {
    let mut world = World::new(&FanoutConfig {
        outbox_age_max: ms(1_000),
        ..config()
    });
    let mut peer = world.join(1, Dialect::WsIdentity, 0);
    world.deliver(2);
    world.pass(ms(500));
    world.deliver(3);
    world.pass(ms(490));
    assert_eq!(world.counts().frames_skipped(), 0);
    world.pass(ms(30));
    assert_eq!(world.counts().frames_skipped_age, 1);
    world.pass(ms(1_000));
    assert_eq!(world.counts().frames_skipped_age, 2);
    assert_eq!(world.counts().viewers_behind, 1, "the gap is owed");
    peer.pipe.set_bytes_max(ROOMY);
    world.pass(ms(10));
    assert_eq!(peer.read(), [Gap(1, 5)]);
    assert_eq!(world.counts().viewers_behind, 0);
}

#[test]
fn a_skipped_frame_without_positions_is_counted_but_makes_no_gap() {
    let mut world = World::new(&FanoutConfig {
        outbox_age_max: ms(100),
        ..config()
    });
    let mut peer = world.join(1, Dialect::WsIdentity, 0);
    world.deliver(0);
    world.pass(ms(200));
    assert_eq!(world.counts().frames_skipped_age, 1);
    peer.pipe.set_bytes_max(ROOMY);
    world.deliver(1);
    assert_eq!(peer.read(), [Batch(1, 1)]);
}

#[test]
fn the_events_of_skipped_frames_are_told_in_their_gap() {
    for dialect in Dialect::ALL {
        let mut world = World::new(&FanoutConfig {
            outbox_age_max: ms(100),
            ..config()
        });
        let mut peer = world.join(1, dialect, ROOMY);
        world.deliver(1);
        assert_eq!(peer.read(), [Batch(1, 1)]);
        peer.pipe.set_bytes_max(0);
        world.deliver(2);
        let events = world.frame_of_events(2, 3);
        world.deliver_frame(&events);
        world.deliver(0);
        // A gap of the whole room is skipped like any frame, and becomes a part of this viewer's own.
        let gap = world.gap_frame(4);
        world.deliver_frame(&gap);
        world.pass(ms(200));
        assert_eq!(world.counts().frames_skipped_age, 4);
        let events = world.frame_of_events(1, 1);
        world.deliver_frame(&events);
        peer.pipe.set_bytes_max(ROOMY);
        let got = peer.read_on(&mut world);
        assert_eq!(got, [Gap(2, 9), Batch(10, 10)], "{dialect:?}");
        assert_eq!(peer.events, [4, 5, 9, 10], "{dialect:?}");
        assert_eq!(world.shard.bytes_waiting(), 0);
    }
}

#[test]
fn a_gap_of_the_room_is_a_frame_like_any_other() {
    for dialect in Dialect::ALL {
        let mut world = World::new(&config());
        let mut peer = world.join(1, dialect, ROOMY);
        world.deliver(1);
        let gap = world.gap_frame(3);
        world.deliver_frame(&gap);
        world.deliver(1);
        assert_eq!(peer.read(), [Batch(1, 1), Gap(2, 4), Batch(5, 5)]);
        assert_eq!(peer.events, [4], "{dialect:?}");
        assert_eq!(world.counts().frames_written, 3);
    }
}

#[test]
fn more_events_than_may_be_kept_evict() {
    fn check(age: Duration, frames: u64) {
        let mut world = World::new(&FanoutConfig {
            outbox_bytes_max: 2_000,
            outbox_age_max: age,
            control_bytes_max: 3_000,
            ..config()
        });
        let mut peer = world.join(1, Dialect::WsIdentity, 0);
        for _ in 0..frames {
            let events = world.frame_of_events(10, 2);
            world.deliver_frame(&events);
            world.pass(ms(10));
            assert!(world.shard.bytes_waiting() <= 2_000 + 3_000);
        }
        world.pass(ms(200));
        let counts = world.counts();
        assert_eq!((counts.evicted_events, counts.evicted()), (1, 1));
        assert!(world.shard.bytes_waiting() < 100);
        peer.pipe.set_bytes_max(ROOMY);
        world.pass(ms(10));
        assert_eq!(peer.read(), [Close(4001)]);
    }
    // Skipped for their bytes, and for their age.
    check(ms(3_600_000), 20);
    check(ms(100), 3);
}

#[test]
fn events_that_were_told_make_room_for_others() {
    let mut world = World::new(&FanoutConfig {
        outbox_age_max: ms(1_000),
        control_bytes_max: 3_000,
        ..config()
    });
    let mut peer = world.join(1, Dialect::WsIdentity, 1_000);
    world.deliver(100);
    for round in 0..10 {
        let events = world.frame_of_events(10, 2);
        world.deliver_frame(&events);
        world.pass(ms(1_100));
        // It is behind all the time: this one is begun when the gap before it has been read.
        world.deliver(100);
        while !peer.read().iter().any(|it| matches!(it, Gap(..))) {
            world.pass(ms(10));
            let counts = world.counts();
            assert_eq!((counts.evicted(), counts.viewers_behind), (0, 1), "{round}");
        }
    }
    assert_eq!(peer.events.len(), 100);
}

#[test]
fn no_message_starts_inside_another_however_the_pipe_is_cut() {
    for step in 1..60 {
        let mut world = World::new(&config());
        let mut peer = world.join(1, Dialect::WsIdentity, 13);
        let mut got = Vec::new();
        for round in 0..4_u8 {
            world.deliver(2);
            world.unicast(1, &round.to_string());
            world.handle(ShardMsg::Pong {
                conn: ConnId(1),
                bytes: pong_frame(&[round]),
            });
            got.extend(peer.read_up_to(step));
            world.pass(ms(10));
        }
        got.extend(peer.read_on(&mut world));
        // Pongs may stand anywhere between messages; all else is in order and whole.
        assert!(got.contains(&Pong(vec![3])), "{got:?}");
        got.retain(|message| !matches!(message, Pong(_)));
        let expected: Vec<_> = (0..4)
            .flat_map(|round| {
                let first = 1 + 2 * round;
                [Batch(first, first + 1), Text(round.to_string())]
            })
            .collect();
        assert_eq!(got, expected, "step {step}");
    }
}

#[test]
fn control_messages_are_never_skipped_and_keep_their_order() {
    let mut world = World::new(&FanoutConfig {
        outbox_age_max: ms(100),
        ..config()
    });
    let mut peer = world.join(1, Dialect::WsIdentity, 0);
    for round in 0..3 {
        world.unicast(1, &format!("before {round}"));
        world.deliver(1);
    }
    world.pass(ms(1_000));
    world.deliver(1);
    world.unicast(1, "after");
    peer.pipe.set_bytes_max(ROOMY);
    let expected = [
        Text("before 0".into()),
        Text("before 1".into()),
        Text("before 2".into()),
        Gap(1, 3),
        Batch(4, 4),
        Text("after".into()),
    ];
    assert_eq!(peer.read_on(&mut world), expected);
}

#[test]
fn of_several_pongs_that_wait_only_the_newest_is_sent() {
    let mut world = World::new(&config());
    let mut peer = world.join(1, Dialect::WsIdentity, 0);
    for n in 0..100 {
        world.handle(ShardMsg::Pong {
            conn: ConnId(1),
            bytes: pong_frame(&[n]),
        });
    }
    assert!(world.shard.bytes_waiting() < 10);
    peer.pipe.set_bytes_max(ROOMY);
    assert_eq!(peer.read_on(&mut world), [Pong(vec![99])]);
}

#[test]
fn a_replay_larger_than_the_kernel_takes_arrives_whole_and_before_live_frames() {
    for dialect in Dialect::ALL {
        let mut world = World::new(&config());
        let replay: Vec<_> = (0..20).map(|_| world.frame(5)).collect();
        let mut first = vec![Outgoing::Control(dialect.message(&note("joined")))];
        first.extend(replay.into_iter().map(Outgoing::Frame));
        let mut peer = world.join_with(1, dialect, 100, first);
        world.deliver(5);
        let mut expected = vec![Text("joined".into())];
        expected.extend((0..21).map(|n| Batch(1 + 5 * n, 5 + 5 * n)));
        assert_eq!(peer.read_on(&mut world), expected, "{dialect:?}");
    }
}

#[test]
fn a_replay_obeys_the_bounds_of_any_frame_but_what_joins_it_stays() {
    let mut world = World::new(&FanoutConfig {
        outbox_bytes_max: 1_000,
        ..config()
    });
    let mut first = vec![Outgoing::Control(
        Dialect::WsIdentity.message(&note("joined")),
    )];
    first.extend((0..50).map(|_| Outgoing::Frame(world.frame(1))));
    let mut peer = world.join_with(1, Dialect::WsIdentity, 0, first);
    assert!(world.shard.bytes_waiting() < 1_100);
    peer.pipe.set_bytes_max(ROOMY);
    let got = peer.read_on(&mut world);
    assert_eq!(got[0], Text("joined".into()));
    let Gap(1, to) = got[1] else {
        panic!("{:?}", got[1])
    };
    let rest: Vec<_> = (to + 1..=50).map(|n| Batch(n, n)).collect();
    assert!(!rest.is_empty());
    assert_eq!(got[2..], rest);
}

#[test]
fn who_stays_behind_is_evicted_after_its_partial_frame_and_every_missed_frame_is_counted() {
    let mut world = World::new(&FanoutConfig {
        evict_after: ms(3_000),
        ..config()
    });
    let mut peer = world.join(1, Dialect::WsIdentity, 20);
    let mut other = world.join(2, Dialect::WsIdentity, ROOMY);
    for _ in 0..2 {
        world.deliver(1);
        world.pass(ms(1_400));
    }
    world.deliver(1);
    assert_eq!(world.counts().evicted(), 0);
    world.pass(ms(250));
    let counts = world.counts();
    assert_eq!(
        (counts.evicted_behind, counts.frames_skipped_evicted),
        (1, 2)
    );
    assert_eq!(world.audience(), (1, 0, 1), "it is no viewer any more");
    peer.pipe.set_bytes_max(ROOMY);
    world.pass(ms(10));
    assert_eq!(peer.read(), [Batch(1, 1), Close(4001)]);
    assert!(peer.pipe.is_ended());
    assert_eq!(
        other.read(),
        [Batch(1, 1), Batch(2, 2), Batch(3, 3)],
        "nobody else is touched"
    );
}

#[test]
fn an_evicted_viewer_that_reads_nothing_is_reset_at_its_deadline() {
    let mut world = World::new(&FanoutConfig {
        evict_after: ms(1_000),
        ..config()
    });
    let mut peer = world.join(1, Dialect::WsIdentity, 20);
    world.deliver(1);
    world.pass(ms(1_010));
    assert_eq!(world.counts().evicted_behind, 1);
    world.pass(ms(1_980));
    assert_eq!(
        (world.counts().viewers, world.counts().closes_forced),
        (1, 0)
    );
    world.pass(ms(20));
    assert_eq!(
        (world.counts().viewers, world.counts().closes_forced),
        (0, 1)
    );
    assert_eq!(world.counts().frames_skipped_closed, 1, "the partial one");
    assert_eq!(world.shard.bytes_waiting(), 0);
    assert!(peer.read().is_empty() && peer.pipe.is_ended());
    assert_eq!(world.audience(), (0, 0, 0));
    assert_eq!(world.wake_at, None, "nothing is left to do");
}

#[test]
fn who_catches_up_in_between_is_not_evicted_however_often_it_falls_behind() {
    let mut world = World::new(&FanoutConfig {
        evict_after: ms(1_000),
        ..config()
    });
    let mut peer = world.join(1, Dialect::WsIdentity, 20);
    for n in 1..=10 {
        world.deliver(1);
        world.pass(ms(900));
        assert_eq!(peer.read_on(&mut world), [Batch(n, n)]);
    }
    // Always something left: behind all the time, although it reads.
    for _ in 0..8 {
        world.deliver(1);
        world.pass(ms(150));
        let _ = peer.read_up_to(30);
    }
    assert_eq!(world.counts().evicted_behind, 1);
}

#[test]
fn more_control_than_may_wait_evicts() {
    let mut world = World::new(&FanoutConfig {
        control_bytes_max: 500,
        ..config()
    });
    let mut peer = world.join(1, Dialect::WsIdentity, 0);
    world.deliver(1);
    for n in 0..100 {
        world.unicast(1, &n.to_string());
    }
    let counts = world.counts();
    assert_eq!(
        (counts.evicted_control, counts.frames_skipped_evicted),
        (1, 1)
    );
    assert!(counts.controls_unsent > 50, "what comes later is counted");
    assert!(world.shard.bytes_waiting() < 500);
    peer.pipe.set_bytes_max(ROOMY);
    world.pass(ms(10));
    assert_eq!(peer.read(), [Close(4001)]);
}

#[test]
fn one_control_message_over_the_bound_evicts_too() {
    let mut world = World::new(&FanoutConfig {
        control_bytes_max: 10,
        ..config()
    });
    let mut peer = world.join(1, Dialect::WsIdentity, 0);
    world.handle(ShardMsg::Unicast {
        conn: ConnId(1),
        bytes: Bytes::from_static(&[0; 11]),
    });
    assert_eq!(world.counts().evicted_control, 1);
    peer.pipe.set_bytes_max(ROOMY);
    world.pass(ms(10));
    assert_eq!(peer.read(), [Close(4001)]);
}

#[test]
fn frames_that_wait_are_shared_and_not_copied() {
    let mut world = World::new(&config());
    let peers: Vec<_> = (0..50)
        .map(|conn| world.join(conn, Dialect::WsIdentity, 0))
        .collect();
    let frame = world.deliver(100);
    assert_eq!(Arc::strong_count(&frame), 1 + peers.len());
    for conn in 0..50 {
        world.handle(ShardMsg::Detach { conn: ConnId(conn) });
    }
    assert_eq!(Arc::strong_count(&frame), 1);
    assert_eq!(world.counts().frames_skipped_closed, 50);
}

#[test]
fn those_behind_are_tried_every_ten_milliseconds_and_others_cost_no_turn() {
    let mut world = World::new(&config());
    let _idle = world.join(1, Dialect::WsIdentity, ROOMY);
    let idle = world.wake_at.expect("a look at the viewer") - world.now;
    assert!(idle > Duration::from_secs(10), "{idle:?}");
    let _blocked = world.join(2, Dialect::WsIdentity, 0);
    world.deliver(1);
    assert_eq!(world.wake_at, Some(world.now + ms(10)));
}
