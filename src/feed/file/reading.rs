//! One file, from its start to wherever we are.
//!
//! Whether what we have read is still what is there, only the content tells: a file may be written anew in
//! place with the same length, or another one may take its name with the same content. So all of it is
//! hashed while it is read, and hashed again when the system says that something has changed: another inode,
//! length, modification or change time ([`Stamp`]). A change within the granularity of these times leaves no
//! trace in them, so for as long as a stamp is young the content is compared at every look.
//!
//! To compare costs a reading of what was read: some 40 ms for 100 MB in the page cache. It is done at once where the last
//! one is long enough ago, so that it takes no more than a twentieth of the time. Until then a file
//! that grows is followed when the last bytes before the new ones are still ours.

use std::fs::File;
use std::io::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::content::{Content, Fingerprint, has_at};
use super::lack::Lack;
use super::open::{OpenError, Opened, Stamp, open, read_full};
use crate::feed::FeedError;
use crate::feed::lines::{LastLine, LineSplitter, Pushed, READ_BYTES};
use crate::feed::translate::Translator;
use crate::model::History;

/// For so long after a stamp was seen first, a change may leave it as it is: the coarsest clock in use is that
/// of FAT, two seconds.
const YOUNG: Duration = Duration::from_secs(2);

/// Between two comparisons so many times as long passes as the first one took.
const COMPARE_SHARE: u32 = 20;

/// What is under the name now, compared with what was read.
pub(super) enum Look {
    /// The same, and nothing else.
    Same,
    /// The same, and more.
    Grown,
    /// Perhaps the same: it is too early to compare it all again.
    Unclear,
    /// Another content. It may still be being written.
    Other {
        stamp: Stamp,
        /// Whether it is another file.
        replaced: bool,
    },
}

/// Why reading went no further.
pub(super) enum ReadError {
    /// It may go on in a moment.
    Io(Error),
    Feed(FeedError),
}

impl From<FeedError> for ReadError {
    fn from(error: FeedError) -> Self {
        Self::Feed(error)
    }
}

pub(super) struct Reading {
    path: PathBuf,
    /// Nothing after an error: then it is opened again.
    file: Option<Arc<File>>,
    pub(super) history: History,
    pub(super) translator: Translator,
    lines: LineSplitter,
    content: Content,
    /// How the file was when its content was last known to be ours, and when.
    compared: (Stamp, Instant),
    /// How the file was at the last look.
    seen: Stamp,
    /// Until then `seen` says little.
    young_until: Instant,
    /// Not before then the content is compared again.
    compare_after: Instant,
    /// What was found to be another content.
    other: Option<Stamp>,
    /// How long the file had not been written to when it was opened.
    age: Duration,
}

impl Reading {
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
    pub(super) fn was_still_for(&self) -> Duration {
        self.age
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        self.content.fingerprint()
    }

    /// Whether nothing was read.
    pub(super) fn is_empty(&self) -> bool {
        self.content.len() == 0
    }

    /// Reads what there is. Where it fails, the file is opened again at the next look.
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

    /// Compares what is under the name with what was read. Another file that begins with what was read
    /// is taken for ours.
    pub(super) async fn look(&mut self) -> Result<Look, OpenError> {
        let now = Instant::now();
        let (file, stamp, replaced) = self.named().await?;
        if stamp != self.seen {
            (self.seen, self.young_until) = (stamp, now + YOUNG);
        }
        let (compared, at) = self.compared;
        if !replaced && stamp == compared && at >= self.young_until {
            return Ok(self.by_length(stamp));
        }
        let other = Look::Other { stamp, replaced };
        if stamp.len < self.content.len() || self.other == Some(stamp) {
            return Ok(other);
        }
        if !replaced && now < self.compare_after {
            return self.look_briefly(file, stamp).await;
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

    /// The file under the name, how it is, and whether it is another than ours.
    async fn named(&mut self) -> Result<(Arc<File>, Stamp, bool), OpenError> {
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

    fn by_length(&self, stamp: Stamp) -> Look {
        if stamp.len > self.content.len() { Look::Grown } else { Look::Same }
    }

    /// A look that costs nothing, at our own file.
    async fn look_briefly(&mut self, file: Arc<File>, stamp: Stamp) -> Result<Look, OpenError> {
        if stamp.len == self.content.len() {
            return Ok(if stamp == self.compared.0 { Look::Same } else { Look::Unclear });
        }
        let tail = self.content.tail();
        let there = blocking(move || has_at(&file, &tail)).await;
        let there = self.or_reopen(there)?;
        Ok(if there { Look::Grown } else { Look::Other { stamp, replaced: false } })
    }

    /// After an error the file is opened again.
    fn or_reopen<T>(&mut self, result: Result<T, Error>) -> Result<T, OpenError> {
        Ok(result.inspect_err(|_| self.file = None)?)
    }

    /// Reads what was appended to our own file before another one took its name.
    pub(super) async fn read_rest(&mut self) -> Result<(), FeedError> {
        let Some(file) = self.file.clone() else { return Ok(()) };
        let fingerprint = self.fingerprint();
        if !blocking(move || fingerprint.is_beginning_of(&file)).await.unwrap_or(false) {
            return Ok(());
        }
        match self.read_to_end().await {
            // What it leads to is read anew in any case.
            Ok(_) | Err(ReadError::Io(_)) => self.translator.flush().await,
            Err(ReadError::Feed(error)) => Err(error),
        }
    }

    /// The file has settled: a last line that is whole counts, with or without its line break.
    pub(super) async fn count_last_line(&mut self) -> Result<(), FeedError> {
        match self.lines.last_line() {
            LastLine::Whole => self.lines.count_last(&mut self.translator).await,
            LastLine::Nothing | LastLine::Cut => Ok(()),
        }
    }

    /// Whether a last line is yet to be counted.
    pub(super) fn has_uncounted_line(&mut self) -> bool {
        self.lines.last_line() == LastLine::Whole
    }

    /// What is missing for it to be a whole state.
    pub(super) fn lack(&mut self) -> Option<Lack> {
        if self.lines.last_line() == LastLine::Cut {
            return Some(Lack::RestOfLine { line: self.translator.lines() + 1 });
        }
        self.translator.unended().map(Lack::End)
    }

    /// Nothing more is read.
    pub(super) async fn finish_lines(&mut self) -> Result<LastLine, FeedError> {
        self.lines.finish(&mut self.translator).await
    }
}

/// Runs what waits for a disk on a thread that may.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only when the runtime stops, and then nobody waits for this any more.
            Err(_) => std::future::pending().await,
        },
    }
}
