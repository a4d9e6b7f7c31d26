//! What a follower tells the application.

use std::time::Duration;

use crate::client::{ClientError, EntryChange, Gap};
use crate::wire::Header;

/// What has happened.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and nearly always the large one")]
pub enum Event {
    /// The state or the sync status has changed. The first one is the whole state.
    Changed(Changed),
    /// The daemon has answered that nothing has changed. The cursor of the state may have moved on.
    Unchanged,
    /// A request has failed. It is sent again after a pause, by itself.
    Retry(Retry),
    /// The daemon's state is empty, and was read anew: perhaps it was lost. The application's state stays as it is, with
    /// so many keys, until the daemon's has a key and is in-sync, or
    /// [the application agrees](crate::client::Follower::allow_empty). Meanwhile the empty state is followed, so the first
    /// key comes at once. This is told once.
    Held {
        /// The keys that are kept.
        keys: usize,
    },
}

/// A change of the application's state.
#[derive(Debug)]
pub struct Changed {
    /// The header of the answer; its cursor is now the state's.
    pub header: Header,
    /// The changes of the application's state. Where the state was read again: the difference to what it was.
    pub changes: Vec<EntryChange>,
    /// Whether the whole state was read: at the start, or after a gap. Also for what ends [`Event::Held`].
    pub snapshot: bool,
    /// Why it was read again, if it was.
    pub gap: Option<Gap>,
}

/// A request that has failed.
#[derive(Debug)]
pub struct Retry {
    /// Why.
    pub error: ClientError,
    /// The time until it is sent again.
    pub pause: Duration,
}
