//! One Server-Sent Events response: watches a room.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderMap};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;

use danmaku_wire::{Dialect, Encoding, Position};

use crate::connect::Connect;
use crate::error::ClientError;
use crate::event::{Closed, Event};
use crate::handshake;
use crate::sse::SseParser;
use crate::unpack::{UnpackError, Unpacker};

/// An open stream of a room's events. Dropping it closes the connection.
pub struct EventStream {
    body: Incoming,
    unpacker: Unpacker,
    /// What is still missing of the gzip header.
    gzip_head: Option<GzipHead>,
    parser: SseParser,
    last_event_id: Option<Position>,
    has_ended: bool,
}

impl EventStream {
    /// Requests a room's events. The first one is [`Event::Joined`]. `last_event_id` is where to resume, as when a browser
    /// reconnects; it overrides `connect.since`.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`], [`ClientError::Refused`] with the server's words, [`ClientError::Deadline`],
    /// [`ClientError::Encoding`] for `deflate`, or a response that is not an event stream.
    pub async fn connect(
        connect: &Connect,
        last_event_id: Option<Position>,
    ) -> Result<Self, ClientError> {
        if connect.encoding == Encoding::Deflate {
            return Err(ClientError::Encoding(connect.encoding));
        }
        let asked = ask(connect, last_event_id);
        let response = handshake::within(connect.deadline, asked).await?;
        let dialect = dialect(response.headers())?;
        Ok(Self {
            body: response.into_body(),
            unpacker: Unpacker::new(dialect),
            gzip_head: (dialect == Dialect::SseGzip).then(GzipHead::default),
            parser: SseParser::default(),
            last_event_id,
            has_ended: false,
        })
    }

    /// The next event. Cancel-safe. The last one is [`Event::Closed`].
    ///
    /// # Errors
    /// A message that breaks the protocol, which ends the stream, and [`ClientError::Ended`] after the last event.
    pub async fn next(&mut self) -> Result<Event, ClientError> {
        if self.has_ended {
            return Err(ClientError::Ended);
        }
        let event = self.read().await;
        self.has_ended = matches!(event, Ok(Event::Closed(_)) | Err(_));
        event
    }

    /// Where to resume after this connection: the id of the last event, or the one requested.
    #[must_use]
    pub fn last_event_id(&self) -> Option<Position> {
        self.last_event_id
    }

    async fn read(&mut self) -> Result<Event, ClientError> {
        loop {
            if let Some(event) = self.parser.next() {
                if let Some(id) = event.id {
                    let id = id.parse().map_err(|_| {
                        ClientError::NotTheProtocol("the id of an event is not EPOCH:SEQ")
                    })?;
                    self.last_event_id = Some(id);
                }
                return Ok(Event::parse(&event.data)?);
            }
            // The body ended without a close message, which a closing server would have sent first.
            let Some(Ok(frame)) = self.body.frame().await else {
                return Ok(Event::Closed(Closed {
                    code: Closed::ABNORMAL,
                    reason: String::new(),
                }));
            };
            if let Ok(bytes) = frame.into_data() {
                self.take(&bytes)?;
            }
        }
    }

    fn take(&mut self, mut bytes: &[u8]) -> Result<(), ClientError> {
        if let Some(head) = &mut self.gzip_head {
            if !head.take(&mut bytes)? {
                return Ok(());
            }
            self.gzip_head = None;
        }
        self.unpacker.unpack(bytes, self.parser.text())?;
        if self.parser.is_over_limit() {
            return Err(UnpackError::TooBig.into());
        }
        Ok(())
    }
}

async fn ask(
    connect: &Connect,
    last_event_id: Option<Position>,
) -> Result<Response<Incoming>, ClientError> {
    let stream = handshake::dial(&connect.server, &connect.access).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // The task ends with the connection; its error reaches us through `sender` or the body.
    tokio::spawn(connection);
    let mut request = Request::get(connect.path_and_query("events", None))
        .header(HOST, connect.server.authority())
        .header(ACCEPT, "text/event-stream")
        .header(ACCEPT_ENCODING, connect.encoding.as_str());
    if let Some(position) = last_event_id {
        request = request.header("Last-Event-ID", position.to_string());
    }
    let mut request = request
        .body(Empty::<Bytes>::new())
        .map_err(|_| ClientError::NotTheProtocol("the address does not make a valid request"))?;
    handshake::add_headers(request.headers_mut(), &connect.access);
    let response = sender.send_request(request).await?;
    if response.status() == StatusCode::OK {
        Ok(response)
    } else {
        Err(handshake::refusal(response).await)
    }
}

/// The encoding of the response.
fn dialect(headers: &HeaderMap) -> Result<Dialect, ClientError> {
    let value = |name| headers.get(name).map_or(&b""[..], |value| value.as_bytes());
    if !value(CONTENT_TYPE).starts_with(b"text/event-stream") {
        return Err(ClientError::NotTheProtocol(
            "the response is not an event stream",
        ));
    }
    match value(CONTENT_ENCODING) {
        b"" | b"identity" => Ok(Dialect::SseIdentity),
        b"gzip" => Ok(Dialect::SseGzip),
        _ => Err(ClientError::NotTheProtocol(
            "the event stream is packed in another way than asked for",
        )),
    }
}

/// The header of a gzip member (RFC 1952 section 2.3), as far as it has arrived.
#[derive(Debug, Default)]
struct GzipHead(Vec<u8>);

impl GzipHead {
    const BYTES: usize = 10;
    /// Magic, deflate, and no flags: none of the optional fields follows.
    const START: [u8; 4] = [0x1F, 0x8B, 8, 0];

    /// Takes the header's bytes from the start of `bytes`; returns whether it is complete.
    fn take(&mut self, bytes: &mut &[u8]) -> Result<bool, UnpackError> {
        let missing = Self::BYTES - self.0.len();
        let (head, rest) = bytes.split_at(missing.min(bytes.len()));
        self.0.extend_from_slice(head);
        *bytes = rest;
        if self.0.len() < Self::BYTES {
            return Ok(false);
        }
        if self.0.starts_with(&Self::START) {
            Ok(true)
        } else {
            Err(UnpackError::Head)
        }
    }
}
