//! The cache of pages and snapshot bodies.
//!
//! It is empty until the first request. That builds the pages from the map. From then on the pages follow the
//! breadcrumbs: at each request, and every second, so that few changes accumulate. After some time without a request
//! everything is dropped, and an idle daemon does no work.

use std::cmp::Reverse;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

use super::assemble::{assemble, assemble_selected, selected_bytes, unheld_bytes};
use super::idle_bytes::IdleBytes;
use super::page_tree::PageTree;
use super::single_flight::{Flight, SingleFlight, SnapshotKey};
use super::version::Version;
use crate::cache::{self, Breadcrumb};
use crate::model::{Cursor, Sequence};
use crate::view::answer::{BreadcrumbInfo, end};
use crate::view::body_cache::run_blocking;
use crate::view::lease::{Claim, Lack};
use crate::view::workers::WORKERS;
use crate::view::{Account, Answer, Format, KeySelector, Reason, ViewError};
use crate::wire::Mode;

/// How often the pages advance and unused ones are dropped.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(1);

/// Pages that were not used for this long are dropped.
const PAGES_IDLE: Duration = Duration::from_secs(180);

/// The encoded bytes of a format that was not requested for this long are dropped.
const FORMAT_IDLE: Duration = Duration::from_secs(120);

/// How many older states have their pages kept, for the next page of a listing.
const MAX_OLDER: usize = 4;

/// The pages of an older state are dropped when they were not used for this long.
const OLDER_IDLE: Duration = Duration::from_secs(10);

pub(in crate::view) struct SnapshotCache {
    cache: cache::Reader,
    /// The pages of a recent state. The lock is held on the blocking thread that advances them.
    newest: Arc<tokio::sync::Mutex<Option<Version>>>,
    older: Mutex<Vec<OlderPages>>,
    flights: SingleFlight,
    usage: Mutex<Usage>,
    /// The encoded bytes that no request is sending, and the most of them that are kept.
    idle: IdleBytes,
    max_idle: u64,
}

/// The pages of an older state.
struct OlderPages {
    sequence: Sequence,
    used: Instant,
    /// Locked by the request that builds them, for all others.
    pages: Arc<tokio::sync::Mutex<Option<PageTree>>>,
}

/// The times of the last requests.
struct Usage {
    last: Instant,
    formats: Vec<(Format, Instant)>,
    /// Whether the maintenance task runs.
    is_maintained: bool,
}

impl SnapshotCache {
    /// Of the encoded bytes that no request is sending, at most `max_idle` are kept.
    pub(in crate::view) fn new(cache: cache::Reader, max_idle: u64) -> Arc<Self> {
        Arc::new(Self {
            cache,
            newest: Arc::default(),
            older: Mutex::default(),
            flights: SingleFlight::new(),
            usage: Mutex::new(Usage { last: Instant::now(), formats: Vec::new(), is_maintained: false }),
            idle: IdleBytes::default(),
            max_idle,
        })
    }

    /// A snapshot at this breadcrumb or a newer one, and whether it was encoded for this call.
    pub(in crate::view) async fn current(
        self: &Arc<Self>,
        at_least: Sequence,
        keys: &KeySelector,
        format: Format,
        account: &Account,
    ) -> Result<(Answer, bool), ViewError> {
        let key = SnapshotKey { kept: None, keys: keys.clone(), format };
        let mut claim = account.claim();
        self.note_use(Some(format));
        loop {
            let flight = self.flights.lock(&key).await;
            if let Some(answer) = flight.body_since(at_least).cloned() {
                drop(flight);
                return Ok((answer.for_request(&mut claim).await?, false));
            }
            let Version { info, pages } = self.newest().await?;
            let source = SnapshotSource { pages, info, cursor: info.cursor, reason: Reason::Current };
            match self.encode(flight, &key, source, &mut claim).await? {
                Ok(answer) => return Ok((answer, true)),
                Err(lack) => claim.wait(lack).await?,
            }
        }
    }

    /// The snapshot of a kept breadcrumb, under the requested cursor.
    pub(in crate::view) async fn kept(
        self: &Arc<Self>,
        crumb: Breadcrumb,
        cursor: Cursor,
        keys: &KeySelector,
        format: Format,
        account: &Account,
    ) -> Result<Answer, ViewError> {
        let info = BreadcrumbInfo::of(&crumb);
        let key = SnapshotKey { kept: Some((info.sequence, cursor)), keys: keys.clone(), format };
        let mut claim = account.claim();
        self.note_use(Some(format));
        loop {
            let flight = self.flights.lock(&key).await;
            if let Some(answer) = flight.body_since(info.sequence).cloned() {
                drop(flight);
                return Ok(answer.for_request(&mut claim).await?);
            }
            let pages = self.pages_of(crumb.clone()).await?;
            let source = SnapshotSource { pages, info, cursor, reason: Reason::Kept };
            match self.encode(flight, &key, source, &mut claim).await? {
                Ok(answer) => return Ok(answer),
                Err(lack) => claim.wait(lack).await?,
            }
        }
    }

    /// Encodes a body once there is room for it. The flight stays locked meanwhile. A client whose own share lacks room
    /// has to wait without the lock, so that others need not.
    async fn encode(
        self: &Arc<Self>,
        mut flight: OwnedMutexGuard<Flight>,
        key: &SnapshotKey,
        source: SnapshotSource,
        claim: &mut Claim,
    ) -> Result<Result<Answer, Lack>, ViewError> {
        let (key, source) = (Arc::new(key.clone()), Arc::new(source));
        loop {
            let (snapshot_cache, key, source) = (Arc::clone(self), Arc::clone(&key), Arc::clone(&source));
            let mut taken = claim.take();
            let encoded = WORKERS.run(move || {
                if let Err(lack) = taken.try_take(source.unheld_bytes(&key)) {
                    return Ok(Err((lack, taken, flight)));
                }
                let (answer, unshared_bytes) = source.encode(&key)?;
                let made = answer.made_in(&mut taken);
                snapshot_cache.flights.store(&mut flight, answer, unshared_bytes, snapshot_cache.max_idle);
                drop(flight);
                snapshot_cache.evict_idle(&source.pages);
                Ok::<_, ViewError>(Ok(made))
            });
            let (lack, locked);
            match encoded.await?? {
                Ok(answer) => return Ok(Ok(answer)),
                Err(lacking) => (lack, *claim, locked) = lacking,
            }
            match lack {
                Lack::Own(_) => return Ok(Err(lack)),
                Lack::All(_) => claim.wait(lack).await?,
            }
            flight = locked;
        }
    }

    /// The pages of the current state or a newer one.
    pub(in crate::view) async fn newest(&self) -> Result<Version, ViewError> {
        let at_least = self.cache.current_breadcrumb().sequence();
        let mut newest = Arc::clone(&self.newest).lock_owned().await;
        if let Some(version) = newest.as_ref().filter(|version| version.info.sequence >= at_least) {
            return Ok(version.clone());
        }
        let (cache, idle) = (self.cache.clone(), self.idle.clone());
        run_blocking(move || {
            let older = newest.take();
            newest.insert(Version::newest(&cache, older, idle)).clone()
        })
        .await
    }

    /// The pages of any breadcrumb. Those of an older one are built once for all concurrent requests.
    pub(in crate::view) async fn pages_of(&self, crumb: Breadcrumb) -> Result<PageTree, ViewError> {
        let newest = self.newest().await?;
        if newest.info.is_state_of(crumb.kvs()) {
            return Ok(newest.pages);
        }
        let mut pages = self.older(crumb.sequence()).lock_owned().await;
        if let Some(pages) = &*pages {
            return Ok(pages.clone());
        }
        // The lock moves to the thread, so that a cancelled request does not start the same work a second time.
        WORKERS.run(move || pages.insert(newest.reverted_to(&crumb)).clone()).await
    }

    /// The pages of an older state, which may not be built yet. The least used ones make room.
    fn older(&self, sequence: Sequence) -> Arc<tokio::sync::Mutex<Option<PageTree>>> {
        let mut older = self.older.lock();
        if let Some(known) = older.iter_mut().find(|older| older.sequence == sequence) {
            known.used = Instant::now();
            return Arc::clone(&known.pages);
        }
        if older.len() == MAX_OLDER {
            let least = older.iter().enumerate().min_by_key(|(_, older)| older.used);
            least.map(|(index, _)| index).into_iter().for_each(|index| _ = older.remove(index));
        }
        let pages = Arc::default();
        older.push(OlderPages { sequence, used: Instant::now(), pages: Arc::clone(&pages) });
        pages
    }

    /// Notes that pages are in use, and the format of the body if one is encoded.
    pub(in crate::view) fn note_use(self: &Arc<Self>, format: Option<Format>) {
        let now = Instant::now();
        let mut usage = self.usage.lock();
        usage.last = now;
        if let Some(format) = format {
            match usage.formats.iter_mut().find(|(known, _)| *known == format) {
                Some((_, last)) => *last = now,
                None => usage.formats.push((format, now)),
            }
        }
        if !std::mem::replace(&mut usage.is_maintained, true) {
            tokio::spawn(maintain(Arc::downgrade(self)));
        }
    }

    /// Drops encoded bytes that no request is sending until they are within the limit. The formats with the most bytes go
    /// first: uncompressed ones are the largest, and are made again in the least time.
    fn evict_idle(&self, pages: &PageTree) {
        if self.idle_bytes() <= self.max_idle {
            return;
        }
        let mut by_format: Vec<(Format, u64)> = pages.idle_by_format().into_iter().collect();
        by_format.sort_by_key(|(_, bytes)| Reverse(*bytes));
        // Those of older states are dropped soon; they share most pages with the newest.
        let older: Vec<_> = self.older.lock().iter().map(|older| Arc::clone(&older.pages)).collect();
        for (format, _) in by_format {
            if self.idle_bytes() <= self.max_idle {
                return;
            }
            self.flights.evict_format(format);
            pages.retain_formats(|other| other != format);
            for older in older.iter().filter_map(|pages| pages.try_lock().ok()) {
                older.iter().for_each(|pages| pages.retain_formats(|other| other != format));
            }
        }
    }

    /// The encoded bytes that no request is sending. Those of bodies that share no pages count even while they are sent.
    pub(in crate::view) fn idle_bytes(&self) -> u64 {
        self.idle.get() + self.flights.unshared_bytes()
    }

    /// The most of these bytes that are kept.
    pub(in crate::view) fn max_idle(&self) -> u64 {
        self.max_idle
    }

    /// How many cached bodies a new reader could share.
    pub(in crate::view) fn cached_bodies(&self) -> usize {
        self.flights.cached_bodies()
    }

    /// Advances the pages and drops unused ones; `false` when everything was dropped.
    async fn tick(self: Arc<Self>) -> bool {
        let (in_use, unused_formats) = self.usage.lock().expire();
        if !in_use {
            let newest = self.newest.lock().await.take();
            // Freeing a million entries takes time.
            _ = run_blocking(move || {
                self.older.lock().clear();
                self.flights.clear();
                drop(newest);
            })
            .await;
            return false;
        }
        let Ok(version) = self.newest().await else { return true };
        _ = run_blocking(move || {
            self.flights.evict_stale(version.info.sequence);
            self.older.lock().retain(|older| older.used.elapsed() < OLDER_IDLE);
            if !unused_formats.is_empty() {
                version.pages.retain_formats(|format| !unused_formats.contains(&format));
            }
            self.evict_idle(&version.pages);
        })
        .await;
        true
    }
}

impl Usage {
    /// Whether pages were used lately, and the formats that were not; these are removed.
    fn expire(&mut self) -> (bool, Vec<Format>) {
        self.is_maintained = self.last.elapsed() < PAGES_IDLE;
        let is_unused = |last: &Instant| !self.is_maintained || last.elapsed() >= FORMAT_IDLE;
        let unused = self.formats.extract_if(.., |(_, last)| is_unused(last)).map(|(format, _)| format);
        (self.is_maintained, unused.collect())
    }
}

/// The maintenance task. It runs while pages are in use, and does not keep the cache alive.
async fn maintain(snapshot_cache: Weak<SnapshotCache>) {
    loop {
        tokio::time::sleep(MAINTENANCE_INTERVAL).await;
        let Some(snapshot_cache) = snapshot_cache.upgrade() else { return };
        if !snapshot_cache.tick().await {
            return;
        }
    }
}

/// The state that a body is made of.
struct SnapshotSource {
    pages: PageTree,
    info: BreadcrumbInfo,
    /// The requested cursor.
    cursor: Cursor,
    reason: Reason,
}

impl SnapshotSource {
    /// About how many bytes the body would add to those in flight.
    fn unheld_bytes(&self, key: &SnapshotKey) -> u64 {
        match key.keys.only_prefix() {
            Some(prefix) => unheld_bytes(&self.pages, self.pages.prefix_range(prefix.as_bytes()), key.format),
            None => selected_bytes(&self.pages, &key.keys),
        }
    }

    /// The answer, and how many bytes of its body no other body shares.
    fn encode(&self, key: &SnapshotKey) -> Result<(Answer, u64), ViewError> {
        let Self { ref pages, info, cursor, reason } = *self;
        let (mode, format) = (Mode::Snapshot, key.format);
        let keys = &key.keys;
        let header = info.header(cursor, None, mode, reason, keys.is_all());
        let assembled = match keys.only_prefix() {
            Some(prefix) => {
                let range = pages.prefix_range(prefix.as_bytes());
                assemble(pages, range, &header, &end(&header), format)?
            }
            None => assemble_selected(pages, keys, &header, &end(&header), format)?,
        };
        let format = Format { coding: assembled.coding, ..format };
        let BreadcrumbInfo { sequence, timestamp, .. } = info;
        let (body, at_once) = (assembled.body, true);
        let answer = Answer { cursor, mode, reason, sequence, timestamp, body, format, at_once };
        Ok((answer, assembled.unshared_bytes))
    }
}
