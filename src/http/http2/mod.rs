//! HTTP/2: a connection whose requests any service of hyper's answers.
//!
//! hyper and its library `h2` do the protocol. This module adds what they lack, for every listener alike
//! ([`serve`]): limits that are set explicitly, timeouts, the maximum age, the drain, and the two promises that flow
//! control makes hard. A client that reads nothing loses its stream, while a slow one does not (`streams.rs`). What an
//! answer holds of a budget is returned when its last byte is written, not when the library has queued it (`body.rs`).
//!
//! What the library bounds itself: a flood of PING or SETTINGS is not read faster than it is answered, and the
//! CONTINUATION frames of a head are counted.

mod body;
mod long_poll;
mod routes;
mod socket;
mod streams;

use std::convert::Infallible;
use std::error::Error;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response};
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Incoming};
use hyper::server::conn::http2;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::{Instant, Sleep, sleep_until};
use tracing::debug;

use crate::http::client::Peer;
use crate::http::http2::body::PacedBody;
#[cfg(feature = "etcd")]
pub(super) use crate::http::http2::routes::as_origin_form;
pub(super) use crate::http::http2::routes::serve_routes;
use crate::http::http2::socket::WatchedSocket;
use crate::http::http2::streams::{Streams, StreamsExecutor};
use crate::http::rep::problem::Problem;
use crate::http::rep::reply::into_response;
use crate::http::serve::connection::{MAX_HEAD_BYTES, Shared};
use crate::http::serve::connection_age::ConnectionAge;
use crate::http::serve::read_ahead::Socket;
use crate::http::serve::transport::Transport;

/// The first bytes of every connection (RFC 9113, 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The concurrent streams of a connection. A stream over it is refused (`REFUSED_STREAM`); the client may send it again.
const MAX_STREAMS: u32 = 250;

/// Bytes of a request body that a client may send before they are read, for each stream and for the connection.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 256 << 10;

/// Bytes of an answer that the library queues for a stream whose client does not read them, beside one piece.
const MAX_QUEUED_BYTES: usize = 64 << 10;

/// The largest frame that is received.
const MAX_FRAME_BYTES: u32 = 16 << 10;

/// Streams that the client has reset before they were looked at, and errors of streams, after which the connection ends.
const MAX_UNSEEN_RESETS: usize = 20;
const MAX_STREAM_ERRORS: usize = 256;

/// The silence after which a PING is sent. The system then finds out whether the client's still acknowledges something.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// The time limit for the answer to a PING, in stall timeouts. A slow client reads all that was sent before it first.
const PING_TIMEOUT_STALLS: u32 = 10;

/// The time limit for the end of a connection without streams, after its GOAWAY.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Serves a connection until it is closed. `unread` are bytes that were read already. Everything but the answers is done
/// here: limits, pings, timeouts, drain, and the age.
///
/// The service sees each request as the library hands it over, and may answer with any body. An answer's extension of
/// type `Arc<Held>` is held until the body is written.
pub(super) async fn serve<S, V, B>(
    stream: S,
    unread: Vec<u8>,
    peer: &Peer,
    shared: &Shared,
    age: ConnectionAge,
    service: V,
) where
    S: Socket,
    V: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    V::Future: Send + 'static,
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let config = &shared.config;
    let streams = Arc::new(Streams::new());
    let transport = Transport::new(stream, unread, shared.stall);
    let session = Arc::clone(&transport.session);
    let begun = Arc::clone(&streams);
    let service = service_fn(move |request| {
        let state = begun.begin();
        let answered = service.call(request);
        async move {
            let response = answered.await?;
            Ok::<_, Infallible>(PacedBody::wrap(response, state))
        }
    });
    let connection = http2::Builder::new(StreamsExecutor(Arc::clone(&streams)))
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL.min(config.stall_timeout))
        .keep_alive_timeout(config.stall_timeout * PING_TIMEOUT_STALLS)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD_BYTES as u32)
        .max_frame_size(MAX_FRAME_BYTES)
        .max_send_buf_size(MAX_QUEUED_BYTES)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_pending_accept_reset_streams(MAX_UNSEEN_RESETS)
        .max_local_error_reset_streams(MAX_STREAM_ERRORS)
        .serve_connection(TokioIo::new(WatchedSocket::new(transport, Arc::clone(&streams))), service);
    let mut connection = std::pin::pin!(connection);
    let mut clock = ConnectionClock::new(shared, age, &streams);
    let mut begun = std::pin::pin!(shared.app.shutdown.begun());
    let mut draining = false;
    let ended = poll_fn(|cx| {
        if !draining && begun.as_mut().poll(cx).is_ready() {
            draining = true;
            session.drain();
            clock.close();
            streams.wake_all();
            connection.as_mut().graceful_shutdown();
        }
        if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
            return Poll::Ready(Ok(ended));
        }
        clock.note_first_request();
        loop {
            match clock.poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(ConnectionEnd::GoAway) => {
                    connection.as_mut().graceful_shutdown();
                    if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                        return Poll::Ready(Ok(ended));
                    }
                }
                Poll::Ready(ConnectionEnd::Abort(why)) => return Poll::Ready(Err(why)),
            }
        }
    });
    match ended.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(peer = ?peer.address(), %error, "connection ended with an error"),
        Err(why) => debug!(peer = ?peer.address(), "connection closed: {why}"),
    }
}

/// What has to happen to a connection.
enum ConnectionEnd {
    /// The client is told that no more requests are taken.
    GoAway,
    /// It is closed at once.
    Abort(&'static str),
}

/// The timeouts of a connection, with one timer.
struct ConnectionClock<'a> {
    shared: &'a Shared,
    streams: &'a Streams,
    age: ConnectionAge,
    begun: Instant,
    /// Whether a request has begun, as far as the timer knows.
    is_used: bool,
    /// The time since which no more requests are taken.
    closing: Option<Instant>,
    sleep: Pin<Box<Sleep>>,
}

impl<'a> ConnectionClock<'a> {
    fn new(shared: &'a Shared, age: ConnectionAge, streams: &'a Streams) -> Self {
        let begun = Instant::now();
        let sleep = Box::pin(sleep_until(begun));
        Self { shared, streams, age, begun, is_used: false, closing: None, sleep }
    }

    fn close(&mut self) {
        self.closing.get_or_insert_with(Instant::now);
        // Polled soon, for the new limit.
        self.sleep.as_mut().reset(Instant::now());
    }

    /// Checks the age soon after the first request has begun. A connection that has reached its age before that still
    /// takes one request, as one of HTTP/1.1 does: a client that has just connected does not send it again by itself.
    fn note_first_request(&mut self) {
        if !self.is_used && self.streams.any_begun() {
            self.is_used = true;
            self.sleep.as_mut().reset(Instant::now());
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionEnd> {
        while self.sleep.as_mut().poll(cx).is_ready() {
            match self.check(Instant::now()) {
                Ok(next) => self.sleep.as_mut().reset(next),
                Err(end) => {
                    self.close();
                    return Poll::Ready(end);
                }
            }
        }
        Poll::Pending
    }

    /// What is due now, or else the time of the next check. A state that begins between two checks has a limit that is
    /// no shorter than the time between them, so no limit passes unnoticed.
    fn check(&self, now: Instant) -> Result<Instant, ConnectionEnd> {
        let config = &self.shared.config;
        let next = now + config.stall_timeout.min(config.idle_timeout);
        let stall = self.streams.check_stalls(config.stall_timeout, now).map_err(ConnectionEnd::Abort)?;
        let next = next.min(stall.unwrap_or(next));
        let idle_since = self.streams.idle_since();
        if let Some(closing) = self.closing {
            let Some(idle_since) = idle_since else { return Ok(next.min(now + CLOSE_TIMEOUT)) };
            let end = closing.max(idle_since) + CLOSE_TIMEOUT;
            return match now >= end {
                true => Err(ConnectionEnd::Abort("the client does not close it")),
                false => Ok(next.min(end)),
            };
        }
        let end = match self.is_used {
            true => {
                let idle_end = idle_since.map(|since| since + config.idle_timeout);
                [idle_end, self.age.reached_at()].into_iter().flatten().min()
            }
            false => Some(self.begun + config.header_timeout),
        };
        match end {
            Some(end) if now >= end => Err(ConnectionEnd::GoAway),
            Some(end) => Ok(next.min(end)),
            None => Ok(next),
        }
    }
}

/// Answers the requests of a client that is not served with a problem, and closes the connection within this time.
pub(super) async fn refuse<S: Socket>(stream: S, unread: Vec<u8>, problem: Problem, within: Duration) {
    let reply = problem.into_reply();
    let service = service_fn(move |_: Request<Incoming>| {
        let response = into_response(reply.clone());
        async move { Ok::<_, Infallible>(response) }
    });
    let streams = Arc::new(Streams::new());
    let transport = Transport::new(stream, unread, None);
    let io = TokioIo::new(WatchedSocket::new(transport, Arc::clone(&streams)));
    let mut builder = http2::Builder::new(StreamsExecutor(streams));
    let connection = builder
        .max_concurrent_streams(1)
        .max_header_list_size(MAX_HEAD_BYTES as u32)
        .max_frame_size(MAX_FRAME_BYTES)
        .serve_connection::<_, _, Body>(io, service);
    let mut connection = std::pin::pin!(connection);
    let mut half = std::pin::pin!(tokio::time::sleep(within / 2));
    let mut told = false;
    let closing = poll_fn(|cx| {
        if !told && half.as_mut().poll(cx).is_ready() {
            told = true;
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(cx)
    });
    // The client may be gone, or send nothing.
    _ = tokio::time::timeout(within, closing).await;
}
