//! A stream as a body for the framework, which asks for each piece when it has room for it.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use futures_util::stream;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::http::api::stream::session::{Interrupt, Session, Timers};
use crate::http::app::App;
use crate::http::serve::connection_age::Age;

type Boxed = Pin<Box<dyn Future<Output = ()> + Send>>;

struct OwnTimers {
    heartbeat: Pin<Box<Sleep>>,
    stop: Boxed,
    stopped: bool,
    aged: Boxed,
    is_old: bool,
}

impl OwnTimers {
    fn new(app: &App, age: Option<Age>, first_beat: Instant) -> Self {
        let stopping = app.clone();
        let stop = Box::pin(async move { stopping.my_turn().await });
        let aged = Box::pin(async move {
            match age {
                Some(age) => age.over().await,
                None => std::future::pending().await,
            }
        });
        Self { heartbeat: Box::pin(sleep_until(first_beat)), stop, stopped: false, aged, is_old: false }
    }
}

impl Timers for OwnTimers {
    fn beat_at(&mut self, next: Instant) {
        self.heartbeat.as_mut().reset(next);
    }

    fn poll_interrupt(&mut self, has_begun: bool, cx: &mut Context<'_>) -> Poll<Interrupt> {
        self.stopped = self.stopped || self.stop.as_mut().poll(cx).is_ready();
        self.is_old = self.is_old || self.aged.as_mut().poll(cx).is_ready();
        if self.stopped {
            return Poll::Ready(Interrupt::Stop);
        }
        if self.is_old && has_begun {
            return Poll::Ready(Interrupt::Aged);
        }
        self.heartbeat.as_mut().poll(cx).map(|()| Interrupt::Heartbeat)
    }
}

/// Hands the stream to the framework.
pub(in crate::http) fn body(app: &App, session: Session, age: Option<Age>) -> Body {
    let timers = OwnTimers::new(app, age, session.next_beat(Instant::now()));
    let pieces = stream::unfold((session, timers), |(mut session, mut timers)| async move {
        let piece = session.next(&mut timers).await?;
        // What the framework does with it is not known here: the reader may be slow.
        session.let_go();
        Some((Ok::<_, Infallible>(piece), (session, timers)))
    });
    Body::from_stream(pieces)
}
