//! Saves the state of a feed that can be read again: a follower of the trail writes the changes at intervals.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{Instrument, debug, info, warn};

use super::StateError;
use super::database::{self, Access, Open};
use super::directory::{Kept, Lock, StateDir};
use super::load::Contents;
use super::row::{Base, StoreRow};
use super::writer::{Row, Writer};
use crate::cache::run_on_own_thread;
use crate::cache::{Breadcrumb, Cache, Position, RestoreError, StepWrite};
use crate::model::{Cursor, Digest, Entry};
use crate::value::Recurring;

/// The most bytes of encoded breadcrumbs that wait for the interval; with more they are written at once.
const WRITTEN_AT_ONCE: usize = 4 << 20;

/// A breadcrumb with more payload is not appended: the state after it becomes the base at once.
const LARGE_BREADCRUMB: usize = 16 << 20;

/// The pause after a failure; the interval, if that is longer.
const TRY_AGAIN: Duration = Duration::from_millis(500);

/// Saves the state of a cache: appends each breadcrumb, and syncs at most once in an interval.
///
/// It holds only a cursor while it waits or writes, and no breadcrumb, so that a slow disk pins no memory. If it has
/// fallen out of the window, it writes the difference.
pub(crate) struct Saver {
    dir: StateDir,
    interval: Duration,
    /// `None` until the directory is locked.
    lock: Option<Lock>,
    writer: Option<Writer>,
    /// The cursor of the state on the disk.
    saved: Option<Cursor>,
    /// Its cursor once `unwritten` is written.
    encoded: Option<Cursor>,
    unwritten: Vec<Row>,
    unwritten_bytes: usize,
    /// Whether the database has write infos that the cache was not given.
    holds_more: bool,
    /// Whether the last try failed.
    is_failing: bool,
    failing: Recurring,
}

impl StateDir {
    /// Opens the directory for a feed that can be read again, and reads its state. There is no saver if the directory
    /// belongs to another feed, and is left alone.
    ///
    /// # Errors
    /// Another daemon uses the directory.
    pub(crate) fn open_cache(self, interval: Duration) -> Result<(Option<Saver>, Option<Kept>), StateError> {
        let mut saver = Saver::new(self, interval);
        match saver.resume() {
            Ok(kept) => Ok((Some(saver), kept)),
            Err(error @ StateError::InUse(_)) => Err(error),
            Err(error @ StateError::OtherFeed { .. }) => {
                warn!("{error}; it is left as it is, and no state is kept");
                Ok((None, None))
            }
            Err(error) => {
                saver.report(&error);
                Ok((Some(saver), None))
            }
        }
    }
}

impl Saver {
    fn new(dir: StateDir, interval: Duration) -> Self {
        let (unwritten, unwritten_bytes) = Default::default();
        Self {
            dir,
            interval,
            lock: None,
            writer: None,
            saved: None,
            encoded: None,
            unwritten,
            unwritten_bytes,
            holds_more: false,
            is_failing: false,
            failing: Recurring::default(),
        }
    }

    fn resume(&mut self) -> Result<Option<Kept>, StateError> {
        self.lock()?;
        match self.read() {
            Ok(kept) => Ok(kept),
            Err(error) if error.is_damage() => {
                self.dir.move_aside(&error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn lock(&mut self) -> Result<(), StateError> {
        if self.lock.is_none() {
            self.lock = Some(self.dir.lock()?);
        }
        Ok(())
    }

    fn read(&mut self) -> Result<Option<Kept>, StateError> {
        let (open, owner) = match self.dir.open(Access::Write) {
            Err(StateError::ReadOnly(_)) => {
                let Some((open, _)) = self.dir.open(Access::Read)? else { return Ok(None) };
                return Ok(Some(self.kept(self.dir.contents(&open)?)));
            }
            opened => match opened? {
                Some(opened) => opened,
                None => return Ok(None),
            },
        };
        let contents = self.dir.contents(&open)?;
        self.writer = Some(Writer::open(open, owner.id, &contents, self.dir.window()));
        Ok(Some(self.kept(contents)))
    }

    fn kept(&mut self, contents: Contents) -> Kept {
        self.holds_more = contents.write_infos.present && !self.dir.keeps_every_write();
        Kept::of(contents)
    }

    /// Moves the database aside because its state could not be restored: the start is a cold one.
    pub(crate) fn disown(&mut self, error: RestoreError) {
        self.writer = None;
        self.dir.move_aside(&StateError::damaged(&self.dir.database(), error));
    }

    /// Begins with the state of the cache, restored from one with this digest. If the digests differ, because a limit
    /// has changed and refuses some keys, the whole state is written first. So it is if the cache no longer keeps every
    /// write: it does not notice all writes, and the stored write infos would no longer be those of the entries.
    pub(crate) fn begin_at(&mut self, cache: &Cache, digest: Digest) {
        let current = cache.current_breadcrumb();
        self.saved = Some(current.cursor()).filter(|_| current.kvs().digest() == digest && !self.holds_more);
        self.encoded = self.saved;
    }

    /// Follows the trail until the cache stops, on a thread of its own.
    pub(crate) fn spawn(self, cache: Cache) -> JoinHandle<()> {
        run_on_own_thread("state", async move { self.run(&cache).await }.in_current_span())
    }

    async fn run(mut self, cache: &Cache) {
        let mut stopped = false;
        while !stopped {
            stopped = self.wait(cache).await || self.gather(cache).await;
            match self.save(cache) {
                Ok(true) => {
                    cache.stats().tried_to_persist(Ok::<_, &StateError>(()));
                    self.report_success();
                }
                Ok(false) => {}
                Err(error) => {
                    cache.stats().tried_to_persist(Err(&error));
                    self.report(&error);
                }
            }
        }
    }

    /// Waits until there is something to write. Returns whether the cache has stopped.
    async fn wait(&self, cache: &Cache) -> bool {
        if self.is_failing {
            // Tried again even without a further change: the disk may have room again.
            return timeout(self.interval.max(TRY_AGAIN), ended(cache)).await.is_ok();
        }
        let current = cache.current_breadcrumb();
        let nothing_to_do = self.has_taken(&current) || !cache.was_in_sync();
        nothing_to_do && current.wait_for_next().await.is_err()
    }

    /// Encodes breadcrumbs until the interval ends, or until there are many. Returns whether the cache has stopped.
    async fn gather(&mut self, cache: &Cache) -> bool {
        let until = Instant::now() + self.interval;
        loop {
            self.take(cache);
            let current = cache.current_breadcrumb();
            let is_much = self.unwritten_bytes >= WRITTEN_AT_ONCE;
            if is_much || !self.has_taken(&current) {
                // A breadcrumb that cannot be appended is written at the end of the interval.
                drop(current);
                return !is_much && timeout_at(until, ended(cache)).await.is_ok();
            }
            match timeout_at(until, current.wait_for_next()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return true,
                Err(_) => return false,
            }
        }
    }

    fn has_taken(&self, breadcrumb: &Breadcrumb) -> bool {
        let at = breadcrumb.cursor();
        self.encoded.is_some_and(|taken| {
            (taken.history, taken.revision, taken.check) == (at.history, at.revision, at.check)
        })
    }

    /// Encodes the new breadcrumbs, as far as they can be appended one by one.
    fn take(&mut self, cache: &Cache) {
        let Some(writer) = self.writer.as_ref().filter(|writer| writer.is_open()) else { return };
        let Some(encoded) = self.encoded else { return };
        let Position::At(known) = cache.locate(encoded) else { return };
        for breadcrumb in known.later() {
            if !can_be_appended(&breadcrumb, encoded) || self.unwritten_bytes >= WRITTEN_AT_ONCE {
                return;
            }
            if self.encoded.is_some_and(|before| breadcrumb.revision() > before.revision) {
                let row = writer.encode(self.unwritten.len(), &breadcrumb.record());
                self.unwritten_bytes += row.bytes();
                self.unwritten.push(row);
            }
            self.encoded = Some(breadcrumb.cursor());
        }
    }

    /// Writes the encoded breadcrumbs, or the difference if they cannot be appended one by one. `false` if there is
    /// no state to save yet.
    fn save(&mut self, cache: &Cache) -> Result<bool, StateError> {
        if !cache.was_in_sync() || cache.current_breadcrumb().is_provisional() {
            return Ok(false);
        }
        self.lock()?;
        self.append()?;
        self.take(cache);
        let current = cache.current_breadcrumb();
        if self.unwritten.is_empty() && !self.has_taken(&current) {
            self.rebase(&current)?;
        }
        drop(current);
        self.fold()?;
        Ok(true)
    }

    fn append(&mut self) -> Result<(), StateError> {
        let rows = std::mem::take(&mut self.unwritten);
        self.unwritten_bytes = 0;
        let Some(writer) = self.writer.as_mut().filter(|_| !rows.is_empty()) else { return Ok(()) };
        let written = writer.append(rows);
        match &written {
            Ok(()) => self.saved = self.encoded,
            Err(_) => self.encoded = self.saved,
        }
        debug!(revision = self.saved.map(|saved| saved.revision.0), "state saved");
        written
    }

    fn rebase(&mut self, current: &Breadcrumb) -> Result<(), StateError> {
        self.writer()?.rebase(current.kvs(), current.timestamp())?;
        let first = self.saved.is_none();
        self.saved = Some(current.cursor());
        self.encoded = self.saved;
        let (keys, revision, path) = (current.kvs().len(), current.revision().0, self.dir.path().display());
        if first && !self.is_failing {
            info!(keys, revision, "state saved in {path}");
        } else {
            debug!(keys, revision, "state saved as a whole in {path}");
        }
        Ok(())
    }

    /// A writer: the open one, one of the existing database, or one of a new database.
    fn writer(&mut self) -> Result<&mut Writer, StateError> {
        let writer = match self.writer.take() {
            Some(mut writer) => {
                if !writer.is_open() {
                    writer.reopen().or_else(|error| self.out_of_the_way(error))?;
                }
                Some(writer).filter(Writer::is_open)
            }
            None => None,
        };
        let writer = match writer {
            Some(writer) => writer,
            None => self.open_or_create()?,
        };
        Ok(self.writer.insert(writer))
    }

    fn out_of_the_way(&self, error: StateError) -> Result<(), StateError> {
        if error.is_damage() && self.dir.move_aside(&error) { Ok(()) } else { Err(error) }
    }

    fn open_or_create(&self) -> Result<Writer, StateError> {
        let found = match self.dir.open(Access::Write) {
            Ok(found) => found,
            Err(error) => {
                self.out_of_the_way(error)?;
                None
            }
        };
        let (open, id) = match found {
            Some((open, owner)) => (open, owner.id),
            None => self.create()?,
        };
        let contents = self.dir.contents(&open)?;
        Ok(Writer::open(open, id, &contents, self.dir.window()))
    }

    fn create(&self) -> Result<(Open, u64), StateError> {
        let (id, feed) = (fastrand::u64(..), &*self.dir.feed().name);
        let base = Base::empty();
        Ok((database::create(&self.dir.database(), &StoreRow { id, feed }, &base)?, id))
    }

    /// Folds all breadcrumbs that have left the window into the entries; this thread has nothing better to do.
    fn fold(&mut self) -> Result<(), StateError> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        while writer.is_open() && writer.fold_some()? {}
        Ok(())
    }

    fn report_success(&mut self) {
        self.is_failing = false;
        if let Some(end) = self.failing.ended() {
            let path = self.dir.path().display();
            info!(times = end.times, lasted = %end.lasted(), "the state can be saved again in {path}");
        }
    }

    fn report(&mut self, error: &StateError) {
        self.is_failing = true;
        let reason = error.to_string();
        if let Some(times) = self.failing.failed(&reason) {
            warn!(times, "the state could not be saved: {reason}; serving goes on, and so do the tries");
        }
    }
}

/// Whether a breadcrumb continues the encoded state, and is small enough for a row.
fn can_be_appended(breadcrumb: &Breadcrumb, encoded: Cursor) -> bool {
    let changed = || breadcrumb.deltas().iter().map(|delta| &delta.entry);
    // Those that a later step replaced are in the row too. The others are counted twice.
    let written = || breadcrumb.steps().iter().filter(|step| step.write == StepWrite::Put);
    let entries = || changed().chain(written().map(|step| &step.entry));
    let payload = || entries().map(Entry::payload_bytes).sum::<usize>();
    let continues =
        breadcrumb.from().history == encoded.history && breadcrumb.kvs().history() == encoded.history;
    continues && !breadcrumb.follows_gap() && payload() <= LARGE_BREADCRUMB
}

/// Resolves when the cache has stopped.
async fn ended(cache: &Cache) {
    let mut breadcrumb = cache.current_breadcrumb();
    while let Ok(next) = breadcrumb.next().await {
        breadcrumb = next;
    }
}
