//! A client of HTTP/2 that hides nothing: windows, resets, GOAWAY.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::http::{Request, StatusCode};
use bytes::Bytes;
use h2::RecvStream;
use h2::client::{Builder, ResponseFuture, SendRequest};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::JoinHandle;

use crate::support::daemon::{Daemon, Stream};
use crate::support::in_time;

/// A connection.
pub struct Connection {
    pub requests: SendRequest<Bytes>,
    authority: String,
    /// Ends with the connection.
    pub driver: JoinHandle<Result<(), h2::Error>>,
}

impl Connection {
    pub async fn to(daemon: &Daemon) -> Connection {
        Connection::over(daemon, daemon.connect().await, &Builder::new()).await
    }

    pub async fn with(daemon: &Daemon, builder: &Builder) -> Connection {
        Connection::over(daemon, daemon.connect().await, builder).await
    }

    pub async fn over(
        daemon: &Daemon,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        builder: &Builder,
    ) -> Connection {
        let handshake = in_time("a handshake", builder.handshake(stream)).await;
        let (requests, connection) = handshake.unwrap();
        let driver = tokio::spawn(connection);
        Connection { requests, authority: daemon.address().to_owned(), driver }
    }

    /// Begins a request. The answer is polled or dropped by the test.
    pub async fn begin(&mut self, path: &str) -> Result<ResponseFuture, h2::Error> {
        self.begin_with(path, &[]).await
    }

    pub async fn begin_with(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<ResponseFuture, h2::Error> {
        let mut request = Request::get(format!("http://{}{path}", self.authority));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).unwrap();
        let mut ready = in_time("room for a stream", self.requests.clone().ready()).await?;
        Ok(ready.send_request(request, true)?.0)
    }

    /// The status and body of one answer.
    pub async fn get(&mut self, path: &str) -> Result<(StatusCode, Vec<u8>), h2::Error> {
        let answer = self.begin(path).await?;
        whole(answer).await
    }

    /// Waits until the daemon has ended the connection without an error.
    pub async fn ends_well(self) {
        let Connection { requests, driver, .. } = self;
        let ended = in_time("the end of the connection", driver).await.unwrap();
        drop(requests);
        ended.expect("a connection that ends in order");
    }
}

pub async fn whole(answer: ResponseFuture) -> Result<(StatusCode, Vec<u8>), h2::Error> {
    let (head, mut body) = in_time("an answer", answer).await?.into_parts();
    let mut read = Vec::new();
    while let Some(bytes) = in_time("a part of a body", body.data()).await {
        take(&mut body, bytes?, &mut read);
    }
    Ok((head.status, read))
}

/// Lets the daemon send as much more as these bytes were.
pub fn take(body: &mut RecvStream, bytes: Bytes, into: &mut Vec<u8>) {
    body.flow_control().release_capacity(bytes.len()).unwrap();
    into.extend_from_slice(&bytes);
}

/// A stream that writes one byte at a time.
pub struct Trickle(pub Box<dyn Stream>);

impl AsyncRead for Trickle {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

impl AsyncWrite for Trickle {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, &bytes[..bytes.len().min(1)])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
