//! The lean front: long polls without the HTTP framework.
//!
//! Nearly every request is a long poll, and nearly every connection waits for one. A framework
//! serves any request and keeps, for a connection that waits, what any request might need: two
//! buffers of 8 KiB and its state. Here a waiting connection is a cursor and a timer.
//!
//! Only a request that is a plain long poll in every respect is taken here (`request.rs`); whatever
//! is not, or is ambiguous in the least, goes to the framework with all its bytes, unanswered. What
//! the answer is, is decided in one place for both
//! ([`NextRequest::reply`](super::breadcrumbs::NextRequest::reply)); here it is only written
//! (`respond.rs`). A differential test sends the same bytes to both.

mod heads;
mod patience;
mod request;
mod respond;

use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::age::Age;
use super::breadcrumbs::{NextRequest, Outcome};
use super::connection::Shared;
use patience::{Ended, Patience};
use request::{Recognised, recognise};
pub(super) use respond::{close, write_reply};

/// How long a connection may rest between two requests.
const IDLE: Duration = Duration::from_secs(75);

/// Bytes that are read at a time, on the stack: a long poll's head is shorter, and nothing is
/// allocated before something came.
const CHUNK: usize = 2048;

/// Of requests that come while one waits, so much is read ahead.
const READ_AHEAD: usize = 8 * 1024;

/// What a connection came to that this front did not serve to its end.
pub(super) enum Left {
    /// A request that is not for this front; its bytes are unread.
    Other,
    /// The connection is over.
    Nothing,
    /// A request whose head did not come in time.
    TooSlow,
}

/// Answers long polls as long as nothing else comes. `read` holds bytes that were read and not
/// used; `fresh` says that the client owes a request; with the first answer beyond its `age` the
/// connection ends.
pub(super) async fn serve<S>(
    stream: &mut S,
    read: &mut Vec<u8>,
    shared: &Shared,
    mut fresh: bool,
    age: &Age,
) -> Left
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let header_timeout = shared.config.header_timeout;
    // Who has begun to send a head has no more time for it than who has just come.
    let time = |fresh: bool, read: &[u8]| if fresh || !read.is_empty() { header_timeout } else { IDLE };
    let mut patience = Patience::new(&shared.app, time(fresh, read));
    loop {
        let request = match recognise(read, &shared.app) {
            Recognised::Other => return Left::Other,
            Recognised::Next(request, used) => {
                use_up(read, used);
                request
            }
            Recognised::Incomplete => {
                let rested = read.is_empty();
                match more(stream, read, &mut patience).await {
                    Ok(0) | Err(Ended::Draining) if rested => return Left::Nothing,
                    // What is cut off in the middle is for the framework to judge.
                    Ok(0) | Err(Ended::Draining) => return Left::Other,
                    Err(Ended::Time) if rested && !fresh => return Left::Nothing,
                    Err(Ended::Time) => return Left::TooSlow,
                    Ok(_) if rested => patience.shorten(header_timeout),
                    Ok(_) => {}
                }
                continue;
            }
        };
        let Some(outcome) = wait(stream, read, &request, &mut patience).await else { return Left::Nothing };
        let answered = respond::answer(stream, shared, &request, outcome, age.is_over()).await;
        if !answered.is_ok_and(|keep_alive| keep_alive) {
            // Whatever was not written will not be: the client is gone or takes nothing.
            _ = stream.shutdown().await;
            return Left::Nothing;
        }
        fresh = false;
        patience.lengthen(time(fresh, read));
    }
}

/// Waits for what the request asks for; nothing when the client goes away.
async fn wait<S>(
    stream: &mut S,
    read: &mut Vec<u8>,
    request: &NextRequest,
    patience: &mut Patience<'_>,
) -> Option<Outcome>
where
    S: AsyncRead + Unpin,
{
    let app = patience.app;
    patience.wait_until(request.wait.deadline());
    let over = poll_fn(|cx| patience.poll_over(cx));
    tokio::select! {
        biased;
        outcome = request.follow(app, over) => Some(outcome),
        () = gone(stream, read) => None,
    }
}

/// Resolves when the client is gone. What it sends meanwhile is kept for later; who has sent more
/// requests before it closed its side, as the framework sees it, may want their answers.
async fn gone<S: AsyncRead + Unpin>(stream: &mut S, read: &mut Vec<u8>) {
    poll_fn(|cx| {
        while read.len() < READ_AHEAD {
            match ready!(poll_read(stream, read, cx)) {
                0 if read.is_empty() => return Poll::Ready(()),
                0 => return Poll::Pending,
                _ => continue,
            }
        }
        Poll::Pending
    })
    .await;
}

/// Reads more bytes and says how many; 0 when there will be none.
async fn more<S>(stream: &mut S, read: &mut Vec<u8>, patience: &mut Patience<'_>) -> Result<usize, Ended>
where
    S: AsyncRead + Unpin,
{
    poll_fn(|cx| match poll_read(stream, read, cx) {
        Poll::Ready(bytes) => Poll::Ready(Ok(bytes)),
        Poll::Pending => patience.poll_ended(cx).map(Err),
    })
    .await
}

fn poll_read<S>(stream: &mut S, read: &mut Vec<u8>, cx: &mut Context<'_>) -> Poll<usize>
where
    S: AsyncRead + Unpin,
{
    let mut chunk = [MaybeUninit::uninit(); CHUNK];
    let mut chunk = ReadBuf::uninit(&mut chunk);
    // A connection that fails is one that ends.
    if ready!(Pin::new(stream).poll_read(cx, &mut chunk)).is_err() {
        return Poll::Ready(0);
    }
    read.extend_from_slice(chunk.filled());
    Poll::Ready(chunk.filled().len())
}

/// Forgets bytes that were used, and gives their memory back when none are left.
fn use_up(read: &mut Vec<u8>, used: usize) {
    read.drain(..used);
    if read.is_empty() {
        *read = Vec::new();
    }
}
