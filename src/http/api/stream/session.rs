//! One stream under way: what it tells next, as bytes. Both fronts use it; each brings its own [`Timers`].

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue};
use bytes::Bytes;
use tokio::time::Instant;

use crate::http::api::stream::StreamRequest;
use crate::http::api::stream::framing::{Framing, Writing};
use crate::http::api::stream::place::Place;
use crate::http::app::App;
use crate::http::auth::Revocation;
use crate::http::auth::access::EffectiveScope;
use crate::http::budget::{self, Room, Waiter};
use crate::http::collection::Collection;
use crate::http::rep::problem::Problem;
use crate::http::rep::reply::{self, Reply};
use crate::model::SyncStatus;
use crate::view::{Answer, Ended, Stream, Told, TryNext};

/// A longer silence is as good as none, and later than clocks go.
const LONGEST_SILENCE: Duration = Duration::from_secs(24 * 60 * 60);

/// Names the rights that all of the stream is told under: what stands behind the `~` of a place.
const RIGHTS: HeaderName = HeaderName::from_static("crumbd-rights");

/// Asks nginx not to hold back what has come.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Why a stream that waits looks up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Interrupt {
    /// Nothing was said for some time.
    Heartbeat,
    /// The daemon stops, and it is this reader's turn.
    Stop,
    /// The connection is old.
    Aged,
}

/// The clocks of a connection that a stream goes by.
pub(in crate::http) trait Timers {
    /// Something was said now: the next heartbeat is due at this time.
    fn beat_at(&mut self, next: Instant);

    /// Resolves when there is a reason to look up. Who `has_begun` has been told a state: however old the
    /// connection was, that comes first. May be polled again after it has resolved.
    fn poll_interrupt(&mut self, has_begun: bool, cx: &mut Context<'_>) -> Poll<Interrupt>;
}

/// One stream under way.
pub(in crate::http) struct Session {
    app: App,
    collection: Arc<Collection>,
    stream: Stream,
    scope: EffectiveScope,
    framing: Framing,
    /// What stands before everything else, until it is written.
    opening: Option<Bytes>,
    writing: Option<Writing>,
    /// Pieces of it that were handed over.
    pieces: usize,
    /// A snapshot that waits for room.
    snapshot: Option<Answer>,
    /// Room for the snapshot that is being written, or for the first one.
    room: Option<Room>,
    /// Only what is being written is still to come.
    over: bool,
    /// Of the newest breadcrumb when it began.
    status: SyncStatus,
    _waiter: Waiter<Arc<AtomicUsize>>,
}

/// What there is to do.
enum Happened {
    /// The client's rights are others now.
    Revocation(Revocation),
    Told(Result<Told, Ended>),
    Room(Result<Room, Problem>),
    Interrupted(Interrupt),
}

impl Session {
    /// Begins what was asked for. Who will need a snapshot and finds no room is refused while that can still be
    /// said with a status.
    pub(in crate::http) async fn open(app: &App, request: &StreamRequest) -> Result<Self, Problem> {
        let StreamRequest { collection, from, scope, framing } = request;
        let (scope, framing) = (scope.clone(), *framing);
        let newest = collection.view.newest()?;
        let waiter = app.budgets.stream()?;
        let room = match from {
            Some(_) => None,
            None => Some(app.budgets.snapshot(budget::expected(&newest, scope.keys())).await?),
        };
        let status = newest.sync_status();
        drop(newest);
        let mut stream = collection.view.stream(scope.keys(), from.map(|from| from.cursor))?;
        if from
            .is_some_and(|from| from.rights.is_some_and(|rights| rights != scope.fingerprint().unwrap_or(0)))
        {
            stream.start_over();
        }
        app.metrics.streams.begins(framing);
        Ok(Self {
            app: app.clone(),
            collection: Arc::clone(collection),
            stream,
            opening: framing.opening(),
            scope,
            framing,
            writing: None,
            pieces: 0,
            snapshot: None,
            room,
            over: false,
            status,
            _waiter: waiter,
        })
    }

    /// The head of the answer.
    pub(in crate::http) fn head(&self) -> Reply {
        let source = self.collection.source(self.app.is_guarded());
        let mut reply = Reply::new(Bytes::new().into());
        let head = reply.headers_mut();
        head.insert(CONTENT_TYPE, HeaderValue::from_static(self.framing.as_str()));
        head.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        head.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
        head.insert(reply::STATUS, HeaderValue::from_static(self.status.as_str()));
        head.insert(reply::AGE, source.age.as_secs().into());
        if let Some(rights) = self.scope.fingerprint() {
            reply::text(head, RIGHTS, &format!("{rights:x}"));
        }
        reply::vary(source, head);
        reply
    }

    pub(in crate::http) fn collection(&self) -> &Collection {
        &self.collection
    }

    pub(in crate::http) fn framing(&self) -> Framing {
        self.framing
    }

    /// When a heartbeat is due, counted from now.
    pub(in crate::http) fn next_beat(&self, now: Instant) -> Instant {
        now + self.app.config.heartbeat.min(LONGEST_SILENCE)
    }

    /// What there is already, for a reader of everything whose rights cannot end: `take` is given its answer and
    /// writes it as [`Framing::body`] does, and counts it.
    pub(in crate::http) fn try_next<T>(&mut self, take: impl FnOnce(&Answer) -> T) -> TryNext<T> {
        let is_between = self.writing.is_none() && self.snapshot.is_none() && self.opening.is_none();
        if !is_between || self.over || self.scope.grant().is_some() {
            return TryNext::Unknown;
        }
        self.room = None;
        self.stream.try_next(take)
    }

    /// What [`try_next`](Self::try_next) came to and is not written yet is told next.
    pub(in crate::http) fn tell_later(&mut self, answer: Answer) {
        self.writing = Some(self.body("breadcrumb", &answer));
    }

    /// The reader does not take what it is told: nothing is kept for it.
    pub(in crate::http) fn let_go(&mut self) {
        self.stream.let_go();
    }

    /// Whether it has been told a state.
    pub(in crate::http) fn has_begun(&self) -> bool {
        self.stream.cursor().is_some() && self.snapshot.is_none()
    }

    /// The next piece; none when the stream is over. Not cancel-safe but where the stream ends with it.
    pub(in crate::http) async fn next(&mut self, timers: &mut impl Timers) -> Option<Bytes> {
        if let Some(opening) = self.opening.take() {
            timers.beat_at(self.next_beat(Instant::now()));
            return Some(opening);
        }
        loop {
            if let Some(piece) = self.writing.as_mut().and_then(Writing::next) {
                if self.over || self.scope.is_granted() {
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
                timers.beat_at(self.next_beat(Instant::now()));
                if self.snapshot.is_none() {
                    // The framework has taken all of it but for what it may hold of any answer.
                    self.room = None;
                }
            }
            if self.over {
                return None;
            }
            self.writing = match self.happens(timers).await {
                Happened::Revocation(over) => {
                    self.over = true;
                    Some(self.framing.reset(match over {
                        Revocation::Changed => "permission-changed",
                        Revocation::Removed => "token-removed",
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
                Happened::Interrupted(Interrupt::Heartbeat) => self.tell(Told::Nothing(None)),
                Happened::Interrupted(Interrupt::Stop) => {
                    self.end("the daemon stops; go on elsewhere, or here later")
                }
                Happened::Interrupted(Interrupt::Aged) => {
                    self.end("the connection is old; go on over another one")
                }
            };
        }
    }

    /// Waits for the next thing to do.
    async fn happens(&mut self, timers: &mut impl Timers) -> Happened {
        let has_begun = self.has_begun();
        let Self { app, stream, scope, snapshot, room, .. } = self;
        let over = async {
            match scope.grant() {
                Some(grant) => grant.over().await,
                None => std::future::pending().await,
            }
        };
        let next = async {
            let mut interrupt = poll_fn(|cx| timers.poll_interrupt(has_begun, cx));
            // However much there is to tell: it ends when it has to.
            if let Poll::Ready(end @ (Interrupt::Stop | Interrupt::Aged)) = once(&mut interrupt).await {
                return Happened::Interrupted(end);
            }
            if let Some(snapshot) = snapshot {
                let bytes = snapshot.body.len();
                let taken = async {
                    match room.take() {
                        Some(room) => app.budgets.fit(room, bytes).await,
                        None => app.budgets.snapshot(bytes).await,
                    }
                };
                return tokio::select! {
                    biased;
                    taken = taken => Happened::Room(taken),
                    interrupt = interrupt => Happened::Interrupted(interrupt),
                };
            }
            if stream.cursor().is_none() {
                return tokio::select! {
                    biased;
                    told = stream.next(std::future::pending()) => Happened::Told(told),
                    interrupt = interrupt => Happened::Interrupted(interrupt),
                };
            }
            let mut interrupted = None;
            let told = stream.next(async { interrupted = Some(interrupt.await) }).await;
            match interrupted {
                Some(end @ (Interrupt::Stop | Interrupt::Aged)) => Happened::Interrupted(end),
                Some(Interrupt::Heartbeat) | None => Happened::Told(told),
            }
        };
        tokio::select! {
            biased;
            // Before anything else: what has come by then is not told any more.
            why = over => Happened::Revocation(why),
            happened = next => happened,
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
            Told::Nothing(moved) => {
                Some(self.framing.heartbeat(moved.map(|answer| (self.place(&answer), answer))))
            }
        }
    }

    fn body(&self, name: &str, answer: &Answer) -> Writing {
        self.app.metrics.streams.told(answer.mode);
        self.framing.body(name, &self.place(answer), answer)
    }

    /// Where the client stands after this.
    fn place(&self, answer: &Answer) -> Place {
        Place { cursor: answer.cursor, rights: self.scope.fingerprint() }
    }

    fn end(&mut self, reason: impl std::fmt::Display) -> Option<Writing> {
        self.over = true;
        self.framing.last_words(reason)
    }
}

/// What a future comes to when it is polled once.
async fn once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx))).await
}

impl Drop for Session {
    fn drop(&mut self) {
        self.app.metrics.streams.ends(self.framing);
    }
}
