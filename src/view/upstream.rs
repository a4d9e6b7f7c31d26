//! Is a cursor that is ahead of this daemon ahead of the upstream too?

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::catch_up::CatchUp;
use super::{View, ViewError};
use crate::model::{Cursor, History, Sighting};

/// What a view wants to know of the upstream that its cache follows.
pub trait Upstream: Send + Sync {
    /// Whether two histories may be one and the same: whether a cursor of one is good in the other, the state that it
    /// names decides.
    fn may_be_same(&self, one: History, other: History) -> bool;

    /// Whether a cursor ahead of this process can only be of a state that is gone.
    fn nothing_is_ahead(&self) -> bool;

    /// Asks for a sighting soon.
    fn ask(&self);

    /// What the upstream last said of its revision, and what it says next; `None` for upstreams that
    /// have no revision of their own.
    fn sightings(&self) -> watch::Receiver<Option<Sighting>>;
}

/// How many cursors that were ahead are remembered.
const REMEMBERED: usize = 256;

/// How long the upstream gets to say how far it is, even where a client does not want to wait: to be
/// told `410` at once is worth more than to be told nothing at once.
const ANSWER: Duration = Duration::from_millis(250);

/// Cursors ahead of this daemon, and when each of them was seen first.
///
/// Whoever polls without waiting must learn in the end that its cursor leads nowhere. The upstream was
/// at the cursor before it was seen here, so what the upstream says after that counts, not only what it
/// says after the newest request.
#[derive(Default)]
pub(super) struct CursorsAhead(Mutex<VecDeque<(Cursor, Instant)>>);

impl CursorsAhead {
    fn first_seen(&self, cursor: Cursor, now: Instant) -> Instant {
        let mut seen = self.0.lock();
        if let Some((_, first)) = seen.iter().find(|(known, _)| *known == cursor) {
            return *first;
        }
        if seen.len() == REMEMBERED {
            seen.pop_front();
        }
        seen.push_back((cursor, now));
        now
    }
}

/// What the upstream has said of its own revision since a cursor that is ahead was seen first.
///
/// A cursor ahead of this daemon is a lagging replica's ordinary sight and waits. But when the
/// upstream itself, asked after the cursor existed, is below it, the upstream is not the one that
/// the cursor came from, and waiting would never end.
pub(super) struct UpstreamWatch {
    since: Instant,
    upstream: Arc<dyn Upstream>,
    ahead: Arc<CursorsAhead>,
    sightings: watch::Receiver<Option<Sighting>>,
}

impl View {
    /// The cursor in terms of our own history, where its history may be the same.
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

    /// For who gives up waiting: a cursor that is ahead of the upstream itself is an error, although
    /// nobody waits for it. Takes a moment where it is ahead of this daemon, and else no time.
    ///
    /// # Errors
    /// [`ViewError::Gone`].
    pub async fn not_ahead_of_upstream(&self, cursor: Cursor) -> Result<(), ViewError> {
        let at = self.adopt(cursor);
        let newest = self.cache.current_breadcrumb();
        if !matches!(self.catch_up(cursor, at, &newest), Ok(CatchUp::Ahead)) {
            return Ok(());
        }
        match self.watch_upstream().says_it_is_below(at).await {
            true => Err(self.gone(cursor)),
            false => Ok(()),
        }
    }
}

impl UpstreamWatch {
    /// Whether the upstream is known to be below this cursor, which is ahead of this daemon. Where it
    /// is not, the upstream is asked.
    pub(super) fn is_below(&self, cursor: Cursor) -> bool {
        if self.upstream.nothing_is_ahead() {
            return true;
        }
        let since = self.ahead.first_seen(cursor, self.since);
        let seen = *self.sightings.borrow();
        let below = seen.is_some_and(|seen| seen.asked >= since && seen.revision < cursor.revision);
        if !below {
            self.upstream.ask();
        }
        below
    }

    /// The same, and gives the upstream a moment to answer.
    pub(super) async fn says_it_is_below(&mut self, cursor: Cursor) -> bool {
        let end = tokio::time::Instant::from_std(self.since + ANSWER);
        loop {
            if self.is_below(cursor) {
                return true;
            }
            if tokio::time::timeout_at(end, self.seen()).await.is_err() {
                return false;
            }
        }
    }

    /// Resolves when the upstream has said something again.
    pub(super) async fn seen(&mut self) {
        if self.sightings.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
