//! `file:PATH`, NDJSON records from a file; with `?follow=true` also what is appended.
//!
//! A followed file is checked a few times a second. Besides growing, it may be rewritten in place, or another file
//! may take its name. Neither matters by itself: the content does. If it still begins with everything that was read,
//! it is the same file, whatever its inode and times, and its history continues. Otherwise it is read from its start,
//! under another history, while the old state is served, and the difference is published at its end.
//!
//! Half a file must not look like a thousand deletions. So the end of a file counts only once the file has settled,
//! that is, has not changed for a moment. It does not count at all while the file ends in the middle of a line,
//! inside of a `snapshot` or `breadcrumb`, or has no records although there were some before ([`Incomplete`]). Until
//! then the state is not in-sync.
//!
//! Histories of files that begin with the same line are related. A cursor of one is accepted in another if the state
//! that it names is the same there. So replicas and restarted daemons agree on a file that was renamed into place,
//! without knowing its past.

mod config;
mod content;
mod incomplete;
mod open;
mod reader;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use tracing::{error, info};

pub(super) use config::KIND;
pub use open::NoFile;

use super::lines::Pushed;
use super::translate::Translator;
use super::{Activity, Feed, FeedError, Sink, Warm};
use crate::model::{FeedEvent, History, ResyncClaim, Revision, SyncStatus};
use content::Fingerprint;
use incomplete::{Incomplete, LastingProblem};
use open::{OpenError, Opened};
use reader::{Check, FileReader, ReadError, blocking};

/// How often a followed file is checked.
const POLL: Duration = Duration::from_millis(100);

/// A file has settled after this many checks in a row that find it unchanged.
const SETTLED_POLLS: u32 = 3;

/// The same for an empty file: usually its writer has only just opened it.
const SETTLED_EMPTY_POLLS: u32 = 20;

/// A file that is incomplete for this many checks is reported; if it is not followed, it is given up.
const INCOMPLETE_POLLS: u32 = 20;

/// A path that is broken for this many checks is reported.
const BROKEN_POLLS: u32 = 3;

/// A file that has changed at every check for this long is read although it has not settled.
const LONGEST_CHANGE: Duration = Duration::from_secs(1);

/// How long the first reading of a growing file waits for it to settle. That reading deletes nothing.
const FIRST_READING: Duration = Duration::from_secs(5);

/// A file as a feed.
pub struct FileFeed {
    path: PathBuf,
    follow: bool,
    strict: bool,
    opened: Option<Opened>,
    /// Every history that this process has had from this file. None may be used again for other content.
    past: Vec<History>,
}

impl FileFeed {
    /// Opens the file. A followed file may be missing or unreadable: the feed waits for it. Anything but a regular
    /// file is an error.
    ///
    /// # Errors
    /// [`FeedError::File`], [`FeedError::NoFile`].
    pub async fn open(path: PathBuf, follow: bool, strict: bool) -> Result<Self, FeedError> {
        let opened = match open_blocking(&path).await {
            Ok(opened) => Some(opened),
            Err(OpenError::NoFile(kind)) => return Err(FeedError::NoFile { path, kind }),
            Err(_) if follow => None,
            Err(OpenError::Missing(source) | OpenError::Io(source)) => {
                return Err(FeedError::File { path, source });
            }
        };
        Ok(Self { path, follow, strict, opened, past: Vec::new() })
    }

    fn translator(&self, sink: &Sink) -> Translator {
        Translator::new(sink.clone(), self.path.display().to_string(), self.strict)
    }
}

async fn open_blocking(path: &Path) -> Result<Opened, OpenError> {
    let path = path.to_owned();
    blocking(move || Opened::open(&path)).await
}

impl Feed for FileFeed {
    fn history(&self) -> Option<History> {
        self.opened.as_ref().map(|opened| opened.history)
    }

    fn run(self: Box<Self>, sink: Sink, warm: Option<Warm>) -> BoxFuture<'static, Result<(), FeedError>> {
        sink.upstream().related_histories_are_candidates();
        let run = Run {
            // A state that is served already is compared with the file, not added to. A missing file has a history
            // that is not known yet, and a reload names it.
            reload: warm.is_some() || self.opened.is_none(),
            had_records: warm.is_some_and(|warm| warm.newest.is_some()),
            path_problem: LastingProblem::new(&self.path),
            incomplete_problem: LastingProblem::new(&self.path),
            known: None,
            feed: *self,
            sink,
        };
        Box::pin(run.run())
    }
}

/// The running feed.
struct Run {
    feed: FileFeed,
    sink: Sink,
    /// Whether the cache holds a state already.
    reload: bool,
    /// Whether that state has keys, as far as is known.
    had_records: bool,
    /// The last content that was read completely, and its history.
    known: Option<(Fingerprint, History)>,
    path_problem: LastingProblem,
    incomplete_problem: LastingProblem,
}

/// The outcome of waiting for a file to settle.
enum Settled {
    Complete,
    /// Its content has changed meanwhile.
    Changed,
    /// It stays incomplete, which was reported; only if the file is not followed.
    Incomplete,
}

impl Run {
    async fn run(mut self) -> Result<(), FeedError> {
        // The content that the next reading is expected to find again, and its history.
        let mut expected: Option<(Fingerprint, History)> = None;
        loop {
            let opened = match self.feed.opened.take() {
                Some(opened) => opened,
                None => self.open().await?,
            };
            let history = expected.map_or_else(|| self.history_of(&opened), |(_, history)| history);
            let translator = self.feed.translator(&self.sink);
            let mut reader = FileReader::new(&self.feed.path, opened, history, translator);
            self.begin(history).await?;
            let settled = self.settle(&mut reader).await?;
            if !self.feed.follow && !matches!(settled, Settled::Changed) {
                return self.end_for_good(reader, settled).await;
            }
            if !matches!(settled, Settled::Complete) {
                (self.reload, expected) = (true, None);
                continue;
            }
            let is_known = |known: &(Fingerprint, History)| known.0 == reader.fingerprint();
            match (expected.take(), self.known) {
                (Some(before), _) if !is_known(&before) => continue,
                // Rewritten with the same content: it is read under its old history, so that cursors stay valid.
                (None, Some(before)) if is_known(&before) && before.1 != reader.history => {
                    expected = Some(before);
                    continue;
                }
                _ => {}
            }
            self.end(&mut reader).await?;
            let has_changed = self.follow(&mut reader).await?;
            self.had_records = reader.translator.had_records();
            // What is read again for want of room leads to another state, so it has another history.
            self.known = has_changed.then(|| (reader.fingerprint(), reader.history));
            self.reload = true;
            self.sink.upstream().reconnects.inc();
        }
    }

    /// The history of content that is read for the first time.
    fn history_of(&self, opened: &Opened) -> History {
        match self.feed.past.contains(&opened.history) {
            true => opened.history.random_relative(),
            false => opened.history,
        }
    }

    /// Waits for the file, and opens it.
    async fn open(&mut self) -> Result<Opened, FeedError> {
        self.sink.upstream().does(Activity::Connecting);
        loop {
            match open_blocking(&self.feed.path).await {
                Ok(opened) => {
                    self.path_problem.clear(&self.sink);
                    return Ok(opened);
                }
                Err(error) => self.path_problem.persists(&Waiting(error), BROKEN_POLLS, &self.sink),
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Begins a reading: the first one fills the empty cache, a later one is a resync.
    async fn begin(&mut self, history: History) -> Result<(), FeedError> {
        self.sink.upstream().does(Activity::Listing { page: 1 });
        self.sink.send(FeedEvent::Status(SyncStatus::ResyncInProgress)).await?;
        if !self.reload {
            // Its records are served at once.
            self.feed.past.push(history);
            return Ok(());
        }
        let begin = FeedEvent::ResyncBegin { history: Some(history), whole_at: None, lossy: false };
        self.sink.send(begin).await
    }

    async fn end_resync(&self, complete: bool) -> Result<(), FeedError> {
        let claim = ResyncClaim::default();
        self.sink.send(FeedEvent::ResyncEnd { revision: None, claim, complete }).await
    }

    async fn end(&mut self, reader: &mut FileReader) -> Result<(), FeedError> {
        if self.reload {
            self.feed.past.push(reader.history);
            // Updates that are held back would otherwise come after the end.
            reader.translator.flush().await?;
            self.end_resync(true).await?;
        }
        self.incomplete_problem.clear(&self.sink);
        reader.translator.caught_up().await
    }

    /// Concludes the reading of a file that is not followed.
    async fn end_for_good(self, mut reader: FileReader, settled: Settled) -> Result<(), FeedError> {
        let last = reader.finish_lines().await?;
        let whole = matches!(settled, Settled::Complete);
        if self.reload || !whole {
            reader.translator.finish_records().await?;
        }
        if self.reload {
            self.end_resync(whole).await?;
        }
        if whole {
            reader.translator.finish(last).await?;
        } else {
            error!(
                "feed file {} is not whole and not followed: its state is never in-sync",
                self.feed.path.display()
            );
        }
        self.sink.upstream().does(Activity::Ended);
        let reached = self.sink.reached().await?;
        self.answer_positions(reader, reached).await
    }

    /// Reports the file's revision whenever a client has a cursor ahead of it. If the file has grown since it was
    /// read, another daemon that read it later may be further, and nothing is reported.
    async fn answer_positions(
        self,
        mut reader: FileReader,
        reached: Option<Revision>,
    ) -> Result<(), FeedError> {
        let upstream = self.sink.upstream();
        loop {
            upstream.asked().await;
            let at = Instant::now();
            let same = matches!(reader.check().await, Ok(Check::Unchanged));
            if let Some(revision) = reached.filter(|_| same) {
                upstream.is_at(revision, at);
            }
        }
    }

    /// Reads to the end, and waits until the file has settled.
    async fn settle(&mut self, reader: &mut FileReader) -> Result<Settled, FeedError> {
        let begun = Instant::now();
        let mut still = if reader.age() >= POLL * SETTLED_POLLS { SETTLED_POLLS } else { 0 };
        if !self.read(reader).await? {
            return Ok(Settled::Changed);
        }
        loop {
            let needed = if reader.is_empty() { SETTLED_EMPTY_POLLS } else { SETTLED_POLLS };
            let in_time = self.reload || begun.elapsed() < FIRST_READING;
            if still >= needed || !in_time {
                match self.close(reader).await? {
                    None => return Ok(Settled::Complete),
                    Some(incomplete) => {
                        self.incomplete_problem.persists(&incomplete, INCOMPLETE_POLLS, &self.sink);
                        if !self.feed.follow && self.incomplete_problem.polls() >= INCOMPLETE_POLLS {
                            return Ok(Settled::Incomplete);
                        }
                    }
                }
            }
            reader.translator.flush().await?;
            tokio::time::sleep(POLL).await;
            still = match reader.check().await {
                Ok(Check::Unchanged) => still + 1,
                Ok(Check::TooEarly) => still,
                Ok(Check::Appended) if self.read(reader).await? => 0,
                Ok(Check::Appended | Check::OtherContent { .. }) => return Ok(Settled::Changed),
                Err(error) => {
                    self.path_problem.persists(&Waiting(error), BROKEN_POLLS, &self.sink);
                    0
                }
            };
            if still > 0 {
                self.path_problem.clear(&self.sink);
            }
        }
    }

    /// Why a file that has settled is not a whole state, if it is not.
    async fn close(&self, reader: &mut FileReader) -> Result<Option<Incomplete>, FeedError> {
        reader.accept_last_line().await?;
        let empty = self.had_records && !reader.translator.had_records();
        Ok(reader.incomplete().or(empty.then_some(Incomplete::NoRecords)))
    }

    /// Reads on. `false` if the file must be read again from its start.
    async fn read(&mut self, reader: &mut FileReader) -> Result<bool, FeedError> {
        match reader.read_to_end().await {
            Ok(Pushed::Good) => Ok(true),
            Ok(Pushed::LastLineGrew) => Ok(false),
            Err(ReadError::Feed(error)) => Err(error),
            Err(ReadError::Io(source)) if !self.feed.follow => {
                Err(FeedError::File { path: self.feed.path.clone(), source })
            }
            // The next check opens the file again, and reading continues here.
            Err(ReadError::Io(error)) => {
                self.path_problem.persists(&Waiting(error.into()), 1, &self.sink);
                Ok(true)
            }
        }
    }

    /// Reads what is appended, until the content differs, or has to be read again for keys that were refused for want of room.
    /// Returns whether it differs.
    async fn follow(&mut self, reader: &mut FileReader) -> Result<bool, FeedError> {
        self.sink.upstream().does(Activity::Watching);
        let (mut still, mut asked) = (0, false);
        let mut pending: Option<PendingChange> = None;
        loop {
            tokio::select! {
                () = self.sink.upstream().asked() => asked = true,
                () = self.sink.upstream().asked_to_reread() => {
                    info!("there is room for keys of {} that were refused: reading it again", self.feed.path.display());
                    return Ok(false);
                }
                () = tokio::time::sleep(POLL) => {}
            }
            let at = Instant::now();
            match reader.check().await {
                Ok(Check::OtherContent { stamp, other_file }) => {
                    still = 0;
                    if pending.get_or_insert_with(|| PendingChange::new(stamp)).is_settled(stamp) {
                        self.report_change(reader, other_file).await?;
                        return Ok(true);
                    }
                    continue;
                }
                Ok(Check::Appended) => {
                    still = 0;
                    if !self.read(reader).await? {
                        self.report_change(reader, false).await?;
                        return Ok(true);
                    }
                    reader.translator.caught_up().await?;
                }
                Ok(Check::Unchanged) => {
                    still += 1;
                    self.unchanged(reader, still).await?;
                    if asked && self.report_position(reader, at).await? {
                        asked = false;
                    }
                }
                Ok(Check::TooEarly) => {}
                Err(error) => {
                    still = 0;
                    self.path_problem.persists(&Waiting(error), BROKEN_POLLS, &self.sink);
                    if self.path_problem.is_reported() {
                        let status = SyncStatus::ResyncInProgress;
                        self.sink.send(FeedEvent::Status(status)).await?;
                    }
                    continue;
                }
            }
            pending = None;
            if self.path_problem.clear(&self.sink) {
                reader.translator.caught_up().await?;
            }
        }
    }

    /// Notes that the file is unchanged, for so many checks in a row.
    async fn unchanged(&mut self, reader: &mut FileReader, still: u32) -> Result<(), FeedError> {
        self.sink.upstream().heard();
        if still == SETTLED_POLLS && reader.has_pending_line() {
            reader.accept_last_line().await?;
            reader.translator.caught_up().await?;
        }
        if still < SETTLED_POLLS {
            return Ok(());
        }
        match reader.incomplete() {
            Some(incomplete) => self.incomplete_problem.persists(&incomplete, INCOMPLETE_POLLS, &self.sink),
            None => {
                self.incomplete_problem.clear(&self.sink);
            }
        }
        Ok(())
    }

    /// Reports the file's revision to clients that are ahead of it. `false` if it is not known yet.
    async fn report_position(&self, reader: &mut FileReader, at: Instant) -> Result<bool, FeedError> {
        if reader.has_pending_line() || reader.translator.unclosed().is_some() {
            return Ok(false);
        }
        if let Some(revision) = self.sink.reached().await? {
            self.sink.upstream().is_at(revision, at);
        }
        Ok(true)
    }

    async fn report_change(&self, reader: &mut FileReader, other_file: bool) -> Result<(), FeedError> {
        let path = self.feed.path.display();
        if !other_file {
            info!("feed file {path} was truncated or written anew: reading it again");
            return Ok(());
        }
        // What was appended to the old file before it was replaced still counts.
        reader.read_rest().await?;
        info!("feed file {path} was replaced: reading the new one");
        Ok(())
    }
}

/// Other content, which may still be being written.
struct PendingChange {
    since: Instant,
    stamp: open::Stamp,
    still: u32,
}

impl PendingChange {
    fn new(stamp: open::Stamp) -> Self {
        Self { since: Instant::now(), stamp, still: 0 }
    }

    /// Whether the file has settled, or has been changing for too long to wait.
    fn is_settled(&mut self, stamp: open::Stamp) -> bool {
        self.still = if stamp == self.stamp { self.still + 1 } else { 0 };
        self.stamp = stamp;
        self.still > SETTLED_POLLS || self.since.elapsed() >= LONGEST_CHANGE
    }
}

/// An error of the path, with what is done about it.
struct Waiting(OpenError);

impl std::fmt::Display for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}; waiting for it", self.0)
    }
}
