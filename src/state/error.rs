//! Why a state directory cannot be used.

use std::io;
use std::path::{Path, PathBuf};

use crate::cache::RestoreError;
use crate::model::Revision;

/// Why a state directory is not used, or could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The system says no.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// What is to be the state directory is something else.
    #[error("the state directory {} is not a directory", .0.display())]
    NotADirectory(PathBuf),
    /// Another daemon is running on it.
    #[error("{}: another daemon uses it; give each daemon a state directory of its own", .0.display())]
    InUse(PathBuf),
    /// It holds the state of another feed.
    #[error(
        "state directory {} holds the state of the feed {found}, not of {expected}; give each feed a directory of its own",
        .path.display()
    )]
    OtherFeed {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Whose it should be.
        expected: String,
    },
    /// A store of a version before this one.
    #[error(
        "state directory {} holds files of an older version of crumbd; dump them with that version (crumbd dump) and \
         load the dump into an empty directory",
        .0.display()
    )]
    OldFormat(PathBuf),
    /// A file is not what was written.
    #[error("{} is damaged: {damage}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        damage: Damage,
    },
    /// What is there cannot be proved to be the store.
    #[error(
        "{source}. The store is not served, and nothing was changed. Put a good copy of {} in its place, or move it away \
         to begin an empty store under another history",
        .directory.display()
    )]
    Unproved {
        /// The state directory.
        directory: PathBuf,
        /// What is wrong.
        source: Box<StateError>,
    },
    /// Nothing can be written: the file is not open for writing.
    #[error("{}: the file system is read-only", .0.display())]
    ReadOnly(PathBuf),
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// It is a directory, a pipe, or something else that is no file.
    #[error("it is no regular file")]
    NotAFile,
    /// It ends before its content does.
    #[error("it was cut off")]
    CutOff,
    /// The version in its header is one that was never written.
    #[error("its header is broken: it names a format version that no crumbd has written")]
    Version,
    /// Nothing in the file of what was acknowledged is whole.
    #[error("it holds no whole record of what was acknowledged")]
    NoRecord,
    /// It is no database.
    #[error("it is not a database of crumbd")]
    NotADatabase,
    /// The database library finds it broken.
    #[error("{0}")]
    Corrupted(String),
    /// The database library crashed on it.
    #[error("reading it crashed the database library: {0}")]
    Crashed(String),
    /// A row does not have the checksum that was written with it.
    #[error("a row of table {table} has a wrong checksum")]
    Checksum {
        /// The table.
        table: &'static str,
    },
    /// A row has the right checksum and cannot be read.
    #[error("a row of table {table} cannot be read: {cause}")]
    Row {
        /// The table.
        table: &'static str,
        /// Why.
        cause: String,
    },
    /// A row that must be there is not.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A breadcrumb is missing between others.
    #[error("breadcrumb {expected} is missing; breadcrumb {found} comes next")]
    Gap {
        /// The number that should come.
        expected: u64,
        /// The number that came.
        found: u64,
    },
    /// The entries are not the state that was written with them.
    #[error("its entries are not the state at revision {revision} that was written with them")]
    OtherState {
        /// The revision of the state.
        revision: Revision,
    },
    /// A breadcrumb does not fit the state before it.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// Acknowledged breadcrumbs are gone from its end.
    #[error("it ends at breadcrumb {found}, but breadcrumb {acknowledged} was acknowledged")]
    LostTail {
        /// The newest that it holds.
        found: u64,
        /// The newest that was acknowledged.
        acknowledged: u64,
    },
    /// Two files of one directory are of different stores.
    #[error("it belongs to another store than the database beside it")]
    OtherStore,
}

impl StateError {
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }

    pub(super) fn damaged(path: &Path, damage: impl Into<Damage>) -> Self {
        Self::Damaged { path: path.to_owned(), damage: damage.into() }
    }

    /// Whether the bytes are wrong, and not only out of reach.
    pub(super) fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::OldFormat(_))
    }
}
