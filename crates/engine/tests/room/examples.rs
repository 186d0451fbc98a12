//! One promise of the room per test.

use std::time::Duration;

use danmaku_engine::{Flush, Resume, Room, RoomConfig, RoomCounters};
use danmaku_wire::{BatchComment, Epoch, Form, Position, Priority, Seq};
use serde_json::Value;

use crate::fixture::{
    EPOCH, INPUT, at, comment, comments, config, frame, ids, json, position, retract, room, spans,
};

#[test]
fn the_first_comment_goes_out_at_once_and_the_next_a_window_later() {
    let mut room = room();
    assert_eq!(room.deadline(), None);
    comments(&mut room, at(5_300), 1, 1);
    assert_eq!(room.deadline(), Some(Duration::from_millis(5_300)));
    assert_eq!(ids(&json(&room.tick(at(5_300), INPUT).unwrap())), [1]);
    assert_eq!(room.deadline(), None);

    comments(&mut room, at(5_301), 2, 2);
    comments(&mut room, at(5_900), 3, 3);
    assert_eq!(room.deadline(), Some(Duration::from_millis(6_300)));
    assert!(room.tick(at(6_299), INPUT).is_none());
    let batch = json(&room.tick(at(6_300), INPUT).unwrap());
    assert_eq!(ids(&batch), [2, 3]);
    assert_eq!(
        (&batch["ts"], &batch["viewers"]),
        (&Value::from(1_700_000_006_300_u64), &Value::from(3))
    );
    assert!(room.tick(at(9_000), INPUT).is_none());
}

#[test]
fn only_a_room_that_filled_a_window_awaits_the_end_of_the_next() {
    let mut room = room();
    comments(&mut room, at(5_300), 1, 1);
    let _first = room.tick(at(5_300), INPUT).unwrap();
    assert_eq!(room.awaited_end(), None, "it was quiet before");
    comments(&mut room, at(5_400), 2, 2);
    let _second = room.tick(at(6_303), INPUT).unwrap();
    let end = Duration::from_millis(7_300);
    assert_eq!(room.awaited_end(), Some(end));
    // What waited is given with that time, whenever its timer fires, so that the windows keep their pace.
    comments(&mut room, at(7_300), 3, 3);
    let _third = room.tick(at(7_306), INPUT).unwrap();
    assert_eq!(room.awaited_end(), Some(end + Duration::from_secs(1)));
    comments(&mut room, at(9_500), 4, 4);
    let _fourth = room.tick(at(9_500), INPUT).unwrap();
    assert_eq!(room.awaited_end(), None, "it was quiet again");
}

#[test]
fn a_window_that_is_passed_over_leaves_no_frame_and_no_hole_in_the_ring() {
    let mut room = room();
    frame(&mut room, 1, 2);
    comments(&mut room, at(9_000), 3, 4);
    room.pass_over(at(8_999));
    assert_eq!(room.sealed(), position(2), "it is not due");
    room.pass_over(at(9_000));
    assert_eq!((room.sealed(), room.deadline()), (position(4), None));
    assert_eq!((room.history_frames(), room.history_bytes()), (0, 0));
    let Resume::At { boundary, frames } = room.resume(position(1)) else {
        panic!("the epoch and the position are known");
    };
    assert_eq!((boundary, frames.len()), (Seq::new(4), 0));
    assert_eq!(spans(&[frame(&mut room, 5, 5)]), [(4, 5)]);
    assert_eq!(room.drain_counters().batches, 2);
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
    let likes = room.tick(at(9_000), INPUT).unwrap();
    let batch = json(&likes);
    assert_eq!(
        (&batch["likes"], &batch["comments"]),
        (&42.into(), &Value::Array(vec![]))
    );
    assert_eq!(spans(&[likes]), [(2, 2)]);
    assert_eq!(room.sealed(), position(2));
    assert_eq!(spans(&[frame(&mut room, 3, 3)]), [(2, 3)]);
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
    assert_eq!((burst.comments().len(), burst.shed()), (10, 25));
    assert_eq!(
        spans(&[burst, frame(&mut room, 36, 36)]),
        [(0, 35), (35, 36)]
    );

    let counters = room.drain_counters();
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
    assert_eq!(room.drain_counters(), RoomCounters::default());
}

#[test]
fn positions_may_have_holes_and_repeated_ones_are_ignored() {
    let mut room = room();
    comments(&mut room, at(0), 1, 2);
    comments(&mut room, at(0), 1, 2);
    comments(&mut room, at(0), 6, 6);
    let holed = room.tick(at(0), INPUT).unwrap();
    assert_eq!((ids(&json(&holed)), holed.shed()), (vec![1, 2, 6], 0));
    comments(&mut room, at(2_000), 6, 6);
    room.event(at(2_000), retract(6, &[1]));
    comments(&mut room, at(2_000), 9, 9);
    let next = room.tick(at(2_000), INPUT).unwrap();
    assert_eq!(ids(&json(&next)), [9]);
    assert_eq!(spans(&[holed, next]), [(0, 6), (6, 9)]);
    let counters = room.drain_counters();
    assert_eq!((counters.repeated, counters.comments_total()), (4, 4));
}

#[test]
fn a_batch_tells_when_its_comments_were_accepted() {
    let mut room = room();
    frame(&mut room, 1, 1);
    comments(&mut room, at(0), 2, 2);
    let late = BatchComment {
        at_ms: at(850).unix_ms,
        ..comment(3)
    };
    room.comment(at(850), late, Priority::Viewer);
    let batch = json(&room.flush(at(1_000), INPUT).unwrap());
    assert_eq!(batch["at"], serde_json::json!([10, 1]));
}

#[test]
fn events_end_a_window_like_comments_and_are_never_shed() {
    let mut room = room();
    room.event(at(5_000), retract(1, &[]));
    assert_eq!(room.deadline(), Some(Duration::from_millis(5_000)));
    let batch = json(&room.tick(at(5_000), INPUT).unwrap());
    assert_eq!(
        batch["events"],
        serde_json::json!([{"id": 1, "type": "retract", "ids": []}])
    );
    for seq in 2..=51 {
        room.event(at(6_000), retract(seq, &[]));
    }
    comments(&mut room, at(6_000), 52, 80);
    let frame = room.flush(at(6_000), INPUT).unwrap();
    assert_eq!((frame.events().len(), frame.shed()), (50, 19));
    assert_eq!(room.drain_counters().events, 51);
}

#[test]
fn a_retraction_reaches_what_waits_and_what_was_sealed() {
    let mut room = room();
    let before = frame(&mut room, 1, 3);
    frame(&mut room, 4, 5);
    comments(&mut room, at(90_000), 6, 7);
    room.event(at(90_000), retract(8, &[2, 7, 99]));

    // Who has the frame keeps it; who comes now gets another one for the same positions.
    assert_eq!(ids(&json(&before)), [1, 2, 3]);
    let ring = room.frames_after(Seq::ZERO).unwrap();
    assert_eq!(spans(&ring), [(0, 3), (3, 5)]);
    assert_eq!(ids(&json(&ring[0])), [1, 3]);
    assert_eq!(room.pending(), 1);
    let next = room.flush(at(90_000), INPUT).unwrap();
    assert_eq!(ids(&json(&next)), [6]);
    assert_eq!(spans(&[next]), [(5, 8)]);
    // An event that came before is not obeyed again.
    room.event(at(91_000), retract(8, &[1]));
    assert_eq!(
        ids(&json(&room.frames_after(Seq::ZERO).unwrap()[0])),
        [1, 3]
    );
}

#[test]
fn a_window_of_which_all_was_retracted_still_tells_its_positions() {
    let mut room = room();
    comments(&mut room, at(5_000), 1, 1);
    room.event(at(5_000), retract(2, &[1]));
    let frame = room.tick(at(5_000), INPUT).unwrap();
    assert_eq!((frame.comments().len(), frame.events().len()), (0, 1));
    assert_eq!(spans(&[frame]), [(0, 2)]);
}

#[test]
fn what_the_log_lost_is_a_gap_for_everybody() {
    let mut room = room();
    frame(&mut room, 1, 2);
    assert!(room.lost(at(90_000), Seq::new(2), INPUT).is_empty());
    comments(&mut room, at(90_000), 3, 4);
    let frames = room.lost(at(90_000), Seq::new(9), INPUT);
    assert_eq!(spans(&frames), [(2, 4), (4, 9)]);
    assert_eq!((frames[0].is_gap(), frames[1].is_gap()), (false, true));
    let gap = serde_json::json!({"type": "gap", "after": 4, "seq": 9});
    assert_eq!(json(&frames[1]), gap);
    assert_eq!(room.deadline(), None);
    // Nothing waits, so the next loss is a gap alone.
    assert_eq!(
        spans(&room.lost(at(90_000), Seq::new(10), INPUT)),
        [(9, 10)]
    );
    assert_eq!(spans(&[frame(&mut room, 12, 12)]), [(10, 12)]);
    assert_eq!(
        spans(&room.frames_after(Seq::new(4)).unwrap()),
        [(4, 9), (9, 10), (10, 12)]
    );
    assert_eq!(room.drain_counters().gaps, 2);
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
    assert_eq!(spans(&[frame(&mut room, 42, 43)]), [(41, 43)]);
    assert_eq!(room.sealed(), position(43));
}

#[test]
fn the_last_frame_before_a_stop_does_not_wait() {
    let mut room = room();
    frame(&mut room, 1, 1);
    comments(&mut room, at(1), 2, 3);
    assert!(room.tick(at(2), INPUT).is_none());
    assert_eq!(spans(&[room.flush(at(2), INPUT).unwrap()]), [(1, 3)]);
    assert!(room.flush(at(3), INPUT).is_none());
}

#[test]
fn a_viewer_who_comes_back_gets_what_it_missed() {
    let mut room = room();
    for first in (1..=40).step_by(5) {
        frame(&mut room, first, first + 4);
    }
    // 40 positions in frames of 5; the ring holds the last 5 frames: 16 to 40.
    let all = [(15, 20), (20, 25), (25, 30), (30, 35), (35, 40)];
    let check = |since: u64, boundary: u64, frames: &[(u64, u64)]| {
        let Resume::At {
            boundary: found,
            frames: replayed,
        } = room.resume(position(since))
        else {
            panic!("{since} is in the past of this epoch");
        };
        assert_eq!(found.value(), boundary, "since {since}");
        assert_eq!(spans(&replayed), frames, "since {since}");
        let exact = room.frames_after(Seq::new(since)).map(|it| spans(&it));
        assert_eq!(exact, (since == boundary).then(|| frames.to_vec()));
    };
    check(40, 40, &[]);
    check(39, 40, &[]);
    check(36, 40, &[]);
    check(35, 35, &all[4..]);
    check(28, 30, &all[3..]);
    check(25, 25, &all[2..]);
    check(15, 15, &all);
    check(14, 15, &all);
    check(0, 15, &all);
    assert!(room.frames_after(Seq::new(41)).is_none());
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
        matches!(room.resume(position(2)), Resume::At { boundary, frames } if boundary == Seq::new(2) && frames.is_empty())
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
    let Resume::At { boundary, frames } = room.resume(position(4)) else {
        panic!("4 is in the past")
    };
    assert_eq!((boundary, frames.len()), (Seq::new(12), 0));
}

#[test]
fn the_ring_is_bounded_in_bytes_even_when_forms_are_made_later() {
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
        assert!(Form::ALL.iter().all(|&form| !frame.form(form).is_empty()));
    }
    assert!(
        (2..50).contains(&room.history_frames()),
        "{}",
        room.history_frames()
    );
    // A frame that is not kept itself is an occasion too.
    room.likes(at(9_000_000), 1);
    assert!(room.tick(at(9_000_000), INPUT).is_some());
    assert!(room.history_bytes() <= 4_000, "{}", room.history_bytes());
    // Whoever needs the memory gets the oldest first.
    let before = (room.history_bytes(), room.history_frames());
    let freed = room.trim_history(1);
    assert_eq!(room.history_bytes(), before.0 - freed);
    assert_eq!(room.history_frames(), before.1 - 1);
    assert_eq!(room.trim_history(usize::MAX), before.0 - freed);
    assert_eq!((room.history_bytes(), room.history_frames()), (0, 0));
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
