//! Owns exporting a room over HTTP: its log as one file, written page by page as fast as the client reads.

use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use bytes::Bytes;
use danmaku_log::{EntryBody, RoomLog, Stream, Unavailable};
use danmaku_wire::{RoomId, Seq};
use hyper::body::{Body, Frame};
use hyper::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, Request, Response, Version};
use tokio::sync::OwnedSemaphorePermit;

use super::error::ApiError;
use super::query::{pairs, unix_ms};
use super::streams;
use crate::admission::{AddressPermit, Held};
use crate::context::Context;
use crate::recording::{RecordingFormat, RecordingWriter};
use crate::refusal::Refusal;

/// `GET /v1/rooms/{room}/export`.
pub(super) async fn show<B>(
    context: &Arc<Context>,
    permit: &AddressPermit,
    room: &RoomId,
    request: &Request<B>,
) -> Result<Response<ExportBody>, ApiError> {
    // HTTP/1.0 has no chunks: a file that breaks off would look complete.
    if request.version() < Version::HTTP_11 {
        return Err(ApiError::BadHttpVersion);
    }
    let query = ExportQuery::parse(request.uri().query().unwrap_or(""))?;
    let log = context.find_log(room).await?;
    let log = log.ok_or(ApiError::RoomNotFound)?;
    let slot = Arc::clone(&context.export_slots).try_acquire_owned();
    let slot = slot.map_err(|_| Refusal::TooManyExports)?;
    let held = context.hold_answer(permit, EXPORT_BYTES)?;
    let range = Range::find(context, room, &log, &query).await?;
    let mut export = Export {
        context: Arc::clone(context),
        log,
        writer: RecordingWriter::new(query.format, range.start_ms),
        after: range.after,
        until: range.until,
        is_done: false,
        _slot: slot,
        _held: held,
    };
    let mut first = Vec::new();
    export.writer.head(&mut first);
    // Before the response, so that a log that does not answer is an error and not half a file.
    if *request.method() != Method::HEAD {
        export
            .page(&mut first)
            .await
            .map_err(|_| Refusal::Unavailable)?;
    }
    let mut response = Response::new(ExportBody {
        ready: first.into(),
        state: State::Idle(Box::new(export)),
    });
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static(query.format.media_type()),
    );
    headers.insert(CONTENT_DISPOSITION, disposition(room, query.format));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // What people wrote is no page, whatever it looks like.
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
}

/// A name for the file. Not every file system has names with colons.
fn disposition(room: &RoomId, format: RecordingFormat) -> HeaderValue {
    let name = room.as_str().replace(':', "_");
    let value = format!("attachment; filename=\"{name}.{}\"", format.extension());
    HeaderValue::try_from(value).expect("invariant: room ids are visible ASCII without quotes")
}

/// The query of an export.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ExportQuery {
    format: RecordingFormat,
    /// The first log time, Unix time in milliseconds.
    from_ms: Option<u64>,
    /// The log time to read up to, which is not included.
    to_ms: Option<u64>,
    /// When the video began, Unix time in milliseconds.
    start_ms: Option<u64>,
    /// The stream, as written.
    stream: Option<String>,
}

impl ExportQuery {
    /// Ignores other parameters.
    ///
    /// # Errors
    /// [`ApiError`] names the invalid parameter.
    fn parse(query: &str) -> Result<Self, ApiError> {
        let mut parsed = Self {
            format: RecordingFormat::Jsonl,
            from_ms: None,
            to_ms: None,
            start_ms: None,
            stream: None,
        };
        for (key, value) in pairs(query) {
            match &*key {
                "format" => {
                    let format = RecordingFormat::from_name(&value);
                    parsed.format = format.ok_or(ApiError::BadFormat)?;
                }
                "from" => parsed.from_ms = Some(unix_ms(&key, &value)?),
                "to" => parsed.to_ms = Some(unix_ms(&key, &value)?),
                "start" => parsed.start_ms = Some(unix_ms(&key, &value)?),
                "stream" => parsed.stream = Some(value.into_owned()),
                _ => {}
            }
        }
        if parsed.stream.is_some() && parsed.start_ms.is_some() {
            return Err(ApiError::BadStream);
        }
        Ok(parsed)
    }
}

/// What is exported: (`after`, `until`] of the log.
struct Range {
    after: Seq,
    until: Seq,
    /// When the video began.
    start_ms: Option<u64>,
}

impl Range {
    async fn find(
        context: &Context,
        room: &RoomId,
        log: &RoomLog,
        query: &ExportQuery,
    ) -> Result<Self, ApiError> {
        // What is posted from now on is not part of it: the export ends.
        let (mut after, mut until) = (log.floor(), log.head());
        let stream = Self::stream(context, room, query).await?;
        let start_ms = query
            .start_ms
            .or(stream.as_ref().map(|stream| stream.start_ms));
        // JSON Lines are also a copy of the log: only a stream that was asked for limits them.
        let cut =
            stream.filter(|_| query.stream.is_some() || query.format != RecordingFormat::Jsonl);
        let (begin_ms, end_ms) = cut.map_or((None, None), |stream| {
            (Some(stream.start_ms), stream.end_ms)
        });
        for from_ms in query.from_ms.into_iter().chain(begin_ms) {
            after = after.max(log.last_before(from_ms).await.map_err(Refusal::from)?);
        }
        for to_ms in query.to_ms.into_iter().chain(end_ms) {
            until = until.min(log.last_before(to_ms).await.map_err(Refusal::from)?);
        }
        Ok(Self {
            after,
            until,
            start_ms,
        })
    }

    /// The stream that times are relative to: the last one, unless the query says otherwise.
    async fn stream(
        context: &Context,
        room: &RoomId,
        query: &ExportQuery,
    ) -> Result<Option<Stream>, ApiError> {
        if let Some(id) = &query.stream {
            return streams::find(context, room, id).await.map(Some);
        }
        if query.start_ms.is_some() {
            return Ok(None);
        }
        let streams = context.log.records().streams(room).await;
        Ok(streams.map_err(Refusal::from)?.into_iter().next_back())
    }
}

/// An export that is being written.
struct Export {
    context: Arc<Context>,
    log: RoomLog,
    writer: RecordingWriter,
    /// The last position that is written.
    after: Seq,
    until: Seq,
    is_done: bool,
    /// Given back when the export ends.
    _slot: OwnedSemaphorePermit,
    _held: Held,
}

impl Export {
    /// Adds the next page; the last one comes with what ends the file.
    async fn page(&mut self, out: &mut Vec<u8>) -> Result<(), ExportError> {
        if self.after < self.until {
            let turn = self.context.export_reads.acquire().await;
            let page = self.log.read_after(self.after, PAGE_ENTRIES).await?;
            drop(turn);
            if page.after > self.after {
                return Err(ExportError::Dropped);
            }
            for entry in page.entries.iter().filter(|entry| entry.seq <= self.until) {
                if let EntryBody::Comment { fragment, .. } = &entry.body {
                    self.writer
                        .comment((entry.seq, entry.at_ms), fragment, out)?;
                }
            }
            self.after = if page.more { page.seq } else { self.until };
        }
        if self.after >= self.until {
            self.writer.tail(out);
            self.is_done = true;
        }
        Ok(())
    }
}

/// Why an export broke off. The client sees that the file is not complete: its last chunk is missing.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExportError {
    /// The log could not be read.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The log dropped entries before they were written.
    #[error("the log dropped entries that were not exported yet")]
    Dropped,
    /// An entry of the log is no comment.
    #[error("the log has a comment that cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
}

/// The body of an export. It reads on when what it gave before is written, so that a slow client holds little.
pub(super) struct ExportBody {
    ready: Bytes,
    state: State,
}

enum State {
    /// Between two pages.
    Idle(Box<Export>),
    /// A page is being read.
    Reading(Pin<Box<dyn Future<Output = Read> + Send>>),
    Ended,
}

type Read = (Box<Export>, Vec<u8>, Result<(), ExportError>);

impl Body for ExportBody {
    type Data = Bytes;
    type Error = ExportError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ExportError>>> {
        loop {
            if !self.ready.is_empty() {
                let len = self.ready.len().min(CHUNK_BYTES_MAX);
                return Poll::Ready(Some(Ok(Frame::data(self.ready.split_to(len)))));
            }
            self.state = match mem::replace(&mut self.state, State::Ended) {
                State::Idle(export) if export.is_done => State::Ended,
                State::Idle(mut export) => State::Reading(Box::pin(async move {
                    let mut out = Vec::new();
                    let read = export.page(&mut out).await;
                    (export, out, read)
                })),
                State::Reading(mut reading) => match reading.as_mut().poll(cx) {
                    Poll::Pending => {
                        self.state = State::Reading(reading);
                        return Poll::Pending;
                    }
                    Poll::Ready((export, out, Ok(()))) => {
                        self.ready = out.into();
                        State::Idle(export)
                    }
                    Poll::Ready((_, _, Err(error))) => return Poll::Ready(Some(Err(error))),
                },
                State::Ended => return Poll::Ready(None),
            };
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ready.is_empty() && matches!(self.state, State::Ended)
    }
}

/// Entries read from the log at once.
const PAGE_ENTRIES: usize = 256;

/// Bytes that an export may hold, which its address is charged for: a page of the longest comments, and their lines.
const EXPORT_BYTES: usize = 1 << 20;

/// Bytes written at once, so that a client on a slow line gets them within the deadline for responses.
const CHUNK_BYTES_MAX: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let check = |query, expected| assert_eq!(ExportQuery::parse(query), expected, "{query}");
        let all = ExportQuery {
            format: RecordingFormat::Jsonl,
            from_ms: None,
            to_ms: None,
            start_ms: None,
            stream: None,
        };
        check("", Ok(all));
        check(
            "format=xml&from=1&to=2&start=3&token=x",
            Ok(ExportQuery {
                format: RecordingFormat::Xml,
                from_ms: Some(1),
                to_ms: Some(2),
                start_ms: Some(3),
                stream: None,
            }),
        );
        check("stream=1&start=2", Err(ApiError::BadStream));
        for bad in ["format=", "format=XML", "format=srt"] {
            check(bad, Err(ApiError::BadFormat));
        }
        for (bad, field) in [("from=x", "from"), ("to=-1", "to"), ("start=1.5", "start")] {
            check(bad, Err(ApiError::BadTime { field }));
        }
    }

    #[test]
    fn files_have_names_that_every_system_takes() {
        let room = RoomId::parse("live:1.a").unwrap();
        let value = disposition(&room, RecordingFormat::Dandanplay);
        assert_eq!(value, "attachment; filename=\"live_1.a.json\"");
    }
}
