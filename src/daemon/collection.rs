//! One collection of a running daemon: its feed, ingest buffer, cache, view and state directory.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, JoinHandle};
use tracing::{Instrument, Span, info_span};

use super::stored_state::{self, Persistence, StoredState};
use super::{DaemonError, reread};
use crate::cache::{Cache, CacheConfig, CacheOptions, IngestTask, Reader};
use crate::feed::{Activity, Feed, FeedError, FeedSettings, FeedSpec, Sink, Storage, Upstream};
use crate::http::Collection;
use crate::ingest::{CapacityError, IngestBuffer};
use crate::model::{CollectionName, CursorKey, FeedEvent, SyncStatus};
use crate::view::{View, ViewConfig};

/// The events that an ingest buffer holds by default.
const DEFAULT_INGEST_CAPACITY: usize = 1024;

/// One collection as it is configured.
pub(crate) struct CollectionConfig {
    /// The name; `None` for the default collection.
    pub name: Option<CollectionName>,
    /// The limits of its cache.
    pub cache: CacheConfig,
    /// The limits of its view.
    pub view: ViewConfig,
    /// The buffer between feed and cache.
    pub buffer: IngestBuffer<FeedEvent>,
    /// Its state directory, and the least time between two saves.
    pub state: Option<(PathBuf, Duration)>,
    /// Whether an update that the cache would refuse ends the feed.
    pub strict: bool,
}

impl CollectionConfig {
    /// The default collection, with the limits of `crumbd serve` without flags, and without a state directory.
    ///
    /// # Errors
    /// None in practice: the default capacity of the buffer is valid.
    pub(crate) fn new() -> Result<Self, CapacityError> {
        let (cache, view) = (CacheConfig::default(), ViewConfig::default());
        let buffer = IngestBuffer::channel(DEFAULT_INGEST_CAPACITY)?;
        Ok(Self { name: None, cache, view, buffer, state: None, strict: false })
    }
}

/// A feed that is not of this crate.
pub(crate) struct OwnFeed {
    /// The feed as status, page and log name it, such as `clock:`.
    pub text: String,
    /// The feed.
    pub feed: Box<dyn Feed>,
    /// What a state directory is to it.
    pub storage: Storage,
}

/// A collection whose feed and state directory are open.
pub(crate) struct OpenCollection {
    config: CollectionConfig,
    feed: OwnFeed,
    stored: StoredState,
    /// The span of its log messages. The default collection has none.
    span: Span,
}

/// The tasks of a collection.
pub(super) struct RunningCollection {
    name: Option<CollectionName>,
    feed: String,
    span: Span,
    cache: Cache,
    upstream: Arc<Upstream>,
    ingest: JoinHandle<()>,
    /// `None` once it has ended.
    feeding: Option<JoinHandle<Result<(), FeedError>>>,
    saving: Option<JoinHandle<()>>,
    /// What asks the feed to read everything again, where the room for keys is limited.
    rereading: Option<JoinHandle<()>>,
}

impl OpenCollection {
    /// Opens the feed of a URL, and the state directory.
    ///
    /// # Errors
    /// [`DaemonError`], if the feed can never work or the directory cannot be used.
    pub(crate) async fn of_spec(
        config: CollectionConfig,
        spec: &FeedSpec,
        settings: &FeedSettings,
    ) -> Result<Self, DaemonError> {
        let span = span(config.name.as_ref());
        let name = config.name.clone();
        let opened = async {
            let (feed, storage) = (spec.open(settings).await?, spec.kind().storage);
            let feed = OwnFeed { text: spec.to_string(), feed, storage };
            Self::open(config, feed, spec.identity(), span.clone())
        };
        opened.instrument(span.clone()).await.map_err(|error| in_collection(name, error))
    }

    /// Takes a feed of the program's own, and opens the state directory. A directory is kept for one `text`.
    ///
    /// # Errors
    /// [`DaemonError`], if the directory cannot be used.
    pub(crate) fn of_feed(config: CollectionConfig, feed: OwnFeed) -> Result<Self, DaemonError> {
        let span = span(config.name.as_ref());
        let (name, identity) = (config.name.clone(), feed.text.clone());
        let opened = span.clone().in_scope(|| Self::open(config, feed, identity, span));
        opened.map_err(|error| in_collection(name, error))
    }

    fn open(
        mut config: CollectionConfig,
        feed: OwnFeed,
        identity: String,
        span: Span,
    ) -> Result<Self, DaemonError> {
        let stored = StoredState::open(config.state.take(), &feed, identity, &config.cache)?;
        Ok(Self { config, feed, stored, span })
    }

    /// Restores what an earlier process stored, and starts the tasks.
    pub(super) async fn start(
        self,
        cursor_key: &CursorKey,
    ) -> Result<(Collection, RunningCollection), DaemonError> {
        let span = self.span.clone();
        self.start_in(cursor_key).instrument(span).await
    }

    async fn start_in(self, cursor_key: &CursorKey) -> Result<(Collection, RunningCollection), DaemonError> {
        let Self { config, feed, stored, span } = self;
        let CollectionConfig { name, cache: cache_config, view, buffer, strict, .. } = config;
        let OwnFeed { text, feed, storage } = feed;
        let buffer = Arc::new(buffer);
        let upstream = Arc::new(feed.upstream());
        let limits = cache_config.entry_limits();
        let is_limited = cache_config.max_keys.is_some() || cache_config.max_bytes.is_some();
        let keeps_every_write = cache_config.keep_every_write;
        let cursor_key = cursor_key.for_collection(name.as_ref().map_or("", |name| name.as_str()));
        let options = CacheOptions { config: cache_config, cursor_key };
        let directory = stored.kind();
        let (cache, ingest, persistence) = stored.cache(options, &*feed, Arc::clone(&buffer), &upstream)?;
        let sink = Sink::new(Arc::clone(&buffer), Arc::clone(&upstream));
        let sink = sink.keeping_every_write(keeps_every_write);
        let sink = if strict { sink.strict(limits) } else { sink };
        let silence = feed.max_silence();
        let writer = feed.writer(&buffer, limits);
        let Tasks { ingest, feeding, saving } =
            Tasks::start(ingest, persistence, feed, sink, &cache, storage).await?;
        let (view, fanout) = View::new(cache.reader(), Arc::clone(&upstream), &view);
        tokio::spawn(fanout.run());
        let served = Collection::new(text.clone(), view, Arc::clone(&upstream), writer, silence)
            .with_state_directory(directory);
        let served = match name.clone() {
            Some(name) => served.named(name),
            None => served,
        };
        let feeding = Some(feeding);
        let rereading = is_limited.then(|| {
            let wanted = cache.reader().reread_wanted();
            tokio::spawn(reread::ask(wanted, Arc::clone(&upstream)))
        });
        let feed = text;
        let running =
            RunningCollection { name, feed, span, cache, upstream, ingest, feeding, saving, rereading };
        Ok((served, running))
    }
}

fn span(name: Option<&CollectionName>) -> Span {
    match name {
        Some(name) => info_span!("feed", collection = %name),
        None => Span::none(),
    }
}

fn in_collection(name: Option<CollectionName>, error: DaemonError) -> DaemonError {
    match name {
        Some(name) => DaemonError::InCollection { name, source: Box::new(error) },
        None => error,
    }
}

/// The tasks that fill a cache and save its state.
struct Tasks {
    ingest: JoinHandle<()>,
    feeding: JoinHandle<Result<(), FeedError>>,
    saving: Option<JoinHandle<()>>,
}

impl Tasks {
    async fn start(
        ingest: IngestTask,
        persistence: Persistence,
        feed: Box<dyn Feed>,
        sink: Sink,
        cache: &Cache,
        storage: Storage,
    ) -> Result<Self, DaemonError> {
        let ingest = ingest.spawn();
        let (warm, saving) = persistence.start(cache);
        let running = feed.run(sink, warm);
        let feeding = if storage == Storage::Datastore {
            // It is in-sync before the first request.
            running.await?;
            stored_state::applied(cache).await?;
            tokio::spawn(std::future::ready(Ok(())))
        } else {
            tokio::spawn(running.in_current_span())
        };
        Ok(Self { ingest, feeding, saving })
    }
}

impl RunningCollection {
    /// Resolves when the feed has failed for good. A feed that has only ended (a file, standard input) leaves its state
    /// to be served. Cancel-safe; resolves once.
    pub(super) async fn failed(&mut self) -> DaemonError {
        let Some(feeding) = &mut self.feeding else { return std::future::pending().await };
        let ended = feeding.await;
        self.feeding = None;
        match ended {
            Ok(Ok(())) => std::future::pending().await,
            Ok(Err(error)) => error.into(),
            Err(error) => DaemonError::FeedCrashed(error),
        }
    }

    /// What reads the cache.
    pub(super) fn reader(&self) -> Reader {
        self.cache.reader()
    }

    /// The name; `None` for the default collection.
    pub(super) fn name(&self) -> Option<&CollectionName> {
        self.name.as_ref()
    }

    /// The span of the collection's log messages.
    pub(super) fn span(&self) -> &Span {
        &self.span
    }

    /// Goes on serving the last state, as one that is not in-sync.
    pub(super) async fn serve_without_feed(&self, why: &impl fmt::Display) {
        self.upstream.has_failed(why);
        self.upstream.does(Activity::Failed);
        // Not the reason itself, which may quote a record: not every client may read it.
        let problem =
            "the feed has failed for good, and is not tried again before a restart; feed_last_error says why";
        self.upstream.has_problem(Some(problem.to_owned()));
        // A resync that the feed has left unfinished would hold everything back. An error means that the daemon stops.
        for event in [FeedEvent::ResyncAborted, FeedEvent::Status(SyncStatus::ResyncInProgress)] {
            _ = self.cache.send(event).await;
        }
    }

    /// Takes no more updates. What the cache has taken is still applied and saved.
    pub(super) fn stop(&self) {
        self.feeding.iter().for_each(JoinHandle::abort);
        self.rereading.iter().for_each(JoinHandle::abort);
        self.cache.stop();
    }

    /// Resolves when everything is applied and saved.
    ///
    /// # Errors
    /// A task has crashed.
    pub(super) async fn stopped(self) -> Result<(), JoinError> {
        self.ingest.await?;
        match self.saving {
            Some(saving) => saving.await,
            None => Ok(()),
        }
    }
}

impl fmt::Display for RunningCollection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name}={}", self.feed),
            None => write!(f, "{}", self.feed),
        }
    }
}
