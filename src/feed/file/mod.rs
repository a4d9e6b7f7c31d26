//! `file:PATH`, NDJSON records from a file; with `?follow=true` also what is appended.
//!
//! A followed file is looked at a few times a second. Besides growing it may be written anew in place, or
//! its name may come to stand for another file. Neither says anything by itself: what counts is the
//! content. Where that still begins with all that was read, the file is the one we knew, whatever its inode
//! and times, and its history goes on. Else it is read from its start, under another history, while the old
//! state is served, and the difference is published at its end.
//!
//! Half a file must not look like a thousand deletions. So the end of a file counts only once it has stayed
//! the same for a moment, and not at all while it ends in the middle of a line, inside of a `snapshot` or
//! `breadcrumb`, or, where there were records before, without any ([`Lack`]). Until then it is not in-sync.
//!
//! Histories of files that begin with the same line are of one family. A cursor of one is good in
//! another if the state that it names is the same there, so that replicas and restarted daemons agree on a
//! file that was renamed into place: they need not know its past.

mod content;
mod lack;
mod open;
mod reading;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tracing::{error, info};

pub use open::NoFile;

use super::lines::Pushed;
use super::translate::Translator;
use super::{FeedError, Sink, Syncer, Warm};
use crate::model::{FeedEvent, History, ResyncClaim, Revision, SyncStatus};
use content::Fingerprint;
use lack::{Lack, Trouble};
use open::{OpenError, Opened};
use reading::{Look, ReadError, Reading, blocking};

/// How often a followed file is looked at.
const POLL: Duration = Duration::from_millis(100);

/// How many looks in a row must find a file unchanged before its end counts.
const SETTLED_POLLS: u32 = 3;

/// The same for a file that is empty: more often than not its writer has only just opened it.
const SETTLED_EMPTY_POLLS: u32 = 20;

/// How many looks what a file lacks must have lasted before it is said, or before a file that is not
/// followed is given up.
const LACK_POLLS: u32 = 20;

/// How many looks a path must have been broken before that is said.
const BROKEN_POLLS: u32 = 3;

/// How long a file may change, at every look, before it is read although it has not settled.
const IN_DOUBT: Duration = Duration::from_secs(1);

/// How long the first reading of a file that goes on growing waits for it to settle. Nothing is deleted by it.
const FIRST_READING: Duration = Duration::from_secs(5);

/// A file as a feed.
pub struct FileFeed {
    path: PathBuf,
    follow: bool,
    strict: bool,
    opened: Option<Opened>,
    /// Every history that this process has had from this file: none may come back for another content.
    past: Vec<History>,
}

impl FileFeed {
    /// Opens the file. A followed file may be missing, or out of reach: it is waited for. What is no
    /// file at all is an error.
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

impl Syncer for FileFeed {
    fn history(&self) -> Option<History> {
        self.opened.as_ref().map(|opened| opened.history)
    }

    async fn run(self, sink: Sink, warm: Option<Warm>) -> Result<(), FeedError> {
        sink.upstream().related_histories_are_candidates();
        let run = Run {
            // What is served already is compared with the file, not added to. A file that is not there yet
            // has a history that is not known yet, and a reload names it.
            reload: warm.is_some() || self.opened.is_none(),
            had_records: warm.is_some_and(|warm| warm.witness.is_some()),
            path_trouble: Trouble::new(&self.path),
            lack_trouble: Trouble::new(&self.path),
            known: None,
            feed: self,
            sink,
        };
        run.run().await
    }
}

/// A feed that runs.
struct Run {
    feed: FileFeed,
    sink: Sink,
    /// The cache holds a state already.
    reload: bool,
    /// That state has keys, as far as is known.
    had_records: bool,
    /// The last content that was read to its end, and its history.
    known: Option<(Fingerprint, History)>,
    path_trouble: Trouble,
    lack_trouble: Trouble,
}

/// What came of waiting for a file to be whole.
enum Settled {
    Whole,
    /// It became another meanwhile.
    Other,
    /// It is not going to be, and that was said: only where the file is not followed.
    Lacking,
}

impl Run {
    async fn run(mut self) -> Result<(), FeedError> {
        // The content and history that the next reading should find again.
        let mut expected: Option<(Fingerprint, History)> = None;
        loop {
            let opened = match self.feed.opened.take() {
                Some(opened) => opened,
                None => self.open().await?,
            };
            let history = expected.map_or_else(|| self.history_of(&opened), |(_, history)| history);
            let translator = self.feed.translator(&self.sink);
            let mut reading = Reading::new(&self.feed.path, opened, history, translator);
            self.begin(history).await?;
            let settled = self.settle(&mut reading).await?;
            if !self.feed.follow && !matches!(settled, Settled::Other) {
                return self.end_for_good(reading, settled).await;
            }
            if !matches!(settled, Settled::Whole) {
                (self.reload, expected) = (true, None);
                continue;
            }
            let is_known = |known: &(Fingerprint, History)| known.0 == reading.fingerprint();
            match (expected.take(), self.known) {
                (Some(before), _) if !is_known(&before) => continue,
                // Written anew, but not otherwise: it is read under its old history, and cursors stay good.
                (None, Some(before)) if is_known(&before) && before.1 != reading.history => {
                    expected = Some(before);
                    continue;
                }
                _ => {}
            }
            self.end(&mut reading).await?;
            self.follow(&mut reading).await?;
            self.had_records = reading.translator.had_records();
            self.known = Some((reading.fingerprint(), reading.history));
            self.reload = true;
            self.sink.upstream().reconnects.inc();
        }
    }

    /// The history of a content that is read for the first time.
    fn history_of(&self, opened: &Opened) -> History {
        match self.feed.past.contains(&opened.history) {
            true => opened.history.random_relative(),
            false => opened.history,
        }
    }

    /// Opens the file under the name, as soon as there is one.
    async fn open(&mut self) -> Result<Opened, FeedError> {
        loop {
            match open_blocking(&self.feed.path).await {
                Ok(opened) => {
                    self.path_trouble.is_over(&self.sink);
                    return Ok(opened);
                }
                Err(error) => self.path_trouble.lasts(&Waiting(error), BROKEN_POLLS, &self.sink),
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Announces a reading: the first one fills the empty cache, a later one is a resync.
    async fn begin(&mut self, history: History) -> Result<(), FeedError> {
        self.sink.send(FeedEvent::Status(SyncStatus::ResyncInProgress)).await?;
        if !self.reload {
            // What it says is served right away.
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

    async fn end(&mut self, reading: &mut Reading) -> Result<(), FeedError> {
        if self.reload {
            self.feed.past.push(reading.history);
            // What is still held back would else come after the end.
            reading.translator.flush().await?;
            self.end_resync(true).await?;
        }
        self.lack_trouble.is_over(&self.sink);
        reading.translator.caught_up().await
    }

    /// A file that is not followed was read.
    async fn end_for_good(self, mut reading: Reading, settled: Settled) -> Result<(), FeedError> {
        let last = reading.finish_lines().await?;
        let whole = matches!(settled, Settled::Whole);
        if self.reload || !whole {
            reading.translator.finish_records().await?;
        }
        if self.reload {
            self.end_resync(whole).await?;
        }
        if whole {
            reading.translator.finish(last).await?;
        } else {
            error!(
                "feed file {} is not whole and not followed: its state is never in-sync",
                self.feed.path.display()
            );
        }
        let reached = self.sink.reached().await?;
        self.answer(reading, reached).await
    }

    /// Says how far the file goes, whenever somebody stands ahead of it. Where it has grown since it was read, another
    /// daemon that read it later may be further, and nothing is said.
    async fn answer(self, mut reading: Reading, reached: Option<Revision>) -> Result<(), FeedError> {
        let upstream = self.sink.upstream();
        loop {
            upstream.asked().await;
            let at = Instant::now();
            let same = matches!(reading.look().await, Ok(Look::Same));
            if let Some(revision) = reached.filter(|_| same) {
                upstream.is_at(revision, at);
            }
        }
    }

    /// Reads to the end, and waits until that is the end.
    async fn settle(&mut self, reading: &mut Reading) -> Result<Settled, FeedError> {
        let begun = Instant::now();
        let mut still = if reading.was_still_for() >= POLL * SETTLED_POLLS { SETTLED_POLLS } else { 0 };
        if !self.read(reading).await? {
            return Ok(Settled::Other);
        }
        loop {
            let needed = if reading.is_empty() { SETTLED_EMPTY_POLLS } else { SETTLED_POLLS };
            let in_time = self.reload || begun.elapsed() < FIRST_READING;
            if still >= needed || !in_time {
                match self.close(reading).await? {
                    None => return Ok(Settled::Whole),
                    Some(lack) => {
                        self.lack_trouble.lasts(&lack, LACK_POLLS, &self.sink);
                        if !self.feed.follow && self.lack_trouble.looks() >= LACK_POLLS {
                            return Ok(Settled::Lacking);
                        }
                    }
                }
            }
            reading.translator.flush().await?;
            tokio::time::sleep(POLL).await;
            still = match reading.look().await {
                Ok(Look::Same) => still + 1,
                Ok(Look::Unclear) => still,
                Ok(Look::Grown) if self.read(reading).await? => 0,
                Ok(Look::Grown | Look::Other { .. }) => return Ok(Settled::Other),
                Err(error) => {
                    self.path_trouble.lasts(&Waiting(error), BROKEN_POLLS, &self.sink);
                    0
                }
            };
            if still > 0 {
                self.path_trouble.is_over(&self.sink);
            }
        }
    }

    /// Whether a file that has settled is a whole state; if not, what it lacks.
    async fn close(&self, reading: &mut Reading) -> Result<Option<Lack>, FeedError> {
        reading.count_last_line().await?;
        let empty = self.had_records && !reading.translator.had_records();
        Ok(reading.lack().or(empty.then_some(Lack::Records)))
    }

    /// Reads on. False when the file must be read anew from its start.
    async fn read(&mut self, reading: &mut Reading) -> Result<bool, FeedError> {
        match reading.read_to_end().await {
            Ok(Pushed::Good) => Ok(true),
            Ok(Pushed::LastLineGrew) => Ok(false),
            Err(ReadError::Feed(error)) => Err(error),
            Err(ReadError::Io(source)) if !self.feed.follow => {
                Err(FeedError::File { path: self.feed.path.clone(), source })
            }
            // The next look opens the file again, and goes on from here.
            Err(ReadError::Io(error)) => {
                self.path_trouble.lasts(&Waiting(error.into()), 1, &self.sink);
                Ok(true)
            }
        }
    }

    /// Reads what is appended, until the content is another.
    async fn follow(&mut self, reading: &mut Reading) -> Result<(), FeedError> {
        let (mut still, mut asked) = (0, false);
        let mut doubt: Option<Doubt> = None;
        loop {
            tokio::select! {
                () = self.sink.upstream().asked() => asked = true,
                () = tokio::time::sleep(POLL) => {}
            }
            let at = Instant::now();
            match reading.look().await {
                Ok(Look::Other { stamp, replaced }) => {
                    still = 0;
                    if doubt.get_or_insert_with(|| Doubt::new(stamp)).is_settled(stamp) {
                        return self.say_other(reading, replaced).await;
                    }
                    continue;
                }
                Ok(Look::Grown) => {
                    still = 0;
                    if !self.read(reading).await? {
                        return self.say_other(reading, false).await;
                    }
                    reading.translator.caught_up().await?;
                }
                Ok(Look::Same) => {
                    still += 1;
                    self.is_same(reading, still).await?;
                    if asked && self.tell_where(reading, at).await? {
                        asked = false;
                    }
                }
                Ok(Look::Unclear) => {}
                Err(error) => {
                    still = 0;
                    self.path_trouble.lasts(&Waiting(error), BROKEN_POLLS, &self.sink);
                    if self.path_trouble.is_said() {
                        let status = SyncStatus::ResyncInProgress;
                        self.sink.send(FeedEvent::Status(status)).await?;
                    }
                    continue;
                }
            }
            doubt = None;
            if self.path_trouble.is_over(&self.sink) {
                reading.translator.caught_up().await?;
            }
        }
    }

    /// Nothing has changed for so many looks.
    async fn is_same(&mut self, reading: &mut Reading, still: u32) -> Result<(), FeedError> {
        self.sink.upstream().heard();
        if still == SETTLED_POLLS && reading.has_uncounted_line() {
            reading.count_last_line().await?;
            reading.translator.caught_up().await?;
        }
        if still < SETTLED_POLLS {
            return Ok(());
        }
        match reading.lack() {
            Some(lack) => self.lack_trouble.lasts(&lack, LACK_POLLS, &self.sink),
            None => {
                self.lack_trouble.is_over(&self.sink);
            }
        }
        Ok(())
    }

    /// Says how far the file goes, to who stands ahead of it. False when that is not to be known yet.
    async fn tell_where(&self, reading: &mut Reading, at: Instant) -> Result<bool, FeedError> {
        if reading.has_uncounted_line() || reading.translator.unended().is_some() {
            return Ok(false);
        }
        if let Some(revision) = self.sink.reached().await? {
            self.sink.upstream().is_at(revision, at);
        }
        Ok(true)
    }

    async fn say_other(&self, reading: &mut Reading, replaced: bool) -> Result<(), FeedError> {
        let path = self.feed.path.display();
        if !replaced {
            info!("feed file {path} was truncated or written anew: reading it again");
            return Ok(());
        }
        // What was appended to the old file before it was replaced still counts.
        reading.read_rest().await?;
        info!("feed file {path} was replaced: reading the new one");
        Ok(())
    }
}

/// The content is another, but perhaps only for as long as somebody writes.
struct Doubt {
    since: Instant,
    stamp: open::Stamp,
    still: u32,
}

impl Doubt {
    fn new(stamp: open::Stamp) -> Self {
        Self { since: Instant::now(), stamp, still: 0 }
    }

    /// Whether it has been the same other content for a while, or has been changing for long.
    fn is_settled(&mut self, stamp: open::Stamp) -> bool {
        self.still = if stamp == self.stamp { self.still + 1 } else { 0 };
        self.stamp = stamp;
        self.still > SETTLED_POLLS || self.since.elapsed() >= IN_DOUBT
    }
}

/// What the system says of a path, with what is done about it.
struct Waiting(OpenError);

impl std::fmt::Display for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}; waiting for it", self.0)
    }
}
