//! A danmaku server small enough to be broken on purpose: one task per connection, one lock, and a switch for each way of
//! failing. It is not fast and keeps nothing.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use danmaku_wire::{
    Batch, ClientDecoder, ClientEvent, ClientMessage, CloseReason, Comment, CommentLimits,
    CompressionPolicy, DeflateCursor, DeflateViewers, Encoding, Fragment, FrameSet, Posted, Sealer,
    Seq, frame_for, outbound, parse_client_message, parse_posted,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// What is wrong with the server. Each fault happens once per room, at its third batch of at least two comments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// A comment is left out, and nobody is told.
    DropComment,
    /// A comment stands in the place of the next one too.
    RepeatComment,
    /// Two comments change places.
    SwapComments,
    /// A letter of a comment is changed.
    CorruptComment,
    /// A comment is left out and counted as shed.
    ShedComment,
    /// Nothing is sent for 700 ms.
    Stall,
    /// One viewer does not get a frame.
    DropFrame,
    /// One viewer gets a frame twice.
    RepeatFrame,
    /// One viewer gets a frame after the next one.
    SwapFrames,
    /// One viewer does not get a frame and is told so.
    GapFrame,
    /// One viewer is cut off without a word.
    Cut,
    /// One viewer is evicted.
    Evict,
}

pub(crate) const WINDOW: Duration = Duration::from_millis(100);
const EPOCH: u64 = 42;

/// A running double.
pub(crate) struct Double {
    pub(crate) address: SocketAddr,
}

#[derive(Clone)]
struct Server {
    fault: Fault,
    rooms: Arc<Mutex<HashMap<String, Room>>>,
}

struct Room {
    accepted: u64,
    sealed: u64,
    pending: Vec<Fragment>,
    sealer: Sealer,
    viewers: Vec<Viewer>,
    full_batches: u32,
    held_back: Option<Bytes>,
}

struct Viewer {
    encoding: Encoding,
    cursor: DeflateCursor,
    frames: mpsc::Sender<Option<Bytes>>,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            accepted: 0,
            sealed: 0,
            pending: Vec::new(),
            sealer: Sealer::new(CompressionPolicy::default()),
            viewers: Vec::new(),
            full_batches: 0,
            held_back: None,
        }
    }
}

impl Double {
    pub(crate) async fn start(fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server {
            fault,
            rooms: Arc::default(),
        };
        let ticking = server.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(WINDOW).await;
                if ticking.tick() {
                    tokio::time::sleep(Duration::from_millis(700)).await;
                }
            }
        });
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = server.clone();
                tokio::spawn(async move { server.serve(stream).await });
            }
        });
        Self { address }
    }
}

impl Server {
    /// Seals every room that has something; whether the server now stalls.
    fn tick(&self) -> bool {
        let mut rooms = self.rooms.lock().unwrap();
        rooms
            .values_mut()
            .filter(|room| !room.pending.is_empty())
            .fold(false, |stalls, room| {
                let due = room.fault_is_due();
                let set = room.seal(if due { self.fault } else { Fault::None });
                room.deliver(&set, if due { self.fault } else { Fault::None });
                stalls | (due && self.fault == Fault::Stall)
            })
    }

    async fn serve(&self, stream: TcpStream) {
        let (mut reader, mut writer) = stream.into_split();
        let mut bytes = Vec::new();
        while let Some((head, body)) = request(&mut reader, &mut bytes).await {
            let mut words = head.split(' ');
            let (method, target) = (words.next().unwrap(), words.next().unwrap());
            let room = target.split('/').nth(3).unwrap_or_default().to_owned();
            match (method, target) {
                ("POST", _) => {
                    let answer = self.post(&room, body);
                    let _ = writer.write_all(&response("201 Created", &answer)).await;
                }
                (_, target) if target.contains("/ws?") => {
                    // Whoever comes back says where it was; it is let in like anybody else.
                    let encoding = target.split_once("encoding=").unwrap().1;
                    let encoding = encoding.split('&').next().unwrap().parse().unwrap();
                    return self.watch(&room, encoding, &head, reader, writer).await;
                }
                _ => {
                    let body = r#"{"error":{"code":"not_found","message":"no such page"}}"#;
                    let _ = writer.write_all(&response("404 Not Found", body)).await;
                }
            }
        }
    }

    fn post(&self, room: &str, mut body: Vec<u8>) -> String {
        let Ok(Posted::One(comment)) = parse_posted(&mut body, &CommentLimits::default()) else {
            panic!("the publisher posts one well-formed comment at a time");
        };
        format!(
            r#"{{"epoch":{EPOCH},"id":{}}}"#,
            self.accept(room, &comment).value()
        )
    }

    fn accept(&self, room: &str, comment: &Comment) -> Seq {
        let mut rooms = self.rooms.lock().unwrap();
        let room = rooms.entry(room.to_owned()).or_default();
        room.accepted += 1;
        room.pending.push(comment.fragment());
        Seq::new(room.accepted)
    }

    async fn watch(
        &self,
        room: &str,
        encoding: Encoding,
        head: &str,
        mut reader: OwnedReadHalf,
        mut writer: OwnedWriteHalf,
    ) {
        let (frames, mut outbox) = mpsc::channel(1024);
        let hello = {
            let mut rooms = self.rooms.lock().unwrap();
            let entry = rooms.entry(room.to_owned()).or_default();
            let joined = format!(
                r#"{{"type":"joined","room":"{room}","epoch":{EPOCH},"seq":{},"window_ms":{},"viewers":1,"resumed":false}}"#,
                entry.sealed,
                WINDOW.as_millis()
            );
            entry.viewers.push(Viewer {
                encoding,
                cursor: DeflateCursor::default(),
                frames: frames.clone(),
            });
            outbound::text_frame(&joined)
        };
        let upgrade = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\n",
            accept_value(head)
        );
        writer.write_all(upgrade.as_bytes()).await.unwrap();
        writer.write_all(&hello).await.unwrap();
        tokio::spawn(async move {
            while let Some(Some(frame)) = outbox.recv().await {
                if writer.write_all(&frame).await.is_err() {
                    return;
                }
            }
        });
        let mut decoder = ClientDecoder::new(4096);
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = reader.read(&mut buffer).await {
            let mut answers = Vec::new();
            let _ = decoder.decode(&mut buffer[..read], |event| match event {
                ClientEvent::Text(text) => {
                    if let Ok(ClientMessage::Comment { reference, comment }) =
                        parse_client_message(text, &CommentLimits::default())
                    {
                        let id = self.accept(room, &comment);
                        answers.push(outbound::text_frame(&outbound::ack_json(
                            reference.as_ref(),
                            id,
                        )));
                    }
                }
                ClientEvent::Close(_) => answers.push(outbound::close_frame(CloseReason::Normal)),
                _ => {}
            });
            for answer in answers {
                let _ = frames.send(Some(answer)).await;
            }
        }
    }
}

impl Room {
    fn fault_is_due(&mut self) -> bool {
        self.full_batches += u32::from(self.pending.len() >= 2);
        self.full_batches == 3 && self.pending.len() >= 2
    }

    fn seal(&mut self, fault: Fault) -> FrameSet {
        let first = self.sealed + 1;
        self.sealed += self.pending.len() as u64;
        let mut fragments = std::mem::take(&mut self.pending);
        let mut shed = 0;
        match fault {
            Fault::DropComment => drop(fragments.remove(0)),
            Fault::ShedComment => {
                fragments.remove(0);
                shed = 1;
            }
            Fault::RepeatComment => fragments[1] = fragments[0].clone(),
            Fault::SwapComments => fragments.swap(0, 1),
            Fault::CorruptComment => {
                let text = danmaku_wire::CommentText::new(
                    "not what was posted",
                    &CommentLimits::default(),
                );
                fragments[0] = Comment::new(text.unwrap()).fragment();
            }
            _ => {}
        }
        let ids = (first + u64::from(shed)..).map(Seq::new);
        let comments = ids.zip(fragments).collect();
        let ts_ms = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_millis();
        let ts_ms = u64::try_from(ts_ms).unwrap();
        let batch = Batch {
            first: Seq::new(first),
            ts_ms,
            viewers: 1,
            likes: 0,
            shed,
            comments,
        };
        self.sealer.seal(&batch, DeflateViewers::Some)
    }

    fn deliver(&mut self, set: &FrameSet, fault: Fault) {
        let held_back = self.held_back.take();
        // The victim reads plain text, so that what it misses is told by positions alone.
        let victim = self
            .viewers
            .iter()
            .position(|viewer| viewer.encoding == Encoding::Identity);
        for (index, viewer) in self.viewers.iter_mut().enumerate() {
            let frame = frame_for(viewer.encoding, &mut viewer.cursor, set).clone();
            let is_victim = Some(index) == victim;
            let frames = match fault {
                Fault::DropFrame if is_victim => vec![],
                Fault::RepeatFrame if is_victim => vec![Some(frame.clone()), Some(frame)],
                Fault::SwapFrames if is_victim => {
                    self.held_back = Some(frame);
                    vec![]
                }
                Fault::GapFrame if is_victim => {
                    vec![Some(outbound::text_frame(&outbound::gap_json(
                        set.first(),
                        set.last(),
                    )))]
                }
                Fault::Cut if is_victim => vec![None],
                Fault::Evict if is_victim => {
                    vec![Some(outbound::close_frame(CloseReason::SlowConsumer)), None]
                }
                _ => match &held_back {
                    Some(earlier) if is_victim => vec![Some(frame), Some(earlier.clone())],
                    _ => vec![Some(frame)],
                },
            };
            for frame in frames {
                let _ = viewer.frames.try_send(frame);
            }
        }
    }
}

/// Reads one request: its head as text and its body.
async fn request(reader: &mut OwnedReadHalf, bytes: &mut Vec<u8>) -> Option<(String, Vec<u8>)> {
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let length = header(&head, "content-length").map_or(0, |value| value.parse().unwrap());
            if bytes.len() >= end + 4 + length {
                let body = bytes[end + 4..end + 4 + length].to_vec();
                bytes.drain(..end + 4 + length);
                return Some((head, body));
            }
        }
        if reader.read_buf(bytes).await.ok()? == 0 {
            return None;
        }
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}

fn response(status: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// The accept value of a request's key, as `fastwebsockets` computes it.
fn accept_value(head: &str) -> String {
    let request = hyper::Request::get("/")
        .header(
            "Sec-WebSocket-Key",
            header(head, "sec-websocket-key").unwrap(),
        )
        .header("Sec-WebSocket-Version", "13")
        .body(())
        .unwrap();
    let (response, _) = fastwebsockets::upgrade::upgrade(request).unwrap();
    response.headers()["sec-websocket-accept"]
        .to_str()
        .unwrap()
        .to_owned()
}
