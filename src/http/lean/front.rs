//! One connection in the lean front: what it does between two answers, without ever waiting inside.

use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::http::api::breadcrumbs::{NextRequest, Outcome};
use crate::http::lean::deadline::{Deadline, Ended};
use crate::http::lean::request::{PlainRequest, Recognised, recognise};
use crate::http::lean::response_cache::{self, Written};
use crate::http::lean::{Left, respond};
use crate::http::serve::connection::Shared;
use crate::http::serve::connection_age::Age;
use crate::view::{Answer, Next, TryNext};

/// Bytes that are read at a time, on the stack: a long poll's head is shorter, and nothing is
/// allocated for one that comes whole.
const CHUNK: usize = 2048;

/// Of requests that come while one waits, so much is read ahead.
const READ_AHEAD: usize = 8 * 1024;

/// Why a connection that waited for news looks again.
pub(super) enum Waited {
    /// They came.
    Came,
    /// It waits no longer, or there will be none: what to say is decided where everything is.
    Unclear,
    /// The client is gone.
    Gone,
}

pub(super) struct Front<'a, S> {
    pub(super) stream: &'a mut S,
    /// Bytes that were read and not used.
    pub(super) read: &'a mut Vec<u8>,
    pub(super) shared: &'a Shared,
    /// The client owes a request.
    fresh: bool,
    pub(super) deadline: Deadline<'a>,
}

impl<'a, S> Front<'a, S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    pub(super) fn new(stream: &'a mut S, read: &'a mut Vec<u8>, shared: &'a Shared, fresh: bool) -> Self {
        // Who has begun to send a head has no more time for it than who has just come.
        let owes = fresh || !read.is_empty();
        let config = &shared.config;
        let time = if owes { config.header_timeout } else { config.idle_timeout };
        Self { stream, read, shared, fresh, deadline: Deadline::new(&shared.app, time) }
    }

    /// The next request, if it is for this front. `now` is the clock, if it was looked at in this
    /// poll of the task.
    pub(super) fn poll_request(
        &mut self,
        now: Option<Instant>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<PlainRequest, Left>> {
        let header_timeout = self.shared.config.header_timeout;
        if !self.read.is_empty() {
            match recognise(self.read, &self.shared.app) {
                Recognised::Other => return Poll::Ready(Err(Left::Other)),
                Recognised::Plain(request, used) => {
                    use_up(self.read, used);
                    return Poll::Ready(Ok(request));
                }
                Recognised::Incomplete => {}
            }
        }
        loop {
            let rested = self.read.is_empty();
            let mut chunk = [MaybeUninit::uninit(); CHUNK];
            let mut chunk = ReadBuf::uninit(&mut chunk);
            let Poll::Ready(read) = Pin::new(&mut *self.stream).poll_read(cx, &mut chunk) else {
                let now = now.unwrap_or_else(Instant::now);
                return Poll::Ready(Err(match ready!(self.deadline.poll_ended(now, cx)) {
                    Ended::Draining if rested => Left::Nothing,
                    Ended::Time if rested && !self.fresh => Left::Nothing,
                    Ended::Draining => Left::Other,
                    Ended::Time => Left::TooSlow,
                }));
            };
            let bytes = chunk.filled();
            // A connection that fails is one that ends; what is cut off in the middle is for the
            // framework to judge.
            if read.is_err() || bytes.is_empty() {
                return Poll::Ready(Err(if rested { Left::Nothing } else { Left::Other }));
            }
            // Nearly always a request comes in one piece, and nothing is kept of it.
            let recognised = if rested {
                recognise(bytes, &self.shared.app)
            } else {
                self.read.extend_from_slice(bytes);
                recognise(self.read, &self.shared.app)
            };
            match recognised {
                Recognised::Plain(request, used) => {
                    if rested {
                        self.read.extend_from_slice(&bytes[used..]);
                    } else {
                        use_up(self.read, used);
                    }
                    return Poll::Ready(Ok(request));
                }
                Recognised::Other => {
                    if rested {
                        self.read.extend_from_slice(bytes);
                    }
                    return Poll::Ready(Err(Left::Other));
                }
                Recognised::Incomplete if rested => {
                    self.read.extend_from_slice(bytes);
                    self.deadline.shorten(Instant::now() + header_timeout);
                }
                Recognised::Incomplete => {}
            }
        }
    }

    /// Answers if there is something to say already.
    pub(super) fn try_answer(
        &mut self,
        request: &NextRequest,
        at_once: bool,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Poll<TryNext<Written>> {
        let app = &self.shared.app;
        let write =
            |answer: &Answer| response_cache::write(self.stream, cx, app, request, (answer, at_once), now);
        Poll::Ready(request.collection.view.try_next(request.cursor, request.format, at_once, write))
    }

    /// Waits for news. `now` is the clock, if it was looked at in this poll of the task.
    pub(super) fn poll_waited(
        &mut self,
        came: Pin<&mut impl Future<Output = bool>>,
        now: Option<Instant>,
        cx: &mut Context<'_>,
    ) -> Poll<Waited> {
        if let Poll::Ready(came) = came.poll(cx) {
            return Poll::Ready(if came { Waited::Came } else { Waited::Unclear });
        }
        let now = now.unwrap_or_else(Instant::now);
        if self.deadline.poll_over(now, cx).is_ready() {
            return Poll::Ready(Waited::Unclear);
        }
        poll_gone(self.stream, self.read, cx).map(|()| Waited::Gone)
    }

    /// Whether the next answer is the last.
    pub(super) fn is_last(&self, age: &Age, now: Instant) -> bool {
        age.is_over_at(now) || self.shared.app.shutdown.has_begun()
    }

    /// The client has its answer and may rest.
    pub(super) fn rests_from(&mut self, now: Instant) {
        self.fresh = false;
        let config = &self.shared.config;
        let time = if self.read.is_empty() { config.idle_timeout } else { config.header_timeout };
        self.deadline.lengthen(now + time);
    }

    /// Answers any request, whatever there is to say, and however long it takes; says whether the
    /// connection may be used again. `at_once`: nothing was waited for as yet.
    pub(super) async fn answer(
        &mut self,
        request: &NextRequest,
        at_once: bool,
        age: &Age,
        now: &mut Instant,
    ) -> bool {
        let Some(mut outcome) = self.follow(request).await else { return false };
        if let Ok(Next::Answer(answer)) = &mut outcome {
            answer.at_once &= at_once;
        }
        let last = self.is_last(age, Instant::now());
        let answered = respond::answer(self.stream, self.shared, request, outcome, last).await;
        *now = Instant::now();
        answered.unwrap_or(false)
    }

    /// Waits for what the request asks for; nothing when the client goes away.
    async fn follow(&mut self, request: &NextRequest) -> Option<Outcome> {
        let Self { stream, read, shared, deadline, .. } = self;
        let over = poll_fn(|cx| deadline.poll_over(Instant::now(), cx));
        tokio::select! {
            biased;
            outcome = request.follow(&shared.app, over) => Some(outcome),
            () = poll_fn(|cx| poll_gone(stream, read, cx)) => None,
        }
    }

    /// Writes what could not be written at once; says whether the connection may be used again.
    pub(super) async fn finish(
        &mut self,
        request: &NextRequest,
        written: Written,
        now: &mut Instant,
    ) -> bool {
        let finished = match written {
            Written::All => Ok(true),
            Written::Failed => return false,
            Written::Rest(rest) => respond::rest(self.stream, &rest, self.shared.stall).await.map(|()| true),
            Written::TooLarge(answer) => {
                let next = Next::Answer(*answer);
                self.shared.app.metrics.polled(request.cursor, &next);
                let outcome = Ok(next);
                respond::answer(self.stream, self.shared, request, outcome, false).await
            }
        };
        *now = Instant::now();
        finished.unwrap_or(false)
    }
}

/// Resolves when the client is gone. What it sends meanwhile is kept for later; who has sent more
/// requests before it closed its side, as the framework sees it, may want their answers.
pub(super) fn poll_gone<S>(stream: &mut S, read: &mut Vec<u8>, cx: &mut Context<'_>) -> Poll<()>
where
    S: AsyncRead + Unpin,
{
    while read.len() < READ_AHEAD {
        let mut chunk = [MaybeUninit::uninit(); CHUNK];
        let mut chunk = ReadBuf::uninit(&mut chunk);
        let failed = ready!(Pin::new(&mut *stream).poll_read(cx, &mut chunk)).is_err();
        if failed || chunk.filled().is_empty() {
            return if read.is_empty() { Poll::Ready(()) } else { Poll::Pending };
        }
        read.extend_from_slice(chunk.filled());
    }
    Poll::Pending
}

/// Forgets bytes that were used, and gives their memory back when none are left.
fn use_up(read: &mut Vec<u8>, used: usize) {
    read.drain(..used);
    if read.is_empty() {
        *read = Vec::new();
    }
}
