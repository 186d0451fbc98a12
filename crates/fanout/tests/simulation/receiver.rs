//! A viewer's end of the wire: from bytes to messages, with the means a browser has and none of ours.

use std::io::Read;

use danmaku_wire::Encoding;
use flate2::read::GzDecoder;
use flate2::{Decompress, FlushDecompress};
use serde_json::Value;

/// What came in.
#[derive(Debug)]
pub(crate) enum Message {
    /// A text message, or one line of the packed stream.
    Json(Value),
    Ping,
    Pong,
    Closed(u16),
}

/// Cuts bytes into WebSocket messages and unpacks them. Anything a strict client would refuse is a panic.
#[derive(Debug)]
pub(crate) struct Receiver {
    encoding: Encoding,
    bytes: Vec<u8>,
    /// One inflater for the life of the connection, as in `DecompressionStream('deflate-raw')`.
    inflater: Decompress,
    closed: bool,
    /// Bytes of binary messages with their heads: batches, and nothing else.
    pub(crate) packed_bytes: u64,
}

impl Receiver {
    pub(crate) fn new(encoding: Encoding) -> Self {
        Self {
            encoding,
            bytes: Vec::new(),
            inflater: Decompress::new(false),
            closed: false,
            packed_bytes: 0,
        }
    }

    /// Takes bytes off the wire and gives the messages they complete.
    pub(crate) fn receive(&mut self, bytes: &[u8]) -> Vec<Message> {
        assert!(
            !self.closed || bytes.is_empty(),
            "bytes after the close frame"
        );
        self.bytes.extend_from_slice(bytes);
        let mut messages = Vec::new();
        while let Some((opcode, start, end)) = frame_at(&self.bytes) {
            assert!(!self.closed, "a frame after the close frame");
            let payload: Vec<u8> = self.bytes.drain(..end).skip(start).collect();
            if opcode == BINARY {
                self.packed_bytes += end as u64;
            }
            messages.push(self.message(opcode, &payload));
        }
        messages
    }

    /// Whether a frame has begun and not ended.
    pub(crate) fn is_inside_frame(&self) -> bool {
        !self.bytes.is_empty()
    }

    fn message(&mut self, opcode: u8, payload: &[u8]) -> Message {
        match opcode {
            TEXT => Message::Json(json(payload)),
            BINARY => Message::Json(json(&self.unpack(payload))),
            PING => Message::Ping,
            PONG => Message::Pong,
            CLOSE => {
                self.closed = true;
                Message::Closed(u16::from_be_bytes([payload[0], payload[1]]))
            }
            other => panic!("opcode {other}"),
        }
    }

    fn unpack(&mut self, payload: &[u8]) -> Vec<u8> {
        match self.encoding {
            Encoding::Identity => panic!("a binary message for a viewer of identity"),
            Encoding::Gzip => {
                let mut text = Vec::new();
                GzDecoder::new(payload)
                    .read_to_end(&mut text)
                    .expect("one whole gzip member");
                text
            }
            Encoding::Deflate => {
                let text = inflate(&mut self.inflater, payload);
                let (line_feed, line) = text.split_last().expect("every message carries a batch");
                assert!(
                    *line_feed == b'\n' && !line.contains(&b'\n'),
                    "one line per message"
                );
                line.to_vec()
            }
        }
    }
}

/// Feeds one message into the stream and takes out all that it makes.
fn inflate(inflater: &mut Decompress, mut input: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    loop {
        text.reserve(8 * input.len() + 1_024);
        let before = inflater.total_in();
        inflater
            .decompress_vec(input, &mut text, FlushDecompress::Sync)
            .expect("one valid deflate stream");
        input = &input[usize::try_from(inflater.total_in() - before).unwrap()..];
        if text.len() < text.capacity() {
            assert!(
                input.is_empty(),
                "the inflater stopped with {} bytes left",
                input.len()
            );
            return text;
        }
    }
}

fn json(text: &[u8]) -> Value {
    serde_json::from_slice(text)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(text)))
}

/// Opcode, start and end of the payload of the first frame, when all of it is there (RFC 6455, 5.2).
fn frame_at(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    assert!(
        first & 0xF0 == 0x80,
        "whole messages without reserved bits: {first:#x}"
    );
    assert!(second & 0x80 == 0, "a server does not mask");
    let (start, len) = match second {
        126 => (
            4,
            usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap())),
        ),
        127 => {
            let len = u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap());
            (10, usize::try_from(len).unwrap())
        }
        len => (2, usize::from(len)),
    };
    let end = start + len;
    (bytes.len() >= end).then_some((first & 0x0F, start, end))
}

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
