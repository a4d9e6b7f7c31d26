//! One collection of a running daemon: its feed, ingest buffer, cache, view and state directory.

use std::sync::Arc;

use tokio::task::{JoinError, JoinHandle};

use super::cursor_key;
use crate::cache::{Cache, CacheOptions};
use crate::cli::Failure;
use crate::cli::config::Settings;
use crate::cli::feed::{FeedTask, OpenFeed};
use crate::cli::stored_state::{self, StoredState};
use crate::feed::{FeedSpec, Sink};
use crate::http::Collection;
use crate::http::auth::Tokens;
use crate::model::CursorKey;
use crate::view::View;

/// A collection whose feed is open.
pub(super) struct OpenCollection {
    spec: FeedSpec,
    feed: OpenFeed,
}

/// The tasks of a collection.
pub(super) struct RunningCollection {
    cache: Cache,
    ingest: JoinHandle<()>,
    feeding: FeedTask,
    saving: Option<JoinHandle<()>>,
}

/// A feed that did not end by itself.
#[derive(Debug, thiserror::Error)]
#[error("the feed has crashed: {0}")]
struct FeedCrashed(JoinError);

impl OpenCollection {
    /// Opens the feed.
    pub(super) async fn open(settings: &Settings, spec: FeedSpec) -> Result<Self, Failure> {
        let feed = OpenFeed::open(&spec, settings.strict(), settings.etcd_access()?).await?;
        Ok(Self { spec, feed })
    }

    /// Restores what an earlier process stored, and starts the tasks.
    pub(super) async fn start(
        self,
        settings: &Settings,
        cursor_key: Option<CursorKey>,
        tokens: Option<&Tokens>,
    ) -> Result<(Collection, RunningCollection), Failure> {
        let Self { spec, feed } = self;
        let buffer = Arc::new(settings.buffer()?);
        let upstream = Arc::new(feed.upstream());
        let config = settings.cache();
        let limits = config.entry_limits();
        let stored = StoredState::open(settings.state(), &feed, &spec, &config)?;
        let cursor_key = match cursor_key {
            Some(given) => given,
            None => cursor_key::own(tokens, settings)?,
        };
        let cursor_key = cursor_key.for_collection("");
        let options = CacheOptions { config, cursor_key };
        let (cache, ingest, persistence) = stored.cache(options, &feed, Arc::clone(&buffer), &upstream)?;
        let ingest = ingest.spawn();
        let (warm, saving) = persistence.start(&cache);
        let silence = feed.max_silence();
        let sink = Sink::new(Arc::clone(&buffer), Arc::clone(&upstream));
        let sink = if settings.strict() { sink.strict(limits) } else { sink };
        let (push, feeding) = feed.start(sink, buffer, warm).await;
        if push.is_some() {
            stored_state::applied(&cache).await?;
        }
        let (view, fanout) = View::new(cache.reader(), Arc::clone(&upstream), settings.view());
        tokio::spawn(fanout.run());
        let served = Collection::new(spec.to_string(), view, upstream, push, silence);
        Ok((served, RunningCollection { cache, ingest, feeding, saving }))
    }
}

impl RunningCollection {
    /// Resolves when the feed has failed for good. A feed that has only ended (a file, standard input) leaves its state
    /// to be served.
    pub(super) async fn failed(&mut self) -> Failure {
        match (&mut self.feeding).await {
            Ok(Ok(())) => std::future::pending().await,
            Ok(Err(error)) => Failure::from(error),
            Err(error) => FeedCrashed(error).into(),
        }
    }

    /// Takes no more updates. What the cache has taken is still applied and saved.
    pub(super) fn stop(&self) {
        self.feeding.abort();
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
