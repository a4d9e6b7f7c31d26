//! Refused updates: conditions that do not hold, values that are too large or unreadable, and revisions that are too high.
//!
//! A conditional or acknowledged write is refused as a whole, and changes nothing. An update from a feed has happened
//! upstream, so refusing it deletes its key.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::Store;
use crate::cache::RefusedKeys;
use crate::model::{Change, Condition, Key, Refusal, Revision, Update};

/// The most bytes of a key in a log line.
const SHOWN_KEY_BYTES: usize = 120;

/// The most log lines about single keys within [`LOG_INTERVAL`].
const LOG_LINES: u32 = 100;
const LOG_INTERVAL: Duration = Duration::from_secs(60);

impl Store {
    pub(super) fn check(&self, conditions: &[Condition], updates: &[Update]) -> Result<(), Refusal> {
        conditions.iter().try_for_each(|condition| self.check_condition(condition))?;
        updates.iter().try_for_each(|update| self.check_update(update))
    }

    fn check_condition(&self, condition: &Condition) -> Result<(), Refusal> {
        let (key, holds) = match condition {
            Condition::Exists(key) => (key, self.revision_of(key).is_some()),
            Condition::Absent(key) => (key, self.revision_of(key).is_none()),
            Condition::AtOneOf(key, revisions) => {
                (key, self.revision_of(key).is_some_and(|at| revisions.contains(&at)))
            }
            Condition::AtNoneOf(key, revisions) => {
                (key, self.revision_of(key).is_none_or(|at| !revisions.contains(&at)))
            }
        };
        if holds {
            return Ok(());
        }
        Err(Refusal::ConditionFailed { key: key.clone(), found: self.revision_of(key) })
    }

    /// The revision of a key. Every entry in the map has one.
    fn revision_of(&self, key: &Key) -> Option<Revision> {
        self.state.get(key.as_bytes()).map(|entry| entry.revision().unwrap_or_default())
    }

    pub(super) fn check_update(&self, update: &Update) -> Result<(), Refusal> {
        self.config.entry_limits().check(update)
    }

    /// The update, or the deletion of its key if it is refused, so that no old value passes for the current one. `None` if
    /// it is refused and the key is absent already.
    pub(super) fn accept_or_delete(&mut self, update: Update, claimed: Option<Revision>) -> Option<Update> {
        self.note_read(update.change.key());
        let refusal = self.check_update(&update).and_then(|()| self.check_room(&update)).err();
        self.note_seen(&update.change, refusal.is_some());
        let Some(refusal) = refusal else {
            self.clear_refused(update.change.key());
            return Some(update);
        };
        self.stats.refused.inc();
        let key = update.change.key();
        match update.change {
            Change::Delete(_) => self.clear_refused(key),
            Change::Put(_) | Change::Unreadable(..) => {
                let own = update.revision.filter(|own| *own <= Revision::MAX_CLAIM);
                self.record_refused(key, &refusal, own.or(claimed));
            }
        }
        self.state.get(key).is_some().then(|| Update::delete(key))
    }

    /// Adds a key to the refused ones, and logs it the first time.
    pub(super) fn record_refused(&mut self, key: &[u8], refusal: &Refusal, claimed: Option<Revision>) {
        // A copy of the list may be costly, and a feed may have any number of such keys.
        if self.refused.is_full_for(key, refusal.state_limit()) {
            return;
        }
        let reason = refusal.reason().unwrap_or_default();
        let (revision, limit) = (claimed.unwrap_or(self.state.revision), refusal.state_limit());
        if Arc::make_mut(&mut self.refused).add(key, &reason, revision, limit) && self.refusal_log.may_log() {
            warn!(revision = revision.0, "refused, so the key is absent here: {refusal}");
        }
    }

    fn clear_refused(&mut self, key: &[u8]) {
        if self.refused.contains(key) {
            Arc::make_mut(&mut self.refused).remove(key);
            if self.refusal_log.may_log() {
                info!(
                    "no longer refused: key \"{}\"",
                    Key::copy_from(&key[..key.len().min(SHOWN_KEY_BYTES)])
                );
            }
        }
    }

    /// Starts with the refused keys of a restored state.
    pub(in crate::cache) fn begin_with_refused(&mut self, refused: RefusedKeys) {
        for named in refused.named() {
            if self.refusal_log.may_log() {
                warn!(
                    revision = named.revision.0,
                    "refused, so the key is absent here: key \"{}\": {}", named.key, named.reason
                );
            }
        }
        self.refused = Arc::new(refused);
        self.publish_refused_keys();
    }

    /// Shows the refused keys to readers. During a resync the old state is served, so its refused keys stay visible.
    pub(super) fn publish_refused_keys(&self) {
        if self.resyncs.is_empty() && !Arc::ptr_eq(&self.stats.refused_keys.read(), &self.refused) {
            *self.stats.refused_keys.write() = Arc::clone(&self.refused);
        }
    }

    /// The claimed revision of a whole state, at most [`Revision::MAX_CLAIM`].
    pub(super) fn clamp_claim(&self, claimed: Option<Revision>) -> Option<Revision> {
        let clamped = claimed.map(|claimed| claimed.min(Revision::MAX_CLAIM));
        if claimed > clamped {
            self.stats.refused.inc();
            warn!(
                claimed = %claimed.unwrap_or_default(),
                "the feed claims a revision above the maximum {0}; using {0}", Revision::MAX_CLAIM
            );
        }
        clamped
    }
}

/// A limit on log lines about refused keys, of which a feed may have any number.
#[derive(Default)]
pub(super) struct RefusalLog {
    since: Option<Instant>,
    lines: u32,
}

impl RefusalLog {
    fn may_log(&mut self) -> bool {
        if self.since.is_none_or(|since| since.elapsed() >= LOG_INTERVAL) {
            (self.since, self.lines) = (Some(Instant::now()), 0);
        }
        self.lines = self.lines.saturating_add(1);
        if self.lines == LOG_LINES + 1 {
            warn!("too many refused keys to log each; GET /v1/status lists the first ones and their number");
        }
        self.lines <= LOG_LINES
    }
}
