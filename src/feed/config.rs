//! A feed as it is configured.

use std::fmt;
use std::path::PathBuf;

use futures_util::future::BoxFuture;

use super::{Feed, FeedError};

/// The settings of the daemon that feeds use beside their URL.
#[derive(Clone, Debug, Default)]
pub(crate) struct FeedSettings {
    /// Whether one bad record ends the feed.
    pub strict: bool,
    /// The `--etcd-…` flags. Options in the URL win over them.
    pub etcd: EtcdFlags,
}

/// The environment variable that may hold the etcd password.
pub(crate) const PASSWORD_VARIABLE: &str = "CRUMBD_ETCD_PASSWORD";

/// The credentials for etcd as they are configured: by the `--etcd-…` flags, or by options of one feed.
#[derive(Clone, Debug, Default)]
pub(crate) struct EtcdFlags {
    /// The authority that signed the servers' certificates.
    pub ca: Option<PathBuf>,
    /// The client certificate.
    pub cert: Option<PathBuf>,
    /// Its private key.
    pub key: Option<PathBuf>,
    /// The user.
    pub user: Option<String>,
    /// The file with the password. Without it the password comes from [`PASSWORD_VARIABLE`].
    pub password_file: Option<PathBuf>,
}

/// A configured feed: a parsed URL. Nothing is opened yet.
pub(crate) trait FeedConfig: fmt::Debug + Send + Sync {
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
