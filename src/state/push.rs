//! The store of a push feed: a state file, and the log of what came after it.

use std::fs::{self, File};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;
use tracing::{error, info};

use super::log::{self, Log, LogEntry};
use super::{PREVIOUS, STATE, Saved, StateDir, StateError};
use crate::cache::{Delta, Journal};
use crate::model::{History, Revision};

/// What a push feed finds in its state directory.
pub struct PushStore {
    /// Whose revisions these are.
    pub history: History,
    /// The state from which the log goes on, if there is one.
    pub saved: Option<Saved>,
    /// The changes since, one item a breadcrumb.
    pub entries: Vec<LogEntry>,
    /// Where new changes go.
    pub journal: Box<dyn Journal>,
    /// Told when a new state file would make old log files unneeded.
    pub rotated: Arc<Notify>,
    /// Held as long as the store is used: two daemons must not write one log.
    pub lock: Option<File>,
}

impl StateDir {
    /// Opens the store, or begins one. Whatever is wrong, there is one to serve from: a damaged store is
    /// moved aside, and where nothing can be written, writes are refused.
    ///
    /// # Errors
    /// Another daemon uses the directory.
    pub fn open_store(&self) -> Result<PushStore, StateError> {
        let lock = self.lock()?;
        let store = match self.recover() {
            Ok(store) => store,
            Err(error @ StateError::Io(_)) => refusing(History::random(), None, Vec::new(), &error),
            Err(error) => {
                error!("the store in {} cannot be used: {error}", self.path.display());
                self.move_aside();
                self.begin()
            }
        };
        Ok(PushStore { lock, ..store })
    }

    /// `None` where there can be no lock file; then nothing can be written either.
    fn lock(&self) -> Result<Option<File>, StateError> {
        let Ok(file) = File::create(self.path.join("lock")) else { return Ok(None) };
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(fs::TryLockError::WouldBlock) => Err(StateError::InUse(self.path.clone())),
            Err(fs::TryLockError::Error(error)) => Err(error.into()),
        }
    }

    fn begin(&self) -> PushStore {
        let history = History::random();
        match Log::create(self, history, Revision::ZERO) {
            Ok(log) => writing(history, None, Vec::new(), log),
            Err(error) => refusing(history, None, Vec::new(), &error),
        }
    }

    fn recover(&self) -> Result<PushStore, StateError> {
        let Some(history) = log::history_of(&self.path)? else { return Ok(self.begin()) };
        let oldest = log::bases(&self.path)?.first().copied().unwrap_or_default();
        // The older one first: the log from there on lets older cursors go on.
        let fits = |saved: &Saved| saved.history() == history && oldest <= saved.revision();
        let files = [PREVIOUS, STATE].into_iter();
        let saved = files.filter_map(|name| self.load_file(&self.path.join(name))).find(fits);
        if saved.is_none() && oldest > Revision::ZERO {
            let missing =
                format!("no state file reaches back to the oldest log file, from revision {oldest}");
            return Err(StateError::Damaged(missing));
        }
        let from = saved.as_ref().map_or(Revision::ZERO, Saved::revision);
        let mut entries = Vec::new();
        let end = log::read(&self.path, history, from, |entry| entries.push(entry))?;
        info!(entries = entries.len(), from = from.0, "log of the last run read");
        Ok(match Log::resume(self, history, &end) {
            Ok(log) => writing(history, saved, entries, log),
            Err(error) => refusing(history, saved, entries, &error),
        })
    }

    /// Everything that is there, into a directory of its own: somebody may want to look at it.
    fn move_aside(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let aside = self.path.join(format!("damaged-{now}"));
        let moved = fs::create_dir_all(&aside).and_then(|()| {
            for entry in fs::read_dir(&self.path)? {
                let (path, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
                if path.is_file() && name != "lock" {
                    fs::rename(path, aside.join(name))?;
                }
            }
            Ok(())
        });
        match moved {
            Ok(()) => error!("its files are in {}; starting empty, as another history", aside.display()),
            Err(cause) => error!("its files could not be moved to {}: {cause}", aside.display()),
        }
    }
}

fn writing(history: History, saved: Option<Saved>, entries: Vec<LogEntry>, log: Log) -> PushStore {
    let rotated = log.rotated();
    PushStore { history, saved, entries, journal: Box::new(log), rotated, lock: None }
}

fn refusing(history: History, saved: Option<Saved>, entries: Vec<LogEntry>, error: &StateError) -> PushStore {
    error!("nothing can be written to the state directory: {error}; reading is served, writes are refused");
    let last = entries.last().map(|entry| entry.revision).or(saved.as_ref().map(Saved::revision));
    let journal = Refusing { last: last.unwrap_or_default(), reason: error.to_string() };
    PushStore { history, saved, entries, journal: Box::new(journal), rotated: Arc::default(), lock: None }
}

/// A journal that cannot be written.
struct Refusing {
    last: Revision,
    reason: String,
}

impl Journal for Refusing {
    fn append(&mut self, revision: Revision, _: &[Delta]) -> Result<(), String> {
        // What is being replayed at a start was kept already.
        if revision <= self.last { Ok(()) } else { Err(self.reason.clone()) }
    }
}
