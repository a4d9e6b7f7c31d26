//! Heads of answers, as bytes. What differs from answer to answer stands in the tail.

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::header::TRANSFER_ENCODING;
use bytes::Bytes;

use crate::http::api::breadcrumbs::NextRequest;
use crate::http::app::App;
use crate::http::rep::reply::{AGE, Reply};
use crate::model::{Cursor, Sequence};
use crate::view::{Answer, Format, Reason};

/// Heads that each thread keeps: the newest breadcrumb's in the formats in use.
const KEPT: usize = 8;

/// Everything that a head is made of.
#[derive(PartialEq)]
pub(super) struct Subject {
    /// Two daemons in one process may be at the same cursor by different ways.
    app: u64,
    collection: u64,
    cursor: Cursor,
    sequence: Sequence,
    reason: Reason,
    format: Format,
    at_once: bool,
    length: u64,
}

impl Subject {
    pub(super) fn of(app: &App, request: &NextRequest, answer: &Answer, at_once: bool) -> Self {
        let Answer { cursor, reason, sequence, ref body, format, .. } = *answer;
        let (app, collection) = (app.number, request.collection.number);
        Self { app, collection, cursor, sequence, reason, format, at_once, length: body.len() }
    }
}

thread_local! {
    static HEADS: RefCell<Vec<(Subject, Bytes)>> = const { RefCell::new(Vec::new()) };
    static OLDEST: Cell<usize> = const { Cell::new(0) };
    /// Second, age, tail.
    static TAIL: RefCell<(u64, Option<u64>, Bytes)> = const { RefCell::new((0, None, Bytes::new())) };
}

/// The head of an answer to a long poll of everything, made once per thread.
pub(super) fn shared(app: &App, request: &NextRequest, answer: &Answer) -> Bytes {
    let subject = Subject::of(app, request, answer, answer.at_once);
    let kept = HEADS
        .with_borrow(|heads| heads.iter().find(|(kept, _)| *kept == subject).map(|(_, head)| head.clone()));
    kept.unwrap_or_else(|| {
        let reply = request.reply(app, Ok(crate::view::Next::Answer(answer.clone())));
        let head = Bytes::from(of(&reply));
        keep(subject, head.clone());
        head
    })
}

fn keep(subject: Subject, head: Bytes) {
    HEADS.with_borrow_mut(|heads| {
        if heads.len() < KEPT {
            return heads.push((subject, head));
        }
        let oldest = OLDEST.get();
        heads[oldest] = (subject, head);
        OLDEST.set((oldest + 1) % KEPT);
    });
}

/// Status line and headers, but for those of the tail.
pub(super) fn of(reply: &Reply) -> Vec<u8> {
    let status = reply.status();
    let mut head = Vec::with_capacity(768);
    let mut line = |parts: [&[u8]; 3]| parts.into_iter().for_each(|part| head.extend_from_slice(part));
    line([b"HTTP/1.1 ", status.as_str().as_bytes(), b" "]);
    line([status.canonical_reason().unwrap_or("Unknown").as_bytes(), b"\r\n", b""]);
    for (name, value) in reply.headers().iter().filter(|(name, _)| **name != AGE) {
        line([name.as_str().as_bytes(), b": ", value.as_bytes()]);
        line([b"\r\n", b"", b""]);
    }
    // An answer that never has a body does not say how long it is (RFC 9110, 8.6), nor does one in chunks.
    let in_chunks = reply.headers().contains_key(TRANSFER_ENCODING);
    if status != axum::http::StatusCode::NO_CONTENT && !in_chunks {
        let length = reply.body().len().to_string();
        line([b"content-length: ", length.as_bytes(), b"\r\n"]);
    }
    head
}

pub(super) fn age(reply: &Reply) -> Option<u64> {
    reply.headers().get(AGE)?.to_str().ok()?.parse().ok()
}

/// What changes from second to second, and the end of the head.
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
