//! What is refused: conditions that do not hold, what is too large or not readable, and revisions after which nothing
//! could be counted.
//!
//! A write whose author waits is refused as a whole, and changes nothing. Nobody waits for what a feed says, and it has
//! happened: there a refused update is the deletion of its key.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::Store;
use crate::cache::RefusedKeys;
use crate::model::{Change, Condition, Key, Refusal, Revision, Update};

/// How many bytes of a key a log line shows.
const SHOWN_KEY_BYTES: usize = 120;

/// Lines about single keys that the log gets in so much time.
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
        let found = match self.revision_of(key) {
            Some(revision) => format!("the key exists, its ETag is \"{revision}\""),
            None => "the key does not exist".to_owned(),
        };
        Err(Refusal::ConditionFailed { key: key.clone(), found })
    }

    /// Every entry in the map has been given a revision.
    fn revision_of(&self, key: &Key) -> Option<Revision> {
        self.state.get(key.as_bytes()).map(|entry| entry.revision().unwrap_or_default())
    }

    fn check_update(&self, update: &Update) -> Result<(), Refusal> {
        self.config.entry_limits().check(update)
    }

    /// The update, or what stands in for one that is refused: nobody may take the old value for the current one, so its
    /// key is deleted. `None`: it is absent already.
    pub(super) fn accepted(&mut self, update: Update, claimed: Option<Revision>) -> Option<Update> {
        let refusal = self.check_update(&update).err();
        self.note_read(&update.change, refusal.is_some());
        let Some(refusal) = refusal else {
            self.is_good_again(update.change.key());
            return Some(update);
        };
        self.stats.refused.inc();
        let key = update.change.key();
        match update.change {
            // Absent is just what it is to be.
            Change::Delete(_) => self.is_good_again(key),
            Change::Put(_) | Change::Unreadable(..) => {
                let own = update.revision.filter(|own| *own <= Revision::MAX_CLAIM);
                self.name(key, &refusal, own.or(claimed));
            }
        }
        self.state.get(key).is_some().then(|| Update::delete(key))
    }

    /// Names a key among those that are refused; the log has it once.
    fn name(&mut self, key: &[u8], refusal: &Refusal, claimed: Option<Revision>) {
        let fault = refusal.fault().unwrap_or_default();
        let revision = claimed.unwrap_or(self.state.revision);
        if Arc::make_mut(&mut self.refused).add(key, &fault, revision) && self.refusals_logged.may_log() {
            warn!(revision = revision.0, "refused, so the key is absent here: {refusal}");
        }
    }

    fn is_good_again(&mut self, key: &[u8]) {
        if self.refused.holds(key) {
            Arc::make_mut(&mut self.refused).remove(key);
            if self.refusals_logged.may_log() {
                info!(
                    "no longer refused: key \"{}\"",
                    Key::copy_from(&key[..key.len().min(SHOWN_KEY_BYTES)])
                );
            }
        }
    }

    /// Of a state that an earlier process kept, some is refused now.
    pub(in crate::cache) fn begin_with_refused(&mut self, refused: RefusedKeys) {
        for named in refused.named() {
            if self.refusals_logged.may_log() {
                warn!(
                    revision = named.revision.0,
                    "refused, so the key is absent here: key \"{}\": {}", named.key, named.reason
                );
            }
        }
        self.refused = Arc::new(refused);
        self.show_refused();
    }

    /// Shows readers of the status which keys are refused now. While everything is read again, the old state is
    /// served, and what was refused in it counts.
    pub(super) fn show_refused(&self) {
        if self.resyncs.is_empty() && !Arc::ptr_eq(&self.stats.refused_keys.read(), &self.refused) {
            *self.stats.refused_keys.write() = Arc::clone(&self.refused);
        }
    }

    /// The revision of a whole state, as far as a feed may claim one.
    pub(super) fn claimable(&self, claimed: Option<Revision>) -> Option<Revision> {
        let claimable = claimed.map(|claimed| claimed.min(Revision::MAX_CLAIM));
        if claimed > claimable {
            self.stats.refused.inc();
            warn!(claimed = %claimed.unwrap_or_default(), "the feed claims a revision above {}: taken for that one", Revision::MAX_CLAIM);
        }
        claimable
    }
}

/// Bounds the lines of the log about refused keys: a feed may have any number of them.
#[derive(Default)]
pub(super) struct RefusalsLogged {
    since: Option<Instant>,
    lines: u32,
}

impl RefusalsLogged {
    fn may_log(&mut self) -> bool {
        if self.since.is_none_or(|since| since.elapsed() >= LOG_INTERVAL) {
            (self.since, self.lines) = (Some(Instant::now()), 0);
        }
        self.lines = self.lines.saturating_add(1);
        if self.lines == LOG_LINES + 1 {
            warn!(
                "more keys are refused, or no longer, than are logged; /v1/status has the first ones and the number"
            );
        }
        self.lines <= LOG_LINES
    }
}
