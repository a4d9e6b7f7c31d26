//! The watch: delivers events from the resume point on, and checks the store once a second.
//!
//! ```text
//!              created                      etcd refuses a watch only after it was opened
//!   Opening ────────────▶ Watching
//!
//!   ChecksOnly                              several watches in a row have delivered nothing
//! ```
//!
//! Each state takes the same inputs: what the watch delivers (or that it is time to try one), a tick for the check, and
//! a client that wants to know how far the store is. Each ends in a [`WatchEnd`]; a new watch is a new state machine.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};

use super::caught_up::count_at;
use super::client::{ANSWER, WatchStream};
use super::key_count_audit::KeyCountAudit;
use super::load::{put, revision};
use super::resume_point::ResumePoint;
use super::session::Session;
use super::stall::{Check, Comparison, StallDetector, Verdict};
use super::verify::{ALWAYS_READ, PendingChange};
use super::watch_end::WatchEnd;
use super::{EtcdError, range_end, range_start};
use crate::feed::Activity;
use crate::model::{Batch, FeedEvent, Grouping, SyncStatus, Update};
use crate::wire::etcd::ResponseHeader;
use crate::wire::etcd::kv::{Event, EventType, RangeRequest};
use crate::wire::etcd::watch::{WatchCreateRequest, WatchResponse};

/// How often the store is checked.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// A watch that has been open for this long without being refused works: a proxy takes a while to refuse one.
const LASTING: Duration = Duration::from_secs(5);

/// The shortest time between two questions to the store on behalf of clients: of those that come with a cursor, and of
/// etcd's, whose reads wait for the answer.
const POSITION_EVERY: Duration = Duration::from_millis(50);
const LINEARIZABLE_EVERY: Duration = Duration::from_millis(1);

/// How soon it is found out whether the watch has delivered everything, and how long at least from one time to the next.
/// To find out, etcd goes through all keys of the prefix: it is kept busy with that for one part in so many of its time.
const COMPLETENESS_EVERY: Duration = Duration::from_millis(5);
const COMPLETENESS_SHARE: u32 = 4;

/// A check that takes longer than this may have been answered by another server than the one before.
const SLOW: Duration = Duration::from_secs(1);

/// A check this long after the one before is late: the daemon stood still meanwhile.
const LATE: Duration = Duration::from_secs(3);

/// A watch under way.
pub(super) struct Watch<'s, 'a> {
    session: &'s mut Session<'a>,
    at: &'s mut ResumePoint,
    /// Where the next session resumes.
    resume: &'s mut Option<ResumePoint>,
    audit: KeyCountAudit,
    stall: StallDetector,
    /// The store's revision when this began: once we are that far, we are in sync.
    target: i64,
    in_sync: bool,
    ticks: Interval,
    /// When the store was last checked.
    checked: Instant,
    pending: Option<PendingChange>,
    /// When to find out next whether the watch has delivered everything, for readers that wait for it.
    completeness_due: Option<Instant>,
}

/// What the watch is doing.
enum State {
    /// etcd has been asked for a watch, and has not confirmed it.
    Opening(OpenWatch),
    /// etcd has confirmed the watch.
    Watching(OpenWatch),
    /// No watch is open. The checks alone find out whether everything has to be read again.
    ChecksOnly {
        /// When a watch is tried again.
        until: Instant,
    },
}

/// A watch that was opened.
struct OpenWatch {
    stream: WatchStream,
    opened: Instant,
    /// Events up to this revision come from etcd's history, later ones as they happen.
    history_to: i64,
    /// The first parts of a message whose last part has not arrived.
    fragments: Vec<Event>,
}

/// What happens to a watch.
enum Input {
    Response(WatchResponse),
    RetryDue,
    CheckDue,
    PositionWanted,
    CompletenessDue,
}

impl State {
    /// The next input from this state's own source.
    async fn next(&mut self) -> Result<Input, EtcdError> {
        match self {
            Self::Opening(watch) | Self::Watching(watch) => {
                let response = watch.stream.next().await?;
                Ok(Input::Response(response.ok_or(WatchEnd::Closed)?))
            }
            Self::ChecksOnly { until } => {
                sleep_until(*until).await;
                Ok(Input::RetryDue)
            }
        }
    }

    /// etcd has confirmed the watch when the store was at `revision`.
    fn confirmed(self, revision: i64) -> Self {
        match self {
            Self::Opening(watch) | Self::Watching(watch) => {
                Self::Watching(OpenWatch { history_to: watch.history_to.max(revision), ..watch })
            }
            Self::ChecksOnly { .. } => self,
        }
    }
}

/// Resolves at this time, if there is one.
async fn due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl<'s, 'a> Watch<'s, 'a> {
    /// Follows the store until the watch ends. With `retry_at`, watches have delivered nothing lately and none is
    /// opened before that time.
    ///
    /// # Errors
    /// When a request fails, or the cache has stopped.
    pub(super) async fn follow(
        session: &'s mut Session<'a>,
        at: &'s mut ResumePoint,
        resume: &'s mut Option<ResumePoint>,
        retry_at: Option<Instant>,
    ) -> Result<WatchEnd, EtcdError> {
        let (now, found) = session.probe(at.fingerprint.as_ref()).await?;
        if now.revision < at.revision {
            return Ok(WatchEnd::WentBack);
        }
        if !at.matches(now, found.as_ref()) {
            return Ok(WatchEnd::Contradiction);
        }
        let audit = match at.audit.take() {
            Some(audit) => audit,
            None => match count_at(&session.connection, &session.all_keys(), at.revision).await {
                Ok(keys) => KeyCountAudit::new(keys, at.revision),
                Err(EtcdError::Compacted) => return Ok(WatchEnd::Compacted),
                Err(error) => return Err(error),
            },
        };
        if audit.audited() > at.revision && audit.audited() > now.revision {
            return Ok(WatchEnd::BehindKeyCount);
        }
        let mut ticks = interval(CHECK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watch = Self {
            stall: StallDetector::new(at.revision),
            session,
            at,
            resume,
            audit,
            target: now.revision,
            in_sync: false,
            ticks,
            checked: Instant::now(),
            pending: None,
            completeness_due: None,
        };
        let end = match watch.run(retry_at).await {
            Ok(never) => match never {},
            Err(EtcdError::Watch(end)) => end,
            Err(error) => return Err(error),
        };
        watch.at.audit = Some(watch.audit);
        Ok(end)
    }

    async fn run(&mut self, retry_at: Option<Instant>) -> Result<Infallible, EtcdError> {
        let mut state = match retry_at {
            None => State::Opening(self.open().await?),
            Some(until) => State::ChecksOnly { until },
        };
        let mut position_not_before = Instant::now();
        loop {
            let input = tokio::select! {
                input = state.next() => input?,
                _ = self.ticks.tick() => Input::CheckDue,
                () = self.session.sink.position_wanted(position_not_before) => Input::PositionWanted,
                () = due(self.completeness_due) => Input::CompletenessDue,
                () = self.session.sink.upstream().asked_to_reread() => return Err(WatchEnd::RoomAgain.into()),
            };
            match input {
                Input::Response(response) => {
                    // What arrived while the daemon stood still may come from a store that took the place of ours.
                    if self.checked.elapsed() > LATE {
                        self.check(&state).await?;
                    }
                    state = self.take(state, response).await?;
                }
                Input::RetryDue => return Err(WatchEnd::RetryDue.into()),
                Input::CheckDue => self.check(&state).await?,
                Input::PositionWanted => {
                    let (now, _) = self.session.probe(None).await?;
                    let for_etcd = self.session.sink.keeps_every_write();
                    let pause = if for_etcd { LINEARIZABLE_EVERY } else { POSITION_EVERY };
                    position_not_before = Instant::now() + pause;
                    if for_etcd && now.revision > self.at.revision {
                        self.completeness_due = Some(Instant::now() + COMPLETENESS_EVERY);
                    }
                }
                Input::CompletenessDue => self.report_completeness(&state).await?,
            }
        }
    }

    async fn open(&self) -> Result<OpenWatch, EtcdError> {
        let opened = Instant::now();
        let create = WatchCreateRequest {
            key: range_start(self.session.prefix),
            range_end: range_end(self.session.prefix),
            start_revision: self.at.revision + 1,
            fragment: true,
            ..WatchCreateRequest::default()
        };
        let stream = self.session.connection.watch(create).await?;
        Ok(OpenWatch { stream, opened, history_to: self.target, fragments: Vec::new() })
    }

    /// Takes a response of the watch.
    async fn take(&mut self, mut state: State, response: WatchResponse) -> Result<State, EtcdError> {
        if response.compact_revision > 0 {
            return Err(WatchEnd::Compacted.into());
        }
        if response.canceled {
            return Err(WatchEnd::Cancelled(response.cancel_reason).into());
        }
        if response.created {
            self.session.sink.upstream().does(Activity::Watching);
            state = state.confirmed(response.header.map_or(0, |header| header.revision));
            if self.session.memory.failed_watches == 0 {
                self.session.sink.upstream().heard();
                self.report_in_sync(&state).await?;
            }
            if !self.in_sync {
                self.ticks.reset_immediately();
            }
        }
        if let State::Opening(watch) | State::Watching(watch) = &mut state
            && !(response.events.is_empty() && watch.fragments.is_empty())
        {
            self.stall.events_arrived();
            self.session.sink.upstream().heard();
            watch.fragments.extend(response.events);
            if !response.fragment {
                let events = std::mem::take(&mut watch.fragments);
                self.take_events(&events, watch.history_to).await?;
                self.report_in_sync(&state).await?;
            }
        }
        Ok(state)
    }

    /// Takes a whole message of events.
    async fn take_events(&mut self, events: &[Event], history_to: i64) -> Result<(), EtcdError> {
        let oldest = events.iter().filter_map(|event| event.kv.as_ref()).map(|kv| kv.mod_revision).min();
        if oldest.is_some_and(|oldest| oldest <= history_to) && self.is_compacted(self.at.revision).await? {
            return Err(WatchEnd::Compacted.into());
        }
        self.audit.record(events).map_err(|_| WatchEnd::DeletionLost)?;
        self.apply(events).await?;
        if self.session.sink.keeps_every_write() {
            // A revision may have changed nothing that the cache keeps, and is complete all the same.
            self.session.sink.send(FeedEvent::Complete(revision(self.at.revision))).await?;
        }
        self.save_resume_point();
        self.session.memory.watch_works();
        Ok(())
    }

    /// Checks the store: is it still the same one, was a deletion lost, has the watch delivered everything?
    async fn check(&mut self, state: &State) -> Result<(), EtcdError> {
        let asked = Instant::now();
        let (now, found) = self.session.probe(self.at.fingerprint.as_ref()).await?;
        if now.revision < self.at.revision {
            return Err(WatchEnd::WentBack.into());
        }
        if now.cluster_id != self.at.cluster_id {
            return Err(WatchEnd::AnotherCluster.into());
        }
        let late = asked.duration_since(self.checked) > LATE;
        let slow = asked.elapsed() > SLOW;
        let skipped = self.pending.as_ref().is_some_and(|pending| self.at.has_skipped(pending));
        self.pending = self.at.pending_change(now, found.as_ref());
        self.checked = Instant::now();
        if (slow || late) && self.audit.keys() <= ALWAYS_READ {
            return Err(WatchEnd::Unobserved.into());
        }
        if skipped || !self.at.matches(now, found.as_ref()) {
            return Err(WatchEnd::Contradiction.into());
        }
        if let State::Opening(watch) = state {
            let overdue = watch.opened.elapsed() > ANSWER;
            return if overdue { Err(WatchEnd::NotConfirmed.into()) } else { Ok(()) };
        }
        self.audit_key_count().await?;
        self.check_for_stall(state, now).await
    }

    /// See [`KeyCountAudit`].
    async fn audit_key_count(&mut self) -> Result<(), EtcdError> {
        if self.is_compacted(self.audit.audited()).await? {
            let request = RangeRequest { count_only: true, ..self.session.all_keys() };
            let now = self.session.connection.range(request).await?;
            let header = now.header.ok_or(EtcdError::Nonsense("a range without a header"))?;
            self.audit.expect(header.revision, now.count);
        } else {
            self.audit.not_compacted(self.at.revision);
        }
        self.save_resume_point();
        Ok(self.audit.check().map_err(|_| WatchEnd::DeletionLost)?)
    }

    /// See [`StallDetector`].
    async fn check_for_stall(&mut self, state: &State, now: ResponseHeader) -> Result<(), EtcdError> {
        let verdict = match self.stall.check(self.at.revision, now.revision) {
            Check::Deferred => return Ok(()),
            Check::Delivering => Verdict::Complete,
            Check::Ask => {
                let comparison = self.compare().await?;
                self.stall.compared(&comparison)
            }
        };
        match (verdict, state) {
            (Verdict::Complete, _) => {
                self.session.sink.upstream().heard();
                if let State::Watching(watch) = state
                    && watch.opened.elapsed() > LASTING
                {
                    self.session.memory.watch_works();
                }
                self.report_in_sync(state).await
            }
            (Verdict::Behind | Verdict::Stalled, State::ChecksOnly { .. }) => {
                Err(WatchEnd::ChangesMissed.into())
            }
            (Verdict::Behind, _) => Ok(()),
            (Verdict::Stalled, _) => Err(WatchEnd::Stalled.into()),
        }
    }

    /// Compares the store with what the watch has delivered.
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

    /// Tells the cache how far it is complete, although the store's newest revisions may be those of other keys.
    async fn report_completeness(&mut self, state: &State) -> Result<(), EtcdError> {
        self.completeness_due = None;
        // Of the whole store every revision is delivered.
        if self.session.prefix.is_empty() || !matches!(state, State::Watching(_)) {
            return Ok(());
        }
        let comparison = self.compare().await?;
        if comparison.newer || comparison.difference != 0 {
            let pause = COMPLETENESS_EVERY.max(comparison.took * COMPLETENESS_SHARE);
            self.completeness_due = Some(Instant::now() + pause);
            return Ok(());
        }
        Ok(self.session.sink.send(FeedEvent::Complete(revision(comparison.revision))).await?)
    }

    /// Tells the cache, once, when it has what the store had when this began. A watch that etcd has not confirmed
    /// proves nothing.
    async fn report_in_sync(&mut self, state: &State) -> Result<(), EtcdError> {
        let reached = self.at.revision.max(self.stall.complete_to()) >= self.target;
        let confirmed = !matches!(state, State::Opening(_));
        if reached && confirmed && !std::mem::replace(&mut self.in_sync, true) {
            self.session.sink.send(FeedEvent::Status(SyncStatus::InSync)).await?;
        }
        Ok(())
    }

    fn save_resume_point(&mut self) {
        *self.resume = Some(ResumePoint { audit: Some(self.audit.clone()), ..self.at.clone() });
        self.session.memory.position.advances(self.at);
    }

    /// Whether etcd has compacted this revision.
    ///
    /// A watch from the next revision on may then lack deletions, although etcd accepts it if exactly that next
    /// revision is the compacted one: it forgets the deletions of that revision too (etcd issues 18089 and 19179,
    /// fixed in 3.4.36 and 3.5.18). So events from etcd's history are believed only if it is known, after they
    /// arrived, that nothing of them was compacted away. A watch that falls behind later runs the same risk, and then
    /// it is too late to ask: see [`KeyCountAudit`].
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
                EventType::Put => put(kv, &ttls, sink.keeps_every_write()),
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
