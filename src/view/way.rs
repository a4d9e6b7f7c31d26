//! The way from a cursor to the newest breadcrumb.

use std::sync::Arc;

use super::{Reason, Scope, View, ViewError, changes};
use crate::cache::{Breadcrumb, Delta, KnownPast, PastAwaited, Position};
use crate::model::Cursor;
use crate::wire::Mode;

/// Found at once; what changed on it is worked out when somebody encodes it, and only once.
pub(super) enum Way {
    /// The state is the same, its status is not.
    Status,
    /// From a breadcrumb over these.
    Breadcrumbs { base: Breadcrumb, between: Vec<Breadcrumb> },
    /// From inside a breadcrumb over these.
    Inside { at: Cursor, within: Breadcrumb, later: Vec<Breadcrumb> },
    /// From before a state that was read as a whole over these.
    Past { at: Cursor, past: Arc<KnownPast>, within: Breadcrumb, later: Vec<Breadcrumb> },
}

/// What there is to find.
pub(super) enum Found {
    Way(Way),
    /// What lies between the client and a breadcrumb is still being found out.
    Awaited(PastAwaited),
}

impl View {
    /// Finds the way from a cursor of this history that is not ahead.
    pub(super) fn way(&self, at: Cursor, newest: &Breadcrumb) -> Result<Found, ViewError> {
        if at.revision == newest.revision() && at.check == newest.cursor().check {
            return Ok(Found::Way(Way::Status));
        }
        Ok(Found::Way(match self.cache.locate(at) {
            Position::At(base) => {
                let between = up_to(&base, newest);
                Way::Breadcrumbs { base, between }
            }
            Position::Inside { within } => {
                let later = up_to(&within, newest);
                Way::Inside { at, within, later }
            }
            Position::Before { within, past } => {
                let later = up_to(&within, newest);
                Way::Past { at, past, within, later }
            }
            Position::Awaited(past) => return Ok(Found::Awaited(past)),
            Position::Gone | Position::Ahead | Position::OtherHistory => return Err(self.gone(at)),
        }))
    }
}

impl Way {
    /// How an answer that goes this way is called, and why.
    pub(super) fn name(&self) -> (Mode, Reason) {
        let breadcrumbs = match self {
            Self::Status => return (Mode::Delta, Reason::Status),
            Self::Breadcrumbs { between, .. } => between.len(),
            Self::Inside { later, .. } | Self::Past { later, .. } => later.len() + 1,
        };
        if breadcrumbs > 1 { (Mode::Squash, Reason::Behind) } else { (Mode::Delta, Reason::Next) }
    }

    /// What changed on it.
    pub(super) fn deltas(&self, newest: &Breadcrumb, scope: Scope<'_>) -> Vec<Delta> {
        match self {
            Self::Status => Vec::new(),
            Self::Breadcrumbs { base, between } => changes::between_states(base, newest, between, scope),
            Self::Inside { at, within, later } => {
                changes::from_inside(*at, within.steps(), within, later, scope)
            }
            Self::Past { at, past, within, later } => {
                changes::from_inside(*at, past.steps(), within, later, scope)
            }
        }
    }
}

/// Why the answer is what it is that leads to a breadcrumb from the one before.
pub(super) fn step_reason(breadcrumb: &Breadcrumb) -> Reason {
    let (from, now) = (breadcrumb.from(), breadcrumb.cursor());
    let same_state = from.revision == now.revision && from.check == now.check;
    if same_state { Reason::Status } else { Reason::Next }
}

/// The breadcrumbs after `base`, up to and with `newest`.
pub(super) fn up_to(base: &Breadcrumb, newest: &Breadcrumb) -> Vec<Breadcrumb> {
    let newest = newest.sequence();
    base.later().take_while(|crumb| crumb.sequence() <= newest).collect()
}
