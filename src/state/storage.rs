//! The files under the database, as its storage backends.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use redb::StorageBackend;
use rustix::fs::{AtFlags, CWD, Statx, StatxFlags, statx};

use super::{Damage, StateError};

/// A file whose syncs fail once its name is gone: a file without a name is lost when the process ends.
#[derive(Debug)]
pub(super) struct NamedFile {
    pub(super) file: File,
    pub(super) path: PathBuf,
}

impl NamedFile {
    fn is_still_there(&self) -> io::Result<()> {
        if is_named(&self.file, &self.path) { Ok(()) } else { Err(removed()) }
    }
}

/// Whether the path still leads to this file.
///
/// Only the inode is queried. After a query for a file's times, Linux (since 6.13) gives the next write a time of its
/// own and journals the inode: that made a commit a third slower.
pub(super) fn is_named(file: &File, path: &Path) -> bool {
    let inode = |found: Statx| (found.stx_dev_major, found.stx_dev_minor, found.stx_ino);
    let ours = statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::INO).map(inode);
    let named = statx(CWD, path, AtFlags::empty(), StatxFlags::INO).map(inode);
    ours.and_then(|ours| Ok(ours == named?)).unwrap_or(false)
}

/// The error when a path no longer leads to our file.
pub(super) fn removed() -> io::Error {
    io::Error::new(ErrorKind::NotFound, "the file was removed or replaced")
}

/// Opens an existing file; `None` if there is none. Anything but a regular file is damage, and is not opened: a pipe
/// would block.
pub(super) fn open_regular(path: &Path, writable: bool) -> Result<Option<File>, StateError> {
    let opened = fs::metadata(path).and_then(|found| {
        let open = || OpenOptions::new().read(true).write(writable).open(path);
        if found.is_file() { open().map(Some) } else { Ok(None) }
    });
    match opened {
        Ok(Some(file)) => Ok(Some(file)),
        Ok(None) => Err(StateError::damaged(path, Damage::NotAFile)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem => {
            Err(StateError::ReadOnly(path.to_owned()))
        }
        Err(error) => Err(StateError::io(path, error)),
    }
}

impl StorageBackend for NamedFile {
    fn len(&self) -> io::Result<u64> {
        Ok(statx(&self.file, "", AtFlags::EMPTY_PATH, StatxFlags::SIZE)?.stx_size)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()?;
        self.is_still_there()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, offset)
    }
}

/// The unit in which writes are kept in memory.
const BLOCK: u64 = 4096;

/// A file that is only read. After a crash the library has to repair a database before it reads it: those writes stay
/// in memory.
#[derive(Debug)]
pub(super) struct ReadOnlyFile {
    file: File,
    written: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    len: u64,
    blocks: BTreeMap<u64, Box<[u8; BLOCK as usize]>>,
}

impl ReadOnlyFile {
    pub(super) fn new(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        Ok(Self { file, written: Mutex::new(Written { len, blocks: BTreeMap::new() }) })
    }

    /// A block of the file; zeros beyond its end.
    fn block(&self, number: u64) -> io::Result<Box<[u8; BLOCK as usize]>> {
        let mut block = Box::new([0; BLOCK as usize]);
        let (mut rest, mut offset) = (&mut block[..], number * BLOCK);
        while !rest.is_empty() {
            let read = self.file.read_at(rest, offset)?;
            if read == 0 {
                break;
            }
            offset += read as u64;
            rest = &mut rest[read..];
        }
        Ok(block)
    }
}

/// Splits a range at blocks: the number of each block, the position in it, and the length.
fn pieces(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let end = offset + length as u64;
    let numbers = offset / BLOCK..end.div_ceil(BLOCK);
    numbers.map(move |number| {
        let from = offset.max(number * BLOCK);
        let to = end.min((number + 1) * BLOCK);
        (number, (from - number * BLOCK) as usize, (to - from) as usize)
    })
}

impl StorageBackend for ReadOnlyFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.written.lock().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let written = self.written.lock();
        if written.blocks.is_empty() {
            return self.file.read_exact_at(out, offset);
        }
        let mut at = 0;
        for (number, from, length) in pieces(offset, out.len()) {
            let into = &mut out[at..at + length];
            match written.blocks.get(&number) {
                Some(block) => into.copy_from_slice(&block[from..from + length]),
                None => into.copy_from_slice(&self.block(number)?[from..from + length]),
            }
            at += length;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.written.lock().len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut written = self.written.lock();
        let mut at = 0;
        for (number, from, length) in pieces(offset, data.len()) {
            let block = match written.blocks.entry(number) {
                std::collections::btree_map::Entry::Occupied(there) => there.into_mut(),
                std::collections::btree_map::Entry::Vacant(free) => free.insert(self.block(number)?),
            };
            block[from..from + length].copy_from_slice(&data[at..at + length]);
            at += length;
        }
        Ok(())
    }
}
