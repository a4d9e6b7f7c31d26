//! Reading a dump.

use std::io;
use std::path::{Path, PathBuf};

use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::model::{Digest, Entry};
use crate::wire::{End, Header, MediaType, Record, RecordReader, WireError};

/// The bytes that are read at a time.
const CHUNK: usize = 256 << 10;

/// A dump, as it is read.
pub(super) struct Dump {
    input: Box<dyn AsyncRead + Send + Unpin>,
    name: String,
    reader: RecordReader,
    header: Header,
    /// Records read.
    line: u64,
    count: u64,
    digest: Digest,
    ended: bool,
}

/// A dump that cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub(super) enum DumpError {
    #[error("dump {}: {source}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("{name}: {source}")]
    Read { name: String, source: io::Error },
    #[error("{name}: {source}")]
    Record { name: String, source: WireError },
    #[error("{name}: it does not begin with a `snapshot` record, so it is no dump")]
    NoDump { name: String },
    #[error("{name}: record {line}: a dump has only `new` records between `snapshot` and `end`")]
    Unexpected { name: String, line: u64 },
    #[error("{name}: the dump was cut off after record {line}: its `end` record is missing")]
    CutOff { name: String, line: u64 },
    #[error("{name}: the dump names {claimed} as its {what}, but its records have {found}: it is damaged")]
    Contradiction { name: String, what: &'static str, claimed: String, found: String },
    #[error(
        "the dump is of some keys only, so --replace would delete the others: load it without, or dump all keys"
    )]
    OfSomeKeys,
}

impl Dump {
    /// Opens a dump, and reads its first record. `-` is standard input.
    pub(super) async fn open(path: &Path) -> Result<Self, DumpError> {
        let (input, name): (Box<dyn AsyncRead + Send + Unpin>, _) = match path.to_str() {
            Some("-") => (Box::new(tokio::io::stdin()), "standard input".to_owned()),
            _ => {
                let file = File::open(path).await;
                let file = file.map_err(|source| DumpError::Open { path: path.to_owned(), source })?;
                (Box::new(file), format!("dump {}", path.display()))
            }
        };
        let mut dump = Self {
            input,
            name,
            reader: RecordReader::new(MediaType::Ndjson),
            header: Header::default(),
            line: 0,
            count: 0,
            digest: Digest::default(),
            ended: false,
        };
        match dump.record().await {
            Ok(Some(Record::Snapshot(header))) => dump.header = header,
            Err(error @ DumpError::Read { .. }) => return Err(error),
            _ => return Err(DumpError::NoDump { name: dump.name }),
        }
        Ok(dump)
    }

    /// Whether it is of all keys. A daemon names the number of keys only then.
    pub(super) fn is_of_all_keys(&self) -> bool {
        self.header.more != Some(true) && (self.header.cursor.is_none() || self.header.count.is_some())
    }

    /// The number of keys that it claims to have.
    pub(super) fn claimed_count(&self) -> Option<u64> {
        self.header.count
    }

    /// The number of entries read.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The digest of the entries read.
    pub(super) fn digest(&self) -> Digest {
        self.digest
    }

    /// The next entry, with the number of its record; `None` at the end of a dump that is whole.
    pub(super) async fn next(&mut self) -> Result<Option<(u64, Entry)>, DumpError> {
        match self.record().await? {
            Some(Record::Put { entry, .. }) if !self.ended => {
                self.count += 1;
                self.digest.add(&entry);
                Ok(Some((self.line, entry)))
            }
            Some(Record::End(end)) if !self.ended => {
                self.ended = true;
                self.check(&end)?;
                match self.record().await? {
                    None => Ok(None),
                    Some(_) => Err(self.unexpected()),
                }
            }
            None if self.ended => Ok(None),
            None => Err(DumpError::CutOff { name: self.name.clone(), line: self.line }),
            Some(_) => Err(self.unexpected()),
        }
    }

    fn unexpected(&self) -> DumpError {
        DumpError::Unexpected { name: self.name.clone(), line: self.line }
    }

    /// Compares what the dump says of itself with what was read.
    fn check(&self, end: &End) -> Result<(), DumpError> {
        let contradiction = |what, claimed: String, found: String| {
            Err(DumpError::Contradiction { name: self.name.clone(), what, claimed, found })
        };
        for claimed in [self.header.count, end.count].into_iter().flatten() {
            if claimed != self.count {
                return contradiction("count", claimed.to_string(), self.count.to_string());
            }
        }
        for claimed in [self.header.digest, end.digest].into_iter().flatten() {
            if claimed != self.digest {
                return contradiction("digest", claimed.to_string(), self.digest.to_string());
            }
        }
        Ok(())
    }

    async fn record(&mut self) -> Result<Option<Record>, DumpError> {
        let mut chunk = Vec::new();
        loop {
            let record = self.reader.next_record();
            let record = record.map_err(|source| DumpError::Record { name: self.name.clone(), source })?;
            if record.is_some() {
                self.line += 1;
                return Ok(record);
            }
            chunk.resize(CHUNK, 0);
            let read = self.input.read(&mut chunk).await;
            match read.map_err(|source| DumpError::Read { name: self.name.clone(), source })? {
                0 if self.reader.finish().is_ok() => return Ok(None),
                0 => return Err(DumpError::CutOff { name: self.name.clone(), line: self.line }),
                read => self.reader.push(&chunk[..read]),
            }
        }
    }
}
