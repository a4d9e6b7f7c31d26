//! Keeps the newest state in pages while snapshots are asked for.
//!
//! Nothing is kept until somebody asks. Then the pages are made of the map once, and from there on
//! follow the breadcrumbs: when somebody asks, and every second, so that the way to the newest
//! state never becomes long. Where nobody has asked for some time, all of it is let go, and an idle
//! daemon does nothing.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::assemble::{assemble, assemble_some};
use super::page_tree::PageTree;
use super::single_flight::{Made, SingleFlight, Wanted};
use super::version::Version;
use crate::cache::{self, Breadcrumb};
use crate::model::{Cursor, Sequence};
use crate::view::answer::{BreadcrumbInfo, end};
use crate::view::body_cache::off_thread;
use crate::view::{Answer, Format, KeySelector, Reason, ViewError};
use crate::wire::Mode;

/// How often the pages catch up and are tidied while they are in use.
const TICK: Duration = Duration::from_secs(1);

/// PageTree that nobody has used for so long are let go.
const PAGES_IDLE: Duration = Duration::from_secs(180);

/// What was encoded in a format that nobody has asked for in this time is let go.
const FORMAT_IDLE: Duration = Duration::from_secs(120);

/// PageTree of older states that are kept for the next listing at the same cursor.
const OLDER: usize = 4;

/// For how long they are.
const OLDER_IDLE: Duration = Duration::from_secs(10);

pub(in crate::view) struct SnapshotCache {
    cache: cache::Reader,
    /// The newest state, some breadcrumbs old. Whoever moves it on takes it along to where that is done.
    newest: Arc<tokio::sync::Mutex<Option<Version>>>,
    older: Mutex<Vec<Older>>,
    flights: SingleFlight,
    asked: Mutex<Asked>,
    /// Preparations at a time: more than there are cores only wait for one another.
    workers: Arc<Semaphore>,
}

struct Older {
    sequence: Sequence,
    used: Instant,
    pages: PageTree,
}

/// What was asked for, and when.
struct Asked {
    last: Instant,
    formats: Vec<(Format, Instant)>,
    /// Whether the task that keeps the pages runs.
    kept: bool,
}

impl SnapshotCache {
    pub(in crate::view) fn new(cache: cache::Reader, max_own_bytes: u64) -> Arc<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Arc::new(Self {
            cache,
            newest: Arc::default(),
            older: Mutex::default(),
            flights: SingleFlight::new(max_own_bytes),
            asked: Mutex::new(Asked { last: Instant::now(), formats: Vec::new(), kept: false }),
            workers: Arc::new(Semaphore::new(cores)),
        })
    }

    /// A snapshot that is as new as this breadcrumb or newer, and whether it was made for this call.
    pub(in crate::view) async fn current(
        self: &Arc<Self>,
        at_least: Sequence,
        keys: &KeySelector,
        format: Format,
    ) -> Result<(Answer, bool), ViewError> {
        let wanted = Wanted { kept: None, keys: keys.clone(), format };
        self.note(Some(format));
        let made = self.flights.enter(&wanted).await;
        if let Some(answer) = made.since(at_least) {
            return Ok((answer.clone(), false));
        }
        let version = self.newest().await?;
        let Version { info, pages } = version;
        let cursor = info.cursor;
        let state = Prepared { pages, info, cursor, reason: Reason::Current };
        Ok((self.prepare(made, wanted, state).await?, true))
    }

    /// The snapshot of a kept breadcrumb, under the cursor by which it was asked for.
    pub(in crate::view) async fn kept(
        self: &Arc<Self>,
        crumb: Breadcrumb,
        cursor: Cursor,
        keys: &KeySelector,
        format: Format,
    ) -> Result<Answer, ViewError> {
        let info = BreadcrumbInfo::of(&crumb);
        let wanted = Wanted { kept: Some((info.sequence, cursor)), keys: keys.clone(), format };
        self.note(Some(format));
        let made = self.flights.enter(&wanted).await;
        if let Some(answer) = made.since(info.sequence) {
            return Ok(answer.clone());
        }
        let pages = self.pages_of(crumb).await?;
        self.prepare(made, wanted, Prepared { pages, info, cursor, reason: Reason::Kept }).await
    }

    async fn prepare(
        self: &Arc<Self>,
        mut made: tokio::sync::OwnedMutexGuard<Made>,
        wanted: Wanted,
        state: Prepared,
    ) -> Result<Answer, ViewError> {
        let worker = Arc::clone(&self.workers).acquire_owned().await;
        let snapshot_cache = Arc::clone(self);
        off_thread(move || {
            let (answer, own_bytes) = state.answer(&wanted)?;
            snapshot_cache.flights.leave(&mut made, &answer, own_bytes);
            drop(worker);
            Ok(answer)
        })
        .await?
    }

    /// The newest state, as of now or newer.
    pub(in crate::view) async fn newest(&self) -> Result<Version, ViewError> {
        let wanted = self.cache.current_breadcrumb().sequence();
        let mut newest = Arc::clone(&self.newest).lock_owned().await;
        if let Some(version) = newest.as_ref().filter(|version| version.info.sequence >= wanted) {
            return Ok(version.clone());
        }
        let cache = self.cache.clone();
        off_thread(move || {
            let older = newest.take();
            newest.insert(Version::newest(&cache, older)).clone()
        })
        .await
    }

    /// The pages of any breadcrumb.
    pub(in crate::view) async fn pages_of(&self, crumb: Breadcrumb) -> Result<PageTree, ViewError> {
        let newest = self.newest().await?;
        if newest.info.is_state_of(crumb.kvs()) {
            return Ok(newest.pages);
        }
        let sequence = crumb.sequence();
        if let Some(known) = self.known(sequence) {
            return Ok(known);
        }
        let worker = Arc::clone(&self.workers).acquire_owned().await;
        // Somebody else may have made them meanwhile.
        if let Some(known) = self.known(sequence) {
            return Ok(known);
        }
        let pages = off_thread(move || {
            let pages = newest.back_to(&crumb);
            drop(worker);
            pages
        })
        .await?;
        let mut older = self.older.lock();
        if older.len() == OLDER {
            older.remove(0);
        }
        older.push(Older { sequence, used: Instant::now(), pages: pages.clone() });
        Ok(pages)
    }

    fn known(&self, sequence: Sequence) -> Option<PageTree> {
        let mut older = self.older.lock();
        let known = older.iter_mut().find(|older| older.sequence == sequence)?;
        known.used = Instant::now();
        Some(known.pages.clone())
    }

    /// Notes that pages are in use, for bodies of this format if for any.
    pub(in crate::view) fn note(self: &Arc<Self>, format: Option<Format>) {
        let now = Instant::now();
        let mut asked = self.asked.lock();
        asked.last = now;
        if let Some(format) = format {
            match asked.formats.iter_mut().find(|(known, _)| *known == format) {
                Some((_, last)) => *last = now,
                None => asked.formats.push((format, now)),
            }
        }
        if !std::mem::replace(&mut asked.kept, true) {
            tokio::spawn(keep(Arc::downgrade(self)));
        }
    }

    /// How many bodies a newcomer could share now.
    pub(in crate::view) fn kept_bodies(&self) -> usize {
        self.flights.kept()
    }

    /// Catches up and tidies; false when everything was let go.
    async fn tick(self: Arc<Self>) -> bool {
        let (in_use, cold) = self.asked.lock().look();
        if !in_use {
            let newest = self.newest.lock().await.take();
            // To free a million entries takes its time.
            _ = off_thread(move || {
                self.older.lock().clear();
                self.flights.clear();
                drop(newest);
            })
            .await;
            return false;
        }
        let Ok(version) = self.newest().await else { return true };
        _ = off_thread(move || {
            self.flights.evict_stale(version.info.sequence);
            self.older.lock().retain(|older| older.used.elapsed() < OLDER_IDLE);
            if !cold.is_empty() {
                version.pages.keep(|format| !cold.contains(&format));
            }
        })
        .await;
        true
    }
}

impl Asked {
    /// Whether anything was asked for lately, and the formats that were not.
    fn look(&mut self) -> (bool, Vec<Format>) {
        self.kept = self.last.elapsed() < PAGES_IDLE;
        let is_cold = |last: &Instant| !self.kept || last.elapsed() >= FORMAT_IDLE;
        let cold = self.formats.extract_if(.., |(_, last)| is_cold(last)).map(|(format, _)| format);
        (self.kept, cold.collect())
    }
}

/// Runs while pages are in use. It does not keep them alive when the view is gone.
async fn keep(snapshot_cache: Weak<SnapshotCache>) {
    loop {
        tokio::time::sleep(TICK).await;
        let Some(snapshot_cache) = snapshot_cache.upgrade() else { return };
        if !snapshot_cache.tick().await {
            return;
        }
    }
}

/// A state of which a body is to be made.
struct Prepared {
    pages: PageTree,
    info: BreadcrumbInfo,
    /// By which it was asked for.
    cursor: Cursor,
    reason: Reason,
}

impl Prepared {
    fn answer(self, wanted: &Wanted) -> Result<(Answer, u64), ViewError> {
        let Self { pages, info, cursor, reason } = self;
        let (mode, format) = (Mode::Snapshot, wanted.format);
        let keys = &wanted.keys;
        let header = info.header(cursor, None, mode, reason, keys.is_all());
        let made = match keys.only_prefix() {
            Some(prefix) => {
                let run = pages.with_prefix(prefix.as_bytes());
                assemble(&pages, run, &header, &end(&header), format)?
            }
            None => assemble_some(&pages, keys, &header, &end(&header), format)?,
        };
        let format = Format { coding: made.coding, ..format };
        let BreadcrumbInfo { sequence, timestamp, .. } = info;
        let (body, at_once) = (made.body, true);
        Ok((Answer { cursor, mode, reason, sequence, timestamp, body, format, at_once }, made.own_bytes))
    }
}
