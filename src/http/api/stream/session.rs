//! A stream in progress: its next bytes. Both fronts use it, each with its own [`Timers`].

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue};
use bytes::Bytes;
use tokio::time::Instant;

use crate::http::api::stream::StreamRequest;
use crate::http::api::stream::framing::{FramedBody, Framing};
use crate::http::api::stream::resume_point::ResumePoint;
use crate::http::app::App;
use crate::http::auth::Revocation;
use crate::http::auth::access::EffectiveScope;
use crate::http::budget::HeadBytes;
use crate::http::client::{Client, Peer, WaiterGuard};
use crate::http::client_table::{Activity, ClientRow};
use crate::http::collection::Collection;
use crate::http::rep::problem::Problem;
use crate::http::rep::reply::{self, Reply};
use crate::model::SyncStatus;
use crate::view::{Answer, Stream, StreamError, StreamEvent, TryNext, ViewError};

/// The longest heartbeat interval. A longer one could overflow the clock.
const MAX_HEARTBEAT: Duration = Duration::from_secs(24 * 60 * 60);

/// The fingerprint of the rights under which the stream is sent, as after the `~` of a resume point.
const RIGHTS: HeaderName = HeaderName::from_static("crumbd-rights");

/// Disables the response buffering of nginx.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// The timer that interrupts the wait of a stream.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Interrupt {
    /// A heartbeat is due.
    Heartbeat,
    /// The daemon is shutting down, and this stream has to end now.
    Drain,
    /// The connection has reached its maximum age.
    MaxAge,
}

/// The timers of a stream's connection.
pub(in crate::http) trait Timers {
    /// Sets the time of the next heartbeat.
    fn set_heartbeat(&mut self, at: Instant);

    /// Resolves when a timer fires. The age counts only for a stream that `has_begun`: the client gets its state first.
    /// May be polled again after it has resolved.
    fn poll_interrupt(&mut self, has_begun: bool, cx: &mut Context<'_>) -> Poll<Interrupt>;
}

/// A stream in progress.
pub(in crate::http) struct StreamSession {
    app: App,
    collection: Arc<Collection>,
    stream: Stream,
    scope: EffectiveScope,
    framing: Framing,
    /// The output in progress; `None` while the stream waits. Boxed, because most streams wait.
    output: Option<Box<Output>>,
    /// Whether the stream ends after the output in progress.
    is_ending: bool,
    /// The client's row in the table of clients.
    row: Option<Box<ClientRow>>,
    /// The sync status when the stream began.
    status: SyncStatus,
    _waiter: WaiterGuard<Arc<Client>>,
}

/// The output in progress.
#[derive(Default)]
struct Output {
    /// The bytes before the first event, until they are sent.
    opening: Option<Bytes>,
    writing: Option<FramedBody>,
    /// How many pieces of it were returned.
    pieces: usize,
}

/// The next event of a stream.
enum Event {
    Revoked(Revocation),
    View(Result<StreamEvent, StreamError>),
    Interrupted(Interrupt),
}

impl StreamSession {
    /// Opens a stream. Its first snapshot is made here, while a refusal can still be sent.
    pub(in crate::http) async fn open(
        app: &App,
        peer: &Peer,
        head: HeadBytes,
        request: &StreamRequest,
    ) -> Result<Self, Problem> {
        let StreamRequest { collection, from, starts_over, scope, framing, name, .. } = request;
        let (scope, framing) = (scope.clone(), *framing);
        let status = collection.view.newest()?.sync_status();
        let client = app.client(scope.grant(), peer);
        let waiter = app.budgets.stream(Arc::clone(client), scope.keys(), head);
        let waiter = waiter.map_err(|full| app.budgets.no_place(full, client))?;
        let from_cursor = from.map(|from| from.cursor);
        let mut stream =
            collection.view.stream(scope.keys(), framing.values(), from_cursor, client.account())?;
        if *starts_over || from.and_then(|from| from.rights).is_some_and(|rights| !scope.has_rights(rights)) {
            stream.start_over();
        }
        let first = match from {
            Some(_) => None,
            None => Some(stream.next(std::future::pending()).await.map_err(ViewError::from)?),
        };
        app.metrics.streams.count_begin(framing);
        let mut session = Self {
            app: app.clone(),
            collection: Arc::clone(collection),
            stream,
            output: None,
            scope,
            framing,
            is_ending: false,
            row: app.client_row(name.as_ref(), peer, collection).map(Box::new),
            status,
            _waiter: waiter,
        };
        session.note();
        let writing = first.map(|snapshot| session.frame(snapshot));
        let opening = framing.opening();
        session.output = Some(Box::new(Output { opening, writing, ..Output::default() }));
        Ok(session)
    }

    /// The head of the response.
    pub(in crate::http) fn head(&self) -> Reply {
        let source = self.collection.source(&self.app);
        let mut reply = Reply::new(Bytes::new().into());
        let head = reply.headers_mut();
        head.insert(CONTENT_TYPE, HeaderValue::from_static(self.framing.as_str()));
        head.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        head.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
        head.insert(reply::STATUS, HeaderValue::from_static(self.status.as_str()));
        head.insert(reply::AGE, source.age.as_secs().into());
        if let Some(rights) = self.scope.fingerprint() {
            reply::insert_text(head, RIGHTS, &format!("{rights:x}"));
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

    /// The time of the next heartbeat, counted from now.
    pub(in crate::http) fn heartbeat_at(&self, now: Instant) -> Instant {
        now + self.app.config.heartbeat.min(MAX_HEARTBEAT)
    }

    /// The next breadcrumb's answer for a reader of all keys without a token, if it is encoded. `take` writes it as
    /// [`Framing::event`] does, and counts it.
    pub(in crate::http) fn try_next<T>(&mut self, take: impl FnOnce(&Answer) -> T) -> TryNext<T> {
        if self.output.is_some() || self.is_ending || self.scope.grant().is_some() {
            return TryNext::Unknown;
        }
        let tried = self.stream.try_next(take);
        if matches!(tried, TryNext::Answered(_)) {
            self.note();
        }
        tried
    }

    /// Notes in the table of clients how far the client is.
    fn note(&self) {
        if let (Some(row), Some(cursor)) = (&self.row, self.stream.cursor()) {
            row.note(Activity::Stream, cursor);
        }
    }

    /// Sends this answer of [`try_next`](Self::try_next) with the next calls of [`next`](Self::next).
    pub(in crate::http) fn send_in_pieces(&mut self, answer: Answer) {
        let writing = Some(self.body("breadcrumb", &answer));
        self.output = Some(Box::new(Output { writing, ..Output::default() }));
    }

    /// Releases the position of a slow reader; see [`Stream::release`].
    pub(in crate::http) fn release(&mut self) {
        self.stream.release();
    }

    /// Whether the client has got a state.
    pub(in crate::http) fn has_begun(&self) -> bool {
        self.stream.cursor().is_some()
    }

    /// The next piece; `None` when the stream has ended. After a cancelled call the stream cannot continue.
    pub(in crate::http) async fn next(&mut self, timers: &mut impl Timers) -> Option<Bytes> {
        if let Some(opening) = self.output.as_mut().and_then(|output| output.opening.take()) {
            timers.set_heartbeat(self.heartbeat_at(Instant::now()));
            return Some(opening);
        }
        loop {
            if let Some(output) = &mut self.output
                && let Some(piece) = output.writing.as_mut().and_then(FramedBody::next)
            {
                if self.is_ending || self.scope.is_granted() {
                    output.pieces += 1;
                    return Some(piece);
                }
                if self.framing.is_events() && output.pieces > 0 {
                    // The client discards an unfinished event.
                    return None;
                }
            }
            self.complete_output(timers);
            if self.is_ending {
                return None;
            }
            let writing = match self.next_event(timers).await {
                Event::Revoked(revocation) => {
                    self.is_ending = true;
                    Some(self.framing.reset(match revocation {
                        Revocation::Changed => "permission-changed",
                        Revocation::Removed => "token-removed",
                    }))
                }
                Event::View(Ok(event)) => Some(self.frame(event)),
                // The stream has begun, so it waits on.
                Event::View(Err(StreamError::OverBudget(_))) => None,
                Event::View(Err(ended)) => self.end(ended),
                Event::Interrupted(Interrupt::Heartbeat) => Some(self.frame(StreamEvent::Heartbeat(None))),
                Event::Interrupted(Interrupt::Drain) => {
                    self.end("the daemon is shutting down; continue on another replica, or here later")
                }
                Event::Interrupted(Interrupt::MaxAge) => {
                    self.end("the connection has reached its maximum age; continue on a new one")
                }
            };
            if writing.is_some() {
                self.output.get_or_insert_default().writing = writing;
            }
        }
    }

    /// The piece that was returned last is written. A stream without output can wait in the fast path.
    pub(in crate::http) fn piece_written(&mut self, timers: &mut impl Timers) {
        let is_last = |output: &Output| output.writing.as_ref().is_none_or(FramedBody::is_finished);
        if !self.is_ending && self.output.as_deref().is_some_and(is_last) {
            self.complete_output(timers);
        }
    }

    /// Ends the output in progress, whose pieces were all returned.
    fn complete_output(&mut self, timers: &mut impl Timers) {
        let heartbeat_at = self.heartbeat_at(Instant::now());
        // The front holds no more of it than of any other response, so its part in the budget ends here.
        if self.output.take().is_some_and(|output| output.writing.is_some()) {
            self.note();
            timers.set_heartbeat(heartbeat_at);
        }
    }

    /// Waits for the next event.
    async fn next_event(&mut self, timers: &mut impl Timers) -> Event {
        let has_begun = self.has_begun();
        let Self { stream, scope, .. } = self;
        let revoked = async {
            match scope.grant() {
                Some(grant) => grant.revoked().await,
                None => std::future::pending().await,
            }
        };
        let next = async {
            let mut interrupt = poll_fn(|cx| timers.poll_interrupt(has_begun, cx));
            // Checked first: a stream that always has events must end too.
            if let Poll::Ready(end @ (Interrupt::Drain | Interrupt::MaxAge)) = once(&mut interrupt).await {
                return Event::Interrupted(end);
            }
            if stream.cursor().is_none() {
                return tokio::select! {
                    biased;
                    event = Box::pin(stream.next(std::future::pending())) => Event::View(event),
                    interrupt = interrupt => Event::Interrupted(interrupt),
                };
            }
            let mut interrupted = None;
            let event = stream.next(async { interrupted = Some(interrupt.await) }).await;
            match interrupted {
                Some(end @ (Interrupt::Drain | Interrupt::MaxAge)) => Event::Interrupted(end),
                Some(Interrupt::Heartbeat) | None => Event::View(event),
            }
        };
        tokio::select! {
            biased;
            // First: an event that is ready at the same time is not sent.
            revocation = revoked => Event::Revoked(revocation),
            event = next => event,
        }
    }

    /// The event as it is sent.
    fn frame(&self, event: StreamEvent) -> FramedBody {
        match event {
            StreamEvent::Reset => {
                self.app.metrics.streams.count_reset();
                self.framing.reset("cursor-gone")
            }
            StreamEvent::Updates(answer) => self.body("breadcrumb", &answer),
            StreamEvent::Snapshot(answer) => self.body("snapshot", &answer),
            StreamEvent::Heartbeat(advanced) => {
                self.framing.heartbeat(advanced.map(|answer| (self.resume_point(&answer), answer)))
            }
        }
    }

    fn body(&self, name: &str, answer: &Answer) -> FramedBody {
        self.app.metrics.streams.count_body(answer.mode);
        self.framing.body(name, &self.resume_point(answer), answer)
    }

    /// The client's resume point after this answer.
    fn resume_point(&self, answer: &Answer) -> ResumePoint {
        ResumePoint { cursor: answer.cursor, rights: self.scope.fingerprint() }
    }

    fn end(&mut self, reason: impl std::fmt::Display) -> Option<FramedBody> {
        self.is_ending = true;
        self.framing.closing_comment(reason)
    }
}

/// The result of a single poll of a future.
async fn once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx))).await
}

impl Drop for StreamSession {
    fn drop(&mut self) {
        self.app.metrics.streams.count_end(self.framing);
    }
}
