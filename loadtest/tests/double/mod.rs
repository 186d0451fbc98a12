//! A small danmaku server that can be broken on purpose: a few tasks per connection, one lock, and a switch for each fault.
//! It is not fast and keeps everything.

pub(crate) mod process;
mod room;
mod wire;

use std::collections::HashMap;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use danmaku_wire::{
    ClientDecoder, ClientEvent, ClientMessage, CloseReason, Comment, CommentLimits, Cursor,
    Dialect, Epoch, Position, Posted, Protocol, RoomId, Seq, outbound, parse_client_message,
    parse_posted,
};
use rustix::process::{Pid, Signal};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};

use process::Records;
pub(crate) use room::Positions;
use room::{Pulse, Room, Viewer, Welcome};
use wire::{header, parameter, request, response, upgrade};

/// What is wrong with the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    // Once per room, at its third batch of at least two comments:
    /// A comment is left out silently.
    DropComment,
    /// A comment also takes the place of the next one.
    RepeatComment,
    /// Two comments are swapped.
    SwapComments,
    /// A comment's text is changed.
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
    /// One viewer misses a frame and gets a `gap`.
    GapFrame,
    /// One viewer is cut off without a close.
    Cut,
    /// One viewer is evicted.
    Evict,
    // Whenever possible:
    /// A viewer that is behind is cut off without a close.
    CutSlow,
    /// All viewers wait while one is behind.
    WaitForSlow,
    /// A viewer that has come back is cut off without a close, [`CUTS`] times in all.
    CutAgain,
    /// A returning viewer is promised a replay that never comes.
    ReplayNothing,
    /// A replay lacks its last comment.
    ReplayLeavesOut,
    /// A replay begins with a comment the viewer has.
    ReplayRepeats,
    /// The first two comments of a replay are swapped.
    ReplaySwaps,
    /// A returning viewer is refused.
    RefuseReturn,
    /// A returning viewer is accepted and closed at once.
    SendAway,
    /// The server stops listening once a viewer has closed.
    GoWithTheFirst,
    /// Every join is delayed.
    WelcomesLate,
    /// Only the first thirty are accepted.
    RefuseLate,
    /// Posts over HTTP are never answered.
    AnswerNoPost,
    /// The server reads nothing that viewers send.
    ReadNothing,
    /// One in ten posts over a WebSocket is not answered, while other messages keep coming.
    AnswerSomePosts,
}

pub(crate) const WINDOW: Duration = Duration::from_millis(100);
const EPOCH: u64 = 42;
/// A returning viewer waits at least this long.
const RETURN_TAKES: Duration = Duration::from_millis(250);
/// Unless the server cuts it off or sends it away, it also waits until it has missed this many comments, so that there is
/// something to replay.
const MISSED_MIN: usize = 3;
/// How long it waits for them: nothing may be posted any more.
const MISSED_BY: Duration = Duration::from_secs(5);
/// How long a join takes under [`Fault::WelcomesLate`].
pub(crate) const WELCOME_TAKES: Duration = Duration::from_secs(2);
const STALL: Duration = Duration::from_millis(700);
/// How long all viewers wait each time under [`Fault::WaitForSlow`].
const HOLD_UP: Duration = Duration::from_secs(6);
/// Joins accepted under [`Fault::RefuseLate`], including returning viewers.
pub(crate) const LET_IN: u64 = 30;
/// How long a test waits for something that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Viewers cut off under [`Fault::CutAgain`].
pub(crate) const CUTS: u64 = 60;
/// More frames than there are in a run.
const OUTBOX_FRAMES: usize = 1024;
/// An outbox and socket buffers small enough for a viewer to become slow.
const SLOW_FRAMES: usize = 16;
const SLOW_BYTES: usize = 4096;

/// A running double.
pub(crate) struct Double {
    pub(crate) address: SocketAddr,
    made: Arc<Made>,
    posts: Arc<AtomicU64>,
}

/// Faults made so far: wrong comments in replays, or viewers cut off.
#[derive(Debug, Default)]
struct Made(AtomicU64);

/// Waits until a new process has a handler for this signal.
pub(crate) async fn catches(pid: Pid, signal: Signal) {
    let status = format!("/proc/{}/status", pid.as_raw_nonzero());
    let began = Instant::now();
    loop {
        let status = std::fs::read_to_string(&status).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let caught = u64::from_str_radix(caught.unwrap().trim(), 16).unwrap();
        if caught & 1 << (signal.as_raw() - 1) != 0 {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{signal:?} is not caught");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[derive(Clone)]
struct Server {
    fault: Fault,
    positions: Positions,
    epoch: u64,
    rooms: Arc<Mutex<HashMap<String, Room>>>,
    made: Arc<Made>,
    /// Posts received, answered or not.
    posts: Arc<AtomicU64>,
    /// Join requests so far.
    asked: Arc<AtomicU64>,
    /// Tells it to stop listening.
    gone: Arc<Notify>,
    /// The state on disk of a double in its own process.
    records: Option<Arc<Records>>,
}

impl Double {
    pub(crate) async fn start(fault: Fault) -> Self {
        Self::start_at(fault, Positions::Dense).await
    }

    pub(crate) async fn start_at(fault: Fault, positions: Positions) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server {
            fault,
            positions,
            epoch: EPOCH,
            rooms: Arc::default(),
            made: Arc::default(),
            posts: Arc::default(),
            asked: Arc::default(),
            gone: Arc::default(),
            records: None,
        };
        let (made, posts) = (Arc::clone(&server.made), Arc::clone(&server.posts));
        tokio::spawn(server.run(listener));
        Self {
            address,
            made,
            posts,
        }
    }

    /// Waits until this many posts have come.
    pub(crate) async fn posts_until(&self, count: u64) {
        let began = Instant::now();
        while self.posts.load(Ordering::Relaxed) < count {
            assert!(began.elapsed() < PATIENCE, "there are no {count} posts");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Faults made so far: wrong comments in replays, or viewers cut off.
    pub(crate) fn made(&self) -> u64 {
        self.made.count()
    }
}

impl Made {
    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn add(&self, more: usize) {
        self.0.fetch_add(more as u64, Ordering::Relaxed);
    }
}

impl Fault {
    /// Whether it happens whenever it can.
    fn recurs(self) -> bool {
        self.is_about_slow_viewers() || self == Self::CutAgain
    }

    /// Whether it depends on how far behind a viewer is.
    fn is_about_slow_viewers(self) -> bool {
        matches!(self, Self::CutSlow | Self::WaitForSlow)
    }

    /// Whether a returning viewer stays and gets a replay.
    fn replays(self) -> bool {
        matches!(
            self,
            Self::None
                | Self::ReplayNothing
                | Self::ReplayLeavesOut
                | Self::ReplayRepeats
                | Self::ReplaySwaps
        )
    }
}

impl Server {
    async fn run(self, listener: TcpListener) {
        let ticking = self.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(WINDOW).await;
                if ticking.tick() == Pulse::Stalls {
                    let held_up = ticking.fault == Fault::WaitForSlow;
                    tokio::time::sleep(if held_up { HOLD_UP } else { STALL }).await;
                }
            }
        });
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.gone.notified() => return,
            };
            let Ok((stream, _)) = accepted else {
                return;
            };
            if self.fault == Fault::ReadNothing {
                let _ = socket2::SockRef::from(&stream).set_recv_buffer_size(SLOW_BYTES);
            }
            if self.fault.is_about_slow_viewers() {
                let _ = socket2::SockRef::from(&stream).set_send_buffer_size(SLOW_BYTES);
            }
            let server = self.clone();
            tokio::spawn(async move { server.serve(stream).await });
        }
    }

    /// Seals every room that has something.
    fn tick(&self) -> Pulse {
        let mut rooms = self.rooms.lock().unwrap();
        rooms.values_mut().fold(Pulse::Beats, |pulse, room| {
            match room.tick(self.fault, &self.made) {
                Pulse::Beats => pulse,
                Pulse::Stalls => Pulse::Stalls,
            }
        })
    }

    async fn serve(&self, stream: TcpStream) {
        let (mut reader, mut writer) = stream.into_split();
        let mut bytes = Vec::new();
        while let Some((head, body)) = request(&mut reader, &mut bytes).await {
            let mut words = head.split(' ');
            let (method, target) = (words.next().unwrap(), words.next().unwrap());
            let room = target.split('/').nth(3).unwrap_or_default();
            match (method, target) {
                ("POST", _) if self.fault == Fault::AnswerNoPost => {
                    self.posts.fetch_add(1, Ordering::Relaxed);
                    pending::<()>().await;
                }
                ("POST", _) => {
                    let answer = self.post(room, body);
                    let _ = writer.write_all(&response("201 Created", &answer)).await;
                }
                (_, target) if target.contains("/ws?") || target.ends_with("/events") => {
                    let asked = Asked::of(target, &head);
                    return self.join(room, asked, &head, (reader, bytes), writer).await;
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
        let id = self.accept(room, &comment).value();
        format!(r#"{{"epoch":{},"id":{id}}}"#, self.epoch)
    }

    fn accept(&self, room: &str, comment: &Comment) -> Seq {
        self.posts.fetch_add(1, Ordering::Relaxed);
        let mut rooms = self.rooms.lock().unwrap();
        let fragment = comment.fragment();
        if let Some(records) = &self.records {
            records.accepted(room, &fragment);
        }
        let room = rooms
            .entry(room.to_owned())
            .or_insert_with(|| Room::with(self.epoch, self.positions, Vec::new()));
        Seq::new(room.accept(fragment))
    }

    async fn join(
        &self,
        room: &str,
        asked: Asked,
        head: &str,
        (reader, read): (OwnedReadHalf, Vec<u8>),
        mut writer: OwnedWriteHalf,
    ) {
        if self.fault == Fault::RefuseLate && self.asked.fetch_add(1, Ordering::Relaxed) >= LET_IN {
            return refuse(&mut writer).await;
        }
        if self.fault == Fault::WelcomesLate {
            tokio::time::sleep(WELCOME_TAKES).await;
        }
        if let Some(since) = asked.since {
            if self.fault == Fault::RefuseReturn {
                return refuse(&mut writer).await;
            }
            self.delay_return(room, since).await;
        }
        let opening = match asked.dialect.opening() {
            Some(opening) => opening.to_vec(),
            None => upgrade(head),
        };
        let _ = writer.write_all(&opening).await;
        if let (Some((_, seq)), Fault::SendAway) = (asked.since, self.fault) {
            let welcome = Welcome {
                after: seq,
                seq,
                resumed: true,
                replay: None,
            };
            let mut both = self.joined(room, asked.dialect, &welcome).to_vec();
            both.extend_from_slice(&asked.dialect.close(CloseReason::GoingAway));
            let _ = writer.write_all(&both).await;
            return;
        }
        let frames = self.watch(room, asked, writer);
        match asked.dialect.protocol() {
            Protocol::WebSocket => self.listen(room, (reader, read), frames).await,
            // Nothing comes but the end of the connection.
            Protocol::Sse => read_to_the_end(reader).await,
        }
    }

    async fn delay_return(&self, room: &str, (epoch, seq): (u64, u64)) {
        tokio::time::sleep(RETURN_TAKES).await;
        let has_missed_enough = || {
            let rooms = self.rooms.lock().unwrap();
            let room = rooms.get(room);
            let since = if epoch == self.epoch { seq } else { 0 };
            room.is_some_and(|room| room.sealed_after(since) >= MISSED_MIN)
        };
        let began = Instant::now();
        while self.fault.replays() && !has_missed_enough() && began.elapsed() < MISSED_BY {
            tokio::time::sleep(WINDOW / 10).await;
        }
    }

    fn joined(&self, room: &str, dialect: Dialect, welcome: &Welcome) -> Bytes {
        let room = RoomId::parse(room).unwrap();
        let joined = outbound::Joined {
            room: &room,
            epoch: Epoch::new(self.epoch),
            after: Seq::new(welcome.after),
            seq: Seq::new(welcome.seq),
            window_ms: u64::try_from(WINDOW.as_millis()).unwrap(),
            viewers: 1,
            resumed: if welcome.resumed {
                outbound::Resumed::Yes
            } else {
                outbound::Resumed::No
            },
            pin: None,
        };
        let position = Position {
            epoch: joined.epoch,
            seq: joined.after,
        };
        dialect.positioned(&joined.to_json(), position)
    }

    /// Welcomes a viewer and adds it to its room; returns the sender of its frames.
    fn watch(
        &self,
        room: &str,
        Asked { dialect, since }: Asked,
        mut writer: OwnedWriteHalf,
    ) -> mpsc::Sender<Option<Bytes>> {
        let outbox_frames = if self.fault.is_about_slow_viewers() {
            SLOW_FRAMES
        } else {
            OUTBOX_FRAMES
        };
        let (frames, mut outbox) = mpsc::channel::<Option<Bytes>>(outbox_frames);
        let mut rooms = self.rooms.lock().unwrap();
        let entry = rooms
            .entry(room.to_owned())
            .or_insert_with(|| Room::with(self.epoch, self.positions, Vec::new()));
        let here = since.filter(|(epoch, _)| *epoch == self.epoch);
        let welcome = entry.welcome(here.map(|(_, seq)| seq), self.fault, &self.made);
        if let (Some(records), Some(since)) = (&self.records, since) {
            records.returned(since, (self.epoch, welcome.seq));
        }
        let _ = frames.try_send(Some(self.joined(room, dialect, &welcome)));
        if let Some(set) = welcome.replay {
            let mut apart = Cursor::default();
            let _ = frames.try_send(Some(set.form(apart.choose(dialect, &set)).clone()));
        }
        let writing = tokio::spawn(async move {
            while let Some(Some(frame)) = outbox.recv().await {
                if writer.write_all(&frame).await.is_err() {
                    return;
                }
            }
        });
        entry.watch(Viewer {
            dialect,
            cursor: Cursor::default(),
            frames: frames.clone(),
            writer: writing.abort_handle(),
            has_returned: since.is_some(),
        });
        frames
    }

    /// Takes what a viewer posts until it leaves; `bytes` were read together with its request.
    async fn listen(
        &self,
        room: &str,
        (mut reader, mut bytes): (OwnedReadHalf, Vec<u8>),
        frames: mpsc::Sender<Option<Bytes>>,
    ) {
        if self.fault == Fault::ReadNothing {
            // Wait until something has come, without reading it.
            let _ = reader.readable().await;
            self.posts.fetch_add(1, Ordering::Relaxed);
            pending::<()>().await;
        }
        if self.fault == Fault::AnswerSomePosts {
            let frames = frames.clone();
            tokio::spawn(async move {
                let chatter = Dialect::WsIdentity.message(r#"{"type":"chatter"}"#);
                while frames.send(Some(chatter.clone())).await.is_ok() {
                    tokio::time::sleep(WINDOW).await;
                }
            });
        }
        let mut decoder = ClientDecoder::new(4096);
        loop {
            let mut answers = Vec::new();
            let decoded = decoder.decode(&mut bytes, |event| match event {
                ClientEvent::Text(text) => {
                    if let Ok(ClientMessage::Comment {
                        reference, comment, ..
                    }) = parse_client_message(text, &CommentLimits::default())
                    {
                        let id = self.accept(room, &comment);
                        if self.fault == Fault::AnswerSomePosts && id.value().is_multiple_of(10) {
                            return;
                        }
                        let ack = outbound::ack_json(reference.as_ref(), id);
                        answers.push(Dialect::WsIdentity.message(&ack));
                    }
                }
                ClientEvent::Close(_) => {
                    if self.fault == Fault::GoWithTheFirst {
                        self.gone.notify_one();
                    }
                    answers.push(outbound::close_frame(CloseReason::Normal));
                }
                _ => {}
            });
            for answer in answers {
                let _ = frames.send(Some(answer)).await;
            }
            if decoded.is_err() {
                let _ = frames.send(None).await;
                return;
            }
            bytes.clear();
            if !matches!(reader.read_buf(&mut bytes).await, Ok(1..)) {
                return;
            }
        }
    }
}

/// What a viewer asks for.
#[derive(Clone, Copy)]
struct Asked {
    dialect: Dialect,
    since: Option<(u64, u64)>,
}

impl Asked {
    fn of(target: &str, head: &str) -> Self {
        let (dialect, since) = match parameter(target, "encoding") {
            Some(encoding) => (
                Dialect::web_socket(encoding.parse().unwrap()),
                parameter(target, "since"),
            ),
            None => {
                let dialect = match header(head, "accept-encoding") {
                    Some("gzip") => Dialect::SseGzip,
                    _ => Dialect::SseIdentity,
                };
                (dialect, header(head, "last-event-id"))
            }
        };
        let since = since.map(|since| {
            let (epoch, seq) = since.split_once(':').unwrap();
            (epoch.parse().unwrap(), seq.parse().unwrap())
        });
        Self { dialect, since }
    }
}

async fn read_to_the_end(mut reader: OwnedReadHalf) {
    let mut bytes = [0; 64];
    while matches!(reader.read(&mut bytes).await, Ok(1..)) {}
}

async fn refuse(writer: &mut OwnedWriteHalf) {
    let body = r#"{"error":{"code":"overloaded","message":"not now"}}"#;
    let refusal = response("503 Service Unavailable", body);
    let _ = writer.write_all(&refusal).await;
}
