//! Errors of the state directory.

use std::io;
use std::path::{Path, PathBuf};

use crate::cache::RestoreError;
use crate::model::Revision;

/// Why a state directory is not used, or could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// An error of the system.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The path is not a directory.
    #[error("the state directory {} is not a directory", .0.display())]
    NotADirectory(PathBuf),
    /// Another daemon uses it.
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
        /// The feed whose state it holds.
        found: String,
        /// The feed that was configured.
        expected: String,
    },
    /// The files were written by an older version.
    #[error(
        "state directory {} holds files of an older version of crumbd; dump them with that version (crumbd dump) and \
         load the dump into an empty directory",
        .0.display()
    )]
    OldFormat(PathBuf),
    /// A file is damaged.
    #[error("{} is damaged: {damage}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        damage: Damage,
    },
    /// The store of a push feed is damaged, and so cannot be proved.
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
    /// The file system is read-only.
    #[error("{}: the file system is read-only", .0.display())]
    ReadOnly(PathBuf),
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// It is not a regular file, but a directory or a pipe for example.
    #[error("it is no regular file")]
    NotAFile,
    /// It was cut off.
    #[error("it was cut off")]
    CutOff,
    /// Its header names a format version that does not exist.
    #[error("its header is broken: it names a format version that no crumbd has written")]
    Version,
    /// The file `acknowledged` holds no valid slot.
    #[error("it holds no whole record of what was acknowledged")]
    NoRecord,
    /// It is not a database.
    #[error("it is not a database of crumbd")]
    NotADatabase,
    /// The database library reports damage.
    #[error("{0}")]
    Corrupted(String),
    /// The database library panicked.
    #[error("reading it crashed the database library: {0}")]
    Crashed(String),
    /// The checksum of a row is wrong.
    #[error("a row of table {table} has a wrong checksum")]
    Checksum {
        /// The table.
        table: &'static str,
    },
    /// A row with the right checksum cannot be read.
    #[error("a row of table {table} cannot be read: {cause}")]
    Row {
        /// The table.
        table: &'static str,
        /// Why.
        cause: String,
    },
    /// A required row is missing.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A breadcrumb is missing.
    #[error("breadcrumb {expected} is missing; breadcrumb {found} comes next")]
    Gap {
        /// The number of the missing breadcrumb.
        expected: u64,
        /// The number of the next one.
        found: u64,
    },
    /// Count or digest of the entries is wrong.
    #[error("its entries are not the state at revision {revision} that was written with them")]
    OtherState {
        /// The revision of the state.
        revision: Revision,
    },
    /// A breadcrumb does not match the state before it.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// Acknowledged breadcrumbs are missing at its end.
    #[error("it ends at breadcrumb {found}, but breadcrumb {acknowledged} was acknowledged")]
    LostTail {
        /// The newest that it holds.
        found: u64,
        /// The newest that was acknowledged.
        acknowledged: u64,
    },
    /// The two files belong to different stores.
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

    /// Whether the content is wrong, and not only inaccessible.
    pub(super) fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::OldFormat(_))
    }
}
