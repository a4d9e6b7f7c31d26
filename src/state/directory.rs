//! The directory itself: its lock, its files, and whose they are.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tracing::warn;

use super::StateError;
use super::database::{self, Access, Open};
use super::load::{self, Contents, Owner};
use crate::cache::WindowLimits as Limits;
use crate::cache::{RestoredBreadcrumb, Snapshot};
use crate::model::{Entry, History};

const DATABASE: &str = "state.crumbd";
const DAMAGED: &str = "state.damaged";
const ACKNOWLEDGED: &str = "acknowledged";

/// Who a feed is, whatever way it is spelled: its kind, and what of an upstream it reads.
#[derive(Clone, Debug)]
pub struct FeedIdentity {
    /// Such as `push:`, `file:/etc/agents.ndjson` or `etcd:app/`.
    pub name: String,
    /// The history of its revisions, where that is known before it runs. A state of the same history is its own,
    /// whatever it is called.
    pub history: Option<History>,
}

/// A state directory, and the feed whose state it is for.
#[derive(Clone, Debug)]
pub struct StateDir {
    path: PathBuf,
    feed: FeedIdentity,
    /// What a cache keeps of breadcrumbs, and so what is kept of them here.
    window: Limits,
}

/// Held as long as the directory is used.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "it is held, not used")] File);

/// What an earlier process kept: a state, and the breadcrumbs that followed it.
pub struct Kept {
    /// The state at the beginning of the kept window.
    pub state: Snapshot,
    /// When it was made.
    pub timestamp: SystemTime,
    /// The entry that was set last in it.
    pub newest: Option<Entry>,
    /// What followed.
    pub breadcrumbs: Vec<RestoredBreadcrumb>,
}

impl Kept {
    pub(super) fn of(contents: Contents) -> Self {
        let Contents { base, state, newest, breadcrumbs, row_bytes: _ } = contents;
        Self { state, timestamp: base.timestamp, newest, breadcrumbs }
    }
}

impl StateDir {
    /// The directory at this path. Nothing is touched yet.
    pub fn new(path: PathBuf, feed: FeedIdentity, window: Limits) -> Self {
        Self { path, feed, window }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn feed(&self) -> &FeedIdentity {
        &self.feed
    }

    pub(super) fn window(&self) -> Limits {
        self.window
    }

    pub(super) fn database(&self) -> PathBuf {
        self.path.join(DATABASE)
    }

    pub(super) fn acknowledged(&self) -> PathBuf {
        self.path.join(ACKNOWLEDGED)
    }

    /// Makes the directory where it does not exist, for nobody else to read, and locks it.
    pub(super) fn lock(&self) -> Result<Lock, StateError> {
        let io = |error| StateError::io(&self.path, error);
        if !self.path.is_dir() {
            if self.path.symlink_metadata().is_ok() {
                return Err(StateError::NotADirectory(self.path.clone()));
            }
            DirBuilder::new().recursive(true).mode(0o700).create(&self.path).map_err(io)?;
        }
        let directory = File::open(&self.path).map_err(io)?;
        match directory.try_lock() {
            Ok(()) => Ok(Lock(directory)),
            Err(TryLockError::WouldBlock) => Err(StateError::InUse(self.path.clone())),
            Err(TryLockError::Error(error)) => Err(io(error)),
        }
    }

    /// Whether a version before this one has kept a push feed's log here.
    pub(super) fn holds_old_log(&self) -> Result<bool, StateError> {
        let entries = fs::read_dir(&self.path).map_err(|error| StateError::io(&self.path, error))?;
        for entry in entries {
            let name = entry.map_err(|error| StateError::io(&self.path, error))?.file_name();
            if name.to_str().is_some_and(|name| name.starts_with("log-") && name.ends_with(".crumbd")) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Opens the database, if there is one and it is this feed's. Another's is not even opened for writing, which changes
    /// a file already.
    pub(super) fn open(&self, access: Access) -> Result<Option<(Open, Owner)>, StateError> {
        let Some((open, owner)) = self.open_own()? else { return Ok(None) };
        if access == Access::Read {
            return Ok(Some((open, owner)));
        }
        drop(open);
        Ok(database::open(&self.database(), access)?.map(|open| (open, owner)))
    }

    /// Reads whose the database is. A state of the feed's own history is its own.
    fn open_own(&self) -> Result<Option<(Open, Owner)>, StateError> {
        let Some(open) = database::open(&self.database(), Access::Read)? else { return Ok(None) };
        let owner = load::owner(&open)?;
        let known = self.feed.history;
        let ours = owner.feed == self.feed.name
            || (owner.feed != super::push::FEED && known.is_some() && known == Some(load::history(&open)?));
        if ours {
            return Ok(Some((open, owner)));
        }
        Err(StateError::OtherFeed {
            path: self.path.clone(),
            found: owner.feed,
            expected: self.feed.name.clone(),
        })
    }

    /// What is damaged is out of the way from now on. Says in the log what became of it.
    pub(super) fn move_aside(&self, error: &StateError) -> bool {
        let (from, aside) = (self.database(), self.path.join(DAMAGED));
        match fs::rename(&from, &aside) {
            Ok(()) => {
                warn!("{error}; moved to {} and not used: everything is read anew", aside.display());
                true
            }
            Err(cause) => {
                warn!("{error}; not used, and it cannot be moved aside: {cause}");
                cause.kind() == ErrorKind::NotFound
            }
        }
    }

    /// For `serve --check`: whether the directory could be used, without using it.
    ///
    /// # Errors
    /// Why it could not.
    pub fn check(&self) -> Result<(), StateError> {
        if self.path.is_dir() {
            let _lock = self.lock()?;
            if self.feed.name == super::push::FEED {
                return self.check_store();
            }
            self.open(Access::Read)?;
        } else if self.path.symlink_metadata().is_ok() {
            return Err(StateError::NotADirectory(self.path.clone()));
        }
        Ok(())
    }
}
