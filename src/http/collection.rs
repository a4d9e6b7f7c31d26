//! Collections: each has a view, an upstream and, for a feed that takes writes, its write side.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::{FromRequestParts, OriginalUri};
use axum::http::request::Parts;
use percent_encoding::percent_decode_str;
use tokio::sync::watch;

use crate::feed::{Upstream, Writer};
use crate::http::app::App;
use crate::http::auth::access::{Access, Admission};
use crate::http::budget::HeadBytes;
use crate::http::client::{Client, Peer};
use crate::http::rep::problem::Problem;
use crate::http::rep::reply::Source;
use crate::http::serve::liveness::Liveness;
use crate::model::{CollectionName, History, Sighting};
use crate::view::{self, View};

/// A served collection. A failure or resync of one collection does not affect another.
pub struct Collection {
    /// The name; `None` for the default collection.
    name: Option<CollectionName>,
    /// The feed as the user configured it.
    pub(super) feed: String,
    pub(super) view: View,
    pub(super) upstream: Arc<Upstream>,
    /// The write side of a feed that takes writes.
    pub(super) writer: Option<Arc<dyn Writer>>,
    pub(super) liveness: Liveness,
    /// What its state directory holds, if it has one.
    pub(super) stored: Option<Stored>,
    /// The number of this collection within the process.
    pub(super) id: u64,
}

/// What a state directory holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stored {
    /// A copy of the upstream's state.
    Copy,
    /// Every write: it is the datastore.
    Writes,
}

impl Stored {
    /// The word in the status.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Writes => "writes",
        }
    }
}

static COLLECTIONS: AtomicU64 = AtomicU64::new(0);

impl Collection {
    /// The default collection. `feed` is the feed as the user configured it; `feed_silence` the longest silence of a
    /// healthy feed, if there is a limit.
    pub fn new(
        feed: String,
        view: View,
        upstream: Arc<Upstream>,
        writer: Option<Arc<dyn Writer>>,
        feed_silence: Option<Duration>,
    ) -> Self {
        let id = COLLECTIONS.fetch_add(1, Ordering::Relaxed);
        let (liveness, stored) = (Liveness::new(feed_silence), None);
        Self { name: None, feed, view, upstream, writer, liveness, stored, id }
    }

    /// The same collection with a state directory.
    #[must_use]
    pub(crate) fn with_state_directory(self, stored: Option<Stored>) -> Self {
        Self { stored, ..self }
    }

    /// The same collection with a name: its base path is `/v1/c/NAME/`.
    #[must_use]
    pub fn named(self, name: CollectionName) -> Self {
        Self { name: Some(name), ..self }
    }

    /// The name; `None` for the default collection.
    pub(in crate::http) fn name(&self) -> Option<&CollectionName> {
        self.name.as_ref()
    }

    /// The path below the daemon's base path under which its endpoints are.
    pub(in crate::http) fn path(&self) -> String {
        self.name.as_ref().map_or_else(|| "/v1".to_owned(), |name| format!("/v1/c/{name}"))
    }

    /// The source of its answers.
    pub(super) fn source<'a>(&'a self, app: &'a App) -> Source<'a> {
        let (is_guarded, by_origin) = (app.is_guarded(), app.origins.differ());
        let (base_path, age) = (&*app.base_path, self.upstream.age());
        Source { base_path, collection: self.name(), age, is_guarded, by_origin }
    }
}

impl view::UpstreamSightings for Upstream {
    fn may_be_same(&self, one: History, other: History) -> bool {
        self.are_cousins(one, other)
    }

    fn nothing_is_ahead(&self) -> bool {
        self.nothing_is_ahead()
    }

    fn request_sighting(&self) {
        self.ask();
    }

    fn answers_requests(&self) -> bool {
        self.answers()
    }

    fn sightings(&self) -> watch::Receiver<Option<Sighting>> {
        self.sightings()
    }
}

/// The collections of a daemon: the default one, named ones, or both.
#[derive(Clone, Default)]
pub(super) struct Collections(Arc<AllCollections>);

#[derive(Default)]
struct AllCollections {
    default: Option<Arc<Collection>>,
    named: BTreeMap<CollectionName, Arc<Collection>>,
}

impl Collections {
    pub(super) fn new(all: impl IntoIterator<Item = Collection>) -> Self {
        let mut collections = AllCollections::default();
        for collection in all.into_iter().map(Arc::new) {
            match collection.name.clone() {
                Some(name) => _ = collections.named.insert(name, collection),
                None => collections.default = Some(collection),
            }
        }
        Self(Arc::new(collections))
    }

    /// The collection with this name, or the default one.
    pub(super) fn find(&self, name: Option<&str>) -> Option<&Arc<Collection>> {
        match name {
            Some(name) => self.0.named.get(name),
            None => self.0.default.as_ref(),
        }
    }

    /// All collections, the default one first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Collection>> {
        self.0.default.iter().chain(self.0.named.values())
    }

    /// Like [`find`](Self::find), with a 404 for an unknown collection.
    pub(super) fn find_or_404(&self, name: Option<&str>) -> Result<Arc<Collection>, Problem> {
        self.find(name).cloned().ok_or_else(|| {
            let names: Vec<&str> = self.iter().filter_map(|one| Some(one.name()?.as_str())).collect();
            let existing = match &names[..] {
                [] => "this daemon has no named collections; its endpoints are under /v1/".to_owned(),
                names => format!("the collections are {}, under /v1/c/NAME/", names.join(", ")),
            };
            Problem::not_found(match name {
                Some(name) => format!("there is no collection {name:?}; {existing}"),
                None => format!("there is no default collection; {existing}"),
            })
        })
    }
}

/// The context of a handler: the requested collection, the rights in it, and the app.
pub(super) struct Context {
    pub(super) app: App,
    pub(super) collection: Arc<Collection>,
    pub(super) access: Access,
    pub(super) peer: Peer,
    pub(super) head: HeadBytes,
}

impl Context {
    /// The client of the request.
    pub(super) fn client(&self) -> &Arc<Client> {
        self.app.client(self.access.grant(), &self.peer)
    }

    /// The source of the answer.
    pub(super) fn source(&self) -> Source<'_> {
        self.collection.source(&self.app)
    }
}

impl FromRequestParts<App> for Context {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let Ok(OriginalUri(uri)) = OriginalUri::from_request_parts(parts, app).await;
        let collection = app.collections.find_or_404(name_in(uri.path()).as_deref())?;
        let access = Admission::from_request_parts(parts, app).await?.access_to(&collection)?;
        let Ok(peer) = Peer::from_request_parts(parts, app).await;
        Ok(Self { app: app.clone(), collection, access, peer, head: HeadBytes::of(parts) })
    }
}

/// The name in the path of a collection's endpoint; `None` for the default collection. The router's parameters do not
/// serve: with a key that is not UTF-8 they are an error, and that must not lead to another collection.
fn name_in(path: &str) -> Option<Cow<'_, str>> {
    let (name, _) = path.strip_prefix("/v1/c/")?.split_once('/')?;
    Some(percent_decode_str(name).decode_utf8_lossy())
}

#[cfg(test)]
impl Collection {
    /// A collection without data.
    #[allow(clippy::unwrap_used)] // a test may unwrap
    pub(super) fn empty() -> Self {
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
