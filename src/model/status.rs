//! How far the feed has come.

use std::fmt;
use std::str::FromStr;

/// What the feed says about itself; the names are Typha's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum SyncStatus {
    /// The upstream has not answered yet.
    #[default]
    WaitForDatastore,
    /// The state is being read (or read again); what is served may be older than the upstream.
    ResyncInProgress,
    /// The state was complete and follows the upstream.
    InSync,
}

impl SyncStatus {
    /// Every status, in the order in which a feed goes through them.
    pub const ALL: [Self; 3] = [Self::WaitForDatastore, Self::ResyncInProgress, Self::InSync];

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WaitForDatastore => "wait-for-datastore",
            Self::ResyncInProgress => "resync-in-progress",
            Self::InSync => "in-sync",
        }
    }

    /// The one letter that stands for it inside a cursor.
    pub(super) fn letter(self) -> &'static str {
        match self {
            Self::WaitForDatastore => "w",
            Self::ResyncInProgress => "r",
            Self::InSync => "s",
        }
    }
}

impl fmt::Display for SyncStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Not a sync status.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("unknown status {0:?}: it is wait-for-datastore, resync-in-progress or in-sync")]
pub struct StatusError(pub String);

impl FromStr for SyncStatus {
    type Err = StatusError;

    fn from_str(text: &str) -> Result<Self, StatusError> {
        Self::ALL
            .into_iter()
            .find(|s| s.as_str() == text)
            .ok_or_else(|| StatusError(text.chars().take(40).collect()))
    }
}
