//! A daemon of a program's own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Router;

use super::{
    CollectionConfig, Daemon, DaemonConfig, DaemonError, ListenAddress, OpenCollection, OpenDaemon, OwnFeed,
};
use crate::feed::{Feed, FeedSettings, FeedSpec, Storage};
use crate::http::Reload;
use crate::model::{CollectionName, CursorKey};

/// The least time between two saves of a state.
const SAVE_INTERVAL: Duration = Duration::from_secs(10);

/// The time that a program's daemon takes to drain.
const DRAIN: Duration = Duration::from_secs(5);

/// What a daemon of a program's own serves. What is not said is as with `crumbd serve` without flags.
#[derive(Default)]
pub struct DaemonBuilder {
    config: DaemonConfig,
    collections: Vec<(Option<CollectionName>, Source)>,
    state_dir: Option<PathBuf>,
    cursor_key: CursorKey,
}

/// Where the updates of a collection come from.
enum Source {
    Url(String),
    Own(String, Box<dyn Feed>),
}

impl DaemonBuilder {
    /// Serves a feed of the program's own as the default collection. `text` names it in status, page and log, such as
    /// `clock:`.
    #[must_use]
    pub fn feed(self, text: &str, feed: impl Feed) -> Self {
        self.with(None, Source::Own(text.to_owned(), Box::new(feed)))
    }

    /// Serves the feed of a URL, such as `etcd://127.0.0.1:2379/app/`, as the default collection.
    #[must_use]
    pub fn feed_url(self, url: &str) -> Self {
        self.with(None, Source::Url(url.to_owned()))
    }

    /// Serves a feed of the program's own as a named collection.
    #[must_use]
    pub fn collection(self, name: CollectionName, text: &str, feed: impl Feed) -> Self {
        self.with(Some(name), Source::Own(text.to_owned(), Box::new(feed)))
    }

    /// Serves the feed of a URL as a named collection.
    #[must_use]
    pub fn collection_url(self, name: CollectionName, url: &str) -> Self {
        self.with(Some(name), Source::Url(url.to_owned()))
    }

    fn with(mut self, name: Option<CollectionName>, source: Source) -> Self {
        self.collections.push((name, source));
        self
    }

    /// Listens on this address; port 0 takes a free port. It may be said several times. Otherwise it is port 7811 of the
    /// loopback address.
    #[must_use]
    pub fn listen(self, address: SocketAddr) -> Self {
        self.listen_on(address.into())
    }

    /// Listens on an address of whatever kind, beside others.
    #[must_use]
    pub fn listen_on(mut self, address: ListenAddress) -> Self {
        self.config.listen.push(address);
        self
    }

    /// Keeps the state in this directory, for the next start. It is of no use to a feed of the program's own whose
    /// history is another one each time.
    #[must_use]
    pub fn state_dir(self, directory: &Path) -> Self {
        Self { state_dir: Some(directory.to_owned()), ..self }
    }

    /// Serves routes of the program's own beside those of the daemon, see
    /// [`App::with_routes`](crate::http::App::with_routes).
    #[must_use]
    pub fn routes(mut self, routes: Router) -> Self {
        self.config.routes = Some(routes);
        self
    }

    /// Sets everything else: tokens, certificates, limits.
    #[must_use]
    pub fn configure(mut self, change: impl FnOnce(&mut DaemonConfig)) -> Self {
        change(&mut self.config);
        self
    }

    /// The key of cursors, which replicas with tokens have in common.
    #[must_use]
    pub fn cursor_key(self, cursor_key: CursorKey) -> Self {
        Self { cursor_key, ..self }
    }

    /// Starts the daemon. Without a feed it is its own datastore (`push:`).
    ///
    /// # Errors
    /// [`DaemonError`].
    pub async fn start(mut self) -> Result<Daemon, DaemonError> {
        if self.collections.is_empty() {
            self.collections.push((None, Source::Url("push:".to_owned())));
        }
        // Only what can be reloaded needs the signal.
        let has_files = self.config.tokens.is_some() || self.config.tls.is_some();
        let reload = has_files.then(Reload::catch_hangup);
        let daemon = OpenDaemon::listen(self.config)?;
        let mut opened = Vec::new();
        let config = |name: Option<CollectionName>| {
            let state = self.state_dir.as_ref().map(|directory| match &name {
                Some(name) => (directory.join("collections").join(name.as_str()), SAVE_INTERVAL),
                None => (directory.clone(), SAVE_INTERVAL),
            });
            Ok::<_, DaemonError>(CollectionConfig { name, state, ..CollectionConfig::new()? })
        };
        for (name, source) in self.collections {
            match source {
                Source::Url(url) => {
                    for feed in FeedSpec::parse(&url)? {
                        let own = feed.name.as_deref().map(str::parse).transpose()?;
                        let config = config(name.clone().or(own))?;
                        let settings = FeedSettings::default();
                        opened.push(OpenCollection::of_spec(config, &feed.spec, &settings).await?);
                    }
                }
                Source::Own(text, feed) => {
                    let feed = OwnFeed { text, feed, storage: Storage::Copy };
                    opened.push(OpenCollection::of_feed(config(name)?, feed)?);
                }
            }
        }
        daemon.start(opened, &self.cursor_key, reload).await
    }

    /// Starts the daemon, and serves until every feed has failed for good.
    ///
    /// # Errors
    /// [`DaemonError`].
    pub async fn run(self) -> Result<(), DaemonError> {
        self.start().await?.run_until(std::future::pending(), DRAIN).await
    }

    /// Starts the daemon, and serves until `stop` resolves. Then it drains for a few seconds and saves its state.
    ///
    /// # Errors
    /// [`DaemonError`].
    pub async fn run_until(self, stop: impl Future<Output = ()>) -> Result<(), DaemonError> {
        self.start().await?.run_until(stop, DRAIN).await
    }
}
