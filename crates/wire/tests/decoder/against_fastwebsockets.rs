//! Where fastwebsockets checks a rule too, it and our decoder must agree.
//!
//! It checks less (it accepts unmasked frames, lengths that are not minimal, and text that ends inside a scalar value in a
//! last fragment), so the input here has only what both check.

use fastwebsockets::{FragmentCollector, OpCode, Role, WebSocket, WebSocketError};
use proptest::prelude::*;
use tokio::io::AsyncWriteExt;

use crate::client::{
    BINARY, CLOSE, CONTINUATION, Event, FIN, MESSAGE_BYTES_MAX, PING, PONG, TEXT, decode, frame,
};

/// How a connection ended: with nothing left to read, or with something refused.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Quiet,
    Refused,
}

/// Decodes with fastwebsockets.
fn their_opinion(input: Vec<u8>) -> (Vec<Event>, End) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async move {
        let (mut client, server) = tokio::io::duplex(1 << 16);
        client.write_all(&input).await.unwrap();
        client.shutdown().await.unwrap();
        let mut socket = WebSocket::after_handshake(server, Role::Server);
        socket.set_auto_pong(false);
        socket.set_max_message_size(MESSAGE_BYTES_MAX as usize);
        let mut socket = FragmentCollector::new(socket);
        let mut events = Vec::new();
        loop {
            let frame = match socket.read_frame().await {
                Ok(frame) => frame,
                Err(WebSocketError::UnexpectedEOF) => return (events, End::Quiet),
                Err(_) => return (events, End::Refused),
            };
            let payload = frame.payload.to_vec();
            events.push(match frame.opcode {
                OpCode::Text => Event::Text(String::from_utf8(payload).unwrap()),
                OpCode::Binary => Event::Binary(payload),
                OpCode::Ping => Event::Ping(payload),
                OpCode::Pong => Event::Pong(payload),
                OpCode::Close => {
                    let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                    events.push(Event::Close(code));
                    return (events, End::Quiet);
                }
                OpCode::Continuation => panic!("a collector hands out no continuations"),
            });
        }
    })
}

fn our_opinion(input: &[u8]) -> (Vec<Event>, End) {
    let (events, end) = decode([input]);
    (
        events,
        if end.is_ok() {
            End::Quiet
        } else {
            End::Refused
        },
    )
}

/// A whole message, perhaps in fragments with control frames between them.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let control = (
        prop::sample::select(vec![PING, PONG]),
        prop::collection::vec(any::<u8>(), 0..=125),
    )
        .prop_map(|(opcode, payload)| frame(FIN | opcode, &payload));
    let between = prop::collection::vec(control, 0..3).prop_map(|frames| frames.concat());
    let content = prop_oneof![
        "[a-z弾幕🎉]{0,200}".prop_map(|text| (TEXT, text.into_bytes())),
        prop::collection::vec(any::<u8>(), 0..600).prop_map(|bytes| (BINARY, bytes)),
    ];
    (
        content,
        prop::collection::vec((0_usize..1_000, between), 0..4),
    )
        .prop_map(|((opcode, bytes), mut cuts)| {
            cuts.sort_by_key(|(cut, _)| *cut);
            let mut out = Vec::new();
            let mut sent = 0;
            let mut opcode = opcode;
            for (cut, between) in cuts {
                let cut = cut.clamp(sent, bytes.len());
                out.extend(frame(opcode, &bytes[sent..cut]));
                out.extend(between);
                (opcode, sent) = (CONTINUATION, cut);
            }
            out.extend(frame(FIN | opcode, &bytes[sent..]));
            out
        })
}

/// How the input ends: with nothing, a close, or something both refuse.
fn ending() -> impl Strategy<Value = Vec<u8>> {
    let close =
        |code: u16, reason: &[u8]| frame(FIN | CLOSE, &[&code.to_be_bytes()[..], reason].concat());
    // 1014 was registered after fastwebsockets' table was made.
    let code = any::<u16>().prop_filter("only we know it", |&code| code != 1014);
    prop_oneof![
        4 => Just(Vec::new()),
        1 => Just(frame(FIN | CLOSE, b"")),
        1 => Just(frame(FIN | CLOSE, b"\x03")),
        2 => code.prop_map(move |code| close(code, b"bye")),
        2 => prop::sample::select(vec![1000, 1011, 3000, 4999]).prop_map(move |code| close(code, b"bye")),
        1 => Just(close(1000, b"\xff")),
        1 => (0x10_u8..0x80).prop_filter("no bit is set", |bits| bits & 0x70 != 0)
            .prop_map(|bits| frame(FIN | bits, b"x")),
        1 => prop::sample::select(vec![3_u8, 4, 5, 6, 7, 11, 12, 13, 14, 15]).prop_map(|bits| frame(FIN | bits, b"x")),
        1 => prop::sample::select(vec![PING, PONG, CLOSE]).prop_map(|opcode| frame(opcode, b"")),
        1 => Just(frame(FIN | PING, &[7; 126])),
        1 => Just(frame(FIN | TEXT, b"\xff")),
        1 => Just(frame(FIN | CONTINUATION, b"x")),
        1 => Just([frame(TEXT, b"a"), frame(FIN | TEXT, b"b")].concat()),
        1 => Just([frame(TEXT, b"a"), frame(FIN | CONTINUATION, b"\xff")].concat()),
        1 => Just(frame(FIN | BINARY, &[0; 5_000])),
        // Input that ends in the middle of a frame is not an error: the rest may come.
        2 => (message(), 0_usize..100).prop_map(|(mut bytes, cut)| {
            bytes.truncate(bytes.len().saturating_sub(cut));
            bytes
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(1_000)))]

    #[test]
    fn both_decoders_agree(messages in prop::collection::vec(message(), 0..4), ending in ending()) {
        let input = [messages.concat(), ending].concat();
        prop_assert_eq!(our_opinion(&input), their_opinion(input));
    }
}
