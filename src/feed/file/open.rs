//! Opening what is under a name, and telling what it is.

use std::fmt;
use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io::{Error, ErrorKind};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::OFlags;

use crate::model::History;

/// The beginning of a file is looked at up to here for its first line.
const BEGINNING_BYTES: usize = 4096;

/// What is under a name where a regular file should be.
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
    /// What something of this type is, where it is no regular file.
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

/// Why there is nothing to read under a name.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    /// Nothing yet, or nothing any more.
    #[error("it does not exist")]
    Missing(Error),
    /// Whatever else the system says; it may be over in a moment.
    #[error("{0}")]
    Io(Error),
    /// It is something else.
    #[error("it is {0}")]
    NoFile(NoFile),
}

impl From<Error> for OpenError {
    fn from(error: Error) -> Self {
        if error.kind() == ErrorKind::NotFound { Self::Missing(error) } else { Self::Io(error) }
    }
}

/// What the system says of a file without reading it. Where it is the same, the file has most likely not
/// changed; where it is another, only the content tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stamp {
    file: (u64, u64),
    pub(super) len: u64,
    modified: (i64, i64),
    /// Nobody can set it, unlike `modified`.
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

    /// Of whatever is under the name now.
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
    /// From before the first byte was read.
    pub(super) stamp: Stamp,
    /// Which file it is, and how it begins. What is appended later must not change it, so only the first line
    /// counts. Files that begin alike are of one family: whether a cursor of one is good in the other, the
    /// state that it names decides.
    pub(super) history: History,
    /// How long it had not been written to.
    pub(super) age: Duration,
}

impl Opened {
    /// Blocks for as long as the file system does, but never until somebody writes into a pipe.
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
        // Not every file system knows when a file was made; inode numbers are used again and again.
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

/// Opens a regular file. What is something else is not opened: that may have effects, or take for ever.
pub(super) fn open(path: &Path) -> Result<(File, Metadata, Stamp), OpenError> {
    Stamp::under(path)?;
    // Should a pipe take its place right now.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let meta = file.metadata()?;
    let stamp = Stamp::of(&meta)?;
    Ok((file, meta, stamp))
}

/// Fills the buffer from this place on, as far as the file goes.
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
