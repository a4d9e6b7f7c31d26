//! The end of a connection whose client may still be sending.
//!
//! When a socket with unread bytes is closed, the system resets the connection, and the client may lose the answer. So the
//! answer is sent and the write side is closed at once. What still comes is read and dropped, for a bounded time, until the
//! client closes its side.

use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// The longest time without a byte.
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// The longest time in all.
const MAX_TIME: Duration = Duration::from_secs(10);

/// The longest time once the daemon shuts down.
const MAX_TIME_IN_DRAIN: Duration = Duration::from_millis(250);

/// Bytes that are dropped at a time, on the stack.
const CHUNK: usize = 16 * 1024;

/// The reading of what still comes.
pub(in crate::http) struct Linger {
    end: Instant,
    in_drain: bool,
    /// The end of the current pause.
    pause: Pin<Box<Sleep>>,
}

impl Linger {
    pub(in crate::http) fn begin() -> Self {
        let now = Instant::now();
        Self { end: now + MAX_TIME, in_drain: false, pause: Box::pin(sleep_until(now + MAX_PAUSE)) }
    }

    /// Ends it soon, because the daemon shuts down.
    pub(in crate::http) fn drain(&mut self) {
        if !self.in_drain {
            self.in_drain = true;
            self.end = self.end.min(Instant::now() + MAX_TIME_IN_DRAIN);
            self.pause.as_mut().reset(self.end);
        }
    }

    /// Reads and drops bytes until the client closes its side, or the time is over.
    pub(in crate::http) fn poll<S>(&mut self, stream: &mut S, cx: &mut Context<'_>) -> Poll<()>
    where
        S: AsyncRead + Unpin,
    {
        let mut has_read = false;
        loop {
            let mut chunk = [MaybeUninit::uninit(); CHUNK];
            let mut chunk = ReadBuf::uninit(&mut chunk);
            match Pin::new(&mut *stream).poll_read(cx, &mut chunk) {
                Poll::Ready(read) if read.is_err() || chunk.filled().is_empty() => return Poll::Ready(()),
                Poll::Ready(_) => has_read = true,
                Poll::Pending => break,
            }
        }
        if has_read {
            self.pause.as_mut().reset(self.end.min(Instant::now() + MAX_PAUSE));
        }
        ready!(self.pause.as_mut().poll(cx));
        Poll::Ready(())
    }
}

/// Closes a stream to which everything was written. What still comes is read and dropped for at most this time.
pub(in crate::http) async fn close(mut stream: impl AsyncRead + AsyncWrite + Unpin, within: Duration) {
    let closing = async {
        if stream.shutdown().await.is_ok() {
            let mut linger = Linger::begin();
            poll_fn(|cx| linger.poll(&mut stream, cx)).await;
        }
    };
    // The client may be gone, or read nothing.
    _ = tokio::time::timeout(within, closing).await;
}
