//! Following: what comes after a cursor, now or as soon as there is anything.

use tokio::time::Instant;

use super::answer::{end, header};
use super::bodies::Subject;
use super::way::{Found, Way};
use super::{Answer, Format, Reason, View, ViewError, changes};
use crate::cache::{Breadcrumb, Delta, PastAwaited};
use crate::model::{Cursor, Key, Sequence};
use crate::wire::BodyWriter;

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

/// One look at the newest breadcrumb.
enum Look {
    /// There is a way to it; with a prefix, what changed on it is known already.
    Changed(Way, Option<Vec<Delta>>),
    /// Nothing for this client up to this cursor.
    Quiet(Cursor),
    /// The client is ahead of this daemon.
    Ahead,
    /// What lies between the client and a breadcrumb is still being found out.
    Awaited(PastAwaited),
}

impl View {
    /// Everything after the cursor up to now; waits for it until the deadline, or until `stop`
    /// resolves. Cancel-safe.
    ///
    /// With a prefix, updates outside of it do not count, but the cursor of [`Next::Nothing`] moves
    /// past them. A cursor ahead of this daemon waits; it never gets older data.
    ///
    /// # Errors
    /// [`ViewError::Gone`], [`ViewError::Starting`].
    pub async fn next(
        &self,
        cursor: Cursor,
        prefix: Option<&Key>,
        format: Format,
        deadline: Instant,
        stop: impl Future<Output = ()>,
    ) -> Result<Next, ViewError> {
        let mut stop = std::pin::pin!(stop);
        let mut at = self.adopt(cursor);
        let mut at_once = true;
        let mut newest = self.cache.current_breadcrumb();
        let mut upstream = self.watch_upstream();
        loop {
            let (mut ahead, mut awaited) = (false, None);
            match self.look(at, &newest, prefix)? {
                Look::Changed(way, deltas) => {
                    let change = Change { from: cursor, way, deltas, at_once };
                    return self.updates(change, newest, prefix, format).await.map(Next::Answer);
                }
                Look::Quiet(moved) => at = moved,
                Look::Ahead if upstream.is_below(at.revision) => return Err(self.gone(at)),
                Look::Ahead => ahead = true,
                Look::Awaited(past) => awaited = Some(past),
            }
            let sequence = newest.sequence();
            let moved = Cursor { history: cursor.history, ..at };
            let nothing = |reason| Ok(Next::Nothing { cursor: moved, sequence, reason });
            tokio::select! {
                biased;
                next = newest.next() => match next {
                    // Several may have come since the wake: one answer covers them all.
                    Ok(_) => newest = self.cache.current_breadcrumb(),
                    Err(_) => return nothing(Reason::ShuttingDown),
                },
                () = upstream.seen(), if ahead => {}
                () = past_told(awaited.as_mut()), if awaited.is_some() => {}
                () = &mut stop => return nothing(Reason::ShuttingDown),
                () = tokio::time::sleep_until(deadline) => return nothing(Reason::Timeout),
            }
            at_once = false;
        }
    }

    fn look(&self, at: Cursor, newest: &Breadcrumb, prefix: Option<&Key>) -> Result<Look, ViewError> {
        if newest.is_provisional() {
            return Err(ViewError::Starting);
        }
        let now = newest.cursor();
        if at.history != now.history {
            return Err(self.gone(at));
        }
        if at.revision > now.revision {
            return Ok(Look::Ahead);
        }
        if at == now {
            return Ok(Look::Quiet(at));
        }
        let way = match self.way(at, newest)? {
            Found::Way(way) => way,
            Found::Awaited(past) => return Ok(Look::Awaited(past)),
        };
        let Some(prefix) = prefix else { return Ok(Look::Changed(way, None)) };
        let deltas = way.deltas(newest, Some(prefix));
        if deltas.is_empty() && at.status == now.status {
            return Ok(Look::Quiet(now));
        }
        Ok(Look::Changed(way, Some(deltas)))
    }

    async fn updates(
        &self,
        change: Change,
        newest: Breadcrumb,
        prefix: Option<&Key>,
        format: Format,
    ) -> Result<Answer, ViewError> {
        let Change { from, way, deltas, at_once } = change;
        let (mode, reason) = way.name();
        // In the client's own history, should ours be a cousin of it.
        let cursor = Cursor { history: from.history, ..newest.cursor() };
        let sequence = newest.sequence();
        let header = header(&newest, cursor, Some(from), mode, reason, prefix.is_none());
        let subject = Subject::Updates { from, to: sequence };
        let encode = move || {
            let deltas = deltas.unwrap_or_else(|| way.deltas(&newest, None));
            let mut writer = BodyWriter::breadcrumb(format.media, &header, changes::size_hint(&deltas));
            changes::write(&mut writer, &deltas);
            writer.finish(&end(&header))
        };
        let body = self.bodies.get(subject, prefix, format, encode).await?;
        let format = Format { coding: body.coding, ..format };
        Ok(Answer { cursor, mode, reason, sequence, body: body.bytes.into(), format, at_once })
    }
}

/// Resolves when more is known of the way from the cursor that waits for it.
pub(super) async fn past_told(past: Option<&mut PastAwaited>) {
    match past {
        Some(past) => past.told().await,
        None => std::future::pending().await,
    }
}

struct Change {
    from: Cursor,
    way: Way,
    deltas: Option<Vec<Delta>>,
    at_once: bool,
}
