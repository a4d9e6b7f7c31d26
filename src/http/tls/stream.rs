//! A TLS connection as the rest of the room sees it: a stream of bytes that takes its leave.

use std::io::{self, IoSlice, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// A stream over TLS.
///
/// Boxed: whatever holds a connection while it waits holds a pointer. Whoever lets go of it, on whichever way, says
/// so to the client (`close_notify`): otherwise it could not tell the end of a connection from somebody who cuts the
/// line between.
pub(super) struct Secured(Box<TlsStream<TcpStream>>);

impl Secured {
    pub(super) fn new(stream: TlsStream<TcpStream>) -> Self {
        Self(Box::new(stream))
    }
}

impl Drop for Secured {
    fn drop(&mut self) {
        let (stream, session) = self.0.get_mut();
        // Does nothing when it was said before.
        session.send_close_notify();
        // What the system does not take at once is not waited for.
        while session.wants_write() && session.write_tls(&mut AtOnce(stream)).is_ok_and(|bytes| bytes > 0) {}
    }
}

/// Writes as much as the system takes now.
struct AtOnce<'a>(&'a TcpStream);

impl Write for AtOnce<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for Secured {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

impl AsyncWrite for Secured {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
