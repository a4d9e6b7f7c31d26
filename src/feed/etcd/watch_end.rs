//! Why a watch ends.

/// Why a watch ended. What follows from it is decided in one place, [`Session::run`](super::session::Session::run).
#[derive(Debug, thiserror::Error)]
pub(super) enum WatchEnd {
    // Changes were missed, or refused, and only reading everything again tells which.
    /// etcd has compacted revisions that the watch still had to deliver.
    #[error("etcd has compacted revisions that were not delivered")]
    Compacted,
    /// The key-count audit found a deletion that was not delivered.
    #[error("the watch has lost a deletion")]
    DeletionLost,
    /// Something changed while no watch was open.
    #[error("keys have changed while there was no watch")]
    ChangesMissed,
    /// The cache has room for keys that it has refused for want of it.
    #[error("there is room for keys that were refused")]
    RoomAgain,
    /// The store is not as far as it was when its keys were last counted, although it is not behind our revision.
    #[error("the store is behind the revision at which its keys were counted")]
    BehindKeyCount,

    // It is another store.
    /// The store's revision is below ours.
    #[error("the store is behind our revision")]
    WentBack,

    // It may be another store.
    /// A check was late or slow. Another server may have answered the one before.
    #[error("the store was not seen for a while")]
    Unobserved,
    /// What the store says of itself contradicts what we know, or what the watch has delivered.
    #[error("the store contradicts what is known of it")]
    Contradiction,

    // It is time for a watch.
    /// No watch was open, and it is time to try one again.
    #[error("it is time to try a watch again")]
    RetryDue,

    // This connection is of no more use.
    /// The server answers for another cluster.
    #[error("another cluster answers")]
    AnotherCluster,
    /// etcd has not confirmed the watch.
    #[error("the watch was not confirmed in time")]
    NotConfirmed,
    /// The server has cancelled the watch, for this reason.
    #[error("the watch was cancelled: {0}")]
    Cancelled(String),
    /// The server has closed the stream.
    #[error("the server closed the watch")]
    Closed,
    /// The store has changes that the watch does not deliver.
    #[error("the watch has delivered nothing although the store has moved on: reading everything again")]
    Stalled,
}
