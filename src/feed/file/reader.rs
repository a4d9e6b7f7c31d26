//! Reads one file from its start, and compares it with what was read.
//!
//! Only the content tells whether the file is still the one that was read: a file may be rewritten in place with the
//! same length, or another file may take its name with the same content. So the content is hashed while it is read,
//! and hashed again when the system shows a change: another inode, length, modification time or change time
//! ([`Stamp`]). These times have a granularity, within which a change does not show. So while a stamp is young, the
//! content is compared at every check.
//!
//! A comparison reads everything again: some 40 ms for 100 MB in the page cache. It is limited to one twentieth of
//! the time. Meanwhile a file that grows is followed if the last bytes before the new ones are unchanged.

use std::fs::File;
use std::io::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::content::{Content, Fingerprint, has_at};
use super::incomplete::Incomplete;
use super::open::{OpenError, Opened, Stamp, open, read_full};
use crate::feed::FeedError;
use crate::feed::lines::{LastLine, LineSplitter, Pushed, READ_BYTES};
use crate::feed::translate::Translator;
use crate::model::History;

/// For this long after a stamp was first seen, a change may not show in it: the coarsest clock in use is that of FAT,
/// two seconds.
const YOUNG: Duration = Duration::from_secs(2);

/// The time between two comparisons, as a multiple of what the first one took.
const COMPARE_SHARE: u32 = 20;

/// The file under the name, compared with what was read.
pub(super) enum Check {
    /// The content is the same.
    Unchanged,
    /// The content is the same, with more appended.
    Appended,
    /// It is too early to compare everything again.
    TooEarly,
    /// The content differs. It may still be being written.
    OtherContent {
        stamp: Stamp,
        /// Whether another file has taken the name.
        other_file: bool,
    },
}

/// Why reading has stopped.
pub(super) enum ReadError {
    /// The file cannot be read; that may pass.
    Io(Error),
    Feed(FeedError),
}

impl From<FeedError> for ReadError {
    fn from(error: FeedError) -> Self {
        Self::Feed(error)
    }
}

/// A file that is being read.
pub(super) struct FileReader {
    path: PathBuf,
    /// `None` after an error: the next check opens it again.
    file: Option<Arc<File>>,
    pub(super) history: History,
    pub(super) translator: Translator,
    lines: LineSplitter,
    content: Content,
    /// The stamp at the last time when the content was known to be the same, and that time.
    compared: (Stamp, Instant),
    /// The stamp at the last check.
    seen: Stamp,
    /// Until when `seen` is young.
    young_until: Instant,
    /// When the content may be compared again.
    compare_after: Instant,
    /// The stamp with which the content was found to differ.
    other: Option<Stamp>,
    /// How long the file had not been written to when it was opened.
    age: Duration,
}

impl FileReader {
    pub(super) fn new(path: &Path, opened: Opened, history: History, translator: Translator) -> Self {
        let now = Instant::now();
        let young = YOUNG.saturating_sub(opened.age);
        Self {
            path: path.to_owned(),
            file: Some(opened.file),
            history,
            translator,
            lines: LineSplitter::default(),
            content: Content::default(),
            compared: (opened.stamp, now),
            seen: opened.stamp,
            young_until: now + young,
            compare_after: now,
            other: None,
            age: opened.age,
        }
    }

    /// How long the file had not been written to when it was opened.
    pub(super) fn age(&self) -> Duration {
        self.age
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        self.content.fingerprint()
    }

    /// Whether nothing was read.
    pub(super) fn is_empty(&self) -> bool {
        self.content.len() == 0
    }

    /// Reads to the end of the file. After an error the next check opens it again.
    pub(super) async fn read_to_end(&mut self) -> Result<Pushed, ReadError> {
        let mut chunk = vec![0; READ_BYTES];
        while let Some(file) = self.file.clone() {
            let from = self.content.len();
            let (read, buffer) = blocking(move || (read_full(&file, &mut chunk, from), chunk)).await;
            chunk = buffer;
            let read = read.map_err(|error| {
                self.file = None;
                ReadError::Io(error)
            })?;
            self.content.add(&chunk[..read]);
            if self.lines.push(&chunk[..read], &mut self.translator).await? == Pushed::LastLineGrew {
                return Ok(Pushed::LastLineGrew);
            }
            if read < chunk.len() {
                break;
            }
        }
        Ok(Pushed::Good)
    }

    /// Compares the file under the name with what was read. Another file that begins with the same content counts as
    /// the same.
    pub(super) async fn check(&mut self) -> Result<Check, OpenError> {
        let now = Instant::now();
        let (file, stamp, replaced) = self.open_named().await?;
        if stamp != self.seen {
            (self.seen, self.young_until) = (stamp, now + YOUNG);
        }
        let (compared, at) = self.compared;
        if !replaced && stamp == compared && at >= self.young_until {
            return Ok(self.by_length(stamp));
        }
        let other = Check::OtherContent { stamp, other_file: replaced };
        if stamp.len < self.content.len() || self.other == Some(stamp) {
            return Ok(other);
        }
        if !replaced && now < self.compare_after {
            return self.check_tail(file, stamp).await;
        }
        let fingerprint = self.fingerprint();
        let compared = Arc::clone(&file);
        let same = blocking(move || fingerprint.is_beginning_of(&compared)).await;
        self.compare_after = Instant::now() + now.elapsed() * COMPARE_SHARE;
        if !self.or_reopen(same)? {
            self.other = Some(stamp);
            return Ok(other);
        }
        (self.file, self.compared, self.other) = (Some(file), (stamp, now), None);
        Ok(self.by_length(stamp))
    }

    /// The file under the name, its stamp, and whether it is another file than before.
    async fn open_named(&mut self) -> Result<(Arc<File>, Stamp, bool), OpenError> {
        let path = self.path.clone();
        let stamp = blocking(move || Stamp::under(&path)).await?;
        if let Some(ours) = &self.file
            && stamp.is_same_file(&self.compared.0)
        {
            return Ok((Arc::clone(ours), stamp, false));
        }
        let path = self.path.clone();
        let (file, _, stamp) = blocking(move || open(&path)).await?;
        Ok((Arc::new(file), stamp, true))
    }

    fn by_length(&self, stamp: Stamp) -> Check {
        if stamp.len > self.content.len() { Check::Appended } else { Check::Unchanged }
    }

    /// A cheap check of the same file.
    async fn check_tail(&mut self, file: Arc<File>, stamp: Stamp) -> Result<Check, OpenError> {
        if stamp.len == self.content.len() {
            return Ok(if stamp == self.compared.0 { Check::Unchanged } else { Check::TooEarly });
        }
        let tail = self.content.tail();
        let there = blocking(move || has_at(&file, &tail)).await;
        let there = self.or_reopen(there)?;
        Ok(if there { Check::Appended } else { Check::OtherContent { stamp, other_file: false } })
    }

    /// After an error, the next check opens the file again.
    fn or_reopen<T>(&mut self, result: Result<T, Error>) -> Result<T, OpenError> {
        Ok(result.inspect_err(|_| self.file = None)?)
    }

    /// Reads what was appended to the old file before another one took its name.
    pub(super) async fn read_rest(&mut self) -> Result<(), FeedError> {
        let Some(file) = self.file.clone() else { return Ok(()) };
        let fingerprint = self.fingerprint();
        if !blocking(move || fingerprint.is_beginning_of(&file)).await.unwrap_or(false) {
            return Ok(());
        }
        match self.read_to_end().await {
            // The new file is read from its start in any case.
            Ok(_) | Err(ReadError::Io(_)) => self.translator.flush().await,
            Err(ReadError::Feed(error)) => Err(error),
        }
    }

    /// Accepts a whole last line without a line break, because the file has settled.
    pub(super) async fn accept_last_line(&mut self) -> Result<(), FeedError> {
        match self.lines.last_line() {
            LastLine::Whole => self.lines.accept_last_line(&mut self.translator).await,
            LastLine::Nothing | LastLine::Cut => Ok(()),
        }
    }

    /// Whether there is a whole last line that was not accepted yet.
    pub(super) fn has_pending_line(&mut self) -> bool {
        self.lines.last_line() == LastLine::Whole
    }

    /// Why the file is not a whole state, if it is not.
    pub(super) fn incomplete(&mut self) -> Option<Incomplete> {
        if self.lines.last_line() == LastLine::Cut {
            return Some(Incomplete::CutLine { line: self.translator.lines() + 1 });
        }
        self.translator.unclosed().map(Incomplete::NoEnd)
    }

    /// Ends reading.
    pub(super) async fn finish_lines(&mut self) -> Result<LastLine, FeedError> {
        self.lines.finish(&mut self.translator).await
    }
}

/// Runs work that may block on a disk on a thread for that.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only when the runtime stops; then nobody awaits this any more.
            Err(_) => std::future::pending().await,
        },
    }
}
