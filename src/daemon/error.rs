//! Why a daemon does not start, or has ended.

use tokio::task::JoinError;

use crate::cache::{RestoreError, Stopped};
use crate::feed::{FeedError, SpecError};
use crate::http::ServeError;
use crate::http::tls::TlsError;
use crate::ingest::CapacityError;
use crate::model::{CollectionName, CollectionNameError};
use crate::state::StateError;

/// Why a daemon does not start, or has ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DaemonError {
    /// An address cannot be listened on.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// A certificate or key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The URL of a feed cannot be read.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The name of a collection cannot be used.
    #[error(transparent)]
    Name(#[from] CollectionNameError),
    /// A feed cannot be opened, or has failed for good.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// A feed has panicked.
    #[error("the feed has crashed: {0}")]
    FeedCrashed(JoinError),
    /// A state directory cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// A stored state cannot be served.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The size of an ingest buffer makes no sense.
    #[error(transparent)]
    Capacity(#[from] CapacityError),
    /// A cache has stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// A task of the daemon has panicked.
    #[error(transparent)]
    Crashed(#[from] JoinError),
    /// An error of a named collection.
    #[error("collection {name}: {source}")]
    InCollection {
        /// The collection.
        name: CollectionName,
        /// The error.
        source: Box<DaemonError>,
    },
}
