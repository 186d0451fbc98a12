//! One table per rule: what is accepted, and what is refused with which error.

use danmaku_wire::{ClientDecoder, CloseReason, DecodeError};

use crate::client::{
    BINARY, CLOSE, CONTINUATION, Event, FIN, MESSAGE_BYTES_MAX, PING, PONG, TEXT, decode, frame,
    frame_with_length,
};

/// Checks the outcome for whole input and byte by byte.
fn check(input: &[u8], events: &[Event], end: Result<(), DecodeError>) {
    let expected = (events.to_vec(), end);
    assert_eq!(
        decode([input]),
        expected,
        "whole: {:x?}",
        &input[..input.len().min(32)]
    );
    assert_eq!(
        decode(input.chunks(1)),
        expected,
        "byte by byte: {:x?}",
        &input[..input.len().min(32)]
    );
}

fn refused(input: &[u8], error: DecodeError) {
    check(input, &[], Err(error));
}

#[test]
fn unfragmented_messages() {
    check(&frame(FIN | TEXT, b""), &[Event::text("")], Ok(()));
    check(
        &frame(FIN | TEXT, "弾幕".as_bytes()),
        &[Event::text("弾幕")],
        Ok(()),
    );
    check(
        &frame(FIN | BINARY, b"\xff\x00"),
        &[Event::Binary(vec![0xFF, 0])],
        Ok(()),
    );
    for len in [125, 126, 127, 4096] {
        let text = "x".repeat(len);
        check(
            &frame(FIN | TEXT, text.as_bytes()),
            &[Event::text(&text)],
            Ok(()),
        );
    }
    let two = [frame(FIN | TEXT, b"a"), frame(FIN | TEXT, b"b")].concat();
    check(&two, &[Event::text("a"), Event::text("b")], Ok(()));
}

#[test]
fn control_frames() {
    check(&frame(FIN | PING, b""), &[Event::Ping(vec![])], Ok(()));
    check(
        &frame(FIN | PING, &[7; 125]),
        &[Event::Ping(vec![7; 125])],
        Ok(()),
    );
    check(
        &frame(FIN | PONG, b"late"),
        &[Event::Pong(b"late".to_vec())],
        Ok(()),
    );
    for opcode in [CLOSE, PING, PONG] {
        refused(&frame(FIN | opcode, &[7; 126]), DecodeError::LongControl);
        refused(
            &frame_with_length(FIN | opcode, &[127, 0, 0, 0, 0, 0, 0, 0, 1], b"x"),
            DecodeError::LongControl,
        );
        refused(&frame(opcode, b""), DecodeError::FragmentedControl);
    }
}

#[test]
fn fragments() {
    let whole = [
        frame(TEXT, b"a"),
        frame(FIN | PING, b"1"),
        frame(CONTINUATION, b""),
        frame(CONTINUATION, b"b"),
        frame(FIN | PONG, b"2"),
        frame(FIN | CONTINUATION, b"c"),
        frame(FIN | TEXT, b"d"),
    ]
    .concat();
    let events = [
        Event::Ping(b"1".to_vec()),
        Event::Pong(b"2".to_vec()),
        Event::text("abc"),
        Event::text("d"),
    ];
    check(&whole, &events, Ok(()));
    let empty = [frame(BINARY, b""), frame(FIN | CONTINUATION, b"")].concat();
    check(&empty, &[Event::Binary(vec![])], Ok(()));
    let closed = [frame(TEXT, b"a"), frame(FIN | CLOSE, b"")].concat();
    check(&closed, &[Event::Close(None)], Ok(()));

    refused(
        &frame(CONTINUATION, b"a"),
        DecodeError::UnexpectedContinuation,
    );
    refused(
        &frame(FIN | CONTINUATION, b"a"),
        DecodeError::UnexpectedContinuation,
    );
    let after_whole = [frame(FIN | TEXT, b"a"), frame(FIN | CONTINUATION, b"b")].concat();
    check(
        &after_whole,
        &[Event::text("a")],
        Err(DecodeError::UnexpectedContinuation),
    );
    for first in [TEXT, BINARY, FIN | TEXT, FIN | BINARY] {
        refused(
            &[frame(TEXT, b"a"), frame(first, b"b")].concat(),
            DecodeError::InterleavedMessage,
        );
    }
}

#[test]
fn heads() {
    for bit in [0x40, 0x20, 0x10] {
        refused(&frame(FIN | bit | TEXT, b"a"), DecodeError::ReservedBits);
    }
    for opcode in [0x3, 0x4, 0x5, 0x6, 0x7, 0xB, 0xC, 0xD, 0xE, 0xF] {
        refused(
            &frame(FIN | opcode, b"a"),
            DecodeError::ReservedOpcode(opcode),
        );
    }
    refused(&[FIN | TEXT, 1, b'a'], DecodeError::Unmasked);
    refused(&[FIN | CLOSE, 0], DecodeError::Unmasked);
}

#[test]
fn lengths() {
    refused(
        &frame_with_length(FIN | TEXT, &[126, 0, 125], &[b'a'; 125]),
        DecodeError::NonMinimalLength,
    );
    refused(
        &frame_with_length(FIN | TEXT, &[126, 0, 0], b""),
        DecodeError::NonMinimalLength,
    );
    refused(
        &frame_with_length(FIN | TEXT, &[127, 0, 0, 0, 0, 0, 0, 0, 1], b"a"),
        DecodeError::NonMinimalLength,
    );
    refused(
        &frame_with_length(FIN | TEXT, &[127, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF], b"a"),
        DecodeError::NonMinimalLength,
    );
    refused(
        &frame_with_length(FIN | TEXT, &[127, 0x80, 0, 0, 0, 0, 0, 0, 0], b""),
        DecodeError::LengthTopBit,
    );
    refused(
        &frame_with_length(FIN | TEXT, &[127, 0x40, 0, 0, 0, 0, 0, 0, 0], b""),
        DecodeError::TooBig,
    );
    refused(
        &frame_with_length(FIN | TEXT, &[127, 0, 0, 0, 0, 0, 1, 0, 0], b""),
        DecodeError::TooBig,
    );
    refused(&frame(FIN | TEXT, &[b'a'; 4097]), DecodeError::TooBig);
    // The length alone is enough: no mask, no payload, nothing to allocate for.
    refused(
        &[FIN | BINARY, 0x80 | 127, 0x40, 0, 0, 0, 0, 0, 0, 0],
        DecodeError::TooBig,
    );
}

#[test]
fn empty_fragments_are_limited() {
    let of = |fragments: usize| {
        [
            frame(TEXT, b"a"),
            frame(CONTINUATION, b"").repeat(fragments - 2),
            frame(FIN | CONTINUATION, b""),
        ]
        .concat()
    };
    let twice = [of(64), of(64)].concat();
    check(&twice, &[Event::text("a"), Event::text("a")], Ok(()));
    refused(&of(65), DecodeError::TooManyFragments);
}

#[test]
fn fragments_add_up_to_the_limit() {
    let full = frame(TEXT, &[b'a'; 4000]);
    let fits = [full.clone(), frame(FIN | CONTINUATION, &[b'b'; 96])].concat();
    check(
        &fits,
        &[Event::Text("a".repeat(4000) + &"b".repeat(96))],
        Ok(()),
    );
    refused(
        &[full.clone(), frame(FIN | CONTINUATION, &[b'b'; 97])].concat(),
        DecodeError::TooBig,
    );
    refused(
        &[full.clone(), frame(CONTINUATION, &[b'b'; 97])].concat(),
        DecodeError::TooBig,
    );
    let huge = frame_with_length(
        CONTINUATION,
        &[127, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
        b"",
    );
    refused(&[full.clone(), huge].concat(), DecodeError::TooBig);
    // The limit covers neither control frames between the fragments nor the next message.
    let ping = [
        full,
        frame(FIN | PING, &[7; 125]),
        frame(FIN | CONTINUATION, b""),
    ]
    .concat();
    check(
        &ping,
        &[Event::Ping(vec![7; 125]), Event::Text("a".repeat(4000))],
        Ok(()),
    );
    let again = [
        frame(FIN | BINARY, &[1; 4096]),
        frame(FIN | BINARY, &[2; 4096]),
    ]
    .concat();
    check(
        &again,
        &[Event::Binary(vec![1; 4096]), Event::Binary(vec![2; 4096])],
        Ok(()),
    );
}

#[test]
fn utf8() {
    for bad in [
        &b"\xff"[..],
        b"\xc0\x80",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"a\xe5\xbc",
    ] {
        refused(&frame(FIN | TEXT, bad), DecodeError::InvalidUtf8);
    }
    let split = "弾".as_bytes();
    let good = [
        frame(TEXT, &split[..1]),
        frame(FIN | CONTINUATION, &split[1..]),
    ]
    .concat();
    check(&good, &[Event::text("弾")], Ok(()));
    let cut = [
        frame(TEXT, &split[..1]),
        frame(FIN | CONTINUATION, &split[2..]),
    ]
    .concat();
    refused(&cut, DecodeError::InvalidUtf8);
    let unfinished = [frame(TEXT, b"a"), frame(FIN | CONTINUATION, &split[..2])].concat();
    refused(&unfinished, DecodeError::InvalidUtf8);
    let binary = [
        frame(BINARY, &split[..1]),
        frame(FIN | CONTINUATION, b"\xff"),
    ]
    .concat();
    check(&binary, &[Event::Binary(vec![split[0], 0xFF])], Ok(()));
}

#[test]
fn closes() {
    fn check_close(code: u16, end: Option<DecodeError>) {
        let events = if end.is_none() {
            vec![Event::Close(Some(code))]
        } else {
            vec![]
        };
        let bytes = [&code.to_be_bytes()[..], "再见".as_bytes()].concat();
        check(
            &frame(FIN | CLOSE, &bytes),
            &events,
            end.map_or(Ok(()), Err),
        );
    }
    check(&frame(FIN | CLOSE, b""), &[Event::Close(None)], Ok(()));
    check(
        &frame(FIN | CLOSE, b"\x03\xe8"),
        &[Event::Close(Some(1000))],
        Ok(()),
    );
    for code in [
        1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000,
        4999,
    ] {
        check_close(code, None);
    }
    for code in [
        0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535,
    ] {
        check_close(code, Some(DecodeError::BadCloseCode(code)));
    }
    refused(&frame(FIN | CLOSE, b"\x03"), DecodeError::HalfCloseCode);
    refused(
        &frame(FIN | CLOSE, b"\x03\xe8\xff"),
        DecodeError::InvalidUtf8,
    );
}

#[test]
fn input_after_a_close_or_an_error_is_ignored() {
    let after_close = [
        frame(FIN | CLOSE, b""),
        vec![FIN | TEXT, 1, b'a'],
        frame(FIN | TEXT, b"a"),
    ]
    .concat();
    check(&after_close, &[Event::Close(None)], Ok(()));

    let mut decoder = ClientDecoder::new(MESSAGE_BYTES_MAX);
    let mut events = 0;
    assert_eq!(
        decoder.decode(&mut [FIN | TEXT, 0], |_| events += 1),
        Err(DecodeError::Unmasked)
    );
    assert_eq!(
        decoder.decode(&mut frame(FIN | TEXT, b"a"), |_| events += 1),
        Ok(())
    );
    assert_eq!(events, 0);
}

#[test]
fn each_error_has_its_close_code() {
    fn check(input: DecodeError, expected: CloseReason) {
        assert_eq!(input.close_reason(), expected);
    }
    check(DecodeError::TooBig, CloseReason::TooBig);
    check(DecodeError::InvalidUtf8, CloseReason::InvalidData);
    for error in [
        DecodeError::Unmasked,
        DecodeError::ReservedBits,
        DecodeError::ReservedOpcode(3),
        DecodeError::FragmentedControl,
        DecodeError::LongControl,
        DecodeError::NonMinimalLength,
        DecodeError::LengthTopBit,
        DecodeError::UnexpectedContinuation,
        DecodeError::InterleavedMessage,
        DecodeError::HalfCloseCode,
        DecodeError::BadCloseCode(1005),
    ] {
        check(error, CloseReason::ProtocolError);
    }
}

#[test]
fn an_idle_decoder_is_two_words() {
    assert!(size_of::<ClientDecoder>() <= 16);
}
