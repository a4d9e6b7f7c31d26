//! What is done between a breadcrumb and the wake of those who wait for it.

use std::sync::Arc;

use super::bodies::Body;
use super::follow::Draft;
use super::hot::Hot;
use super::interest::Interest;
use super::way::step_reason;
use super::{Answer, Format};
use crate::cache::{Breadcrumb, Deliver};
use crate::wire::{Coding, Mode};

/// Breadcrumbs with more updates are encoded when somebody asks: whoever asks first pays, off the
/// threads that wake the others.
const MAX_DELTAS: usize = 2000;

/// The answers that are made ahead, and the index of those whom a breadcrumb does not concern.
#[derive(Default)]
pub(super) struct Ahead {
    pub(super) hot: Hot,
    pub(super) interest: Arc<Interest>,
}

impl Deliver for Ahead {
    fn deliver(&self, breadcrumb: &Breadcrumb, newest: bool) {
        let (from, now) = (breadcrumb.from(), breadcrumb.cursor());
        let same_history = from.history == now.history && !breadcrumb.is_provisional();
        if newest && same_history && breadcrumb.deltas().len() <= MAX_DELTAS {
            self.hot.prepare(breadcrumb, |format| next_answer(breadcrumb, format));
        }
        self.interest.deliver(breadcrumb);
    }

    fn end(&self) {
        self.interest.end();
    }
}

/// The answer for those who stand at the breadcrumb before.
fn next_answer(breadcrumb: &Breadcrumb, format: Format) -> Option<Answer> {
    let reason = step_reason(breadcrumb);
    let draft = Draft::new(breadcrumb, breadcrumb.from(), Mode::Delta, reason, true);
    let bytes = draft.encode(format.media, breadcrumb.deltas()).into();
    // Who asks for a body that could not be made here is told why when it is tried again.
    let body = Body { bytes, coding: Coding::Identity }.compressed(format.coding).ok()?;
    Some(draft.answer(body, format))
}
