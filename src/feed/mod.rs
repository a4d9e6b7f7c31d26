//! The feeds, where updates come from: one folder each, and one line in `registry.rs`.
//!
//! A feed reads its upstream and sends [`FeedEvent`]s to the cache through the ingest buffer
//! ([`Sink`]), in order. It promises to reconnect by itself, to wait when the buffer is full and to drop nothing, and to
//! record when it last heard its upstream and what it is doing ([`Upstream`]). A record that it cannot read is counted and
//! logged with its position, and, unless strict, the feed goes on. A feed must never read the cache: whether an update
//! changes anything is not its business.
//!
//! A feed is configured ([`FeedSpec`]: a URL with options), then opened, then run ([`Feed`]).

mod activity;
mod backoff;
mod config;
#[cfg(any(feature = "etcd", feature = "kubernetes", feature = "otlp"))]
mod error_chain;
#[cfg(feature = "etcd")]
mod etcd;
mod file;
#[cfg(feature = "kubernetes")]
mod kubernetes;
mod lines;
mod push;
mod registry;
mod relay;
mod sink;
mod spec;
mod stdin;
mod translate;
mod upstream;
mod url;
mod write;

pub use activity::Activity;
pub(crate) use activity::ActivityReport;
pub(crate) use config::{EtcdFlags, FeedConfig, FeedSettings, PASSWORD_VARIABLE};
#[cfg(feature = "otlp")]
pub(crate) use error_chain::chain as error_chain;
#[cfg(feature = "etcd")]
pub use etcd::{EtcdAccess, EtcdFeed, EtcdTarget, Password};
pub use file::{FileFeed, NoFile};
pub(crate) use registry::{Kind, Storage, kinds};
pub use sink::Sink;
pub(crate) use spec::FeedSpec;
pub use spec::SpecError;
pub use stdin::StdinFeed;
pub use upstream::Upstream;
#[cfg(feature = "etcd")]
pub use write::EtcdCalls;
pub use write::{UpstreamLimit, WriteError, WriteRequest, Writer};

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use futures_util::future::BoxFuture;

use crate::ingest::IngestBuffer;
use crate::model::{Cursor, Entry, EntryLimits, FeedEvent, History, Revision};

/// Why a feed ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FeedError {
    /// The file cannot be read.
    #[error("feed file {}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The name is not that of a regular file.
    #[error("feed file {}: it is {kind}", path.display())]
    NoFile {
        /// The name.
        path: PathBuf,
        /// What is there instead, and what to do about it.
        kind: NoFile,
    },
    /// Standard input cannot be read.
    #[error("feed standard input: {0}")]
    Stdin(std::io::Error),
    /// A setting, or a file that it names, cannot be used.
    #[error(transparent)]
    Setting(Box<dyn std::error::Error + Send + Sync>),
    /// A bad record under `--strict`.
    #[error("{place}: {reason} (--strict: one bad record ends the feed)")]
    Strict {
        /// File and line.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The cache no longer takes events: the daemon is stopping.
    #[error("the cache has stopped")]
    Stopped,
    /// What ended a feed of another program.
    #[error(transparent)]
    Other(Box<dyn std::error::Error + Send + Sync>),
}

impl FeedError {
    /// What ends a feed of another program, for good: errors that may pass are the feed's business.
    pub fn other(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Other(error.into())
    }

    /// An error in a setting.
    fn setting(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Setting(Box::new(error))
    }
}

/// The state of the cache when the feed begins, after a warm start.
#[derive(Clone, Debug)]
pub struct Warm {
    /// Whose revisions these are.
    pub history: History,
    /// The revision of the restored state.
    pub revision: Revision,
    /// The cursor of the restored state.
    pub cursor: Cursor,
    /// The oldest revision whose changes up to it are known.
    pub oldest: Revision,
    /// Keys in the restored state. The upstream has more if some were refused.
    pub count: u64,
    /// The entry that was set last in the restored state.
    pub newest: Option<Entry>,
}

/// An open feed, not yet running.
pub trait Feed: Send + 'static {
    /// The history of its revisions, if it is known before the upstream is read. One that is derived from the upstream's
    /// identity ([`History::derive`]) lets clients continue after a restart; with a random one each restart costs every
    /// client a snapshot. `None` means that the feed's first [`FeedEvent::ResyncBegin`] names it: until then nothing is
    /// served.
    fn history(&self) -> Option<History>;

    /// The record of its upstream, for [`Sink::new`].
    fn upstream(&self) -> Upstream {
        Upstream::remote()
    }

    /// The longest silence of a healthy feed, for the liveness watchdog; `None` where a feed may be silent for ever.
    fn max_silence(&self) -> Option<Duration> {
        None
    }

    /// Whether the feed can read the changes before a restored state.
    fn can_read_history(&self) -> bool {
        false
    }

    /// Whether the upstream counts the writes of each key ([`WriteInfo`](crate::model::WriteInfo)). Then nobody else may.
    fn counts_writes(&self) -> bool {
        false
    }

    /// The write side, if the feed has one. `buffer` is the cache's, and `limits` are those of the cache.
    fn writer(
        &self,
        _buffer: &Arc<IngestBuffer<FeedEvent>>,
        _limits: EntryLimits,
    ) -> Option<Arc<dyn Writer>> {
        None
    }

    /// Reports statuses and updates until the upstream ends for good or the cache stops. Of a feed that is its own
    /// datastore ([`Storage::Datastore`]) it ends as soon as everything was reported.
    ///
    /// After a warm start the cache already holds the state of `warm`: the feed continues from there, or reads
    /// everything as a resync.
    fn run(self: Box<Self>, sink: Sink, warm: Option<Warm>) -> BoxFuture<'static, Result<(), FeedError>>;
}
