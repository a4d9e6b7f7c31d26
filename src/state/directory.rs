//! The directory itself: its lock, its files, and the feed that they belong to.

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

/// The identity of a feed, however it is spelled: its kind, and the part of the upstream that it reads.
#[derive(Clone, Debug)]
pub struct FeedIdentity {
    /// Its name, such as `push:`, `file:/etc/agents.ndjson` or `etcd:app/`.
    pub name: String,
    /// The history of its revisions, if that is known before it runs. A state of the same history belongs to this
    /// feed under any name.
    pub history: Option<History>,
}

/// A state directory, and the feed whose state it is for.
#[derive(Clone, Debug)]
pub struct StateDir {
    path: PathBuf,
    feed: FeedIdentity,
    /// The limits of the breadcrumbs that are kept, in the cache and here.
    window: Limits,
    /// Whether the cache keeps every write.
    keeps_every_write: bool,
}

/// The lock of the directory, held while it is used.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "it is held, not used")] File);

/// The state that an earlier process has kept, and the breadcrumbs after it.
pub struct Kept {
    /// The state at the beginning of the kept window.
    pub state: Snapshot,
    /// The time of that state.
    pub timestamp: SystemTime,
    /// The entry that was set last in it.
    pub newest: Option<Entry>,
    /// The breadcrumbs after it.
    pub breadcrumbs: Vec<RestoredBreadcrumb>,
    /// Whether entries were stored without their [`WriteInfo`](crate::model::WriteInfo).
    pub lacks_write_info: bool,
}

impl Kept {
    pub(super) fn of(contents: Contents) -> Self {
        let Contents { base, state, newest, breadcrumbs, row_bytes: _, write_infos } = contents;
        let lacks_write_info = write_infos.missing;
        Self { state, timestamp: base.timestamp, newest, breadcrumbs, lacks_write_info }
    }
}

impl StateDir {
    /// The directory at this path, which is not accessed yet.
    pub fn new(path: PathBuf, feed: FeedIdentity, window: Limits) -> Self {
        Self { path, feed, window, keeps_every_write: false }
    }

    /// Whether the cache keeps every write. One that does not is given no write infos, and no values of steps.
    pub fn keeping_every_write(self, keeps_every_write: bool) -> Self {
        Self { keeps_every_write, ..self }
    }

    /// Reads everything that the cache may have.
    pub(super) fn contents(&self, open: &Open) -> Result<Contents, StateError> {
        load::contents(open, self.keeps_every_write)
    }

    pub(super) fn keeps_every_write(&self) -> bool {
        self.keeps_every_write
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

    /// Locks the directory. Creates it, readable for this user only, if it does not exist.
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

    /// Whether an older version has kept the log of a push feed here.
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

    /// Opens the database, if there is one. That of another feed is not opened for writing, because that alone
    /// changes a file.
    pub(super) fn open(&self, access: Access) -> Result<Option<(Open, Owner)>, StateError> {
        let Some((open, owner)) = self.open_own()? else { return Ok(None) };
        if access == Access::Read {
            return Ok(Some((open, owner)));
        }
        drop(open);
        Ok(database::open(&self.database(), access)?.map(|open| (open, owner)))
    }

    /// Opens the database for reading, and checks that it belongs to this feed by name or history.
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

    /// Moves the damaged database out of the way, and logs it. Returns whether it is out of the way.
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

    /// Checks, for `serve --check`, whether the directory can be used, and changes nothing.
    ///
    /// # Errors
    /// The reason if it cannot.
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
