//! The transport under the HTTP framework. It first returns the bytes that the lean front has read, notices when all
//! responses are written, and disconnects clients that read nothing or have closed their side. At its end it reads what a
//! client may still be sending.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::http::serve::linger::Linger;
use crate::http::serve::read_ahead::{DisconnectCheck, ReadAheadEnd, Socket, poll_read_ahead};
use crate::view::Held;

/// The requests and responses of one connection in the framework. Only that connection's task uses it.
#[derive(Default)]
pub(in crate::http) struct FrameworkSession {
    /// Requests that began.
    begun: AtomicU32,
    /// Responses that ended.
    ended: AtomicU32,
    /// Whether any request had a body. Only the framework knows where it ends.
    had_body: AtomicBool,
    /// Whether written bytes may still be in the framework's buffer.
    unflushed: AtomicBool,
    closing: AtomicBool,
    /// Whether bytes of the next request's head were read, as far as it is known here.
    head_has_begun: AtomicBool,
    /// The last four bytes that were read.
    last_bytes: AtomicU32,
    /// Whether the newest request had a body.
    last_had_body: AtomicBool,
    /// Whether that body was not received to its end.
    body_is_open: AtomicBool,
    /// Whether that body is being received. Then the framework reads the stream.
    body_is_read: AtomicBool,
    /// Whether the daemon shuts down.
    draining: AtomicBool,
    /// What bodies that the framework has buffered hold of a budget.
    held: Mutex<Vec<Arc<Held>>>,
}

impl FrameworkSession {
    pub(in crate::http) fn request_begins(&self, has_body: bool) {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.had_body.fetch_or(has_body, Ordering::Relaxed);
        self.last_had_body.store(has_body, Ordering::Relaxed);
        self.body_is_open.store(has_body, Ordering::Relaxed);
        self.body_is_read.store(false, Ordering::Relaxed);
        // If the bytes do not end with this head, the next request has begun.
        let is_last = self.last_bytes.load(Ordering::Relaxed) == u32::from_be_bytes(*b"\r\n\r\n");
        self.head_has_begun.store(!is_last, Ordering::Relaxed);
    }

    /// Called when the body of the newest request is being received.
    pub(in crate::http) fn request_body_is_read(&self) {
        self.body_is_read.store(true, Ordering::Relaxed);
    }

    /// Whether a request is being answered and the framework reads nothing, or may read nothing.
    fn is_answering(&self) -> bool {
        let receives = self.body_is_open() && self.body_is_read.load(Ordering::Relaxed);
        self.begun.load(Ordering::Relaxed) != self.ended.load(Ordering::Relaxed) && !receives
    }

    /// Called when the body of the newest request was received to its end.
    pub(in crate::http) fn request_body_ends(&self) {
        self.body_is_open.store(false, Ordering::Relaxed);
    }

    /// Whether the body of the newest request was not received to its end.
    pub(in crate::http) fn body_is_open(&self) -> bool {
        self.body_is_open.load(Ordering::Relaxed)
    }

    /// Called when the daemon shuts down.
    pub(in crate::http) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether the client may still be sending a request: a refused body, or a head that is too long.
    fn may_be_sending(&self) -> bool {
        match self.last_had_body.load(Ordering::Relaxed) {
            true => self.body_is_open(),
            false => self.head_has_begun.load(Ordering::Relaxed),
        }
    }

    /// Called when the framework drops a response's body: it has buffered all of it, or failed.
    pub(in crate::http) fn response_ends(&self, held: Option<Arc<Held>>) {
        self.ended.fetch_add(1, Ordering::Relaxed);
        if let Some(held) = held {
            self.unflushed.store(true, Ordering::Relaxed);
            self.held.lock().push(held);
        }
    }

    /// Whether the framework is between two requests and holds nothing but unparsed bytes. The connection can then leave
    /// the framework.
    pub(in crate::http) fn can_leave_framework(&self) -> bool {
        let begun = self.begun.load(Ordering::Relaxed);
        begun > 0
            && begun == self.ended.load(Ordering::Relaxed)
            && ![&self.had_body, &self.unflushed, &self.closing]
                .iter()
                .any(|flag| flag.load(Ordering::Relaxed))
    }

    /// Whether any request has begun.
    pub(in crate::http) fn any_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed) > 0
    }

    /// Called when the framework begins to wait for a head. After a request with a body it is unknown whether bytes of
    /// the next head were read; none are assumed, which gives that head more time.
    pub(in crate::http) fn head_awaited(&self) {
        if self.last_had_body.swap(false, Ordering::Relaxed) {
            self.head_has_begun.store(false, Ordering::Relaxed);
        }
    }

    /// Whether the client was answered and has not begun another request.
    pub(in crate::http) fn is_between_requests(&self) -> bool {
        self.any_begun() && !self.head_has_begun.load(Ordering::Relaxed)
    }

    fn record_read(&self, bytes: &[u8]) {
        if !bytes.is_empty() {
            let last = bytes[bytes.len().saturating_sub(4)..].iter();
            let before = self.last_bytes.load(Ordering::Relaxed);
            self.last_bytes
                .store(last.fold(before, |all, byte| all << 8 | u32::from(*byte)), Ordering::Relaxed);
            self.head_has_begun.store(true, Ordering::Relaxed);
        }
    }

    /// Marks the current response as the last one of the connection.
    pub(in crate::http) fn close_after_response(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    fn record_write(&self) {
        self.unflushed.store(true, Ordering::Relaxed);
    }

    /// Called when the framework flushes the stream, which it does once its own buffer is empty.
    fn record_flush(&self) {
        if self.unflushed.swap(false, Ordering::Relaxed) {
            self.held.lock().clear();
        }
    }
}

/// The byte stream of a connection in the framework.
pub(in crate::http) struct Transport<S> {
    stream: S,
    /// Bytes that the lean front has read, or that were read ahead, and the framework has not read.
    unread: Vec<u8>,
    pub(in crate::http) session: Arc<FrameworkSession>,
    /// The stall timeout, if the system does not enforce it.
    stall: Option<Duration>,
    /// The stall timer, while the client reads nothing.
    stalled: Option<Pin<Box<Sleep>>>,
    /// Set once the write side is closed, if the client may still be sending.
    linger: Option<Linger>,
    /// Set while too many bytes are unread to read ahead.
    check: Option<DisconnectCheck>,
}

impl<S> Transport<S> {
    pub(in crate::http) fn new(stream: S, unread: Vec<u8>, stall: Option<Duration>) -> Self {
        Self { stream, unread, session: Arc::default(), stall, stalled: None, linger: None, check: None }
    }

    /// The stream and its unread bytes.
    pub(in crate::http) fn into_parts(self) -> (S, Vec<u8>) {
        (self.stream, self.unread)
    }

    /// Starts or stops the stall timer after a write.
    fn check_stall(
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
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client reads nothing")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Transport<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unread.is_empty() {
            let filled = into.filled().len();
            ready!(Pin::new(&mut self.stream).poll_read(cx, into))?;
            self.session.record_read(&into.filled()[filled..]);
            return Poll::Ready(Ok(()));
        }
        let length = self.unread.len().min(into.remaining());
        into.put_slice(&self.unread[..length]);
        self.session.record_read(&self.unread[..length]);
        self.unread.drain(..length);
        if self.unread.is_empty() {
            self.unread = Vec::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: Socket> Transport<S> {
    /// Resolves when the client of the request that is being answered has disconnected. While the framework holds bytes
    /// behind a request it does not read, and would not notice.
    fn poll_disconnected(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.check.is_none() {
            match ready!(poll_read_ahead(&mut self.stream, &mut self.unread, cx)) {
                ReadAheadEnd::Disconnected => return Poll::Ready(()),
                ReadAheadEnd::Full => {}
            }
        }
        self.check.get_or_insert_with(DisconnectCheck::new).poll(&self.stream, cx)
    }
}

impl<S: Socket> AsyncWrite for Transport<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.session.record_write();
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.check_stall(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.session.record_write();
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.check_stall(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.session.record_flush();
        // The framework flushes whenever it has nothing else to do.
        match self.session.is_answering() {
            true if self.poll_disconnected(cx).is_ready() => {
                Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
            }
            true => Poll::Ready(Ok(())),
            false => {
                self.check = None;
                Poll::Ready(Ok(()))
            }
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.session.closing.store(true, Ordering::Relaxed);
        if this.linger.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
            if !this.session.may_be_sending() {
                return Poll::Ready(Ok(()));
            }
            this.unread.clear();
        }
        let linger = this.linger.get_or_insert_with(Linger::begin);
        if this.session.draining.load(Ordering::Relaxed) {
            linger.drain();
        }
        linger.poll(&mut this.stream, cx).map(Ok)
    }
}
