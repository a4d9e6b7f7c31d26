//! The byte stream under an HTTP/2 connection.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http::http2::streams::Streams;
use crate::http::serve::read_ahead::Socket;
use crate::http::serve::transport::Transport;

/// A byte stream that tells the [`Streams`] whether it takes more, and reads nothing while too many of their tasks run.
pub(super) struct WatchedSocket<S> {
    transport: Transport<S>,
    streams: Arc<Streams>,
}

impl<S> WatchedSocket<S> {
    pub(super) fn new(transport: Transport<S>, streams: Arc<Streams>) -> Self {
        Self { transport, streams }
    }

    fn watch(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.streams.socket_writes(written.is_ready());
        written
    }
}

impl<S: Socket> AsyncRead for WatchedSocket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.streams.poll_may_read(cx));
        Pin::new(&mut self.transport).poll_read(cx, into)
    }
}

impl<S: Socket> AsyncWrite for WatchedSocket<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.transport).poll_write(cx, bytes);
        self.watch(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.transport).poll_write_vectored(cx, parts);
        self.watch(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(cx)
    }
}
