//! Errors of requests.

use std::path::PathBuf;
use std::time::Duration;

use crate::client::MismatchError;
use crate::wire::WireError;

/// Why a state cannot be continued and is read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Gap {
    /// The daemon does not keep the cursor any more, or its history is another.
    CursorGone,
    /// The rights of the client are others than before.
    RightsChanged,
    /// An answer did not match the state, or could not be read several times.
    Mismatch,
}

/// An error of a request.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The address is not valid.
    #[error("{url:?} is not the address of a daemon: {reason}; it looks like http://127.0.0.1:7811")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The token is not valid.
    #[error("the token holds characters that no token has, such as a line break")]
    Token,
    /// A certificate or key cannot be used.
    #[error("{what} {}: {reason}", path.display())]
    TlsFile {
        /// What the file is for.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The two do not trust each other, or one of them speaks no TLS.
    #[error("no TLS with {url}: {reason}")]
    Tls {
        /// The daemon's address.
        url: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// The daemon was not reached, or the connection broke.
    #[error("no answer from {url}: {reason}")]
    Unreachable {
        /// The daemon's address.
        url: String,
        /// The whole chain of causes.
        reason: String,
        /// Whether the request may have reached the daemon.
        was_sent: bool,
    },
    /// Nothing has arrived, not even a heartbeat.
    #[error("{url} has said nothing for {seconds} s, not even that it is alive")]
    Silent {
        /// The daemon's address.
        url: String,
        /// How long nothing has arrived.
        seconds: u64,
    },
    /// The daemon refused.
    #[error("{title} ({status}): {detail}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Names the kind of problem for programs, such as `cursor-gone`; empty when the daemon does not say.
        kind: String,
        /// Its name.
        title: String,
        /// What the daemon says.
        detail: String,
        /// When to try again, if the daemon says.
        retry_after: Option<Duration>,
    },
    /// The answer is not one of this protocol.
    #[error("the daemon's answer makes no sense: {0}")]
    Protocol(String),
    /// The body cannot be read.
    #[error("the daemon's answer cannot be read: {0}")]
    Wire(#[from] WireError),
    /// The body does not match the state.
    #[error("the daemon's answer does not fit the state: {0}")]
    Mismatch(#[from] MismatchError),
}

impl ClientError {
    /// Why the client's state cannot be continued, if the daemon says so: only a snapshot helps.
    pub fn gap(&self) -> Option<Gap> {
        match self {
            Self::Refused { kind, .. } if kind == "rights-changed" || kind == "permission-changed" => {
                Some(Gap::RightsChanged)
            }
            Self::Refused { status: 410, .. } => Some(Gap::CursorGone),
            _ => None,
        }
    }

    /// The time after which the daemon wants the request again, if it says.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether an answer came that could not be used: it was damaged or cut off, or does not fit the state.
    pub(in crate::client) fn is_unusable_answer(&self) -> bool {
        matches!(self, Self::Protocol(_) | Self::Wire(_) | Self::Mismatch(_))
    }

    /// Whether a follower that asks again would get the same answer. Every status that is none of these may pass: it may be
    /// that of a proxy.
    pub(in crate::client) fn ends_a_follower(&self) -> bool {
        match self {
            Self::Refused { status: 400 | 401 | 403 | 404 | 406, .. } => self.gap().is_none(),
            Self::Url { .. } | Self::Token | Self::TlsFile { .. } | Self::Tls { .. } => true,
            _ => false,
        }
    }

    /// Whether the same request may succeed later.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Silent { .. } => true,
            Self::Refused { status, .. } => *status == 429 || *status >= 500,
            _ => false,
        }
    }
}
