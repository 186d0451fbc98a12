//! Pings and the idle deadline.

use std::time::Duration;

use danmaku_fanout::FanoutConfig;
use danmaku_wire::Dialect;

use crate::fixture::{Message, ROOMY, World, config, ms};
use Message::{Close, Ping};

fn patient() -> FanoutConfig {
    FanoutConfig {
        ping_interval: ms(1_000),
        idle_deadline: ms(3_600_000),
        ..config()
    }
}

#[test]
fn each_silent_viewer_is_pinged_once_per_interval() {
    let mut world = World::new(&patient());
    let mut peers: Vec<_> = (0..200)
        .map(|conn| world.join(conn, Dialect::WsIdentity, ROOMY))
        .collect();
    // In its first interval a new viewer is not silent yet.
    world.pass(ms(1_000));
    for peer in &mut peers {
        let _ = peer.read();
    }
    for _ in 0..3 {
        world.pass(ms(1_000));
        for peer in &mut peers {
            assert_eq!(peer.read(), [Ping]);
        }
    }
    assert!(world.counts().pings_written >= 600);
}

#[test]
fn the_look_at_many_viewers_is_spread_over_the_interval() {
    let mut world = World::new(&patient());
    let _peers: Vec<_> = (0..6_400)
        .map(|conn| world.join(conn, Dialect::WsIdentity, ROOMY))
        .collect();
    world.pass(ms(2_000));
    let mut before = world.counts().pings_written;
    for _ in 0..10 {
        world.pass(ms(100));
        let pings = world.counts().pings_written - before;
        before += pings;
        assert!((500..=800).contains(&pings), "{pings} in a tenth");
    }
}

#[test]
fn who_was_heard_from_is_not_pinged_and_who_answers_is_pinged_each_interval() {
    let mut world = World::new(&patient());
    let mut talks = world.join(1, Dialect::WsIdentity, ROOMY);
    let mut answers = world.join(2, Dialect::WsIdentity, ROOMY);
    let mut pings = 0;
    for _ in 0..1_000 {
        world.pass(ms(10));
        world.hear(1);
        assert_eq!(talks.read(), []);
        let got = answers.read().len();
        if got > 0 {
            world.hear(2);
        }
        pings += got;
    }
    assert!((8..=10).contains(&pings), "{pings} pings in 10 intervals");
}

#[test]
fn who_is_silent_for_too_long_is_closed_at_the_deadline_and_was_pinged_before() {
    for idle_ms in [1_200, 2_345, 5_000] {
        let mut world = World::new(&FanoutConfig {
            idle_deadline: ms(idle_ms),
            ..patient()
        });
        // So many that they are looked at all over the interval.
        let mut peers: Vec<_> = (0..64)
            .map(|conn| world.join(conn, Dialect::WsIdentity, ROOMY))
            .collect();
        world.pass(ms(idle_ms - 1));
        for peer in &mut peers {
            let before = peer.read();
            assert!(!before.is_empty() && before.iter().all(|it| *it == Ping));
        }
        world.pass(ms(1));
        for peer in &mut peers {
            assert_eq!(peer.read(), [Close(4002)], "{idle_ms}");
        }
        assert_eq!(world.counts().closed_idle, 64);
        assert_eq!(world.audience(), (0, 0, 0));
        world.pass(ms(2_000));
        assert_eq!(world.counts().viewers, 0);
    }
}

#[test]
fn a_sign_of_life_puts_the_deadline_off() {
    let mut world = World::new(&FanoutConfig {
        idle_deadline: ms(1_500),
        ..patient()
    });
    let mut peer = world.join(1, Dialect::WsIdentity, ROOMY);
    for _ in 0..20 {
        world.pass(ms(1_400));
        world.hear(1);
    }
    assert!(peer.read().iter().all(|it| *it == Ping));
    world.pass(ms(1_499));
    assert_eq!(world.counts().closed_idle, 0);
    world.pass(ms(1));
    assert_eq!(world.counts().closed_idle, 1);
}

#[test]
fn a_viewer_that_is_behind_is_not_pinged() {
    let mut world = World::new(&patient());
    let mut peer = world.join(1, Dialect::WsIdentity, 0);
    world.deliver(1);
    let waiting = world.shard.bytes_waiting();
    world.pass(ms(10_000));
    assert_eq!(world.shard.bytes_waiting(), waiting);
    assert_eq!(world.counts().pings_written, 0);
    peer.pipe.set_bytes_max(ROOMY);
    world.pass(ms(20));
    assert_eq!(peer.read()[0], Message::Batch(1, 1));
    world.pass(ms(1_000));
    assert_eq!(peer.read(), [Ping], "and then it is again");
}

#[test]
fn who_cannot_answer_is_never_closed_as_idle_and_hears_from_a_quiet_room_only() {
    for dialect in [Dialect::SseIdentity, Dialect::SseGzip] {
        let mut world = World::new(&FanoutConfig {
            ping_interval: ms(20_000),
            idle_deadline: ms(30_000),
            ..config()
        });
        world.pass(ms(1));
        // So many that they are looked at all over the interval.
        let mut peers: Vec<_> = (0..64)
            .map(|conn| world.join(conn, dialect, ROOMY))
            .collect();
        // In a busy room, and in one with a frame now and then, there is no need to say more.
        for pause_ms in [100, 1_000, 19_000] {
            for _ in 0..40 {
                world.deliver(1);
                world.pass(ms(pause_ms));
                for peer in &mut peers {
                    let read = peer.read();
                    assert!(matches!(read[..], [Message::Batch(..)]), "{read:?}");
                }
            }
        }
        // A quiet one: the first heartbeat comes on time, and then one per look.
        world.pass(ms(999));
        assert!(peers.iter_mut().all(|it| it.read().is_empty()));
        world.pass(ms(2_900));
        for peer in &mut peers {
            let read = peer.read();
            assert!(matches!(read[..], [Ping] | [Ping, Ping]), "{read:?}");
        }
        for _ in 0..5 {
            world.pass(ms(20_000));
            for peer in &mut peers {
                assert_eq!(peer.read(), [Ping], "{dialect:?}");
            }
        }
        // Frames go on in a form that fits behind the heartbeats.
        world.deliver(1);
        for peer in &mut peers {
            assert!(matches!(peer.read()[..], [Message::Batch(..)]));
        }
        let counts = world.counts();
        assert_eq!((counts.closed_idle, counts.viewers), (0, 64));
    }
}

#[test]
fn a_shard_without_viewers_sleeps_and_one_with_idle_viewers_almost() {
    let mut world = World::new(&patient());
    assert_eq!(world.shard.turn(world.now), None);
    let _peer = world.join(1, Dialect::WsIdentity, ROOMY);
    let mut turns = 0;
    let end = world.now + Duration::from_secs(1);
    while let Some(at) = world.wake_at.filter(|&at| at < end) {
        turns += 1;
        world.pass(at - world.now);
    }
    assert!(turns <= 64, "{turns} turns in one interval");
}

#[test]
fn in_a_busy_room_a_ping_goes_along_with_the_next_frame() {
    let mut world = World::new(&patient());
    let mut peers: Vec<_> = (0..100)
        .map(|conn| world.join(conn, Dialect::WsIdentity, ROOMY))
        .collect();
    world.pass(ms(1_000));
    for peer in &mut peers {
        let _ = peer.read();
    }
    // The room is busy from here on, with a frame per tenth of the ping interval.
    let mut pings = vec![0; peers.len()];
    let mut alone = 0;
    for _ in 0..30 {
        world.deliver(1);
        world.pass(ms(100));
        for (peer, pings) in peers.iter_mut().zip(&mut pings) {
            let read = peer.read();
            *pings += read.iter().filter(|it| **it == Ping).count();
            // Whoever was looked at in the tenth before has its ping right behind the frame.
            alone += usize::from(!matches!(read[0], Message::Batch(..)));
        }
    }
    assert_eq!(alone, 0);
    assert!(
        pings.iter().all(|pings| (2..=4).contains(pings)),
        "{pings:?}"
    );
}

#[test]
fn a_ping_does_not_wait_for_a_frame_that_does_not_come() {
    let mut world = World::new(&patient());
    let mut peer = world.join(1, Dialect::WsIdentity, ROOMY);
    world.deliver(1);
    world.pass(ms(2_200));
    let read = peer.read();
    assert!(read.contains(&Ping), "{read:?}");
}

#[test]
fn a_frame_and_its_ping_are_cut_anywhere_without_harm() {
    for bytes_max in 1..=40 {
        let mut world = World::new(&patient());
        let mut peer = world.join(1, Dialect::WsIdentity, ROOMY);
        world.deliver(1);
        world.pass(ms(1_010));
        let _ = peer.read();
        // The ping of this interval is due with the next frame, which does not fit.
        peer.pipe.set_bytes_max(bytes_max);
        world.deliver(1);
        peer.pipe.set_bytes_max(ROOMY);
        world.pass(ms(20));
        world.deliver(1);
        let read: Vec<_> = peer.read().into_iter().filter(|it| *it != Ping).collect();
        assert_eq!(
            read,
            [Message::Batch(2, 2), Message::Batch(3, 3)],
            "{bytes_max}"
        );
    }
}
