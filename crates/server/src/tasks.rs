//! Owns startup and shutdown: every thread and task of the server is created in this file, in order (except the shards'
//! threads, which [`Fanout::start`] creates, and the data file's thread, which [`Sqlite::start`] creates).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use danmaku_auth::Action;
use danmaku_fanout::{ConnId, Drained, Fanout, Link, ShardMsg};
use danmaku_log::{Health, OpenError, SAMPLE_INTERVAL_MS, Sqlite, Store};
use danmaku_wire::outbound::expiring_json;
use danmaku_wire::{CloseReason, Protocol};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::admission::{Admitted, ConnectionPermit, ConnectionRefusal};
use crate::auth::{Due, NewSession};
use crate::clock::Clock;
use crate::config::Config;
use crate::context::Context;
use crate::demo;
use crate::http::{self, Ended, ViewerConnection, Watch};
use crate::memory::least_active;
use crate::room::actor::RoomActor;
use crate::room::handle::{RoomHandle, RoomMsg};
use crate::viewer::{self, Attached, JoinError, Joining, Listener, Reader};

/// A running server.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    admin_address: Option<SocketAddr>,
    context: Arc<Context>,
    accepting: JoinHandle<()>,
}

/// Why the server failed to start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The listen address is unavailable.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// The data folder cannot be used.
    #[error(transparent)]
    Data(#[from] OpenError),
    /// A shard thread could not be started.
    #[error("cannot start the shard threads: {0}")]
    Shards(io::Error),
}

/// How a shutdown went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopOutcome {
    /// Everything accepted was written to the viewers' sockets.
    Clean,
    /// The deadline expired first.
    Deadline,
}

impl Server {
    /// Opens the data file if there is one, listens, then starts shards, memory keeper, sampler, accept loops and demo feed.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running.
    pub fn start(config: Config) -> Result<Self, StartError> {
        let store = match &config.data {
            Some(data) => Store::Sqlite(Sqlite::start(data)?),
            None => Store::None,
        };
        Self::start_with(config, store)
    }

    /// Like [`Server::start`], but over this store.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running.
    pub fn start_with(config: Config, store: Store) -> Result<Self, StartError> {
        let demo = config.demo.clone();
        let (listener, address) = listen(config.listen, config.send_buffer_bytes)?;
        let admin = config.admin_listen;
        let admin = admin.map(|address| listen(address, config.send_buffer_bytes));
        let (admin, admin_address) = admin.transpose()?.unzip();
        let clock = Clock::start();
        let fanout = Fanout::start(&config.fanout, clock.origin()).map_err(StartError::Shards)?;
        let context = Arc::new(Context::new(config, store, fanout, clock, spawn_room));
        tokio::spawn(keep_memory_bounded(Arc::clone(&context)));
        tokio::spawn(sample_rooms(Arc::clone(&context)));
        if let Some(file) = context.log.file() {
            tokio::spawn(report_health(file.health()));
        }
        if let Some(keys) = context.auth.published_keys() {
            let keys = Arc::clone(keys);
            tokio::spawn(async move { keys.keep_fresh().await });
        }
        if !context.auth.is_open() {
            tokio::spawn(end_sessions(Arc::clone(&context)));
        } else if !address.ip().is_loopback() {
            tracing::warn!(
                %address,
                "anyone who can reach this address may watch and post, because of `--auth open`; see docs/AUTH.md"
            );
        }
        let accepting = tokio::spawn(accept(listener, Arc::clone(&context)));
        if let Some(listener) = admin {
            tokio::spawn(accept_admin(listener, Arc::clone(&context)));
        }
        if let Some(room) = demo {
            tokio::spawn(demo::feed(Arc::clone(&context), room));
        }
        Ok(Self {
            address,
            admin_address,
            context,
            accepting,
        })
    }

    /// Where the server listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the server listens for operators, if separately.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// What the server's tasks share.
    #[must_use]
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// Stops along the data path: stop accepting, answer the posts in progress, seal what was accepted, flush to the
    /// viewers, close them.
    pub async fn stop(self) -> StopOutcome {
        let deadline = self.context.config.stop_deadline;
        let begun = Instant::now();
        self.context.gate.close();
        self.accepting.abort();
        let context = Arc::clone(&self.context);
        let left = || deadline.saturating_sub(begun.elapsed()).max(STOP_STEP_MIN);
        // A post in progress already has its body, so this is quick.
        let _ = tokio::time::timeout(left(), context.gate.emptied()).await;
        let sealed = tokio::time::timeout(left(), seal_all(&context)).await;
        // Only figures: they need not be whole.
        let _ = tokio::time::timeout(STOP_STEP_MIN, context.sample_rooms()).await;
        let left = left();
        let fanout = Arc::clone(&context.fanout);
        let drained =
            tokio::task::spawn_blocking(move || fanout.stop(CloseReason::GoingAway, left)).await;
        if let Some(file) = context.log.file() {
            // What it does not get done in time, the next start does.
            let _ = tokio::time::timeout(STOP_STEP_MIN, file.stop()).await;
        }
        if sealed.is_ok() && matches!(drained, Ok(Drained::Flushed)) {
            StopOutcome::Clean
        } else {
            StopOutcome::Deadline
        }
    }
}

/// Starts a room's actor.
fn spawn_room(mut actor: RoomActor) {
    // A future that borrows the actor holds it once; one that takes it over holds it twice.
    tokio::spawn(async move { actor.run().await });
}

/// Lets every room seal what it has, and waits until all have.
async fn seal_all(context: &Context) {
    let (done, mut all_done) = mpsc::channel(1);
    for room in context.registry.all() {
        // An actor that has ended has nothing left to seal.
        let _ = room.send(RoomMsg::Stop { done: done.clone() }).await;
    }
    drop(done);
    let _ = all_done.recv().await;
}

/// A listener, and the address it was bound to.
fn listen(
    address: SocketAddr,
    send_buffer_bytes: u32,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let bound = || {
        let listener = bind(address, send_buffer_bytes)?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    bound().map_err(|source| StartError::Listen { address, source })
}

fn bind(address: SocketAddr, send_buffer_bytes: u32) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(socket2::Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // Accepted sockets inherit both; see `configure` for where they do not.
    socket.set_send_buffer_size(send_buffer_bytes as usize)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Asks rooms to forget their oldest data when they hold too much together.
async fn keep_memory_bounded(context: Arc<Context>) {
    loop {
        context.memory.over().await;
        while let Some(bytes) = context.memory.excess() {
            let rooms = context.registry.all().into_iter();
            let holders = rooms.map(RoomHandle::holder).collect();
            for (room, bytes) in least_active(holders, bytes) {
                room.ask_to_free(bytes);
            }
            // The rooms do it on their own tasks.
            tokio::time::sleep(MEMORY_PAUSE).await;
        }
    }
}

/// Samples rooms' likes and viewers from time to time.
async fn sample_rooms(context: Arc<Context>) {
    let mut due = tokio::time::interval(Duration::from_millis(SAMPLE_INTERVAL_MS));
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        context.sample_rooms().await;
    }
}

/// Logs when the data file cannot be written, and when it can again: once per episode.
async fn report_health(mut health: watch::Receiver<Health>) {
    while health.changed().await.is_ok() {
        match &*health.borrow_and_update() {
            Health::Failing { reason } => {
                tracing::error!(
                    reason,
                    "cannot write the data file; posts are refused until it can be written"
                );
            }
            Health::Ready => tracing::info!("the data file can be written again"),
        }
    }
}

/// Accepts until aborted.
async fn accept(listener: TcpListener, context: Arc<Context>) {
    let refusals = Arc::new(Semaphore::new(LINGERING_REFUSALS_MAX));
    let mut failing = false;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                if std::mem::take(&mut failing) {
                    tracing::info!("accepting connections again");
                }
                match admit(&context, peer.ip()) {
                    Ok(admitted) => {
                        context.stats.connections.accepted.add(1);
                        let context = Arc::clone(&context);
                        tokio::spawn(connection(context, stream, peer.ip(), admitted));
                    }
                    Err(refusal) => {
                        context.stats.connections.refused(refusal);
                        tracing::debug!(%peer, %refusal, "connection refused");
                        refuse(stream, refusal, &refusals);
                    }
                }
            }
            Err(error) => {
                context.stats.connections.accept_errors.add(1);
                if !is_peers(&error) {
                    // Once per episode, which may last as long as an attack.
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "cannot accept connections");
                    }
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }
}

/// Accepts operators' connections until the runtime ends, a limited number at a time; others wait in the kernel.
async fn accept_admin(listener: TcpListener, context: Arc<Context>) {
    let places = Arc::new(Semaphore::new(ADMIN_CONNECTIONS_MAX));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let context = Arc::clone(&context);
                tokio::spawn(async move {
                    http::serve_admin(&context, stream).await;
                    drop(place);
                });
            }
            Err(error) if is_peers(&error) => {}
            Err(_) => tokio::time::sleep(ACCEPT_RETRY).await,
        }
    }
}

/// A peer that gave up before it was accepted is ignored; running out of descriptors passes when others close.
fn is_peers(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}

/// A trusted proxy's connections only count toward the total: each request names its own client.
fn admit(context: &Context, peer: IpAddr) -> Result<Admitted, ConnectionRefusal> {
    if context.config.trusted_proxies.trusts(peer) {
        return context.admission.place().map(Admitted::Proxy);
    }
    let now = context.clock.now().monotonic;
    context.admission.connect(peer, now).map(Admitted::Direct)
}

/// Sends the reason without waiting for a request.
fn refuse(mut stream: TcpStream, refusal: ConnectionRefusal, refusals: &Arc<Semaphore>) {
    // A new socket's buffer is empty; should it not be writable, the close
    // says enough.
    let _ = stream.try_write(http::refusal(refusal).as_bytes());
    // A close with the request unread is a reset, which can overtake the
    // answer: a few refused peers at a time are read to their end.
    if let Ok(place) = Arc::clone(refusals).try_acquire_owned() {
        tokio::spawn(async move {
            let _ = stream.shutdown().await;
            let mut sink = [0; 1_024];
            let drained = async { while matches!(stream.read(&mut sink).await, Ok(1..)) {} };
            let _ = tokio::time::timeout(REFUSAL_LINGER, drained).await;
            drop(place);
        });
    }
}

/// Serves one connection: HTTP first, then possibly a viewer.
async fn connection(context: Arc<Context>, stream: TcpStream, address: IpAddr, admitted: Admitted) {
    configure(&stream, &context);
    let ended = Box::pin(http::serve(&context, stream, (address, &admitted))).await;
    if let Ended::Viewer(mut viewer) = ended
        && let Some(permit) = admitted.into_permit(viewer.watch.forwarded.take())
    {
        Box::pin(watch(context, *viewer, permit)).await;
    }
}

/// Attaches the viewer to its room and starts its reader.
async fn watch(context: Arc<Context>, viewer: ViewerConnection, permit: ConnectionPermit) {
    let ViewerConnection {
        mut stream,
        mut early,
        mut watch,
    } = viewer;
    let protocol = watch.dialect.protocol();
    if protocol == Protocol::Sse {
        // SSE peers answer no heartbeats, so the kernel has to notice that one is gone.
        end_when_silent(&stream, context.config.fanout.idle_deadline);
    } else if watch.identity.is_none() && context.auth.check_guest(Action::Watch).is_err() {
        let (opening, room) = (&watch.opening, watch.room.id());
        let first = viewer::first_message(&context, &mut stream, (opening, &early), room).await;
        let Some(identity) = first else {
            return;
        };
        watch.identity = Some(Box::new(identity));
        watch.opening = Bytes::new();
        early = Bytes::new();
    }
    let Watch {
        identity, origin, ..
    } = watch;
    let joining = Joining {
        link: Arc::new(Link::new(stream.into(), context.clock.now().monotonic)),
        room: watch.room,
        dialect: watch.dialect,
        opening: watch.opening,
        start: watch.start,
    };
    let Some(conn) = join(&context, &joining).await else {
        return;
    };
    let Joining {
        link,
        room,
        dialect,
        ..
    } = joining;
    let session = match identity {
        None => None,
        Some(identity) => {
            let new = NewSession {
                identity: *identity,
                conn,
                dialect,
                room: room.key(),
            };
            match viewer::open_session(&context, new).await {
                Ok(session) => Some(session),
                Err(reason) => {
                    let close = ShardMsg::Close { conn, reason };
                    context.fanout.shard_for(conn).send(close).await;
                    None
                }
            }
        }
    };
    // Readers are separate tasks, so that an idle viewer's task is small.
    match protocol {
        Protocol::WebSocket => {
            context.stats.connections.upgraded.add(1);
            let attached = Attached {
                conn,
                link,
                room,
                dialect,
                session,
                origin,
            };
            let mut reader = Reader::new(attached, context, permit);
            reader.early(early).await;
            tokio::spawn(reader.run());
        }
        Protocol::Sse => {
            context.stats.connections.sse.add(1);
            tokio::spawn(Listener::new(conn, link, context, permit, session).run());
        }
    }
}

/// Attaches the viewer to its room in time; if that fails, it is told why where possible.
async fn join(context: &Context, joining: &Joining) -> Option<ConnId> {
    let deadline = context.config.handshake_deadline;
    match tokio::time::timeout(deadline, viewer::join(context, joining)).await {
        Ok(Ok(conn)) => Some(conn),
        Ok(Err(JoinError)) => {
            // The room ended with the server or its epoch; the viewer can reconnect to what is there then.
            let reason = if context.gate.is_closed() {
                CloseReason::GoingAway
            } else {
                CloseReason::NewEpoch
            };
            let goodbye = [&joining.opening[..], &joining.dialect.close(reason)[..]].concat();
            let _ = joining.link.try_write(&goodbye);
            None
        }
        Err(_) => {
            // Too many viewers join this room at once. Its actor sees that this join was given up.
            context.stats.connections.joins_timed_out.add(1);
            None
        }
    }
}

/// Announces to viewers that their tokens expire, and closes those whose tokens have.
async fn end_sessions(context: Arc<Context>) {
    loop {
        tokio::time::sleep(SESSIONS_PAUSE).await;
        for due in context.sessions.due(context.clock.now().unix_ms) {
            let (conn, msg) = match due {
                Due::Announce { session, in_ms } => {
                    let (conn, json) = (session.conn, expiring_json(in_ms));
                    let bytes = session.dialect.message(&json);
                    (conn, ShardMsg::Unicast { conn, bytes })
                }
                Due::End(session) => {
                    session.end();
                    let (conn, reason) = (session.conn, CloseReason::Expired);
                    (conn, ShardMsg::Close { conn, reason })
                }
            };
            context.fanout.shard_for(conn).send(msg).await;
        }
    }
}

/// Lets the kernel end a connection whose peer has acknowledged nothing for this long.
#[cfg(target_os = "linux")]
fn end_when_silent(stream: &TcpStream, deadline: Duration) {
    // If this fails, the kernel still gives up, only later.
    let _ = socket2::SockRef::from(stream).set_tcp_user_timeout(Some(deadline));
}

/// Elsewhere the kernel's own, longer timeout applies.
#[cfg(not(target_os = "linux"))]
fn end_when_silent(_stream: &TcpStream, _deadline: Duration) {}

/// Sets what accepted sockets do not inherit from their listener outside Linux.
#[cfg(not(target_os = "linux"))]
fn configure(stream: &TcpStream, context: &Context) {
    let socket = socket2::SockRef::from(stream);
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_send_buffer_size(context.config.send_buffer_bytes as usize);
}

/// Linux: accepted sockets inherit their listener's options.
#[cfg(target_os = "linux")]
fn configure(_stream: &TcpStream, _context: &Context) {}

/// Minimum time for each shutdown step, even past the deadline: sealing and
/// handing over what was accepted takes milliseconds.
const STOP_STEP_MIN: Duration = Duration::from_millis(500);

/// Connections the kernel queues until they are accepted: a reconnect storm
/// must not be turned away.
const BACKLOG: i32 = 4_096;

/// Operators' connections at a time; their descriptors come from those reserved.
const ADMIN_CONNECTIONS_MAX: usize = 16;

/// Refused connections drained at a time.
const LINGERING_REFUSALS_MAX: usize = 32;

/// How long a refused peer may take to read the reason.
const REFUSAL_LINGER: Duration = Duration::from_secs(1);

/// How often tokens are looked at that are about to expire.
const SESSIONS_PAUSE: Duration = Duration::from_millis(250);

/// How long rooms have to free memory before others are asked.
const MEMORY_PAUSE: Duration = Duration::from_millis(100);

/// Pause after a failed accept.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);
