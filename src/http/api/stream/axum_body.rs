//! A stream as a body of axum. The framework polls the next piece when the client has read enough.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use futures_util::stream;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::http::api::stream::session::{Interrupt, StreamSession, Timers};
use crate::http::app::App;
use crate::http::serve::connection_age::ConnectionAge;

type Boxed = Pin<Box<dyn Future<Output = ()> + Send>>;

struct BodyTimers {
    heartbeat: Pin<Box<Sleep>>,
    drain: Boxed,
    is_draining: bool,
    max_age: Boxed,
    is_old: bool,
}

impl BodyTimers {
    fn new(app: &App, age: Option<ConnectionAge>, heartbeat_at: Instant) -> Self {
        let app = app.clone();
        let drain = Box::pin(async move { app.drain_delay().await });
        let max_age = Box::pin(async move {
            match age {
                Some(age) => age.reached().await,
                None => std::future::pending().await,
            }
        });
        let heartbeat = Box::pin(sleep_until(heartbeat_at));
        Self { heartbeat, drain, is_draining: false, max_age, is_old: false }
    }
}

impl Timers for BodyTimers {
    fn set_heartbeat(&mut self, at: Instant) {
        self.heartbeat.as_mut().reset(at);
    }

    fn poll_interrupt(&mut self, has_begun: bool, cx: &mut Context<'_>) -> Poll<Interrupt> {
        self.is_draining = self.is_draining || self.drain.as_mut().poll(cx).is_ready();
        self.is_old = self.is_old || self.max_age.as_mut().poll(cx).is_ready();
        if self.is_draining {
            return Poll::Ready(Interrupt::Drain);
        }
        if self.is_old && has_begun {
            return Poll::Ready(Interrupt::MaxAge);
        }
        self.heartbeat.as_mut().poll(cx).map(|()| Interrupt::Heartbeat)
    }
}

/// The stream as a body.
pub(in crate::http) fn body(app: &App, session: StreamSession, age: Option<ConnectionAge>) -> Body {
    let timers = BodyTimers::new(app, age, session.heartbeat_at(Instant::now()));
    let pieces = stream::unfold((session, timers), |(mut session, mut timers)| async move {
        let piece = session.next(&mut timers).await?;
        // The client may read slowly.
        session.release();
        Some((Ok::<_, Infallible>(piece), (session, timers)))
    });
    Body::from_stream(pieces)
}
