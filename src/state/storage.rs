//! The file under the database.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use redb::StorageBackend;
use rustix::fs::{AtFlags, CWD, Statx, StatxFlags, statx};

use super::{Damage, StateError};

/// A file that says no once its name is gone: what is synced into a file without a name is lost with the process.
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

/// Whether the path still leads to this very file.
///
/// Only the inode is asked for. Who asks for the times of a file makes Linux (since 6.13) give the next write a time of its
/// own, and the inode with it to the journal: that made a commit a third slower.
pub(super) fn is_named(file: &File, path: &Path) -> bool {
    let inode = |found: Statx| (found.stx_dev_major, found.stx_dev_minor, found.stx_ino);
    let ours = statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::INO).map(inode);
    let named = statx(CWD, path, AtFlags::empty(), StatxFlags::INO).map(inode);
    ours.and_then(|ours| Ok(ours == named?)).unwrap_or(false)
}

/// What is said when a path does not lead to our file any more.
pub(super) fn removed() -> io::Error {
    io::Error::new(ErrorKind::NotFound, "the file was removed or replaced")
}

/// Opens a file that exists; `None` where there is none. Anything but a regular file is damage, and is not opened: a pipe
/// would be waited for.
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

/// The size of what is kept of a write to a file that cannot be written.
const BLOCK: u64 = 4096;

/// A file that cannot be written. To read a database after a crash, the library has to repair it first: what it
/// writes for that stays in memory.
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

    /// The block of this number as the file has it; zeros beyond its end.
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

/// The pieces of a range that lie in one block each: the block's number, where in it, and how long.
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
