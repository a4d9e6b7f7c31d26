//! The cache as its readers see it: nothing here can write.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

use super::breadcrumb::{Crumb, KnownPast, PastState};
use super::publish::Kept;
use super::{Breadcrumb, CacheStats, RefusedKeys};
use crate::ingest::{Buffer, IngestBuffer};
use crate::model::{Check, Cursor, FeedEvent, Sequence};
use crate::trail::{Entry, Found, Head};

/// Where a cursor's revision lies among the kept breadcrumbs.
pub enum Position {
    /// The state at that revision is this breadcrumb's.
    At(Breadcrumb),
    /// The revision is inside `within`, after the first and before the last of the revisions
    /// that it covers: the cursor was cut by another process.
    Inside {
        /// The breadcrumb that covers it.
        within: Breadcrumb,
    },
    /// The revision is before `within`, a state that was read as a whole, and the way there is known.
    Before {
        /// The state.
        within: Breadcrumb,
        /// The way.
        past: Arc<KnownPast>,
    },
    /// As `Before`, but the feed has not found out the way yet.
    Awaited(PastAwaited),
    /// No breadcrumb that old is kept.
    Gone,
    /// No breadcrumb has come that far yet.
    Ahead,
    /// The cursor is of another history, or of one that was taken for this one: the state at its
    /// revision is another.
    OtherHistory,
}

impl Position {
    /// A cursor that lies before a breadcrumb which ended a lossy resync.
    fn before(within: &Breadcrumb, cursor: Cursor) -> Self {
        let Some(mut told) = within.past() else { return Self::Gone };
        let past = told.borrow_and_update().clone();
        match past {
            PastState::Unknown => Self::Gone,
            PastState::Known(past) if cursor.revision < past.base => Self::Gone,
            PastState::Known(past) if cursor.revision <= past.through && !past.fits(cursor) => {
                Self::OtherHistory
            }
            PastState::Known(past) if cursor.revision <= past.through => {
                Self::Before { within: within.clone(), past }
            }
            PastState::Known(_) | PastState::Awaited => {
                Self::Awaited(PastAwaited { end: within.cursor(), told })
            }
        }
    }
}

/// What happened before a breadcrumb that ended a lossy resync is still being found out. It does
/// not keep the breadcrumb, so it may be held while waiting.
pub struct PastAwaited {
    end: Cursor,
    told: watch::Receiver<PastState>,
}

impl PastAwaited {
    /// The breadcrumb's cursor.
    pub fn end(&self) -> Cursor {
        self.end
    }

    /// Resolves when more has become known since the cursor was located, or when the breadcrumb is
    /// gone: locate it again then.
    pub async fn told(&mut self) {
        _ = self.told.changed().await;
    }
}

/// What can be read of a cache. Clones share it.
#[derive(Clone)]
pub struct Reader {
    head: Head<Arc<Crumb>>,
    kept: Kept,
    /// Only to tell how full it is.
    buffer: Arc<IngestBuffer<FeedEvent>>,
    stats: Arc<CacheStats>,
    was_in_sync: Arc<AtomicBool>,
}

impl Reader {
    pub(super) fn new(
        head: Head<Arc<Crumb>>,
        kept: Kept,
        buffer: Arc<IngestBuffer<FeedEvent>>,
        stats: Arc<CacheStats>,
        was_in_sync: Arc<AtomicBool>,
    ) -> Self {
        Self { head, kept, buffer, stats, was_in_sync }
    }

    pub(super) fn mark_warm(&self) {
        self.was_in_sync.store(true, Ordering::Release);
    }

    /// The newest breadcrumb.
    pub fn current_breadcrumb(&self) -> Breadcrumb {
        Breadcrumb::of(self.head.head()).unwrap_or_else(|_| self.newest_kept())
    }

    /// The number of the newest breadcrumb, for those who ask all the time.
    pub fn newest_sequence(&self) -> Sequence {
        let newest = self.head.peek(|crumb| crumb.map(|crumb| crumb.sequence));
        newest.unwrap_or_else(|| self.current_breadcrumb().sequence())
    }

    /// The newest breadcrumb once the trail's head is its terminal error.
    fn newest_kept(&self) -> Breadcrumb {
        let kept = self.kept.read();
        let newest = kept.newest().map(|entry| entry.item.clone());
        newest.expect("the window always keeps the newest breadcrumb")
    }

    /// The oldest breadcrumb that is kept.
    pub fn oldest_breadcrumb(&self) -> Breadcrumb {
        let oldest = self.kept.read().oldest().map(|entry| entry.item.clone());
        oldest.unwrap_or_else(|| self.current_breadcrumb())
    }

    /// How many breadcrumbs are kept, and an estimate of the bytes that only they hold.
    pub fn kept(&self) -> (usize, usize) {
        let kept = self.kept.read();
        (kept.len(), kept.bytes())
    }

    /// Finds a cursor among the kept breadcrumbs.
    pub fn locate(&self, cursor: Cursor) -> Position {
        let kept = self.kept.read();
        let same = |entry: &Entry<Breadcrumb>| entry.item.kvs().history() == cursor.history;
        if !kept.newest().is_some_and(same) {
            return Position::OtherHistory;
        }
        match kept.find(cursor.revision.0) {
            Found::Ahead => Position::Ahead,
            Found::Gone => {
                let oldest = kept.oldest().filter(|entry| entry.item.is_blind());
                oldest.map_or(Position::Gone, |entry| Position::before(&entry.item, cursor))
            }
            Found::At(at) if Check::from(at.entry().item.kvs().digest()) != cursor.check => {
                Position::OtherHistory
            }
            Found::At(at) => Position::At(at.entry().item.clone()),
            Found::Inside { within, .. } => match &within.entry().item {
                blind if blind.is_blind() => Position::before(blind, cursor),
                within if !fits_inside(within, cursor) => Position::OtherHistory,
                within => Position::Inside { within: within.clone() },
            },
        }
    }

    /// Whether the state has been complete at least once.
    pub fn was_in_sync(&self) -> bool {
        self.was_in_sync.load(Ordering::Acquire)
    }

    /// What has been counted.
    pub fn stats(&self) -> &CacheStats {
        &self.stats
    }

    /// The keys that are absent now because what the upstream has for them was refused.
    pub fn refused_keys(&self) -> Arc<RefusedKeys> {
        Arc::clone(&self.stats.refused_keys.read())
    }

    /// How many events wait for the ingest task, and how many may.
    pub fn backlog(&self) -> (usize, usize) {
        (self.buffer.len(), self.buffer.capacity())
    }
}

/// Whether the state between two steps of a breadcrumb looked as the cursor says. A breadcrumb without
/// steps changed at its first revision only, and the later ones that it covers changed nothing.
fn fits_inside(within: &Breadcrumb, cursor: Cursor) -> bool {
    let steps = within.steps();
    if steps.is_empty() {
        return cursor.check == within.kvs().digest().into();
    }
    let after = steps.partition_point(|step| step.revision <= cursor.revision);
    let last = after.checked_sub(1).and_then(|at| steps.get(at)).and_then(|step| step.check);
    last.is_none_or(|check| check == cursor.check)
}
