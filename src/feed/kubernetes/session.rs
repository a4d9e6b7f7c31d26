//! A session: one client of one server, with the credentials as they are now. Finds out whether the cluster is the one
//! we know, and follows it.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use super::backfill::{Backfill, Source};
use super::client::Client;
use super::config::KubeTarget;
use super::discovery::{Resource, cluster_identity, discover, rights};
use super::error::KubeError;
use super::events::put;
use super::list::{Listing, Pages, Repeats};
use super::object::Object;
use super::resume_point::{GENERATIONS, ResumePoint};
use super::watch::{Watch, WatchEnd};
use crate::feed::{Activity, FeedError, Sink, Warm};
use crate::ingest;
use crate::model::{
    Batch, Comparison, FeedEvent, Grouping, History, ReplyTo, ResyncClaim, Revision, SyncStatus, Update,
};
use crate::value::Recurring;

/// Updates in one event to the cache. Few, because the buffer to the cache is bounded by the number of events.
pub(super) const BATCH: usize = 16;

/// Watches in a row that ended early without an event, or sessions that ended before they were in sync, after which no
/// watch is trusted to deliver what there is: the current state is read.
pub(super) const MAX_EMPTY_WATCHES: u32 = 2;

/// Lists in a row of which the server lost the revision before their end, after which one without pages is asked for.
const LOST_LISTS: u32 = 3;

/// The pause before everything is read again because a watch cannot begin where the list ended, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

pub(super) struct Session<'a> {
    pub(super) client: Client,
    pub(super) target: &'a KubeTarget,
    pub(super) resource: Resource,
    pub(super) sink: Sink,
    pub(super) memory: &'a mut Memory,
    cluster: String,
}

/// What is remembered from one session to the next, beside the resume point.
#[derive(Default)]
pub(super) struct Memory {
    /// Watches in a row that delivered nothing and made us read everything again.
    pub(super) failed_watches: u32,
    /// Watches in a row that ended early and delivered nothing.
    pub(super) silent_watches: u32,
    /// Sessions in a row that connected and were not in sync, up to this one.
    pub(super) unproved_sessions: u32,
    /// Sessions in a row that connected, and ended before a watch delivered something or lasted.
    pub(super) failed_sessions: u32,
    /// Whether this session has connected.
    pub(super) has_connected: bool,
    /// Whether nothing has happened since the last session that may have made the cluster another one.
    pub(super) is_verified: bool,
    /// Whether the server has refused a streaming list.
    has_no_streaming_list: bool,
    /// Goes on when the session ends.
    backfill: Option<Backfill>,
}

impl Memory {
    /// The pause before the next session, after some that connected in vain.
    pub(super) fn pause(&self) -> Option<Duration> {
        let doublings = self.failed_sessions.checked_sub(2)?;
        // The pause that is made is up to twice as long.
        Some(FIRST_PAUSE.saturating_mul(1 << doublings.min(10)).min(LONGEST_PAUSE / 2))
    }
}

/// The outcome of reading everything.
pub(super) struct Loaded {
    pub(super) revision: Revision,
    pub(super) objects: u64,
    /// Bytes of the objects as they were sent.
    pub(super) bytes: u64,
}

impl<'a> Session<'a> {
    pub(super) async fn open(
        target: &'a KubeTarget,
        sink: Sink,
        memory: &'a mut Memory,
    ) -> Result<Self, KubeError> {
        let client = Client::new(target).await?;
        let resource = discover(&client, target).await?;
        let cluster = cluster_identity(&client, target).await?;
        Ok(Self { client, target, resource, sink, memory, cluster })
    }

    /// Follows the cluster until the client is of no more use. `resume` is left where the cache is.
    pub(super) async fn run(
        mut self,
        resume: &mut Option<ResumePoint>,
        warm: &mut Option<Warm>,
    ) -> Result<Infallible, KubeError> {
        // A resync that the previous session left unfinished must not be mixed with what follows.
        self.sink.send(FeedEvent::ResyncAborted).await?;
        let asking = self.newest_revision();
        let now = if resume.is_some() { self.sink.report_if_slow(asking).await? } else { asking.await? };
        self.memory.has_connected = true;
        self.memory.unproved_sessions += 1;
        info!(server = self.client.server(), revision = now.0, "connected to Kubernetes");
        let histories = ResumePoint::candidate_histories(&self.cluster, self.target);
        self.sink.upstream().set_candidate_histories(histories);
        if let Some(warm) = warm.take().filter(|_| resume.is_none()) {
            *resume = self.recognise(&warm);
        }
        // Everything up to the target must have arrived before we are in sync.
        let (mut at, mut target) = match resume.clone() {
            None => (self.load(0).await?, now),
            Some(known) => self.resume(known, now).await?,
        };
        self.memory.is_verified = true;
        loop {
            self.start_backfill(&mut at);
            *resume = Some(at.clone());
            let opened = Instant::now();
            at = match Watch::follow(&mut self, &mut at, resume, target).await? {
                WatchEnd::TimedOut => {
                    target = self.newest_revision().await?;
                    if target >= at.revision {
                        // The next one goes on from there.
                        continue;
                    }
                    self.start_new_history(&at).await?
                }
                WatchEnd::WentBack => self.start_new_history(&at).await?,
                end @ WatchEnd::RoomAgain => {
                    info!(revision = at.revision.0, "{end}: reading everything again");
                    self.reread(&at).await?
                }
                end @ (WatchEnd::Expired | WatchEnd::OutOfOrder | WatchEnd::ChangesMissed) => {
                    info!(revision = at.revision.0, "{end}: reading everything again");
                    self.sink.send(FeedEvent::Status(SyncStatus::ResyncInProgress)).await?;
                    self.pause_after_failed_watch(opened).await;
                    self.resync(&at).await?
                }
            };
            target = at.revision;
        }
    }

    /// A list that the server refuses at once, or a watch that cannot go on from it, must not become a busy loop.
    async fn pause_after_failed_watch(&mut self, opened: Instant) {
        if opened.elapsed() > LONGEST_PAUSE {
            self.memory.failed_watches = 0;
        }
        let failed = self.memory.failed_watches;
        self.memory.failed_watches += 1;
        if failed > 0 {
            let pause = FIRST_PAUSE.saturating_mul(1 << (failed - 1).min(10)).min(LONGEST_PAUSE);
            sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        }
    }

    /// The list of what is followed.
    pub(super) fn listing(&self, at: Option<Revision>) -> Listing {
        let path = self.resource.path.clone();
        Listing { path, selectors: self.target.selectors(), at, metadata_only: false, in_one_page: false }
    }

    /// The list of one object of the type, which shows how far the server is. Selectors are left out, because the server
    /// would search all objects for one; but the right to list may be that for one name alone.
    pub(super) fn probe(&self) -> Listing {
        let named = self.target.field.as_deref().is_some_and(|field| field.contains("metadata.name"));
        let listing = self.listing(None);
        if named { listing } else { Listing { selectors: String::new(), ..listing } }
    }

    /// Adds to a refusal what would be right.
    pub(super) fn explain(&self, error: KubeError) -> KubeError {
        match error {
            KubeError::Refused { code: 404, .. } => KubeError::UnknownResource(self.target.resource.clone()),
            KubeError::Refused { code: 400, message, .. } if !self.target.selectors().is_empty() => {
                KubeError::BadSelector(message)
            }
            error => error.advise(|| rights(self.target)),
        }
    }

    pub(super) async fn newest_revision(&self) -> Result<Revision, KubeError> {
        let asked = Instant::now();
        let now = self.probe().position(&self.client).await;
        let now = now.map_err(|error| self.explain(error))?.revision;
        self.sink.upstream().is_at(now, asked.into_std());
        Ok(now)
    }

    /// The resume point of the last run, if it was in this cluster. Whether its state is the same has yet to be verified.
    fn recognise(&self, warm: &Warm) -> Option<ResumePoint> {
        let of = |generation| ResumePoint::history(&self.cluster, generation, self.target);
        let generation = (0..GENERATIONS).find(|generation| of(*generation) == warm.history)?;
        Some(ResumePoint {
            cluster: self.cluster.clone(),
            generation,
            revision: warm.revision,
            watch_from: warm.revision,
            objects: None,
            bytes: u64::MAX,
            needs_backfill: Some(warm.oldest),
        })
    }

    /// Resumes at a point if the cluster's state there is ours; else, or if watches do not deliver what there is, reads
    /// everything. Returns where we are, and the revision up to which everything must have arrived before we are in
    /// sync.
    async fn resume(
        &mut self,
        known: ResumePoint,
        now: Revision,
    ) -> Result<(ResumePoint, Revision), KubeError> {
        let memory = &self.memory;
        let is_distrusted =
            memory.silent_watches >= MAX_EMPTY_WATCHES || memory.unproved_sessions > MAX_EMPTY_WATCHES;
        let is_other = known.cluster != self.cluster || now < known.watch_from;
        let (at, is_read) = if is_other {
            (self.start_new_history(&known).await?, true)
        } else if memory.is_verified {
            (known, false)
        } else {
            (self.verify_or_read(known).await?, true)
        };
        if is_distrusted && !is_other {
            info!(revision = at.revision.0, "watches end without an event: reading everything again");
            let at = self.resync(&at).await?;
            // What was read is the state now, at a revision that may be that of an object of another type.
            let target = if at.watch_from >= now { at.revision } else { now };
            return Ok((at, target));
        }
        let is_proved = is_read && at.watch_from >= now;
        let target = if is_proved { at.revision } else { now };
        Ok((at, target))
    }

    async fn verify_or_read(&mut self, known: ResumePoint) -> Result<ResumePoint, KubeError> {
        match self.sink.report_if_slow(self.verify(&known)).await {
            Ok(Some(at)) => Ok(at),
            Ok(None) => self.start_new_history(&known).await,
            Err(KubeError::Expired { .. }) => {
                info!(
                    revision = known.revision.0,
                    "the server no longer has what we know: reading everything again"
                );
                self.resync(&known).await
            }
            Err(error) => Err(error),
        }
    }

    /// Verifies that the cluster's state is ours: at the last bookmark, which the server is more likely to have than our
    /// revision, and at our revision if that is another state, because a bookmark may have come ahead of events.
    async fn verify(&self, known: &ResumePoint) -> Result<Option<ResumePoint>, KubeError> {
        if known.watch_from > known.revision
            && let Some(at) = self.verify_at(known.watch_from, known).await?
        {
            return Ok(Some(at));
        }
        self.verify_at(known.revision, known).await
    }

    /// Verifies that the cluster's state at a revision is ours: all objects are read as they were then, and compared
    /// with the cache, key by key and value by value. A cluster that was restored from a backup keeps its UID, and may
    /// have passed our revision by the time we look.
    async fn verify_at(
        &self,
        revision: Revision,
        known: &ResumePoint,
    ) -> Result<Option<ResumePoint>, KubeError> {
        let loaded = self.read(self.listing(Some(revision)), None).await?;
        let likeness = self.likeness().await?;
        self.sink.send(FeedEvent::ResyncAborted).await?;
        if likeness != Comparison::Same {
            return Ok(None);
        }
        info!(objects = loaded.objects, revision = revision.0, "the cluster is at the state it was");
        let Loaded { objects, bytes, .. } = loaded;
        Ok(Some(ResumePoint { objects: Some(objects), bytes, watch_from: revision, ..known.clone() }))
    }

    async fn start_new_history(&mut self, known: &ResumePoint) -> Result<ResumePoint, KubeError> {
        warn!(
            revision = known.revision.0,
            "the cluster is not the one it was, or was restored from a backup; its revisions are another history"
        );
        self.load(known.next_generation(&self.cluster)).await
    }

    /// Reads everything, as the start of another history.
    async fn load(&mut self, generation: u64) -> Result<ResumePoint, KubeError> {
        let history = ResumePoint::history(&self.cluster, generation, self.target);
        let loaded = self.read_current(Some(history)).await?;
        self.end_resync(loaded, generation).await
    }

    /// Reads everything, and stays in the history unless it is contradicted.
    async fn resync(&mut self, known: &ResumePoint) -> Result<ResumePoint, KubeError> {
        let loaded = self.read_current(None).await?;
        if loaded.revision < known.revision {
            self.sink.send(FeedEvent::ResyncAborted).await?;
            return self.start_new_history(known).await;
        }
        match self.likeness().await? {
            Comparison::Later => self.end_resync(loaded, known.generation).await,
            Comparison::Other => {
                self.sink.send(FeedEvent::ResyncAborted).await?;
                self.start_new_history(known).await
            }
            // Each change gives an object another resourceVersion, which is part of its value: nothing has changed.
            Comparison::Same => {
                self.sink.send(FeedEvent::ResyncAborted).await?;
                Ok(ResumePoint {
                    watch_from: loaded.revision,
                    objects: Some(loaded.objects),
                    bytes: loaded.bytes,
                    ..known.clone()
                })
            }
        }
    }

    /// Reads everything for the sake of keys for which there was no room. Even where all others are the same it counts.
    async fn reread(&mut self, known: &ResumePoint) -> Result<ResumePoint, KubeError> {
        let loaded = self.read_current(None).await?;
        if loaded.revision >= known.revision && self.likeness().await? != Comparison::Other {
            return self.end_resync(loaded, known.generation).await;
        }
        self.sink.send(FeedEvent::ResyncAborted).await?;
        self.start_new_history(known).await
    }

    async fn read_current(&mut self, history: Option<History>) -> Result<Loaded, KubeError> {
        self.sink.send(FeedEvent::Status(SyncStatus::ResyncInProgress)).await?;
        let mut pause = FIRST_PAUSE;
        let mut lost = 0;
        let losing = Recurring::default();
        loop {
            if !self.memory.has_no_streaming_list {
                match self.read_streaming_list(history).await {
                    Ok(Some(loaded)) => return Ok(loaded),
                    Ok(None) => self.memory.has_no_streaming_list = true,
                    // What ends watches may leave pages alone.
                    Err(error @ (KubeError::Closed | KubeError::Broken(_))) => {
                        debug!(%error, "the streaming list broke off: reading pages");
                        self.sink.send(FeedEvent::ResyncAborted).await?;
                    }
                    Err(error) => return Err(error),
                }
            }
            let listing = Listing { in_one_page: lost > LOST_LISTS, ..self.listing(None) };
            match self.read(listing, history).await {
                // Reading took longer than the server keeps a revision.
                Err(KubeError::Expired { .. }) => {
                    if let Some(times) = losing.failed("") {
                        warn!(times, "the server lost the revision that was being read: beginning anew");
                    }
                    lost += 1;
                    let problem =
                        format!("the server has lost the revision of a list before its end, {lost} times");
                    self.sink.upstream().has_problem(Some(problem));
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                read => return read,
            }
        }
    }

    /// Reads all objects, as a resync that the caller ends or aborts.
    async fn read(&self, listing: Listing, history: Option<History>) -> Result<Loaded, KubeError> {
        let at = listing.at;
        let mut pages = Pages::begin(&self.client, listing);
        let mut loaded: Option<Loaded> = None;
        let mut page_number = 0;
        let mut repeats = Repeats::default();
        while let Some(page) = pages.next().await.map_err(|error| self.explain(error))? {
            if at.is_none() {
                self.sink.upstream().heard();
            }
            page_number += 1;
            self.sink.upstream().does(Activity::Listing { page: page_number });
            let contents = page.contents()?;
            let so_far = match &mut loaded {
                Some(so_far) => so_far,
                none => {
                    let revision = at.map_or_else(|| contents.revision(), Ok)?;
                    info!(revision = revision.0, "reading from Kubernetes");
                    let begin =
                        FeedEvent::ResyncBegin { history, whole_at: Some(revision), lossy: at.is_none() };
                    self.sink.send(begin).await?;
                    none.insert(Loaded { revision, objects: 0, bytes: 0 })
                }
            };
            let mut updates = Vec::with_capacity(BATCH);
            repeats.begin_page();
            for text in contents.objects() {
                let object = Object::read(text, &self.resource.type_meta, self.target.keep)?;
                so_far.objects += u64::from(repeats.is_first(&object.key));
                so_far.bytes += text.len() as u64;
                updates.push(put(object));
                if updates.len() == BATCH {
                    self.send(std::mem::replace(&mut updates, Vec::with_capacity(BATCH))).await?;
                }
            }
            self.send(updates).await?;
        }
        loaded.ok_or(KubeError::Nonsense("a list without an answer"))
    }

    pub(super) async fn send(&self, updates: Vec<Update>) -> Result<(), FeedError> {
        self.sink.send(FeedEvent::Updates(Batch::new(updates, Grouping::Whole))).await
    }

    /// How the state that was read compares with what the cache held before.
    async fn likeness(&self) -> Result<Comparison, KubeError> {
        let (answer, answered) = ingest::reply_channel();
        self.sink.send(FeedEvent::Compare(ReplyTo::new(answer))).await?;
        answered.await.map_err(|_| KubeError::Feed(FeedError::Stopped))
    }

    /// What was read becomes the state.
    async fn end_resync(&mut self, loaded: Loaded, generation: u64) -> Result<ResumePoint, KubeError> {
        let Loaded { revision, objects, bytes } = loaded;
        debug!(objects, "read from Kubernetes");
        // A server names no count. Keys that are refused here are logged one by one.
        let claim = ResyncClaim::default();
        self.sink.send(FeedEvent::ResyncEnd { revision: Some(revision), claim, complete: true }).await?;
        Ok(ResumePoint {
            cluster: self.cluster.clone(),
            generation,
            revision,
            watch_from: revision,
            objects: Some(objects),
            bytes,
            needs_backfill: Some(revision),
        })
    }

    /// Starts to read the changes that the cache does not know, if there are any.
    fn start_backfill(&mut self, at: &mut ResumePoint) {
        if let Some(end) = at.needs_backfill.take() {
            let source = Source {
                client: self.client.clone(),
                listing: self.listing(None),
                type_meta: self.resource.type_meta.clone(),
                keep: self.target.keep,
            };
            self.memory.backfill = Some(source.start(end, self.sink.clone()));
        }
    }
}
