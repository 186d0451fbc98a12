//! The forms of one frame set.

use std::io::Read;
use std::num::NonZeroU32;
use std::sync::{Arc, Barrier};

use bytes::Bytes;
use danmaku_wire::{
    Chains, CompressionLevel, CompressionPolicy, Cursor, Dialect, Form, FrameSet, Sealer, Seq,
};
use flate2::read::{DeflateDecoder, MultiGzDecoder};

use crate::room::{batch, payload};

fn policy(group_batches: u32) -> CompressionPolicy {
    CompressionPolicy {
        group_batches: NonZeroU32::new(group_batches).unwrap(),
        ..CompressionPolicy::default()
    }
}

const NOBODY: Chains = Chains {
    ws_deflate: false,
    sse_gzip: false,
};
const DEFLATE: Chains = Chains {
    ws_deflate: true,
    sse_gzip: false,
};

fn replay(after: Seq, texts: &[&str], shed: u32) -> FrameSet {
    FrameSet::replay(batch(after, texts, shed), CompressionPolicy::default())
}

fn same(left: &Bytes, right: &Bytes) -> bool {
    (left.as_ptr(), left.len()) == (right.as_ptr(), right.len())
}

#[test]
fn each_form_holds_the_batch() {
    fn check(set: &FrameSet) {
        let json = set.json();
        serde_json::from_slice::<serde_json::Value>(json).unwrap();
        assert_eq!(payload(set.form(Form::WsIdentity)), (1, json));

        let (opcode, member) = payload(set.form(Form::WsGzip));
        let mut unpacked = Vec::new();
        let mut decoder = flate2::bufread::GzDecoder::new(member);
        decoder.read_to_end(&mut unpacked).unwrap();
        assert_eq!((opcode, &unpacked[..]), (2, json));
        assert!(
            decoder.into_inner().is_empty(),
            "one member and nothing else"
        );

        let (opcode, blocks) = payload(set.form(Form::WsDeflate));
        let mut unpacked = Vec::new();
        // Only non-final blocks: the decoder finds no end, but must have output everything.
        let end = DeflateDecoder::new(blocks).read_to_end(&mut unpacked);
        assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
        assert_eq!((opcode, unpacked), (2, [json, b"\n"].concat()));
    }
    let mut sealer = Sealer::new(CompressionPolicy::default());
    check(&sealer.seal(batch(Seq::ZERO, &["弾幕", "hi"], 0), DEFLATE));
    check(&sealer.seal(batch(Seq::new(2), &[], 3), NOBODY));
    // Around the two places where the head grows, and over deflate's own window.
    for comments in [1, 2, 3, 4, 5, 6, 300, 320, 340, 360, 2_000] {
        let texts: Vec<String> = (0..comments)
            .map(|n| format!("{n}{}", "x".repeat(180)))
            .collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        check(&replay(Seq::ZERO, &texts, 0));
    }
}

#[test]
fn gzip_has_one_member_per_batch() {
    let set = replay(Seq::ZERO, &["a"], 0);
    let two = [
        payload(set.form(Form::WsGzip)).1,
        payload(set.form(Form::WsGzip)).1,
    ]
    .concat();
    let mut unpacked = Vec::new();
    MultiGzDecoder::new(&two[..])
        .read_to_end(&mut unpacked)
        .unwrap();
    assert_eq!(unpacked, [set.json(), set.json()].concat());
}

#[test]
fn each_form_is_made_once_and_shared() {
    let mut sealer = Sealer::new(policy(30));
    let first = sealer.seal(batch(Seq::ZERO, &["a"], 0), DEFLATE);
    assert!(
        same(
            first.form(Form::WsDeflateChained),
            first.form(Form::WsDeflate)
        ),
        "the first of a group refers to nothing anyway"
    );

    let set = Arc::new(sealer.seal(batch(Seq::new(1), &["b"], 0), DEFLATE));
    assert!(!same(
        set.form(Form::WsDeflateChained),
        set.form(Form::WsDeflate)
    ));
    let forms = |set: &FrameSet| {
        let forms = [
            set.form(Form::WsIdentity),
            set.form(Form::WsGzip),
            set.form(Form::WsDeflate),
            set.form(Form::WsDeflateChained),
        ];
        forms.map(|form| (form.as_ptr().addr(), form.len()))
    };
    // All ask at once, so that they race to make the missing forms.
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
    let identity = set.form(Form::WsIdentity);
    let json = set.json().as_ptr_range();
    assert!(
        identity.as_ptr_range().contains(&json.start),
        "the head stands right before the JSON"
    );
}

#[test]
fn unused_forms_are_not_made() {
    let mut sealer = Sealer::new(CompressionPolicy::default());
    let set = sealer.seal(batch(Seq::ZERO, &["a"], 0), NOBODY);
    let mut held = set.bytes_held();
    for (dialect, form) in [
        (Dialect::WsIdentity, Form::WsIdentity),
        (Dialect::WsGzip, Form::WsGzip),
        (Dialect::WsDeflate, Form::WsDeflate),
        (Dialect::SseIdentity, Form::SseIdentity),
        (Dialect::SseGzip, Form::SseGzip),
    ] {
        assert_eq!(set.is_made(form), form == Form::WsIdentity);
        assert_eq!(Cursor::default().choose(dialect, &set), form);
        let bytes = set.form(form).len();
        held += if form == Form::WsIdentity { 0 } else { bytes };
        assert_eq!((set.bytes_held(), set.is_made(form)), (held, true));
    }
}

#[test]
fn a_frame_knows_the_positions_it_covers() {
    let set = replay(Seq::new(4), &["a", "b"], 3);
    assert_eq!((set.after().value(), set.seq().value()), (4, 9));
    assert_eq!((set.comments().len(), set.shed()), (2, 3));
    let likes = replay(Seq::new(4), &[], 0);
    assert_eq!((likes.after(), likes.seq()), (Seq::new(4), Seq::new(4)));
}

#[test]
fn a_retracted_comment_is_gone_from_every_form() {
    let mut sealer = Sealer::new(CompressionPolicy::default());
    let chains = Chains {
        ws_deflate: true,
        sse_gzip: true,
    };
    let set = sealer.seal(batch(Seq::new(4), &["keep", "secret", "also"], 0), chains);
    assert!(set.without(&[Seq::new(4), Seq::new(8)]).is_none());
    let again = set.without(&[Seq::new(6)]).unwrap();
    assert_eq!((again.after(), again.seq()), (set.after(), set.seq()));
    let kept: Vec<_> = again.comments().iter().map(|it| it.seq.value()).collect();
    assert_eq!(kept, [5, 7]);
    assert!(!String::from_utf8_lossy(again.json()).contains("secret"));
    // It belongs to no group, so a viewer in the middle of one must not get a chained form.
    let mut cursor = Cursor::default();
    assert_eq!(
        cursor.choose(Dialect::WsDeflate, &set),
        Form::WsDeflateChained
    );
    assert_eq!(cursor.choose(Dialect::WsDeflate, &again), Form::WsDeflate);
}

#[test]
fn groups_end_at_their_length_and_without_deflate_viewers() {
    /// Checks the form for a viewer that has had every frame.
    fn check(sealer: &mut Sealer, cursor: &mut Cursor, chains: Chains, expected: Form) {
        let set = sealer.seal(batch(Seq::ZERO, &["a"], 0), chains);
        assert_eq!(cursor.choose(Dialect::WsDeflate, &set), expected);
    }
    use Form::{WsDeflate as Independent, WsDeflateChained as Chained};
    let mut sealer = Sealer::new(policy(3));
    let mut from_the_start = Cursor::default();
    for _ in 0..2 {
        check(&mut sealer, &mut from_the_start, DEFLATE, Chained);
    }
    let mut joined_late = Cursor::default();
    check(&mut sealer, &mut joined_late, DEFLATE, Independent);
    check(&mut sealer, &mut joined_late, DEFLATE, Chained);
    assert!(sealer.window_bytes_held() > 0);
    check(&mut sealer, &mut joined_late, NOBODY, Independent);
    assert_eq!(sealer.window_bytes_held(), 0);
    check(&mut sealer, &mut joined_late, DEFLATE, Chained);
    let mut alone = Sealer::new(policy(1));
    for _ in 0..2 {
        check(&mut alone, &mut Cursor::default(), DEFLATE, Chained);
    }
}

#[test]
fn a_sealer_keeps_only_what_deflate_can_reach() {
    let mut sealer = Sealer::new(CompressionPolicy::default());
    let texts: Vec<String> = (0..97).map(|n| format!("{n}{}", "x".repeat(100))).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    for _ in 0..29 {
        let _ = sealer.seal(batch(Seq::ZERO, &texts, 0), DEFLATE);
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
        let set = sealer.seal(batch(after, &texts, 0), DEFLATE);
        after = set.seq();
        chained += set.form(Form::WsDeflateChained).len();
        independent += set.form(Form::WsDeflate).len();
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
