//! The write-ahead log of a push feed: the datastore itself.
//!
//! ```text
//! log-{base:020}.crumbd: every change after revision `base`, until the next file takes over
//!
//! offset  bytes  content
//! 0       8      "CRUMBDW1"
//! 8       16     the history, as hex digits
//! 24      …      entries, one a breadcrumb:
//!                  4  length n of the body, u32 little-endian
//!                  8  XXH3-64 of the body, little-endian
//!                  n  the body: a bincode breadcrumb (PROTOCOL.md): header, updates, end
//! ```
//!
//! An entry is synced before its breadcrumb can be read, and an append that fails is cut off again. So
//! after a crash the only thing that may be wrong is the end of the newest file, of an entry that nobody
//! was told of: it is dropped. Anything else that does not fit is damage.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::Notify;
use tracing::{info, warn};
use xxhash_rust::xxh3::xxh3_64;

use super::{StateDir, StateError};
use crate::cache::{Delta, DeltaKind, Journal};
use crate::model::{Change, History, Revision, Update};
use crate::wire::{BodyWriter, End, Header, MediaType, PutKind, Record, RecordReader};

const MAGIC: &[u8; 8] = b"CRUMBDW1";

/// Magic and history.
const HEAD: u64 = 24;

/// Length and checksum before each body.
const ENTRY_HEAD: usize = 12;

/// A file of this size is followed by a new one, and by a state file that makes older ones unneeded.
const FILE_BYTES: u64 = 64 << 20;

/// The changes of one breadcrumb, read back.
pub struct LogEntry {
    /// The revision that they lead to.
    pub revision: Revision,
    /// The changes, in order of revision.
    pub updates: Vec<Update>,
}

/// The log, open for appending.
pub struct Log {
    dir: PathBuf,
    file: File,
    history: History,
    /// The end of the last good entry.
    end: u64,
    last: Revision,
    /// Told when a new file was begun.
    rotated: Arc<Notify>,
}

/// Where reading a log ended.
pub(super) struct LogEnd {
    last: Revision,
    /// The newest file, and the end of its last good entry.
    newest: Option<(PathBuf, u64)>,
}

/// Hands over every entry after `after`, oldest first.
///
/// # Errors
/// [`StateError::Damaged`] where an entry other than a torn last one is wrong.
pub(super) fn read(
    dir: &Path,
    history: History,
    after: Revision,
    mut take: impl FnMut(LogEntry),
) -> Result<LogEnd, StateError> {
    let mut read = LogEnd { last: after, newest: None };
    let mut files = bases(dir)?.into_iter().peekable();
    while let Some(base) = files.next() {
        let path = path_of(dir, base);
        let bytes = std::fs::read(&path)?;
        let mut at = check_head(&bytes, history)?;
        while let Some(body) = entry_at(&bytes, at) {
            at += ENTRY_HEAD + body.len();
            let entry = decode(body)?;
            if entry.revision > read.last {
                read.last = entry.revision;
                take(entry);
            }
        }
        if at < bytes.len() {
            if files.peek().is_some() || has_entry_after(&bytes, at) {
                return Err(StateError::Damaged(format!("{} is wrong at byte {at}", path.display())));
            }
            let torn = bytes.len() - at;
            warn!("{}: the last {torn} bytes are of a write that was not finished: dropped", path.display());
        }
        read.newest = Some((path, at as u64));
    }
    Ok(read)
}

/// The base revisions of the log files that there are, ascending.
pub(super) fn bases(dir: &Path) -> std::io::Result<Vec<Revision>> {
    let mut bases = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("log-")?.strip_suffix(".crumbd"));
        bases.extend(number.and_then(|number| number.parse().ok()).map(Revision));
    }
    bases.sort_unstable();
    Ok(bases)
}

pub(super) fn path_of(dir: &Path, base: Revision) -> PathBuf {
    dir.join(format!("log-{:020}.crumbd", base.0))
}

impl Log {
    /// Begins a log for a new history.
    pub(super) fn create(dir: &StateDir, history: History, base: Revision) -> Result<Self, StateError> {
        let (file, end) = new_file(&dir.path, history, base)?;
        Ok(Self { dir: dir.path.clone(), file, history, end, last: base, rotated: Arc::new(Notify::new()) })
    }

    /// Goes on where reading it ended; what lies behind that is cut off.
    pub(super) fn resume(dir: &StateDir, history: History, read: &LogEnd) -> Result<Self, StateError> {
        let Some((path, end)) = &read.newest else { return Self::create(dir, history, read.last) };
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        file.set_len(*end)?;
        file.sync_all()?;
        let rotated = Arc::new(Notify::new());
        Ok(Self { dir: dir.path.clone(), file, history, end: *end, last: read.last, rotated })
    }

    /// Resolves each time when older files could be replaced by a state file.
    pub(super) fn rotated(&self) -> Arc<Notify> {
        Arc::clone(&self.rotated)
    }

    fn write(&mut self, revision: Revision, deltas: &[Delta]) -> std::io::Result<()> {
        let body = encode(self.history, revision, deltas);
        let length = u32::try_from(body.len()).map_err(std::io::Error::other)?;
        let mut entry = Vec::with_capacity(ENTRY_HEAD + body.len());
        entry.extend_from_slice(&length.to_le_bytes());
        entry.extend_from_slice(&xxh3_64(&body).to_le_bytes());
        entry.extend_from_slice(&body);
        // What an append before this one left behind is not an entry.
        self.file.set_len(self.end)?;
        self.file.seek(SeekFrom::Start(self.end))?;
        self.file.write_all(&entry)?;
        self.file.sync_data()?;
        self.end += entry.len() as u64;
        self.last = revision;
        Ok(())
    }

    fn rotate(&mut self) {
        match new_file(&self.dir, self.history, self.last) {
            Ok((file, end)) => {
                (self.file, self.end) = (file, end);
                self.rotated.notify_one();
            }
            Err(error) => warn!("a new log file cannot be begun: {error}; the old one goes on growing"),
        }
    }
}

impl Journal for Log {
    fn append(&mut self, revision: Revision, deltas: &[Delta]) -> Result<(), String> {
        // What is being replayed at a start is in the log already.
        if revision <= self.last {
            return Ok(());
        }
        if let Err(error) = self.write(revision, deltas) {
            // Should this fail too, the next append begins with it.
            _ = self.file.set_len(self.end);
            return Err(format!("the log in {}: {error}", self.dir.display()));
        }
        if self.end > FILE_BYTES {
            self.rotate();
        }
        Ok(())
    }
}

fn new_file(dir: &Path, history: History, base: Revision) -> std::io::Result<(File, u64)> {
    let path = path_of(dir, base);
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
    file.write_all(MAGIC)?;
    file.write_all(history.to_string().as_bytes())?;
    file.sync_all()?;
    File::open(dir)?.sync_all()?;
    info!("log file {} begun", path.display());
    Ok((file, HEAD))
}

/// The history of the newest log file, if there is one.
pub(super) fn history_of(dir: &Path) -> Result<Option<History>, StateError> {
    let Some(newest) = bases(dir)?.pop() else { return Ok(None) };
    let mut head = [0; HEAD as usize];
    File::open(path_of(dir, newest))?.read_exact(&mut head)?;
    if head[..8] != MAGIC[..] {
        return Err(StateError::Foreign);
    }
    let text = String::from_utf8_lossy(&head[8..]).into_owned();
    let history = text.parse().map_err(|_| StateError::Damaged("its history is no history".to_owned()))?;
    Ok(Some(history))
}

fn check_head(bytes: &[u8], history: History) -> Result<usize, StateError> {
    let head = bytes.get(..HEAD as usize).ok_or(StateError::Foreign)?;
    if head[..8] != MAGIC[..] {
        return Err(StateError::Foreign);
    }
    if head[8..] != *history.to_string().as_bytes() {
        return Err(StateError::Damaged("its files are of several histories".to_owned()));
    }
    Ok(HEAD as usize)
}

/// The body of the entry at this place, if it is whole and right.
fn entry_at(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let head = bytes.get(at..at + ENTRY_HEAD)?;
    let length = u32::from_le_bytes(head[..4].try_into().ok()?) as usize;
    let sum = u64::from_le_bytes(head[4..].try_into().ok()?);
    let body = bytes.get(at + ENTRY_HEAD..at + ENTRY_HEAD + length)?;
    (xxh3_64(body) == sum).then_some(body)
}

/// Whether a good entry follows a bad one: then the bad one was not the last.
fn has_entry_after(bytes: &[u8], at: usize) -> bool {
    let length = bytes.get(at..at + 4).and_then(|head| head.try_into().ok()).map(u32::from_le_bytes);
    let next = length.map(|length| at + ENTRY_HEAD + length as usize);
    next.is_some_and(|next| entry_at(bytes, next).is_some())
}

fn encode(history: History, revision: Revision, deltas: &[Delta]) -> Vec<u8> {
    let header = Header { history: Some(history), revision: Some(revision), ..Header::default() };
    let size = deltas.iter().map(|delta| delta.entry.payload_bytes() + 32).sum();
    let mut body = BodyWriter::breadcrumb(MediaType::Bincode, &header, size);
    let mut in_order: Vec<&Delta> = deltas.iter().collect();
    in_order.sort_by_key(|delta| delta.revision);
    for delta in in_order {
        match delta.kind {
            DeltaKind::New => body.put(PutKind::New, &delta.entry),
            DeltaKind::Updated => body.put(PutKind::Updated, &delta.entry),
            DeltaKind::Deleted => body.deleted(delta.entry.key(), Some(delta.revision)),
        }
    }
    body.finish(&End::default())
}

fn decode(body: &[u8]) -> Result<LogEntry, StateError> {
    let mut reader = RecordReader::new(MediaType::Bincode);
    reader.push(body);
    let mut entry = LogEntry { revision: Revision::ZERO, updates: Vec::new() };
    while let Some(record) = reader.next_record()? {
        match record {
            Record::Breadcrumb(header) => entry.revision = header.revision.unwrap_or_default(),
            Record::Put { entry: put, .. } => {
                let revision = put.revision();
                entry.updates.push(Update { change: Change::Put(put), revision });
            }
            Record::Deleted { key, revision } => {
                entry.updates.push(Update { change: Change::Delete(key), revision });
            }
            _ => {}
        }
    }
    reader.finish()?;
    Ok(entry)
}
