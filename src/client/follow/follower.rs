//! A follower, and how one is built.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::stream::{Stream, unfold};
use tokio::sync::watch;

use super::endpoints::Endpoints;
use super::engine::Engine;
use super::event::{Changed, Event};
use super::session::{Session, Transport};
use crate::client::{Client, ClientError, MirrorSnapshot, Progress};
use crate::model::Key;

/// How long a daemon may be silent by default: three times the default interval of its heartbeats.
pub const DEFAULT_SILENCE: Duration = Duration::from_secs(45);

/// Follows a daemon for ever, and keeps a copy of its state that is checked at every step.
///
/// It is a [`Stream`] that never ends, of what [`Follower::next`] returns. It reconnects, pauses and changes to another
/// endpoint by itself, and goes on from its cursor. After a gap it reads the whole state, and tells the difference.
/// Nothing happens while nobody waits for it; a [`Mirror`](crate::client::Mirror) follows in a task of its own.
///
/// ```no_run
/// # async fn run() -> Result<(), crumbd::client::ClientError> {
/// use crumbd::client::{Event, Follower};
///
/// let mut follower = Follower::builder("http://127.0.0.1:7811,http://127.0.0.1:7812")?.prefix("app/").start();
/// loop {
///     match follower.next().await? {
///         Event::Changed(changed) => println!("{} changes, {} keys", changed.changes.len(), follower.state().len()),
///         Event::Unchanged => {}
///         Event::Retry(retry) => eprintln!("{}; trying again in {:?}", retry.error, retry.pause),
///         Event::Held { keys } => eprintln!("the daemon has no keys; the {keys} known ones are kept"),
///     }
/// }
/// # }
/// ```
pub struct Follower {
    /// The one step that is under way lives in here, not in the future of the caller.
    events: Pin<Box<dyn Stream<Item = Told> + Send>>,
    state: MirrorSnapshot,
    allow_empty: watch::Sender<bool>,
}

/// An event, and the state after it.
type Told = (Result<Event, ClientError>, MirrorSnapshot);

impl Follower {
    /// Follows the daemon at this address, or several replicas with commas between.
    ///
    /// # Errors
    /// [`ClientError::Url`].
    pub fn builder(urls: &str) -> Result<FollowerBuilder, ClientError> {
        let mut clients = urls.split(',').map(|url| Client::new(url.trim()));
        // There is always a first part.
        let first = clients.next().unwrap_or_else(|| Client::new(urls))?;
        clients.try_fold(Self::of(first), |builder, client| Ok(builder.endpoint(client?)))
    }

    /// Follows the daemon of this client, which may have a token, certificates, a collection.
    pub fn of(client: Client) -> FollowerBuilder {
        FollowerBuilder {
            endpoints: Endpoints::new(client),
            session: Session::new(),
            resumed: None,
            allow_empty: false,
        }
    }

    /// Waits for the next event. The first one is the whole state, unless the follower
    /// [resumes](FollowerBuilder::resume).
    ///
    /// Cancel-safe: what was dropped goes on with the next call, and nothing is lost.
    ///
    /// # Errors
    /// [`ClientError`], where asking again does not help: rights that are missing, another server, no TLS. The next call
    /// asks again all the same, after a pause, because such things can be mended. Everything else is an
    /// [`Event::Retry`].
    pub async fn next(&mut self) -> Result<Event, ClientError> {
        match futures_util::StreamExt::next(self).await {
            Some(event) => event,
            // The stream does not end.
            None => std::future::pending().await,
        }
    }

    /// Waits for the next change of the state or of the sync status, whatever fails in between. Cancel-safe.
    ///
    /// # Errors
    /// As [`Follower::next`].
    pub async fn next_change(&mut self) -> Result<Changed, ClientError> {
        loop {
            if let Event::Changed(changed) = self.next().await? {
                return Ok(changed);
            }
        }
    }

    /// The state as the application was told. To clone it is O(1).
    pub fn state(&self) -> &MirrorSnapshot {
        &self.state
    }

    /// Whether the application agrees to an empty state, see [`Event::Held`].
    pub fn allow_empty(&self, allow: bool) {
        self.allow_empty.send_replace(allow);
    }
}

impl Stream for Follower {
    type Item = Result<Event, ClientError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let told = ready!(self.events.as_mut().poll_next(cx));
        Poll::Ready(told.map(|(event, state)| {
            self.state = state;
            event
        }))
    }
}

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower").field("keys", &self.state.len()).finish_non_exhaustive()
    }
}

/// What to follow, and how.
pub struct FollowerBuilder {
    endpoints: Endpoints,
    session: Session,
    resumed: Option<MirrorSnapshot>,
    allow_empty: bool,
}

impl FollowerBuilder {
    /// Another replica of the same state, which is asked when the one before fails.
    #[must_use]
    pub fn endpoint(mut self, client: Client) -> Self {
        self.endpoints.add(client);
        self
    }

    /// Only the keys with this prefix.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<Key>) -> Self {
        self.session.prefix = Some(prefix.into());
        self
    }

    /// Follows over one long answer (`/v1/stream`) instead of a request for each. This costs both sides less when changes
    /// are frequent. A daemon that sends nothing for `silence`, not even a heartbeat, counts as gone; see
    /// [`DEFAULT_SILENCE`].
    #[must_use]
    pub fn stream(mut self, silence: Duration) -> Self {
        self.session.transport = Transport::Stream(silence);
        self
    }

    /// Begins with a state that was kept, at its cursor. The first event is then what has changed since.
    #[must_use]
    pub fn resume(self, state: MirrorSnapshot) -> Self {
        Self { resumed: Some(state), ..self }
    }

    /// Whether the application agrees to an empty state from the beginning, see [`Event::Held`].
    #[must_use]
    pub fn allow_empty(self, allow: bool) -> Self {
        Self { allow_empty: allow, ..self }
    }

    /// Says how much of a large body has arrived.
    #[must_use]
    pub fn on_progress(mut self, on_progress: impl FnMut(Progress) + Send + 'static) -> Self {
        self.session.on_progress = Box::new(on_progress);
        self
    }

    /// The follower. It asks nothing before somebody waits for its first event.
    #[must_use]
    pub fn start(self) -> Follower {
        let (allow_empty, agreement) = watch::channel(self.allow_empty);
        let state = self.resumed.clone().unwrap_or_default();
        let engine = Engine::new(self.endpoints, self.session, self.resumed, agreement);
        let events = unfold(engine, |mut engine| async move {
            let event = engine.next().await;
            let state = engine.application.seen().clone();
            Some(((event, state), engine))
        });
        Follower { events: Box::pin(events), state, allow_empty }
    }
}

impl fmt::Debug for FollowerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FollowerBuilder").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}
