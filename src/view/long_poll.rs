//! Long polls: the changes after a cursor, as soon as there are any.

use super::answer::Draft;
use super::body_cache::{Admit, Span};
use super::catch_up::{CatchUp, Changes, furthest};
use super::fanout::{Item, NotSubscribed, Subscription, TrailEnded};
use super::one_by_one::OneByOne;
use super::upstream::UpstreamWatch;
use super::wake_rate::WakeRate;
use super::{Account, Answer, Format, KeySelector, Reason, View, ViewError, changes};
use crate::cache::{Breadcrumb, Delta, PastAwaited};
use crate::model::{Cursor, Sequence};
use crate::trail::BufferItem;

/// The result of a long poll.
#[derive(Debug)]
pub enum Next {
    /// Updates, or another sync status.
    Answer(Answer),
    /// No change for this client. The cursor may have advanced all the same.
    Nothing {
        /// The client's cursor now.
        cursor: Cursor,
        /// The newest breadcrumb.
        sequence: Sequence,
        /// The reason for which the wait ended.
        reason: Reason,
    },
}

/// A reader that follows some keys from a cursor.
#[derive(Clone, Copy)]
pub(super) struct Follower<'a> {
    /// The client's cursor. Its history may be another name of ours.
    pub(super) asked: Cursor,
    pub(super) keys: &'a KeySelector,
    pub(super) format: Format,
    /// The account that large answers are charged to.
    pub(super) account: &'a Account,
    /// Whether an answer leads from right before the change instead of from the client's cursor. Streams do that, so
    /// that their readers share one body.
    pub(super) advances: bool,
    /// Whether each breadcrumb is a body of its own and none is squashed, for a relay.
    pub(super) one_by_one: Option<OneByOneWith>,
}

/// What an answer for a relay holds beside a body for each breadcrumb.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum OneByOneWith {
    /// Nothing.
    Deltas,
    /// The steps of breadcrumbs that cover several revisions.
    Steps,
}

/// The event that a follower waits for. It keeps no breadcrumb in memory.
enum Wait<'a> {
    /// Any breadcrumb.
    Breadcrumb(BufferItem<Item>),
    /// A breadcrumb that changes one of some keys.
    Keys(Subscription),
    /// A breadcrumb that reaches the cursor, or word of the upstream that it is below the cursor.
    Ahead(BufferItem<Item>, &'a mut UpstreamWatch),
    /// The history before the newest breadcrumb.
    Past(BufferItem<Item>, Box<PastAwaited>),
    /// No event: the outcome is known.
    Known(WaitOutcome),
}

/// The outcome of a wait.
#[derive(Clone, Copy)]
enum WaitOutcome {
    /// Something happened that may concern this client.
    Recheck,
    /// Something happened, and none of the client's keys changed before this cursor.
    AdvancedWithoutChange(Cursor),
    /// Nothing will happen, or not in time.
    Ended(Reason),
}

/// The changes of more updates than this are collected on a worker only.
const MANY_CHANGES: usize = 4096;

impl View {
    /// All changes from the cursor up to now. If there are none it waits until `over` resolves, with the reason.
    /// Cancel-safe.
    ///
    /// Changes of other keys do not wake the waiter, but the cursor of [`Next::Nothing`] moves past them. A cursor ahead
    /// of this daemon waits; it never gets older data.
    ///
    /// # Errors
    /// [`ViewError::Gone`], [`ViewError::Starting`], [`ViewError::OverBudget`], [`ViewError::Encoding`].
    pub fn next<'a>(
        &'a self,
        cursor: Cursor,
        keys: &'a KeySelector,
        format: Format,
        account: &'a Account,
        over: impl Future<Output = Reason>,
    ) -> impl Future<Output = Result<Next, ViewError>> {
        // Not an `async fn`, whose future would keep the arguments beside the follower.
        let follower = Follower { asked: cursor, keys, format, account, advances: false, one_by_one: None };
        self.follow(follower, over)
    }

    /// The same for a relay: instead of a squash, an answer has a body for each breadcrumb, one after the other. If there
    /// are many, only the first ones.
    ///
    /// # Errors
    /// As for [`next`](Self::next).
    pub(crate) fn next_one_by_one<'a>(
        &'a self,
        cursor: Cursor,
        keys: &'a KeySelector,
        format: Format,
        with: OneByOneWith,
        account: &'a Account,
        over: impl Future<Output = Reason>,
    ) -> impl Future<Output = Result<Next, ViewError>> {
        let one_by_one = Some(with);
        let follower = Follower { asked: cursor, keys, format, account, advances: false, one_by_one };
        self.follow(follower, over)
    }

    pub(super) async fn follow(
        &self,
        mut follower: Follower<'_>,
        over: impl Future<Output = Reason>,
    ) -> Result<Next, ViewError> {
        let mut over = std::pin::pin!(over);
        let _waiting = self.wake_rate.as_deref().map(WakeRate::add_waiter);
        let mut at = self.adopt(follower.asked);
        let mut upstream: Option<Box<UpstreamWatch>> = None;
        let mut at_once = true;
        loop {
            // The view's trail first, then the cache: a breadcrumb that is newer than `newest` wakes this trail item.
            let delivered = self.fanout.newest();
            // One answer covers all breadcrumbs since the wake.
            let newest = self.cache.current_breadcrumb();
            let sequence = newest.sequence();
            let mut wait = match self.catch_up(follower.asked, at, &newest)? {
                CatchUp::Changes(changes)
                    if let Some(with) = follower.one_by_one
                        && let Some(all) = OneByOne::of(&changes, follower.asked, follower.keys, with) =>
                {
                    let answer = Box::pin(self.one_by_one(follower, all)).await?;
                    return Ok(Next::Answer(Answer { at_once, ..answer }));
                }
                CatchUp::Changes(changes) => match self.cached_answer(follower, &changes, &newest) {
                    Some(answer) => return answered(Answer { at_once, ..answer }, follower).await,
                    None => {
                        let deltas = (!follower.keys.is_all()).then(|| changes.of(follower.keys));
                        let quiet = deltas.as_ref().is_some_and(Vec::is_empty);
                        if !quiet || at.status != newest.cursor().status {
                            // Boxed to keep every waiter small.
                            let answer =
                                Box::pin(self.encoded_answer(follower, changes, deltas, newest)).await?;
                            return Ok(Next::Answer(Answer { at_once, ..answer }));
                        }
                        at = newest.cursor();
                        self.wait_for_change(follower, delivered, sequence)
                    }
                },
                CatchUp::UpToDate => self.wait_for_change(follower, delivered, sequence),
                CatchUp::Ahead => {
                    let upstream = upstream.get_or_insert_with(|| Box::new(self.watch_upstream()));
                    if upstream.is_below(at) {
                        return Err(self.gone(follower.asked));
                    }
                    delivered.map_or_else(|_| Wait::ended(), |item| Wait::Ahead(item, upstream))
                }
                CatchUp::PastAwaited(past) => {
                    delivered.map_or_else(|_| Wait::ended(), |item| Wait::Past(item, Box::new(past)))
                }
            };
            drop(newest);
            let outcome = tokio::select! {
                biased;
                outcome = wait.outcome() => outcome,
                reason = &mut over => WaitOutcome::Ended(reason),
            };
            if let (Some(rate), WaitOutcome::Recheck | WaitOutcome::AdvancedWithoutChange(_)) =
                (&self.wake_rate, outcome)
            {
                Box::pin(rate.delay()).await;
            }
            match outcome {
                WaitOutcome::Recheck => {}
                WaitOutcome::AdvancedWithoutChange(before) => {
                    if let Some(answer) = self.answer_of_wait(follower, sequence, before, &wait) {
                        return answered(Answer { at_once: false, ..answer }, follower).await;
                    }
                    at = furthest(at, before);
                }
                WaitOutcome::Ended(reason) => {
                    if let Wait::Ahead(_, upstream) = &mut wait
                        && Box::pin(upstream.confirms_below(at)).await
                    {
                        return Err(self.gone(follower.asked));
                    }
                    let moved = wait.unchanged_until().map_or(at, |until| furthest(at, until));
                    let cursor = Cursor { history: follower.asked.history, ..moved };
                    return Ok(Next::Nothing { cursor, sequence, reason });
                }
            }
            if follower.advances {
                follower.asked = Cursor { history: follower.asked.history, ..at };
            }
            at_once = false;
        }
    }

    /// The answer for a stream that was encoded before the wake, unless newer breadcrumbs have come since. The stream has
    /// `seen` this breadcrumb: the fan-out may have been behind it, and then touches the slot with one that is not new.
    fn answer_of_wait(
        &self,
        follower: Follower<'_>,
        seen: Sequence,
        before: Cursor,
        wait: &Wait<'_>,
    ) -> Option<Answer> {
        let Wait::Keys(subscription) = wait else { return None };
        let answer = subscription.answer(follower.format).filter(|_| follower.advances)?;
        let is_newest = answer.sequence > seen && answer.sequence == self.cache.newest_sequence();
        // A client with another name of the history needs a header of its own.
        let is_ours = before.history == follower.asked.history;
        (is_newest && is_ours).then(|| answer.clone())
    }

    /// The answer, if it is encoded already: by the fan-out, or for another client with the same cursor.
    fn cached_answer(
        &self,
        follower: Follower<'_>,
        changes: &Changes,
        newest: &Breadcrumb,
    ) -> Option<Answer> {
        let Follower { asked, keys, format, .. } = follower;
        if keys.is_all()
            && let Some(answer) = self.fanout.answer(asked, newest.sequence(), format)
        {
            return Some(answer);
        }
        let span = Span::Updates { from: asked, to: newest.sequence() };
        let body = self.bodies.cached(span, keys, format)?;
        let (mode, reason) = changes.mode();
        Some(Draft::new(newest, asked, mode, reason, keys.is_all()).answer(body, format))
    }

    /// The wait of a follower that has seen everything up to `seen`. `delivered` was the newest item of the trail before
    /// that breadcrumb was read.
    fn wait_for_change(
        &self,
        follower: Follower<'_>,
        delivered: Result<BufferItem<Item>, TrailEnded>,
        seen: Sequence,
    ) -> Wait<'static> {
        let Ok(delivered) = delivered else { return Wait::ended() };
        if follower.keys.is_all() {
            self.fanout.note_demand(follower.format, seen);
            return Wait::Breadcrumb(delivered);
        }
        // Drops the trail item: breadcrumbs of other keys do not wake this follower.
        let stream = follower.advances.then_some(follower.format);
        match self.fanout.subscriptions.subscribe(follower.keys, seen, stream) {
            Ok(subscription) => Wait::Keys(subscription),
            Err(NotSubscribed::Behind) => Wait::Known(WaitOutcome::Recheck),
            Err(NotSubscribed::Ended) => Wait::ended(),
        }
    }

    async fn encoded_answer(
        &self,
        follower: Follower<'_>,
        changes: Changes,
        deltas: Option<Vec<Delta>>,
        newest: Breadcrumb,
    ) -> Result<Answer, ViewError> {
        let Follower { asked, keys, format, account, .. } = follower;
        let (mode, reason) = changes.mode();
        let draft = Draft::new(&newest, asked, mode, reason, keys.is_all());
        let span = Span::Updates { from: asked, to: draft.sequence };
        let needs_worker = changes.most_changes() > MANY_CHANGES;
        let encoding = draft.clone();
        let encode = move |admit: Admit<'_>| {
            let all;
            let deltas = match &deltas {
                Some(deltas) => deltas,
                None => {
                    all = changes.of(&KeySelector::ALL);
                    &all
                }
            };
            admit(changes::size_hint(deltas)).then(|| encoding.encode(format.media, deltas))
        };
        let body = self.bodies.get(span, keys, format, account, needs_worker, encode).await?;
        Ok(draft.answer(body, format))
    }
}

/// The answer for the follower. One that is large waits for room unless another request holds its body.
async fn answered(answer: Answer, follower: Follower<'_>) -> Result<Next, ViewError> {
    if !answer.body.is_counted() {
        return Ok(Next::Answer(answer));
    }
    // Boxed to keep every waiter small.
    let claim = &mut follower.account.claim();
    Ok(Next::Answer(Box::pin(answer.for_request(claim)).await?))
}

impl Wait<'_> {
    fn ended() -> Self {
        Self::Known(WaitOutcome::Ended(Reason::ShuttingDown))
    }

    /// Resolves when the wait is over. Cancel-safe.
    async fn outcome(&mut self) -> WaitOutcome {
        match self {
            Self::Breadcrumb(newest) => next_item(newest).await,
            Self::Keys(subscription) => match subscription.touched().await {
                Some(before) => WaitOutcome::AdvancedWithoutChange(before),
                None => WaitOutcome::Ended(Reason::ShuttingDown),
            },
            // Boxed: the rare waits do not make the usual ones larger.
            Self::Ahead(newest, upstream) => Box::pin(next_item_or(newest, upstream.sighting())).await,
            Self::Past(newest, past) => Box::pin(next_item_or(newest, past.changed())).await,
            Self::Known(outcome) => *outcome,
        }
    }

    /// The latest cursor up to which none of the follower's keys changed, if it is known.
    fn unchanged_until(&self) -> Option<Cursor> {
        match self {
            Self::Keys(subscription) => subscription.untouched_until(),
            Self::Breadcrumb(_) | Self::Ahead(..) | Self::Past(..) | Self::Known(_) => None,
        }
    }
}

async fn next_item(newest: &BufferItem<Item>) -> WaitOutcome {
    match newest.next_ref().await {
        Ok(_) => WaitOutcome::Recheck,
        Err(_) => WaitOutcome::Ended(Reason::ShuttingDown),
    }
}

async fn next_item_or(newest: &BufferItem<Item>, event: impl Future<Output = ()>) -> WaitOutcome {
    tokio::select! {
        biased;
        outcome = next_item(newest) => outcome,
        () = event => WaitOutcome::Recheck,
    }
}
