//! Checks of files that the settings name.

use std::fmt;
use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use crate::feed::{EtcdAccess, NoFile};
use crate::wire::{self, PemError};

/// A feed file that cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum FeedFileError {
    #[error("feed file {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("feed file {}: it is {kind}", path.display())]
    NotAFile { path: PathBuf, kind: NoFile },
}

/// A certificate or key for etcd that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("etcd {role} {}: {reason}", path.display())]
pub(super) struct EtcdFileError {
    role: Role,
    path: PathBuf,
    reason: PemFileError,
}

#[derive(Debug, Clone, Copy)]
enum Role {
    Authority,
    Certificate,
    Key,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Authority => "authority",
            Self::Certificate => "certificate",
            Self::Key => "key",
        })
    }
}

#[derive(Debug, thiserror::Error)]
enum PemFileError {
    #[error(transparent)]
    Unreadable(#[from] io::Error),
    #[error(transparent)]
    Pem(#[from] PemError),
}

/// Checks that the feed's file can be read. A followed file may be absent: the daemon waits for it.
pub(super) fn check_feed(path: &Path, follow: bool) -> Result<(), FeedFileError> {
    match readable(path) {
        Err(error) if follow && error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(FeedFileError::Unreadable { path: path.to_owned(), source }),
        Ok(found) => match NoFile::of(found.file_type()) {
            Some(kind) => Err(FeedFileError::NotAFile { path: path.to_owned(), kind }),
            None => Ok(()),
        },
    }
}

/// Opens regular files only. Opening a pipe could wait for its writer, or take its data.
fn readable(path: &Path) -> io::Result<Metadata> {
    let found = std::fs::metadata(path)?;
    if found.is_file() {
        File::open(path)?;
    }
    Ok(found)
}

/// Checks the certificates and keys for etcd.
pub(super) fn check_etcd(access: &EtcdAccess) -> Vec<EtcdFileError> {
    let mut errors = Vec::new();
    let mut check = |role, path: &Path, parse: fn(&[u8]) -> Result<(), PemError>| {
        let parsed = match std::fs::read(path) {
            Ok(bytes) => parse(&bytes).map_err(PemFileError::from),
            Err(error) => Err(error.into()),
        };
        errors.extend(parsed.err().map(|reason| EtcdFileError { role, path: path.to_owned(), reason }));
    };
    if let Some(ca) = &access.ca {
        check(Role::Authority, ca, |bytes| wire::certificates(bytes).map(drop));
    }
    if let Some((certificate, key)) = &access.identity {
        check(Role::Certificate, certificate, |bytes| wire::certificates(bytes).map(drop));
        check(Role::Key, key, |bytes| wire::private_key(bytes).map(drop));
    }
    errors
}
