//! Whatever a viewer skips, what it gets is one valid stream, in order, with a gap for all that is missing.

use danmaku_fanout::{ConnId, FanoutConfig, Outgoing, ShardMsg};
use danmaku_wire::outbound::pong_frame;
use danmaku_wire::{CloseReason, Dialect, Form};
use proptest::prelude::*;

use crate::fixture::{Message, ROOMY, World, config, ms, note};
use Message::{Batch, Gap};

/// Dialects with a shared history, and their forms with it and without.
const CHAINS: [(Dialect, Form, Form); 2] = [
    (Dialect::WsDeflate, Form::WsDeflateChained, Form::WsDeflate),
    (Dialect::SseGzip, Form::SseGzipChained, Form::SseGzip),
];

#[test]
fn a_viewer_goes_on_with_independent_forms_after_a_skip_and_then_with_the_next_group() {
    for (dialect, chained, independent) in CHAINS {
        check_skip(dialect, chained, independent);
    }
}

fn check_skip(dialect: Dialect, chained: Form, independent: Form) {
    let mut world = World::new(&FanoutConfig {
        outbox_age_max: ms(100),
        ..config()
    });
    let mut peer = world.join(1, dialect, ROOMY);
    for n in 1..=3 {
        let before = world.counts().bytes_written;
        let frame = world.deliver(1);
        assert_eq!(peer.read(), [Batch(n, n)]);
        let len = frame.form(chained).len();
        assert_eq!(world.counts().bytes_written - before, len as u64);
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
        let form = if n > 30 { chained } else { independent };
        assert_ne!(frame.form(chained) == frame.form(independent), n != 31);
        assert_eq!(
            world.counts().bytes_written - before,
            frame.form(form).len() as u64,
            "batch {n}"
        );
    }
}

#[test]
fn a_viewer_that_is_behind_and_skips_nothing_keeps_the_shared_history() {
    for (dialect, chained, _) in CHAINS {
        let mut world = World::new(&config());
        let mut peer = world.join(1, dialect, ROOMY);
        let opening = world.counts().bytes_written;
        // The first is cut in two on the way out, the others wait.
        peer.pipe.set_bytes_max(peer.pipe.bytes_held() + 10);
        let mut bytes = 0;
        let mut expected = Vec::new();
        for n in 1..=5 {
            bytes += world.deliver(1).form(chained).len() as u64;
            expected.push(Batch(n, n));
        }
        peer.pipe.set_bytes_max(ROOMY);
        assert_eq!(peer.read_on(&mut world), expected);
        // And it goes on when it has caught up.
        bytes += world.deliver(1).form(chained).len() as u64;
        assert_eq!(peer.read(), [Batch(6, 6)]);
        assert_eq!(world.counts().bytes_written - opening, bytes);
    }
}

#[test]
fn a_message_ends_the_shared_history_only_where_it_stands_in_the_stream() {
    for (dialect, chained, independent) in CHAINS {
        let mut world = World::new(&config());
        let mut peer = world.join(1, dialect, ROOMY);
        let opening = world.counts().bytes_written;
        let first = world.deliver(1).form(chained).len() as u64;
        let _ = peer.read();
        // All four wait; the message is queued before the last, and written after the two in front.
        peer.pipe.set_bytes_max(0);
        let before = world.deliver(1).form(chained).len() as u64;
        world.unicast(1, "here");
        let after = world.deliver(1);
        let later = world.deliver(1);
        peer.pipe.set_bytes_max(ROOMY);
        let expected = [
            Batch(2, 2),
            Message::Text("here".into()),
            Batch(3, 3),
            Batch(4, 4),
        ];
        assert_eq!(peer.read_on(&mut world), expected);
        let form = match dialect {
            Dialect::SseGzip => independent,
            _ => chained,
        };
        let frames = [&after, &later].map(|it| it.form(form).len() as u64);
        let note = dialect.message(&note("here")).len() as u64;
        assert_eq!(
            world.counts().bytes_written - opening,
            first + before + note + frames[0] + frames[1],
            "{dialect:?}"
        );
        // And at once, when nothing waits.
        world.unicast(1, "there");
        world.deliver(1);
        let expected = [Message::Text("there".into()), Batch(5, 5)];
        assert_eq!(peer.read(), expected);
    }
}

#[test]
fn a_frame_that_waits_chooses_its_form_when_it_is_started() {
    let mut world = World::new(&FanoutConfig {
        outbox_age_max: ms(1_000),
        ..config()
    });
    let mut peer = world.join(1, Dialect::WsDeflate, ROOMY);
    world.deliver(1);
    assert_eq!(peer.read(), [Batch(1, 1)]);
    peer.pipe.set_bytes_max(0);
    // Both wait; had the second chosen when it was queued, it would refer back to the first.
    world.deliver(1);
    world.pass(ms(900));
    world.deliver(1);
    world.pass(ms(200));
    peer.pipe.set_bytes_max(ROOMY);
    assert_eq!(peer.read_on(&mut world), [Gap(2, 2), Batch(3, 3)]);
}

#[derive(Debug, Clone)]
enum Step {
    Deliver(u64),
    Events(u64),
    Gap(u64),
    Ack,
    Key,
    Pong(u8),
    Room(usize),
    Read(usize),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..6_u64).prop_map(Step::Deliver),
        1 => (1..3_u64).prop_map(Step::Events),
        1 => (1..9_u64).prop_map(Step::Gap),
        1 => Just(Step::Ack),
        1 => Just(Step::Key),
        1 => any::<u8>().prop_map(Step::Pong),
        2 => (0..400_usize).prop_map(Step::Room),
        2 => (0..300_usize).prop_map(Step::Read),
        3 => (1..300_u64).prop_map(Step::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(400)))]

    #[test]
    fn every_stream_is_valid_and_every_position_is_accounted_for(
        dialect in prop::sample::select(&Dialect::ALL[..]),
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
        let mut peer = world.join_with(1, dialect, 50, first);
        let (mut got, mut acks, mut positions) = (Vec::new(), 0, 2 * replay);
        let mut events = Vec::new();
        for step in steps {
            match step {
                Step::Deliver(comments) => {
                    world.deliver(comments);
                    positions += comments;
                }
                Step::Events(count) => {
                    let frame = world.frame_of_events(count, 1);
                    world.deliver_frame(&frame);
                    events.extend((1..=count).map(|n| positions + n));
                    positions += count;
                }
                Step::Gap(count) => {
                    let frame = world.gap_frame(count);
                    world.deliver_frame(&frame);
                    positions += count;
                    events.push(positions);
                }
                Step::Ack => {
                    world.unicast(1, &acks.to_string());
                    acks += 1;
                }
                Step::Key => {
                    peer.pipe.ask_for_key();
                    world.serve(1);
                }
                Step::Pong(n) if dialect.answers_heartbeats() => world.handle(ShardMsg::Pong {
                    conn: ConnId(1),
                    bytes: pong_frame(&[n]),
                }),
                Step::Pong(_) => {}
                Step::Room(bytes_max) => peer.pipe.set_bytes_max(bytes_max),
                Step::Read(bytes_max) => got.extend(peer.read_up_to(bytes_max)),
                Step::Pass(time) => world.pass(ms(time)),
            }
            // One frame may be partly written beside what waits; acks and gaps are small.
            let bound = 700 + 700 + 60 * acks + 90 * events.len() + 500;
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
        prop_assert_eq!(&peer.events, &events);
        prop_assert_eq!(got.last(), Some(&Message::Close(1000)));
        prop_assert!(peer.pipe.is_ended() && !peer.pipe.awaits_key());
    }
}
