//! The database: redb, opened so that nothing is taken for what it is not.
//!
//! ```text
//! table         key                 row (see `row`)
//! store         "store"             the store's id, and whose state it is
//!               "base"              the state that `entries` is: number, history, revision, count, digest
//! entries       a key               its entry
//! breadcrumbs   a number            a breadcrumb after the base: its changes, and count and digest of the state after it
//! ```
//!
//! Breadcrumbs are numbered without gaps. The state is the base with all breadcrumbs applied. A commit is one row,
//! whatever it changes; the entries follow later, when breadcrumbs have left the kept window, many at a time.

use std::cell::Cell;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Once;

use redb::{Database, ReadTransaction, ReadableDatabase, StorageError, TableDefinition, WriteTransaction};
use tracing::debug;

use super::row::{self, Base, Place, StoreRow};
use super::storage::{NamedFile, ReadOnlyFile, open_regular};
use super::{Damage, StateError};

pub(super) const STORE: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("store");
pub(super) const ENTRIES: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("entries");
pub(super) const BREADCRUMBS: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("breadcrumbs");

pub(super) const STORE_PLACE: Place<'static> = Place { table: "store", key: b"store" };
pub(super) const BASE_PLACE: Place<'static> = Place { table: "store", key: b"base" };

/// Memory in which the library keeps pages: enough for the branches of a million keys, and for the pages of a commit.
const CACHE_BYTES: usize = 16 << 20;

/// What a database file begins with.
const MAGIC: &[u8] = b"redb";

pub(super) fn entry_place(key: &[u8]) -> Place<'_> {
    Place { table: "entries", key }
}

pub(super) fn breadcrumb_place(number: &[u8; 8]) -> Place<'_> {
    Place { table: "breadcrumbs", key: number }
}

/// What a database is opened for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Nothing reaches the file, not even the repair after a crash.
    Read,
    Write,
}

/// An open database.
pub(super) struct Open {
    /// Always there; an option so that it can be closed under guard.
    database: Option<Database>,
    pub(super) path: PathBuf,
}

impl Open {
    pub(super) fn begin_read(&self) -> Result<ReadTransaction, Trouble> {
        Ok(self.database()?.begin_read()?)
    }

    pub(super) fn begin_write(&self) -> Result<WriteTransaction, Trouble> {
        Ok(self.database()?.begin_write()?)
    }

    fn database(&self) -> Result<&Database, Trouble> {
        self.database.as_ref().ok_or(Trouble::Library(redb::Error::PreviousIo))
    }
}

/// The library writes when it closes a file, and may crash there too.
impl Drop for Open {
    fn drop(&mut self) {
        let database = self.database.take();
        let closed = guarded(&self.path, || {
            drop(database);
            Ok(())
        });
        if let Err(error) = closed {
            debug!("closing the database: {error}");
        }
    }
}

/// Opens a database that exists; `None` where there is no file.
pub(super) fn open(path: &Path, access: Access) -> Result<Option<Open>, StateError> {
    let Some(file) = open_regular(path, access == Access::Write)? else { return Ok(None) };
    lock(path, &file, access)?;
    check_magic(path, &file)?;
    let (path, mut builder) = (path.to_owned(), Database::builder());
    builder.set_cache_size(CACHE_BYTES);
    let database = guarded(&path, || {
        Ok(match access {
            Access::Write => builder.create_with_backend(NamedFile { file, path: path.clone() })?,
            Access::Read => builder.create_with_backend(ReadOnlyFile::new(file)?)?,
        })
    })?;
    Ok(Some(Open { database: Some(database), path }))
}

/// The directory is locked too, but a file may have a name in two directories. Some file systems lock only what can be
/// written for one alone; who reads is content with a shared lock, which no writer shares.
fn lock(path: &Path, file: &File, access: Access) -> Result<(), StateError> {
    let locked = match access {
        Access::Read => file.try_lock_shared(),
        Access::Write => file.try_lock(),
    };
    match locked {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(StateError::InUse(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(StateError::io(path, error)),
    }
}

/// The library makes a new database of an empty file; of ours, an empty one has lost everything.
fn check_magic(path: &Path, file: &File) -> Result<(), StateError> {
    use std::os::unix::fs::FileExt;
    let mut magic = [0; MAGIC.len()];
    match file.read_exact_at(&mut magic, 0) {
        Ok(()) if magic == *MAGIC => Ok(()),
        Ok(()) => Err(StateError::damaged(path, Damage::NotADatabase)),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
            Err(StateError::damaged(path, Damage::NotADatabase))
        }
        Err(error) => Err(StateError::io(path, error)),
    }
}

/// Makes a database that holds no entries, whole or not at all: it has its name when it is on the disk.
pub(super) fn create(path: &Path, store: &StoreRow<'_>, base: &Base) -> Result<Open, StateError> {
    let aside = path.with_extension("tmp");
    let created = begin(&aside, store, base).and_then(|()| {
        let named = std::fs::rename(&aside, path).and_then(|()| sync_directory_of(path));
        named.map_err(|error| StateError::io(path, error))
    });
    if let Err(error) = created {
        // What is half made must not fill the disk further; that it cannot be removed is no worse.
        _ = std::fs::remove_file(&aside);
        return Err(error);
    }
    open(path, Access::Write)?.ok_or_else(|| StateError::io(path, ErrorKind::NotFound.into()))
}

fn begin(path: &Path, store: &StoreRow<'_>, base: &Base) -> Result<(), StateError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true).mode(0o600);
    let file = options.open(path).map_err(|error| StateError::io(path, error))?;
    let path = path.to_owned();
    guarded(&path, || {
        let database = Database::builder().create_with_backend(NamedFile { file, path: path.clone() })?;
        let transaction = database.begin_write()?;
        {
            let mut table = transaction.open_table(STORE)?;
            table.insert("store", &*row::seal_store(STORE_PLACE, store))?;
            table.insert("base", &*row::seal_base(BASE_PLACE, base))?;
            transaction.open_table(ENTRIES)?;
            transaction.open_table(BREADCRUMBS)?;
        }
        Ok(transaction.commit()?)
    })
}

/// Names in a directory are on the disk once the directory is.
pub(super) fn sync_directory_of(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

/// Runs a piece of work on a database. The library may crash on a damaged file; for us that is an error.
pub(super) fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T, Trouble>) -> Result<T, StateError> {
    // Whatever the work has touched is a database that is dropped after an error, or a local value.
    match quietly(|| catch_unwind(AssertUnwindSafe(work))) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(trouble)) => Err(trouble.at(path)),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text =
                text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason was given");
            Err(StateError::damaged(path, Damage::Crashed(text.to_owned())))
        }
    }
}

thread_local! {
    /// Whether what crashes on this thread becomes an error.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// A crash that becomes an error is told as one, and not as a crash beside it.
fn quietly<T>(work: impl FnOnce() -> T) -> T {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let tell = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !GUARDED.get() {
                tell(panic);
            }
        }));
    });
    let before = GUARDED.replace(true);
    let done = work();
    GUARDED.set(before);
    done
}

/// What goes wrong within [`guarded`] work.
pub(super) enum Trouble {
    Library(redb::Error),
    Damage(Damage),
    Io(io::Error),
}

impl Trouble {
    fn at(self, path: &Path) -> StateError {
        match self {
            Self::Library(redb::Error::Io(error)) if error.kind() == ErrorKind::UnexpectedEof => {
                StateError::damaged(path, Damage::CutOff)
            }
            Self::Library(redb::Error::Io(error)) if error.kind() == ErrorKind::InvalidData => {
                StateError::damaged(path, Damage::Corrupted(error.to_string()))
            }
            Self::Library(redb::Error::UpgradeRequired(_)) => StateError::damaged(path, Damage::Version),
            Self::Library(redb::Error::Io(error)) | Self::Io(error) => StateError::io(path, error),
            Self::Library(redb::Error::PreviousIo) => {
                StateError::io(path, io::Error::other("an earlier write failed"))
            }
            Self::Library(redb::Error::DatabaseAlreadyOpen) => StateError::InUse(path.to_owned()),
            Self::Library(error) => StateError::damaged(path, Damage::Corrupted(error.to_string())),
            Self::Damage(damage) => StateError::damaged(path, damage),
        }
    }
}

impl From<Damage> for Trouble {
    fn from(damage: Damage) -> Self {
        Self::Damage(damage)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Every error of the library is one of `redb::Error`.
macro_rules! library_errors {
    ($($error:ty),*) => {
        $(impl From<$error> for Trouble {
            fn from(error: $error) -> Self {
                Self::Library(error.into())
            }
        })*
    };
}

library_errors!(
    redb::DatabaseError,
    redb::TransactionError,
    redb::TableError,
    redb::CommitError,
    StorageError
);
