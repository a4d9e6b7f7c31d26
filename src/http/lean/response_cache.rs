//! The cache of whole responses: thousands of clients get the same answer at the same moment.

use std::cell::RefCell;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use tokio::time::Instant;

use crate::http::api::breadcrumbs::NextRequest;
use crate::http::app::App;
use crate::http::lean::clock::time_of_day;
use crate::http::lean::head_cache::{self, HeadKey, MAX_CACHED};
use crate::http::lean::recent::Recent;
use crate::http::lean::respond::{MAX_SINGLE_WRITE, Written, try_write};
use crate::view::Answer;

struct CachedResponse {
    /// The values in its tail: the second since the epoch, and the age of the data.
    second: u64,
    age: u64,
    bytes: Bytes,
}

thread_local! {
    static RESPONSES: RefCell<Recent<HeadKey, CachedResponse, MAX_CACHED>> =
        const { RefCell::new(Recent::new()) };
}

/// Writes the answer to a long poll of all keys as far as possible without waiting, and counts it.
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
    if answer.body.len() > MAX_SINGLE_WRITE {
        return Written::TooLarge(Box::new(Answer { at_once, ..answer.clone() }));
    }
    let time = time_of_day(now);
    app.metrics.count_delivery(request.cursor, answer, at_once, time);
    let second = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    let age = request.collection.upstream.age_at(now.into_std()).as_secs();
    let key = HeadKey::new(app, request, answer, at_once);
    RESPONSES.with_borrow_mut(|responses| {
        let is_current = |cached: &&CachedResponse| (cached.second, cached.age) == (second, age);
        if let Some(cached) = responses.get(&key).filter(is_current) {
            return write_and_flush(stream, cx, &cached.bytes);
        }
        let bytes = response(app, request, &Answer { at_once, ..answer.clone() }, age, time);
        let written = write_and_flush(stream, cx, &bytes);
        responses.insert(key, CachedResponse { second, age, bytes });
        written
    })
}

fn response(app: &App, request: &NextRequest, answer: &Answer, age: u64, time: SystemTime) -> Bytes {
    let mut response = head_cache::cached(app, request, answer).to_vec();
    response.extend_from_slice(&head_cache::tail(Some(age), time));
    let parts = (0..).map_while(|run| answer.body.run(run)).flatten();
    parts.for_each(|part| response.extend_from_slice(part));
    response.into()
}

fn write_and_flush<S: AsyncWrite + Unpin>(stream: &mut S, cx: &mut Context<'_>, bytes: &Bytes) -> Written {
    match try_write(stream, cx, bytes) {
        Err(error) => Written::Failed(error),
        Ok(0) => match Pin::new(stream).poll_flush(cx) {
            Poll::Ready(Ok(())) => Written::All,
            Poll::Ready(Err(error)) => Written::Failed(error),
            Poll::Pending => Written::Rest(Bytes::new()),
        },
        Ok(left) => Written::Rest(bytes.slice(bytes.len() - left..)),
    }
}
