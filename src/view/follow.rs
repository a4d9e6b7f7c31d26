//! Following: what comes after a cursor, now or as soon as there is anything.

use std::time::SystemTime;

use super::answer::{end, header};
use super::bodies::{Body, Subject};
use super::interest::Registered;
use super::pace::Pace;
use super::upstream::UpstreamWatch;
use super::waiting::{Waiting, Woken};
use super::way::{Found, Way};
use super::{Answer, Format, Reason, Scope, View, ViewError, changes};
use crate::cache::{Breadcrumb, Delta, PastAwaited};
use crate::model::{Cursor, Sequence};
use crate::wire::{BodyWriter, Header, MediaType, Mode};

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

/// What there is to say of now.
pub(super) enum UpToNow {
    /// There are updates, or another status.
    Answer(Answer),
    /// Nothing for this client up to this cursor.
    Nothing {
        cursor: Cursor,
        /// The newest breadcrumb.
        sequence: Sequence,
    },
    /// That has to be waited for: see [`View::next`].
    NotYet,
}

/// Somebody who follows.
#[derive(Clone, Copy)]
struct Follower<'a> {
    /// As it was asked with; its history may be a cousin of ours.
    asked: Cursor,
    scope: Scope<'a>,
    format: Format,
}

/// One look at the newest breadcrumb.
enum Look {
    /// The answer is there already.
    Ready(Answer),
    /// There is a way to it; where not all keys are wanted, what changed on it is known already.
    Changed(Way, Option<Vec<Delta>>),
    /// Nothing for this client up to this cursor.
    Quiet(Cursor),
    /// The client is ahead of this daemon.
    Ahead,
    /// What lies between the client and a breadcrumb is still being found out.
    Awaited(PastAwaited),
}

impl View {
    /// Everything after the cursor up to now; waits for it until `over` resolves, which says why.
    /// Cancel-safe.
    ///
    /// Updates outside of the scope do not count and do not even wake the waiter, but the
    /// cursor of [`Next::Nothing`] moves past them. A cursor ahead of this daemon waits; it never
    /// gets older data.
    ///
    /// # Errors
    /// [`ViewError::Gone`], [`ViewError::Starting`].
    pub fn next<'a>(
        &'a self,
        cursor: Cursor,
        scope: impl Into<Scope<'a>>,
        format: Format,
        over: impl Future<Output = Reason>,
    ) -> impl Future<Output = Result<Next, ViewError>> {
        // Not an `async fn`: it would keep its arguments beside what is made of them.
        self.follow(Follower { asked: cursor, scope: scope.into(), format }, over)
    }

    async fn follow(
        &self,
        follower: Follower<'_>,
        over: impl Future<Output = Reason>,
    ) -> Result<Next, ViewError> {
        let mut over = std::pin::pin!(over);
        let _waiting = self.pace.as_deref().map(Pace::wait);
        let mut at = self.adopt(follower.asked);
        let mut upstream: Option<Box<UpstreamWatch>> = None;
        let mut at_once = true;
        loop {
            // Several may have come since the wake: one answer covers them all.
            let newest = self.cache.current_breadcrumb();
            let sequence = newest.sequence();
            let mut waiting = match self.look(follower, at, &newest)? {
                Look::Ready(answer) => return Ok(Next::Answer(Answer { at_once, ..answer })),
                Look::Changed(way, deltas) => {
                    // Boxed: what is rarely needed shall not make every waiter larger.
                    let answer = Box::pin(self.updates(follower, way, deltas, newest)).await?;
                    return Ok(Next::Answer(Answer { at_once, ..answer }));
                }
                Look::Quiet(moved) => {
                    at = moved;
                    self.waiting_for_news(follower, newest)
                }
                Look::Ahead => {
                    let upstream = upstream.get_or_insert_with(|| Box::new(self.watch_upstream()));
                    if upstream.is_below(at) {
                        return Err(self.gone(follower.asked));
                    }
                    Waiting::ToCatchUp(newest, upstream)
                }
                Look::Awaited(past) => Waiting::ForThePast(newest, Box::new(past)),
            };
            let woken = tokio::select! {
                biased;
                woken = waiting.woken() => woken,
                reason = &mut over => Woken::Over(reason),
            };
            if let (Some(pace), Woken::Look | Woken::Untouched(_)) = (&self.pace, woken) {
                Box::pin(pace.turn()).await;
            }
            match woken {
                Woken::Look => {}
                Woken::Untouched(before) => at = furthest(at, before),
                Woken::Over(reason) => {
                    if let Waiting::ToCatchUp(_, upstream) = &mut waiting
                        && Box::pin(upstream.says_it_is_below(at)).await
                    {
                        return Err(self.gone(follower.asked));
                    }
                    let moved = waiting.untouched_until().map_or(at, |until| furthest(at, until));
                    let cursor = Cursor { history: follower.asked.history, ..moved };
                    return Ok(Next::Nothing { cursor, sequence, reason });
                }
            }
            at_once = false;
        }
    }

    /// Everything after the cursor up to now, as [`View::next`] has it, without waiting.
    pub(super) async fn up_to_now(
        &self,
        cursor: Cursor,
        scope: Scope<'_>,
        format: Format,
    ) -> Result<UpToNow, ViewError> {
        let follower = Follower { asked: cursor, scope, format };
        let newest = self.cache.current_breadcrumb();
        match self.look(follower, self.adopt(cursor), &newest)? {
            Look::Ready(answer) => Ok(UpToNow::Answer(answer)),
            Look::Changed(way, deltas) => {
                Ok(UpToNow::Answer(self.updates(follower, way, deltas, newest).await?))
            }
            Look::Quiet(moved) => {
                let cursor = Cursor { history: cursor.history, ..moved };
                Ok(UpToNow::Nothing { cursor, sequence: newest.sequence() })
            }
            Look::Ahead | Look::Awaited(_) => Ok(UpToNow::NotYet),
        }
    }

    fn look(&self, follower: Follower<'_>, at: Cursor, newest: &Breadcrumb) -> Result<Look, ViewError> {
        let Follower { asked, scope, format } = follower;
        if newest.is_provisional() {
            return Err(ViewError::Starting);
        }
        let now = newest.cursor();
        if at.history != now.history {
            return Err(self.gone(asked));
        }
        if at.revision > now.revision {
            return Ok(Look::Ahead);
        }
        if at == now {
            return Ok(Look::Quiet(at));
        }
        if let Some(answer) = self.ready(follower, newest) {
            return Ok(Look::Ready(answer));
        }
        let way = match self.way(at, newest).map_err(|_| self.gone(asked))? {
            Found::Way(way) => way,
            Found::Awaited(past) => return Ok(Look::Awaited(past)),
        };
        if scope.is_all() {
            return Ok(Look::Changed(way, None));
        }
        let subject = Subject::Updates { from: asked, to: newest.sequence() };
        if let Some(body) = self.bodies.made(subject, scope, format) {
            // Somebody with the same scope has worked it out already.
            let (mode, reason) = way.name();
            return Ok(Look::Ready(Draft::new(newest, asked, mode, reason, false).answer(body, format)));
        }
        let deltas = way.deltas(newest, scope);
        if deltas.is_empty() && at.status == now.status {
            return Ok(Look::Quiet(now));
        }
        Ok(Look::Changed(way, Some(deltas)))
    }

    /// The answer that was made ahead.
    fn ready(&self, follower: Follower<'_>, newest: &Breadcrumb) -> Option<Answer> {
        let Follower { asked, scope: Scope::All, format } = follower else { return None };
        self.ahead.hot.with(asked, newest.sequence(), format, Answer::clone)
    }

    fn waiting_for_news(&self, follower: Follower<'_>, newest: Breadcrumb) -> Waiting<'static> {
        // The breadcrumb is let go: a waiter who is not woken must not keep it.
        let register = |prefix| self.ahead.interest.register(prefix, newest.sequence());
        match follower.scope {
            Scope::All => {
                self.ahead.hot.want(follower.format, newest.sequence());
                Waiting::ForNews(newest)
            }
            Scope::Prefix(prefix) => match register(prefix) {
                Registered::Waiting(registration) => Waiting::ForPrefix(registration),
                Registered::Not(woken) => Waiting::ForNothing(woken),
            },
            Scope::Prefixes(prefixes) => {
                let mut all = Vec::with_capacity(prefixes.len());
                for prefix in prefixes.iter() {
                    match register(prefix) {
                        Registered::Waiting(registration) => all.push(registration),
                        Registered::Not(woken) => return Waiting::ForNothing(woken),
                    }
                }
                Waiting::ForPrefixes(all)
            }
        }
    }

    async fn updates(
        &self,
        follower: Follower<'_>,
        way: Way,
        deltas: Option<Vec<Delta>>,
        newest: Breadcrumb,
    ) -> Result<Answer, ViewError> {
        let Follower { asked, scope, format } = follower;
        let (mode, reason) = way.name();
        let draft = Draft::new(&newest, asked, mode, reason, scope.is_all());
        let subject = Subject::Updates { from: asked, to: draft.sequence };
        let writing = draft.clone();
        let encode = move || {
            let deltas = deltas.unwrap_or_else(|| way.deltas(&newest, Scope::All));
            writing.encode(format.media, &deltas)
        };
        let body = self.bodies.get(subject, scope, format, encode).await?;
        Ok(draft.answer(body, format))
    }
}

pub(super) fn furthest(at: Cursor, known: Cursor) -> Cursor {
    if known.revision > at.revision { known } else { at }
}

/// An answer that lacks its body.
#[derive(Clone)]
pub(super) struct Draft {
    pub(super) sequence: Sequence,
    timestamp: SystemTime,
    cursor: Cursor,
    mode: Mode,
    reason: Reason,
    header: Header,
}

impl Draft {
    /// The answer that leads from the cursor, as it was asked with, to a breadcrumb; `whole` when it
    /// tells of all keys.
    pub(super) fn new(to: &Breadcrumb, asked: Cursor, mode: Mode, reason: Reason, whole: bool) -> Self {
        // In the client's own history, should ours be a cousin of it.
        let cursor = Cursor { history: asked.history, ..to.cursor() };
        let header = header(to, cursor, Some(asked), mode, reason, whole);
        Self { sequence: to.sequence(), timestamp: to.timestamp(), cursor, mode, reason, header }
    }

    pub(super) fn encode(&self, media: MediaType, deltas: &[Delta]) -> Vec<u8> {
        let mut writer = BodyWriter::breadcrumb(media, &self.header, changes::size_hint(deltas));
        changes::write(&mut writer, deltas);
        writer.finish(&end(&self.header))
    }

    pub(super) fn answer(&self, body: Body, format: Format) -> Answer {
        let Self { sequence, timestamp, cursor, mode, reason, .. } = *self;
        let format = Format { coding: body.coding, ..format };
        let body = body.bytes.into();
        Answer { cursor, mode, reason, sequence, timestamp, body, format, at_once: true }
    }
}
