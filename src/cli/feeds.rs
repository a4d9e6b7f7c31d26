//! The feed of a daemon, whichever it is.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::feed::Upstream;
use crate::feed::{
    EtcdAccess, EtcdFeed, FeedError, FeedSpec, FileFeed, PushHandle, Sink, StdinFeed, Syncer, Warm,
};
use crate::ingest::{Buffer, IngestBuffer};
use crate::model::{FeedEvent, History, SyncStatus};

/// A feed that was opened and not yet started.
pub(super) enum Opened {
    File(FileFeed),
    Stdin(StdinFeed),
    Etcd(EtcdFeed),
    /// Its history is this process's.
    Push(History),
}

type Feeding = JoinHandle<Result<(), FeedError>>;

impl Opened {
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

    /// Whether what happened before a state of it can be found out later.
    pub(super) fn knows_the_past(&self) -> bool {
        matches!(self, Self::Etcd(_))
    }

    /// How long it is silent at the most while it is well: it asks its upstream every few seconds, and
    /// where that does not answer, it tries again. Standard input may be silent for ever.
    pub(super) fn silence(&self) -> Option<Duration> {
        match self {
            Self::Etcd(_) => Some(Duration::from_secs(120)),
            Self::File(_) | Self::Stdin(_) | Self::Push(_) => None,
        }
    }

    /// Whether what it said is gone with the process, so that keeping a state means nothing.
    pub(super) fn dies_with_the_process(&self) -> bool {
        matches!(self, Self::Stdin(_))
    }

    /// Starts it; a push feed is a handle for the HTTP side instead of a task that reads.
    pub(super) async fn start(
        self,
        sink: Sink,
        buffer: Arc<IngestBuffer<FeedEvent>>,
        warm: Option<Warm>,
    ) -> (Option<PushHandle>, Feeding) {
        match self {
            Self::File(feed) => (None, tokio::spawn(feed.run(sink, warm))),
            Self::Stdin(feed) => (None, tokio::spawn(feed.run(sink, warm))),
            Self::Etcd(feed) => (None, tokio::spawn(feed.run(sink, warm))),
            Self::Push(_) => {
                let handle = PushHandle::new(Arc::clone(&buffer));
                // A datastore of one's own is complete from the start, before anybody can ask.
                let status = FeedEvent::Status(SyncStatus::InSync);
                let told = buffer.write(status, None).await.map_err(|_| FeedError::Stopped);
                (Some(handle), tokio::spawn(std::future::ready(told)))
            }
        }
    }
}
