//! Writing an answer.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use axum::http::HeaderValue;
use axum::http::header::CONNECTION;
use tokio::io::{AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::http::api::breadcrumbs::{NextRequest, Outcome};
use crate::http::lean::head_cache;
use crate::http::rep::reply::Reply;
use crate::http::serve::connection::Shared;
use crate::view::{Body, Next};

/// Parts that are handed to the system at a time.
const PARTS: usize = 16;

/// Answers up to this size are put together first: copying them costs less than a list of parts.
const SMALL: usize = 2048;

/// Answers a long poll, with the `last` answer of the connection if it is that; says whether the connection may be used again.
pub(super) async fn answer<S>(
    stream: &mut S,
    shared: &Shared,
    request: &NextRequest,
    outcome: Outcome,
    last: bool,
) -> io::Result<bool>
where
    S: AsyncWrite + Unpin,
{
    let (app, stall) = (&shared.app, shared.stall);
    if let Ok(Next::Answer(answer)) = &outcome
        && request.scope.is_everything()
        && !last
    {
        app.metrics.answered_as(200, Some(answer.mode), Some(answer.reason));
        // Thousands get the same answer: its head is made once.
        let head = head_cache::shared(app, request, answer);
        let tail = head_cache::tail(Some(request.collection.upstream.age().as_secs()), SystemTime::now());
        return write_all(stream, &head, &tail, &answer.body, stall).await.map(|()| true);
    }
    let mut reply = request.reply(app, outcome);
    if last {
        close(&mut reply);
    }
    app.metrics.answered(reply.status().as_u16(), reply.headers());
    let keep_alive = !reply.headers().contains_key(CONNECTION);
    write_reply(stream, &reply, stall).await.map(|()| keep_alive)
}

/// Writes a piece of an answer, as far as that goes without waiting; says how much is left.
pub(super) fn write_now<S>(stream: &mut S, cx: &mut Context<'_>, bytes: &[u8]) -> io::Result<usize>
where
    S: AsyncWrite + Unpin,
{
    match Pin::new(&mut *stream).poll_write(cx, bytes) {
        Poll::Ready(Ok(0)) => Err(io::ErrorKind::WriteZero.into()),
        Poll::Ready(Ok(taken)) => Ok(bytes.len() - taken),
        Poll::Ready(Err(error)) => Err(error),
        Poll::Pending => Ok(bytes.len()),
    }
}

/// Writes what is left of an answer.
pub(super) async fn rest<S>(stream: &mut S, rest: &[u8], stall: Option<Duration>) -> io::Result<()>
where
    S: AsyncWrite + Unpin,
{
    write_all(stream, rest, &[], &Body::from(Vec::new()), stall).await
}

/// Says in the reply that the connection ends with it.
pub(in super::super) fn close(reply: &mut Reply) {
    reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
}

/// Writes any reply.
///
/// # Errors
/// When the client is gone, or takes nothing for that long (where that is said).
pub(in super::super) async fn write_reply<S>(
    stream: &mut S,
    reply: &Reply,
    stall: Option<Duration>,
) -> io::Result<()>
where
    S: AsyncWrite + Unpin,
{
    write_all(
        stream,
        &head_cache::of(reply),
        &head_cache::tail(head_cache::age(reply), SystemTime::now()),
        reply.body(),
        stall,
    )
    .await
}

async fn write_all<S>(
    stream: &mut S,
    head: &[u8],
    tail: &[u8],
    body: &Body,
    stall: Option<Duration>,
) -> io::Result<()>
where
    S: AsyncWrite + Unpin,
{
    let mut left = Left { heads: [head, tail], body, run: 0, at: 0, written: 0 };
    // Nearly always the system takes everything at once, and no timer is needed.
    let Some(done) = poll_fn(|cx| Poll::Ready(at_once(left.poll_write(stream, cx)))).await else {
        return Box::pin(write_slowly(stream, &mut left, stall)).await;
    };
    done
}

fn at_once(written: Poll<io::Result<()>>) -> Option<io::Result<()>> {
    match written {
        Poll::Ready(done) => Some(done),
        Poll::Pending => None,
    }
}

/// Writes the rest to a client that takes it slowly, or at last not at all.
async fn write_slowly<S>(stream: &mut S, left: &mut Left<'_>, stall: Option<Duration>) -> io::Result<()>
where
    S: AsyncWrite + Unpin,
{
    let Some(stall) = stall else { return poll_fn(|cx| left.poll_write(stream, cx)).await };
    let mut timer = std::pin::pin!(tokio::time::sleep(stall));
    poll_fn(|cx| {
        let before = (left.run, left.at, left.written);
        if let Poll::Ready(done) = left.poll_write(stream, cx) {
            return Poll::Ready(done);
        }
        if before != (left.run, left.at, left.written) {
            timer.as_mut().reset(Instant::now() + stall);
        }
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    })
    .await
}

/// What is left to write.
struct Left<'a> {
    /// They stand before the body's first run.
    heads: [&'a [u8]; 2],
    body: &'a Body,
    /// The run of the body, the part that comes next, and how much of it is written already.
    run: usize,
    at: usize,
    written: usize,
}

impl<'a> Left<'a> {
    fn part(&self, index: usize) -> Option<&'a [u8]> {
        let heads = if self.run == 0 { &self.heads[..] } else { &[] };
        let in_body = || self.body.run(self.run)?.get(index - heads.len()).map(|part| &part[..]);
        heads.get(index).copied().or_else(in_body)
    }

    fn poll_write<S>(&mut self, stream: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        S: AsyncWrite + Unpin,
    {
        while self.run == 0 || self.body.run(self.run).is_some() {
            if let Some(taken) = self.poll_write_small(stream, cx) {
                self.advance(ready!(taken)?);
                continue;
            }
            // On the stack while the system copies: a connection that waits does not hold it.
            let mut slices = [IoSlice::new(&[]); PARTS];
            let mut filled = 0;
            while let Some(bytes) = self.part(self.at + filled).filter(|_| filled < PARTS) {
                slices[filled] = IoSlice::new(if filled == 0 { &bytes[self.written..] } else { bytes });
                filled += 1;
            }
            let taken = ready!(Pin::new(&mut *stream).poll_write_vectored(cx, &slices[..filled]))?;
            if taken == 0 && slices.iter().any(|slice| !slice.is_empty()) {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(taken);
        }
        Pin::new(stream).poll_flush(cx)
    }

    /// Writes a small answer in one piece.
    fn poll_write_small<S>(&self, stream: &mut S, cx: &mut Context<'_>) -> Option<Poll<io::Result<usize>>>
    where
        S: AsyncWrite + Unpin,
    {
        let length = self.heads.iter().map(|head| head.len()).sum::<usize>() as u64 + self.body.len();
        if self.run > 0 || length > SMALL as u64 {
            return None;
        }
        let mut whole = [MaybeUninit::uninit(); SMALL];
        let mut whole = ReadBuf::uninit(&mut whole);
        for index in self.at.. {
            let Some(part) = self.part(index) else { break };
            whole.put_slice(if index == self.at { &part[self.written..] } else { part });
        }
        let taken = Pin::new(stream).poll_write(cx, whole.filled());
        Some(taken.map(|taken| match taken {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            taken => taken,
        }))
    }

    fn advance(&mut self, taken: usize) {
        self.written += taken;
        while let Some(bytes) = self.part(self.at).filter(|bytes| bytes.len() <= self.written) {
            self.written -= bytes.len();
            self.at += 1;
        }
        if self.part(self.at).is_none() {
            (self.run, self.at) = (self.run + 1, 0);
        }
    }
}
