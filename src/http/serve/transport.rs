//! The stream under the HTTP framework: it gives back bytes that were read before, notices when
//! everything was written, and cuts who takes nothing.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::http::budget::Room;

/// What the framework has in hand on one connection. All of it is used by that connection's task.
#[derive(Default)]
pub(in crate::http) struct Session {
    begun: AtomicU32,
    ended: AtomicU32,
    /// A request had a body: where it ends is known to the framework alone.
    had_body: AtomicBool,
    /// Bytes were written that may not have left the framework's buffer yet.
    unflushed: AtomicBool,
    closing: AtomicBool,
    /// Bytes of the next request's head were read, so far as it can be told from here.
    head_has_begun: AtomicBool,
    /// The last four bytes that were read.
    last_bytes: AtomicU32,
    /// The request that began last had a body.
    last_had_body: AtomicBool,
    /// Of bodies that the framework has taken whole.
    permits: Mutex<Vec<Arc<Room>>>,
}

impl Session {
    pub(in crate::http) fn request_begins(&self, has_body: bool) {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.had_body.fetch_or(has_body, Ordering::Relaxed);
        self.last_had_body.store(has_body, Ordering::Relaxed);
        // What was read ends with this head, or there is more behind it.
        let whole = self.last_bytes.load(Ordering::Relaxed) == u32::from_be_bytes(*b"\r\n\r\n");
        self.head_has_begun.store(!whole, Ordering::Relaxed);
    }

    /// The framework has let go of the response's body: it has taken all of it, or gives up.
    pub(in crate::http) fn response_ends(&self, permit: Option<Arc<Room>>) {
        self.ended.fetch_add(1, Ordering::Relaxed);
        if let Some(permit) = permit {
            self.unflushed.store(true, Ordering::Relaxed);
            self.permits.lock().push(permit);
        }
    }

    /// Whether the framework stands between two requests with nothing in hand but bytes that it has
    /// not looked at: then it can be taken away and another put in its place.
    pub(in crate::http) fn is_idle(&self) -> bool {
        let begun = self.begun.load(Ordering::Relaxed);
        begun > 0
            && begun == self.ended.load(Ordering::Relaxed)
            && ![&self.had_body, &self.unflushed, &self.closing]
                .iter()
                .any(|flag| flag.load(Ordering::Relaxed))
    }

    /// The framework waits for a head from now on. Where a body ended in what was read it does not say: then
    /// the head behind it is taken for not begun, and has more time.
    pub(in crate::http) fn head_is_awaited(&self) {
        if self.last_had_body.swap(false, Ordering::Relaxed) {
            self.head_has_begun.store(false, Ordering::Relaxed);
        }
    }

    /// Whether the client, which has been answered, has not begun another request.
    pub(in crate::http) fn is_resting(&self) -> bool {
        self.begun.load(Ordering::Relaxed) > 0 && !self.head_has_begun.load(Ordering::Relaxed)
    }

    fn was_read(&self, bytes: &[u8]) {
        if !bytes.is_empty() {
            let last = bytes[bytes.len().saturating_sub(4)..].iter();
            let before = self.last_bytes.load(Ordering::Relaxed);
            self.last_bytes
                .store(last.fold(before, |all, byte| all << 8 | u32::from(*byte)), Ordering::Relaxed);
            self.head_has_begun.store(true, Ordering::Relaxed);
        }
    }

    /// The connection ends with the response that is on its way.
    pub(in crate::http) fn is_last(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    fn written(&self) {
        self.unflushed.store(true, Ordering::Relaxed);
    }

    /// The framework flushes the stream when its own buffer is empty.
    fn flushed(&self) {
        if self.unflushed.swap(false, Ordering::Relaxed) {
            self.permits.lock().clear();
        }
    }
}

/// See the module.
pub(in crate::http) struct Transport<S> {
    pub(in crate::http) stream: S,
    /// Read before, and not yet read again.
    before: Bytes,
    pub(in crate::http) session: Arc<Session>,
    /// How long the client may take nothing, where the system does not see to it.
    stall: Option<Duration>,
    /// Runs while the client takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Transport<S> {
    pub(in crate::http) fn new(stream: S, before: Bytes, stall: Option<Duration>) -> Self {
        Self { stream, before, session: Arc::default(), stall, stalled: None }
    }

    /// The stream and what was not read again.
    pub(in crate::http) fn into_parts(self) -> (S, Bytes) {
        (self.stream, self.before)
    }

    fn progress(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let Some(stall) = self.stall else { return written };
        let since = || Box::pin(sleep_until(Instant::now() + stall));
        ready!(self.stalled.get_or_insert_with(since).as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Transport<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.before.is_empty() {
            let filled = into.filled().len();
            ready!(Pin::new(&mut self.stream).poll_read(cx, into))?;
            self.session.was_read(&into.filled()[filled..]);
            return Poll::Ready(Ok(()));
        }
        let length = self.before.len().min(into.remaining());
        into.put_slice(&self.before[..length]);
        self.session.was_read(&self.before[..length]);
        self.before.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Transport<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.session.written();
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.progress(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.session.written();
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.progress(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.session.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.session.closing.store(true, Ordering::Relaxed);
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
