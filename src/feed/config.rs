//! A feed as it is configured.

use std::fmt;

use futures_util::future::BoxFuture;

use super::{EtcdFlags, Feed, FeedError};

/// The settings of the daemon that feeds use beside their URL.
#[derive(Clone, Debug, Default)]
pub struct FeedSettings {
    /// Whether one bad record ends the feed.
    pub strict: bool,
    /// The `--etcd-…` flags. Options in the URL win over them.
    pub etcd: EtcdFlags,
}

/// A configured feed: a parsed URL. Nothing is opened yet.
pub trait FeedConfig: fmt::Debug + Send + Sync {
    /// The identity of the feed, however it is spelled: the same upstream and the same part of it. A state directory is
    /// kept for one identity.
    fn identity(&self) -> String;

    /// Whether the feed takes writes.
    fn takes_writes(&self) -> bool {
        false
    }

    /// Checks what can be checked before anything is started, such as files that are named. Connects to nothing.
    fn check(&self, _settings: &FeedSettings) -> Vec<FeedError> {
        Vec::new()
    }

    /// Opens the feed.
    fn open<'a>(&'a self, settings: &'a FeedSettings) -> BoxFuture<'a, Result<Box<dyn Feed>, FeedError>>;
}
