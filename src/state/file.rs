//! The state file.
//!
//! ```text
//! offset  bytes  content
//! 0       8      "CRUMBDS1"
//! 8       4      length of the feed's name, u32 little-endian
//! 12      n      the feed's name, UTF-8
//! 12+n    …      one zstd frame: a bincode snapshot body (PROTOCOL.md): header, entries, end
//! end-8   8      XXH3-64 of everything before, little-endian
//! ```
//!
//! The name keeps one feed's state from being served as another's. The checksum is checked before a
//! byte is believed; the body's own digest and count are checked again by the cache.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use xxhash_rust::xxh3::Xxh3Default;

use crate::cache::Breadcrumb;
use crate::model::{Entry, History, Revision};
use crate::wire::{BodyWriter, End, Header, MediaType, Mode, PutKind, Record, RecordReader, WireError};

const MAGIC: &[u8; 8] = b"CRUMBDS1";

/// Length of the checksum at the end.
const CHECKSUM: usize = 8;

/// Speed counts for more than size: level 1 compresses about 950 MB/s.
const LEVEL: i32 = 1;

/// Encoded entries that are compressed at a time, in bytes.
const CHUNK: usize = 1 << 20;

/// Why a state file is not used, or could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The system says no.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// Not one of ours, or of another version.
    #[error("it is no state file of this version of crumbd")]
    Foreign,
    /// Another feed's.
    #[error("it holds the state of the feed {found}, not of {expected}")]
    OtherFeed {
        /// Whose it is.
        found: String,
        /// Whose it should be.
        expected: String,
    },
    /// Another daemon is running on it.
    #[error("state directory {}: another daemon uses it", .0.display())]
    InUse(PathBuf),
    /// Bytes are missing or wrong.
    #[error("it is damaged: {0}")]
    Damaged(String),
}

impl From<WireError> for StateError {
    fn from(error: WireError) -> Self {
        Self::Damaged(error.to_string())
    }
}

/// A state that was read back and found whole; its entries are still to be decoded.
pub struct Saved {
    header: Header,
    history: History,
    revision: Revision,
    saved_at: SystemTime,
    /// The zstd frame.
    frame: Vec<u8>,
}

impl Saved {
    pub(super) fn read(path: &Path, feed: &str) -> Result<Self, StateError> {
        let saved_at = std::fs::metadata(path)?.modified()?;
        let mut bytes = std::fs::read(path)?;
        if bytes.len() < MAGIC.len() || bytes[..MAGIC.len()] != MAGIC[..] {
            return Err(StateError::Foreign);
        }
        let cut_off = || StateError::Damaged("it was cut off".to_owned());
        let sum_at = bytes.len().checked_sub(CHECKSUM).filter(|at| *at >= 12).ok_or_else(cut_off)?;
        let sum = bytes.split_off(sum_at);
        let mut hasher = Xxh3Default::new();
        hasher.update(&bytes);
        if hasher.digest().to_le_bytes()[..] != sum[..] {
            return Err(StateError::Damaged("its checksum is wrong".to_owned()));
        }
        let length = u32::from_le_bytes(bytes[8..12].try_into().map_err(|_| cut_off())?) as usize;
        let name = bytes.get(12..12 + length).ok_or_else(cut_off)?;
        if name != feed.as_bytes() {
            let found = String::from_utf8_lossy(name).into_owned();
            return Err(StateError::OtherFeed { found, expected: feed.to_owned() });
        }
        let frame = bytes.split_off(12 + length);
        let mut records = Records::of(&frame)?;
        let Some(Record::Snapshot(header)) = records.next()? else {
            return Err(StateError::Damaged("it does not begin with a header".to_owned()));
        };
        let (Some(history), Some(revision)) = (header.history, header.revision) else {
            return Err(StateError::Damaged("its header names no revision".to_owned()));
        };
        Ok(Self { header, history, revision, saved_at, frame })
    }

    /// Whose revisions these are.
    pub fn history(&self) -> History {
        self.history
    }

    /// The revision of the state.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Number of keys.
    pub fn count(&self) -> u64 {
        self.header.count.unwrap_or_default()
    }

    /// When the upstream was last known to have this state.
    pub fn saved_at(&self) -> SystemTime {
        self.saved_at
    }

    /// What the state must turn out to be.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Decodes the entries, and hands them over in batches of about this size.
    ///
    /// # Errors
    /// [`StateError::Damaged`]; the checksum was right, so this does not happen to files of ours.
    pub fn entries(&self, batch: usize, mut take: impl FnMut(Vec<Entry>)) -> Result<(), StateError> {
        let mut records = Records::of(&self.frame)?;
        let mut entries = Vec::with_capacity(batch);
        while let Some(record) = records.next()? {
            match record {
                Record::Put { entry, .. } => entries.push(entry),
                Record::End(_) => {
                    take(entries);
                    return Ok(());
                }
                _ => {}
            }
            if entries.len() >= batch {
                take(std::mem::replace(&mut entries, Vec::with_capacity(batch)));
            }
        }
        Err(StateError::Damaged("it has no end".to_owned()))
    }
}

/// The records of a compressed body.
struct Records<'a> {
    input: zstd::Decoder<'static, std::io::BufReader<&'a [u8]>>,
    reader: RecordReader,
    chunk: Vec<u8>,
}

impl<'a> Records<'a> {
    fn of(frame: &'a [u8]) -> Result<Self, StateError> {
        let input = zstd::Decoder::new(frame)?;
        Ok(Self { input, reader: RecordReader::new(MediaType::Bincode), chunk: vec![0; 256 * 1024] })
    }

    fn next(&mut self) -> Result<Option<Record>, StateError> {
        loop {
            if let Some(record) = self.reader.next_record()? {
                return Ok(Some(record));
            }
            match self.input.read(&mut self.chunk)? {
                0 => return Ok(None),
                read => self.reader.push(&self.chunk[..read]),
            }
        }
    }
}

/// Writes the state of a breadcrumb. The file is on the disk when this returns.
pub(super) fn write(path: &Path, feed: &str, crumb: &Breadcrumb) -> Result<(), StateError> {
    let mut out = Summed { file: BufWriter::new(File::create(path)?), hasher: Xxh3Default::new() };
    out.write_all(MAGIC)?;
    let length = u32::try_from(feed.len()).map_err(std::io::Error::other)?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(feed.as_bytes())?;
    let (cursor, kvs) = (crumb.cursor(), crumb.kvs());
    let header = Header {
        mode: Some(Mode::Snapshot),
        cursor: Some(cursor),
        history: Some(cursor.history),
        revision: Some(cursor.revision),
        status: Some(cursor.status),
        count: Some(kvs.len() as u64),
        digest: Some(kvs.digest()),
        ..Header::default()
    };
    let mut frame = zstd::Encoder::new(out, LEVEL)?;
    let mut body = BodyWriter::snapshot(MediaType::Bincode, &header, CHUNK);
    for entry in kvs.iter() {
        body.put(PutKind::New, entry);
        if body.len() >= CHUNK {
            frame.write_all(&body.take())?;
        }
    }
    let end = End { cursor: header.cursor, count: header.count, digest: header.digest };
    frame.write_all(&body.finish(&end))?;
    let Summed { mut file, hasher } = frame.finish()?;
    file.write_all(&hasher.digest().to_le_bytes())?;
    file.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
    Ok(())
}

/// A file whose bytes are summed on their way.
struct Summed {
    file: BufWriter<File>,
    hasher: Xxh3Default,
}

impl Write for Summed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}
