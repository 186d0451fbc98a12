//! A viewer's end of the wire: from bytes to messages, with the means a browser has and none of ours. Anything that a
//! strict client would refuse is a panic.

use std::io::Read;

use danmaku_wire::{Dialect, Encoding, Protocol};
use flate2::read::GzDecoder;
use flate2::{Decompress, FlushDecompress};
use serde_json::Value;

/// What came in.
#[derive(Debug)]
pub(crate) enum Message {
    /// A text message, an unpacked batch, or the data of a server-sent event.
    Json(Value),
    /// A ping, or a comment line.
    Heartbeat,
    Pong(Vec<u8>),
    Closed(u16),
}

/// Follows one connection.
#[derive(Debug)]
pub(crate) struct Receiver {
    dialect: Dialect,
    /// Read, and not yet part of anything whole.
    bytes: Vec<u8>,
    /// One inflater for the life of the connection, as in `DecompressionStream('deflate-raw')`.
    inflater: Decompress,
    /// How far an SSE answer has come.
    stage: Stage,
    /// The text of a gzipped SSE answer that is not yet a whole event.
    text: Vec<u8>,
    /// How much of it holds no end of an event.
    searched: usize,
    closed: bool,
    /// Bytes of binary messages with their heads: batches, and nothing else.
    pub(crate) packed_bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    HttpHead,
    GzipHead,
    Body,
}

impl Receiver {
    pub(crate) fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            bytes: Vec::new(),
            inflater: Decompress::new(false),
            stage: Stage::HttpHead,
            text: Vec::new(),
            searched: 0,
            closed: false,
            packed_bytes: 0,
        }
    }

    /// Takes bytes off the wire and gives the messages they complete.
    pub(crate) fn receive(&mut self, bytes: &[u8]) -> Vec<Message> {
        assert!(!self.closed || bytes.is_empty(), "bytes after the close");
        self.bytes.extend_from_slice(bytes);
        match self.dialect.protocol() {
            Protocol::WebSocket => self.frames(),
            Protocol::Sse => self.events(),
        }
    }

    /// Whether a message has begun and not ended.
    pub(crate) fn is_inside_message(&self) -> bool {
        !self.bytes.is_empty() || !self.text.is_empty()
    }

    fn frames(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        while let Some((opcode, start, end)) = frame_at(&self.bytes) {
            assert!(!self.closed, "a frame after the close frame");
            let payload: Vec<u8> = self.bytes.drain(..end).skip(start).collect();
            if opcode == BINARY {
                self.packed_bytes += end as u64;
            }
            messages.push(self.message(opcode, payload));
        }
        messages
    }

    fn message(&mut self, opcode: u8, payload: Vec<u8>) -> Message {
        match opcode {
            TEXT => {
                let json = json(&payload);
                let in_text = self.dialect == Dialect::WsIdentity || json["type"] != "batch";
                assert!(in_text, "an unpacked batch: {json}");
                Message::Json(json)
            }
            BINARY => {
                let json = json(&self.unpack(&payload));
                assert_eq!(json["type"], "batch", "only batches are packed");
                Message::Json(json)
            }
            PING => Message::Heartbeat,
            PONG => Message::Pong(payload),
            CLOSE => {
                self.closed = true;
                Message::Closed(u16::from_be_bytes([payload[0], payload[1]]))
            }
            other => panic!("opcode {other}"),
        }
    }

    fn unpack(&mut self, payload: &[u8]) -> Vec<u8> {
        match self.dialect.encoding() {
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

    fn events(&mut self) -> Vec<Message> {
        if self.stage == Stage::HttpHead {
            let Some(end) = find(&self.bytes, b"\r\n\r\n") else {
                return Vec::new();
            };
            let head: Vec<u8> = self.bytes.drain(..end + 4).collect();
            assert!(head.starts_with(b"HTTP/1.1 200 OK\r\n"), "{head:?}");
            self.stage = match self.dialect.encoding() {
                Encoding::Gzip => Stage::GzipHead,
                _ => Stage::Body,
            };
        }
        if self.stage == Stage::GzipHead {
            if self.bytes.len() < GZIP_HEAD_BYTES {
                return Vec::new();
            }
            let head: Vec<u8> = self.bytes.drain(..GZIP_HEAD_BYTES).collect();
            // Deflate, and no optional fields (RFC 1952, section 2.3).
            assert_eq!(head[..4], [0x1F, 0x8B, 8, 0]);
            self.stage = Stage::Body;
        }
        let bytes = std::mem::take(&mut self.bytes);
        match self.dialect.encoding() {
            Encoding::Gzip => self.text.extend(inflate(&mut self.inflater, &bytes)),
            _ => self.text.extend(bytes),
        }
        let mut messages = Vec::new();
        while let Some(end) = find(&self.text[self.searched..], b"\n\n") {
            assert!(!self.closed, "an event after the close");
            let end = std::mem::take(&mut self.searched) + end;
            let event: Vec<u8> = self.text.drain(..end + 2).collect();
            messages.push(self.event(std::str::from_utf8(&event[..end]).expect("UTF-8")));
        }
        // The first half of an event's end may be there.
        self.searched = self.text.len().saturating_sub(1);
        messages
    }

    fn event(&mut self, event: &str) -> Message {
        if event == ":" {
            return Message::Heartbeat;
        }
        let (id, data) = match event.strip_prefix("id: ") {
            Some(event) => event.split_once("\ndata: ").expect("an id, then data"),
            None => ("", event.strip_prefix("data: ").expect("nothing but data")),
        };
        let json = json(data.as_bytes());
        let seq = match json["type"].as_str() {
            Some("joined") => &json["after"],
            Some("batch" | "gap") => &json["seq"],
            _ => &Value::Null,
        };
        match id.split_once(':') {
            Some((_, id)) => assert_eq!(id, seq.to_string(), "{event}"),
            None => assert!(seq.is_null(), "no place to resume from: {event}"),
        }
        if json["type"] == "close" {
            self.closed = true;
            let code = json["code"].as_u64().expect("a code");
            return Message::Closed(u16::try_from(code).expect("a close code"));
        }
        Message::Json(json)
    }
}

/// Feeds bytes into the stream and takes out all that they make.
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

fn find(bytes: &[u8], end: &[u8]) -> Option<usize> {
    bytes.windows(end.len()).position(|it| it == end)
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

const GZIP_HEAD_BYTES: usize = 10;
