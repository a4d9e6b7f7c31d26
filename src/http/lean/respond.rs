//! Writing an answer.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::time::Duration;

use axum::http::HeaderValue;
use axum::http::header::CONNECTION;
use tokio::io::AsyncWrite;

use super::super::breadcrumbs::{NextRequest, Outcome};
use super::super::connection::Shared;
use super::super::reply::Reply;
use super::heads;
use crate::view::{Body, Next};

/// Parts that are handed to the system at a time.
const PARTS: usize = 64;

/// Answers a long poll; says whether the connection may be used again.
pub(super) async fn answer<S>(
    stream: &mut S,
    shared: &Shared,
    request: &NextRequest,
    outcome: Outcome,
) -> io::Result<bool>
where
    S: AsyncWrite + Unpin,
{
    let (app, stall) = (&shared.app, shared.config.stall_timeout);
    if let (Ok(Next::Answer(answer)), None) = (&outcome, &request.prefix) {
        // Thousands get the same answer: its head is made once.
        let (head, body) = (heads::shared(app, request, answer), answer.body.clone());
        let tail = heads::tail(Some(app.upstream.age().as_secs()));
        return write_all(stream, &head, &tail, &body, stall).await.map(|()| true);
    }
    let reply = request.reply(app, outcome);
    let keep_alive = !reply.headers().contains_key(CONNECTION);
    write_reply(stream, &reply, stall).await.map(|()| keep_alive)
}

/// Says in the reply that the connection ends with it.
pub(in super::super) fn close(reply: &mut Reply) {
    reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
}

/// Writes any reply.
///
/// # Errors
/// When the client is gone, or takes nothing for that long.
pub(in super::super) async fn write_reply<S>(stream: &mut S, reply: &Reply, stall: Duration) -> io::Result<()>
where
    S: AsyncWrite + Unpin,
{
    write_all(stream, &heads::of(reply), &heads::tail(heads::age(reply)), reply.body(), stall).await
}

async fn write_all<S>(
    stream: &mut S,
    head: &[u8],
    tail: &[u8],
    body: &Body,
    stall: Duration,
) -> io::Result<()>
where
    S: AsyncWrite + Unpin,
{
    let part = |index: usize| match index {
        0 => Some(head),
        1 => Some(tail),
        _ => body.parts().get(index - 2).map(|part| &part[..]),
    };
    // The part that is to be written next, and how much of it is written already.
    let (mut at, mut written) = (0, 0);
    while part(at).is_some() {
        let mut slices = [IoSlice::new(&[]); PARTS];
        let mut filled = 0;
        for slice in &mut slices {
            let Some(bytes) = part(at + filled) else { break };
            *slice = IoSlice::new(if filled == 0 { &bytes[written..] } else { bytes });
            filled += 1;
        }
        written += write_some(stream, &slices[..filled], stall).await?;
        while let Some(bytes) = part(at).filter(|bytes| bytes.len() <= written) {
            written -= bytes.len();
            at += 1;
        }
    }
    poll_fn(|cx| Pin::new(&mut *stream).poll_flush(cx)).await
}

async fn write_some<S>(stream: &mut S, slices: &[IoSlice<'_>], stall: Duration) -> io::Result<usize>
where
    S: AsyncWrite + Unpin,
{
    let mut taken = std::pin::pin!(poll_fn(|cx| Pin::new(&mut *stream).poll_write_vectored(cx, slices)));
    let mut at_once = std::pin::pin!(std::future::ready(()));
    // Nearly always the system takes everything at once, and no timer is needed.
    let first = tokio::select! {
        biased;
        first = &mut taken => Some(first),
        () = &mut at_once => None,
    };
    let result = match first {
        Some(result) => result,
        // Boxed: the timer is rarely needed.
        None => Box::pin(tokio::time::timeout(stall, taken)).await.map_err(|_| io::ErrorKind::TimedOut)?,
    };
    match result {
        Ok(0) if slices.iter().any(|slice| !slice.is_empty()) => Err(io::ErrorKind::WriteZero.into()),
        result => result,
    }
}
