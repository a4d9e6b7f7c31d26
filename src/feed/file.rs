//! `file:PATH`, NDJSON records from a file; with `?follow=true` also what is appended.
//!
//! A followed file is looked at a few times a second. Three things can happen to it besides
//! growing: it shrinks or its already-read bytes change (truncated, written anew in place), or its
//! name comes to stand for another file (renamed over). Both are another history: the file is read
//! from its start while the old state is served, and the difference is published at its end.
//! Because such a file may still be being written, its end counts only once it has stayed the same
//! for a moment: half a file must not look like a thousand deletions.

use std::io::SeekFrom;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tracing::{info, warn};

use super::lines::{LineSplitter, READ_BYTES};
use super::translate::Translator;
use super::{FeedError, Sink, Syncer, Warm};
use crate::model::{FeedEvent, History, ResyncClaim, SyncStatus};

/// How often a followed file is looked at.
const POLL: Duration = Duration::from_millis(100);

/// How many looks in a row must find a new file unchanged before it counts as complete.
const SETTLED_POLLS: u32 = 3;

/// The same for a new file that is empty: more often than not its writer has only just opened it.
const SETTLED_EMPTY_POLLS: u32 = 20;

/// How many of the bytes before our place are compared to notice a file that was written anew.
const TAIL_BYTES: usize = 256;

/// A file as a feed.
pub struct FileFeed {
    path: PathBuf,
    follow: bool,
    strict: bool,
    opened: Option<(File, History)>,
    /// Every history that this process has had from this file: none may come back for another one.
    past: Vec<History>,
}

impl FileFeed {
    /// Opens the file. Only a followed file may be missing: it is waited for.
    ///
    /// # Errors
    /// [`FeedError::File`].
    pub async fn open(path: PathBuf, follow: bool, strict: bool) -> Result<Self, FeedError> {
        let opened = match open(&path).await {
            Ok(opened) => Some(opened),
            Err(error) if follow && error.kind() == std::io::ErrorKind::NotFound => {
                warn!("feed file {} does not exist yet: waiting for it", path.display());
                None
            }
            Err(source) => return Err(FeedError::File { path, source }),
        };
        Ok(Self { path, follow, strict, opened, past: Vec::new() })
    }

    fn translator(&self, sink: &Sink) -> Translator {
        Translator::new(sink.clone(), self.path.display().to_string(), self.strict)
    }

    fn failed(&self) -> impl FnOnce(std::io::Error) -> FeedError {
        let path = self.path.clone();
        move |source| FeedError::File { path, source }
    }
}

impl Syncer for FileFeed {
    fn history(&self) -> Option<History> {
        self.opened.as_ref().map(|(_, history)| *history)
    }

    async fn run(mut self, sink: Sink, warm: Option<Warm>) -> Result<(), FeedError> {
        let (mut reading, mut reload) = match self.opened.take() {
            Some((file, history)) => {
                // What is served already is compared with the file, not added to.
                (Reading::new(file, history, self.translator(&sink)), warm.is_some())
            }
            None => (self.reopen(&sink).await?, true),
        };
        loop {
            self.past.push(reading.history);
            begin(&sink, reload.then_some(reading.history)).await?;
            reading.read_to_end().await.map_err(|error| error.into_feed(&self))?;
            if !self.follow {
                reading.lines.finish(&mut reading.translator).await?;
                if reload {
                    reading.translator.finish_records().await?;
                    end(&sink).await?;
                }
                reading.translator.finish().await?;
                return Ok(());
            }
            if reload {
                if !self.settle(&mut reading).await? {
                    reading = self.reopen(&sink).await?;
                    continue;
                }
                end(&sink).await?;
            }
            reading.translator.caught_up().await?;
            self.follow(&mut reading, &sink).await?;
            sink.upstream().reconnects.add(1);
            reading = self.reopen(&sink).await?;
            reload = true;
        }
    }
}

/// Announces a reading: the first one fills the empty cache, a later one is a resync.
async fn begin(sink: &Sink, reload: Option<History>) -> Result<(), FeedError> {
    sink.send(FeedEvent::Status(SyncStatus::ResyncInProgress)).await?;
    match reload {
        Some(history) => {
            sink.send(FeedEvent::ResyncBegin { history: Some(history), whole_at: None, lossy: false }).await
        }
        None => Ok(()),
    }
}

async fn end(sink: &Sink) -> Result<(), FeedError> {
    let claim = ResyncClaim::default();
    sink.send(FeedEvent::ResyncEnd { revision: None, claim, complete: true }).await
}

impl FileFeed {
    /// Reads what is appended, until the file is another.
    async fn follow(&self, reading: &mut Reading, sink: &Sink) -> Result<(), FeedError> {
        loop {
            tokio::time::sleep(POLL).await;
            match reading.look(&self.path).await.map_err(self.failed())? {
                Look::Same => sink.upstream().heard(),
                Look::Grown => {
                    reading.read_to_end().await.map_err(|error| error.into_feed(self))?;
                    reading.translator.caught_up().await?;
                }
                Look::Rewritten => {
                    info!(
                        "feed file {} was truncated or written anew: reading it again",
                        self.path.display()
                    );
                    return Ok(());
                }
                Look::Replaced => {
                    // What was appended to the old file before it was replaced still counts.
                    reading.read_to_end().await.map_err(|error| error.into_feed(self))?;
                    reading.translator.flush().await?;
                    info!("feed file {} was replaced: reading the new one", self.path.display());
                    return Ok(());
                }
                Look::Missing => {}
            }
        }
    }

    /// Waits until the file is whole and has not changed for a moment; false when it became another
    /// meanwhile.
    async fn settle(&self, reading: &mut Reading) -> Result<bool, FeedError> {
        let mut unchanged = 0;
        loop {
            let needed = if reading.position == 0 { SETTLED_EMPTY_POLLS } else { SETTLED_POLLS };
            if unchanged >= needed && reading.translator.is_whole() {
                reading.translator.flush().await?;
                return Ok(true);
            }
            tokio::time::sleep(POLL).await;
            match reading.look(&self.path).await.map_err(self.failed())? {
                Look::Same | Look::Missing => unchanged += 1,
                Look::Grown => {
                    unchanged = 0;
                    reading.read_to_end().await.map_err(|error| error.into_feed(self))?;
                }
                Look::Rewritten | Look::Replaced => return Ok(false),
            }
        }
    }

    /// Opens the file under the name, as soon as there is one.
    async fn reopen(&self, sink: &Sink) -> Result<Reading, FeedError> {
        loop {
            match open(&self.path).await {
                Ok((file, history)) => {
                    // Written anew in place with the same beginning: still another history.
                    let known = self.past.contains(&history);
                    let history = if known { History::random() } else { history };
                    return Ok(Reading::new(file, history, self.translator(sink)));
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => warn!("feed file {}: {error}; trying again", self.path.display()),
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

/// Opens a file and derives its history: which file it is, and how it begins. What is appended
/// later must not change it, so only the first line counts, and only when it is whole.
async fn open(path: &Path) -> std::io::Result<(File, History)> {
    let mut file = File::open(path).await?;
    let meta = file.metadata().await?;
    if meta.is_dir() {
        return Err(std::io::Error::new(std::io::ErrorKind::IsADirectory, "it is a directory"));
    }
    let mut beginning = vec![0; 4096];
    let mut filled = 0;
    while filled < beginning.len() {
        match file.read(&mut beginning[filled..]).await? {
            0 => break,
            n => filled += n,
        }
    }
    file.seek(SeekFrom::Start(0)).await?;
    let beginning = &beginning[..filled];
    let first = beginning.iter().position(|&b| b == b'\n').map_or(beginning, |end| &beginning[..end]);
    let mut identity = b"file".to_vec();
    identity.extend_from_slice(&meta.dev().to_le_bytes());
    identity.extend_from_slice(&meta.ino().to_le_bytes());
    // Not every file system knows when a file was made; inode numbers are used again and again.
    if let Ok(born) =
        meta.created().and_then(|born| born.duration_since(UNIX_EPOCH).map_err(std::io::Error::other))
    {
        identity.extend_from_slice(&born.as_nanos().to_le_bytes());
    }
    identity.extend_from_slice(first);
    Ok((file, History::derive(&identity)))
}

/// One file, from its start to wherever we are.
struct Reading {
    file: File,
    history: History,
    translator: Translator,
    lines: LineSplitter,
    /// Bytes read.
    position: u64,
    /// The last bytes read, to compare.
    tail: Vec<u8>,
}

enum Look {
    Same,
    Grown,
    /// The same file with other content.
    Rewritten,
    /// The name stands for another file.
    Replaced,
    /// The name stands for nothing, perhaps only for a moment.
    Missing,
}

enum ReadError {
    Io(std::io::Error),
    Feed(FeedError),
}

impl ReadError {
    fn into_feed(self, feed: &FileFeed) -> FeedError {
        match self {
            Self::Io(error) => feed.failed()(error),
            Self::Feed(error) => error,
        }
    }
}

impl Reading {
    fn new(file: File, history: History, translator: Translator) -> Self {
        Self { file, history, translator, lines: LineSplitter::default(), position: 0, tail: Vec::new() }
    }

    async fn read_to_end(&mut self) -> Result<(), ReadError> {
        let mut chunk = vec![0; READ_BYTES];
        loop {
            let read = self.file.read(&mut chunk).await.map_err(ReadError::Io)?;
            if read == 0 {
                return Ok(());
            }
            let bytes = &chunk[..read];
            self.position += read as u64;
            self.tail.extend_from_slice(&bytes[bytes.len().saturating_sub(TAIL_BYTES)..]);
            let excess = self.tail.len().saturating_sub(TAIL_BYTES);
            self.tail.drain(..excess);
            self.lines.push(bytes, &mut self.translator).await.map_err(ReadError::Feed)?;
        }
    }

    async fn look(&mut self, path: &Path) -> std::io::Result<Look> {
        let ours = self.file.metadata().await?;
        match tokio::fs::metadata(path).await {
            Ok(named) if (named.dev(), named.ino()) != (ours.dev(), ours.ino()) => return Ok(Look::Replaced),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Look::Missing),
            Err(error) => return Err(error),
        }
        if ours.len() < self.position || !self.tail_is_there().await? {
            return Ok(Look::Rewritten);
        }
        Ok(if ours.len() > self.position { Look::Grown } else { Look::Same })
    }

    /// Whether the bytes just before our place are still the ones we read.
    async fn tail_is_there(&self) -> std::io::Result<bool> {
        let file = self.file.try_clone().await?.into_std().await;
        let mut now = vec![0; self.tail.len()];
        let start = self.position - self.tail.len() as u64;
        // A few hundred bytes that were just written or read: they are in the page cache.
        match file.read_exact_at(&mut now, start) {
            Ok(()) => Ok(now == self.tail),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }
}
