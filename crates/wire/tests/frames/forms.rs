//! The forms of one frame set.

use std::io::Read;
use std::num::NonZeroU32;
use std::sync::{Arc, Barrier};

use bytes::Bytes;
use danmaku_wire::{
    CompressionLevel, CompressionPolicy, DeflateCursor, DeflateViewers, Encoding, FrameSet, Sealer,
    Seq, frame_for, seal_replay,
};
use flate2::read::{DeflateDecoder, MultiGzDecoder};

use crate::room::{batch, payload};

fn policy(group_batches: u32) -> CompressionPolicy {
    CompressionPolicy {
        group_batches: NonZeroU32::new(group_batches).unwrap(),
        ..CompressionPolicy::default()
    }
}

fn same(left: &Bytes, right: &Bytes) -> bool {
    (left.as_ptr(), left.len()) == (right.as_ptr(), right.len())
}

#[test]
fn each_form_holds_the_batch() {
    fn check(set: &FrameSet) {
        let json = set.json();
        serde_json::from_slice::<serde_json::Value>(json).unwrap();
        assert_eq!(payload(set.identity()), (1, json));

        let (opcode, member) = payload(set.gzip());
        let mut unpacked = Vec::new();
        let mut decoder = flate2::bufread::GzDecoder::new(member);
        decoder.read_to_end(&mut unpacked).unwrap();
        assert_eq!((opcode, &unpacked[..]), (2, json));
        assert!(
            decoder.into_inner().is_empty(),
            "one member and nothing else"
        );

        let (opcode, blocks) = payload(set.independent());
        let mut unpacked = Vec::new();
        // Non-final blocks: the stream goes on, so the decoder finds no end, but everything is out by then.
        let end = DeflateDecoder::new(blocks).read_to_end(&mut unpacked);
        assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
        assert_eq!((opcode, unpacked), (2, [json, b"\n"].concat()));
    }
    let mut sealer = Sealer::new(CompressionPolicy::default());
    check(&sealer.seal(&batch(Seq::ZERO, &["弾幕", "hi"], 0), DeflateViewers::Some));
    check(&sealer.seal(&batch(Seq::new(2), &[], 3), DeflateViewers::None));
    // Around the two places where the head grows, and over deflate's own window.
    for comments in [1, 2, 3, 4, 5, 6, 300, 320, 340, 360, 2_000] {
        let texts: Vec<String> = (0..comments)
            .map(|n| format!("{n}{}", "x".repeat(180)))
            .collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        check(&seal_replay(
            &batch(Seq::ZERO, &texts, 0),
            CompressionPolicy::default(),
        ));
    }
}

#[test]
fn gzip_has_one_member_per_batch() {
    let set = seal_replay(&batch(Seq::ZERO, &["a"], 0), CompressionPolicy::default());
    let two = [payload(set.gzip()).1, payload(set.gzip()).1].concat();
    let mut unpacked = Vec::new();
    MultiGzDecoder::new(&two[..])
        .read_to_end(&mut unpacked)
        .unwrap();
    assert_eq!(unpacked, [set.json(), set.json()].concat());
}

#[test]
fn each_form_is_made_once_and_shared() {
    let mut sealer = Sealer::new(policy(30));
    let first = sealer.seal(&batch(Seq::ZERO, &["a"], 0), DeflateViewers::Some);
    assert!(
        same(first.chained().unwrap(), first.independent()),
        "the first of a group refers to nothing anyway"
    );

    let set = Arc::new(sealer.seal(&batch(Seq::new(1), &["b"], 0), DeflateViewers::Some));
    assert!(!same(set.chained().unwrap(), set.independent()));
    let forms = |set: &FrameSet| {
        let forms = [
            set.identity(),
            set.gzip(),
            set.independent(),
            set.chained().unwrap(),
        ];
        forms.map(|form| (form.as_ptr().addr(), form.len()))
    };
    // All ask at once, so that they race to make what is not made yet.
    let start = Arc::new(Barrier::new(4));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (set, start) = (Arc::clone(&set), Arc::clone(&start));
            let ask = move || {
                start.wait();
                forms(&set)
            };
            std::thread::Builder::new().spawn(ask).unwrap()
        })
        .collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), forms(&set));
    }
    let identity = set.identity();
    let json = set.json().as_ptr_range();
    assert!(
        identity.as_ptr_range().contains(&json.start),
        "the head stands right before the JSON"
    );
}

#[test]
fn forms_nobody_asked_for_are_not_made() {
    let mut sealer = Sealer::new(CompressionPolicy::default());
    let set = sealer.seal(&batch(Seq::ZERO, &["a"], 0), DeflateViewers::None);
    assert!(set.chained().is_none());
    let plain = set.bytes_held();
    let mut cursor = DeflateCursor::default();
    let _ = frame_for(Encoding::Identity, &mut cursor, &set);
    assert_eq!(set.bytes_held(), plain);
    let gzip = frame_for(Encoding::Gzip, &mut cursor, &set).len();
    assert_eq!(set.bytes_held(), plain + gzip);
    let deflate = frame_for(Encoding::Deflate, &mut cursor, &set).len();
    assert_eq!(set.bytes_held(), plain + gzip + deflate);
}

#[test]
fn a_frame_set_tells_what_it_covers() {
    let set = seal_replay(
        &batch(Seq::new(4), &["a", "b"], 3),
        CompressionPolicy::default(),
    );
    assert_eq!((set.first().value(), set.last().value()), (5, 9));
    assert_eq!((set.comments(), set.shed(), set.covered()), (2, 3, 5));
    let likes = seal_replay(&batch(Seq::new(4), &[], 0), CompressionPolicy::default());
    assert_eq!(
        (likes.first().value(), likes.last().value(), likes.covered()),
        (5, 4, 0)
    );
}

#[test]
fn groups_end_at_their_length_and_without_deflate_viewers() {
    fn check(sealer: &mut Sealer, deflate: DeflateViewers, expected: Option<u32>) -> FrameSet {
        let set = sealer.seal(&batch(Seq::ZERO, &["a"], 0), deflate);
        assert_eq!(set.group().map(|(_, index)| index), expected);
        set
    }
    use DeflateViewers::{None as Nobody, Some as Somebody};
    let mut sealer = Sealer::new(policy(3));
    let ids: Vec<_> = [Some(0), Some(1), Some(2), Some(0)]
        .into_iter()
        .map(|index| check(&mut sealer, Somebody, index).group().unwrap().0)
        .collect();
    assert!(ids[0] == ids[1] && ids[1] == ids[2] && ids[2] != ids[3]);
    assert!(sealer.window_bytes_held() > 0);
    check(&mut sealer, Nobody, None);
    assert_eq!(sealer.window_bytes_held(), 0);
    check(&mut sealer, Somebody, Some(0));
    let mut alone = Sealer::new(policy(1));
    check(&mut alone, Somebody, Some(0));
    check(&mut alone, Somebody, Some(0));
}

#[test]
fn a_sealer_keeps_no_more_than_deflate_can_reach() {
    let mut sealer = Sealer::new(CompressionPolicy::default());
    let texts: Vec<String> = (0..97).map(|n| format!("{n}{}", "x".repeat(100))).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    for _ in 0..29 {
        let _ = sealer.seal(&batch(Seq::ZERO, &texts, 0), DeflateViewers::Some);
        assert!(sealer.window_bytes_held() <= 32 * 1024);
    }
    assert!(sealer.window_bytes_held() > 30 * 1024);
}

#[test]
fn history_makes_frames_smaller() {
    let texts = ["kusa", "草草草", "888888", "哈哈哈哈", "前方高能"];
    let mut sealer = Sealer::new(CompressionPolicy::default());
    let mut after = Seq::ZERO;
    let (mut chained, mut independent) = (0, 0);
    for round in 0..30 {
        let texts: Vec<&str> = (0..10)
            .map(|n| texts[(n * 7 + round) % texts.len()])
            .collect();
        let set = sealer.seal(&batch(after, &texts, 0), DeflateViewers::Some);
        after = set.last();
        chained += set.chained().unwrap().len();
        independent += set.independent().len();
    }
    assert!(chained * 2 < independent, "{chained} against {independent}");
}

#[test]
fn levels_are_one_to_nine() {
    assert!(
        (1..=9).all(|level| CompressionLevel::new(level).is_some_and(|it| it.value() == level))
    );
    assert!(CompressionLevel::new(0).is_none() && CompressionLevel::new(10).is_none());
}
