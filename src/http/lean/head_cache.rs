//! The cache of response heads. The headers that change from second to second are in the tail.

use std::cell::RefCell;
use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::header::TRANSFER_ENCODING;
use bytes::Bytes;

use crate::http::api::breadcrumbs::NextRequest;
use crate::http::app::App;
use crate::http::lean::recent::Recent;
use crate::http::rep::reply::{AGE, Reply};
use crate::model::{Cursor, Sequence};
use crate::view::{Answer, Format, Next, Reason};

/// How many heads or responses each thread caches: those of the newest breadcrumb in the formats in use.
pub(super) const MAX_CACHED: usize = 8;

/// The values that determine a head.
#[derive(PartialEq)]
pub(super) struct HeadKey {
    /// Two apps of one process may have the same cursor.
    app: u64,
    collection: u64,
    cursor: Cursor,
    sequence: Sequence,
    reason: Reason,
    format: Format,
    at_once: bool,
    length: u64,
}

impl HeadKey {
    pub(super) fn new(app: &App, request: &NextRequest, answer: &Answer, at_once: bool) -> Self {
        let Answer { cursor, reason, sequence, ref body, format, .. } = *answer;
        let (app, collection) = (app.id, request.collection.id);
        Self { app, collection, cursor, sequence, reason, format, at_once, length: body.len() }
    }
}

thread_local! {
    static HEADS: RefCell<Recent<HeadKey, Bytes, MAX_CACHED>> = const { RefCell::new(Recent::new()) };
    /// The second, the age, and the tail with both.
    static TAIL: RefCell<(u64, Option<u64>, Bytes)> = const { RefCell::new((0, None, Bytes::new())) };
}

/// The head of an answer to a long poll of all keys, made once per thread.
pub(super) fn cached(app: &App, request: &NextRequest, answer: &Answer) -> Bytes {
    let key = HeadKey::new(app, request, answer, answer.at_once);
    HEADS.with_borrow_mut(|heads| {
        if let Some(cached) = heads.get(&key) {
            return cached.clone();
        }
        let reply = request.reply(app, Ok(Next::Answer(answer.clone())));
        let made = Bytes::from(head(&reply));
        heads.insert(key, made.clone());
        made
    })
}

/// The status line and the headers, without the tail.
pub(super) fn head(reply: &Reply) -> Vec<u8> {
    let status = reply.status();
    let mut head = Vec::with_capacity(768);
    let mut line = |parts: [&[u8]; 3]| parts.into_iter().for_each(|part| head.extend_from_slice(part));
    line([b"HTTP/1.1 ", status.as_str().as_bytes(), b" "]);
    line([status.canonical_reason().unwrap_or("Unknown").as_bytes(), b"\r\n", b""]);
    for (name, value) in reply.headers().iter().filter(|(name, _)| **name != AGE) {
        line([name.as_str().as_bytes(), b": ", value.as_bytes()]);
        line([b"\r\n", b"", b""]);
    }
    // A 204 has no Content-Length (RFC 9110, 8.6), nor has a chunked response.
    let is_chunked = reply.headers().contains_key(TRANSFER_ENCODING);
    if status != axum::http::StatusCode::NO_CONTENT && !is_chunked {
        let length = reply.body().len().to_string();
        line([b"content-length: ", length.as_bytes(), b"\r\n"]);
    }
    head
}

pub(super) fn age(reply: &Reply) -> Option<u64> {
    reply.headers().get(AGE)?.to_str().ok()?.parse().ok()
}

/// The headers that change from second to second, and the end of the head.
pub(super) fn tail(age: Option<u64>, now: SystemTime) -> Bytes {
    let second = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    TAIL.with_borrow_mut(|kept| {
        if (kept.0, kept.1) != (second, age) || kept.2.is_empty() {
            let mut tail = Vec::with_capacity(96);
            // Writing into memory does not fail.
            if let Some(age) = age {
                _ = write!(tail, "{AGE}: {age}\r\n");
            }
            _ = write!(tail, "date: {}\r\n\r\n", httpdate::HttpDate::from(now));
            *kept = (second, age, tail.into());
        }
        kept.2.clone()
    })
}
