//! Owns the HTTP side: one connection from its first byte to its end or to its
//! upgrade, and the table of paths.

mod comments;
mod deadline;
mod error;
mod idempotency;
mod query;
mod rooms;
mod websocket;

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use danmaku_wire::RoomId;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioTimer;
use percent_encoding::percent_decode_str;
use tokio::net::TcpStream;

pub use error::{ApiError, refusal};
pub use idempotency::Idempotency;
pub use websocket::Upgrade;

use crate::admission::ConnectionPermit;
use crate::context::Context;
use crate::metrics;
use crate::process::Process;
use deadline::AnswerDeadline;
use error::json;

/// What became of a connection.
#[derive(Debug)]
pub enum Ended {
    /// It was closed.
    Closed,
    /// It is a viewer's from here on.
    Upgraded(Box<Upgraded>),
}

/// A connection that has had its 101 answer.
#[derive(Debug)]
pub struct Upgraded {
    /// The socket.
    pub stream: TcpStream,
    /// Bytes that came along with the request.
    pub early: Bytes,
    /// What was asked for.
    pub upgrade: Upgrade,
}

/// Serves one connection until it ends or is upgraded.
pub async fn serve(context: &Arc<Context>, stream: TcpStream, permit: &ConnectionPermit) -> Ended {
    let upgrade = Mutex::new(None);
    let service = service_fn(|request| async {
        let answer = route(context, permit, &upgrade, request).await;
        Ok::<_, Infallible>(answer.unwrap_or_else(|error| error.response()))
    });
    let connection = http1::Builder::new()
        // Without a timer hyper ignores the deadline.
        .timer(TokioTimer::new())
        .header_read_timeout(context.config.handshake_deadline)
        .max_buf_size(REQUEST_HEAD_BYTES_MAX)
        // Without it hyper reads once more per request, to see whether the
        // peer has gone; a peer that has only shut its half gets its answer.
        .half_close(true)
        .serve_connection(
            AnswerDeadline::new(stream, context.config.answer_deadline),
            service,
        )
        .without_shutdown();
    let parts = match connection.await {
        Ok(parts) => parts,
        Err(error) => {
            tracing::debug!(%error, "connection ended early");
            context.stats.connections.broken();
            return Ended::Closed;
        }
    };
    let wanted = upgrade
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    match wanted {
        Some(upgrade) => Ended::Upgraded(Box::new(Upgraded {
            stream: parts.io.into_inner(),
            early: parts.read_buf,
            upgrade,
        })),
        None => Ended::Closed,
    }
}

/// What one request works with.
type Answer = Result<Response<Full<Bytes>>, ApiError>;

async fn route(
    context: &Arc<Context>,
    permit: &ConnectionPermit,
    upgrade: &Mutex<Option<Upgrade>>,
    mut request: Request<Incoming>,
) -> Answer {
    let path = request.uri().path().to_owned();
    let mut segments = path.trim_start_matches('/').split('/');
    let segments = [(); SEGMENTS_MAX].map(|()| segments.next());
    match segments {
        [Some(""), None, ..] => read_only(&request).map(|()| plain(INDEX)),
        [Some("healthz"), None, ..] => read_only(&request).map(|()| plain("ok\n")),
        [Some("readyz"), None, ..] => read_only(&request).and_then(|()| ready(context)),
        [Some("metrics"), None, ..] => read_only(&request).map(|()| scrape(context)),
        [Some("v1"), Some("stats"), None, ..] => {
            read_only(&request).map(|()| json(StatusCode::OK, &context.snapshot()))
        }
        [Some("v1"), Some("rooms"), None, ..] => {
            read_only(&request)?;
            rooms::list(context, request.uri().query().unwrap_or(""))
        }
        [Some("v1"), Some("rooms"), Some(room), None, ..] => {
            read_only(&request)?;
            rooms::show(context, &room_id(room)?)
        }
        [Some("v1"), Some("rooms"), Some(room), Some("ws"), None] => {
            only(&request, &Method::GET, "GET")?;
            let room = room_id(room)?;
            let (response, wanted) = websocket::upgrade(context, &room, &mut request)?;
            *upgrade.lock().unwrap_or_else(PoisonError::into_inner) = Some(wanted);
            Ok(response)
        }
        [
            Some("v1"),
            Some("rooms"),
            Some(room),
            Some("comments"),
            None,
        ] => {
            let room = room_id(room)?;
            if is_read(&request) {
                comments::list(context, &room, request.uri().query().unwrap_or("")).await
            } else {
                only(&request, &Method::POST, "GET, HEAD, POST")?;
                comments::post(context, permit, &room, request).await
            }
        }
        _ => Err(ApiError::NotFound),
    }
}

fn is_read(request: &Request<Incoming>) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD)
}

fn read_only(request: &Request<Incoming>) -> Result<(), ApiError> {
    if is_read(request) {
        Ok(())
    } else {
        Err(ApiError::MethodNotAllowed { allow: "GET, HEAD" })
    }
}

fn only(request: &Request<Incoming>, method: &Method, allow: &'static str) -> Result<(), ApiError> {
    if request.method() == method {
        Ok(())
    } else {
        Err(ApiError::MethodNotAllowed { allow })
    }
}

/// A room id of a path; some clients escape its `:`.
fn room_id(segment: &str) -> Result<RoomId, ApiError> {
    let decoded = percent_decode_str(segment).decode_utf8_lossy();
    RoomId::parse(&decoded).map_err(ApiError::BadRoomId)
}

fn ready(context: &Context) -> Answer {
    if context.is_stopping() {
        Err(ApiError::Stopping)
    } else {
        Ok(plain("ready\n"))
    }
}

/// `GET /metrics`. Reading the process's figures blocks, but for less time than it
/// would take to have another thread do it.
fn scrape(context: &Context) -> Response<Full<Bytes>> {
    let exposition = metrics::exposition(&context.snapshot(), &Process::read());
    text(metrics::CONTENT_TYPE, Bytes::from(exposition))
}

fn plain(words: &'static str) -> Response<Full<Bytes>> {
    text(
        "text/plain; charset=utf-8",
        Bytes::from_static(words.as_bytes()),
    )
}

fn text(content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// Segments of the longest path.
const SEGMENTS_MAX: usize = 5;

/// Bytes of a request head.
const REQUEST_HEAD_BYTES_MAX: usize = 16 << 10;

const INDEX: &str = "\
danmaku: a live-stream comment fan-out server

  GET  /v1/rooms/{room}/ws        watch a room (WebSocket; ?encoding=identity|gzip|deflate)
  POST /v1/rooms/{room}/comments  post {\"text\":\"...\"}, or an array of such
  GET  /v1/rooms/{room}/comments  read comments again (?since=&limit=)
  GET  /v1/rooms                  rooms and their viewers
  GET  /v1/rooms/{room}           one room
  GET  /v1/stats                  counters
  GET  /metrics                   counters and process figures, for Prometheus
  GET  /healthz, /readyz          probes
";
