//! Answers for relays: a body for each breadcrumb, where other clients get a squash.
//!
//! A relay serves the clients of its upstream, which may come with a cursor at any of the upstream's breadcrumbs. So it
//! must have each of them, and not only the last one.

use super::answer::Draft;
use super::body_cache::{Admit, Span};
use super::catch_up::{Changes, Start};
use super::long_poll::Follower;
use super::{Answer, KeySelector, Reason, View, ViewError, changes};
use crate::cache::{Breadcrumb, Delta};
use crate::model::Cursor;
use crate::wire::{MediaType, Mode};

/// The most breadcrumbs in one answer.
const MAX_BREADCRUMBS: usize = 1024;

/// About the most bytes of changes in one answer, beyond those of one breadcrumb.
const MAX_BYTES: usize = 4 << 20;

/// The breadcrumbs of an answer, in order.
pub(super) struct OneByOne(Vec<Part>);

struct Part {
    /// The cursor before it.
    from: Cursor,
    to: Breadcrumb,
    /// Its changes; `None` for all that the breadcrumb has.
    deltas: Option<Vec<Delta>>,
}

impl OneByOne {
    /// The breadcrumbs from a cursor on that concern these keys; `None` if there are not several.
    pub(super) fn of(changes: &Changes, asked: Cursor, keys: &KeySelector) -> Option<Self> {
        let first = match &changes.start {
            Start::Status => return None,
            Start::Breadcrumb(_) => None,
            Start::Inside(within) | Start::Past(within, _) => Some(within),
        };
        first.into_iter().chain(&changes.later).nth(1)?;
        let first = first.map(|within| {
            let deltas = changes::from_inside(changes.at, changes.start.steps(), within, &[], keys);
            (within, Some(deltas))
        });
        let selected = |crumb: &Breadcrumb| {
            let selected = crumb.deltas().iter().filter(|delta| keys.matches(delta.entry.key()));
            (!keys.is_all()).then(|| selected.cloned().collect::<Vec<_>>())
        };
        let later = changes.later.iter().map(|crumb| (crumb, selected(crumb)));
        let (mut parts, mut bytes, mut from) = (Vec::new(), 0, asked);
        for (crumb, deltas) in first.into_iter().chain(later) {
            let is_quiet = deltas.as_ref().is_some_and(Vec::is_empty) && crumb.cursor().status == from.status;
            if is_quiet {
                continue;
            }
            bytes += changes::size_hint(deltas.as_deref().unwrap_or(crumb.deltas()));
            if !parts.is_empty() && (parts.len() == MAX_BREADCRUMBS || bytes > MAX_BYTES) {
                break;
            }
            // The client's name of the history, which may differ from ours.
            let to = Cursor { history: asked.history, ..crumb.cursor() };
            parts.push(Part { from, to: crumb.clone(), deltas });
            from = to;
        }
        (!parts.is_empty()).then_some(Self(parts))
    }

    fn encode(&self, media: MediaType, all_keys: bool) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.size_hint());
        for part in &self.0 {
            let draft = Draft::new(&part.to, part.from, Mode::Delta, Reason::Next, all_keys);
            out.extend_from_slice(&draft.encode(media, part.deltas()));
        }
        out
    }

    fn size_hint(&self) -> usize {
        self.0.iter().map(|part| changes::size_hint(part.deltas()) + 512).sum()
    }
}

impl Part {
    fn deltas(&self) -> &[Delta] {
        self.deltas.as_deref().unwrap_or(self.to.deltas())
    }
}

impl View {
    /// The answer with these breadcrumbs.
    pub(super) async fn one_by_one(
        &self,
        follower: Follower<'_>,
        all: OneByOne,
    ) -> Result<Answer, ViewError> {
        let Follower { asked, keys, format, account, .. } = follower;
        let Some(last) = all.0.last().map(|part| part.to.clone()) else { return Err(ViewError::Starting) };
        let draft = Draft::new(&last, asked, Mode::Delta, Reason::Behind, keys.is_all());
        let span = Span::OneByOne { from: asked, to: last.sequence() };
        let all_keys = keys.is_all();
        let encode =
            move |admit: Admit<'_>| admit(all.size_hint()).then(|| all.encode(format.media, all_keys));
        let body = self.bodies.get(span, keys, format, account, false, encode).await?;
        Ok(draft.answer(body, format))
    }
}
