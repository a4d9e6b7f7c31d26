//! How long a connection may take: one timer for all its waits, and the end of the daemon.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::http::app::App;
use crate::http::serve::drain::Shutdown;
use crate::view::Reason;

/// Why a client is not waited for any longer.
pub(super) enum Ended {
    Time,
    Draining,
}

/// A connection's one timer, and its ear for the end of the daemon.
///
/// Its limit moves with every request; the timer itself is only touched when the limit comes nearer,
/// or when it fires too early: about once per long poll's length instead of twice per wake. Both are
/// asked once, so that they wake the task; after that it is the clock and one shared flag that say
/// whether they have anything to tell. With thousands of connections whatever is asked each time
/// has left the processor's cache since the last time.
pub(super) struct Deadline<'a> {
    pub(super) app: &'a App,
    limit: Instant,
    /// When the timer fires.
    armed: Instant,
    /// Whether what is rare will wake the task.
    listening: bool,
    rare: Box<Rare<'a>>,
}

/// What is looked at once per long poll's length, or once in a lifetime.
struct Rare<'a> {
    sleep: Pin<Box<Sleep>>,
    begun: Pin<Box<dyn Future<Output = Duration> + Send + 'a>>,
    /// The drain window, once it has begun.
    draining: Option<Duration>,
}

impl<'a> Deadline<'a> {
    pub(super) fn new(app: &'a App, time: Duration) -> Self {
        let limit = Instant::now() + time;
        let (sleep, begun) = (Box::pin(sleep_until(limit)), Box::pin(app.shutdown.begun()));
        let rare = Box::new(Rare { sleep, begun, draining: None });
        Self { app, limit, armed: limit, listening: false, rare }
    }

    /// There is no more time than until then.
    pub(super) fn shorten(&mut self, limit: Instant) {
        self.set(self.limit.min(limit));
    }

    /// There is time until then.
    pub(super) fn lengthen(&mut self, limit: Instant) {
        self.set(limit);
    }

    /// A waiter waits until then, or until its turn when the daemon is going down.
    pub(super) fn wait_until(&mut self, deadline: Instant) {
        let turn = self.draining().map(|window| self.turn(window));
        self.set(turn.unwrap_or(deadline));
    }

    /// The drain window, if this connection has seen it begin.
    fn draining(&self) -> Option<Duration> {
        if self.app.shutdown.has_begun() { self.rare.draining } else { None }
    }

    fn turn(&self, window: Duration) -> Instant {
        Instant::now() + Shutdown::turn(window, self.app.waiters())
    }

    fn set(&mut self, limit: Instant) {
        self.limit = limit;
        if limit < self.armed {
            self.arm(limit);
        }
    }

    fn arm(&mut self, at: Instant) {
        self.armed = at;
        self.rare.sleep.as_mut().reset(at);
        self.listening = false;
    }

    /// Resolves when a waiter has to be answered. `now` must not be from before this poll of the task:
    /// the timer may have fired since.
    pub(super) fn poll_over(&mut self, now: Instant, cx: &mut Context<'_>) -> Poll<Reason> {
        if let Some(window) = self.drain_begins(cx) {
            let turn = self.turn(window);
            self.set(turn);
        }
        ready!(self.poll_limit(now, cx));
        Poll::Ready(if self.draining().is_some() { Reason::ShuttingDown } else { Reason::Timeout })
    }

    /// Resolves when a client that has asked for nothing is not to be waited for. `now` is as for
    /// [`poll_over`](Self::poll_over).
    pub(super) fn poll_ended(&mut self, now: Instant, cx: &mut Context<'_>) -> Poll<Ended> {
        self.drain_begins(cx);
        if self.draining().is_some() {
            return Poll::Ready(Ended::Draining);
        }
        self.poll_limit(now, cx).map(|()| Ended::Time)
    }

    /// The drain window, the first time that it is seen to have begun.
    fn drain_begins(&mut self, cx: &mut Context<'_>) -> Option<Duration> {
        let listening = self.listening && !self.app.shutdown.has_begun();
        if listening || self.rare.draining.is_some() {
            return None;
        }
        match self.rare.begun.as_mut().poll(cx) {
            Poll::Ready(window) => Some(*self.rare.draining.insert(window)),
            Poll::Pending => None,
        }
    }

    fn poll_limit(&mut self, now: Instant, cx: &mut Context<'_>) -> Poll<()> {
        if self.listening && now < self.armed {
            return Poll::Pending;
        }
        loop {
            let fired = self.rare.sleep.as_mut().poll(cx).is_ready();
            self.listening = true;
            match fired {
                false => return Poll::Pending,
                true if self.armed >= self.limit => return Poll::Ready(()),
                true => self.arm(self.limit),
            }
        }
    }
}
