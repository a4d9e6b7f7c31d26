//! Saving in the background.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tracing::{debug, info, warn};

use super::{PREVIOUS, STATE, StateDir, StateError, file, log};
use crate::cache::{Breadcrumb, Cache};
use crate::model::{Revision, Sequence};

/// Saves the state of a cache now and then.
pub struct Saver {
    dir: StateDir,
    cache: Cache,
    /// At most one save in this time.
    interval: Duration,
    saved: Option<Sequence>,
    saved_revision: Option<Revision>,
    /// Why the last try failed; the log says it once, not at every try.
    failing: Option<String>,
}

impl Saver {
    /// A saver into this directory.
    pub fn new(dir: StateDir, cache: Cache, interval: Duration) -> Self {
        Self { dir, cache, interval, saved: None, saved_revision: None, failing: None }
    }

    /// Saves after changes, until the cache stops; then a last time. What could not be saved is tried again
    /// without a further change: the disk may have room again.
    pub async fn run(mut self) {
        loop {
            let current = self.cache.current_breadcrumb();
            let all_is_saved = self.saved == Some(current.sequence());
            let mut stopped = (all_is_saved || !self.cache.was_in_sync()) && current.next().await.is_err();
            // Not held while waiting: it would keep everything that comes after it.
            drop(current);
            if !stopped {
                stopped = tokio::time::timeout(self.interval, ended(&self.cache)).await.is_ok();
            }
            self.save().await;
            if stopped {
                return;
            }
        }
    }

    /// Saves each time the log begins a new file, and removes log files that no state file needs.
    /// The log itself keeps what is newer, so a stop needs no last save.
    pub async fn run_for_log(mut self, rotated: Arc<Notify>) {
        loop {
            tokio::select! {
                () = rotated.notified() => {}
                () = ended(&self.cache) => return,
            }
            let before = self.saved_revision;
            self.save().await;
            if let Some(needed) = before {
                self.dir.remove_logs_before(needed);
            }
        }
    }

    /// Saves now, if there is anything new that was ever complete.
    pub async fn save(&mut self) {
        let crumb = self.cache.current_breadcrumb();
        let sequence = crumb.sequence();
        if self.saved == Some(sequence) || crumb.is_provisional() || !self.cache.was_in_sync() {
            return;
        }
        let (dir, path) = (self.dir.clone(), self.dir.path.clone());
        let (keys, revision) = (crumb.kvs().len(), crumb.revision().0);
        let written = tokio::task::spawn_blocking(move || dir.write(&crumb)).await;
        let failed: Option<Box<dyn std::error::Error>> = match written {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.into()),
            Err(error) => Some(error.into()),
        };
        match failed {
            None => {
                self.saved_revision = Some(Revision(revision));
                let first = self.saved.replace(sequence).is_none();
                if self.failing.take().is_some() {
                    info!(keys, revision, "the state can be saved again in {}", path.display());
                } else if first {
                    info!(keys, revision, "state saved in {}", path.display());
                } else {
                    debug!(keys, revision, "state saved");
                }
            }
            Some(error) => {
                let reason = error.to_string();
                if self.failing.as_ref() != Some(&reason) {
                    warn!(
                        "the state could not be saved in {}: {reason}; serving goes on, and so do the tries",
                        path.display()
                    );
                }
                self.failing = Some(reason);
            }
        }
    }
}

/// Resolves when no breadcrumb will follow.
async fn ended(cache: &Cache) {
    let mut crumb = cache.current_breadcrumb();
    while let Ok(next) = crumb.next().await {
        crumb = next;
    }
}

impl StateDir {
    /// Removes the log files all of whose entries are at or below this revision.
    fn remove_logs_before(&self, needed: Revision) {
        let bases = log::bases(&self.path).unwrap_or_default();
        // A file ends where the next one begins.
        for (base, _) in bases.iter().zip(bases.iter().skip(1)).filter(|(_, next)| **next <= needed) {
            if let Err(error) = fs::remove_file(log::path_of(&self.path, *base)) {
                warn!("an old log file could not be removed: {error}");
            }
        }
    }

    /// Writes aside, syncs, and puts it in the place of the one before, which is kept.
    fn write(&self, crumb: &Breadcrumb) -> Result<(), StateError> {
        let in_dir = |name: &str| -> PathBuf { self.path.join(name) };
        let aside = in_dir("state.tmp");
        fs::create_dir_all(&self.path)?;
        let written = file::write(&aside, &self.feed, crumb);
        if let Err(error) = written {
            // What is half written must not fill the disk further; that it cannot be removed is no worse.
            _ = fs::remove_file(&aside);
            return Err(error);
        }
        match fs::rename(in_dir(STATE), in_dir(PREVIOUS)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        fs::rename(&aside, in_dir(STATE))?;
        // The names themselves are on the disk once the directory is.
        Ok(fs::File::open(&self.path)?.sync_all()?)
    }
}
