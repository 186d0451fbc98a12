//! What a viewer speaks: a protocol and an encoding of batches.

use bytes::Bytes;

use crate::close::CloseReason;
use crate::compress::{CompressionLevel, raw_deflate};
use crate::encoding::Encoding;
use crate::head::{Opcode, frame};
use crate::ids::Position;
use crate::outbound::{close_frame, close_json, ping_frame};

/// How messages are framed for a viewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// RFC 6455: the viewer may also send.
    WebSocket,
    /// Server-Sent Events (WHATWG HTML, section 9.2): one endless HTTP response.
    Sse,
}

/// A protocol with an encoding: everything a shard must know to write to a viewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// WebSocket, batches as JSON text.
    WsIdentity,
    /// WebSocket, one gzip member per batch.
    WsGzip,
    /// WebSocket, one raw deflate stream per connection.
    WsDeflate,
    /// Server-Sent Events as plain text.
    SseIdentity,
    /// Server-Sent Events in one gzip member.
    SseGzip,
}

impl Dialect {
    /// Every dialect, in order of [`Dialect::index`].
    pub const ALL: [Self; Self::COUNT] = [
        Self::WsIdentity,
        Self::WsGzip,
        Self::WsDeflate,
        Self::SseIdentity,
        Self::SseGzip,
    ];

    /// How many there are.
    pub const COUNT: usize = 5;

    /// The dialect of a WebSocket viewer.
    #[must_use]
    pub const fn web_socket(encoding: Encoding) -> Self {
        match encoding {
            Encoding::Identity => Self::WsIdentity,
            Encoding::Gzip => Self::WsGzip,
            Encoding::Deflate => Self::WsDeflate,
        }
    }

    /// Its place in a table of dialects.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The name in counters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::WsIdentity => "ws_identity",
            Self::WsGzip => "ws_gzip",
            Self::WsDeflate => "ws_deflate",
            Self::SseIdentity => "sse_identity",
            Self::SseGzip => "sse_gzip",
        }
    }

    /// Its protocol.
    #[must_use]
    pub const fn protocol(self) -> Protocol {
        match self {
            Self::WsIdentity | Self::WsGzip | Self::WsDeflate => Protocol::WebSocket,
            Self::SseIdentity | Self::SseGzip => Protocol::Sse,
        }
    }

    /// Its encoding.
    #[must_use]
    pub const fn encoding(self) -> Encoding {
        match self {
            Self::WsIdentity | Self::SseIdentity => Encoding::Identity,
            Self::WsGzip | Self::SseGzip => Encoding::Gzip,
            Self::WsDeflate => Encoding::Deflate,
        }
    }

    /// The first bytes sent: the headers of the HTTP response, if the dialect has any.
    #[must_use]
    pub fn opening(self) -> Option<Bytes> {
        match self.protocol() {
            Protocol::WebSocket => None,
            Protocol::Sse => {
                let mut bytes = Vec::with_capacity(384);
                bytes.extend_from_slice(SSE_HEAD.as_bytes());
                if self == Self::SseGzip {
                    bytes.extend_from_slice(b"Content-Encoding: gzip\r\n\r\n");
                    bytes.extend_from_slice(&GZIP_HEAD);
                } else {
                    bytes.extend_from_slice(b"\r\n");
                }
                Some(bytes.into())
            }
        }
    }

    /// A message without a position to resume from: an ack, an error, a notice.
    #[must_use]
    pub fn message(self, json: &str) -> Bytes {
        match self.protocol() {
            Protocol::WebSocket => frame(Opcode::Text, json.as_bytes()),
            Protocol::Sse => self.packed(&sse_text(None, json.as_bytes())),
        }
    }

    /// A message after which a viewer resumes from `position`.
    #[must_use]
    pub fn positioned(self, json: &str, position: Position) -> Bytes {
        match self.protocol() {
            Protocol::WebSocket => self.message(json),
            Protocol::Sse => self.packed(&sse_text(Some(position), json.as_bytes())),
        }
    }

    /// A heartbeat for a viewer with nothing else to send: a ping, or a comment line.
    #[must_use]
    pub fn heartbeat(self) -> Bytes {
        match self.protocol() {
            Protocol::WebSocket => ping_frame(),
            Protocol::Sse => self.packed(b":\n\n"),
        }
    }

    /// The last thing written to a viewer.
    #[must_use]
    pub fn close(self, reason: CloseReason) -> Bytes {
        match self.protocol() {
            Protocol::WebSocket => close_frame(reason),
            Protocol::Sse => self.message(&close_json(reason)),
        }
    }

    /// Whether the viewer answers heartbeats, so that silence means it is gone.
    #[must_use]
    pub const fn answers_heartbeats(self) -> bool {
        matches!(self.protocol(), Protocol::WebSocket)
    }

    /// Whether a message other than a batch becomes part of the stream that batches refer back into, so that the viewer
    /// needs independent forms after it.
    #[must_use]
    pub const fn message_ends_chain(self) -> bool {
        matches!(self, Self::SseGzip)
    }

    /// The text as sent on an SSE connection of this dialect.
    fn packed(self, text: &[u8]) -> Bytes {
        if self == Self::SseGzip {
            raw_deflate(CompressionLevel::DEFAULT, &[], text, Bytes::copy_from_slice)
        } else {
            Bytes::copy_from_slice(text)
        }
    }
}

/// An unnamed event: its `id:` line when it has a position, and the JSON, which never holds a line break, as `data:`.
pub(crate) fn sse_text(position: Option<Position>, json: &[u8]) -> Vec<u8> {
    // Two integers of at most 20 digits and the field names.
    let mut text = Vec::with_capacity(json.len() + 64);
    if let Some(position) = position {
        text.extend_from_slice(b"id: ");
        text.extend_from_slice(position.to_string().as_bytes());
        text.push(b'\n');
    }
    text.extend_from_slice(b"data: ");
    text.extend_from_slice(json);
    text.extend_from_slice(b"\n\n");
    text
}

/// The response headers, without the encoding. There is no length: the end of the connection ends the body (RFC 9112, 6.3).
///
/// `no-transform` and `X-Accel-Buffering` keep proxies from holding events back; any page may watch, as with WebSockets.
const SSE_HEAD: &str = "HTTP/1.1 200 OK\r\n\
    Content-Type: text/event-stream\r\n\
    Cache-Control: no-cache, no-transform\r\n\
    Connection: close\r\n\
    X-Accel-Buffering: no\r\n\
    Access-Control-Allow-Origin: *\r\n\
    Vary: Accept-Encoding\r\n";

/// The head of a gzip member without name and time (RFC 1952, section 2.3). Raw deflate blocks follow forever.
const GZIP_HEAD: [u8; 10] = [0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 0xFF];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Epoch, Seq};

    #[test]
    fn dialects_have_an_index_and_a_name_each() {
        for (index, dialect) in Dialect::ALL.into_iter().enumerate() {
            assert_eq!(dialect.index(), index);
        }
        for encoding in Encoding::ALL {
            let dialect = Dialect::web_socket(encoding);
            assert_eq!(
                (dialect.protocol(), dialect.encoding()),
                (Protocol::WebSocket, encoding)
            );
            assert_eq!(dialect.opening(), None);
        }
        let names: std::collections::HashSet<_> =
            Dialect::ALL.iter().map(|dialect| dialect.name()).collect();
        assert_eq!(names.len(), Dialect::COUNT);
    }

    #[test]
    fn sse_messages_are_unnamed_events() {
        let position = Position {
            epoch: Epoch::new(7),
            seq: Seq::new(41),
        };
        let sse = Dialect::SseIdentity;
        assert_eq!(sse.message("{}"), "data: {}\n\n");
        assert_eq!(sse.positioned("{}", position), "id: 7:41\ndata: {}\n\n");
        assert_eq!(sse.heartbeat(), ":\n\n");
        assert_eq!(
            sse.close(CloseReason::SlowConsumer),
            "data: {\"type\":\"close\",\"code\":4001,\"reason\":\"reading too slowly\",\"reconnect\":true}\n\n"
        );
        let head = sse.opening().unwrap();
        assert!(head.ends_with(b"\r\n\r\n"));
        assert_eq!(
            Dialect::WsGzip.positioned("{}", position),
            Dialect::WsIdentity.message("{}")
        );
    }

    #[test]
    fn an_sse_stream_in_gzip_is_one_member() {
        use std::io::Read;

        let gzip = Dialect::SseGzip;
        let opening = gzip.opening().unwrap();
        let body = opening.windows(4).position(|it| it == b"\r\n\r\n").unwrap() + 4;
        let stream = [
            &opening[body..],
            &gzip.message("{\"a\":1}"),
            &gzip.heartbeat(),
            &gzip.message("{\"a\":1}"),
        ]
        .concat();
        let mut text = Vec::new();
        let mut decoder = flate2::bufread::GzDecoder::new(&stream[..]);
        // The member never ends: all that was written is out before the decoder misses the rest.
        let end = decoder.read_to_end(&mut text).unwrap_err();
        assert_eq!(end.kind(), std::io::ErrorKind::UnexpectedEof);
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "data: {\"a\":1}\n\n:\n\ndata: {\"a\":1}\n\n"
        );
    }
}
