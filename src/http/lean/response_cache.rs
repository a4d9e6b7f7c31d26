//! The answer that thousands get at the same moment, put together once per thread.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;
use tokio::time::Instant;

use crate::http::api::breadcrumbs::NextRequest;
use crate::http::app::App;
use crate::http::lean::clock::time_of_day;
use crate::http::lean::head_cache::{self, Subject};
use crate::view::Answer;

/// Larger answers are written in their parts.
const LARGEST: u64 = 32 * 1024;

/// Answers that each thread keeps: the newest breadcrumb's in the formats in use.
const KEPT: usize = 8;

/// How far writing has come.
pub(super) enum Written {
    /// To the end.
    All,
    /// The client has not taken this yet; when it is empty, the stream is still to be flushed.
    Rest(Bytes),
    /// The client is gone.
    Failed,
    /// Nothing is written: the answer is too large for it.
    TooLarge(Box<Answer>),
}

struct CachedResponse {
    subject: Subject,
    /// What its tail says: the second since the epoch, and the age of the data.
    second: u64,
    age: u64,
    bytes: Bytes,
}

thread_local! {
    static RESPONSES: RefCell<Vec<CachedResponse>> = const { RefCell::new(Vec::new()) };
    static OLDEST: Cell<usize> = const { Cell::new(0) };
}

/// Writes the answer to a request for everything, as far as that goes without waiting, and counts it.
pub(super) fn write<S>(
    stream: &mut S,
    cx: &mut Context<'_>,
    app: &App,
    request: &NextRequest,
    (answer, at_once): (&Answer, bool),
    now: Instant,
) -> Written
where
    S: AsyncWrite + Unpin,
{
    if answer.body.len() > LARGEST {
        return Written::TooLarge(Box::new(Answer { at_once, ..answer.clone() }));
    }
    let time = time_of_day(now);
    app.metrics.delivered(request.cursor, answer, at_once, time);
    let second = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    let age = request.collection.upstream.age_at(now.into_std()).as_secs();
    let subject = Subject::of(app, request, answer, at_once);
    RESPONSES.with_borrow_mut(|wholes| {
        let same =
            |kept: &&CachedResponse| (kept.second, kept.age) == (second, age) && kept.subject == subject;
        if let Some(whole) = wholes.iter().find(same) {
            return write_now(stream, cx, &whole.bytes);
        }
        let bytes = put_together(app, request, &Answer { at_once, ..answer.clone() }, age, time);
        let written = write_now(stream, cx, &bytes);
        keep(wholes, CachedResponse { subject, second, age, bytes });
        written
    })
}

fn put_together(app: &App, request: &NextRequest, answer: &Answer, age: u64, time: SystemTime) -> Bytes {
    let mut whole = head_cache::shared(app, request, answer).to_vec();
    whole.extend_from_slice(&head_cache::tail(Some(age), time));
    let parts = (0..).map_while(|run| answer.body.run(run)).flatten();
    parts.for_each(|part| whole.extend_from_slice(part));
    whole.into()
}

/// What was said of an earlier second, or before the oldest of the others, makes room.
fn keep(wholes: &mut Vec<CachedResponse>, whole: CachedResponse) {
    if let Some(same) = wholes.iter_mut().find(|kept| kept.subject == whole.subject) {
        *same = whole;
    } else if wholes.len() < KEPT {
        wholes.push(whole);
    } else {
        let oldest = OLDEST.get();
        wholes[oldest] = whole;
        OLDEST.set((oldest + 1) % KEPT);
    }
}

fn write_now<S: AsyncWrite + Unpin>(stream: &mut S, cx: &mut Context<'_>, bytes: &Bytes) -> Written {
    let taken = match Pin::new(&mut *stream).poll_write(cx, bytes) {
        Poll::Ready(Ok(0) | Err(_)) => return Written::Failed,
        Poll::Ready(Ok(taken)) => taken,
        Poll::Pending => 0,
    };
    if taken < bytes.len() {
        let mut rest = bytes.clone();
        rest.advance(taken);
        return Written::Rest(rest);
    }
    match Pin::new(stream).poll_flush(cx) {
        Poll::Ready(Ok(())) => Written::All,
        Poll::Ready(Err(_)) => Written::Failed,
        Poll::Pending => Written::Rest(Bytes::new()),
    }
}
