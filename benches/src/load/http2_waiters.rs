//! Many waiters over few connections of HTTP/2, each a stream.
//!
//! A waiter does not come back: a connection that ends while it is measured is a failure.

use std::sync::Arc;

use bytes::Bytes;
use h2::client::{SendRequest, handshake};
use http::Request;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::crowd::Crowd;
use super::{Board, Heard, LoadError, Target, numbers_in};

/// The waiters on one connection.
const STREAMS: usize = 100;

impl Crowd {
    /// Starts so many waiters that long-poll crumbd from this cursor, 100 on each connection.
    pub fn over_http2(target: &Target, cursor: &str, waiters: usize, board: Arc<Board>) -> Self {
        let mut tasks = JoinSet::new();
        for first in (0..waiters).step_by(STREAMS) {
            let streams = first..waiters.min(first + STREAMS);
            let (target, cursor, board) = (target.clone(), cursor.to_owned(), Arc::clone(&board));
            tasks.spawn(async move {
                let Err(error) = connection(&target, &cursor, streams, &board).await;
                board.has_failed(error.to_string());
            });
        }
        Self::of(tasks)
    }
}

/// Serves the waiters of one connection for ever.
async fn connection(
    target: &Target,
    cursor: &str,
    waiters: std::ops::Range<usize>,
    board: &Arc<Board>,
) -> Result<std::convert::Infallible, LoadError> {
    let stream = TcpStream::connect(target.address()).await?;
    stream.set_nodelay(true)?;
    let (requests, connection) = handshake(stream).await.map_err(failed)?;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { Err(connection.await.map_or_else(failed, |()| LoadError::Closed)) });
    for waiter in waiters {
        let base = format!("http://{}/v1/breadcrumbs/", target.authority());
        tasks.spawn(wait(requests.clone(), base, cursor.to_owned(), waiter, Arc::clone(board)));
    }
    match tasks.join_next().await {
        Some(Ok(ended)) => ended,
        _ => Err(LoadError::Closed),
    }
}

fn failed(error: h2::Error) -> LoadError {
    LoadError::Answer(error.to_string())
}

async fn wait(
    requests: SendRequest<Bytes>,
    base: String,
    mut cursor: String,
    waiter: usize,
    board: Arc<Board>,
) -> Result<std::convert::Infallible, LoadError> {
    let unusable = |what: &str| LoadError::Answer(format!("the answer has no {what}"));
    let mut has_asked = false;
    loop {
        let request = Request::get(format!("{base}{cursor}/next?wait=29s"));
        let request = request.header("accept", "application/json").body(());
        let request = request.map_err(|error| LoadError::Answer(error.to_string()))?;
        let mut ready = requests.clone().ready().await.map_err(failed)?;
        let (answer, _) = ready.send_request(request, true).map_err(failed)?;
        if !has_asked {
            has_asked = true;
            board.has_asked();
        }
        let (head, mut body) = answer.await.map_err(failed)?.into_parts();
        let mut read = Vec::new();
        while let Some(bytes) = body.data().await {
            let bytes = bytes.map_err(failed)?;
            body.flow_control().release_capacity(bytes.len()).map_err(failed)?;
            read.extend_from_slice(&bytes);
        }
        let next = head.headers.get("crumbd-cursor").and_then(|value| value.to_str().ok());
        next.ok_or_else(|| unusable("Crumbd-Cursor"))?.clone_into(&mut cursor);
        match head.status.as_u16() {
            204 => board.was_idle(),
            200 => {
                let (last, count) = numbers_in(&read).ok_or_else(|| unusable("number"))?;
                board.heard(waiter, Heard { last, count: Some(count) }, read.len() as u64);
            }
            status => return Err(LoadError::Answer(format!("a waiter was answered {status}"))),
        }
    }
}
