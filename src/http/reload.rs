//! Files that change while the daemon runs: tokens, certificates.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::MissedTickBehavior;
use tracing::warn;

/// How often is looked whether a file is another.
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

/// What was read from files and can be read again.
pub(super) trait Reread: Send + Sync + 'static {
    /// What it is, in the plural, for the log.
    const WHAT: &'static str;

    /// Reads the files again where they have changed, or in any case when somebody `asked` for it. With a fault in
    /// them everything stays as it is; that is the implementor's to say in the log. May block.
    fn read_again(&self, asked: bool);
}

/// Reads the files again at SIGHUP, and within about a second after they have changed. Runs until it
/// is dropped. SIGHUP is caught from the call on: before that it would end the process.
pub(super) fn keep_up<R: Reread>(what: Arc<R>) -> impl Future<Output = ()> + Send {
    let hangup = signal(SignalKind::hangup())
        .inspect_err(
            |error| warn!(%error, "SIGHUP cannot be received: {} are read when the file changes", R::WHAT),
        )
        .ok();
    look(what, hangup)
}

async fn look<R: Reread>(what: Arc<R>, mut hangup: Option<Signal>) {
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let asked = tokio::select! {
            () = received(hangup.as_mut()) => true,
            _ = tick.tick() => false,
        };
        let what = Arc::clone(&what);
        // A file may be large or on a slow disk.
        _ = tokio::task::spawn_blocking(move || what.read_again(asked)).await;
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
