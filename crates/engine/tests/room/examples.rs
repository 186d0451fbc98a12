//! One promise of the room per test.

use std::time::Duration;

use danmaku_engine::{Flush, Resume, Room, RoomConfig, RoomCounters};
use danmaku_wire::{Epoch, Position, Priority, Seq};
use serde_json::Value;

use crate::fixture::{
    AUDIENCE, EPOCH, at, comments, config, frame, ids, json, position, room, seqs,
};

#[test]
fn the_first_comment_goes_out_at_once_and_the_next_a_window_later() {
    let mut room = room();
    assert_eq!(room.deadline(), None);
    comments(&mut room, at(5_300), 1, 1);
    assert_eq!(room.deadline(), Some(Duration::from_millis(5_300)));
    assert_eq!(ids(&json(&room.tick(at(5_300), AUDIENCE).unwrap())), [1]);
    assert_eq!(room.deadline(), None);

    comments(&mut room, at(5_301), 2, 2);
    comments(&mut room, at(5_900), 3, 3);
    assert_eq!(room.deadline(), Some(Duration::from_millis(6_300)));
    assert!(room.tick(at(6_299), AUDIENCE).is_none());
    let batch = json(&room.tick(at(6_300), AUDIENCE).unwrap());
    assert_eq!(ids(&batch), [2, 3]);
    assert_eq!(
        (&batch["ts"], &batch["viewers"]),
        (&Value::from(1_700_000_006_300_u64), &Value::from(3))
    );
    assert!(room.tick(at(9_000), AUDIENCE).is_none());
}

#[test]
fn a_fixed_window_ends_at_the_phase() {
    let mut room = Room::new(
        RoomConfig {
            flush: Flush::Fixed,
            ..config()
        },
        EPOCH,
        Seq::ZERO,
    );
    comments(&mut room, at(5_301), 1, 1);
    assert_eq!(room.deadline(), Some(Duration::from_millis(6_300)));
}

#[test]
fn likes_add_up_and_go_out_without_a_comment() {
    let mut room = room();
    frame(&mut room, 1, 2);
    room.likes(at(9_000), 0);
    assert_eq!(room.deadline(), None);
    room.likes(at(9_000), 30);
    room.likes(at(9_000), 12);
    let likes = room.tick(at(9_000), AUDIENCE).unwrap();
    let batch = json(&likes);
    assert_eq!(
        (&batch["likes"], &batch["seq"], &batch["comments"]),
        (&42.into(), &3.into(), &Value::Array(vec![]))
    );
    assert_eq!((likes.covered(), room.sealed()), (0, position(2)));
    assert_eq!(seqs(&[frame(&mut room, 3, 3)]), [(3, 3)]);
    // Nobody who comes back needs likes, and they must not push comments out of the ring.
    assert_eq!(room.history_frames(), 2);
}

#[test]
fn a_burst_is_shed_to_the_cap_and_counted() {
    let mut room = room();
    let burst = frame(&mut room, 1, 35);
    let batch = json(&burst);
    assert_eq!(ids(&batch).len(), 10);
    assert_eq!(batch["shed"], 25);
    assert_eq!(
        (burst.comments(), burst.shed(), burst.covered()),
        (10, 25, 35)
    );
    assert_eq!(seqs(&[frame(&mut room, 36, 36)]), [(36, 36)]);

    let counters = room.take_counters();
    assert_eq!(
        (
            counters.comments_total(),
            counters.shed_total(),
            counters.batches
        ),
        (36, 25, 2)
    );
    assert_eq!(
        (
            counters.comments(Priority::Viewer),
            counters.shed(Priority::Viewer)
        ),
        (36, 25)
    );
    assert_eq!(counters.shed(Priority::Staff), 0);
    assert_eq!(room.take_counters(), RoomCounters::default());
}

#[test]
fn positions_that_the_log_lost_are_counted_and_repeated_ones_ignored() {
    let mut room = room();
    comments(&mut room, at(0), 1, 2);
    comments(&mut room, at(0), 1, 2);
    comments(&mut room, at(0), 6, 6);
    let batch = json(&room.tick(at(0), AUDIENCE).unwrap());
    assert_eq!((ids(&batch), &batch["shed"]), (vec![1, 2, 6], &3.into()));
    comments(&mut room, at(2_000), 6, 7);
    assert_eq!(ids(&json(&room.tick(at(2_000), AUDIENCE).unwrap())), [7]);
    let counters = room.take_counters();
    assert_eq!(
        (
            counters.missed,
            counters.repeated,
            counters.comments_total()
        ),
        (3, 3, 4)
    );
}

#[test]
fn a_repeated_position_alone_starts_no_window() {
    let mut room = room();
    frame(&mut room, 1, 2);
    comments(&mut room, at(9_000), 2, 2);
    assert_eq!(room.deadline(), None);
}

#[test]
fn a_room_goes_on_after_the_position_it_was_given() {
    let mut room = Room::new(config(), EPOCH, Seq::new(41));
    assert_eq!(room.sealed(), position(41));
    assert_eq!(seqs(&[frame(&mut room, 42, 43)]), [(42, 43)]);
    assert_eq!(room.sealed(), position(43));
}

#[test]
fn the_last_frame_before_a_stop_does_not_wait() {
    let mut room = room();
    frame(&mut room, 1, 1);
    comments(&mut room, at(1), 2, 3);
    assert!(room.tick(at(2), AUDIENCE).is_none());
    assert_eq!(seqs(&[room.flush(at(2), AUDIENCE).unwrap()]), [(2, 3)]);
    assert!(room.flush(at(3), AUDIENCE).is_none());
}

#[test]
fn a_viewer_who_comes_back_gets_what_it_missed() {
    let mut room = room();
    for first in (1..=40).step_by(5) {
        frame(&mut room, first, first + 4);
    }
    // 40 positions in frames of 5; the ring holds the last 5 frames: 16 to 40.
    let check = |since: u64, from_log: Option<(u64, u64)>, frames: &[(u64, u64)]| {
        let Resume::Replay {
            from_log: log,
            frames: replayed,
        } = room.resume(position(since))
        else {
            panic!("{since} is in the past of this epoch");
        };
        assert_eq!(
            log.map(|(first, last)| (first.value(), last.value())),
            from_log,
            "since {since}"
        );
        assert_eq!(seqs(&replayed), frames, "since {since}");
    };
    check(40, None, &[]);
    check(35, None, &[(36, 40)]);
    check(36, Some((37, 40)), &[]);
    check(39, Some((40, 40)), &[]);
    check(25, None, &[(26, 30), (31, 35), (36, 40)]);
    check(28, Some((29, 30)), &[(31, 35), (36, 40)]);
    check(
        15,
        None,
        &[(16, 20), (21, 25), (26, 30), (31, 35), (36, 40)],
    );
    check(
        14,
        Some((15, 15)),
        &[(16, 20), (21, 25), (26, 30), (31, 35), (36, 40)],
    );
    check(
        0,
        Some((1, 15)),
        &[(16, 20), (21, 25), (26, 30), (31, 35), (36, 40)],
    );
    assert!(matches!(room.resume(position(41)), Resume::Ahead));
    let other = Position {
        epoch: Epoch::new(EPOCH.value() + 1),
        seq: Seq::new(40),
    };
    assert!(matches!(room.resume(other), Resume::OtherEpoch));
}

#[test]
fn what_is_pending_is_ahead_of_what_can_be_resumed() {
    let mut room = room();
    frame(&mut room, 1, 2);
    comments(&mut room, at(1), 3, 3);
    assert!(matches!(room.resume(position(3)), Resume::Ahead));
    assert!(
        matches!(room.resume(position(2)), Resume::Replay { from_log: None, frames } if frames.is_empty())
    );
}

#[test]
fn a_room_without_history_sends_everybody_to_the_log() {
    let mut room = Room::new(
        RoomConfig {
            history_frames_max: 0,
            ..config()
        },
        EPOCH,
        Seq::new(10),
    );
    frame(&mut room, 11, 12);
    let Resume::Replay { from_log, frames } = room.resume(position(4)) else {
        panic!("4 is in the past")
    };
    assert_eq!(
        (from_log, frames.len()),
        (Some((Seq::new(5), Seq::new(12))), 0)
    );
}

#[test]
fn the_ring_is_bounded_in_bytes_even_when_encodings_are_made_later() {
    let mut room = Room::new(
        RoomConfig {
            history_frames_max: 100,
            history_bytes_max: 4_000,
            ..config()
        },
        EPOCH,
        Seq::ZERO,
    );
    for first in (1..=1_000).step_by(10) {
        let frame = frame(&mut room, first, first + 9);
        assert!(room.history_bytes() <= 4_000);
        assert!(!frame.gzip().is_empty() && !frame.independent().is_empty());
    }
    assert!(
        (2..50).contains(&room.history_frames()),
        "{}",
        room.history_frames()
    );
    // A frame that is not kept itself is an occasion too.
    room.likes(at(9_000_000), 1);
    assert!(room.tick(at(9_000_000), AUDIENCE).is_some());
    assert!(room.history_bytes() <= 4_000, "{}", room.history_bytes());
    let mut tiny = Room::new(
        RoomConfig {
            history_bytes_max: 10,
            ..config()
        },
        EPOCH,
        Seq::ZERO,
    );
    frame(&mut tiny, 1, 3);
    assert_eq!((tiny.history_frames(), tiny.history_bytes()), (0, 0));
}
