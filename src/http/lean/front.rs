//! A connection in the lean front: reading requests and waiting, as poll functions.

use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::ReadBuf;
use tokio::time::Instant;

use crate::http::access_log::Line;
use crate::http::api::breadcrumbs::{NextRequest, Outcome};
use crate::http::budget::HeadBytes;
use crate::http::client::Peer;
use crate::http::lean::deadline::{Deadline, IdleEnd};
use crate::http::lean::request::{PlainRequest, Recognised, recognise};
use crate::http::lean::respond::{self, Written};
use crate::http::lean::{LeanOutcome, response_cache};
use crate::http::rep::problem::Problem;
use crate::http::serve::connection::Shared;
use crate::http::serve::connection_age::ConnectionAge;
use crate::http::serve::read_ahead::{DisconnectCheck, ReadAheadEnd, Socket, poll_read_ahead};
use crate::view::{Answer, Next, TryNext};

/// Bytes that are read at a time, on the stack. The head of a long poll is shorter, so a request in one piece allocates
/// nothing.
const CHUNK: usize = 2048;

/// The end of a wait.
pub(super) enum WaitEnd {
    /// The next breadcrumb was delivered.
    Breadcrumb,
    /// The deadline, the drain, the end of the cache, or too many unread bytes. [`Front::answer`] knows the answer, or
    /// waits for it.
    Other,
    /// The client has disconnected.
    Disconnected,
}

pub(super) struct Front<'a, S> {
    pub(super) stream: &'a mut S,
    /// Bytes that were received and not parsed.
    pub(super) unread: &'a mut Vec<u8>,
    pub(super) peer: &'a Peer,
    pub(super) shared: &'a Shared,
    /// Whether the connection had no request yet.
    is_new: bool,
    pub(super) deadline: Deadline<'a>,
}

impl<'a, S> Front<'a, S>
where
    S: Socket,
{
    pub(super) fn new(
        stream: &'a mut S,
        unread: &'a mut Vec<u8>,
        peer: &'a Peer,
        shared: &'a Shared,
        is_new: bool,
    ) -> Self {
        // A new connection, or one that has begun a head, has the header timeout.
        let config = &shared.config;
        let awaits_head = is_new || !unread.is_empty();
        let time = if awaits_head { config.header_timeout } else { config.idle_timeout };
        Self { stream, unread, peer, shared, is_new, deadline: Deadline::new(&shared.app, time) }
    }

    /// The next request, if it is for this front. `now` is the time, if it was read in this poll of the task.
    pub(super) fn poll_request(
        &mut self,
        now: Option<Instant>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<PlainRequest, LeanOutcome>> {
        let header_timeout = self.shared.config.header_timeout;
        if !self.unread.is_empty() {
            match recognise(self.unread, &self.shared.app) {
                Recognised::Other => return Poll::Ready(Err(LeanOutcome::OtherRequest)),
                Recognised::Plain(request, used) => {
                    consume(self.unread, used);
                    return Poll::Ready(Ok(request));
                }
                Recognised::Incomplete => {}
            }
        }
        loop {
            let was_empty = self.unread.is_empty();
            let mut chunk = [MaybeUninit::uninit(); CHUNK];
            let mut chunk = ReadBuf::uninit(&mut chunk);
            let Poll::Ready(read) = Pin::new(&mut *self.stream).poll_read(cx, &mut chunk) else {
                let now = now.unwrap_or_else(Instant::now);
                return Poll::Ready(Err(match ready!(self.deadline.poll_idle_end(now, self.is_new, cx)) {
                    IdleEnd::Draining if was_empty => LeanOutcome::Closed,
                    IdleEnd::Timeout if was_empty && !self.is_new => LeanOutcome::Closed,
                    IdleEnd::Draining => LeanOutcome::OtherRequest,
                    IdleEnd::Timeout => LeanOutcome::HeaderTimeout,
                }));
            };
            let bytes = chunk.filled();
            // A failed connection counts as closed. The framework answers a head that was cut off.
            if read.is_err() || bytes.is_empty() {
                let outcome = if was_empty { LeanOutcome::Closed } else { LeanOutcome::OtherRequest };
                return Poll::Ready(Err(outcome));
            }
            // Nearly always a request arrives in one piece and is not copied.
            let recognised = if was_empty {
                recognise(bytes, &self.shared.app)
            } else {
                self.unread.extend_from_slice(bytes);
                recognise(self.unread, &self.shared.app)
            };
            match recognised {
                Recognised::Plain(request, used) => {
                    if was_empty {
                        self.unread.extend_from_slice(&bytes[used..]);
                    } else {
                        consume(self.unread, used);
                    }
                    return Poll::Ready(Ok(request));
                }
                Recognised::Other => {
                    if was_empty {
                        self.unread.extend_from_slice(bytes);
                    }
                    return Poll::Ready(Err(LeanOutcome::OtherRequest));
                }
                Recognised::Incomplete if was_empty => {
                    self.unread.extend_from_slice(bytes);
                    self.deadline.shorten(Instant::now() + header_timeout);
                }
                Recognised::Incomplete => {}
            }
        }
    }

    /// Writes the answer if it is encoded already.
    pub(super) fn try_answer(
        &mut self,
        request: &NextRequest,
        at_once: bool,
        now: Instant,
        line: &mut Option<Box<Line>>,
        cx: &mut Context<'_>,
    ) -> Poll<TryNext<Written>> {
        let app = &self.shared.app;
        let write = |answer: &Answer| {
            if let Some(line) = line {
                line.is_answered_with(answer);
            }
            response_cache::write(self.stream, cx, app, request, (answer, at_once), now)
        };
        Poll::Ready(request.collection.view.try_next(request.cursor, request.format, at_once, write))
    }

    /// Waits for the next breadcrumb. `now` is the time, if it was read in this poll of the task.
    pub(super) fn poll_wait(
        &mut self,
        arrived: Pin<&mut impl Future<Output = bool>>,
        now: Option<Instant>,
        cx: &mut Context<'_>,
    ) -> Poll<WaitEnd> {
        if let Poll::Ready(arrived) = arrived.poll(cx) {
            return Poll::Ready(if arrived { WaitEnd::Breadcrumb } else { WaitEnd::Other });
        }
        let now = now.unwrap_or_else(Instant::now);
        if self.deadline.poll_wait_end(now, cx).is_ready() {
            return Poll::Ready(WaitEnd::Other);
        }
        poll_read_ahead(self.stream, self.unread, cx).map(|end| match end {
            ReadAheadEnd::Disconnected => WaitEnd::Disconnected,
            ReadAheadEnd::Full => WaitEnd::Other,
        })
    }

    /// Whether the next answer is the last of the connection.
    pub(super) fn is_last(&self, age: &ConnectionAge, now: Instant) -> bool {
        age.is_reached_by(now) || self.shared.app.shutdown.has_begun()
    }

    /// Starts the keep-alive timeout after an answer.
    pub(super) fn start_keep_alive(&mut self, now: Instant) {
        self.is_new = false;
        let config = &self.shared.config;
        let time = if self.unread.is_empty() { config.idle_timeout } else { config.header_timeout };
        self.deadline.set(now + time);
    }

    /// Answers any long poll. Returns whether the connection may be used again. `at_once` says that the request has not
    /// waited yet.
    pub(super) async fn answer(
        &mut self,
        request: &NextRequest,
        at_once: bool,
        age: &ConnectionAge,
        now: &mut Instant,
        line: &mut Option<Box<Line>>,
    ) -> bool {
        let Some(mut outcome) = self.follow(request).await else { return false };
        if let Ok(Next::Answer(answer)) = &mut outcome {
            answer.at_once &= at_once;
        }
        let last = self.is_last(age, Instant::now());
        let answered = respond::answer(self.stream, self.shared, request, outcome, last, line).await;
        *now = Instant::now();
        answered.unwrap_or(false)
    }

    /// Refuses a long poll. Returns whether the connection may be used again.
    pub(super) async fn refuse(
        &mut self,
        request: &NextRequest,
        problem: Problem,
        age: &ConnectionAge,
    ) -> bool {
        let last = self.is_last(age, Instant::now());
        let (outcome, mut line) = (Err(problem.into()), request.line(&self.shared.app, self.peer));
        let answered = respond::answer(self.stream, self.shared, request, outcome, last, &mut line).await;
        answered.unwrap_or(false)
    }

    /// The outcome of the long poll; `None` when the client disconnects.
    async fn follow(&mut self, request: &NextRequest) -> Option<Outcome> {
        let Self { stream, unread, peer, shared, deadline, .. } = self;
        let over = poll_fn(|cx| deadline.poll_wait_end(Instant::now(), cx));
        tokio::select! {
            biased;
            outcome = request.follow(&shared.app, peer, HeadBytes::default(), over) => Some(outcome),
            () = disconnected(*stream, unread) => None,
        }
    }

    /// Writes the rest of an answer. Returns whether the connection may be used again.
    pub(super) async fn finish(
        &mut self,
        request: &NextRequest,
        written: Written,
        now: &mut Instant,
        line: &mut Option<Box<Line>>,
    ) -> bool {
        let finished = match written {
            Written::All => Ok(true),
            Written::Failed(_) => return false,
            Written::Rest(rest) => {
                let written = respond::write_rest(self.stream, &rest, self.shared.stall).await;
                line.iter_mut().for_each(|line| line.is_complete = written.is_ok());
                written.map(|()| true)
            }
            Written::TooLarge(answer) => {
                let next = Next::Answer(*answer);
                self.shared.app.metrics.observe_poll(request.cursor, &next);
                let outcome = Ok(next);
                respond::answer(self.stream, self.shared, request, outcome, false, line).await
            }
        };
        *now = Instant::now();
        finished.unwrap_or(false)
    }
}

/// Resolves when the client has disconnected. Bytes that it sends meanwhile are kept. A client that has closed its side
/// counts as disconnected, whatever it sent before; the framework does the same.
pub(super) async fn disconnected<S: Socket>(stream: &mut S, unread: &mut Vec<u8>) {
    match poll_fn(|cx| poll_read_ahead(stream, unread, cx)).await {
        ReadAheadEnd::Disconnected => {}
        ReadAheadEnd::Full => {
            let mut check = DisconnectCheck::new();
            poll_fn(|cx| check.poll(stream, cx)).await;
        }
    }
}

/// Removes parsed bytes. An empty buffer is freed.
fn consume(unread: &mut Vec<u8>, used: usize) {
    unread.drain(..used);
    if unread.is_empty() {
        *unread = Vec::new();
    }
}
