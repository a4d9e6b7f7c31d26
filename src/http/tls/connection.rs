//! A TLS connection, as a byte stream that closes cleanly.

use std::io::{self, IoSlice, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::http::serve::protocol::Protocol;
use crate::http::serve::read_ahead::Socket;
use crate::http::tls::files::HTTP_2;

/// A byte stream over TLS.
///
/// Boxed, so that a waiting connection holds a pointer. Dropping it sends `close_notify`, by which the client tells the
/// end of a connection from an attacker who cuts it.
pub(super) struct TlsConnection(Box<TlsStream<TcpStream>>);

impl TlsConnection {
    pub(super) fn new(stream: TlsStream<TcpStream>) -> Self {
        Self(Box::new(stream))
    }
}

impl Drop for TlsConnection {
    fn drop(&mut self) {
        let (stream, session) = self.0.get_mut();
        // Does nothing if it was sent before.
        session.send_close_notify();
        // Written without waiting; the rest is dropped.
        while session.wants_write() && session.write_tls(&mut AtOnce(stream)).is_ok_and(|bytes| bytes > 0) {}
    }
}

/// A writer that never waits.
struct AtOnce<'a>(&'a TcpStream);

impl Write for AtOnce<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Socket for TlsConnection {
    fn is_read_closed(&self, cx: &mut Context<'_>) -> bool {
        self.0.get_ref().0.is_read_closed(cx)
    }

    fn protocol(&self) -> Protocol {
        match self.0.get_ref().1.alpn_protocol() {
            Some(HTTP_2) => Protocol::Http2,
            _ => Protocol::Http1,
        }
    }
}

impl AsyncRead for TlsConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

impl AsyncWrite for TlsConnection {
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
