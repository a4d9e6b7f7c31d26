//! The way from a reader's cursor to the newest breadcrumb, for long polls, streams, key watches and reads at a cursor.

use std::sync::Arc;

use super::{KeySelector, Reason, View, ViewError, changes};
use crate::cache::{Breadcrumb, Delta, KnownPast, PastAwaited, Position, Step};
use crate::model::Cursor;
use crate::wire::Mode;

/// What a reader needs to reach the newest breadcrumb. A cursor that is gone is an error.
pub(super) enum CatchUp {
    /// Nothing: it is at the newest breadcrumb.
    UpToDate,
    /// The changes since its cursor.
    Changes(Changes),
    /// A later breadcrumb: the cursor is ahead of this daemon.
    Ahead,
    /// The history before the newest breadcrumb, which the feed is still reading.
    PastAwaited(PastAwaited),
}

/// The changes from a cursor to the newest breadcrumb. They are computed when they are encoded.
pub(super) struct Changes {
    pub(super) at: Cursor,
    pub(super) start: Start,
    /// The breadcrumbs after the start.
    pub(super) later: Vec<Breadcrumb>,
    newest: Breadcrumb,
}

/// The position of a cursor.
pub(super) enum Start {
    /// At the newest state, with another sync status.
    Status,
    /// At a kept breadcrumb.
    Breadcrumb(Breadcrumb),
    /// Between two steps of a kept breadcrumb; another process ended a breadcrumb there.
    Inside(Breadcrumb),
    /// Before a state that was read as a whole; the steps to it are known.
    Past(Breadcrumb, Arc<KnownPast>),
}

impl View {
    /// The way from `at` to `newest`. `asked` is the same cursor in the client's own history, for errors.
    ///
    /// # Errors
    /// [`ViewError::Starting`], [`ViewError::Gone`].
    pub(super) fn catch_up(
        &self,
        asked: Cursor,
        at: Cursor,
        newest: &Breadcrumb,
    ) -> Result<CatchUp, ViewError> {
        if newest.is_provisional() {
            return Err(ViewError::Starting);
        }
        let now = newest.cursor();
        if at == now {
            return Ok(CatchUp::UpToDate);
        }
        if at.history != now.history {
            return Err(self.gone(asked));
        }
        if at.revision > now.revision {
            return Ok(CatchUp::Ahead);
        }
        let start = if at.revision == now.revision && at.check == now.check {
            Start::Status
        } else {
            match self.cache.locate(at) {
                Position::Ahead => return Ok(CatchUp::Ahead),
                Position::At(base) => Start::Breadcrumb(base),
                Position::Inside { within } => Start::Inside(within),
                Position::Before { within, past } => Start::Past(within, past),
                Position::Awaited(past) => return Ok(CatchUp::PastAwaited(past)),
                Position::Gone | Position::OtherHistory => return Err(self.gone(asked)),
            }
        };
        let later = start.breadcrumb().map_or_else(Vec::new, |from| up_to(from, newest));
        Ok(CatchUp::Changes(Changes { at, start, later, newest: newest.clone() }))
    }
}

impl Start {
    /// The first breadcrumb at or after the cursor.
    fn breadcrumb(&self) -> Option<&Breadcrumb> {
        match self {
            Self::Status => None,
            Self::Breadcrumb(at) | Self::Inside(at) | Self::Past(at, _) => Some(at),
        }
    }

    /// The steps that lead to that breadcrumb if the cursor is before it. The first ones may be before the cursor.
    pub(super) fn steps(&self) -> &[Step] {
        match self {
            Self::Status | Self::Breadcrumb(_) => &[],
            Self::Inside(within) => within.steps(),
            Self::Past(_, past) => past.steps(),
        }
    }
}

impl Changes {
    /// The mode and reason of an answer with these changes.
    pub(super) fn mode(&self) -> (Mode, Reason) {
        let breadcrumbs = match self.start {
            Start::Status => return (Mode::Delta, Reason::Status),
            Start::Breadcrumb(_) => self.later.len(),
            Start::Inside(_) | Start::Past(..) => self.later.len() + 1,
        };
        if breadcrumbs > 1 { (Mode::Squash, Reason::Behind) } else { (Mode::Delta, Reason::Next) }
    }

    /// An upper bound of the number of changes.
    pub(super) fn most_changes(&self) -> usize {
        self.start.steps().len()
            + self.later.iter().map(|breadcrumb| breadcrumb.deltas().len()).sum::<usize>()
    }

    /// The changes of these keys.
    pub(super) fn of(&self, keys: &KeySelector) -> Vec<Delta> {
        match &self.start {
            Start::Status => Vec::new(),
            Start::Breadcrumb(base) => changes::between_states(base, &self.newest, &self.later, keys),
            Start::Inside(within) | Start::Past(within, _) => {
                changes::from_inside(self.at, self.start.steps(), within, &self.later, keys)
            }
        }
    }

    /// The first breadcrumb at or after the cursor.
    pub(super) fn base(&self) -> &Breadcrumb {
        self.start.breadcrumb().unwrap_or(&self.newest)
    }
}

/// The breadcrumbs after `base` up to and including `newest`.
pub(super) fn up_to(base: &Breadcrumb, newest: &Breadcrumb) -> Vec<Breadcrumb> {
    let newest = newest.sequence();
    base.later().take_while(|crumb| crumb.sequence() <= newest).collect()
}

/// The later of two cursors of one history.
pub(super) fn furthest(at: Cursor, known: Cursor) -> Cursor {
    if known.revision > at.revision { known } else { at }
}
