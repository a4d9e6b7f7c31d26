//! Files that change while the daemon runs: tokens, certificates.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

/// How often is looked whether a file is another.
const LOOK: Duration = Duration::from_secs(1);

/// What tells one version of a file from the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::http) struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
    inode: u64,
}

impl Stamp {
    /// None where there is no file.
    pub(in crate::http) fn of(path: &Path) -> Option<Self> {
        let found = std::fs::metadata(path).ok()?;
        Some(Self { modified: found.modified().ok(), bytes: found.len(), inode: found.ino() })
    }
}

/// What was read from files and can be read again.
pub trait Reread: Send + Sync + 'static {
    /// What it is, in the plural, for the log.
    fn what(&self) -> &'static str;

    /// Reads the files again where they have changed, or in any case when somebody `asked` for it. With a fault in
    /// them everything stays as it is; that is the implementor's to say in the log. May block.
    fn read_again(&self, asked: bool);
}

/// Everything that is read again, at SIGHUP and within about a second after its files have changed.
///
/// SIGHUP is caught from the moment that this is made, whether there is anything to read or not: people send it to
/// daemons, and by default it would end the process without a word.
pub struct Reload {
    hangup: Option<Signal>,
    files: Vec<Arc<dyn Reread>>,
}

impl Reload {
    /// Nothing to read yet.
    pub fn catch_hangup() -> Self {
        let hangup = signal(SignalKind::hangup())
            .inspect_err(|error| warn!(%error, "SIGHUP cannot be caught: it will end this process"))
            .ok();
        Self { hangup, files: Vec::new() }
    }

    /// This too.
    pub fn add(&mut self, files: Arc<dyn Reread>) {
        self.files.push(files);
    }

    /// Reads again what has changed, for ever.
    pub async fn run(mut self) {
        let mut tick = tokio::time::interval(LOOK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let asked = tokio::select! {
                () = received(self.hangup.as_mut()) => true,
                _ = tick.tick(), if !self.files.is_empty() => false,
            };
            if asked {
                info!("SIGHUP: {}", self.to_read());
            }
            for files in &self.files {
                let files = Arc::clone(files);
                // A file may be large or on a slow disk.
                _ = tokio::task::spawn_blocking(move || files.read_again(asked)).await;
            }
        }
    }

    fn to_read(&self) -> String {
        let what: Vec<&str> = self.files.iter().map(|files| files.what()).collect();
        match what[..] {
            [] => "nothing to read again: there are neither --tokens nor --tls-cert".to_owned(),
            _ => format!("reading {} again", what.join(" and ")),
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
