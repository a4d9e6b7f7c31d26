//! Watching from the next revision on, and a look at the store once a second.

use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use super::caught_up::count_at;
use super::client::ANSWER;
use super::key_count_audit::KeyCountAudit;
use super::load::{put, revision};
use super::proto::{Event, EventType, RangeRequest, ResponseHeader, WatchCreateRequest, WatchResponse};
use super::resume_point::ResumePoint;
use super::session::{Session, next};
use super::stall::{Check, Comparison, StallDetector, Verdict};
use super::verify::{ALWAYS_READ, PendingChange};
use super::{EtcdError, range_end, range_start};
use crate::feed::Sink;
use crate::model::{Batch, FeedEvent, Grouping, SyncStatus, Update};

/// How often the store is asked how far it is.
const ASK: Duration = Duration::from_secs(1);

/// A watch that has brought nothing and was not refused for so long is in order: a proxy takes a while to refuse one.
const LASTING: Duration = Duration::from_secs(5);

/// How often at the most it is asked because a client wants to know.
const WANTED: Duration = Duration::from_millis(50);

/// A look that takes longer may have been answered by another server than the one before.
const SLOW: Duration = Duration::from_secs(1);

/// A look that comes so long after the one before comes late: the daemon stood still meanwhile.
const LATE: Duration = Duration::from_secs(3);

/// How a watch ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// What was missed cannot be had from the history any more.
    Lost,
    /// The store's revision is below ours.
    WentBack,
    /// It may be another store.
    Doubtful,
    /// It is time to try a watch again.
    Rested,
}

/// A watch under way.
pub(super) struct Watch<'s, 'a> {
    session: &'s mut Session<'a>,
    at: &'s mut ResumePoint,
    /// Where the next session goes on.
    resume: &'s mut Option<ResumePoint>,
    audit: KeyCountAudit,
    stall: StallDetector,
    /// Where the store was when the watch was opened: once that far, we are in sync.
    target: i64,
    /// Up to here the watch brings what etcd reads from its history, and not what just happens.
    history: i64,
    opened: Instant,
    /// When the store was looked at last.
    looked: Instant,
    pending: Option<PendingChange>,
    /// etcd has taken the watch. It refuses one only after it was opened.
    begun: bool,
    /// There is no watch, only looks: see [`Watch::follow`].
    looks_on: bool,
    in_sync: bool,
    /// The first parts of a message that has more.
    parts: Vec<Event>,
}

/// Resolves when a client wants to know where the store is, and not before that time.
async fn wanted(sink: &Sink, not_before: Instant) {
    tokio::time::sleep_until(not_before).await;
    sink.upstream().asked().await;
}

/// Goes on, or how it ended.
type Step = Result<Option<Ended>, EtcdError>;

impl<'s, 'a> Watch<'s, 'a> {
    /// Follows the store until the watch ends. With a time, no watch is opened before that: watches have told nothing
    /// lately, and the looks alone find out when everything has to be read again.
    pub(super) async fn follow(
        session: &'s mut Session<'a>,
        at: &'s mut ResumePoint,
        resume: &'s mut Option<ResumePoint>,
        watch_again: Option<Instant>,
    ) -> Result<Ended, EtcdError> {
        let (now, found) = session.probe(at.fingerprint.as_ref()).await?;
        if now.revision < at.revision {
            return Ok(Ended::WentBack);
        }
        if !at.matches(now, found.as_ref()) {
            return Ok(Ended::Doubtful);
        }
        let audit = match at.audit.take() {
            Some(audit) => audit,
            None => match count_at(&session.connection, &session.all_keys(), at.revision).await {
                Ok(keys) => KeyCountAudit::new(keys, at.revision),
                Err(EtcdError::Compacted) => return Ok(Ended::Lost),
                Err(error) => return Err(error),
            },
        };
        if audit.audited() > at.revision && audit.audited() > now.revision {
            // It was counted further on than it is now: it went back, to somewhere that we know.
            return Ok(Ended::Lost);
        }
        let (stall, target) = (StallDetector::new(at.revision), now.revision);
        let mut watch = Self {
            session,
            at,
            resume,
            audit,
            stall,
            target,
            history: target,
            opened: Instant::now(),
            looked: Instant::now(),
            pending: None,
            begun: watch_again.is_some(),
            looks_on: watch_again.is_some(),
            in_sync: false,
            parts: Vec::new(),
        };
        let ended = match watch_again {
            None => watch.run().await,
            Some(until) => watch.look_on(until).await,
        };
        watch.at.audit = Some(watch.audit);
        ended
    }

    async fn run(&mut self) -> Result<Ended, EtcdError> {
        let create = WatchCreateRequest {
            key: range_start(self.session.prefix),
            range_end: range_end(self.session.prefix),
            start_revision: self.at.revision + 1,
            fragment: true,
            prev_kv: false,
        };
        let (mut responses, _open) = self.session.connection.watch(create).await?;
        let sink = self.session.sink.clone();
        let mut wanted_after = Instant::now();
        let mut ticks = interval(ASK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let step = tokio::select! {
                response = next(&mut responses) => self.take(response?, &mut ticks).await?,
                _ = ticks.tick() => self.look().await?,
                () = wanted(&sink, wanted_after) => {
                    self.session.probe(None).await?;
                    wanted_after = Instant::now() + WANTED;
                    None
                }
            };
            if let Some(ended) = step {
                return Ok(ended);
            }
        }
    }

    /// Only looks, until it is time to try a watch again.
    async fn look_on(&mut self, until: Instant) -> Result<Ended, EtcdError> {
        let sink = self.session.sink.clone();
        let mut wanted_after = Instant::now();
        let mut ticks = interval(ASK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let step = tokio::select! {
                () = tokio::time::sleep_until(until) => Some(Ended::Rested),
                _ = ticks.tick() => self.look().await?,
                () = wanted(&sink, wanted_after) => {
                    self.session.probe(None).await?;
                    wanted_after = Instant::now() + WANTED;
                    None
                }
            };
            if let Some(ended) = step {
                return Ok(ended);
            }
        }
    }

    /// Takes what the watch brings.
    async fn take(&mut self, response: WatchResponse, ticks: &mut Interval) -> Step {
        if response.compact_revision > 0 {
            return Ok(Some(Ended::Lost));
        }
        if response.canceled {
            return Err(EtcdError::Cancelled(response.cancel_reason));
        }
        if response.created {
            self.begun = true;
            self.history = self.history.max(response.header.map_or(0, |header| header.revision));
            if self.session.memory.failed_watches == 0 {
                self.session.sink.upstream().heard();
                self.report_in_sync().await?;
            }
            if !self.in_sync {
                ticks.reset_immediately();
            }
        }
        if response.events.is_empty() && self.parts.is_empty() {
            return Ok(None);
        }
        self.stall.events_arrived();
        self.session.sink.upstream().heard();
        self.parts.extend(response.events);
        if response.fragment { Ok(None) } else { self.take_events().await }
    }

    async fn take_events(&mut self) -> Step {
        let events = std::mem::take(&mut self.parts);
        let oldest = events.iter().filter_map(|event| event.kv.as_ref()).map(|kv| kv.mod_revision).min();
        if oldest.is_some_and(|oldest| oldest <= self.history) && self.is_compacted(self.at.revision).await? {
            return Ok(Some(Ended::Lost));
        }
        if self.audit.record(&events).is_err() {
            return Ok(Some(Ended::Lost));
        }
        self.apply(&events).await?;
        self.save_resume_point();
        self.session.memory.watch_works();
        self.report_in_sync().await?;
        Ok(None)
    }

    /// Looks at the store: is it still the one, is nothing lost, and has the watch told everything?
    async fn look(&mut self) -> Step {
        let asked = Instant::now();
        let (now, found) = self.session.probe(self.at.fingerprint.as_ref()).await?;
        if now.revision < self.at.revision {
            return Ok(Some(Ended::WentBack));
        }
        if now.cluster_id != self.at.cluster_id {
            return Err(EtcdError::Cancelled("another cluster answers".to_owned()));
        }
        let late = asked.duration_since(self.looked) > LATE;
        let slow = asked.elapsed() > SLOW;
        let missed = self.pending.as_ref().is_some_and(|pending| self.at.has_skipped(pending));
        self.pending = self.at.pending_change(now, found.as_ref());
        self.looked = Instant::now();
        let unseen = (slow || late) && self.audit.keys() <= ALWAYS_READ;
        if unseen || missed || !self.at.matches(now, found.as_ref()) {
            return Ok(Some(Ended::Doubtful));
        }
        if !self.begun {
            return match self.opened.elapsed() > ANSWER {
                true => Err(EtcdError::Cancelled("it was not begun in time".to_owned())),
                false => Ok(None),
            };
        }
        if self.misses_a_deletion().await? {
            return Ok(Some(Ended::Lost));
        }
        self.check_for_stall(now).await
    }

    /// See [`KeyCountAudit`].
    async fn misses_a_deletion(&mut self) -> Result<bool, EtcdError> {
        if self.is_compacted(self.audit.audited()).await? {
            let request = RangeRequest { count_only: true, ..self.session.all_keys() };
            let now = self.session.connection.range(request).await?;
            let header = now.header.ok_or(EtcdError::Nonsense("a range without a header"))?;
            self.audit.expect(header.revision, now.count);
        } else {
            self.audit.not_compacted(self.at.revision);
        }
        self.save_resume_point();
        Ok(self.audit.check().is_err())
    }

    /// See [`StallDetector`].
    async fn check_for_stall(&mut self, now: ResponseHeader) -> Step {
        let verdict = match self.stall.check(self.at.revision, now.revision) {
            Check::Deferred => return Ok(None),
            Check::Delivering => Verdict::Complete,
            Check::Ask => {
                let comparison = self.compare().await?;
                self.stall.compared(&comparison)
            }
        };
        match verdict {
            Verdict::Behind | Verdict::Stalled if self.looks_on => Ok(Some(Ended::Lost)),
            Verdict::Behind => Ok(None),
            Verdict::Complete => {
                self.session.sink.upstream().heard();
                if !self.looks_on && self.opened.elapsed() > LASTING {
                    self.session.memory.watch_works();
                }
                self.report_in_sync().await?;
                Ok(None)
            }
            Verdict::Stalled => {
                self.session.memory.failed_watches += 1;
                self.session.sink.send(FeedEvent::Status(SyncStatus::ResyncInProgress)).await?;
                Err(EtcdError::Silent)
            }
        }
    }

    /// What the watch has not told.
    async fn compare(&self) -> Result<Comparison, EtcdError> {
        let asked = Instant::now();
        let min_mod_revision = self.at.revision + 1;
        let request = RangeRequest { min_mod_revision, limit: 1, ..self.session.all_keys() };
        let answer = self.session.connection.range(request).await?;
        let header = answer.header.ok_or(EtcdError::Nonsense("a range without a header"))?;
        Ok(Comparison {
            revision: header.revision,
            newer: !answer.kvs.is_empty(),
            difference: answer.count - self.audit.keys(),
            took: asked.elapsed(),
        })
    }

    async fn report_in_sync(&mut self) -> Result<(), EtcdError> {
        let reached = self.at.revision.max(self.stall.complete_to()) >= self.target;
        if reached && self.begun && !std::mem::replace(&mut self.in_sync, true) {
            self.session.sink.send(FeedEvent::Status(SyncStatus::InSync)).await?;
        }
        Ok(())
    }

    fn save_resume_point(&mut self) {
        *self.resume = Some(ResumePoint { audit: Some(self.audit.clone()), ..self.at.clone() });
    }

    /// Whether etcd has forgotten how the store was at this revision.
    ///
    /// Then a watch from the next revision on may lack deletions, although etcd accepts it where that one is just the
    /// compacted revision: it forgets the deletions of that revision too (etcd issues 18089 and 19179, mended in
    /// 3.4.36 and 3.5.18). So what a watch brings of the past is believed only if it is known, after it
    /// came, that nothing of it was compacted away. A watch that falls behind later on has the same to fear, and
    /// there it is too late to ask: see [`KeyCountAudit`].
    async fn is_compacted(&self, revision: i64) -> Result<bool, EtcdError> {
        // Nothing happens to an empty store, and 0 would mean the newest.
        if revision <= 1 {
            return Ok(false);
        }
        let key = range_start(self.session.prefix);
        let request = RangeRequest { key, revision, count_only: true, ..RangeRequest::default() };
        match self.session.connection.range(request).await {
            Ok(_) => Ok(false),
            Err(EtcdError::Compacted) => Ok(true),
            Err(error) => Err(error),
        }
    }

    async fn apply(&mut self, events: &[Event]) -> Result<(), EtcdError> {
        let Session { connection, leases, sink, .. } = &mut *self.session;
        let puts = events.iter().filter(|event| event.kind() == EventType::Put);
        let ttls = leases.of(connection, puts.filter_map(|event| event.kv.as_ref())).await?;
        let mut updates = Vec::with_capacity(events.len());
        for event in events {
            let kv = event.kv.as_ref().ok_or(EtcdError::Nonsense("an event without a key"))?;
            updates.push(match event.kind() {
                EventType::Put => put(kv, &ttls),
                EventType::Delete => {
                    let delete = Update::delete(&kv.key);
                    Update { revision: Some(revision(kv.mod_revision)), ..delete }
                }
            });
        }
        sink.send(FeedEvent::Updates(Batch::new(updates, Grouping::ByRevision))).await?;
        events.iter().for_each(|event| self.at.advance(event));
        Ok(())
    }
}
