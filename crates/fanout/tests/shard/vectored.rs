//! Several messages in one write: what a new viewer is sent first, and what has waited for a slow one.

use danmaku_fanout::Outgoing;
use danmaku_fanout::memory::MemoryKind;
use danmaku_wire::Dialect;

use crate::SINK;
use crate::fixture::{Message, ROOMY, World, config, ms, note};
use Message::{Batch, Gap, Text};

/// Frames of a replay.
const FRAMES: u64 = 30;

/// What a viewer that comes back is sent first.
fn replay(world: &mut World, dialect: Dialect) -> Vec<Outgoing> {
    let joined = Outgoing::Control(dialect.message(&note("joined")));
    let frames = (0..FRAMES).map(|_| Outgoing::Frame(world.frame(1)));
    [joined].into_iter().chain(frames).collect()
}

fn replayed() -> Vec<Message> {
    let batches = (1..=FRAMES).map(|n| Batch(n, n));
    [Text("joined".to_owned())]
        .into_iter()
        .chain(batches)
        .collect()
}

#[test]
fn a_replay_is_one_write() {
    for dialect in Dialect::ALL {
        let mut world = World::new(&config());
        // Someone has to be there for chained forms to be made.
        let _early = world.join(1, dialect, ROOMY);
        let first = replay(&mut world, dialect);
        let mut late = world.join_with(2, dialect, ROOMY, first);
        assert_eq!(late.read(), replayed(), "{dialect:?}");
        if SINK == MemoryKind::Plain {
            assert_eq!(late.pipe.writes(), 1, "{dialect:?}");
        }
        let counts = world.counts();
        assert_eq!(counts.frames_written, FRAMES);
        assert_eq!((counts.partial_writes, counts.viewers_behind), (0, 0));
        world.deliver(1);
        assert_eq!(late.read(), [Batch(FRAMES + 1, FRAMES + 1)]);
    }
}

#[test]
fn a_replay_may_be_cut_anywhere() {
    for dialect in Dialect::ALL {
        for bytes_max in (0..6_000).step_by(61) {
            let mut world = World::new(&config());
            let _early = world.join(1, dialect, ROOMY);
            let first = replay(&mut world, dialect);
            let mut late = world.join_with(2, dialect, bytes_max, first);
            let counts = world.counts();
            assert!(counts.partial_writes <= 1, "one message is begun");
            world.deliver(1);
            let mut expected = replayed();
            expected.push(Batch(FRAMES + 1, FRAMES + 1));
            late.pipe.set_bytes_max(bytes_max.max(64));
            assert_eq!(
                late.read_on(&mut world),
                expected,
                "{dialect:?} {bytes_max}"
            );
        }
    }
}

#[test]
fn a_replay_over_the_bound_is_cut_from_its_oldest_once_the_viewer_takes_no_more() {
    let mut world = World::new(&danmaku_fanout::FanoutConfig {
        outbox_bytes_max: 1_000,
        ..config()
    });
    let dialect = Dialect::WsIdentity;
    let first = replay(&mut world, dialect);
    // A viewer that takes all of it gets all of it, whatever may wait.
    let mut quick = world.join_with(1, dialect, ROOMY, first.clone());
    assert_eq!(quick.read(), replayed());
    let mut slow = world.join_with(2, dialect, 400, first);
    assert!(world.counts().frames_skipped_bytes > 0);
    let messages = slow.read_on(&mut world);
    let gap = messages.iter().find_map(|message| match message {
        Gap(first, last) => Some((*first, *last)),
        _ => None,
    });
    let (first, last) = gap.expect("it is told what it missed");
    let expected: Vec<_> = replayed()
        .into_iter()
        .filter_map(|message| match message {
            Batch(at, _) if at == first => Some(Gap(first, last)),
            Batch(at, _) if at > first && at <= last => None,
            message => Some(message),
        })
        .collect();
    assert_eq!(messages, expected);
}

#[test]
fn what_has_waited_goes_out_in_one_write() {
    let mut world = World::new(&config());
    let mut slow = world.join(1, Dialect::WsDeflate, 0);
    let mut expected = Vec::new();
    for n in 1..=20 {
        world.deliver(1);
        world.unicast(1, &n.to_string());
        expected.extend([Batch(n, n), Text(n.to_string())]);
    }
    slow.pipe.set_bytes_max(ROOMY);
    world.pass(ms(10));
    assert_eq!(slow.read(), expected);
    if SINK == MemoryKind::Plain {
        assert_eq!(slow.pipe.writes(), 1);
    }
    assert_eq!(world.counts().viewers_behind, 0);
}

#[test]
fn one_write_takes_so_many_messages_and_no_more() {
    let mut world = World::new(&config());
    let mut slow = world.join(1, Dialect::WsIdentity, 0);
    for n in 1..=200 {
        world.unicast(1, &n.to_string());
    }
    slow.pipe.set_bytes_max(ROOMY);
    world.pass(ms(10));
    assert_eq!(slow.read().len(), 200);
    if SINK == MemoryKind::Plain {
        assert_eq!(slow.pipe.writes(), 4, "64 in each");
    }
}
