//! The body of a stream: each piece is made when the framework asks for it.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use tokio::time::{Instant, Sleep, sleep_until};

use super::framing::{Framing, Writing};
use super::place::Place;
use crate::http::age::Age;
use crate::http::auth::Over;
use crate::http::auth::access::Reach;
use crate::http::budget::{Room, Waiter};
use crate::http::problem::Problem;
use crate::http::routes::App;
use crate::view::{Answer, Ended, Stream, Told};

/// A longer silence is as good as none, and later than clocks go.
const LONGEST_SILENCE: Duration = Duration::from_secs(24 * 60 * 60);

fn next_beat(app: &App) -> Instant {
    Instant::now() + app.config.heartbeat.min(LONGEST_SILENCE)
}

/// One stream under way.
pub(super) struct Sending {
    app: App,
    stream: Stream,
    reach: Reach,
    framing: Framing,
    writing: Option<Writing>,
    /// Pieces of it that were handed over.
    pieces: usize,
    /// A snapshot that waits for room.
    snapshot: Option<Answer>,
    /// Room for the snapshot that is being written, or for the first one.
    room: Option<Room>,
    /// Resolves when the daemon stops and it is this waiter's turn.
    stop: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Resolves when the connection is old.
    aged: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// When something has to be said next.
    heartbeat: Pin<Box<Sleep>>,
    /// Only what is being written is still to come.
    over: bool,
    _waiter: Waiter<Arc<AtomicUsize>>,
}

/// What there is to do.
enum Happened {
    /// The client's rights are others now.
    Over(Over),
    Told(Result<Told, Ended>),
    Room(Result<Room, Problem>),
    Silence,
    Stop,
    /// The connection is old.
    Aged,
}

/// What a stream takes up beside what it tells.
pub(super) struct Held {
    pub(super) waiter: Waiter<Arc<AtomicUsize>>,
    /// For its first snapshot.
    pub(super) room: Option<Room>,
    /// Of its connection.
    pub(super) age: Option<Age>,
}

impl Sending {
    pub(super) fn new(
        app: App,
        stream: Stream,
        reach: Reach,
        framing: Framing,
        Held { waiter, room, age }: Held,
    ) -> Self {
        let stopping = app.clone();
        app.metrics.streams.begins(framing);
        Self {
            aged: Box::pin(async move {
                match age {
                    Some(age) => age.over().await,
                    None => std::future::pending().await,
                }
            }),
            stop: Box::pin(async move { stopping.my_turn().await }),
            heartbeat: Box::pin(sleep_until(next_beat(&app))),
            app,
            stream,
            reach,
            framing,
            writing: None,
            pieces: 0,
            snapshot: None,
            room,
            over: false,
            _waiter: waiter,
        }
    }

    /// Hands the stream to the framework.
    pub(super) fn into_body(self) -> Body {
        let opening = self.framing.opening();
        let pieces = stream::unfold((opening, self), |(opening, mut sending)| async move {
            let piece = match opening {
                Some(opening) => Some(opening),
                None => sending.next().await,
            };
            piece.map(|piece| (Ok::<_, Infallible>(piece), (None, sending)))
        });
        Body::from_stream(pieces)
    }

    /// The next piece; none when the stream is over.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(piece) = self.writing.as_mut().and_then(Writing::next) {
                if self.over || self.reach.is_good() {
                    self.pieces += 1;
                    return Some(piece);
                }
                if self.framing == Framing::Events && self.pieces > 0 {
                    // What is told of an event that does not end does not count.
                    return None;
                }
            }
            if self.writing.take().is_some() {
                self.pieces = 0;
                self.heartbeat.as_mut().reset(next_beat(&self.app));
                if self.snapshot.is_none() {
                    // The framework has taken all of it but for what it may hold of any answer.
                    self.room = None;
                }
            }
            if self.over {
                return None;
            }
            self.writing = match self.happens().await {
                Happened::Over(over) => {
                    self.over = true;
                    Some(self.framing.reset(match over {
                        Over::Changed => "permission-changed",
                        Over::Removed => "token-removed",
                    }))
                }
                Happened::Told(Ok(told)) => self.tell(told),
                Happened::Told(Err(ended)) => self.end(ended),
                Happened::Room(Ok(room)) => {
                    self.room = Some(room);
                    self.snapshot.take().map(|snapshot| self.body("snapshot", &snapshot))
                }
                // Others take long to write theirs: this one has begun and goes on waiting.
                Happened::Room(Err(_)) => None,
                Happened::Silence => {
                    self.heartbeat.as_mut().reset(next_beat(&self.app));
                    let moved = self.stream.passed_by().map(|answer| (self.place(&answer), answer));
                    Some(self.framing.heartbeat(moved))
                }
                Happened::Stop => self.end("the daemon stops; go on elsewhere, or here later"),
                Happened::Aged => self.end("the connection is old; go on over another one"),
            };
        }
    }

    /// Waits for the next thing to do.
    async fn happens(&mut self) -> Happened {
        let Self { app, stream, reach, snapshot, room, stop, aged, heartbeat, .. } = self;
        // However old the connection was: who begins is told the state before it has to begin anew.
        let has_begun = stream.cursor().is_some() && snapshot.is_none();
        let over = async {
            match reach.grant() {
                Some(grant) => grant.over().await,
                None => std::future::pending().await,
            }
        };
        let next = async {
            let Some(snapshot) = snapshot else { return Happened::Told(stream.next().await) };
            let bytes = snapshot.body.len();
            Happened::Room(match room.take() {
                Some(room) => app.budgets.fit(room, bytes).await,
                None => app.budgets.snapshot(bytes).await,
            })
        };
        tokio::select! {
            biased;
            // Before anything else: what has come by then is not told any more.
            why = over => Happened::Over(why),
            () = stop => Happened::Stop,
            () = aged, if has_begun => Happened::Aged,
            happened = next => happened,
            () = heartbeat => Happened::Silence,
        }
    }

    fn tell(&mut self, told: Told) -> Option<Writing> {
        match told {
            Told::Reset => {
                self.app.metrics.streams.reset();
                Some(self.framing.reset("cursor-gone"))
            }
            Told::Updates(answer) => Some(self.body("breadcrumb", &answer)),
            Told::Snapshot(answer) => {
                self.snapshot = Some(answer);
                None
            }
        }
    }

    fn body(&self, name: &str, answer: &Answer) -> Writing {
        self.app.metrics.streams.told(answer.mode);
        self.framing.body(name, &self.place(answer), answer)
    }

    /// Where the client stands after this.
    fn place(&self, answer: &Answer) -> Place {
        Place { cursor: answer.cursor, rights: self.reach.tag() }
    }

    fn end(&mut self, reason: impl std::fmt::Display) -> Option<Writing> {
        self.over = true;
        self.framing.last_words(reason)
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.app.metrics.streams.ends(self.framing);
    }
}
