//! The state file.
//!
//! ```text
//! offset  bytes  content
//! 0       8      "CRUMBDS1"
//! 8       4      length of the feed's name, u32 little-endian
//! 12      n      the feed's name, UTF-8
//! 12+n    …      zstd frames, one after the other, each of whole records. Together: a bincode snapshot
//!                body (PROTOCOL.md): header, entries, end
//! end-8   8      XXH3-64 of everything before, little-endian
//! ```
//!
//! The name keeps one feed's state from being served as another's. The checksum is checked before a
//! byte is believed, and the body's own digest and count once it is decoded. There are many frames so that
//! several threads can decode them.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::SystemTime;

use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

use crate::cache::Breadcrumb;
use crate::model::{Digest, Entry, History, Revision};
use crate::wire::{BodyWriter, End, Header, MediaType, Mode, PutKind, Record, RecordReader, WireError};

const MAGIC: &[u8; 8] = b"CRUMBDS1";

/// Length of the checksum at the end.
const CHECKSUM: usize = 8;

/// Speed counts for more than size: level 1 compresses about 950 MB/s.
const LEVEL: i32 = 1;

/// Encoded entries in a frame, in bytes, give or take one.
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
    bytes: Vec<u8>,
    /// Where in them the frames begin.
    body_at: usize,
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
        if xxh3_64(&bytes[..sum_at]).to_le_bytes()[..] != bytes[sum_at..] {
            return Err(StateError::Damaged("its checksum is wrong".to_owned()));
        }
        bytes.truncate(sum_at);
        let length = u32::from_le_bytes(bytes[8..12].try_into().map_err(|_| cut_off())?) as usize;
        let name = bytes.get(12..12 + length).ok_or_else(cut_off)?;
        if name != feed.as_bytes() {
            let found = String::from_utf8_lossy(name).into_owned();
            return Err(StateError::OtherFeed { found, expected: feed.to_owned() });
        }
        let body_at = 12 + length;
        let mut records = Records::of(&bytes[body_at..])?;
        let Some(Record::Snapshot(header)) = records.next()? else {
            return Err(StateError::Damaged("it does not begin with a header".to_owned()));
        };
        let (Some(history), Some(revision)) = (header.history, header.revision) else {
            return Err(StateError::Damaged("its header names no revision".to_owned()));
        };
        Ok(Self { header, history, revision, saved_at, bytes, body_at })
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

    /// Decodes the entries on all cores. Each thread adds those that come to it to a part of its own.
    ///
    /// # Errors
    /// [`StateError::Damaged`]; the checksum was right, so this does not happen to files of ours.
    pub fn decode<P: Send>(
        &self,
        part: impl Fn() -> P + Sync,
        add: impl Fn(&mut P, Entry) + Sync,
    ) -> Result<Vec<P>, StateError> {
        let frames = frames(&self.bytes[self.body_at..])?;
        let next = AtomicUsize::new(0);
        let decode = || -> Result<P, StateError> {
            let mut part = part();
            while let Some(frame) = frames.get(next.fetch_add(1, Ordering::Relaxed)) {
                let mut records = Records::of(frame)?;
                while let Some(record) = records.next()? {
                    if let Record::Put { entry, .. } = record {
                        add(&mut part, entry);
                    }
                }
                records.reader.finish()?;
            }
            Ok(part)
        };
        let cores = thread::available_parallelism().map_or(1, usize::from);
        thread::scope(|scope| {
            let threads: Vec<_> = (0..cores.min(frames.len())).map(|_| scope.spawn(decode)).collect();
            let crashed = |_| Err(StateError::Damaged("decoding it has crashed".to_owned()));
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(crashed)).collect()
        })
    }

    /// Whether what was decoded is what was saved.
    ///
    /// # Errors
    /// [`StateError::Damaged`] otherwise.
    pub fn check(&self, count: usize, digest: Digest) -> Result<(), StateError> {
        let fits = self.header.count.is_none_or(|saved| saved == count as u64)
            && self.header.digest.is_none_or(|saved| saved == digest);
        if fits {
            Ok(())
        } else {
            Err(StateError::Damaged("its entries are not the state that it names".to_owned()))
        }
    }
}

/// Cuts a body into its frames.
fn frames(mut body: &[u8]) -> Result<Vec<&[u8]>, StateError> {
    let mut frames = Vec::new();
    while !body.is_empty() {
        let length = zstd::zstd_safe::find_frame_compressed_size(body).unwrap_or_default();
        let (frame, rest) = body
            .split_at_checked(length)
            .filter(|(frame, _)| !frame.is_empty())
            .ok_or_else(|| StateError::Damaged("it is not made of whole frames".to_owned()))?;
        frames.push(frame);
        body = rest;
    }
    Ok(frames)
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
    let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
    let mut body = BodyWriter::snapshot(MediaType::Bincode, &header, CHUNK);
    for entry in kvs.iter() {
        body.put(PutKind::New, entry);
        if body.len() >= CHUNK {
            out.write_all(&compressor.compress(&body.take())?)?;
        }
    }
    let end = End { cursor: header.cursor, count: header.count, digest: header.digest };
    out.write_all(&compressor.compress(&body.finish(&end))?)?;
    let Summed { mut file, hasher } = out;
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cache::{Cache, CacheConfig, SnapshotBuilder};
    use crate::ingest::IngestBuffer;

    #[tokio::test]
    async fn a_state_of_many_frames_comes_back_whole() -> Result<(), Box<dyn std::error::Error>> {
        let (history, revision) = (History::derive(b"test"), Revision(7));
        let builder = SnapshotBuilder::new(history, revision);
        let mut part = builder.part();
        for n in 0..3000_u32 {
            let value = vec![n as u8; 1000 + n as usize % 500];
            part.add(Entry::new(&n.to_le_bytes(), &value, None).at(Revision(1 + u64::from(n % 5))));
        }
        let (state, _) = builder.finish(vec![part]);
        let buffer = Arc::new(IngestBuffer::channel(1)?);
        let (cache, _task) = Cache::restored(CacheConfig::default(), state, false, buffer);
        let crumb = cache.current_breadcrumb();

        let dir = tempfile::tempdir()?;
        let path = dir.path().join("state");
        write(&path, "a feed", &crumb)?;
        let saved = Saved::read(&path, "a feed")?;
        assert!(frames(&saved.bytes[saved.body_at..])?.len() > 2);
        let builder = SnapshotBuilder::new(saved.history(), saved.revision());
        let parts = saved.decode(|| builder.part(), |part, entry| part.add(entry))?;
        let (again, newest) = builder.finish(parts);
        saved.check(again.len(), again.digest())?;
        assert_eq!((again.len(), again.digest()), (3000, crumb.kvs().digest()));
        assert_eq!(again.payload_bytes(), crumb.kvs().payload_bytes());
        assert_eq!(newest.and_then(|entry| entry.revision()), Some(Revision(5)));
        for entry in crumb.kvs().iter() {
            let found = again.get(entry.key()).ok_or("a key is missing")?;
            assert!(found.same_content(entry) && found.revision() == entry.revision());
        }
        assert!(saved.check(2999, again.digest()).is_err());
        assert!(matches!(Saved::read(&path, "another"), Err(StateError::OtherFeed { .. })));
        Ok(())
    }
}
