//! One connection: long polls wait in the lean front, everything else is the framework's.
//!
//! A connection begins in the [lean front](super::lean). What is a plain long poll waits there; at
//! the first byte that says otherwise the stream goes to hyper and axum, together with the bytes
//! that were read. When they have answered and hold nothing of it any more, it comes back: a client
//! that fetches the state and then polls for ever costs the framework's buffers only in between.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::CONNECTION;
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
use crate::http::budget::Room;
use crate::http::lean::{self, Left};
use crate::http::rep::problem::Problem;
use crate::http::router::router;
use crate::http::serve::connection_age::Age;
use crate::http::serve::header_timeout::HeaderTimer;
use crate::http::serve::listener::ServerConfig;
use crate::http::serve::transport::{Session, Transport};

/// What a client hears that did not send the head of a request in time; hyper itself only hangs up.
const TOO_SLOW: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nCache-Control: no-store\r\n\
    Content-Length: 0\r\n\r\n";

/// How long a client that is refused may take to say what it wanted.
const REFUSAL_WAIT: Duration = Duration::from_secs(1);

/// What all connections share.
pub(in crate::http) struct Shared {
    pub(in crate::http) app: App,
    pub(in crate::http) config: ServerConfig,
    /// How long a client may take nothing, where the system does not see to it.
    pub(in crate::http) stall: Option<Duration>,
    router: Router,
}

impl Shared {
    pub(in crate::http) fn new(app: App, config: ServerConfig, stall: Option<Duration>) -> Self {
        Self { router: router(app.clone()), app, config, stall }
    }
}

/// Serves a connection until it ends.
pub(in crate::http) async fn serve<S>(mut stream: S, shared: &Shared)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut read, mut fresh) = (Vec::new(), true);
    let age = Age::begin(shared.config.max_connection_age);
    loop {
        if shared.config.lean_front {
            match lean::serve(&mut stream, &mut read, shared, fresh, &age).await {
                Left::Other => {}
                Left::Nothing => return,
                Left::TooSlow => return too_slow(stream).await,
            }
        }
        fresh = false;
        // Boxed: a connection that waits in the lean front does not hold room for the framework.
        let framed = Box::pin(framework(stream, std::mem::take(&mut read).into(), shared, age)).await;
        match framed {
            Some((back, rest)) => (stream, read) = (back, rest.into()),
            None => return,
        }
    }
}

async fn too_slow(mut stream: impl AsyncWrite + Unpin) {
    // The client was too slow, and may well be gone.
    _ = stream.write_all(TOO_SLOW).await;
    _ = stream.shutdown().await;
}

/// Tells a client why it is not served, once it has said something: an answer to an unasked
/// question is lost when the question arrives after it.
pub(in crate::http) async fn refuse(mut stream: impl AsyncRead + AsyncWrite + Unpin, problem: Problem) {
    let mut unread = [0; 1024];
    _ = tokio::time::timeout(REFUSAL_WAIT, stream.read(&mut unread)).await;
    let mut reply = problem.into_reply();
    lean::close(&mut reply);
    _ = lean::write_reply(&mut stream, &reply, Some(REFUSAL_WAIT)).await;
    _ = stream.shutdown().await;
}

/// Lets the framework serve the connection, until it ends or could be taken back.
async fn framework<S>(stream: S, before: Bytes, shared: &Shared, age: Age) -> Option<(S, Bytes)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Shared { app, config, stall, router } = shared;
    let transport = Transport::new(stream, before, *stall);
    let session = Arc::clone(&transport.session);
    let tracked = Arc::clone(&session);
    let routes = TowerToHyperService::new(router.clone());
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        // For an answer that may last longer.
        request.extensions_mut().insert(age);
        tracked.request_begins(!request.body().is_end_stream());
        let (answered, session) = (routes.call(request), Arc::clone(&tracked));
        async move {
            let mut response = answered.await?;
            if age.is_over() {
                session.is_last();
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(track(response, session))
        }
    });
    let mut connection = http1::Builder::new()
        .timer(HeaderTimer::new(&session, config))
        .header_read_timeout(config.header_timeout)
        .serve_connection(TokioIo::new(transport), service);
    let mut begun = std::pin::pin!(app.shutdown.begun());
    let mut draining = false;
    let ended = poll_fn(|cx| {
        if !draining && begun.as_mut().poll(cx).is_ready() {
            draining = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        match Pin::new(&mut connection).poll(cx) {
            Poll::Ready(ended) => Poll::Ready(Some(ended)),
            Poll::Pending if config.lean_front && !draining && session.is_idle() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    });
    match ended.await {
        None => {
            let parts = connection.into_parts();
            let (stream, before) = parts.io.into_inner().into_parts();
            Some((stream, joined(parts.read_buf, before)))
        }
        Some(Ok(())) => None,
        Some(Err(error)) => {
            debug!(%error, "connection ended");
            // Who only rested is owed no answer.
            if error.is_timeout() && !session.is_resting() {
                too_slow(connection.into_parts().io.into_inner().into_parts().0).await;
            }
            None
        }
    }
}

fn joined(first: Bytes, second: Bytes) -> Bytes {
    match (first.is_empty(), second.is_empty()) {
        (_, true) => first,
        (true, false) => second,
        (false, false) => [first, second].concat().into(),
    }
}

/// Notices when the framework is done with a response's body.
fn track(mut response: Response, session: Arc<Session>) -> hyper::Response<Tracked> {
    let permit = response.extensions_mut().remove();
    response.map(|body| Tracked { body, permit, session })
}

struct Tracked {
    body: Body,
    permit: Option<Arc<Room>>,
    session: Arc<Session>,
}

impl HttpBody for Tracked {
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

impl Drop for Tracked {
    fn drop(&mut self) {
        self.session.response_ends(self.permit.take());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test may unwrap

    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::http::{AppConfig, Collection, Limits, Shutdown};

    /// Tens of thousands of connections wait in it: what is rarely needed belongs into a box.
    const MOST_BYTES: usize = 640;

    fn shared() -> Shared {
        let limits =
            Limits { max_connections: 1, max_waiters: 1, max_snapshot_bytes: 1, max_upload_bytes: 1 };
        let config = AppConfig {
            max_body_bytes: 1,
            stall_timeout: Duration::from_secs(1),
            limits,
            heartbeat: Duration::MAX,
        };
        let app = App::new([Collection::of_nothing()], Shutdown::default(), config);
        let config = ServerConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            header_timeout: Duration::ZERO,
            idle_timeout: Duration::ZERO,
            stall_timeout: Duration::ZERO,
            lean_front: true,
            max_connection_age: None,
        };
        Shared::new(app, config, None)
    }

    #[tokio::test]
    async fn a_connection_that_waits_is_small() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let shared = shared();
        let bytes = size_of_val(&serve(stream, &shared));
        assert!(bytes <= MOST_BYTES, "{bytes} bytes, at most {MOST_BYTES}");
    }
}
