//! The lean front: long polls and streams without the HTTP framework.
//!
//! Nearly every request is a long poll or a stream, and nearly every connection waits for a breadcrumb. The framework
//! keeps two buffers of 8 KiB and its state for a waiting connection. Here a waiting connection is a cursor and a timer.
//!
//! The lean front takes plain requests only (`request.rs`). Any other or ambiguous request goes to the framework, with
//! all its bytes. Both fronts share the code that decides the answer:
//! [`NextRequest::reply`](super::api::breadcrumbs::NextRequest::reply) and
//! [`StreamSession`](super::api::stream::StreamSession). The lean front only writes it (`respond.rs`, and
//! `response_cache.rs` for the answer that thousands of clients get at once). A differential test sends the same bytes to
//! both fronts.
//!
//! # The cost of a wake
//!
//! With thousands of connections, nothing of a connection is in the processor's cache when it wakes. So the code between
//! two waits is in one place (`front.rs`) with its state side by side; the clock is read once per wake; equal requests
//! share one object; and rare cases are in boxes that are allocated when needed. Compared with nested futures this takes
//! a third fewer instructions and a third fewer cache lines.

mod clock;
mod deadline;
mod front;
mod head_cache;
mod recent;
mod request;
mod respond;
mod response_cache;
mod stream;

use std::future::poll_fn;
use std::pin::pin;

use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use crate::http::budget::HeadBytes;
use crate::http::client::Peer;
use crate::http::serve::connection::Shared;
use crate::http::serve::connection_age::ConnectionAge;
use crate::http::serve::read_ahead::Socket;
use crate::view::TryNext;
use front::{Front, WaitEnd};
use request::PlainRequest;
pub(super) use request::plain_next;
use respond::Written;
pub(super) use respond::{close, write_reply};

/// The reason for which the lean front has stopped serving a connection.
pub(super) enum LeanOutcome {
    /// A request for the framework; its bytes are unread.
    OtherRequest,
    /// The connection is closed.
    Closed,
    /// The head of a request exceeded the header timeout.
    HeaderTimeout,
}

/// Serves long polls and streams until another request arrives. `unread` are bytes that were received and not parsed.
/// `is_new` says that the connection had no request yet. The first answer after the `age` is reached is the last.
pub(super) async fn serve<S>(
    stream: &mut S,
    unread: &mut Vec<u8>,
    peer: &Peer,
    shared: &Shared,
    is_new: bool,
    age: &ConnectionAge,
) -> LeanOutcome
where
    S: Socket,
{
    let app = &shared.app;
    let mut front = Front::new(stream, unread, peer, shared, is_new);
    // The time, while it was read in this poll of the task.
    let mut now = None;
    loop {
        let request = match poll_fn(|cx| front.poll_request(now.take(), cx)).await {
            Ok(PlainRequest::Next(request)) => request,
            Ok(PlainRequest::Stream(request)) => {
                // Boxed to keep long polls small.
                if !Box::pin(stream::serve(&mut front, request, age)).await {
                    _ = front.stream.shutdown().await;
                    return LeanOutcome::Closed;
                }
                front.start_keep_alive(Instant::now());
                continue;
            }
            Err(outcome) => return outcome,
        };
        if let Err(problem) = app.budgets.request(app.client(request.scope.grant(), peer)) {
            if !Box::pin(front.refuse(&request, problem, age)).await {
                _ = front.stream.shutdown().await;
                return LeanOutcome::Closed;
            }
            front.start_keep_alive(Instant::now());
            continue;
        }
        request.note(app, peer);
        let mut line = request.line(app, peer);
        let mut woken = Instant::now();
        front.deadline.wait_until(request.wait.deadline_from(woken));
        // `front.answer` refuses a request over the budget.
        let waiter = match request.is_common() {
            true => app.budgets.waiter(&**peer.client(), request.scope.keys(), HeadBytes::default()).ok(),
            false => None,
        };
        let mut at_once = true;
        let written = loop {
            if waiter.is_none() || front.is_last(age, woken) {
                break None;
            }
            let next = match poll_fn(|cx| front.try_answer(&request, at_once, woken, &mut line, cx)).await {
                TryNext::Answered(written) => break Some(written),
                TryNext::Pending(next) => next,
                TryNext::Unknown => break None,
            };
            let mut arrived = pin!(next.arrived());
            now = Some(woken);
            match poll_fn(|cx| front.poll_wait(arrived.as_mut(), now.take(), cx)).await {
                WaitEnd::Breadcrumb => (at_once, woken) = (false, Instant::now()),
                WaitEnd::Other => break None,
                WaitEnd::Disconnected => return LeanOutcome::Closed,
            }
        };
        drop(waiter);
        let keep_alive = match written {
            Some(Written::All) => {
                line.iter_mut().for_each(|line| line.is_complete = true);
                true
            }
            Some(unfinished) => Box::pin(front.finish(&request, unfinished, &mut woken, &mut line)).await,
            None => Box::pin(front.answer(&request, at_once, age, &mut woken, &mut line)).await,
        };
        drop(line);
        if !keep_alive {
            // The client is gone, reads nothing, or has its last answer.
            _ = front.stream.shutdown().await;
            return LeanOutcome::Closed;
        }
        front.start_keep_alive(woken);
        now = Some(woken);
    }
}
