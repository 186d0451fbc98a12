//! Owns the deadline for responses: a peer that does not read one must not keep
//! it in memory forever. hyper only has deadlines for reading.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

/// A connection whose peer must read responses in time.
#[derive(Debug)]
pub(super) struct AnswerDeadline {
    io: TokioIo<TcpStream>,
    deadline: Duration,
    /// Runs from the first write that had to wait until the next one that
    /// completes.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl AnswerDeadline {
    pub(super) fn new(stream: TcpStream, deadline: Duration) -> Self {
        Self {
            io: TokioIo::new(stream),
            deadline,
            waiting: None,
        }
    }

    pub(super) fn into_inner(self) -> TcpStream {
        self.io.into_inner()
    }

    /// Whether part of a response is still unwritten.
    pub(super) fn is_held_up(&self) -> bool {
        self.waiting.is_some()
    }

    /// Starts or ends the deadline after a write of `wanted` bytes.
    fn written(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
        wanted: usize,
    ) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Ready(Ok(count)) if *count >= wanted => self.waiting = None,
            Poll::Ready(Err(_)) => {}
            Poll::Ready(Ok(_)) | Poll::Pending => {
                let waiting = self.waiting.get_or_insert_with(|| {
                    Box::pin(tokio::time::sleep_until(Instant::now() + self.deadline))
                });
                if waiting.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
            }
        }
        written
    }
}

impl Read for AnswerDeadline {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl Write for AnswerDeadline {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.written(cx, written, buf.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wanted = bufs.iter().map(|buf| buf.len()).sum();
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.written(cx, written, wanted)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
