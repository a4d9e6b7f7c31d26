//! A stream in the lean front: parked like a long poll, and written the shared bytes with one write.
//!
//! A reader of everything that is quick walks the view's trail: each event is framed once per thread and goes
//! out in one write ([`Session::try_next`]). Everything else, the beginning, squashes, heartbeats, readers of some keys only, is told by
//! [`Session::next`], piece by piece.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::ops::ControlFlow;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::SystemTime;

use axum::http::HeaderValue;
use axum::http::header::TRANSFER_ENCODING;
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use crate::http::api::stream::{Framing, Interrupt, Session, StreamRequest, Timers};
use crate::http::app::App;
use crate::http::lean::deadline::Deadline;
use crate::http::lean::front::{Front, poll_gone};
use crate::http::lean::{close, head_cache, respond};
use crate::http::serve::connection_age::Age;
use crate::model::{Cursor, Sequence};
use crate::view::{Answer, NextBreadcrumb, Reason, TryNext};

/// Larger events are written piece by piece.
const LARGEST: u64 = 32 * 1024;

/// A piece is written in chunks of at most so many bytes: what is copied for a slow reader is bounded.
const CHUNK: usize = 64 * 1024;

/// The chunk that ends an answer.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Events that each thread keeps: the newest breadcrumbs' in both framings.
const KEPT: usize = 8;

/// A connection's clocks, as a stream goes by them.
struct LeanTimers<'f, 'a> {
    deadline: &'f mut Deadline<'a>,
    age: &'f Age,
    next_beat: Instant,
    has_begun: bool,
}

impl LeanTimers<'_, '_> {
    fn aged_at(&self) -> Option<Instant> {
        self.age.end().filter(|_| self.has_begun)
    }

    fn arm(&mut self) {
        let until = self.aged_at().map_or(self.next_beat, |aged| aged.min(self.next_beat));
        self.deadline.wait_until(until);
    }
}

impl Timers for LeanTimers<'_, '_> {
    fn beat_at(&mut self, next: Instant) {
        self.next_beat = next;
        self.arm();
    }

    fn poll_interrupt(&mut self, has_begun: bool, cx: &mut Context<'_>) -> Poll<Interrupt> {
        if has_begun && !self.has_begun {
            self.has_begun = true;
            self.arm();
        }
        let now = Instant::now();
        self.deadline.poll_over(now, cx).map(|reason| match reason {
            Reason::ShuttingDown => Interrupt::Stop,
            _ if self.aged_at().is_some_and(|aged| now >= aged) => Interrupt::Aged,
            _ => Interrupt::Heartbeat,
        })
    }
}

/// Serves a stream until it ends; says whether the connection may be used again.
pub(super) async fn serve<S>(front: &mut Front<'_, S>, request: &StreamRequest, age: &Age) -> bool
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let app = &front.shared.app;
    let opened = tokio::select! {
        biased;
        opened = Box::pin(Session::open(app, request)) => opened,
        () = poll_fn(|cx| poll_gone(front.stream, front.read, cx)) => return false,
    };
    let last = front.is_last(age, Instant::now());
    let (mut reply, session) = match opened {
        Ok(session) => (session.head(), Some(session)),
        Err(problem) => (problem.into_reply(), None),
    };
    if last {
        close(&mut reply);
    }
    app.metrics.answered(reply.status().as_u16(), reply.headers());
    let Some(mut session) = session else {
        return respond::write_reply(front.stream, &reply, front.shared.stall).await.is_ok() && !last;
    };
    reply.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    let mut head = head_cache::of(&reply);
    head.extend_from_slice(&head_cache::tail(head_cache::age(&reply), SystemTime::now()));
    drop(reply);
    if respond::rest(front.stream, &head, front.shared.stall).await.is_err() {
        return false;
    }
    drop(head);
    tell(front, &mut session, age).await.is_ok() && !last
}

/// Tells everything until the stream ends, or the client is gone, which is an error.
async fn tell<S>(front: &mut Front<'_, S>, session: &mut Session, age: &Age) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Front { stream, read, shared, deadline, .. } = front;
    let next_beat = session.next_beat(Instant::now());
    let mut timers = LeanTimers { deadline, age, next_beat, has_begun: false };
    timers.arm();
    loop {
        match poll_fn(|cx| Poll::Ready(try_tell(*stream, cx, &shared.app, session))).await {
            TryNext::Answered(Told::All) => {
                timers.beat_at(session.next_beat(Instant::now()));
                continue;
            }
            TryNext::Answered(Told::Rest(rest)) => {
                session.let_go();
                Box::pin(respond::rest(*stream, &rest, shared.stall)).await?;
                timers.beat_at(session.next_beat(Instant::now()));
                continue;
            }
            TryNext::Answered(Told::Failed(error)) => return Err(error),
            TryNext::Answered(Told::Large(answer)) => session.tell_later(answer),
            TryNext::Pending(next) => {
                let has_begun = session.has_begun();
                poll_fn(|cx| poll_flush(*stream, cx)).await?;
                if park(*stream, read, &next, &mut timers, has_begun).await? {
                    continue;
                }
            }
            TryNext::Unknown => {}
        }
        if let ControlFlow::Break(()) =
            Box::pin(tell_piece(*stream, read, session, &mut timers, shared.stall)).await?
        {
            return respond::rest(*stream, LAST_CHUNK, shared.stall).await;
        }
    }
}

fn poll_flush<S: AsyncWrite + Unpin>(stream: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    std::pin::Pin::new(stream).poll_flush(cx)
}

/// Waits for the next breadcrumb; says whether it came, or something else is to be done first.
async fn park<S>(
    stream: &mut S,
    read: &mut Vec<u8>,
    next: &NextBreadcrumb,
    timers: &mut LeanTimers<'_, '_>,
    has_begun: bool,
) -> io::Result<bool>
where
    S: AsyncRead + Unpin,
{
    let mut came = pin!(next.came());
    poll_fn(|cx| {
        if let Poll::Ready(came) = came.as_mut().poll(cx) {
            return Poll::Ready(Ok(came));
        }
        if timers.poll_interrupt(has_begun, cx).is_ready() {
            return Poll::Ready(Ok(false));
        }
        poll_gone(stream, read, cx).map(|()| Err(io::ErrorKind::BrokenPipe.into()))
    })
    .await
}

/// Tells one piece, however long it takes; breaks when the stream is over.
async fn tell_piece<S>(
    stream: &mut S,
    read: &mut Vec<u8>,
    session: &mut Session,
    timers: &mut LeanTimers<'_, '_>,
    stall: Option<std::time::Duration>,
) -> io::Result<ControlFlow<()>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let piece = tokio::select! {
        biased;
        piece = session.next(timers) => piece,
        () = poll_fn(|cx| poll_gone(stream, read, cx)) => return Err(io::ErrorKind::BrokenPipe.into()),
    };
    let Some(piece) = piece else { return Ok(ControlFlow::Break(())) };
    for part in piece.chunks(CHUNK) {
        let chunk = chunk(&[part]);
        let left = poll_fn(|cx| Poll::Ready(respond::write_now(stream, cx, &chunk))).await?;
        if left > 0 {
            session.let_go();
            respond::rest(stream, &chunk[chunk.len() - left..], stall).await?;
        }
    }
    poll_fn(|cx| poll_flush(stream, cx)).await?;
    Ok(ControlFlow::Continue(()))
}

/// How far an event was told.
enum Told {
    All,
    /// The client has not taken this yet.
    Rest(Bytes),
    Failed(io::Error),
    /// Nothing is written: the event is too large for it.
    Large(Answer),
}

/// Tells the next event, if it is there already, as far as that goes without waiting.
fn try_tell<S>(stream: &mut S, cx: &mut Context<'_>, app: &App, session: &mut Session) -> TryNext<Told>
where
    S: AsyncWrite + Unpin,
{
    let (framing, collection) = (session.framing(), session.collection().number);
    session.try_next(|answer| {
        if answer.body.len() > LARGEST {
            return Told::Large(answer.clone());
        }
        app.metrics.streams.told(answer.mode);
        let event = event(Subject::of(app.number, collection, framing, answer), answer);
        match respond::write_now(stream, cx, &event) {
            Ok(0) => Told::All,
            Ok(left) => Told::Rest(event.slice(event.len() - left..)),
            Err(error) => Told::Failed(error),
        }
    })
}

/// What an event's bytes are found by. All that are told so lead from one breadcrumb to the next.
#[derive(PartialEq)]
struct Subject {
    /// Two daemons in one process may be at the same cursor by different ways.
    app: u64,
    collection: u64,
    framing: Framing,
    cursor: Cursor,
    sequence: Sequence,
}

impl Subject {
    fn of(app: u64, collection: u64, framing: Framing, answer: &Answer) -> Self {
        Self { app, collection, framing, cursor: answer.cursor, sequence: answer.sequence }
    }
}

thread_local! {
    /// The newest event last.
    static EVENTS: RefCell<Vec<(Subject, Bytes)>> = const { RefCell::new(Vec::new()) };
}

/// The event as a chunk, made once per thread.
fn event(subject: Subject, answer: &Answer) -> Bytes {
    let framing = subject.framing;
    EVENTS.with_borrow_mut(|events| {
        if let Some((_, event)) = events.iter().rev().find(|(kept, _)| *kept == subject) {
            return event.clone();
        }
        if events.len() == KEPT {
            events.remove(0);
        }
        let pieces: Vec<Bytes> = framing.event(answer).collect();
        let parts: Vec<&[u8]> = pieces.iter().map(|piece| &piece[..]).collect();
        let event = Bytes::from(chunk(&parts));
        events.push((subject, event.clone()));
        event
    })
}

/// These bytes as one chunk of an answer (RFC 9112, 7.1).
fn chunk(parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut chunk = format!("{length:X}\r\n").into_bytes();
    chunk.reserve_exact(length + 2);
    parts.iter().for_each(|part| chunk.extend_from_slice(part));
    chunk.extend_from_slice(b"\r\n");
    chunk
}
