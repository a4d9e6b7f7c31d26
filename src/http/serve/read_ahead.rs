//! Reading ahead while a request is being answered, to notice that its client has disconnected.
//!
//! A disconnect comes behind everything that the client sent before it. So what it sends meanwhile is read and kept: its
//! next requests, or a body. Once too much is kept, the system is asked instead, which knows of a disconnect even where
//! bytes before it are unread. Only a client that closes its side behind more than the system buffers is not noticed: its
//! own system keeps the end of the connection back until there is room.

use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, Sleep, sleep};

use crate::http::serve::protocol::Protocol;

/// The most bytes that are read ahead.
const READ_AHEAD: usize = 8 * 1024;

/// Bytes that are read at a time, on the stack.
const CHUNK: usize = 2048;

/// How often the system is asked whether the client has disconnected.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The byte stream of a connection.
pub(in crate::http) trait Socket: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Whether the runtime knows that the client has closed its side or the connection has failed. It asks no system call:
    /// the runtime knows it from the event that woke it.
    fn is_read_closed(&self, cx: &mut Context<'_>) -> bool;

    /// What is known of the protocol before the first byte.
    fn protocol(&self) -> Protocol;
}

impl Socket for TcpStream {
    fn is_read_closed(&self, cx: &mut Context<'_>) -> bool {
        is_closed(pin!(self.ready(Interest::READABLE)).poll(cx))
    }

    fn protocol(&self) -> Protocol {
        Protocol::ByFirstBytes
    }
}

impl Socket for UnixStream {
    fn is_read_closed(&self, cx: &mut Context<'_>) -> bool {
        is_closed(pin!(self.ready(Interest::READABLE)).poll(cx))
    }

    fn protocol(&self) -> Protocol {
        Protocol::ByFirstBytes
    }
}

fn is_closed(known: Poll<io::Result<Ready>>) -> bool {
    match known {
        Poll::Ready(Ok(known)) => known.is_read_closed(),
        Poll::Ready(Err(_)) => true,
        Poll::Pending => false,
    }
}

/// The reason for which reading ahead has stopped.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum ReadAheadEnd {
    /// The client has closed its side, or the connection has failed.
    Disconnected,
    /// [`READ_AHEAD`] bytes are unread.
    Full,
}

/// Reads ahead into `unread`.
pub(in crate::http) fn poll_read_ahead<S>(
    stream: &mut S,
    unread: &mut Vec<u8>,
    cx: &mut Context<'_>,
) -> Poll<ReadAheadEnd>
where
    S: AsyncRead + Unpin,
{
    while unread.len() < READ_AHEAD {
        let mut chunk = [MaybeUninit::uninit(); CHUNK];
        let mut chunk = ReadBuf::uninit(&mut chunk);
        let failed = ready!(Pin::new(&mut *stream).poll_read(cx, &mut chunk)).is_err();
        if failed || chunk.filled().is_empty() {
            return Poll::Ready(ReadAheadEnd::Disconnected);
        }
        unread.extend_from_slice(chunk.filled());
    }
    Poll::Ready(ReadAheadEnd::Full)
}

/// The check of a connection with unread bytes: whether its client has disconnected.
pub(in crate::http) struct DisconnectCheck(Pin<Box<Sleep>>);

impl DisconnectCheck {
    pub(in crate::http) fn new() -> Self {
        Self(Box::pin(sleep(Duration::ZERO)))
    }

    /// Resolves when the client has disconnected.
    pub(in crate::http) fn poll(&mut self, socket: &impl Socket, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.0.as_mut().poll(cx));
            if socket.is_read_closed(cx) {
                return Poll::Ready(());
            }
            self.0.as_mut().reset(Instant::now() + CHECK_INTERVAL);
        }
    }
}
