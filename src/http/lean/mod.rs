//! The lean front: long polls and streams without the HTTP framework.
//!
//! Nearly every request is a long poll or a stream, and nearly every connection waits for a breadcrumb. A framework
//! serves any request and keeps, for a connection that waits, what any request might need: two
//! buffers of 8 KiB and its state. Here a waiting connection is a cursor and a timer.
//!
//! Only a request that is plain in every respect is taken here (`request.rs`); whatever
//! is not, or is ambiguous in the least, goes to the framework with all its bytes, unanswered. What
//! the answer is, is decided in one place for both
//! ([`NextRequest::reply`](super::breadcrumbs::NextRequest::reply)); here it is only written
//! (`respond.rs`, and `response_cache.rs` for the answer that thousands get at once). A stream is parked like a long poll (`stream.rs`), and
//! what it tells is decided by [`Session`](super::stream::Session), for both fronts too. A differential test
//! sends the same bytes to both.
//!
//! # What a wake costs
//!
//! With thousands of connections nothing that belongs to one of them is in the processor's cache when its
//! turn comes. So what is done between two waits is plain code in one place (`front.rs`) with its state side
//! by side; the clock is asked once per turn; requests that are the same are one object; and the rare
//! ways lie in boxes that are made when they are needed. Measured against futures within futures: a third
//! fewer instructions, and a third fewer lines of cache.

mod clock;
mod deadline;
mod front;
mod head_cache;
mod request;
mod respond;
mod response_cache;
mod stream;

use std::future::poll_fn;
use std::pin::pin;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

use crate::http::serve::connection::Shared;
use crate::http::serve::connection_age::Age;
use crate::view::TryNext;
use front::{Front, Waited};
use request::PlainRequest;
pub(super) use respond::{close, write_reply};
use response_cache::Written;

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
    fresh: bool,
    age: &Age,
) -> Left
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let app = &shared.app;
    let mut front = Front::new(stream, read, shared, fresh);
    // The clock, while what it said is still now.
    let mut now = None;
    loop {
        let request = match poll_fn(|cx| front.poll_request(now.take(), cx)).await {
            Ok(PlainRequest::Next(request)) => request,
            Ok(PlainRequest::Stream(request)) => {
                // Boxed: a long poll is not to be larger for it.
                if !Box::pin(stream::serve(&mut front, &request, age)).await {
                    _ = front.stream.shutdown().await;
                    return Left::Nothing;
                }
                front.rests_from(Instant::now());
                continue;
            }
            Err(left) => return left,
        };
        let mut looked = Instant::now();
        front.deadline.wait_until(request.wait.deadline_from(looked));
        // Who finds no room is told so where everything else is told.
        let waiter = app.budgets.waiter().ok().filter(|_| request.is_common());
        let mut at_once = true;
        let done = loop {
            if waiter.is_none() || front.is_last(age, looked) {
                break None;
            }
            let next = match poll_fn(|cx| front.try_answer(&request, at_once, looked, cx)).await {
                TryNext::Answered(written) => break Some(written),
                TryNext::Pending(next) => next,
                TryNext::Unknown => break None,
            };
            let mut came = pin!(next.came());
            now = Some(looked);
            match poll_fn(|cx| front.poll_waited(came.as_mut(), now.take(), cx)).await {
                Waited::Came => (at_once, looked) = (false, Instant::now()),
                Waited::Unclear => break None,
                Waited::Gone => return Left::Nothing,
            }
        };
        drop(waiter);
        let keep_alive = match done {
            Some(Written::All) => true,
            Some(unfinished) => Box::pin(front.finish(&request, unfinished, &mut looked)).await,
            None => Box::pin(front.answer(&request, at_once, age, &mut looked)).await,
        };
        if !keep_alive {
            // Whatever was not written will not be: the client is gone or takes nothing.
            _ = front.stream.shutdown().await;
            return Left::Nothing;
        }
        front.rests_from(looked);
        now = Some(looked);
    }
}
