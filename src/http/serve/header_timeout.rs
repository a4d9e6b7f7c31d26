//! The header timeout and the keep-alive timeout of connections in the framework.
//!
//! hyper has one timeout for the head of a request, and counts it from the end of the previous answer. It would close an
//! idle connection as early as one that stalls within a head. But hyper's timer is a trait, and is polled whenever bytes
//! arrived that do not complete the head. This timer checks whether any bytes arrived: before the first one it is the
//! idle timeout, after it the header timeout, as in the lean front.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};
use tokio::time::{self, sleep_until};

use crate::http::serve::listener::ServerConfig;
use crate::http::serve::transport::FrameworkSession;

/// The timer of one connection.
pub(in crate::http) struct HeaderTimer {
    session: Arc<FrameworkSession>,
    header_timeout: Duration,
    idle_timeout: Duration,
}

impl HeaderTimer {
    pub(in crate::http) fn new(session: &Arc<FrameworkSession>, config: &ServerConfig) -> Self {
        let ServerConfig { header_timeout, idle_timeout, .. } = *config;
        Self { session: Arc::clone(session), header_timeout, idle_timeout }
    }
}

impl Timer for HeaderTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(Instant::now() + duration)
    }

    /// `deadline` is hyper's, for a head that begins now.
    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        let (session, header_timeout) = (Arc::clone(&self.session), self.header_timeout);
        session.head_awaited();
        let is_idle = session.is_between_requests();
        let until = if is_idle { Instant::now() + self.idle_timeout } else { deadline };
        let sleep = Box::pin(sleep_until(until.into()));
        Box::pin(HeaderSleep { session, header_timeout, is_idle, sleep })
    }
}

struct HeaderSleep {
    session: Arc<FrameworkSession>,
    header_timeout: Duration,
    /// Whether no byte of the head had arrived at the last poll.
    is_idle: bool,
    sleep: Pin<Box<time::Sleep>>,
}

impl Sleep for HeaderSleep {}

impl Future for HeaderSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_idle && !self.session.is_between_requests() {
            self.is_idle = false;
            let deadline = time::Instant::now() + self.header_timeout;
            self.sleep.as_mut().reset(deadline);
        }
        ready!(self.sleep.as_mut().poll(cx));
        Poll::Ready(())
    }
}
