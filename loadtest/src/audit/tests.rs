//! Crafted streams: each way of failing is caught, and nothing else is.

mod stand;

use danmaku_wire::{CompressionPolicy, Encoding, Form, FrameSet, Protocol};

use super::*;
use crate::event_text::EVENT_END;
use stand::{Crafted, Positions, Stand, WINDOW_MS, gap_at, newcomer};

/// Runs one viewer over `frames` with `posted` acknowledged comments, at dense and at sparse positions: what is found is the
/// same.
fn audit(posted: u64, frames: &[Crafted]) -> Tally {
    let [dense, sparse] = Positions::BOTH.map(|positions| {
        let mut stand = Stand::at(positions);
        stand.acknowledge(1..=posted);
        let mut watch = newcomer();
        for crafted in frames {
            let set = stand.seal(crafted);
            stand.read(&mut watch, &set);
        }
        stand.finish(&watch, End::Open)
    });
    assert_eq!(dense, sparse);
    dense
}

fn clean(delivered: u64) -> Tally {
    Tally {
        delivered,
        ..Tally::default()
    }
}

#[test]
fn a_clean_stream_is_clean() {
    let likes = Crafted::new(3, 2, &[]);
    let tally = audit(
        4,
        &[
            Crafted::plain(1, 2),
            likes,
            Crafted::plain(3, 3),
            Crafted::plain(4, 4),
        ],
    );
    assert_eq!(tally, clean(4));
    assert!(tally.is_clean());
}

#[test]
fn a_missing_frame_is_lost() {
    let tally = audit(4, &[Crafted::plain(1, 1), Crafted::plain(4, 4)]);
    assert_eq!(
        tally,
        Tally {
            lost: 2,
            unchained: 1,
            ..clean(2)
        }
    );
    assert!(!tally.is_clean());
}

#[test]
fn a_missing_last_frame_is_lost() {
    assert_eq!(
        audit(4, &[Crafted::plain(1, 1)]),
        Tally {
            lost: 3,
            ..clean(1)
        }
    );
}

#[test]
fn a_comment_missing_inside_a_frame_is_lost() {
    let tally = audit(
        3,
        &[Crafted::new(1, 3, &[(1, 1), (3, 3)]), Crafted::plain(4, 3)],
    );
    assert_eq!(
        tally,
        Tally {
            lost: 1,
            ..clean(2)
        }
    );
}

#[test]
fn a_jump_in_positions_is_no_loss() {
    let mut stand = Stand::at(Positions::Sparse);
    stand.acknowledge(1..=1);
    let mut watch = newcomer();
    // It ends far behind its only comment.
    let set = stand.seal(&Crafted::new(1, 50, &[(1, 1)]));
    stand.read(&mut watch, &set);
    assert_eq!(stand.finish(&watch, End::Open), clean(1));
}

#[test]
fn a_break_of_the_chain_is_a_fault_also_when_nothing_is_missing() {
    let mut stand = Stand::at(Positions::Sparse);
    stand.acknowledge(1..=1);
    let mut watch = newcomer();
    let set = stand.plain(1, 1);
    stand.read(&mut watch, &set);
    let set = stand.seal(&Crafted::new(3, 4, &[]));
    stand.read(&mut watch, &set);
    let tally = stand.finish(&watch, End::Open);
    assert_eq!(
        tally,
        Tally {
            unchained: 1,
            ..clean(1)
        }
    );
    assert!(!tally.is_clean());
}

#[test]
fn a_repeated_frame_is_duplicate() {
    let frame = Crafted::plain(1, 2);
    let tally = audit(2, &[frame.clone(), frame]);
    assert_eq!((tally.duplicate, tally.unchained), (2, 1), "{tally:?}");
}

#[test]
fn a_comment_repeated_in_the_place_of_another_is_duplicate_and_lost() {
    let tally = audit(3, &[Crafted::new(1, 3, &[(1, 1), (2, 1), (3, 3)])]);
    assert_eq!(
        tally,
        Tally {
            duplicate: 1,
            lost: 1,
            ..clean(2)
        }
    );
}

#[test]
fn frames_in_the_wrong_order_are_reordered() {
    let tally = audit(
        3,
        &[
            Crafted::plain(1, 1),
            Crafted::plain(3, 3),
            Crafted::plain(2, 2),
        ],
    );
    assert_eq!(
        tally,
        Tally {
            reordered: 1,
            unchained: 2,
            ..clean(3)
        }
    );
}

#[test]
fn two_comments_swapped_inside_a_frame_are_reordered() {
    let tally = audit(3, &[Crafted::new(1, 3, &[(1, 1), (2, 3), (3, 2)])]);
    assert_eq!(
        tally,
        Tally {
            reordered: 2,
            ..clean(1)
        }
    );
}

#[test]
fn a_comment_nobody_posted_like_this_is_corrupt() {
    let tally = audit(2, &[Crafted::new(1, 2, &[(1, 1), (2, 777)])]);
    assert_eq!(
        tally,
        Tally {
            corrupt: 1,
            ..clean(1)
        }
    );
}

#[test]
fn comments_of_others_are_foreign_and_no_fault() {
    let tally = audit(1, &[Crafted::new(1, 2, &[(1, 1), (2, 9)])]);
    assert_eq!(
        tally,
        Tally {
            foreign: 1,
            ..clean(1)
        }
    );
    assert!(tally.is_clean());
}

#[test]
fn what_is_shed_is_accounted_for_and_what_is_missing_beyond_is_lost() {
    let shed = |shed| Crafted {
        shed,
        ..Crafted::new(1, 4, &[(1, 1), (4, 4)])
    };
    for (count, lost) in [(2, 0), (1, 1)] {
        let tally = audit(5, &[shed(count), Crafted::plain(5, 5)]);
        assert_eq!(
            tally,
            Tally {
                shed: count.into(),
                lost,
                ..clean(3)
            }
        );
    }
}

#[test]
fn what_was_taken_back_is_accounted_for() {
    // Comment 2 was retracted while it waited; comment 4 before a replay was sealed, and its viewer is notified later.
    let frames = [
        Crafted {
            retracted: vec![1, 2],
            ..Crafted::new(1, 3, &[(1, 1)])
        },
        Crafted::new(4, 5, &[(5, 5)]),
        Crafted {
            retracted: vec![4],
            ..Crafted::new(6, 6, &[])
        },
    ];
    // The events are at positions of their own.
    let [dense, sparse] = Positions::BOTH.map(|positions| {
        let mut stand = Stand::at(positions);
        for posted in [1, 2, 4, 5] {
            stand.acknowledge(posted..=posted);
        }
        let mut watch = newcomer();
        for crafted in &frames {
            let set = stand.seal(crafted);
            stand.read(&mut watch, &set);
        }
        stand.finish(&watch, End::Open)
    });
    assert_eq!(dense, sparse);
    assert_eq!(
        dense,
        Tally {
            retracted: 2,
            ..clean(2)
        }
    );
}

#[test]
fn a_gap_accounts_for_skipped_frames_and_the_stream_goes_on() {
    for positions in Positions::BOTH {
        let mut stand = Stand::at(positions);
        stand.acknowledge(1..=5);
        let frames = [stand.plain(1, 1), stand.plain(4, 5)];
        let mut watch = newcomer();
        stand.read(&mut watch, &frames[0]);
        stand.gap(&mut watch, Dialect::WsIdentity, (1, 3));
        stand.read(&mut watch, &frames[1]);
        let tally = stand.finish(&watch, End::Open);
        assert_eq!(
            tally,
            Tally {
                gaps: 1,
                skipped: 2,
                ..clean(3)
            }
        );
    }
}

#[test]
fn a_gap_over_what_was_delivered_contradicts_itself() {
    let mut stand = Stand::at(Positions::Sparse);
    stand.acknowledge(1..=4);
    let set = stand.plain(1, 2);
    let mut watch = newcomer();
    stand.read(&mut watch, &set);
    stand.gap(&mut watch, Dialect::WsIdentity, (1, 4));
    let tally = stand.finish(&watch, End::Open);
    assert_eq!(
        (tally.skipped, tally.contradicted, tally.unchained),
        (2, 1, 1)
    );
}

#[test]
fn a_gap_told_late_fills_the_jump() {
    let mut stand = Stand::at(Positions::Sparse);
    stand.acknowledge(1..=4);
    let set = stand.plain(4, 4);
    let mut watch = newcomer();
    stand.read(&mut watch, &set);
    stand.gap(&mut watch, Dialect::WsIdentity, (1, 3));
    let tally = stand.finish(&watch, End::Open);
    assert_eq!((tally.skipped, tally.lost, tally.contradicted), (2, 1, 0));
    assert_eq!(tally.unchained, 2);
}

#[test]
fn late_counts_from_the_scheduled_time_beyond_the_window() {
    let mut stand = Stand::new();
    stand.acknowledge(1..=2);
    let frames = [stand.plain(1, 1), stand.plain(2, 2)];
    let mut watch = newcomer();
    stand.now = stand.now.after(Duration::from_millis(WINDOW_MS + 499));
    stand.read(&mut watch, &frames[0]);
    stand.now = stand.now.after(Duration::from_millis(2));
    stand.read(&mut watch, &frames[1]);
    assert_eq!(
        stand.finish(&watch, End::Open),
        Tally {
            late: 1,
            ..clean(2)
        }
    );
}

#[test]
fn what_an_evicted_viewer_misses_is_not_lost_and_what_a_broken_one_misses_is() {
    for (end, expected) in [
        (
            End::Told,
            Tally {
                after_close: 2,
                ..clean(1)
            },
        ),
        (
            End::Silent,
            Tally {
                lost: 2,
                ..clean(1)
            },
        ),
    ] {
        let mut stand = Stand::new();
        stand.acknowledge(1..=3);
        let frame = stand.plain(1, 1);
        let mut watch = newcomer();
        stand.read(&mut watch, &frame);
        assert_eq!(stand.finish(&watch, end), expected, "{end:?}");
    }
}

#[test]
fn every_dialect_is_audited_without_an_inflater_per_viewer() {
    for protocol in [Protocol::WebSocket, Protocol::Sse] {
        let of_protocol = |dialect: &Dialect| dialect.protocol() == protocol;
        let dialects: Vec<Dialect> = Dialect::ALL.into_iter().filter(of_protocol).collect();
        let mut stand = Stand::at(Positions::Sparse);
        stand.acknowledge(1..=80);
        let mut viewers: Vec<(Watch, Dialect, danmaku_wire::Cursor)> = (0..9)
            .map(|index| {
                let dialect = dialects[index % dialects.len()];
                let sampled = (index < 3).then_some(dialect);
                (
                    Auditor::joined(0, 0, Moment::default(), sampled),
                    dialect,
                    danmaku_wire::Cursor::default(),
                )
            })
            .collect();
        for first in (1..=80).step_by(2) {
            let set = stand.plain(first, first + 1);
            for (watch, dialect, cursor) in viewers.iter_mut().rev() {
                stand.give(watch, *dialect, cursor, &set);
            }
        }
        for (watch, ..) in &viewers {
            stand.auditor.finish(watch, 0, End::Open);
        }
        let tally = stand.auditor.into_findings().tally;
        assert_eq!(tally, clean(9 * 80), "{protocol:?}");
    }
}

#[test]
fn pieces_of_a_packed_event_stream_are_told_apart() {
    let mut stand = Stand::new();
    stand.acknowledge(1..=3);
    let dialect = Dialect::SseGzip;
    let mut watch = Auditor::joined(0, 0, Moment::default(), Some(dialect));
    let mut cursor = danmaku_wire::Cursor::default();
    let text = |stand: &mut Stand, watch: &mut Watch, payload: &[u8]| {
        let carrier = Carrier {
            room: 0,
            dialect,
            payload,
        };
        match stand.auditor.piece(watch, carrier, stand.now) {
            Piece::Text(text) => Some(String::from_utf8(text.to_vec()).unwrap()),
            _ => None,
        }
    };
    for number in 1..=3 {
        let set = stand.plain(number, number);
        if number == 2 {
            let heartbeat = dialect.heartbeat();
            let said = text(&mut stand, &mut watch, &heartbeat);
            assert_eq!(said.as_deref(), Some(":\n\n"));
            cursor.skipped();
        }
        let bytes = set.form(cursor.choose(dialect, &set));
        if number == 3 {
            // As if its end stood in the middle of it.
            let carrier = Carrier {
                room: 0,
                dialect,
                payload: &bytes[..bytes.len() / 2],
            };
            let piece = stand.auditor.piece(&mut watch, carrier, stand.now);
            assert_eq!(piece, Piece::Unfinished);
        }
        stand.give_form(&mut watch, dialect, cursor_form(bytes, &set), &set);
    }
    let gap = dialect.message(r#"{"type":"gap","after":3,"seq":4}"#);
    let said = text(&mut stand, &mut watch, &gap).unwrap();
    assert!(said.starts_with("data: {") && said.as_bytes().ends_with(EVENT_END));
    assert_eq!(stand.finish(&watch, End::Open), clean(3));
}

/// Which form of a packed event these bytes are.
fn cursor_form(bytes: &[u8], set: &FrameSet) -> Form {
    if set.form(Form::SseGzip) == bytes {
        Form::SseGzip
    } else {
        Form::SseGzipChained
    }
}

#[test]
fn an_event_whose_id_is_not_where_it_ends_is_undecodable() {
    let mut stand = Stand::new();
    stand.acknowledge(1..=1);
    let mut watch = newcomer();
    let set = stand.plain(1, 1);
    let text = String::from_utf8(set.form(Form::SseIdentity).to_vec()).unwrap();
    for odd in [
        text.replace("id: 1:1\n", "id: 1:2\n"),
        text.replace("id: 1:1\n", "id: 2:1\n"),
        text.replace("id: 1:1\n", ""),
    ] {
        let carrier = Carrier {
            room: 0,
            dialect: Dialect::SseIdentity,
            payload: odd.as_bytes(),
        };
        stand.auditor.batch(&mut watch, carrier, stand.now);
    }
    stand.give_form(&mut watch, Dialect::SseIdentity, Form::SseIdentity, &set);
    let tally = stand.finish(&watch, End::Open);
    assert_eq!(
        tally,
        Tally {
            undecodable: 3,
            ..clean(1)
        }
    );
}

#[test]
fn a_deflate_viewer_that_joins_and_skips_in_mid_group_is_followed() {
    let mut stand = Stand::new();
    stand.acknowledge(1..=40);
    let mut steady = (newcomer(), danmaku_wire::Cursor::default());
    let mut skipping = (
        Auditor::joined(10, 10, stand.now, None),
        danmaku_wire::Cursor::default(),
    );
    for position in 1..=40 {
        let set = stand.plain(position, position);
        stand.give(&mut steady.0, Dialect::WsDeflate, &mut steady.1, &set);
        match position {
            0..=10 => {}
            20 => {
                skipping.1.skipped();
                stand.gap(&mut skipping.0, Dialect::WsDeflate, (19, 20));
            }
            _ => stand.give(&mut skipping.0, Dialect::WsDeflate, &mut skipping.1, &set),
        }
    }
    stand.auditor.finish(&steady.0, 0, End::Open);
    stand.auditor.finish(&skipping.0, 0, End::Open);
    let tally = stand.auditor.into_findings().tally;
    assert_eq!(
        tally,
        Tally {
            gaps: 1,
            skipped: 1,
            ..clean(40 + 29)
        }
    );
}

/// Regression: comments that were posted after a viewer had joined were taken for what it had missed.
#[test]
fn a_joined_that_claims_more_than_there_is_contradicts_itself() {
    let mut stand = Stand::new();
    let joined_at = stand.now;
    stand.now = stand.now.after(Duration::from_secs(1));
    stand.acknowledge(1..=3);
    let honest = Auditor::joined(0, 0, joined_at, None);
    assert!(!stand.auditor.claimed_too_much(&honest, 0));
    let far = 1_000_000_000;
    let watch = Auditor::joined(far, far, joined_at, None);
    assert_eq!(stand.finish(&watch, End::Open).contradicted, 1);
}

/// Regression: numbers that only a broken server sends wrapped to a clean result.
#[test]
fn absurd_positions_are_faults() {
    let mut stand = Stand::new();
    let mut watch = Auditor::joined(0, 0, stand.now, None);
    for (after, seq) in [(1, 1 << 63), (3, 2), (1, u64::MAX)] {
        let gap = gap_at(after, seq);
        stand.auditor.gap(&mut watch, 0, Dialect::WsIdentity, &gap);
    }
    let far = (1 << 63) + 1;
    for crafted in [
        Crafted::plain(far, far + 1),
        Crafted::new(3, 1, &[]),
        Crafted::new(1, 1, &[(far, 1)]),
    ] {
        let set = stand.seal(&crafted);
        stand.read(&mut watch, &set);
    }
    let tally = stand.finish(&watch, End::Open);
    assert_eq!((tally.contradicted, tally.undecodable), (3, 3));
}

/// Regression: enough gaps over what had been delivered wrapped to none.
#[test]
fn claims_without_bounds_are_counted_by_what_was_acknowledged() {
    let mut stand = Stand::new();
    stand.acknowledge(1..=3);
    let mut watch = Auditor::joined(0, 0, stand.now, None);
    for _ in 0..3000 {
        let all = gap_at(0, POSITION_MAX);
        stand.auditor.gap(&mut watch, 0, Dialect::WsIdentity, &all);
    }
    let tally = stand.finish(&watch, End::Open);
    assert_eq!(
        (tally.skipped, tally.contradicted, tally.unchained),
        (3, 3 * 2999, 2999)
    );
}

/// Regression: a comment whose acknowledgement was slow was compared with nothing.
#[test]
fn a_slow_acknowledgement_is_waited_for() {
    let mut stand = Stand::new();
    let mut watch = Auditor::joined(0, 0, stand.now, None);
    let set = stand.plain(1, 2);
    stand.read(&mut watch, &set);
    let later = stand.now.after(Duration::from_secs(5));
    stand.auditor.sweep(later);
    stand.acknowledge(1..=2);
    stand.auditor.sweep(later.after(Duration::from_secs(1)));
    assert_eq!(stand.finish(&watch, End::Open), clean(2));
}

/// Regression: replayed batches were taken for a part of what other viewers had, whose chained forms then did not decode.
#[test]
fn a_replay_to_one_viewer_leaves_the_others_as_they_were() {
    let mut stand = Stand::new();
    stand.acknowledge(1..=20);
    let mut steady = (newcomer(), danmaku_wire::Cursor::default());
    let mut back = (newcomer(), danmaku_wire::Cursor::default());
    for position in 1..=20 {
        let set = stand.plain(position, position);
        stand.give(&mut steady.0, Dialect::WsDeflate, &mut steady.1, &set);
        match position {
            // Its connection is broken.
            5..=9 => {}
            10 => {
                Auditor::resumed(&mut back.0, 10, stand.now, None);
                back.1 = danmaku_wire::Cursor::default();
                let batch = Crafted::plain(5, 10).batch(stand.positions);
                let merged = FrameSet::replay(batch, CompressionPolicy::default());
                stand.now = stand.now.after(Duration::from_secs(5));
                stand.give_form(&mut back.0, Dialect::WsDeflate, Form::WsDeflate, &merged);
            }
            _ => stand.give(&mut back.0, Dialect::WsDeflate, &mut back.1, &set),
        }
    }
    stand.auditor.finish(&steady.0, 0, End::Open);
    stand.auditor.finish(&back.0, 0, End::Open);
    let findings = stand.auditor.into_findings();
    assert_eq!(
        Tally {
            late: 0,
            ..findings.tally
        },
        Tally {
            replayed: 6,
            ..clean(40)
        }
    );
    assert_eq!(findings.stages[0].each.summary().count, 40 - 6);
}

#[test]
fn a_chained_form_after_a_skip_is_undecodable() {
    let mut stand = Stand::new();
    stand.acknowledge(1..=6);
    let mut steady = (newcomer(), danmaku_wire::Cursor::default());
    let mut skipping = (newcomer(), danmaku_wire::Cursor::default());
    for position in 1..=6 {
        let set = stand.plain(position, position);
        stand.give(&mut steady.0, Dialect::WsDeflate, &mut steady.1, &set);
        if position == 3 {
            stand.gap(&mut skipping.0, Dialect::WsDeflate, (2, 3));
        } else {
            // The broken server forgets that this viewer skipped and goes on with chained forms.
            let (dialect, form) = (Dialect::WsDeflate, Form::WsDeflateChained);
            stand.give_form(&mut skipping.0, dialect, form, &set);
        }
    }
    assert!(stand.auditor.into_findings().tally.undecodable >= 1);
}

#[test]
fn bytes_that_do_not_decode_are_counted() {
    let mut stand = Stand::new();
    let mut watch = newcomer();
    for encoding in Encoding::ALL {
        let carrier = Carrier {
            room: 0,
            dialect: Dialect::web_socket(encoding),
            payload: b"\xFF\xFFnonsense",
        };
        stand.auditor.batch(&mut watch, carrier, stand.now);
    }
    assert_eq!(
        stand.auditor.into_findings().tally,
        Tally {
            undecodable: 3,
            ..Tally::default()
        }
    );
}

#[test]
fn latencies_are_taken_once_and_old_frames_are_forgotten() {
    let mut stand = Stand::new();
    stand.acknowledge(1..=2);
    let first = stand.plain(1, 1);
    let mut watch = newcomer();
    stand.now = stand.now.after(Duration::from_millis(30));
    stand.read(&mut watch, &first);
    for second in 1..=70 {
        stand
            .auditor
            .sweep(stand.now.after(Duration::from_secs(second)));
    }
    assert!(stand.auditor.contents.is_empty() && stand.auditor.forms.is_empty());
    let second = stand.plain(2, 2);
    stand.read(&mut watch, &second);
    stand.auditor.finish(&watch, 0, End::Open);
    let findings = stand.auditor.into_findings();
    assert_eq!(findings.tally, clean(2));
    let summary = findings.stages[0].each.summary();
    assert_eq!(summary.count, 2);
    assert!((summary.max_ms - 30.0).abs() < 0.1, "{summary:?}");
}

#[test]
fn equal_chained_bytes_with_different_texts_are_told_apart() {
    // Without a timestamp that counts on, a chained batch of one group often has the very bytes of one in the next.
    let mut stand = Stand::new();
    stand.acknowledge(1..=300);
    let mut viewers: Vec<(Watch, danmaku_wire::Cursor)> = (0..2)
        .map(|_| (newcomer(), danmaku_wire::Cursor::default()))
        .collect();
    for position in 1..=300 {
        let set = stand.plain(position, position);
        for (watch, cursor) in &mut viewers {
            stand.give(watch, Dialect::WsDeflate, cursor, &set);
        }
    }
    for (watch, _) in &viewers {
        stand.auditor.finish(watch, 0, End::Open);
    }
    assert_eq!(stand.auditor.into_findings().tally, clean(600));
}
