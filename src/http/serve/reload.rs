//! Reloading of files that change while the daemon runs: tokens and certificates.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

/// How often files are checked for changes.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The metadata that differs between two versions of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::http) struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
    inode: u64,
}

impl Stamp {
    /// The stamp of a file; `None` if it cannot be found.
    pub(in crate::http) fn of(path: &Path) -> Option<Self> {
        let found = std::fs::metadata(path).ok()?;
        Some(Self { modified: found.modified().ok(), bytes: found.len(), inode: found.ino() })
    }
}

/// Settings that were read from files and can be reloaded.
pub trait Reloadable: Send + Sync + 'static {
    /// The plural name for the log.
    fn name(&self) -> &'static str;

    /// Reads the files if they have changed, or in any case if `forced`. If they are invalid, it logs the error and keeps
    /// the current settings. May block.
    fn reload(&self, forced: bool);
}

/// The files that are reloaded at SIGHUP, and within about a second after a change.
///
/// SIGHUP is caught even if there is nothing to reload: people send it to daemons, and by default it ends the process.
pub struct Reload {
    hangup: Option<Signal>,
    files: Vec<Arc<dyn Reloadable>>,
}

impl Reload {
    /// A reload without files that catches SIGHUP from now on.
    pub fn catch_hangup() -> Self {
        let hangup = signal(SignalKind::hangup())
            .inspect_err(|error| warn!(%error, "cannot catch SIGHUP; it will end this process"))
            .ok();
        Self { hangup, files: Vec::new() }
    }

    /// Adds files to reload.
    pub fn add(&mut self, files: Arc<dyn Reloadable>) {
        self.files.push(files);
    }

    /// Reloads changed files, for ever.
    pub async fn run(mut self) {
        let mut tick = tokio::time::interval(CHECK_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let forced = tokio::select! {
                () = received(self.hangup.as_mut()) => true,
                _ = tick.tick(), if !self.files.is_empty() => false,
            };
            if forced {
                info!("SIGHUP: {}", self.announcement());
            }
            for files in &self.files {
                let files = Arc::clone(files);
                // A file may be large or on a slow disk.
                _ = tokio::task::spawn_blocking(move || files.reload(forced)).await;
            }
        }
    }

    fn announcement(&self) -> String {
        let names: Vec<&str> = self.files.iter().map(|files| files.name()).collect();
        match names[..] {
            [] => "nothing to reload: neither --tokens nor --tls-cert is set".to_owned(),
            _ => format!("reloading {}", names.join(" and ")),
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
