//! Whatever a viewer skips, what it gets is one valid stream, in order, with a gap for all that is missing.

use danmaku_fanout::{ConnId, FanoutConfig, Outgoing, ShardMsg};
use danmaku_wire::outbound::pong_frame;
use danmaku_wire::{CloseReason, Encoding};
use proptest::prelude::*;

use crate::fixture::{Message, ROOMY, World, config, ms};
use Message::{Batch, Gap};

#[test]
fn a_deflate_viewer_goes_on_with_independent_forms_after_a_skip_and_then_with_the_next_group() {
    let mut world = World::new(&FanoutConfig {
        outbox_age_max: ms(100),
        ..config()
    });
    let mut peer = world.join(1, Encoding::Deflate, ROOMY);
    for n in 1..=3 {
        let before = world.counts().bytes_written;
        let frame = world.deliver(1);
        assert_eq!(peer.read(), [Batch(n, n)]);
        let chained = frame.chained().expect("there are deflate viewers").len();
        assert_eq!(world.counts().bytes_written - before, chained as u64);
    }
    // Nothing fits, and the fourth gets too old.
    peer.pipe.set_bytes_max(0);
    world.deliver(1);
    world.pass(ms(200));
    peer.pipe.set_bytes_max(ROOMY);
    world.pass(ms(10));
    assert_eq!(peer.read(), [Gap(4, 4)]);
    // A group has 30 batches: 5 to 30 are independent, 31 starts the next.
    for n in 5..=40 {
        let before = world.counts().bytes_written;
        let frame = world.deliver(1);
        assert_eq!(peer.read(), [Batch(n, n)]);
        let (_, index) = frame.group().expect("sealed in a group");
        let form = if (n - 1) % 30 == 0 || n > 30 {
            frame.chained().expect("in a group")
        } else {
            assert_eq!(u64::from(index), n - 1);
            frame.independent()
        };
        assert_eq!(
            world.counts().bytes_written - before,
            form.len() as u64,
            "batch {n}"
        );
    }
}

#[test]
fn a_deflate_viewer_that_is_behind_and_skips_nothing_keeps_the_shared_history() {
    let mut world = World::new(&config());
    // The first is cut in two on the way out, the others wait.
    let mut peer = world.join(1, Encoding::Deflate, 10);
    let mut chained = 0;
    let mut expected = Vec::new();
    for n in 1..=5 {
        let frame = world.deliver(1);
        chained += frame.chained().expect("in a group").len() as u64;
        expected.push(Batch(n, n));
    }
    peer.pipe.set_bytes_max(ROOMY);
    assert_eq!(peer.read_on(&mut world), expected);
    // And it goes on when it has caught up.
    chained += world.deliver(1).chained().expect("in a group").len() as u64;
    assert_eq!(peer.read(), [Batch(6, 6)]);
    assert_eq!(world.counts().bytes_written, chained);
}

#[test]
fn a_frame_that_waits_chooses_its_form_when_it_is_started() {
    let mut world = World::new(&FanoutConfig {
        outbox_age_max: ms(1_000),
        ..config()
    });
    let mut peer = world.join(1, Encoding::Deflate, ROOMY);
    world.deliver(1);
    peer.pipe.set_bytes_max(0);
    // Both wait; had the second chosen when it was queued, it would refer back to the first.
    world.deliver(1);
    world.pass(ms(900));
    world.deliver(1);
    world.pass(ms(200));
    peer.pipe.set_bytes_max(ROOMY);
    assert_eq!(
        peer.read_on(&mut world),
        [Batch(1, 1), Gap(2, 2), Batch(3, 3)]
    );
}

#[derive(Debug, Clone)]
enum Step {
    Deliver(u64),
    Ack,
    Pong(u8),
    Room(usize),
    Read(usize),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..6_u64).prop_map(Step::Deliver),
        1 => Just(Step::Ack),
        1 => any::<u8>().prop_map(Step::Pong),
        2 => (0..400_usize).prop_map(Step::Room),
        2 => (0..300_usize).prop_map(Step::Read),
        3 => (1..300_u64).prop_map(Step::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_stream_is_valid_and_every_position_is_accounted_for(
        encoding in prop::sample::select(&Encoding::ALL[..]),
        replay in 0..4_u64,
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut world = World::new(&FanoutConfig {
            outbox_bytes_max: 700,
            outbox_age_max: ms(500),
            control_bytes_max: 1 << 20,
            ..config()
        });
        let first = (0..replay).map(|_| Outgoing::Frame(world.frame(2))).collect();
        let mut peer = world.join_with(1, encoding, 50, first);
        let (mut got, mut acks, mut positions) = (Vec::new(), 0, 2 * replay);
        for step in steps {
            match step {
                Step::Deliver(comments) => {
                    world.deliver(comments);
                    positions += comments;
                }
                Step::Ack => {
                    world.unicast(1, &acks.to_string());
                    acks += 1;
                }
                Step::Pong(n) => world.handle(ShardMsg::Pong {
                    conn: ConnId(1),
                    bytes: pong_frame(&[n]),
                }),
                Step::Room(bytes_max) => peer.pipe.set_bytes_max(bytes_max),
                Step::Read(bytes_max) => got.extend(peer.read_up_to(bytes_max)),
                Step::Pass(time) => world.pass(ms(time)),
            }
            // One frame may be partly written beside what waits; acks and gaps are small.
            let bound = 700 + 700 + 40 * acks + 100;
            prop_assert!(world.shard.bytes_waiting() <= bound);
        }
        world.handle(ShardMsg::Close { conn: ConnId(1), reason: CloseReason::Normal });
        peer.pipe.set_bytes_max(ROOMY);
        got.extend(peer.read_on(&mut world));

        let mut next = 1;
        let mut acked = 0;
        for message in &got {
            match message {
                Batch(from, to) | Gap(from, to) => {
                    prop_assert_eq!(*from, next);
                    next = to + 1;
                }
                Message::Text(ack) => {
                    prop_assert_eq!(ack, &acked.to_string());
                    acked += 1;
                }
                Message::Likes | Message::Pong(_) | Message::Close(_) => {}
                Message::Ping => prop_assert!(false, "nobody was silent"),
            }
        }
        prop_assert_eq!((next, acked), (positions + 1, acks));
        prop_assert_eq!(got.last(), Some(&Message::Close(1000)));
        prop_assert!(peer.pipe.is_ended());
    }
}
