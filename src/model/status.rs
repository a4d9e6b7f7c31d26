//! The feed's sync status.

use std::fmt;
use std::str::FromStr;

/// The feed's sync status; the names are Typha's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum SyncStatus {
    /// The upstream has not answered yet.
    #[default]
    WaitForDatastore,
    /// The feed reads the state (again). The served state may be older than the upstream's.
    ResyncInProgress,
    /// The state is complete and follows the upstream.
    InSync,
}

impl SyncStatus {
    /// Every status, in the order of a feed's progress.
    pub const ALL: [Self; 3] = [Self::WaitForDatastore, Self::ResyncInProgress, Self::InSync];

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WaitForDatastore => "wait-for-datastore",
            Self::ResyncInProgress => "resync-in-progress",
            Self::InSync => "in-sync",
        }
    }

    /// The letter for it in a cursor.
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

/// The error for a text that is not a sync status.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("unknown status {0:?}: expected wait-for-datastore, resync-in-progress or in-sync")]
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
