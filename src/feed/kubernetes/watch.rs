//! The watch: delivers events from the resume point on, while the server is asked now and then how far it is.
//!
//! A bookmark says that there were no events up to its revision. It moves the place from which the next watch begins, so
//! that a quiet type is not read again, and only once the next bookmark has arrived: servers have sent bookmarks ahead of
//! events. It never moves the cache, whose revisions are those of changes, the same in every replica.
//!
//! An `ERROR` event ends the watch and is never data.

use std::convert::Infallible;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until};
use tracing::debug;

use super::audit::Audit;
use super::error::KubeError;
use super::events::{Event, Lines, delete, put, split};
use super::list::Position;
use super::resume_point::ResumePoint;
use super::session::{MAX_EMPTY_WATCHES, Session};
use crate::feed::Activity;
use crate::model::{Batch, FeedEvent, Grouping, Revision, SyncStatus, Update};

/// How long the server is asked to keep a watch open: between these, so that not all clients begin anew together.
const SHORTEST_S: u64 = 300;
const LONGEST_S: u64 = 600;

/// A watch that ends so long before its time has ended as it should.
const EARLY: Duration = Duration::from_secs(5);

/// How often the server is asked how far it is, and the shortest time between two questions on behalf of clients.
const CHECK_EVERY: Duration = Duration::from_secs(5);
const POSITION_EVERY: Duration = Duration::from_millis(50);

/// How many questions of a kind may fail in a row while the watch goes on.
const FAILED_CHECKS: u32 = 3;

/// A watch that was silent for so long may be dead: bookmarks come once a minute.
const SILENCE: Duration = Duration::from_secs(75);

/// Where the objects are few or small, an audit costs less than to wait for a bookmark. This is the shortest silence before
/// one, and how many bytes of objects the server may have to read a second.
const SHORTEST_SILENCE: Duration = Duration::from_secs(5);
const AUDITED_BYTES_A_SECOND: u64 = 256 << 10;

/// How long the events before a resumed watch are awaited before the server is asked whether there are any.
const CATCH_UP: Duration = Duration::from_millis(300);

/// How long the events that an audit knows of may take to arrive.
const LATE: Duration = Duration::from_secs(10);

/// A watch that has been open for so long works.
const LASTING: Duration = Duration::from_secs(5);

/// A watch that was in sync and open for so long has not ended early, whatever it delivered.
const NOT_EARLY: Duration = Duration::from_secs(10);

/// Why a watch ended. What follows from it is decided in [`Session::run`].
#[derive(Debug, thiserror::Error)]
pub(super) enum WatchEnd {
    #[error("the watch has ended when it should")]
    TimedOut,
    #[error("the server no longer has the changes since our revision (410)")]
    Expired,
    #[error("the watch delivered an event from before our revision")]
    OutOfOrder,
    #[error("the server has changes that the watch did not deliver")]
    ChangesMissed,
    #[error("the server is behind our revision")]
    WentBack,
    #[error("there is room for keys that were refused")]
    RoomAgain,
}

/// The end of a watch, or of the session.
#[derive(Debug, thiserror::Error)]
enum Stop {
    #[error(transparent)]
    Watch(#[from] WatchEnd),
    #[error(transparent)]
    Session(#[from] KubeError),
}

/// A watch under way.
pub(super) struct Watch<'s, 'a> {
    session: &'s mut Session<'a>,
    at: &'s mut ResumePoint,
    /// Where the next session resumes.
    resume: &'s mut Option<ResumePoint>,
    /// Once we are that far, we are in sync.
    target: Revision,
    in_sync: bool,
    /// Whether it delivered something, or lasted.
    has_served: bool,
    opened: Instant,
    /// When something last arrived, or an audit found that nothing was missing.
    alive: Instant,
    /// The last bookmark's revision.
    bookmark: Option<Revision>,
    /// The questions to the server that are not answered yet.
    questions: JoinSet<Answered>,
    is_asking_position: bool,
    failed_checks: u32,
    failed_audits: u32,
    /// The number of objects that the server named last, if it is not ours. An audit was made of it.
    miscounted: Option<u64>,
    /// Whether the last question had no answer in time.
    is_unanswered: bool,
    audit: AuditState,
}

/// A question to the server, answered.
enum Answered {
    Position { asked: Instant, known: Revision, position: Result<Position, KubeError> },
    Audit(Result<Audit, KubeError>),
}

/// Whether it is being found out that nothing is missing.
enum AuditState {
    Unneeded,
    Due(Instant),
    Asked,
    /// These events are awaited until then.
    Awaited(Audit, Instant),
}

/// What happens to a watch.
enum Input {
    Lines(Option<bytes::Bytes>),
    Answered(Answered),
    CheckDue,
    AuditDue,
    PositionWanted,
}

impl AuditState {
    /// Resolves when it is time to act.
    async fn due(&self) {
        match self {
            Self::Due(at) | Self::Awaited(_, at) => sleep_until(*at).await,
            Self::Unneeded | Self::Asked => std::future::pending().await,
        }
    }
}

impl<'s, 'a> Watch<'s, 'a> {
    /// Follows the cluster until the watch ends.
    ///
    /// # Errors
    /// When the session is of no more use.
    pub(super) async fn follow(
        session: &'s mut Session<'a>,
        at: &'s mut ResumePoint,
        resume: &'s mut Option<ResumePoint>,
        target: Revision,
    ) -> Result<WatchEnd, KubeError> {
        let seconds = fastrand::u64(SHORTEST_S..=LONGEST_S);
        let path = format!(
            "{}?watch=true&allowWatchBookmarks=true&resourceVersion={}&timeoutSeconds={seconds}{}",
            session.resource.path,
            at.watch_from,
            session.target.selectors()
        );
        // While there is no watch, nothing says that nothing is missing.
        let sink = session.sink.clone();
        let lines = match sink.report_if_slow(session.client.open(&path, "a watch")).await {
            Ok(answer) => Lines::new(answer),
            Err(KubeError::Expired { .. }) => return Ok(WatchEnd::Expired),
            Err(error) => {
                session.memory.silent_watches += 1;
                return Err(session.explain(error));
            }
        };
        let now = Instant::now();
        let mut watch = Self {
            session,
            at,
            resume,
            target,
            in_sync: false,
            has_served: false,
            opened: now,
            alive: now,
            bookmark: None,
            questions: JoinSet::new(),
            is_asking_position: false,
            failed_checks: 0,
            failed_audits: 0,
            miscounted: None,
            is_unanswered: false,
            audit: AuditState::Due(now + CATCH_UP),
        };
        match watch.run(lines, Duration::from_secs(seconds)).await {
            Ok(never) => match never {},
            Err(Stop::Watch(end)) => Ok(end),
            Err(Stop::Session(error)) => {
                if !watch.has_served {
                    watch.session.memory.silent_watches += 1;
                }
                Err(error)
            }
        }
    }

    async fn run(&mut self, mut lines: Lines, lifetime: Duration) -> Result<Infallible, Stop> {
        self.confirmed().await?;
        let mut ticks = ticks();
        let mut position_not_before = Instant::now();
        loop {
            let input = tokio::select! {
                lines = lines.next() => Input::Lines(lines?),
                Some(answered) = self.questions.join_next() => {
                    Input::Answered(answered.map_err(|_| KubeError::Crashed)?)
                }
                _ = ticks.tick() => Input::CheckDue,
                () = self.audit.due() => Input::AuditDue,
                () = self.session.sink.position_wanted(position_not_before) => Input::PositionWanted,
                () = self.session.sink.upstream().asked_to_reread() => return Err(WatchEnd::RoomAgain.into()),
            };
            match input {
                Input::Lines(Some(lines)) => self.take(&lines).await?,
                Input::Lines(None) if self.opened.elapsed() + EARLY >= lifetime => {
                    return Err(WatchEnd::TimedOut.into());
                }
                Input::Lines(None) => return Err(KubeError::Closed.into()),
                Input::Answered(Answered::Position { asked, known, position }) => {
                    self.is_asking_position = false;
                    self.take_position(asked, known, position).await?;
                }
                Input::Answered(Answered::Audit(audit)) => self.take_audit(audit).await?,
                Input::CheckDue => self.check().await?,
                Input::AuditDue => self.act_on_audit()?,
                Input::PositionWanted => {
                    self.ask_position();
                    position_not_before = Instant::now() + POSITION_EVERY;
                }
            }
        }
    }

    /// The server has opened the watch.
    async fn confirmed(&mut self) -> Result<(), Stop> {
        self.session.sink.upstream().does(Activity::Watching);
        // After watches that ended at once, this one has to prove that it works.
        if self.session.memory.failed_watches == 0 && self.session.memory.silent_watches < MAX_EMPTY_WATCHES {
            self.session.sink.upstream().heard();
            self.report_in_sync().await?;
        }
        Ok(())
    }

    /// Takes the lines that have arrived together.
    async fn take(&mut self, lines: &[u8]) -> Result<(), Stop> {
        let mut updates = Vec::new();
        let taken = self.read(lines, &mut updates);
        // What came before an error is good.
        if !updates.is_empty() {
            let batch = Batch::new(updates, Grouping::ByRevision);
            self.session.sink.send(FeedEvent::Updates(batch)).await.map_err(KubeError::from)?;
            *self.resume = Some(self.at.clone());
        }
        taken?;
        self.served();
        self.alive = Instant::now();
        self.session.sink.upstream().heard();
        self.works().await?;
        self.settle_audit().await
    }

    /// Reads events, and moves the resume point over them.
    fn read(&mut self, lines: &[u8], updates: &mut Vec<Update>) -> Result<(), Stop> {
        for line in split(lines) {
            let Session { resource, target, .. } = &*self.session;
            let event = Event::read(line, &resource.type_meta, target.keep).map_err(|error| match error {
                KubeError::Expired { .. } => Stop::from(WatchEnd::Expired),
                error => self.session.explain(error).into(),
            })?;
            let (update, revision, change) = match event {
                Event::Bookmark { revision, .. } => {
                    self.take_bookmark(revision);
                    continue;
                }
                Event::Set { object, is_new } => {
                    let revision = object.revision;
                    (put(object), revision, i64::from(is_new))
                }
                Event::Deleted(object) => (delete(&object), object.revision, -1),
            };
            if revision <= self.at.revision {
                return Err(WatchEnd::OutOfOrder.into());
            }
            self.at.revision = revision;
            self.at.watch_from = self.at.watch_from.max(revision);
            self.at.objects = self.at.objects.map(|objects| objects.saturating_add_signed(change));
            updates.push(update);
        }
        Ok(())
    }

    /// Moves the place where the next watch begins to the bookmark before this one.
    fn take_bookmark(&mut self, bookmark: Revision) {
        let before = self.bookmark.replace(bookmark);
        if let Some(before) = before.filter(|before| *before > self.at.watch_from) {
            self.at.watch_from = before;
            *self.resume = Some(self.at.clone());
        }
    }

    /// It has delivered something, or lasted.
    fn served(&mut self) {
        self.has_served = true;
        self.session.memory.silent_watches = 0;
        self.session.memory.failed_sessions = 0;
    }

    async fn works(&mut self) -> Result<(), Stop> {
        self.session.memory.failed_watches = 0;
        self.report_in_sync().await
    }

    async fn report_in_sync(&mut self) -> Result<(), Stop> {
        if !self.in_sync && self.at.revision >= self.target {
            self.in_sync = true;
            self.session.memory.unproved_sessions = 0;
            if matches!(self.audit, AuditState::Due(_)) {
                self.audit = AuditState::Unneeded;
            }
            self.session.sink.upstream().has_problem(None);
            let status = FeedEvent::Status(SyncStatus::InSync);
            self.session.sink.send(status).await.map_err(KubeError::from)?;
        }
        Ok(())
    }

    /// Every few seconds.
    async fn check(&mut self) -> Result<(), Stop> {
        if self.opened.elapsed() >= LASTING {
            self.works().await?;
        }
        if self.in_sync && self.opened.elapsed() >= NOT_EARLY {
            self.served();
        }
        if !self.in_sync {
            let status = FeedEvent::Status(SyncStatus::ResyncInProgress);
            self.session.sink.send(status).await.map_err(KubeError::from)?;
        }
        if self.alive.elapsed() > self.longest_silence() && matches!(self.audit, AuditState::Unneeded) {
            self.audit = AuditState::Due(Instant::now());
        }
        self.ask_position();
        Ok(())
    }

    fn ask_position(&mut self) {
        if std::mem::replace(&mut self.is_asking_position, true) {
            return;
        }
        let (client, probe, known) = (self.session.client.clone(), self.session.probe(), self.at.revision);
        self.questions.spawn(async move {
            let asked = Instant::now();
            Answered::Position { asked, known, position: probe.position(&client).await }
        });
    }

    async fn take_position(
        &mut self,
        asked: Instant,
        known: Revision,
        position: Result<Position, KubeError>,
    ) -> Result<(), Stop> {
        let Position { revision: newest, objects } =
            match position.map_err(|error| self.session.explain(error)) {
                Ok(position) => position,
                Err(KubeError::Throttled { .. }) => return Ok(()),
                Err(error) if error.is_refusal() => return Err(error.into()),
                Err(error) => {
                    self.failed_checks += 1;
                    debug!(%error, "the server was not asked how far it is");
                    if self.failed_checks >= FAILED_CHECKS {
                        return Err(error.into());
                    }
                    if let KubeError::NoAnswer { .. } = error {
                        return self.doubt(&error).await;
                    }
                    return Ok(());
                }
            };
        self.failed_checks = 0;
        let upstream = self.session.sink.upstream();
        upstream.is_at(newest, asked.into_std());
        if newest < known {
            return Err(WatchEnd::WentBack.into());
        }
        if std::mem::take(&mut self.is_unanswered) && !self.in_sync {
            self.target = newest;
            self.audit = AuditState::Due(Instant::now());
            self.report_in_sync().await?;
            return Ok(());
        }
        // An answer says nothing of a watch that may be dead.
        if self.alive.elapsed() <= self.longest_silence() {
            upstream.heard();
        }
        self.compare_count(objects);
        Ok(())
    }

    /// How long the watch may be silent before an audit.
    fn longest_silence(&self) -> Duration {
        if !self.session.target.selectors().is_empty() {
            // The server reads more than it sends.
            return SILENCE;
        }
        Duration::from_secs(self.at.bytes / AUDITED_BYTES_A_SECOND).clamp(SHORTEST_SILENCE, SILENCE)
    }

    /// Wants an audit when the watch is silent and the server has another number of objects than we. It is no proof: the
    /// server may estimate, and events may be on their way.
    fn compare_count(&mut self, there: Option<u64>) {
        let is_quiet = self.alive.elapsed() > SHORTEST_SILENCE && matches!(self.audit, AuditState::Unneeded);
        let is_comparable = self.session.target.selectors().is_empty();
        let differing =
            there.filter(|there| is_comparable && self.at.objects.is_some_and(|here| here != *there));
        if is_quiet && std::mem::replace(&mut self.miscounted, differing) != differing && differing.is_some()
        {
            self.audit = AuditState::Due(Instant::now());
        }
    }

    /// The server does not answer: we are not in sync until it does, and nothing was missed.
    async fn doubt(&mut self, error: &KubeError) -> Result<(), Stop> {
        let upstream = self.session.sink.upstream();
        upstream.has_problem(Some(error.to_string()));
        upstream.has_failed(error);
        self.is_unanswered = true;
        self.in_sync = false;
        self.target = Revision(u64::MAX);
        let status = FeedEvent::Status(SyncStatus::ResyncInProgress);
        self.session.sink.send(status).await.map_err(KubeError::from)?;
        Ok(())
    }

    /// It is time for the audit, or for the events that it awaits.
    fn act_on_audit(&mut self) -> Result<(), Stop> {
        if let AuditState::Awaited(..) = self.audit {
            return Err(WatchEnd::ChangesMissed.into());
        }
        self.audit = AuditState::Asked;
        let (client, listing) = (self.session.client.clone(), self.session.listing(None));
        self.questions.spawn(async move { Answered::Audit(Audit::ask(&client, listing).await) });
        Ok(())
    }

    async fn take_audit(&mut self, audit: Result<Audit, KubeError>) -> Result<(), Stop> {
        match audit.map_err(|error| self.session.explain(error)) {
            Ok(audit) => {
                self.failed_audits = 0;
                self.audit = AuditState::Awaited(audit, Instant::now() + LATE);
                self.settle_audit().await
            }
            Err(error @ (KubeError::Expired { .. } | KubeError::Throttled { .. })) => {
                debug!(%error, "asking again whether the watch has delivered everything");
                self.audit = AuditState::Due(Instant::now() + error.pause().unwrap_or(CHECK_EVERY));
                Ok(())
            }
            Err(error) if error.is_refusal() => Err(error.into()),
            Err(error) => {
                self.failed_audits += 1;
                if self.failed_audits >= FAILED_CHECKS {
                    return Err(error.into());
                }
                debug!(%error, "asking again whether the watch has delivered everything");
                self.audit = AuditState::Due(Instant::now() + CHECK_EVERY);
                Ok(())
            }
        }
    }

    /// Ends the audit once everything that it awaits has arrived.
    async fn settle_audit(&mut self) -> Result<(), Stop> {
        if let AuditState::Awaited(audit, _) = &self.audit
            && audit.is_passed_by(self.at)
        {
            self.audit = AuditState::Unneeded;
            self.alive = Instant::now();
            self.session.sink.upstream().heard();
            if self.is_unanswered {
                // A server that does not say how far it is may be behind what it listed before.
                return Ok(());
            }
            self.target = self.target.min(self.at.revision);
            if self.session.memory.silent_watches < MAX_EMPTY_WATCHES {
                self.report_in_sync().await?;
            }
        }
        Ok(())
    }
}

fn ticks() -> Interval {
    let mut ticks = interval_at(Instant::now() + CHECK_EVERY, CHECK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
