//! Answers for relays: a body for each breadcrumb, where other clients get a squash.
//!
//! A relay serves the clients of its upstream, which may come with a cursor at any of the upstream's breadcrumbs. So it
//! must have each of them, and not only the last one.

use super::answer::Draft;
use super::body_cache::{Admit, Span};
use super::catch_up::{Changes, Start};
use super::long_poll::Follower;
use super::{Account, Answer, Format, KeySelector, OneByOneWith, Reason, View, ViewError, changes};
use crate::cache::{Breadcrumb, Delta, Position, Step, StepsTo};
use crate::model::{Cursor, KeyStep};
use crate::wire::{MediaType, Mode};

/// The most breadcrumbs in one answer.
const MAX_BREADCRUMBS: usize = 1024;

/// About the most bytes of changes in one answer, beyond those of one breadcrumb.
const MAX_BYTES: usize = 4 << 20;

/// About the bytes of a step in a body, beside its key.
const STEP_BYTES: usize = 24;

/// The breadcrumbs of an answer, in order.
pub(super) struct OneByOne {
    parts: Vec<Part>,
    with: OneByOneWith,
}

struct Part {
    /// The cursor before it.
    from: Cursor,
    to: Breadcrumb,
    /// Its changes; `None` for all that the breadcrumb has.
    deltas: Option<Vec<Delta>>,
    /// The steps after `from`, for a relay that wants them: cursors of other replicas may lie between them.
    steps: Vec<KeyStep>,
}

impl OneByOne {
    /// The breadcrumbs from a cursor on that concern these keys; `None` if an ordinary answer says the same.
    pub(super) fn of(
        changes: &Changes,
        asked: Cursor,
        keys: &KeySelector,
        with: OneByOneWith,
    ) -> Option<Self> {
        let first = match &changes.start {
            Start::Status => return None,
            Start::Breadcrumb(_) => None,
            Start::Inside(within) | Start::Past(within, _) => Some(within),
        };
        // Under a prefix the checks are not those of the client's states.
        let wants_steps = with == OneByOneWith::Steps && keys.is_all();
        let has_steps = |crumb: &&Breadcrumb| wants_steps && !crumb.steps().is_empty();
        if first.into_iter().chain(&changes.later).nth(1).is_none()
            && !first.into_iter().chain(&changes.later).any(|crumb| has_steps(&crumb))
        {
            return None;
        }
        let steps_of = |steps: &[Step]| -> Vec<KeyStep> {
            let wanted = steps.iter().filter(|step| wants_steps && step.revision > changes.at.revision);
            wanted.map(KeyStep::from).collect()
        };
        let first = first.map(|within| {
            let steps = changes.start.steps();
            let deltas = changes::from_inside(changes.at, steps, within, &[], keys);
            (within, Some(deltas), steps_of(steps))
        });
        let selected = |crumb: &Breadcrumb| {
            let selected = crumb.deltas().iter().filter(|delta| keys.matches(delta.entry.key()));
            (!keys.is_all()).then(|| selected.cloned().collect::<Vec<_>>())
        };
        let later = changes.later.iter().map(|crumb| (crumb, selected(crumb), steps_of(crumb.steps())));
        let (mut parts, mut bytes, mut from) = (Vec::new(), 0, asked);
        for (crumb, deltas, steps) in first.into_iter().chain(later) {
            let is_quiet = deltas.as_ref().is_some_and(Vec::is_empty) && crumb.cursor().status == from.status;
            if is_quiet {
                continue;
            }
            bytes += changes::size_hint(deltas.as_deref().unwrap_or(crumb.deltas())) + size_of_steps(&steps);
            if !parts.is_empty() && (parts.len() == MAX_BREADCRUMBS || bytes > MAX_BYTES) {
                break;
            }
            // The client's name of the history, which may differ from ours.
            let to = Cursor { history: asked.history, ..crumb.cursor() };
            parts.push(Part { from, to: crumb.clone(), deltas, steps });
            from = to;
        }
        (!parts.is_empty()).then_some(Self { parts, with })
    }

    fn encode(&self, media: MediaType, all_keys: bool) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.size_hint());
        for part in &self.parts {
            let draft = Draft::new(&part.to, part.from, Mode::Delta, Reason::Next, all_keys);
            out.extend_from_slice(&draft.encode_with_steps(media, part.deltas(), &part.steps));
        }
        out
    }

    fn size_hint(&self) -> usize {
        let size = |part: &Part| changes::size_hint(part.deltas()) + size_of_steps(&part.steps) + 512;
        self.parts.iter().map(size).sum()
    }
}

impl Part {
    fn deltas(&self) -> &[Delta] {
        self.deltas.as_deref().unwrap_or(self.to.deltas())
    }
}

impl View {
    /// The steps that lead to a kept breadcrumb, for a relay that begins there: cursors of its upstream and of other replicas
    /// may lie between them. `None` while the feed still reads them back.
    ///
    /// # Errors
    /// As for [`kept`](Self::kept).
    pub async fn past(
        &self,
        cursor: Cursor,
        format: Format,
        account: &Account,
    ) -> Result<Option<Answer>, ViewError> {
        let to = match self.cache.locate(cursor) {
            Position::At(to) => to,
            _ => return Err(self.gone(cursor)),
        };
        let steps = match self.cache.steps_to(cursor, MAX_BYTES) {
            StepsTo::Known(steps) => steps,
            StepsTo::Awaited => return Ok(None),
            StepsTo::Gone => return Err(self.gone(cursor)),
        };
        let draft = Draft::new(&to, cursor, Mode::None, Reason::Kept, true);
        let span = Span::Past { to: to.sequence(), base: steps.first().map(|step| step.revision) };
        let encoding = draft.clone();
        let encode = move |admit: Admit<'_>| {
            let bytes = encoding.encode_with_steps(format.media, &[], &steps);
            admit(bytes.len()).then_some(bytes)
        };
        let body = self.bodies.get(span, &KeySelector::ALL, format, account, false, encode).await?;
        Ok(Some(draft.answer(body, format)))
    }

    /// The answer with these breadcrumbs.
    pub(super) async fn one_by_one(
        &self,
        follower: Follower<'_>,
        all: OneByOne,
    ) -> Result<Answer, ViewError> {
        let Follower { asked, keys, format, account, .. } = follower;
        let Some(last) = all.parts.last().map(|part| part.to.clone()) else {
            return Err(ViewError::Starting);
        };
        let draft = Draft::new(&last, asked, Mode::Delta, Reason::Behind, keys.is_all());
        let span = Span::OneByOne { from: asked, to: last.sequence(), with: all.with };
        let all_keys = keys.is_all();
        let encode =
            move |admit: Admit<'_>| admit(all.size_hint()).then(|| all.encode(format.media, all_keys));
        let body = self.bodies.get(span, keys, format, account, false, encode).await?;
        Ok(draft.answer(body, format))
    }
}

fn size_of_steps(steps: &[KeyStep]) -> usize {
    steps.iter().map(|step| step.key.as_bytes().len() + STEP_BYTES).sum()
}
