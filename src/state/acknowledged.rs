//! The file `acknowledged`: records how far the database of a push feed must reach.
//!
//! A database that has lost its newest commits looks like one that never had them: its digest is right, for an older
//! state. So the number of the newest breadcrumb that was acknowledged to a writer is kept in a file of its own,
//! which is written after the commit and before the answer.
//!
//! ```text
//! two slots of 64 bytes, written in turn; of the valid ones, that with the higher count of writes is used
//!
//! offset  bytes  content
//! 0       8      "CRUMBDA1"
//! 8       8      the store's id
//! 16      8      how often the file was written
//! 24      8      number of the newest acknowledged breadcrumb
//! 32      1      1: what the database holds after that was refused, and is to be removed; 0 otherwise
//! 33      23     zeros
//! 56      8      XXH3-64 of the 56 bytes before
//! ```
//!
//! Numbers are little-endian. The file is not synced at each write, which would double the time of a commit. After a
//! crash of the *process* it is exact. After a loss of power it may name an older breadcrumb than the database holds,
//! but never a newer one, since it is written last. Breadcrumbs beyond it are kept.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use super::database::sync_directory_of;
use super::storage::{is_named, open_regular};
use super::{Damage, StateError};

const MAGIC: &[u8; 8] = b"CRUMBDA1";
const SLOT: usize = 64;
const SUM_AT: usize = 56;

/// The content of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Acknowledged {
    /// The id of the database that it belongs to.
    pub(super) store: u64,
    /// The number of the newest acknowledged breadcrumb.
    pub(super) number: u64,
    /// Whether anything after it in the database was refused.
    pub(super) rest_refused: bool,
}

/// The file, open for writing.
#[derive(Debug)]
pub(super) struct AcknowledgedFile {
    path: PathBuf,
    file: File,
    writes: u64,
    content: Acknowledged,
}

impl AcknowledgedFile {
    /// Creates the file, completely or not at all. It is on the disk under its name when this returns.
    pub(super) fn create(path: &Path, store: u64, number: u64) -> Result<Self, StateError> {
        let aside = path.with_extension("tmp");
        let io = |error| StateError::io(path, error);
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(true).mode(0o600).open(&aside);
        let content = Acknowledged { store, number, rest_refused: false };
        let mut file = Self { path: path.to_owned(), file: file.map_err(io)?, writes: 0, content };
        // Both slots, so that a later write needs no new block of a disk that may be full by then.
        file.write_slot(content)?;
        file.write_slot(content)?;
        file.file.sync_all().map_err(io)?;
        std::fs::rename(&aside, path).and_then(|()| sync_directory_of(path)).map_err(io)?;
        Ok(file)
    }

    /// Opens the file; `None` if there is none.
    pub(super) fn open(path: &Path, writable: bool) -> Result<Option<Self>, StateError> {
        let io = |error| StateError::io(path, error);
        let Some(file) = open_regular(path, writable)? else { return Ok(None) };
        let mut slots = [0; 2 * SLOT];
        let damaged = || StateError::damaged(path, Damage::NoRecord);
        if file.metadata().map_err(io)?.len() != slots.len() as u64 {
            return Err(damaged());
        }
        file.read_exact_at(&mut slots, 0).map_err(io)?;
        let newest = slots.chunks_exact(SLOT).filter_map(read).max_by_key(|(writes, _)| *writes);
        let (writes, content) = newest.ok_or_else(damaged)?;
        Ok(Some(Self { path: path.to_owned(), file, writes, content }))
    }

    pub(super) fn content(&self) -> Acknowledged {
        self.content
    }

    /// Records that everything up to this breadcrumb is acknowledged.
    pub(super) fn reach(&mut self, number: u64) -> Result<(), StateError> {
        self.write(Acknowledged { number, rest_refused: false, ..self.content })
    }

    /// Records, and syncs, that everything after the acknowledged breadcrumb was refused and must not come back.
    pub(super) fn refuse_rest(&mut self) -> Result<(), StateError> {
        self.write(Acknowledged { rest_refused: true, ..self.content })?;
        self.file.sync_data().map_err(|error| StateError::io(&self.path, error))
    }

    /// Writes the content. If the file was removed or replaced, it is created again: a file without a name is lost
    /// when the process ends.
    fn write(&mut self, content: Acknowledged) -> Result<(), StateError> {
        if is_named(&self.file, &self.path) {
            return self.write_slot(content);
        }
        *self = Self::create(&self.path, content.store, content.number)?;
        if content.rest_refused { self.write_slot(content) } else { Ok(()) }
    }

    fn write_slot(&mut self, content: Acknowledged) -> Result<(), StateError> {
        let writes = self.writes + 1;
        let offset = (writes % 2) * SLOT as u64;
        let written = self.file.write_all_at(&slot(writes, content), offset);
        written.map_err(|error| StateError::io(&self.path, error))?;
        (self.writes, self.content) = (writes, content);
        Ok(())
    }
}

fn slot(writes: u64, content: Acknowledged) -> [u8; SLOT] {
    let mut slot = [0; SLOT];
    slot[..8].copy_from_slice(MAGIC);
    slot[8..16].copy_from_slice(&content.store.to_le_bytes());
    slot[16..24].copy_from_slice(&writes.to_le_bytes());
    slot[24..32].copy_from_slice(&content.number.to_le_bytes());
    slot[32] = content.rest_refused.into();
    let sum = xxh3_64(&slot[..SUM_AT]).to_le_bytes();
    slot[SUM_AT..].copy_from_slice(&sum);
    slot
}

/// The count of writes and the content of a slot; `None` if it is not valid.
fn read(slot: &[u8]) -> Option<(u64, Acknowledged)> {
    let number = |at: usize| Some(u64::from_le_bytes(slot.get(at..at + 8)?.try_into().ok()?));
    let whole = slot.get(..8)? == MAGIC && number(SUM_AT)? == xxh3_64(&slot[..SUM_AT]);
    let content = Acknowledged { store: number(8)?, number: number(24)?, rest_refused: slot[32] == 1 };
    whole.then_some((number(16)?, content))
}
