//! How a subscription ends, and what is refused.

use std::fmt;

use crate::trail::TerminalError;

/// Why a subscription was closed. The first reason given is the one that is told, for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// Somebody closed it; the reader may subscribe again.
    Forced,
    /// The publisher stops.
    ShuttingDown,
    /// What the reader may see has changed; it must subscribe with its present rights.
    PermissionChanged,
    /// The reader itself asked for it.
    Unsubscribed,
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Forced => "it was closed by force; subscribe again",
            Self::ShuttingDown => "the publisher is shutting down; subscribe elsewhere",
            Self::PermissionChanged => "what it may read has changed; subscribe again",
            Self::Unsubscribed => "it was given up by unsubscribe",
        })
    }
}

/// Why [`Subscription::next`](super::Subscription::next) has no more messages.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The subscription was closed. This comes before any event that is still unread.
    #[error("the subscription has ended: {0}")]
    Closed(CloseReason),
    /// The snapshot could not be made. A new subscription tries again.
    #[error("the subscription has ended without a whole snapshot; subscribe again: {0}")]
    Failed(#[source] TerminalError),
}

/// Why there is no subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The publisher stops or has stopped.
    #[error("the publisher is shutting down and takes no more subscriptions")]
    ShuttingDown,
    /// There are as many as the configuration allows.
    #[error("there are {limit} subscriptions already, which is the limit; try again later")]
    TooMany {
        /// The configured limit.
        limit: usize,
    },
}

/// Why events were not published. No subscriber has seen any of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The publisher was shut down.
    #[error("the publisher was shut down and publishes nothing more")]
    ShutDown,
    /// Readers resume by index, so an index must not come twice or go back.
    #[error("index {index} was to be published after {published}; indexes must grow")]
    NotNewer {
        /// The index that was refused.
        index: u64,
        /// The newest index so far.
        published: u64,
    },
}
