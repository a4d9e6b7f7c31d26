//! Opens the file under a name, if it is a regular file.

use std::fmt;
use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io::{Error, ErrorKind};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::OFlags;

use crate::model::History;

/// How many bytes at the beginning of a file are searched for its first line.
const BEGINNING_BYTES: usize = 4096;

/// Something other than a regular file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum NoFile {
    /// A named pipe, or one that the shell made.
    Pipe,
    /// A directory.
    Directory,
    /// A socket.
    Socket,
    /// A device.
    Device,
}

impl fmt::Display for NoFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pipe => {
                "a pipe, not a file: read it with `--feed stdin:`, as in `crumbd serve --feed stdin: < PIPE`"
            }
            Self::Directory => {
                "a directory, not a file: name the file in it (was it missing when it was mounted?)"
            }
            Self::Socket => "a socket, not a file",
            Self::Device => {
                "a device, not a file: what comes from a terminal or a device is read with `--feed stdin:`"
            }
        })
    }
}

impl NoFile {
    /// The kind of a file that is not a regular one.
    pub(crate) fn of(kind: FileType) -> Option<Self> {
        match kind {
            kind if kind.is_file() => None,
            kind if kind.is_fifo() => Some(Self::Pipe),
            kind if kind.is_dir() => Some(Self::Directory),
            kind if kind.is_socket() => Some(Self::Socket),
            _ => Some(Self::Device),
        }
    }
}

/// Why a file cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    /// It does not exist, yet or any more.
    #[error("it does not exist")]
    Missing(Error),
    /// Another error of the system, which may pass.
    #[error("{0}")]
    Io(Error),
    /// It is not a regular file.
    #[error("it is {0}")]
    NoFile(NoFile),
}

impl From<Error> for OpenError {
    fn from(error: Error) -> Self {
        if error.kind() == ErrorKind::NotFound { Self::Missing(error) } else { Self::Io(error) }
    }
}

/// The metadata of a file that changes with its content. If it is the same, the file has most likely not changed; if it
/// differs, only the content tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stamp {
    file: (u64, u64),
    pub(super) len: u64,
    modified: (i64, i64),
    /// Unlike `modified`, no program can set it.
    changed: (i64, i64),
}

impl Stamp {
    fn of(meta: &Metadata) -> Result<Self, OpenError> {
        match NoFile::of(meta.file_type()) {
            Some(kind) => Err(OpenError::NoFile(kind)),
            None => Ok(Self {
                file: (meta.dev(), meta.ino()),
                len: meta.len(),
                modified: (meta.mtime(), meta.mtime_nsec()),
                changed: (meta.ctime(), meta.ctime_nsec()),
            }),
        }
    }

    /// The stamp of the file that has the name now.
    pub(super) fn under(path: &Path) -> Result<Self, OpenError> {
        Self::of(&std::fs::metadata(path)?)
    }

    pub(super) fn is_same_file(&self, other: &Self) -> bool {
        self.file == other.file
    }
}

/// A regular file that was opened.
pub(super) struct Opened {
    pub(super) file: Arc<File>,
    /// The stamp before the first byte was read.
    pub(super) stamp: Stamp,
    /// The history, from the file's identity and its first line. Appending must not change it, so the other lines do
    /// not count. Files with the same first line have related histories: a cursor of one is accepted in another if
    /// the state that it names is the same.
    pub(super) history: History,
    /// How long it had not been written to.
    pub(super) age: Duration,
}

impl Opened {
    /// Opens the file. This blocks as long as the file system does, but never until somebody writes into a pipe.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let (file, meta, stamp) = open(path)?;
        let mut beginning = vec![0; BEGINNING_BYTES];
        let filled = read_full(&file, &mut beginning, 0)?;
        let beginning = &beginning[..filled];
        let first = memchr::memchr(b'\n', beginning).map_or(beginning, |end| &beginning[..end]);
        let family = [b"file".as_slice(), first].concat();
        let mut member = family.clone();
        member.extend_from_slice(&meta.dev().to_le_bytes());
        member.extend_from_slice(&meta.ino().to_le_bytes());
        // Inode numbers are reused. Not every file system knows when a file was created.
        if let Ok(born) =
            meta.created().and_then(|born| born.duration_since(UNIX_EPOCH).map_err(Error::other))
        {
            member.extend_from_slice(&born.as_nanos().to_le_bytes());
        }
        let age = meta.modified().and_then(|at| SystemTime::now().duration_since(at).map_err(Error::other));
        let history = History::derive_in_family(&family, &member);
        Ok(Self { file: Arc::new(file), stamp, history, age: age.unwrap_or_default() })
    }
}

/// Opens a regular file. Anything else is not opened: that may have side effects, or block for ever.
pub(super) fn open(path: &Path) -> Result<(File, Metadata, Stamp), OpenError> {
    Stamp::under(path)?;
    // In case a pipe takes its place right now.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let meta = file.metadata()?;
    let stamp = Stamp::of(&meta)?;
    Ok((file, meta, stamp))
}

/// Fills the buffer from a position on, as far as the file goes.
pub(super) fn read_full(file: &File, buffer: &mut [u8], from: u64) -> Result<usize, Error> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], from + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
