//! The daemon's feed, of any kind.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::feed::Upstream;
use crate::feed::{
    EtcdAccess, EtcdFeed, FeedError, FeedSpec, FileFeed, PushHandle, Sink, StdinFeed, Syncer, Warm,
};
use crate::ingest::{Buffer, IngestBuffer};
use crate::model::{FeedEvent, History, SyncStatus};

/// A feed that is open and not yet started.
pub(super) enum OpenFeed {
    File(FileFeed),
    Stdin(StdinFeed),
    Etcd(EtcdFeed),
    /// Holds the history of this process.
    Push(History),
}

pub(super) type FeedTask = JoinHandle<Result<(), FeedError>>;

impl OpenFeed {
    pub(super) async fn open(spec: &FeedSpec, strict: bool, access: EtcdAccess) -> Result<Self, FeedError> {
        Ok(match spec {
            FeedSpec::File { path, follow } => {
                Self::File(FileFeed::open(path.clone(), *follow, strict).await?)
            }
            FeedSpec::Stdin => Self::Stdin(StdinFeed::new(strict)),
            FeedSpec::Etcd { target, tls } => {
                Self::Etcd(EtcdFeed::new(target.clone(), EtcdAccess { tls: *tls, ..access }))
            }
            FeedSpec::Push => Self::Push(History::random()),
        })
    }

    pub(super) fn history(&self) -> Option<History> {
        match self {
            Self::File(feed) => feed.history(),
            Self::Stdin(feed) => feed.history(),
            Self::Etcd(feed) => feed.history(),
            Self::Push(history) => Some(*history),
        }
    }

    pub(super) fn upstream(&self) -> Upstream {
        match self {
            Self::Push(_) => Upstream::local(),
            Self::File(_) | Self::Stdin(_) | Self::Etcd(_) => Upstream::remote(),
        }
    }

    /// Whether the feed can read the history before a restored state.
    pub(super) fn can_read_history(&self) -> bool {
        matches!(self, Self::Etcd(_))
    }

    /// The longest silence of a healthy feed, for the liveness watchdog. The etcd feed asks its upstream every few
    /// seconds, and tries again when it gets no answer. Standard input may be silent for ever.
    pub(super) fn max_silence(&self) -> Option<Duration> {
        match self {
            Self::Etcd(_) => Some(Duration::from_secs(120)),
            Self::File(_) | Self::Stdin(_) | Self::Push(_) => None,
        }
    }

    /// Whether the feed's data end with the process, so that a stored state is of no use.
    pub(super) fn is_volatile(&self) -> bool {
        matches!(self, Self::Stdin(_))
    }

    /// Starts the feed. A push feed has no task that reads; it returns a write handle for the HTTP side.
    pub(super) async fn start(
        self,
        sink: Sink,
        buffer: Arc<IngestBuffer<FeedEvent>>,
        warm: Option<Warm>,
    ) -> (Option<PushHandle>, FeedTask) {
        match self {
            Self::File(feed) => (None, tokio::spawn(feed.run(sink, warm))),
            Self::Stdin(feed) => (None, tokio::spawn(feed.run(sink, warm))),
            Self::Etcd(feed) => (None, tokio::spawn(feed.run(sink, warm))),
            Self::Push(_) => {
                let handle = PushHandle::new(Arc::clone(&buffer));
                // A push feed is its own datastore: it is in-sync before the first request.
                let status = FeedEvent::Status(SyncStatus::InSync);
                let sent = buffer.write(status, None).await.map_err(|_| FeedError::Stopped);
                (Some(handle), tokio::spawn(std::future::ready(sent)))
            }
        }
    }
}
