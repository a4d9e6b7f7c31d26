//! How long a connection may take for the head of a request while the framework has it: the framework's timer.
//!
//! hyper knows one time for a head, and counts it from the end of the answer before. So a connection that only
//! rests between two requests would be cut as early as one that has begun to send and does not go on. Its timer is a
//! trait, and is asked each time that bytes came and were not enough: here it looks whether any came, and is the
//! time for a head or the one for a rest accordingly, as in the lean front.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};
use tokio::time::{self, sleep_until};

use crate::http::serve::listener::ServerConfig;
use crate::http::serve::transport::Session;

/// The timer of one connection.
pub(in crate::http) struct HeaderTimer {
    session: Arc<Session>,
    header_timeout: Duration,
    idle_timeout: Duration,
}

impl HeaderTimer {
    pub(in crate::http) fn new(session: &Arc<Session>, config: &ServerConfig) -> Self {
        let ServerConfig { header_timeout, idle_timeout, .. } = *config;
        Self { session: Arc::clone(session), header_timeout, idle_timeout }
    }
}

impl Timer for HeaderTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(Instant::now() + duration)
    }

    /// The deadline is hyper's, for a head that is owed from now on.
    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        let (session, header_timeout) = (Arc::clone(&self.session), self.header_timeout);
        session.head_is_awaited();
        let rests = session.is_resting();
        let until = if rests { Instant::now() + self.idle_timeout } else { deadline };
        let sleep = Box::pin(sleep_until(until.into()));
        Box::pin(HeaderSleep { session, header_timeout, rests, sleep })
    }
}

struct HeaderSleep {
    session: Arc<Session>,
    header_timeout: Duration,
    /// Nothing of the head had come when it was looked at last.
    rests: bool,
    sleep: Pin<Box<time::Sleep>>,
}

impl Sleep for HeaderSleep {}

impl Future for HeaderSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.rests && !self.session.is_resting() {
            self.rests = false;
            let deadline = time::Instant::now() + self.header_timeout;
            self.sleep.as_mut().reset(deadline);
        }
        ready!(self.sleep.as_mut().poll(cx));
        Poll::Ready(())
    }
}
