//! Long polls: what comes after a cursor, now or as soon as there is anything.

use super::answer::Draft;
use super::body_cache::Subject;
use super::catch_up::{CatchUp, Changes, furthest};
use super::fanout::{Item, NotSubscribed, Subscription};
use super::upstream::UpstreamWatch;
use super::wake_rate::WakeRate;
use super::{Answer, Format, KeySelector, Reason, View, ViewError};
use crate::cache::{Breadcrumb, Delta, PastAwaited};
use crate::model::{Cursor, Sequence};
use crate::trail::BufferItem;

/// What came of waiting for the next breadcrumb.
#[derive(Debug)]
pub enum Next {
    /// There are updates, or another status.
    Answer(Answer),
    /// Nothing came for this client; the cursor may have moved on all the same.
    Nothing {
        /// Where the client stands now.
        cursor: Cursor,
        /// The newest breadcrumb.
        sequence: Sequence,
        /// Why the wait ended.
        reason: Reason,
    },
}

/// Somebody who follows.
#[derive(Clone, Copy)]
pub(super) struct Follower<'a> {
    /// As it was asked with; its history may be another name of ours.
    pub(super) asked: Cursor,
    pub(super) keys: &'a KeySelector,
    pub(super) format: Format,
    /// An answer leads from right before the change, not from the cursor that was asked with: for streams, whose
    /// readers can then share it.
    pub(super) advances: bool,
}

/// What a follower waits for. It keeps no breadcrumb in memory.
enum Wait<'a> {
    /// Any breadcrumb.
    Breadcrumb(BufferItem<Item>),
    /// One that changes some keys.
    Keys(Subscription),
    /// This daemon, which is behind the client.
    Replica(BufferItem<Item>, &'a mut UpstreamWatch),
    /// What happened before the newest breadcrumb.
    Past(BufferItem<Item>, Box<PastAwaited>),
    /// There is no need to wait.
    Nothing(WaitOutcome),
}

/// Why a wait ended.
#[derive(Clone, Copy)]
enum WaitOutcome {
    /// Something has come, perhaps for this client.
    LookAgain,
    /// Something has come, and nothing for this client before this cursor.
    AdvancedWithoutChange(Cursor),
    /// Nothing will come, or not in time.
    Over(Reason),
}

impl View {
    /// Everything after the cursor up to now; waits for it until `over` resolves, which says why.
    /// Cancel-safe.
    ///
    /// Updates of other keys do not count and do not even wake the waiter, but the cursor of [`Next::Nothing`]
    /// moves past them. A cursor ahead of this daemon waits; it never gets older data.
    ///
    /// # Errors
    /// [`ViewError::Gone`], [`ViewError::Starting`], [`ViewError::Encoding`].
    pub fn next<'a>(
        &'a self,
        cursor: Cursor,
        keys: &'a KeySelector,
        format: Format,
        over: impl Future<Output = Reason>,
    ) -> impl Future<Output = Result<Next, ViewError>> {
        // Not an `async fn`: it would keep its arguments beside what is made of them.
        self.follow(Follower { asked: cursor, keys, format, advances: false }, over)
    }

    pub(super) async fn follow(
        &self,
        mut follower: Follower<'_>,
        over: impl Future<Output = Reason>,
    ) -> Result<Next, ViewError> {
        let mut over = std::pin::pin!(over);
        let _waiting = self.wake_rate.as_deref().map(WakeRate::wait);
        let mut at = self.adopt(follower.asked);
        let mut upstream: Option<Box<UpstreamWatch>> = None;
        let mut at_once = true;
        loop {
            // First the view's trail, then the cache: what the cache has not shown by now comes on the trail.
            let delivered = self.fanout.newest();
            // Several may have come since the wake: one answer covers them all.
            let newest = self.cache.current_breadcrumb();
            let sequence = newest.sequence();
            let mut wait = match self.catch_up(follower.asked, at, &newest)? {
                CatchUp::Changes(changes) => match self.answered(follower, &changes, &newest) {
                    Some(answer) => return Ok(Next::Answer(Answer { at_once, ..answer })),
                    None => {
                        let deltas = (!follower.keys.is_all()).then(|| changes.of(follower.keys));
                        let quiet = deltas.as_ref().is_some_and(Vec::is_empty);
                        if !quiet || at.status != newest.cursor().status {
                            // Boxed: what is rarely needed shall not make every waiter larger.
                            let answer = Box::pin(self.updates(follower, changes, deltas, newest)).await?;
                            return Ok(Next::Answer(Answer { at_once, ..answer }));
                        }
                        at = newest.cursor();
                        self.wait_for_news(follower, delivered, sequence)
                    }
                },
                CatchUp::UpToDate => self.wait_for_news(follower, delivered, sequence),
                CatchUp::Ahead => {
                    let upstream = upstream.get_or_insert_with(|| Box::new(self.watch_upstream()));
                    if upstream.is_below(at) {
                        return Err(self.gone(follower.asked));
                    }
                    delivered.map_or_else(|_| Wait::ended(), |item| Wait::Replica(item, upstream))
                }
                CatchUp::PastAwaited(past) => {
                    delivered.map_or_else(|_| Wait::ended(), |item| Wait::Past(item, Box::new(past)))
                }
            };
            drop(newest);
            let outcome = tokio::select! {
                biased;
                outcome = wait.outcome() => outcome,
                reason = &mut over => WaitOutcome::Over(reason),
            };
            if let (Some(rate), WaitOutcome::LookAgain | WaitOutcome::AdvancedWithoutChange(_)) =
                (&self.wake_rate, outcome)
            {
                Box::pin(rate.turn()).await;
            }
            match outcome {
                WaitOutcome::LookAgain => {}
                WaitOutcome::AdvancedWithoutChange(before) => at = furthest(at, before),
                WaitOutcome::Over(reason) => {
                    if let Wait::Replica(_, upstream) = &mut wait
                        && Box::pin(upstream.says_it_is_below(at)).await
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

    /// The answer, if it was made already: before the wake, or for somebody who asked the same.
    fn answered(&self, follower: Follower<'_>, changes: &Changes, newest: &Breadcrumb) -> Option<Answer> {
        let Follower { asked, keys, format, .. } = follower;
        if keys.is_all()
            && let Some(answer) = self.fanout.answer(asked, newest.sequence(), format)
        {
            return Some(answer);
        }
        let subject = Subject::Updates { from: asked, to: newest.sequence() };
        let body = self.bodies.made(subject, keys, format)?;
        let (mode, reason) = changes.mode();
        Some(Draft::new(newest, asked, mode, reason, keys.is_all()).answer(body, format))
    }

    /// `delivered` was the newest item of the trail before the newest breadcrumb was looked at.
    fn wait_for_news(
        &self,
        follower: Follower<'_>,
        delivered: Result<BufferItem<Item>, super::fanout::Ended>,
        looked_at: Sequence,
    ) -> Wait<'static> {
        let Ok(delivered) = delivered else { return Wait::ended() };
        if follower.keys.is_all() {
            self.fanout.want(follower.format, looked_at);
            return Wait::Breadcrumb(delivered);
        }
        // The trail is let go: breadcrumbs of other keys do not wake this one.
        match self.fanout.subscriptions.subscribe(follower.keys, looked_at) {
            Ok(subscription) => Wait::Keys(subscription),
            Err(NotSubscribed::NotUpToDate) => Wait::Nothing(WaitOutcome::LookAgain),
            Err(NotSubscribed::Ended) => Wait::ended(),
        }
    }

    async fn updates(
        &self,
        follower: Follower<'_>,
        changes: Changes,
        deltas: Option<Vec<Delta>>,
        newest: Breadcrumb,
    ) -> Result<Answer, ViewError> {
        let Follower { asked, keys, format, .. } = follower;
        let (mode, reason) = changes.mode();
        let draft = Draft::new(&newest, asked, mode, reason, keys.is_all());
        let subject = Subject::Updates { from: asked, to: draft.sequence };
        let writing = draft.clone();
        let encode = move || {
            let deltas = deltas.unwrap_or_else(|| changes.of(&KeySelector::ALL));
            writing.encode(format.media, &deltas)
        };
        let body = self.bodies.get(subject, keys, format, encode).await?;
        Ok(draft.answer(body, format))
    }
}

impl Wait<'_> {
    fn ended() -> Self {
        Self::Nothing(WaitOutcome::Over(Reason::ShuttingDown))
    }

    /// Resolves when the wait is over. Cancel-safe.
    async fn outcome(&mut self) -> WaitOutcome {
        match self {
            Self::Breadcrumb(newest) => follows(newest).await,
            Self::Keys(subscription) => match subscription.touched().await {
                Some(before) => WaitOutcome::AdvancedWithoutChange(before),
                None => WaitOutcome::Over(Reason::ShuttingDown),
            },
            // Boxed, so that the rare waits do not make the usual ones larger.
            Self::Replica(newest, upstream) => Box::pin(either(newest, upstream.seen())).await,
            Self::Past(newest, past) => Box::pin(either(newest, past.changed())).await,
            Self::Nothing(outcome) => *outcome,
        }
    }

    /// Up to where nothing has happened that concerns the follower, where that is known.
    fn unchanged_until(&self) -> Option<Cursor> {
        match self {
            Self::Keys(subscription) => subscription.untouched_until(),
            Self::Breadcrumb(_) | Self::Replica(..) | Self::Past(..) | Self::Nothing(_) => None,
        }
    }
}

async fn follows(newest: &BufferItem<Item>) -> WaitOutcome {
    match newest.next_ref().await {
        Ok(_) => WaitOutcome::LookAgain,
        Err(_) => WaitOutcome::Over(Reason::ShuttingDown),
    }
}

async fn either(newest: &BufferItem<Item>, known: impl Future<Output = ()>) -> WaitOutcome {
    tokio::select! {
        biased;
        outcome = follows(newest) => outcome,
        () = known => WaitOutcome::LookAgain,
    }
}
