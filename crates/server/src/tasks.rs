//! Owns the life of the server: every thread and task it has is made in this file (but the shards' threads, which
//! [`Fanout::start`] makes), in the order of start and stop.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use danmaku_fanout::{Drained, Fanout, Link};
use danmaku_log::Store;
use danmaku_wire::{CloseReason, Protocol};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

use crate::admission::{ConnectionPermit, ConnectionRefusal};
use crate::clock::Clock;
use crate::config::Config;
use crate::context::Context;
use crate::demo;
use crate::http::{self, Ended, ViewerConnection};
use crate::room::actor::RoomActor;
use crate::room::handle::RoomMsg;
use crate::viewer::{self, JoinError, Joining, Listener, Reader};

/// A running server.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    context: Arc<Context>,
    accepting: JoinHandle<()>,
}

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The listen address cannot be had.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A shard thread could not be made.
    #[error("cannot start the shard threads: {0}")]
    Shards(io::Error),
}

/// What a stop left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopOutcome {
    /// Everything accepted is with its viewers or their kernels.
    Clean,
    /// The deadline came first.
    Deadline,
}

impl Server {
    /// Listens, then starts: shards, accept loop, demo feed.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running.
    pub fn start(config: Config) -> Result<Self, StartError> {
        Self::start_with(config, Store::None)
    }

    /// [`Server::start`] over a store: what is accepted outlives the rooms' memory.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running.
    pub fn start_with(config: Config, store: Store) -> Result<Self, StartError> {
        let wanted = config.listen;
        let demo = config.demo.clone();
        let listener =
            listen(wanted, config.send_buffer_bytes).map_err(|source| StartError::Listen {
                address: wanted,
                source,
            })?;
        let address = listener.local_addr().map_err(|source| StartError::Listen {
            address: wanted,
            source,
        })?;
        let clock = Clock::start();
        let fanout = Fanout::start(&config.fanout, clock.origin()).map_err(StartError::Shards)?;
        let context = Arc::new(Context::new(config, store, fanout, clock, spawn_room));
        let accepting = tokio::spawn(accept(listener, Arc::clone(&context)));
        if let Some(room) = demo {
            tokio::spawn(demo::feed(Arc::clone(&context), room));
        }
        Ok(Self {
            address,
            context,
            accepting,
        })
    }

    /// Where the server listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the server's tasks share.
    #[must_use]
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// Stops in the order in which comments pass: accept nothing more, answer the posts under way, seal what was
    /// accepted, flush to the viewers, close them.
    pub async fn stop(self) -> StopOutcome {
        let deadline = self.context.config.stop_deadline;
        let begun = Instant::now();
        self.context.gate.close();
        self.accepting.abort();
        let context = Arc::clone(&self.context);
        let left = || deadline.saturating_sub(begun.elapsed()).max(STOP_STEP_MIN);
        // A post under way has its body already, so this is soon.
        let _ = tokio::time::timeout(left(), context.gate.emptied()).await;
        let sealed = tokio::time::timeout(left(), seal_all(&context)).await;
        let left = left();
        let context = self.context;
        let drained =
            tokio::task::spawn_blocking(move || context.fanout.stop(CloseReason::GoingAway, left))
                .await;
        if sealed.is_ok() && matches!(drained, Ok(Drained::Flushed)) {
            StopOutcome::Clean
        } else {
            StopOutcome::Deadline
        }
    }
}

/// Starts a room's actor.
fn spawn_room(actor: RoomActor) {
    tokio::spawn(actor.run());
}

/// Lets every room seal what it has, and waits for the last of them.
async fn seal_all(context: &Context) {
    let (done, mut all_done) = mpsc::channel(1);
    for room in context.registry.all() {
        // An actor that has ended has nothing left to seal.
        let _ = room.send(RoomMsg::Stop { done: done.clone() }).await;
    }
    drop(done);
    let _ = all_done.recv().await;
}

fn listen(address: SocketAddr, send_buffer_bytes: u32) -> io::Result<TcpListener> {
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
                let now = context.clock.now().monotonic;
                match context.admission.connect(peer.ip(), now) {
                    Ok(permit) => {
                        context.stats.connections.accepted.add(1);
                        let context = Arc::clone(&context);
                        tokio::spawn(connection(context, stream, peer.ip(), permit));
                    }
                    Err(refusal) => {
                        context.stats.connections.refused(refusal);
                        tracing::debug!(%peer, %refusal, "connection refused");
                        refuse(stream, refusal, &refusals);
                    }
                }
            }
            Err(error) => {
                // A peer that gave up before it was accepted is its own
                // affair; a lack of descriptors passes when others close.
                context.stats.connections.accept_errors.add(1);
                if !matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
                ) {
                    // Once per episode: it may last as long as an attack does.
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "cannot accept connections");
                    }
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }
}

/// Says why, without waiting for a request.
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

/// One connection: HTTP first, then perhaps a viewer.
async fn connection(
    context: Arc<Context>,
    stream: TcpStream,
    address: IpAddr,
    permit: ConnectionPermit,
) {
    configure(&stream, &context);
    match Box::pin(http::serve(&context, stream, (address, &permit))).await {
        Ended::Closed => {}
        Ended::Viewer(viewer) => Box::pin(watch(context, *viewer, permit)).await,
    }
}

/// Attaches the viewer to its room and starts its reader.
async fn watch(context: Arc<Context>, viewer: ViewerConnection, permit: ConnectionPermit) {
    let ViewerConnection {
        stream,
        early,
        watch,
    } = viewer;
    let protocol = watch.dialect.protocol();
    if protocol == Protocol::Sse {
        // Nobody answers a heartbeat here: the kernel notices that the peer is gone.
        end_when_silent(&stream, context.config.fanout.idle_deadline);
    }
    let joining = Joining {
        link: Arc::new(Link::new(stream.into(), context.clock.now().monotonic)),
        room: watch.room,
        dialect: watch.dialect,
        start: watch.start,
    };
    let joined = tokio::time::timeout(
        context.config.handshake_deadline,
        viewer::join(&context, &joining),
    );
    let conn = match joined.await {
        Ok(Ok(conn)) => conn,
        Ok(Err(JoinError)) => {
            // The room ended with the server, or with its epoch: coming back finds what there is then.
            let reason = if context.gate.is_closed() {
                CloseReason::GoingAway
            } else {
                CloseReason::NewEpoch
            };
            let opening = watch.dialect.opening().unwrap_or_default();
            let goodbye = [&opening[..], &watch.dialect.close(reason)[..]].concat();
            let _ = joining.link.try_write(&goodbye);
            return;
        }
        Err(_) => {
            // Too many join this room at once. Its actor sees that nobody waits for this join any more.
            context.stats.connections.joins_timed_out.add(1);
            return;
        }
    };
    let Joining { link, room, .. } = joining;
    // The readers are tasks of their own, sized by what an idle viewer needs.
    match protocol {
        Protocol::WebSocket => {
            context.stats.connections.upgraded.add(1);
            let mut reader = Reader::new(conn, link, room, context, permit);
            reader.early(early).await;
            tokio::spawn(reader.run());
        }
        Protocol::Sse => {
            context.stats.connections.sse.add(1);
            tokio::spawn(Listener::new(conn, link, context, permit).run());
        }
    }
}

/// Lets the kernel end a connection whose peer has not acknowledged anything for this long.
#[cfg(target_os = "linux")]
fn end_when_silent(stream: &TcpStream, deadline: Duration) {
    // Should it fail, the kernel gives up on its own, only later.
    let _ = socket2::SockRef::from(stream).set_tcp_user_timeout(Some(deadline));
}

/// Elsewhere the kernel's own, longer, patience decides.
#[cfg(not(target_os = "linux"))]
fn end_when_silent(_stream: &TcpStream, _deadline: Duration) {}

/// What accepted sockets do not inherit from their listener outside Linux.
#[cfg(not(target_os = "linux"))]
fn configure(stream: &TcpStream, context: &Context) {
    let socket = socket2::SockRef::from(stream);
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_send_buffer_size(context.config.send_buffer_bytes as usize);
}

/// Linux: accepted sockets inherit their listener's options.
#[cfg(target_os = "linux")]
fn configure(_stream: &TcpStream, _context: &Context) {}

/// What every step of a stop gets even when the deadline has passed: to seal
/// and hand over what was accepted is a matter of milliseconds.
const STOP_STEP_MIN: Duration = Duration::from_millis(500);

/// Connections the kernel holds until they are accepted: a storm of
/// reconnects must not be turned away.
const BACKLOG: i32 = 4_096;

/// Refused connections that are read to their end at a time.
const LINGERING_REFUSALS_MAX: usize = 32;

/// How long a refused peer may take to read why.
const REFUSAL_LINGER: Duration = Duration::from_secs(1);

/// Pause after a failed accept.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);
