//! A file of tokens that changes while the daemon runs.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::MissedTickBehavior;
use tracing::{error, warn};

use super::tokens::Tokens;

/// How often is looked whether the file is another.
const LOOK: Duration = Duration::from_secs(1);

/// What tells one version of a file from the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
    inode: u64,
}

impl Stamp {
    /// None where there is no file.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let found = std::fs::metadata(path).ok()?;
        Some(Self { modified: found.modified().ok(), bytes: found.len(), inode: found.ino() })
    }
}

impl Tokens {
    /// Reads the file again at SIGHUP, and within about a second after it has changed. Runs until it
    /// is dropped. SIGHUP is caught from the call on: before that it would end the process.
    pub fn keep_up(self: Arc<Self>) -> impl Future<Output = ()> + Send {
        let hangup = signal(SignalKind::hangup())
            .inspect_err(
                |error| warn!(%error, "SIGHUP cannot be received: tokens are read when the file changes"),
            )
            .ok();
        async move { self.look(hangup).await }
    }

    async fn look(self: Arc<Self>, mut hangup: Option<Signal>) {
        let mut tick = tokio::time::interval(LOOK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let asked = tokio::select! {
                () = received(hangup.as_mut()) => true,
                _ = tick.tick() => false,
            };
            let tokens = Arc::clone(&self);
            // The file may be large or on a slow disk.
            _ = tokio::task::spawn_blocking(move || tokens.read_again(asked)).await;
        }
    }

    fn read_again(&self, asked: bool) {
        let mut read = self.read.lock();
        if !asked && *read == Stamp::of(self.path()) {
            return;
        }
        if let Err(error) = self.load(&mut read) {
            error!("{error}; the tokens keep the rights that they had");
        }
    }
}

async fn received(hangup: Option<&mut Signal>) {
    if let Some(hangup) = hangup
        && hangup.recv().await.is_some()
    {
        return;
    }
    std::future::pending().await
}
