//! The bytes of a connection: in the clear, or over TLS.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::connection::with_scratch;

/// What is done with the bytes of one read.
#[derive(Clone, Copy)]
pub(super) enum Bytes {
    Wanted,
    /// Only their number counts.
    Discarded,
}

#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Reads what is there, or waits for it.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        async fn all(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
            stream.write_all(bytes).await?;
            // TLS keeps back what the socket has no room for.
            stream.flush().await
        }
        match self {
            Self::Plain(stream) => all(stream, bytes).await,
            Self::Tls(stream) => all(stream, bytes).await,
        }
    }

    /// One read of at most so many bytes; says how many there were. On a TCP socket of Linux those that are discarded
    /// are not even copied; TLS has to decrypt them to know that they are right.
    pub(super) async fn receive(
        &mut self,
        bytes: Bytes,
        most: usize,
        mut keep: impl FnMut(&[u8]),
    ) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => {
                let flags = match bytes {
                    Bytes::Wanted => RecvFlags::empty(),
                    Bytes::Discarded => RecvFlags::TRUNC,
                };
                let read = || {
                    with_scratch(|scratch| {
                        let (_, got) = recv(&*stream, &mut scratch[..most], flags)?;
                        keep(&scratch[..got.min(most)]);
                        Ok(got)
                    })
                };
                stream.async_io(Interest::READABLE, read).await
            }
            Self::Tls(stream) => {
                let read = |cx: &mut Context<'_>| {
                    with_scratch(|scratch| {
                        let mut buffer = ReadBuf::new(&mut scratch[..most]);
                        ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer))?;
                        keep(buffer.filled());
                        Poll::Ready(Ok(buffer.filled().len()))
                    })
                };
                poll_fn(read).await
            }
        }
    }
}
