//! Writing of answers.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use axum::http::HeaderValue;
use axum::http::header::CONNECTION;
use bytes::Bytes;
use tokio::io::{AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::http::access_log::Line;
use crate::http::api::breadcrumbs::{NextRequest, Outcome};
use crate::http::lean::head_cache;
use crate::http::rep::reply::Reply;
use crate::http::serve::connection::Shared;
use crate::view::{Answer, Body, Next};

/// Parts in one vectored write.
const PARTS: usize = 16;

/// Answers up to this size are copied together first, which costs less than a vectored write.
const SMALL: usize = 2048;

/// Larger bodies are not written with one call, but in their parts.
pub(super) const MAX_SINGLE_WRITE: u64 = 32 * 1024;

/// The progress of a write that does not wait.
pub(super) enum Written {
    /// Everything is written.
    All,
    /// These bytes are left. If there are none, the stream has to be flushed.
    Rest(Bytes),
    /// The client is gone.
    Failed(io::Error),
    /// Nothing is written: the body is larger than [`MAX_SINGLE_WRITE`].
    TooLarge(Box<Answer>),
}

/// Answers a long poll. `last` says that it is the last answer of the connection. Returns whether the connection may be
/// used again.
pub(super) async fn answer<S>(
    stream: &mut S,
    shared: &Shared,
    request: &NextRequest,
    outcome: Outcome,
    last: bool,
    line: &mut Option<Box<Line>>,
) -> io::Result<bool>
where
    S: AsyncWrite + Unpin,
{
    let (app, stall) = (&shared.app, shared.stall);
    if let Ok(Next::Answer(answer)) = &outcome
        && request.scope.is_everything()
        && !last
    {
        app.metrics.count_answer(200, Some(answer.mode), Some(answer.reason));
        if let Some(line) = line {
            line.is_answered_with(answer);
        }
        // Thousands of clients get the same answer, so its head is cached.
        let head = head_cache::cached(app, request, answer);
        let tail = head_cache::tail(Some(request.collection.upstream.age().as_secs()), SystemTime::now());
        write_all(stream, &head, &tail, &answer.body, stall).await?;
        line.iter_mut().for_each(|line| line.is_complete = true);
        return Ok(true);
    }
    let mut reply = request.reply(app, outcome);
    if last {
        close(&mut reply);
    }
    app.metrics.count_reply(&reply);
    if let Some(line) = line {
        line.is_answered(reply.status().as_u16(), reply.headers());
        line.bytes = reply.body().len();
    }
    let keep_alive = !reply.headers().contains_key(CONNECTION);
    write_reply(stream, &reply, stall).await?;
    line.iter_mut().for_each(|line| line.is_complete = true);
    Ok(keep_alive)
}

/// Writes as many bytes as possible without waiting. Returns how many are left.
pub(super) fn try_write<S>(stream: &mut S, cx: &mut Context<'_>, bytes: &[u8]) -> io::Result<usize>
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

/// Writes the rest of an answer.
pub(super) async fn write_rest<S>(stream: &mut S, rest: &[u8], stall: Option<Duration>) -> io::Result<()>
where
    S: AsyncWrite + Unpin,
{
    write_all(stream, rest, &[], &Body::from(Vec::new()), stall).await
}

/// Adds `Connection: close`.
pub(in super::super) fn close(reply: &mut Reply) {
    reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
}

/// Writes any reply.
///
/// # Errors
/// When the client is gone, or reads nothing for the `stall` time.
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
        &head_cache::head(reply),
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
    let mut unwritten = Unwritten { heads: [head, tail], body, run: 0, at: 0, written: 0 };
    // Nearly always the socket takes everything at once, and no timer is needed.
    match poll_fn(|cx| Poll::Ready(unwritten.poll_write(stream, cx))).await {
        Poll::Ready(done) => done,
        Poll::Pending => Box::pin(write_slowly(stream, &mut unwritten, stall)).await,
    }
}

/// Writes the rest to a slow client, with the stall timeout.
async fn write_slowly<S>(
    stream: &mut S,
    unwritten: &mut Unwritten<'_>,
    stall: Option<Duration>,
) -> io::Result<()>
where
    S: AsyncWrite + Unpin,
{
    let Some(stall) = stall else { return poll_fn(|cx| unwritten.poll_write(stream, cx)).await };
    let mut timer = std::pin::pin!(tokio::time::sleep(stall));
    poll_fn(|cx| {
        let before = (unwritten.run, unwritten.at, unwritten.written);
        if let Poll::Ready(done) = unwritten.poll_write(stream, cx) {
            return Poll::Ready(done);
        }
        if before != (unwritten.run, unwritten.at, unwritten.written) {
            timer.as_mut().reset(Instant::now() + stall);
        }
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    })
    .await
}

/// The unwritten rest of an answer.
struct Unwritten<'a> {
    /// The parts before the body.
    heads: [&'a [u8]; 2],
    body: &'a Body,
    /// The current run of the body, the next part in it, and how many bytes of that part are written.
    run: usize,
    at: usize,
    written: usize,
}

impl<'a> Unwritten<'a> {
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
            // On the stack, so that a waiting connection does not hold it.
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
