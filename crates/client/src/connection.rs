//! One WebSocket connection: watches a room and posts to it.

use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fastwebsockets::{
    FragmentCollectorRead, Frame, OpCode, Payload, Role, WebSocketError, WebSocketWrite,
};
use tokio::io::{AsyncReadExt, Chain, ReadHalf, WriteHalf};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;

use danmaku_wire::{CloseReason, Dialect, IdempotencyKey};

use crate::comment::{NewComment, Reference};
use crate::connect::Connect;
use crate::error::ClientError;
use crate::event::{Closed, Event};
use crate::handshake;
use crate::stream::Stream;
use crate::unpack::Unpacker;

/// An open connection. Dropping it closes the socket without a close frame; use [`Connection::close`] to
/// close cleanly.
pub struct Connection {
    events: mpsc::Receiver<Result<Event, ClientError>>,
    writer: Writer,
    reader: JoinHandle<()>,
}

type Writer = Arc<Mutex<WebSocketWrite<WriteHalf<Stream>>>>;

/// Events read ahead of the caller. When the caller is slow, reading stops here and TCP pushes back on the server.
const EVENTS_AHEAD_MAX: usize = 64;
/// Largest message accepted from the server; a replay of a busy hour is far smaller.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// How long [`Connection::close`] waits for the server's half of the closing handshake.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

impl Connection {
    /// Connects and does the handshake. The first event is [`Event::Joined`].
    ///
    /// # Errors
    /// [`ClientError::Unreachable`], [`ClientError::Refused`] with the server's words, [`ClientError::Deadline`], or a
    /// response that is not a WebSocket upgrade.
    pub async fn connect(connect: &Connect) -> Result<Self, ClientError> {
        let encoding = format!("encoding={}", connect.encoding.as_str());
        let path = connect.path_and_query("ws", Some(encoding));
        let upgraded =
            handshake::within(connect.deadline, handshake::upgrade(connect, &path)).await?;
        let (read_half, write_half) = tokio::io::split(upgraded.stream);
        let source = Cursor::new(upgraded.read_ahead).chain(read_half);
        let (mut source, sink) =
            fastwebsockets::after_handshake_split(source, write_half, Role::Client);
        source.set_max_message_size(MESSAGE_BYTES_MAX);
        let writer = Arc::new(Mutex::new(sink));
        let (sender, events) = mpsc::channel(EVENTS_AHEAD_MAX);
        let reader = Reader {
            frames: FragmentCollectorRead::new(source),
            writer: Arc::clone(&writer),
            unpacker: Unpacker::new(Dialect::web_socket(connect.encoding)),
            plain: Vec::new(),
        };
        Ok(Self {
            events,
            writer,
            reader: tokio::spawn(reader.run(sender)),
        })
    }

    /// The next event. Cancel-safe. The last one is [`Event::Closed`].
    ///
    /// # Errors
    /// A message that breaks the protocol, which ends the connection, and [`ClientError::Ended`] after the last event.
    pub async fn next(&mut self) -> Result<Event, ClientError> {
        self.events.recv().await.unwrap_or(Err(ClientError::Ended))
    }

    /// Posts a comment. The answer is an [`Event::Ack`] or [`Event::Error`] with the same reference.
    ///
    /// # Errors
    /// The socket is gone.
    pub async fn post(
        &self,
        comment: &NewComment,
        reference: Option<&Reference>,
    ) -> Result<(), ClientError> {
        self.send_text(&comment.message(reference, None)).await
    }

    /// Like [`Connection::post`], with a key that makes it safe to retry when the outcome is unknown.
    ///
    /// # Errors
    /// The socket is gone.
    pub async fn post_with_key(
        &self,
        comment: &NewComment,
        reference: Option<&Reference>,
        key: &IdempotencyKey,
    ) -> Result<(), ClientError> {
        self.send_text(&comment.message(reference, Some(key))).await
    }

    /// Sends `count` likes.
    ///
    /// # Errors
    /// The socket is gone.
    pub async fn like(&self, count: u32) -> Result<(), ClientError> {
        self.send_text(&format!(r#"{{"type":"like","count":{count}}}"#))
            .await
    }

    /// Says who the viewer is, for the first time or again. The answer comes as [`Event::Other`] with the type `authorized`.
    ///
    /// # Errors
    /// The socket is gone.
    pub async fn authenticate(&self, token: &str) -> Result<(), ClientError> {
        let message = serde_json::json!({"type": "auth", "token": token});
        self.send_text(&message.to_string()).await
    }

    /// Sends one text message unchanged, well formed or not.
    ///
    /// # Errors
    /// The socket is gone.
    pub async fn send_text(&self, text: &str) -> Result<(), ClientError> {
        self.send(Frame::text(Payload::Owned(text.as_bytes().to_vec())))
            .await
    }

    /// Sends a close frame and waits, two seconds at most, until the server has closed too.
    ///
    /// # Errors
    /// The socket is gone, or the server did not answer in time.
    pub async fn close(mut self) -> Result<(), ClientError> {
        self.send(Frame::close(CloseReason::Normal.code(), b""))
            .await?;
        handshake::within(CLOSE_DEADLINE, async {
            while !matches!(self.next().await, Ok(Event::Closed(_)) | Err(_)) {}
            Ok(())
        })
        .await
    }

    async fn send(&self, frame: Frame<'_>) -> Result<(), ClientError> {
        Ok(self.writer.lock().await.write_frame(frame).await?)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// The task that reads. It exists because `fastwebsockets` loses bytes when a read is cancelled half-way.
struct Reader {
    frames: FragmentCollectorRead<Chain<Cursor<Bytes>, ReadHalf<Stream>>>,
    writer: Writer,
    unpacker: Unpacker,
    plain: Vec<u8>,
}

impl Reader {
    async fn run(mut self, events: mpsc::Sender<Result<Event, ClientError>>) {
        loop {
            let next = self.read().await;
            let last = matches!(next, Ok(Some(Event::Closed(_))) | Err(_));
            // A failed send means that the receiver is gone: the connection is being dropped.
            if let Some(event) = next.transpose()
                && events.send(event).await.is_err()
            {
                return;
            }
            if last {
                return;
            }
        }
    }

    async fn read(&mut self) -> Result<Option<Event>, ClientError> {
        let writer = &self.writer;
        let answer = &mut |frame| async move { writer.lock().await.write_frame(frame).await };
        let frame = match self.frames.read_frame(answer).await {
            Ok(frame) => frame,
            Err(
                WebSocketError::UnexpectedEOF
                | WebSocketError::IoError(_)
                | WebSocketError::SendError(_),
            ) => {
                return Ok(Some(Event::Closed(Closed {
                    code: Closed::ABNORMAL,
                    reason: String::new(),
                })));
            }
            Err(fault) => return Err(fault.into()),
        };
        match frame.opcode {
            OpCode::Text => Ok(Some(Event::parse(&frame.payload)?)),
            OpCode::Binary => {
                self.plain.clear();
                self.unpacker.unpack(&frame.payload, &mut self.plain)?;
                Ok(Some(Event::parse(&self.plain)?))
            }
            OpCode::Close => Ok(Some(Event::Closed(closed(&frame.payload)))),
            OpCode::Ping | OpCode::Pong | OpCode::Continuation => Ok(None),
        }
    }
}

fn closed(payload: &[u8]) -> Closed {
    match payload.split_first_chunk::<2>() {
        Some((code, reason)) => Closed {
            code: u16::from_be_bytes(*code),
            reason: String::from_utf8_lossy(reason).into_owned(),
        },
        None => Closed {
            code: Closed::NO_STATUS,
            reason: String::new(),
        },
    }
}
