//! The database: redb, opened with checks of our own.
//!
//! ```text
//! table         key                 row (see `row`)
//! store         "store"             the store's id, and whose state it is
//!               "base"              the state that `entries` is: number, history, revision, count, digest
//! entries       a key               its entry
//! breadcrumbs   a number            a breadcrumb after the base: its changes, and count and digest of the state after it
//! ```
//!
//! Breadcrumbs are numbered without gaps. The state is the base with all breadcrumbs applied. A commit writes one row,
//! whatever it changes. The entries follow later, many at a time, when breadcrumbs have left the kept window.
//!
//! If the cache keeps every write, entries have their write info, and breadcrumbs the values of all their writes. A
//! copy is wholly of a cache that does, or wholly of one that does not: where that changes, it is written anew. The store
//! of a push feed may hold both.

use std::cell::Cell;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Once;

use redb::{Database, ReadTransaction, ReadableDatabase, StorageError, TableDefinition, WriteTransaction};
use tracing::debug;

use super::row::{self, Base, RowKey, StoreRow};
use super::storage::{NamedFile, ReadOnlyFile, open_regular};
use super::{Damage, StateError};

pub(super) const STORE: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("store");
pub(super) const ENTRIES: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("entries");
pub(super) const BREADCRUMBS: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("breadcrumbs");

pub(super) const STORE_KEY: RowKey<'static> = RowKey { table: "store", key: b"store" };
pub(super) const BASE_KEY: RowKey<'static> = RowKey { table: "store", key: b"base" };

/// The library's page cache: enough for the branches of a million keys, and for the pages of a commit.
const CACHE_BYTES: usize = 16 << 20;

/// The first bytes of a database file.
const MAGIC: &[u8] = b"redb";

pub(super) fn entry_key(key: &[u8]) -> RowKey<'_> {
    RowKey { table: "entries", key }
}

pub(super) fn breadcrumb_key(number: &[u8; 8]) -> RowKey<'_> {
    RowKey { table: "breadcrumbs", key: number }
}

/// How a database is opened.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// For reading. Nothing is written to the file, not even the repair after a crash.
    Read,
    Write,
}

/// An open database.
pub(super) struct Open {
    /// Always `Some`; an option so that it can be closed under [`guarded`].
    database: Option<Database>,
    pub(super) path: PathBuf,
}

impl Open {
    pub(super) fn begin_read(&self) -> Result<ReadTransaction, WorkError> {
        Ok(self.database()?.begin_read()?)
    }

    pub(super) fn begin_write(&self) -> Result<WriteTransaction, WorkError> {
        Ok(self.database()?.begin_write()?)
    }

    fn database(&self) -> Result<&Database, WorkError> {
        self.database.as_ref().ok_or(WorkError::Library(redb::Error::PreviousIo))
    }
}

/// The library writes when it closes a file, and may panic there too.
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

/// Opens an existing database; `None` if there is no file.
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

/// Locks the file. The directory is locked too, but a file may have a name in two directories. A reader takes a
/// shared lock, which excludes writers: some file systems give an exclusive one only for a file that can be written.
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

/// Refuses a file that is not a database. The library would turn an empty file into a new one, but an empty file of
/// ours has lost everything.
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

/// Creates a database without entries, completely or not at all: it gets its name once it is on the disk.
pub(super) fn create(path: &Path, store: &StoreRow<'_>, base: &Base) -> Result<Open, StateError> {
    let aside = path.with_extension("tmp");
    let created = begin(&aside, store, base).and_then(|()| {
        let named = std::fs::rename(&aside, path).and_then(|()| sync_directory_of(path));
        named.map_err(|error| StateError::io(path, error))
    });
    if let Err(error) = created {
        // A half-made file must not take up a full disk. If it cannot be removed, that changes nothing.
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
            table.insert("store", &*row::seal_store(STORE_KEY, store))?;
            table.insert("base", &*row::seal_base(BASE_KEY, base))?;
            transaction.open_table(ENTRIES)?;
            transaction.open_table(BREADCRUMBS)?;
        }
        Ok(transaction.commit()?)
    })
}

/// Syncs the directory of a file, so that its name is on the disk.
pub(super) fn sync_directory_of(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

/// Runs work on a database. The library may panic on a damaged file; that becomes an error.
pub(super) fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T, WorkError>) -> Result<T, StateError> {
    // The work changes only local values, and a database that is dropped after an error.
    match quietly(|| catch_unwind(AssertUnwindSafe(work))) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(error.at(path)),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text =
                text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason was given");
            Err(StateError::damaged(path, Damage::Crashed(text.to_owned())))
        }
    }
}

thread_local! {
    /// Whether a panic on this thread becomes an error.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs work whose panic becomes an error, without the usual message of a panic.
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

/// An error of [`guarded`] work.
pub(super) enum WorkError {
    Library(redb::Error),
    Damage(Damage),
    Io(io::Error),
}

impl WorkError {
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

impl From<Damage> for WorkError {
    fn from(damage: Damage) -> Self {
        Self::Damage(damage)
    }
}

impl From<io::Error> for WorkError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Converts the errors of the library, which all become a `redb::Error`.
macro_rules! library_errors {
    ($($error:ty),*) => {
        $(impl From<$error> for WorkError {
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
