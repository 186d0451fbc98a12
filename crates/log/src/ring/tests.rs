use super::*;
use crate::fixture::{comment, config, ids, retract, values};

fn entry(seq: u64, body: EntryBody) -> Entry {
    Entry {
        seq: Seq::new(seq),
        at_ms: 1_000,
        body,
    }
}

/// A ring over a store that was fed comments at these positions.
fn fed(seqs: &[u64]) -> Ring {
    let mut ring = Ring::new(Seq::ZERO, Overflow::Drop);
    ring.feed(Seq::ZERO, seqs.iter().map(|&seq| entry(seq, comment("x"))));
    ring
}

fn page(after: u64, seq: u64, seqs: &[u64]) -> Page {
    Page {
        after: Seq::new(after),
        seq: Seq::new(seq),
        entries: seqs.iter().map(|&seq| entry(seq, comment("x"))).collect(),
        more: false,
    }
}

fn drained(ring: &mut Ring, max: usize) -> (Taken, Vec<u64>) {
    let mut out = Vec::new();
    let taken = ring.drain(&mut out, max);
    (taken, ids(&out))
}

#[test]
fn an_entry_is_as_small_as_a_comment_with_its_position_and_time() {
    assert_eq!(size_of::<Entry>(), 56);
    assert_eq!(size_of::<Slot>(), 56);
    // Every room has one.
    assert!(size_of::<Ring>() <= 104, "{}", size_of::<Ring>());
}

#[test]
fn a_ring_shrinks_by_its_oldest_entries_but_keeps_what_is_not_taken() {
    let mut ring = Ring::new(Seq::ZERO, Overflow::Keep);
    ring.append(vec![comment("x"), comment("x"), comment("x")], 1_000);
    let one = ring.bytes_held() / 3;
    ring.shrink(usize::MAX);
    assert_eq!((ring.bytes_held(), ring.after()), (3 * one, Seq::ZERO));
    assert_eq!(drained(&mut ring, 2), (Taken::Entries, vec![1, 2]));
    ring.shrink(1);
    assert_eq!((ring.bytes_held(), ring.after()), (2 * one, Seq::new(1)));
    ring.shrink(usize::MAX);
    assert_eq!((ring.bytes_held(), ring.after()), (one, Seq::new(2)));
    assert_eq!(drained(&mut ring, 2), (Taken::Entries, vec![3]));
}

#[test]
fn log_time_never_goes_back() {
    let mut ring = Ring::new(Seq::ZERO, Overflow::Keep);
    for now_ms in [5, 9, 7] {
        ring.append(vec![comment("x")], now_ms);
    }
    let page = ring.read_after(Seq::ZERO, 10).unwrap();
    let times: Vec<_> = page.entries.iter().map(|entry| entry.at_ms).collect();
    assert_eq!(times, [5, 9, 9]);
}

fn at(seq: u64, at_ms: u64) -> Entry {
    Entry {
        at_ms,
        ..entry(seq, comment("x"))
    }
}

/// The positions in [`from_ms`, `to_ms`): where they begin, the live ones, where they end.
fn between(ring: &Ring, from_ms: u64, to_ms: u64) -> Option<(u64, Vec<u64>, u64)> {
    let it = ring.read_between(from_ms, to_ms, usize::MAX)?;
    Some((it.after.value(), ids(&it.entries), it.seq.value()))
}

#[test]
fn entries_are_read_by_log_time() {
    let mut ring = Ring::new(Seq::ZERO, Overflow::Keep);
    assert_eq!(between(&ring, 0, 10), Some((0, vec![], 0)));
    for now_ms in [10, 19, 20, 20, 35] {
        ring.append(vec![comment("x")], now_ms);
    }
    assert_eq!(between(&ring, 0, 10), Some((0, vec![], 0)));
    assert_eq!(between(&ring, 10, 20), Some((0, vec![1, 2], 2)));
    assert_eq!(between(&ring, 20, 30), Some((2, vec![3, 4], 4)));
    assert_eq!(between(&ring, 30, 40), Some((4, vec![5], 5)));
    assert_eq!(between(&ring, 40, 50), Some((5, vec![], 5)));
    assert_eq!(between(&ring, 20, 20), Some((2, vec![], 2)));
    assert_eq!(ring.at_ms(), 35);

    // A retracted comment keeps its position.
    ring.append(vec![retract(&[2])], 36);
    assert_eq!(between(&ring, 10, 20), Some((0, vec![1], 2)));
    assert_eq!(between(&ring, 20, 30), Some((2, vec![3, 4], 4)));
}

#[test]
fn nothing_is_added_to_log_time_that_was_reached() {
    let mut ring = Ring::new(Seq::ZERO, Overflow::Keep);
    ring.reach(20);
    assert_eq!(ring.at_ms(), 20);
    ring.append(vec![comment("x")], 19);
    assert_eq!(between(&ring, 0, 20), Some((0, vec![], 0)));
    assert_eq!(between(&ring, 20, 30), Some((0, vec![1], 1)));
}

#[test]
fn a_dropped_part_of_an_interval_is_reported() {
    let mut ring = Ring::new(Seq::ZERO, Overflow::Keep);
    for now_ms in [10, 12, 20, 30] {
        ring.append(vec![comment("x")], now_ms);
    }
    drained(&mut ring, 9);
    ring.trim(&config(3));
    let dropped = |ring: &Ring, from_ms: u64| {
        let interval = ring.read_between(from_ms, from_ms + 10, usize::MAX);
        interval.unwrap().dropped
    };
    assert!(dropped(&ring, 0) && dropped(&ring, 10));
    assert!(!dropped(&ring, 11) && !dropped(&ring, 20));
    ring.trim(&config(2));
    assert!(dropped(&ring, 11) && !dropped(&ring, 20));
    assert_eq!(between(&ring, 20, 30), Some((2, vec![3], 3)));
    ring.trim(&config(0));
    assert!(dropped(&ring, 30) && !dropped(&ring, 40));
    assert_eq!(between(&ring, 40, 50), Some((4, vec![], 4)));
}

#[test]
fn a_ring_over_a_store_knows_only_the_time_since_its_first_entry() {
    let mut ring = Ring::new(Seq::new(7), Overflow::Drop);
    assert_eq!(between(&ring, 0, 10), None);
    ring.feed(Seq::new(7), [at(8, 10), at(9, 12), at(11, 20)]);
    // The store may have another entry of the same time.
    assert_eq!(between(&ring, 10, 20), None);
    assert_eq!(between(&ring, 11, 20), Some((8, vec![9], 9)));
    assert_eq!(between(&ring, 20, 30), Some((9, vec![11], 11)));
    // A committed entry is missing.
    ring.announce(Seq::new(13));
    assert_eq!(between(&ring, 20, 30), None);
    ring.fill(&Page {
        entries: vec![at(12, 25)],
        ..page(11, 13, &[])
    });
    // What was retracted before is not in a page, and 13 was.
    assert_eq!(between(&ring, 20, 30), None);
    ring.feed(Seq::new(13), [at(14, 30), at(15, 41)]);
    assert_eq!(between(&ring, 30, 40), None);
    assert_eq!(between(&ring, 40, 50), Some((14, vec![15], 15)));
    ring.reach(60);
    assert_eq!(ring.at_ms(), 41, "the store decides");
}

#[test]
fn positions_may_have_holes() {
    let mut ring = fed(&[3, 4, 9]);
    assert_eq!(drained(&mut ring, 2), (Taken::Entries, vec![3, 4]));
    assert_eq!(drained(&mut ring, 2), (Taken::Entries, vec![9]));
    assert_eq!(drained(&mut ring, 2), (Taken::Nothing, vec![]));
    let page = ring.read_after(Seq::new(6), 10).unwrap();
    assert_eq!((page.after, page.seq), (Seq::new(6), Seq::new(9)));
    assert_eq!(ids(&page.entries), [9]);
    assert_eq!(ring.lookup(Seq::new(6)), Lookup::NotHeld);
    assert_eq!(ring.lookup(Seq::new(9)), Lookup::Comment);
    assert_eq!(ring.lookup(Seq::new(10)), Lookup::AboveHead);
}

#[test]
fn a_retracted_comment_is_gone_and_its_id_stays_taken() {
    let mut ring = fed(&[1, 2, 3]);
    let bytes = ring.bytes;
    ring.feed(Seq::new(3), [entry(4, retract(&[2, 99]))]);
    assert_eq!(ring.lookup(Seq::new(2)), Lookup::Retracted);
    assert_eq!(ring.lookup(Seq::new(4)), Lookup::Event);
    assert_eq!(ring.retractions(), 1);
    let event = entry(4, retract(&[2, 99])).body.bytes();
    assert_eq!(ring.bytes, bytes - comment("x").bytes() + event);
    let page = ring.read_after(Seq::ZERO, 2).unwrap();
    assert_eq!((ids(&page.entries), page.more), (vec![1, 3], true));
    assert_eq!(page.seq, Seq::new(3));
    assert_eq!(drained(&mut ring, 9), (Taken::Entries, vec![1, 3, 4]));

    // Nobody retracts an event, and twice is once.
    ring.feed(Seq::new(4), [entry(5, retract(&[2, 4]))]);
    assert_eq!(ring.lookup(Seq::new(4)), Lookup::Event);
    assert_eq!(ring.bytes, bytes - comment("x").bytes() + 2 * event);
}

#[test]
fn the_latest_retractions_are_known_by_count() {
    let mut ring = fed(&[1, 2, 3]);
    let before = ring.retractions();
    ring.feed(Seq::new(3), [entry(4, retract(&[1]))]);
    ring.feed(Seq::new(4), [entry(5, retract(&[2, 3]))]);
    let check = |ring: &Ring, since: u64, expected: Option<&[u64]>| {
        let retracted = ring.retracted_since(since);
        assert_eq!(retracted.as_deref().map(values).as_deref(), expected);
    };
    check(&ring, before, Some(&[2, 3, 1]));
    check(&ring, before + 1, Some(&[2, 3]));
    check(&ring, before + 2, Some(&[]));
    ring.trim(&config(1));
    check(&ring, before, None);
}

#[test]
fn the_end_of_a_page_is_where_the_next_read_goes_on() {
    let ring = fed(&[2, 4, 6]);
    let check = |since: u64, limit: usize, seq: u64, more: bool| {
        let page = ring.read_after(Seq::new(since), limit).unwrap();
        assert_eq!((page.seq.value(), page.more), (seq, more), "{since}");
        assert_eq!(page.after.value(), since);
    };
    check(0, 2, 4, true);
    check(0, 3, 6, false);
    check(0, 0, 0, true);
    check(4, 1, 6, false);
    check(6, 1, 6, false);
    check(9, 1, 9, false);
}

#[test]
fn a_read_downwards_ends_where_the_next_one_goes_on() {
    let ring = fed(&[2, 4, 6]);
    let check = |until: u64, after: u64, limit: usize, expected: (u64, u64, bool, &[u64])| {
        let page = ring.read_down(Seq::new(until), Seq::new(after), limit);
        let page = page.unwrap();
        let found = (page.after.value(), page.seq.value(), page.more);
        assert_eq!(found, (expected.0, expected.1, expected.2));
        assert_eq!(ids(&page.entries), expected.3);
    };
    check(9, 0, 2, (3, 6, true, &[6, 4]));
    check(3, 0, 2, (0, 3, false, &[2]));
    check(6, 2, 2, (2, 6, false, &[6, 4]));
    check(6, 2, 1, (5, 6, true, &[6]));
    let mut ring = fed(&[1, 2, 3]);
    ring.set_taken(Seq::new(3));
    ring.trim(&config(2));
    assert_eq!(ring.read_down(Seq::new(3), Seq::ZERO, 2), None);
    assert!(ring.read_down(Seq::new(3), Seq::ZERO, 1).is_some());
}

#[test]
fn a_time_is_found_unless_only_the_store_has_it() {
    let mut ring = Ring::new(Seq::ZERO, Overflow::Keep);
    for now_ms in [10, 20, 20, 30] {
        ring.append(vec![comment("x")], now_ms);
    }
    let at = |ring: &Ring, ms| ring.last_before(ms).map(Seq::value);
    assert_eq!(
        [0, 10, 11, 20, 21, 99].map(|ms| at(&ring, ms)),
        [0, 0, 1, 1, 3, 4].map(Some)
    );
    let mut ring = fed(&[1, 2]);
    assert_eq!((at(&ring, 1_000), at(&ring, 1_001)), (None, Some(2)));
    ring.announce(Seq::new(3));
    assert_eq!(at(&ring, 1_001), None);
}

#[test]
fn what_the_feed_left_out_is_read_before_anything_later() {
    let mut ring = fed(&[1]);
    ring.feed(Seq::new(2), [entry(3, comment("x"))]);
    ring.feed(Seq::new(3), [entry(4, comment("x"))]);
    assert_eq!(drained(&mut ring, 9), (Taken::Entries, vec![1]));
    assert_eq!(drained(&mut ring, 9), (Taken::Skipped, vec![]));
    assert_eq!(ring.read_after(Seq::new(1), 9), None);
    assert_eq!(ring.known(), Seq::new(4));

    ring.fill(&page(1, 3, &[2, 3]));
    assert_eq!(drained(&mut ring, 9), (Taken::Skipped, vec![]));
    ring.fill(&page(3, 4, &[4]));
    assert_eq!(drained(&mut ring, 9), (Taken::Nothing, vec![]));
    ring.feed(Seq::new(4), [entry(7, comment("x"))]);
    assert_eq!(drained(&mut ring, 9), (Taken::Entries, vec![7]));
    assert_eq!(
        ids(&ring.read_after(Seq::ZERO, 9).unwrap().entries),
        [1, 2, 3, 4, 7]
    );
}

#[test]
fn what_is_announced_may_still_come() {
    let mut ring = fed(&[1]);
    ring.announce(Seq::new(2));
    assert_eq!(drained(&mut ring, 9).0, Taken::Entries);
    assert_eq!(drained(&mut ring, 9).0, Taken::Late { head: Seq::new(1) });
    assert_eq!(ring.lookup(Seq::new(2)), Lookup::NotHeld);
    ring.feed(Seq::new(1), [entry(2, comment("x"))]);
    assert_eq!(drained(&mut ring, 9), (Taken::Entries, vec![2]));
    // The same again, late.
    ring.feed(Seq::new(1), [entry(2, comment("x"))]);
    assert_eq!(drained(&mut ring, 9), (Taken::Nothing, vec![]));
}

#[test]
fn a_full_ring_over_a_store_drops_what_was_not_taken() {
    let mut ring = fed(&[1, 2, 3, 4, 5]);
    ring.trim(&config(2));
    assert_eq!(drained(&mut ring, 9), (Taken::Behind, vec![]));
    assert_eq!(ring.read_after(Seq::new(2), 9), None);
    assert!(ring.read_after(Seq::new(3), 9).is_some());
    // The read from the store ends inside of the ring.
    ring.fill(&page(0, 4, &[1, 2, 3, 4]));
    assert_eq!(drained(&mut ring, 9), (Taken::Entries, vec![5]));
    assert_eq!(ring.slots.len(), 2);
}

#[test]
fn a_ring_begins_again_after_what_the_store_lost() {
    let mut ring = fed(&[1, 2]);
    ring.feed(Seq::new(8), [entry(9, comment("x"))]);
    ring.set_taken(Seq::new(8));
    ring.fill(&page(8, 9, &[9]));
    assert_eq!((ring.after(), ring.known()), (Seq::new(8), Seq::new(9)));
    assert_eq!(drained(&mut ring, 9), (Taken::Nothing, vec![]));
}
