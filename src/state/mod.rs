//! The state directory: the last state, kept for the next start.
//!
//! A daemon that comes back serves what it had at once, marked as not in-sync and with its true
//! age, and cursors from before go on. The file is made of an O(1) snapshot in the background, off the
//! ingest task, at most every so often; it is written aside, synced and renamed, and the one before it is
//! kept. A file that is damaged, cut off or another feed's is moved aside and not used: a cold start
//! is right, a wrong state never is. No failure in here stops the serving.
//!
//! May import `model`, `wire`, and `cache` (read only).

mod file;
mod log;
mod push;
mod saver;

pub use file::{Saved, StateError};
pub use log::LogEntry;
pub use push::PushStore;
pub use saver::Saver;

use std::path::{Path, PathBuf};

use tracing::{info, warn};

/// The newest state, and the one before it.
const STATE: &str = "state.crumbd";
const PREVIOUS: &str = "state.previous.crumbd";

/// A directory that belongs to one daemon.
#[derive(Clone, Debug)]
pub struct StateDir {
    path: PathBuf,
    /// The feed whose state it holds, as the user wrote it.
    feed: String,
}

impl StateDir {
    /// The directory; it is made when it does not exist.
    pub fn new(path: PathBuf, feed: String) -> Self {
        if let Err(error) = std::fs::create_dir_all(&path) {
            warn!("state directory {}: {error}; nothing will be kept for the next start", path.display());
        }
        Self { path, feed }
    }

    /// The last good state, if there is one. Says in the log what it found.
    pub fn load(&self) -> Option<Saved> {
        [STATE, PREVIOUS].into_iter().find_map(|name| self.load_file(&self.path.join(name)))
    }

    fn load_file(&self, path: &Path) -> Option<Saved> {
        let shown = path.display();
        match Saved::read(path, &self.feed) {
            Ok(saved) => {
                info!(
                    revision = saved.revision().0,
                    keys = saved.count(),
                    "state of the last run found in {shown}"
                );
                Some(saved)
            }
            Err(StateError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error @ StateError::Io(_)) => {
                warn!("state file {shown}: {error}; starting without it");
                None
            }
            Err(error) => {
                let aside = path.with_extension("damaged");
                match std::fs::rename(path, &aside) {
                    Ok(()) => warn!("state file {shown}: {error}; moved to {} and not used", aside.display()),
                    Err(cause) => {
                        warn!("state file {shown}: {error}; not used, and not moved aside: {cause}")
                    }
                }
                None
            }
        }
    }
}
