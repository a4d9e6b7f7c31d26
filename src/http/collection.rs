//! Collections: one cache each, with its view, its upstream and its feed's write handle.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use tokio::sync::watch;

use crate::feed::{PushHandle, Upstream};
use crate::http::app::App;
use crate::http::rep::problem::Problem;
use crate::http::rep::reply::Source;
use crate::http::serve::liveness::Liveness;
use crate::model::{History, Sighting};
use crate::view::{self, View};

/// One collection as it is served. It shares nothing with another one: where one fails or resyncs, the others do not
/// notice.
pub struct Collection {
    /// Its name; none for the default collection.
    name: Option<Box<str>>,
    /// The feed, as the user wrote it.
    pub(super) feed: String,
    pub(super) view: View,
    pub(super) upstream: Arc<Upstream>,
    /// Only a push feed can be written to.
    pub(super) push: Option<PushHandle>,
    pub(super) liveness: Liveness,
    /// Tells the collections of a process from each other.
    pub(super) number: u64,
}

static COLLECTIONS: AtomicU64 = AtomicU64::new(0);

impl Collection {
    /// A collection without a name, which is the default one. `feed` is how the user wrote it, `feed_silence` how long it
    /// is silent at the most while it is well, if there is such a time.
    pub fn new(
        feed: String,
        view: View,
        upstream: Arc<Upstream>,
        push: Option<PushHandle>,
        feed_silence: Option<Duration>,
    ) -> Self {
        let number = COLLECTIONS.fetch_add(1, Ordering::Relaxed);
        Self { name: None, feed, view, upstream, push, liveness: Liveness::new(feed_silence), number }
    }

    /// The same under a name: its addresses begin with `/v1/c/NAME/`.
    #[must_use]
    pub fn named(self, name: impl Into<Box<str>>) -> Self {
        Self { name: Some(name.into()), ..self }
    }

    /// Its name; none for the default collection.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// What its answers say of where they come from.
    pub(super) fn source(&self, is_guarded: bool) -> Source<'_> {
        Source { collection: self.name(), age: self.upstream.age(), is_guarded }
    }
}

/// The feed knows its upstream, and the view asks.
impl view::Upstream for Upstream {
    fn may_be_same(&self, one: History, other: History) -> bool {
        self.are_cousins(one, other)
    }

    fn nothing_is_ahead(&self) -> bool {
        self.nothing_is_ahead()
    }

    fn ask(&self) {
        self.ask();
    }

    fn sightings(&self) -> watch::Receiver<Option<Sighting>> {
        self.sightings()
    }
}

/// The collections of a daemon: the default one, named ones, or both.
#[derive(Clone, Default)]
pub(super) struct Collections(Arc<BTreeMap<Option<Box<str>>, Arc<Collection>>>);

impl Collections {
    pub(super) fn new(all: impl IntoIterator<Item = Collection>) -> Self {
        let by_name = all.into_iter().map(|collection| (collection.name.clone(), Arc::new(collection)));
        Self(Arc::new(by_name.collect()))
    }

    /// The collection with this name; the default one where there is no name.
    pub(super) fn find(&self, name: Option<&str>) -> Option<&Arc<Collection>> {
        self.0.get(&name.map(Box::from))
    }

    /// All of them, the default one first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Collection>> {
        self.0.values()
    }

    /// The same as [`find`](Self::find), for a request.
    pub(super) fn asked_for(&self, name: Option<&str>) -> Result<Arc<Collection>, Problem> {
        self.find(name).cloned().ok_or_else(|| {
            let names: Vec<&str> = self.iter().filter_map(|collection| collection.name()).collect();
            let there = match &names[..] {
                [] => "this daemon has no named collections: its addresses begin with /v1/".to_owned(),
                names => format!("the collections are {}, under /v1/c/NAME/", names.join(", ")),
            };
            Problem::not_found(match name {
                Some(name) => format!("there is no collection {name:?}; {there}"),
                None => format!("there is no default collection; {there}"),
            })
        })
    }
}

/// What a handler works with: the collection that was asked for, and what all collections share.
pub(super) struct Context {
    pub(super) app: App,
    pub(super) collection: Arc<Collection>,
}

impl Context {
    /// What answers say of where they come from.
    pub(super) fn source(&self) -> Source<'_> {
        self.collection.source(self.app.is_guarded())
    }
}

impl FromRequestParts<App> for Context {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        // Where there are none, or they are not UTF-8, no collection has such a name.
        let params = RawPathParams::from_request_parts(parts, app).await.ok();
        let name = params.as_ref().and_then(|all| all.iter().find(|(name, _)| *name == "collection"));
        let collection = app.collections.asked_for(name.map(|(_, name)| name))?;
        Ok(Self { app: app.clone(), collection })
    }
}

#[cfg(test)]
impl Collection {
    /// An empty one, for tests of what surrounds it.
    #[allow(clippy::unwrap_used)] // a test may unwrap
    pub(super) fn of_nothing() -> Self {
        use crate::cache::{Cache, CacheConfig};
        use crate::ingest::IngestBuffer;
        use crate::model::History;
        use crate::view::ViewConfig;

        let buffer = Arc::new(IngestBuffer::channel(1).unwrap());
        let (cache, _) = Cache::new(CacheConfig::default(), Some(History::random()), buffer);
        let upstream = Arc::new(Upstream::local());
        let (view, _) = View::new(cache.reader(), upstream.clone(), &ViewConfig::default());
        Self::new("test:".to_owned(), view, upstream, None, None)
    }
}
