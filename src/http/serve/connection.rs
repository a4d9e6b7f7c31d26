//! A connection: the lean front serves its long polls and streams, the framework everything else.
//!
//! A connection begins in the [lean front](lean). At the first request that is no plain long poll or stream, the
//! connection and its unread bytes are handed to hyper and axum. Once they have answered and hold no bytes of it, it
//! comes back. So a client that fetches the state and then polls for ever costs the framework's buffers only meanwhile.
//! A connection of HTTP/2 is served by [`http2`] from its first byte.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::header::{CONNECTION, CONTENT_LENGTH};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tracing::debug;

use crate::http::app::App;
use crate::http::client::Peer;
#[cfg(feature = "etcd")]
use crate::http::etcd;
use crate::http::http2;
use crate::http::lean::{self, LeanOutcome};
use crate::http::rep::problem::Problem;
use crate::http::serve::audience::Audience;
use crate::http::serve::connection_age::ConnectionAge;
use crate::http::serve::header_timeout::HeaderTimer;
use crate::http::serve::linger;
use crate::http::serve::listener::ServerConfig;
use crate::http::serve::protocol::{Protocol, begins_http2};
use crate::http::serve::read_ahead::Socket;
use crate::http::serve::transport::{FrameworkSession, Transport};
use crate::view::Held;

/// The answer to a client whose request head exceeded the header timeout. hyper closes without an answer.
const HEADER_TIMEOUT_REPLY: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nCache-Control: no-store\r\n\
    Content-Length: 0\r\n\r\n";

/// The longest head of a request; a longer one is answered 431. Twice the longest request target, which is 64 KiB. A
/// connection buffers no more than this of what it reads.
pub(in crate::http) const MAX_HEAD_BYTES: usize = 128 << 10;

/// The longest unread body after which the connection may be used again: the framework skips what it has buffered of it.
const MAX_SKIPPED_BODY: u64 = 4 << 10;

/// The time limit for the request of a refused client, for its answer, and for what it still sends after that.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

/// The part that all connections share.
pub(in crate::http) struct Shared {
    pub(in crate::http) app: App,
    pub(in crate::http) config: ServerConfig,
    /// The stall timeout, if the system does not enforce it.
    pub(in crate::http) stall: Option<Duration>,
    pub(in crate::http) router: Router,
    /// Whom the listener is for.
    pub(in crate::http) audience: Audience,
}

impl Shared {
    pub(in crate::http) fn new(
        app: App,
        config: ServerConfig,
        stall: Option<Duration>,
        audience: Audience,
    ) -> Self {
        let router = audience.router(app.clone());
        Self { app, config, stall, router, audience }
    }
}

/// Serves a connection until it is closed.
pub(in crate::http) async fn serve<S>(mut stream: S, peer: &Peer, shared: &Shared)
where
    S: Socket,
{
    #[cfg(feature = "etcd")]
    if let Audience::Etcd(front) = &shared.audience {
        return Box::pin(etcd::serve(stream, peer, shared, front)).await;
    }
    let (mut unread, mut is_new) = (Vec::new(), true);
    let age = ConnectionAge::new(shared.config.max_connection_age);
    if stream.protocol() == Protocol::Http2 {
        return Box::pin(http2::serve_routes(stream, unread, peer, shared, age)).await;
    }
    loop {
        if shared.config.lean_front {
            match lean::serve(&mut stream, &mut unread, peer, shared, is_new, &age).await {
                LeanOutcome::OtherRequest => {}
                LeanOutcome::Closed => return,
                LeanOutcome::HeaderTimeout => return reply_header_timeout(stream).await,
            }
        }
        if is_new && stream.protocol() == Protocol::ByFirstBytes {
            let (within, shutdown) = (shared.config.header_timeout, &shared.app.shutdown);
            if Box::pin(begins_http2(&mut stream, &mut unread, within, shutdown)).await {
                return Box::pin(http2::serve_routes(stream, unread, peer, shared, age)).await;
            }
        }
        is_new = false;
        // Boxed: a connection that waits in the lean front has no space for the framework.
        let framework =
            Box::pin(serve_with_framework(stream, std::mem::take(&mut unread), peer, shared, age));
        match framework.await {
            Some((back, rest)) => (stream, unread) = (back, rest),
            None => return,
        }
    }
}

async fn reply_header_timeout(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    // The client may be gone.
    if stream.write_all(HEADER_TIMEOUT_REPLY).await.is_ok() {
        linger::close(stream, REFUSAL_TIMEOUT).await;
    }
}

/// Answers a client that is not served, and closes the connection. First it waits for the request: an answer that is sent before the request arrives
/// may be lost.
pub(in crate::http) async fn refuse(mut stream: impl Socket, problem: Problem) {
    let mut unread = Vec::with_capacity(1024);
    if stream.protocol() != Protocol::Http2 {
        _ = tokio::time::timeout(REFUSAL_TIMEOUT, stream.read_buf(&mut unread)).await;
    }
    let is_http2 = match stream.protocol() {
        Protocol::ByFirstBytes => unread.starts_with(http2::PREFACE),
        negotiated => negotiated == Protocol::Http2,
    };
    if is_http2 {
        return Box::pin(http2::refuse(stream, unread, problem, REFUSAL_TIMEOUT)).await;
    }
    let mut reply = problem.into_reply();
    lean::close(&mut reply);
    _ = lean::write_reply(&mut stream, &reply, Some(REFUSAL_TIMEOUT)).await;
    linger::close(stream, REFUSAL_TIMEOUT).await;
}

/// Serves the connection with hyper and axum. Returns the stream and its unread bytes when the lean front can continue;
/// `None` when the connection is closed.
pub(in crate::http) async fn serve_with_framework<S>(
    stream: S,
    unread: Vec<u8>,
    peer: &Peer,
    shared: &Shared,
    age: ConnectionAge,
) -> Option<(S, Vec<u8>)>
where
    S: Socket,
{
    let Shared { app, config, stall, router, .. } = shared;
    let transport = Transport::new(stream, unread, *stall);
    let session = Arc::clone(&transport.session);
    let tracked = Arc::clone(&session);
    let routes = TowerToHyperService::new(router.clone());
    let (peer, peer_address) = (peer.clone(), peer.address());
    let shutdown = app.shutdown.clone();
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        // A stream may outlive the age.
        request.extensions_mut().insert(age);
        request.extensions_mut().insert(peer.clone());
        tracked.request_begins(!request.body().is_end_stream());
        let is_long = request.body().size_hint().upper().is_none_or(|bytes| bytes > MAX_SKIPPED_BODY);
        let session = Arc::clone(&tracked);
        let answered = routes.call(request.map(|body| ReceivedBody { body, session: Arc::clone(&session) }));
        let shutdown = shutdown.clone();
        async move {
            let mut response = answered.await?;
            if [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&response.status()) {
                // The router sets it. A 204 must not have it, and a 304 not that of its empty body (RFC 9110, 8.6).
                response.headers_mut().remove(CONTENT_LENGTH);
            }
            if age.is_reached() || shutdown.has_begun() || is_long && session.body_is_open() {
                session.close_after_response();
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(track(response, session))
        }
    });
    let mut connection = http1::Builder::new()
        .max_buf_size(MAX_HEAD_BYTES)
        .timer(HeaderTimer::new(&session, config))
        .header_read_timeout(config.header_timeout)
        .serve_connection(TokioIo::new(transport), service);
    let mut begun = std::pin::pin!(app.shutdown.begun());
    let mut draining = false;
    // Boxed: it is polled during a drain only.
    let mut late = None;
    let ended = poll_fn(|cx| {
        if !draining && begun.as_mut().poll(cx).is_ready() {
            draining = true;
            session.drain();
            late = Some(Box::pin(app.shutdown.first_request_is_late()));
        }
        // Before it is shut down, so that a request which has arrived is seen.
        if let Poll::Ready(ended) = Pin::new(&mut connection).poll(cx) {
            return Poll::Ready(Some(ended));
        }
        if let Some(first) = &mut late
            && (session.any_begun() || first.as_mut().poll(cx).is_ready())
        {
            late = None;
            Pin::new(&mut connection).graceful_shutdown();
            return Pin::new(&mut connection).poll(cx).map(Some);
        }
        match config.lean_front && !draining && session.can_leave_framework() {
            true => Poll::Ready(None),
            false => Poll::Pending,
        }
    });
    match ended.await {
        None => {
            let parts = connection.into_parts();
            let (stream, unread) = parts.io.into_inner().into_parts();
            Some((stream, [&parts.read_buf[..], &unread].concat()))
        }
        Some(Ok(())) => None,
        Some(Err(error)) => {
            debug!(peer = ?peer_address, %error, "connection ended with an error");
            // Without a request there is nothing to answer.
            if error.is_timeout() && !session.is_between_requests() {
                reply_header_timeout(connection.into_parts().io.into_inner().into_parts().0).await;
            }
            None
        }
    }
}

/// The body of a request. It tells the session when its receipt begins and ends.
struct ReceivedBody {
    body: Incoming,
    session: Arc<FrameworkSession>,
}

impl HttpBody for ReceivedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.session.request_body_is_read();
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.is_none() || self.body.is_end_stream() {
            self.session.request_body_ends();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The response with a body that tells the session when the framework drops it.
fn track(mut response: Response, session: Arc<FrameworkSession>) -> hyper::Response<TrackedBody> {
    let held = response.extensions_mut().remove();
    response.map(|body| TrackedBody { body, held, session })
}

struct TrackedBody {
    body: Body,
    held: Option<Arc<Held>>,
    session: Arc<FrameworkSession>,
}

impl HttpBody for TrackedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for TrackedBody {
    fn drop(&mut self) {
        self.session.response_ends(self.held.take());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test may unwrap

    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::http::{AppConfig, Collection, Shutdown};

    /// Tens of thousands of connections wait at a time: box what is rarely used.
    const MAX_BYTES: usize = 640;

    fn shared() -> Shared {
        let app = App::new([Collection::empty()], Shutdown::default(), AppConfig::smallest());
        let config = ServerConfig {
            header_timeout: Duration::ZERO,
            idle_timeout: Duration::ZERO,
            stall_timeout: Duration::ZERO,
            lean_front: true,
            max_connection_age: None,
            proxies: Default::default(),
        };
        Shared::new(app, config, None, Audience::Everybody)
    }

    #[tokio::test]
    async fn a_waiting_connection_is_small() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let shared = shared();
        let peer = shared.app.budgets.peer(stream.peer_addr().unwrap());
        let bytes = size_of_val(&serve(stream, &peer, &shared));
        assert!(bytes <= MAX_BYTES, "{bytes} bytes; the limit is {MAX_BYTES}");
    }
}
