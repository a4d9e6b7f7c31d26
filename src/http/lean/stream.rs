//! Streams in the lean front: parked like long polls, and written from shared bytes.
//!
//! A fast reader of all keys walks the view's trail: each event is framed once per thread and sent with one write
//! ([`StreamSession::try_next`]). Everything else (the snapshot, squashes, heartbeats, readers of some keys) is sent
//! piece by piece ([`StreamSession::next`]).

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
use tokio::io::AsyncWrite;
use tokio::time::Instant;

use crate::http::access_log::Line;
use crate::http::api::stream::{Framing, Interrupt, StreamRequest, StreamSession, Timers};
use crate::http::app::App;
use crate::http::budget::HeadBytes;
use crate::http::lean::deadline::Deadline;
use crate::http::lean::front::{Front, disconnected};
use crate::http::lean::recent::Recent;
use crate::http::lean::respond::{self, MAX_SINGLE_WRITE, Written};
use crate::http::lean::{close, head_cache};
use crate::http::serve::connection_age::ConnectionAge;
use crate::http::serve::read_ahead::{ReadAheadEnd, Socket, poll_read_ahead};
use crate::model::{Cursor, Sequence};
use crate::view::{Answer, NextBreadcrumb, Reason, TryNext};

/// The largest chunk of a piece. It limits the bytes that are copied for a slow reader.
const CHUNK: usize = 64 * 1024;

/// The chunk that ends a response.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// How many events each thread caches: those of the newest breadcrumbs in the media types in use.
const MAX_CACHED: usize = 8;

/// The timers of a connection in the lean front.
struct LeanTimers<'f, 'a> {
    deadline: &'f mut Deadline<'a>,
    age: &'f ConnectionAge,
    heartbeat_at: Instant,
    has_begun: bool,
}

impl LeanTimers<'_, '_> {
    fn age_reached_at(&self) -> Option<Instant> {
        self.age.reached_at().filter(|_| self.has_begun)
    }

    fn arm(&mut self) {
        let until = self.age_reached_at().map_or(self.heartbeat_at, |at| at.min(self.heartbeat_at));
        self.deadline.wait_until(until);
    }
}

impl Timers for LeanTimers<'_, '_> {
    fn set_heartbeat(&mut self, at: Instant) {
        self.heartbeat_at = at;
        self.arm();
    }

    fn poll_interrupt(&mut self, has_begun: bool, cx: &mut Context<'_>) -> Poll<Interrupt> {
        if has_begun && !self.has_begun {
            self.has_begun = true;
            self.arm();
        }
        let now = Instant::now();
        self.deadline.poll_wait_end(now, cx).map(|reason| match reason {
            Reason::ShuttingDown => Interrupt::Drain,
            _ if self.age_reached_at().is_some_and(|at| now >= at) => Interrupt::MaxAge,
            _ => Interrupt::Heartbeat,
        })
    }
}

/// Serves a stream until it ends. Returns whether the connection may be used again.
pub(super) async fn serve<S>(
    front: &mut Front<'_, S>,
    request: Box<StreamRequest>,
    age: &ConnectionAge,
) -> bool
where
    S: Socket,
{
    let mut line = request.line(&front.shared.app, front.peer);
    // Boxed, so that a waiting stream has no space for its opening.
    match Box::pin(open(front, request, age, &mut line)).await {
        Opened::Refused { keep_alive } => keep_alive,
        Opened::Stream { mut session, last } => {
            let sent = send_events(front, &mut session, age, &mut line).await;
            line.iter_mut().for_each(|line| line.is_complete = sent.is_ok());
            sent.is_ok() && !last
        }
    }
}

/// The outcome of a request for a stream.
enum Opened {
    /// A problem was written, or the client has disconnected.
    Refused { keep_alive: bool },
    /// The head is written.
    Stream { session: Box<StreamSession>, last: bool },
}

async fn open<S>(
    front: &mut Front<'_, S>,
    request: Box<StreamRequest>,
    age: &ConnectionAge,
    line: &mut Option<Box<Line>>,
) -> Opened
where
    S: Socket,
{
    let app = &front.shared.app;
    let opening = async {
        app.budgets.request(app.client(request.scope.grant(), front.peer))?;
        StreamSession::open(app, front.peer, HeadBytes::default(), &request).await
    };
    let opened = tokio::select! {
        biased;
        opened = opening => opened,
        () = disconnected(front.stream, front.unread) => {
            return Opened::Refused { keep_alive: false };
        }
    };
    let last = front.is_last(age, Instant::now());
    let (mut reply, session) = match opened {
        Ok(session) => (session.head(), Some(Box::new(session))),
        Err(problem) => (request.refusal(problem), None),
    };
    if last {
        close(&mut reply);
    }
    app.metrics.count_reply(&reply);
    if let Some(line) = line {
        line.is_answered(reply.status().as_u16(), reply.headers());
        line.bytes = reply.body().len();
    }
    let stall = front.shared.stall;
    let Some(session) = session else {
        let written = respond::write_reply(front.stream, &reply, stall).await;
        line.iter_mut().for_each(|line| line.is_complete = written.is_ok());
        return Opened::Refused { keep_alive: written.is_ok() && !last };
    };
    reply.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    let mut head = head_cache::head(&reply);
    head.extend_from_slice(&head_cache::tail(head_cache::age(&reply), SystemTime::now()));
    match respond::write_rest(front.stream, &head, stall).await {
        Ok(()) => Opened::Stream { session, last },
        Err(_) => Opened::Refused { keep_alive: false },
    }
}

/// Sends all events until the stream ends. A disconnected client is an error.
async fn send_events<S>(
    front: &mut Front<'_, S>,
    session: &mut StreamSession,
    age: &ConnectionAge,
    line: &mut Option<Box<Line>>,
) -> io::Result<()>
where
    S: Socket,
{
    let Front { stream, unread, shared, deadline, .. } = front;
    let heartbeat_at = session.heartbeat_at(Instant::now());
    let mut timers = LeanTimers { deadline, age, heartbeat_at, has_begun: false };
    timers.arm();
    loop {
        match poll_fn(|cx| Poll::Ready(try_send(*stream, cx, &shared.app, session, line))).await {
            TryNext::Answered(Written::All) => {
                timers.set_heartbeat(session.heartbeat_at(Instant::now()));
                continue;
            }
            TryNext::Answered(Written::Rest(rest)) => {
                session.release();
                Box::pin(respond::write_rest(*stream, &rest, shared.stall)).await?;
                timers.set_heartbeat(session.heartbeat_at(Instant::now()));
                continue;
            }
            TryNext::Answered(Written::Failed(error)) => return Err(error),
            TryNext::Answered(Written::TooLarge(answer)) => session.send_in_pieces(*answer),
            TryNext::Pending(next) => {
                let has_begun = session.has_begun();
                poll_fn(|cx| poll_flush(*stream, cx)).await?;
                if park(*stream, unread, &next, &mut timers, has_begun).await? {
                    continue;
                }
            }
            TryNext::Unknown => {}
        }
        if let ControlFlow::Break(()) =
            Box::pin(send_piece(*stream, unread, session, &mut timers, shared.stall, line)).await?
        {
            return respond::write_rest(*stream, LAST_CHUNK, shared.stall).await;
        }
    }
}

fn poll_flush<S: AsyncWrite + Unpin>(stream: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    std::pin::Pin::new(stream).poll_flush(cx)
}

/// Waits for the next breadcrumb. Returns `false` if a timer fired first, the cache has stopped, or too many bytes are
/// unread; [`send_piece`] goes on from there.
async fn park<S>(
    stream: &mut S,
    unread: &mut Vec<u8>,
    next: &NextBreadcrumb,
    timers: &mut LeanTimers<'_, '_>,
    has_begun: bool,
) -> io::Result<bool>
where
    S: Socket,
{
    let mut arrived = pin!(next.arrived());
    poll_fn(|cx| {
        if let Poll::Ready(arrived) = arrived.as_mut().poll(cx) {
            return Poll::Ready(Ok(arrived));
        }
        if timers.poll_interrupt(has_begun, cx).is_ready() {
            return Poll::Ready(Ok(false));
        }
        poll_read_ahead(stream, unread, cx).map(|end| match end {
            ReadAheadEnd::Disconnected => Err(io::ErrorKind::BrokenPipe.into()),
            ReadAheadEnd::Full => Ok(false),
        })
    })
    .await
}

/// Sends the next piece; breaks when the stream has ended.
async fn send_piece<S>(
    stream: &mut S,
    unread: &mut Vec<u8>,
    session: &mut StreamSession,
    timers: &mut LeanTimers<'_, '_>,
    stall: Option<std::time::Duration>,
    line: &mut Option<Box<Line>>,
) -> io::Result<ControlFlow<()>>
where
    S: Socket,
{
    let piece = tokio::select! {
        biased;
        piece = session.next(timers) => piece,
        () = disconnected(stream, unread) => {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
    };
    let Some(piece) = piece else { return Ok(ControlFlow::Break(())) };
    line.iter_mut().for_each(|line| line.bytes += piece.len() as u64);
    for part in piece.chunks(CHUNK) {
        let chunk = chunk(&[part]);
        let left = poll_fn(|cx| Poll::Ready(respond::try_write(stream, cx, &chunk))).await?;
        if left > 0 {
            session.release();
            respond::write_rest(stream, &chunk[chunk.len() - left..], stall).await?;
        }
    }
    poll_fn(|cx| poll_flush(stream, cx)).await?;
    session.piece_written(timers);
    Ok(ControlFlow::Continue(()))
}

/// Writes the next event if it is encoded, as far as possible without waiting.
fn try_send<S>(
    stream: &mut S,
    cx: &mut Context<'_>,
    app: &App,
    session: &mut StreamSession,
    line: &mut Option<Box<Line>>,
) -> TryNext<Written>
where
    S: AsyncWrite + Unpin,
{
    let (framing, collection) = (session.framing(), session.collection().id);
    session.try_next(|answer| {
        if answer.body.len() > MAX_SINGLE_WRITE {
            return Written::TooLarge(Box::new(answer.clone()));
        }
        app.metrics.streams.count_body(answer.mode);
        let event = event(EventKey::new(app.id, collection, framing, answer), answer);
        line.iter_mut().for_each(|line| line.bytes += event.len() as u64);
        match respond::try_write(stream, cx, &event) {
            Ok(0) => Written::All,
            Ok(left) => Written::Rest(event.slice(event.len() - left..)),
            Err(error) => Written::Failed(error),
        }
    })
}

/// The identity of an event from one breadcrumb to the next.
#[derive(PartialEq)]
struct EventKey {
    /// Two apps of one process may have the same cursor.
    app: u64,
    collection: u64,
    framing: Framing,
    cursor: Cursor,
    sequence: Sequence,
}

impl EventKey {
    fn new(app: u64, collection: u64, framing: Framing, answer: &Answer) -> Self {
        Self { app, collection, framing, cursor: answer.cursor, sequence: answer.sequence }
    }
}

thread_local! {
    static EVENTS: RefCell<Recent<EventKey, Bytes, MAX_CACHED>> = const { RefCell::new(Recent::new()) };
}

/// The event as a chunk, made once per thread.
fn event(key: EventKey, answer: &Answer) -> Bytes {
    EVENTS.with_borrow_mut(|events| {
        if let Some(event) = events.get(&key) {
            return event.clone();
        }
        let pieces: Vec<Bytes> = key.framing.event(answer).collect();
        let parts: Vec<&[u8]> = pieces.iter().map(|piece| &piece[..]).collect();
        let event = Bytes::from(chunk(&parts));
        events.insert(key, event.clone());
        event
    })
}

/// These bytes as one chunk (RFC 9112, 7.1).
fn chunk(parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut chunk = format!("{length:X}\r\n").into_bytes();
    chunk.reserve_exact(length + 2);
    parts.iter().for_each(|part| chunk.extend_from_slice(part));
    chunk.extend_from_slice(b"\r\n");
    chunk
}
