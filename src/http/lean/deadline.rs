//! The deadline of a connection: one timer for all its waits, and the shutdown signal.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::http::app::App;
use crate::http::serve::drain::Shutdown;
use crate::view::Reason;

/// The reason for which a connection without a request is closed.
pub(super) enum IdleEnd {
    Timeout,
    Draining,
}

/// A connection's timer and shutdown signal.
///
/// The limit changes with every request. The timer itself is reset only when the limit comes nearer or when it fires too
/// early: about once per long poll instead of twice per wake. The timer and the signal are polled once, so that they wake
/// the task. After that the clock and a shared flag say whether they have fired. With thousands of connections, polling
/// them at every wake would miss the processor's cache each time.
pub(super) struct Deadline<'a> {
    pub(super) app: &'a App,
    limit: Instant,
    /// The time at which the timer fires.
    armed: Instant,
    /// Whether `wakers` will wake the task.
    registered: bool,
    wakers: Box<Wakers<'a>>,
}

/// The futures that are rarely polled.
struct Wakers<'a> {
    sleep: Pin<Box<Sleep>>,
    begun: Pin<Box<dyn Future<Output = Duration> + Send + 'a>>,
    /// The drain window, once it has begun.
    draining: Option<Duration>,
}

impl<'a> Deadline<'a> {
    pub(super) fn new(app: &'a App, time: Duration) -> Self {
        let limit = Instant::now() + time;
        let (sleep, begun) = (Box::pin(sleep_until(limit)), Box::pin(app.shutdown.begun()));
        let wakers = Box::new(Wakers { sleep, begun, draining: None });
        Self { app, limit, armed: limit, registered: false, wakers }
    }

    /// Sets the limit if it is earlier.
    pub(super) fn shorten(&mut self, limit: Instant) {
        self.set(self.limit.min(limit));
    }

    /// Sets the deadline of a waiter. During a drain the waiter is answered within the window instead.
    pub(super) fn wait_until(&mut self, deadline: Instant) {
        let in_drain = self.draining().map(|window| self.answer_at(window));
        self.set(in_drain.unwrap_or(deadline));
    }

    /// The drain window, if this connection has noticed its beginning.
    fn draining(&self) -> Option<Duration> {
        if self.app.shutdown.has_begun() { self.wakers.draining } else { None }
    }

    fn answer_at(&self, window: Duration) -> Instant {
        Instant::now() + Shutdown::answer_delay(window, self.app.waiters())
    }

    /// Sets the limit.
    pub(super) fn set(&mut self, limit: Instant) {
        self.limit = limit;
        if limit < self.armed {
            self.arm(limit);
        }
    }

    fn arm(&mut self, at: Instant) {
        self.armed = at;
        self.wakers.sleep.as_mut().reset(at);
        self.registered = false;
    }

    /// Resolves when a waiter has to be answered. `now` must have been read in this poll of the task; the timer may have
    /// fired since the last one.
    pub(super) fn poll_wait_end(&mut self, now: Instant, cx: &mut Context<'_>) -> Poll<Reason> {
        if let Some(window) = self.poll_drain_begin(cx) {
            let answer_at = self.answer_at(window);
            self.set(answer_at);
        }
        ready!(self.poll_limit(now, cx));
        Poll::Ready(if self.draining().is_some() { Reason::ShuttingDown } else { Reason::Timeout })
    }

    /// Resolves when a connection without a complete request has to be closed. During a drain a new connection still has
    /// some time for its first one. `now` is as for [`poll_wait_end`](Self::poll_wait_end).
    pub(super) fn poll_idle_end(
        &mut self,
        now: Instant,
        is_new: bool,
        cx: &mut Context<'_>,
    ) -> Poll<IdleEnd> {
        if let Some(window) = self.poll_drain_begin(cx) {
            self.shorten(Instant::now() + Shutdown::first_request_time(window));
        }
        let draining = self.draining().is_some();
        if draining && !is_new {
            return Poll::Ready(IdleEnd::Draining);
        }
        ready!(self.poll_limit(now, cx));
        Poll::Ready(if draining { IdleEnd::Draining } else { IdleEnd::Timeout })
    }

    /// The drain window, at the first poll after the drain has begun.
    fn poll_drain_begin(&mut self, cx: &mut Context<'_>) -> Option<Duration> {
        let registered = self.registered && !self.app.shutdown.has_begun();
        if registered || self.wakers.draining.is_some() {
            return None;
        }
        match self.wakers.begun.as_mut().poll(cx) {
            Poll::Ready(window) => Some(*self.wakers.draining.insert(window)),
            Poll::Pending => None,
        }
    }

    fn poll_limit(&mut self, now: Instant, cx: &mut Context<'_>) -> Poll<()> {
        if self.registered && now < self.armed {
            return Poll::Pending;
        }
        loop {
            let fired = self.wakers.sleep.as_mut().poll(cx).is_ready();
            self.registered = true;
            match fired {
                false => return Poll::Pending,
                true if self.armed >= self.limit => return Poll::Ready(()),
                true => self.arm(self.limit),
            }
        }
    }
}
