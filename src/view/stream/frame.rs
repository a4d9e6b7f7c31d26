//! What is in the lists: encoded breadcrumbs.

use crate::cache::{Breadcrumb, Delta};
use crate::trail::stream::Event;
use crate::view::bodies::Body;
use crate::view::follow::Draft;
use crate::view::way::step_reason;
use crate::view::{Answer, OwnedScope, Scope};
use crate::wire::{Coding, Mode};

use super::FORMAT;

/// One thing to tell the readers of a subject. A clone is a few reference counts.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) subject: OwnedScope,
    pub(super) told: Telling,
}

/// See [`Frame`].
#[derive(Clone, Debug)]
pub(super) enum Telling {
    /// A snapshot, or what changed from one breadcrumb to the next.
    Body(Answer),
    /// What happened is too much for a list, or does not continue it: each reader shall look how it
    /// gets from its cursor to the newest breadcrumb.
    Look,
}

impl Frame {
    /// The step from the breadcrumb before. `deltas` are those that the subject is about.
    pub(super) fn step(breadcrumb: &Breadcrumb, subject: OwnedScope, deltas: &[Delta]) -> Self {
        let whole = Scope::from(&subject).is_all();
        let draft = Draft::new(breadcrumb, breadcrumb.from(), Mode::Delta, step_reason(breadcrumb), whole);
        let bytes = draft.encode(FORMAT.media, deltas).into();
        let answer = draft.answer(Body { bytes, coding: Coding::Identity }, FORMAT);
        Self { subject, told: Telling::Body(answer) }
    }

    pub(super) fn look(subject: OwnedScope) -> Self {
        Self { subject, told: Telling::Look }
    }
}

impl Event for Frame {
    type Subject = OwnedScope;

    fn subjects(&self) -> impl IntoIterator<Item = OwnedScope> {
        [self.subject.clone()]
    }

    fn bytes(&self) -> usize {
        let body = match &self.told {
            Telling::Body(answer) => answer.body.len(),
            Telling::Look => 0,
        };
        size_of::<Self>() + usize::try_from(body).unwrap_or(usize::MAX / 2)
    }
}
