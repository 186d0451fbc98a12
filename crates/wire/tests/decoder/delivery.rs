//! How input is split into reads never changes the outcome.

use proptest::prelude::*;

use crate::client::{BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, TEXT, decode, frame};

/// Frames that are mostly valid.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop_oneof![
        8 => prop::collection::vec(any::<u8>(), 0..20),
        8 => "[a-z弾幕🎉]{0,40}".prop_map(String::into_bytes),
        1 => prop::collection::vec(Just(b'x'), 0..4200),
    ];
    let first = prop_oneof![
        12 => prop::sample::select(vec![
            FIN | TEXT, TEXT, FIN | BINARY, BINARY, FIN | CONTINUATION, CONTINUATION, FIN | PING, FIN | PONG,
        ]),
        1 => Just(FIN | CLOSE),
        1 => any::<u8>(),
    ];
    (first, payload).prop_map(|(first, payload)| frame(first, &payload))
}

fn any_input() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => prop::collection::vec(any_frame(), 1..8).prop_map(|frames| frames.concat()),
        1 => prop::collection::vec(any::<u8>(), 0..64),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(2_000)))]

    #[test]
    fn byte_by_byte_is_the_same_as_whole(input in any_input()) {
        prop_assert_eq!(decode(input.chunks(1)), decode([&input[..]]));
    }

    #[test]
    fn any_cuts_are_the_same_as_whole(input in any_input(), cuts in prop::collection::vec(0_usize..5_000, 0..8)) {
        let mut cuts: Vec<_> = cuts.into_iter().filter(|&cut| cut < input.len()).collect();
        cuts.sort_unstable();
        let ends = cuts.iter().copied().chain([input.len()]);
        let starts = [0].into_iter().chain(cuts.iter().copied());
        let pieces = starts.zip(ends).map(|(start, end)| &input[start..end]);
        prop_assert_eq!(decode(pieces), decode([&input[..]]));
    }
}
