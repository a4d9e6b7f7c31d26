//! One collection of a running daemon: its feed, ingest buffer, cache, view and state directory.

use std::fmt;
use std::sync::Arc;

use tokio::task::{JoinError, JoinHandle};
use tracing::{Instrument, Span, info_span};

use crate::cache::{Cache, CacheOptions, IngestTask};
use crate::cli::Failure;
use crate::cli::config::{CollectionFeed, Settings};
use crate::cli::stored_state::{self, Persistence, StoredState};
use crate::feed::{Activity, Feed, FeedError, Sink, Storage, Upstream};
use crate::http::Collection;
use crate::model::{CursorKey, FeedEvent, SyncStatus};
use crate::view::View;

/// A collection whose feed and state directory are open.
pub(super) struct OpenCollection {
    feed: Box<dyn Feed>,
    stored: StoredState,
    config: CollectionFeed,
    /// The span of its log messages. The default collection has none.
    span: Span,
}

/// The tasks of a collection.
pub(super) struct RunningCollection {
    config: CollectionFeed,
    span: Span,
    cache: Cache,
    upstream: Arc<Upstream>,
    ingest: JoinHandle<()>,
    /// `None` once it has ended.
    feeding: Option<JoinHandle<Result<(), FeedError>>>,
    saving: Option<JoinHandle<()>>,
}

/// The reason why a feed has ended for good.
#[derive(Debug, thiserror::Error)]
pub(super) enum FeedEnd {
    #[error(transparent)]
    Failed(#[from] FeedError),
    #[error("the feed has crashed: {0}")]
    Crashed(JoinError),
}

/// An error of a collection's start, with the collection's name.
#[derive(Debug, thiserror::Error)]
#[error("collection {name}: {source}")]
struct InCollection {
    name: String,
    source: Failure,
}

impl OpenCollection {
    /// Opens the feed and the state directory.
    pub(super) async fn open(settings: &Settings, config: CollectionFeed) -> Result<Self, Failure> {
        let span = match &config.name {
            Some(name) => info_span!("feed", collection = %name),
            None => Span::none(),
        };
        let name = config.name.clone();
        let opened = Self::open_in(settings, config, span.clone()).instrument(span).await;
        opened.map_err(|source| match name {
            Some(name) => InCollection { name: name.to_string(), source }.into(),
            None => source,
        })
    }

    async fn open_in(settings: &Settings, config: CollectionFeed, span: Span) -> Result<Self, Failure> {
        let feed = config.feed.open(settings.feeds()).await?;
        let state = settings.state_of(config.name.as_ref());
        let stored = StoredState::open(state, &*feed, &config.feed, &settings.cache(config.name.as_ref()))?;
        Ok(Self { feed, stored, config, span })
    }

    /// Restores what an earlier process stored, and starts the tasks.
    pub(super) async fn start(
        self,
        settings: &Settings,
        cursor_key: &CursorKey,
    ) -> Result<(Collection, RunningCollection), Failure> {
        let span = self.span.clone();
        self.start_in(settings, cursor_key).instrument(span).await
    }

    async fn start_in(
        self,
        settings: &Settings,
        cursor_key: &CursorKey,
    ) -> Result<(Collection, RunningCollection), Failure> {
        let Self { feed, stored, config, span } = self;
        let name = config.name.as_ref();
        let buffer = Arc::new(settings.buffer()?);
        let upstream = Arc::new(feed.upstream());
        let cache_config = settings.cache(name);
        let limits = cache_config.entry_limits();
        let keeps_every_write = cache_config.keep_every_write;
        let cursor_key = cursor_key.for_collection(name.map_or("", |name| name.as_str()));
        let options = CacheOptions { config: cache_config, cursor_key };
        let (cache, ingest, persistence) = stored.cache(options, &*feed, Arc::clone(&buffer), &upstream)?;
        let sink = Sink::new(Arc::clone(&buffer), Arc::clone(&upstream));
        let sink = sink.keeping_every_write(keeps_every_write);
        let sink = if settings.feeds().strict { sink.strict(limits) } else { sink };
        let silence = feed.max_silence();
        let writer = feed.writer(&buffer, limits);
        let Tasks { ingest, feeding, saving } =
            Tasks::start(ingest, persistence, feed, sink, &cache, config.feed.kind().storage).await?;
        let (view, fanout) = View::new(cache.reader(), Arc::clone(&upstream), &settings.view(name));
        tokio::spawn(fanout.run());
        let text = config.feed.to_string();
        let served = Collection::new(text, view, Arc::clone(&upstream), writer, silence);
        let served = match name {
            Some(name) => served.named(name.clone()),
            None => served,
        };
        Ok((
            served,
            RunningCollection { config, span, cache, upstream, ingest, feeding: Some(feeding), saving },
        ))
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
    ) -> Result<Self, Failure> {
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
    pub(super) async fn failed(&mut self) -> FeedEnd {
        let Some(feeding) = &mut self.feeding else { return std::future::pending().await };
        let ended = feeding.await;
        self.feeding = None;
        match ended {
            Ok(Ok(())) => std::future::pending().await,
            Ok(Err(error)) => error.into(),
            Err(error) => FeedEnd::Crashed(error),
        }
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
        match &self.config.name {
            Some(name) => write!(f, "{name}={}", self.config.feed),
            None => write!(f, "{}", self.config.feed),
        }
    }
}
