//! Cursors ahead of this daemon: whether they are ahead of the upstream too.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::catch_up::CatchUp;
use super::{View, ViewError};
use crate::model::{Cursor, History, Sighting};

/// The upstream that a view's cache follows.
pub trait UpstreamSightings: Send + Sync {
    /// Whether the two names may be of one history. The state at a cursor then decides whether it can be continued.
    fn may_be_same(&self, one: History, other: History) -> bool;

    /// Whether a cursor ahead of this process can only belong to a lost state.
    fn nothing_is_ahead(&self) -> bool;

    /// Requests a sighting soon.
    fn request_sighting(&self);

    /// Whether it answers such a request, with a revision that the state then reaches.
    fn answers_requests(&self) -> bool;

    /// The upstream's revision as it last reported it, and its later reports. `None` for an upstream without revisions
    /// of its own.
    fn sightings(&self) -> watch::Receiver<Option<Sighting>>;
}

/// How many cursors are remembered.
const MAX_REMEMBERED: usize = 256;

/// The time that the upstream has to report its revision, even if the client does not want to wait. A late 410 is worth
/// more to it than an early 204.
const SIGHTING_TIMEOUT: Duration = Duration::from_millis(250);

/// The cursors seen ahead of this daemon, each with the time of its first request.
///
/// A client that polls without waiting must get its 410 too. The upstream was at the cursor before the cursor's first
/// request, so every later report of the upstream counts, not only those after the newest request.
#[derive(Default)]
pub(super) struct CursorsAhead(Mutex<VecDeque<(Cursor, Instant)>>);

impl CursorsAhead {
    fn first_seen(&self, cursor: Cursor, now: Instant) -> Instant {
        let mut seen = self.0.lock();
        if let Some((_, first)) = seen.iter().find(|(known, _)| *known == cursor) {
            return *first;
        }
        if seen.len() == MAX_REMEMBERED {
            seen.pop_front();
        }
        seen.push_back((cursor, now));
        now
    }
}

/// The reports of the upstream's revision since the first request with a cursor.
///
/// A lagging replica sees cursors ahead of it all the time, and they wait. If the upstream itself reports a lower
/// revision after the cursor existed, the cursor came from another upstream, and the wait would never end.
pub(super) struct UpstreamWatch {
    since: Instant,
    upstream: Arc<dyn UpstreamSightings>,
    ahead: Arc<CursorsAhead>,
    sightings: watch::Receiver<Option<Sighting>>,
}

impl View {
    /// The cursor with our own name of its history, if the two may be the same.
    pub(super) fn adopt(&self, cursor: Cursor) -> Cursor {
        let ours = self.cache.current_breadcrumb().kvs().history();
        if cursor.history != ours && self.upstream.may_be_same(cursor.history, ours) {
            return Cursor { history: ours, ..cursor };
        }
        cursor
    }

    pub(super) fn watch_upstream(&self) -> UpstreamWatch {
        UpstreamWatch {
            since: Instant::now(),
            upstream: Arc::clone(&self.upstream),
            ahead: Arc::clone(&self.cursors_ahead),
            sightings: self.upstream.sightings(),
        }
    }

    /// Checks at the end of a wait that the cursor is not ahead of the upstream. Takes up to 250 ms if the cursor is ahead
    /// of this daemon, and no time otherwise.
    ///
    /// # Errors
    /// [`ViewError::Gone`].
    pub async fn not_ahead_of_upstream(&self, cursor: Cursor) -> Result<(), ViewError> {
        let at = self.adopt(cursor);
        let newest = self.cache.current_breadcrumb();
        if !matches!(self.catch_up(cursor, at, &newest), Ok(CatchUp::Ahead)) {
            return Ok(());
        }
        match self.watch_upstream().confirms_below(at).await {
            true => Err(self.gone(cursor)),
            false => Ok(()),
        }
    }
}

impl UpstreamWatch {
    /// Whether the upstream is known to be below this cursor, which is ahead of this daemon. Requests a sighting if it is
    /// not.
    pub(super) fn is_below(&self, cursor: Cursor) -> bool {
        if self.upstream.nothing_is_ahead() {
            return true;
        }
        let since = self.ahead.first_seen(cursor, self.since);
        let seen = *self.sightings.borrow();
        let below = seen.is_some_and(|seen| seen.asked >= since && seen.revision < cursor.revision);
        if !below {
            self.upstream.request_sighting();
        }
        below
    }

    /// Like [`is_below`](Self::is_below), but gives the upstream time to report.
    pub(super) async fn confirms_below(&mut self, cursor: Cursor) -> bool {
        let end = tokio::time::Instant::from_std(self.since + SIGHTING_TIMEOUT);
        loop {
            if self.is_below(cursor) {
                return true;
            }
            if tokio::time::timeout_at(end, self.sighting()).await.is_err() {
                return false;
            }
        }
    }

    /// Resolves when the upstream reports again.
    pub(super) async fn sighting(&mut self) {
        if self.sightings.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
